# a table of thousands of rows would bury its summary
blocks 5000 >model.safetensors
run analyze model.safetensors
run_through 'tail -n +9 | head -4' analyze --metrics rms model.safetensors
run_through 'grep -c ^blocks' analyze --all --metrics rms model.safetensors
run_through 'grep ^blocks' analyze --top 3 --sort -rms --metrics rms,max_abs model.safetensors
run_through 'grep -c ^blocks' analyze --top 100 --metrics rms model.safetensors
run_through 'wc -l' analyze --format csv --metrics rms model.safetensors
run_through 'wc -l' analyze --max-memory 1 --metrics rms model.safetensors
for arguments in '' '--all --width 80' '--metrics condition_number,bf16_exact_fraction'; do
	echo "widest line with '$arguments': $("$MUONSPEC" analyze $arguments model.safetensors | widest_line)"
done
# up to forty are all shown
blocks 40 >forty.safetensors
blocks 41 >more.safetensors
run_through 'grep -c ^blocks' analyze --metrics rms forty.safetensors
run_through 'grep -c ^blocks' analyze --metrics rms more.safetensors
