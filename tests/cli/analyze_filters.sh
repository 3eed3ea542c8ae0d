example step-001600.h5
run analyze --include '*.layers.1.*' --exclude '*mlp*' step-001600.h5
run_through 'tail -n +12 | head -5' analyze --include lm_head.weight -v --metrics rms step-001600.h5
run analyze --include nothing step-001600.h5
run_through 'head -4' analyze --exclude '*' --format csv --metrics rms step-001600.h5
