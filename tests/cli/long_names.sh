# names of 5000 characters that differ in the last one, some of which are escaped
long=$(printf '%5000s' '' | sed 's/ /\\\\/g')
printf 'abcdefgh12345678' | safetensors "{
	\"${long}1\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[0,8]},
	\"${long}2\":{\"dtype\":\"F16\",\"shape\":[2,2],\"data_offsets\":[8,16]}}" >x.safetensors
lengths()
{
	awk -F , '{ print length($1), substr($1, length($1) - 2) }'
}
run_through lengths ls --format csv x.safetensors
run_through lengths analyze --metrics rms --format csv x.safetensors
run_through lengths ls --format jsonl x.safetensors
run_through 'cut -c 1-100' ls --width 80 x.safetensors
