example step-000100.h5
# in the order asked for, each once
run_through 'sed -n "/^matrix/,/^$/p" | head -3' analyze --metrics stable_rank,rms,rms step-000100.h5
run_through 'head -2 | rounded' analyze --format csv --metrics stable_rank,rms,rms step-000100.h5
run_through 'head -2 | rounded' analyze --format csv --metrics zero_fraction step-000100.h5
# a metric that is only sorted by joins them
run_through 'head -1' analyze --format csv --metrics rms --sort max_abs step-000100.h5
# all of them
run_through 'head -1' analyze --format csv step-000100.h5
