entry='{"dtype":"F32","shape":[2,2],"data_offsets":'
printf '\0\0\200\077\0\0\200\077\0\0\300\177\0\0\200\077\0\0\200\077\0\0\0\100\0\0\200\177\0\0\0\300' |
	safetensors "{\"a.weight\":${entry}[0,16]},\"b.weight\":${entry}[4,20]},\"c.weight\":${entry}[16,32]}}" \
	>overlap.safetensors
printf '\0\0\200\077\0\0\0\100\0\0\100\100\0\0\200\077\0\0\200\077\0\0\300\177\0\0\200\177\0\0\0\300' |
	safetensors "{\"a.weight\":${entry}[0,16]},\"b.weight\":${entry}[16,32]}}" >nan.safetensors
run analyze --metrics max_abs,spectral_norm nan.safetensors
run analyze --metrics max_abs,spectral_norm --format csv nan.safetensors
run analyze --strict nan.safetensors
run analyze --strict --include a.weight --metrics max_abs nan.safetensors
run ls --strict nan.safetensors
run analyze overlap.safetensors
