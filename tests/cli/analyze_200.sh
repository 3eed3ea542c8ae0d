example step-001600.h5
run analyze --width 200 step-001600.h5
