example step-001600.h5
run_through 'cut -c 1-80' analyze --max-memory 1K step-001600.h5
run_through 'tail -n +16 | head -4' analyze --max-memory 1K --metrics rms \
	--include '*layers.1.self*' -v step-001600.h5
run_through 'grep -c "needs N MiB"' analyze --max-memory 1K -v step-001600.h5
run_through 'cut -d , -f 1-9,11 | head -3' analyze --max-memory 1K --format csv step-001600.h5
run analyze --max-memory 1K --strict step-001600.h5
run_through 'cut -d , -f 8 | sort | uniq -c' analyze --max-memory 1MiB --format csv step-001600.h5
