example step-001600.h5
run_through 'tail -n +11' analyze --top 3 step-001600.h5
# the metric that is sorted by comes first, also in the summary
run analyze --sort stable_rank --top 3 step-001600.h5
run_through 'tail -n +11' analyze --sort -stable_rank --top 3 step-001600.h5
run_through 'tail -n +11 | head -4' analyze -s max_abs --metrics rms step-001600.h5
run_through 'grep -c weight' analyze --all step-001600.h5
run_through 'grep -c weight' analyze --top 1000 step-001600.h5
