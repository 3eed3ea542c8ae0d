# names that would do harm in a terminal, a spreadsheet or a table
entry='{"dtype":"F32","shape":[1,2],"data_offsets":'
printf '\0\0\200\077\0\0\0\100\0\0\100\100\0\0\200\077\0\0\200\077\0\0\0\300' | safetensors \
	"{\"a\\u001b[31m\\n.weight\":${entry}[0,8]},\"=1+\\\"2\\\",3\":${entry}[8,16]},\"größe.überlanger-name-mit-umlauten-äöüäöüäöü.weight\":${entry}[16,24]}}" \
	>names.safetensors
run ls names.safetensors
run ls --format csv names.safetensors
run_through 'head -1' ls --format jsonl names.safetensors
run analyze --metrics max_abs names.safetensors
run analyze --width 50 --metrics max_abs names.safetensors
run analyze --metrics max_abs --format csv names.safetensors
