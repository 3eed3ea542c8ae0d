example step-000000.h5
options='--metrics rms,alpha --include lm_head.weight step-000000.h5'
run analyze --width 1 $options
for width in 1 20 1000 1000000000; do
	for verb in analyze 'ls --format table'; do
		"$MUONSPEC" ${verb%% *} --width $width step-000000.h5 | widest_line
	done
done
for columns in 1 1000000000 99999999999999999999 -5 x ''; do
	echo "COLUMNS=$columns: $(COLUMNS=$columns "$MUONSPEC" analyze --all step-000000.h5 | widest_line)"
done
