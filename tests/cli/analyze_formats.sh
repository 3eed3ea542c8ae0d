example step-001600.h5
blocks 3 >three.safetensors
metrics=svd_entropy,numerical_rank,output_rms,alpha
run_through rounded analyze --exclude '*.k_proj.*' --metrics $metrics --threads 2 --format json \
	three.safetensors
run_through rounded analyze --exclude '*.k_proj.*' --metrics $metrics --threads 2 --format jsonl \
	three.safetensors
run_through rounded analyze --exclude '*.k_proj.*' --metrics $metrics --format csv three.safetensors
# the gain of the norm before a matrix is in output_rms; a checkpoint has a step and an optimizer
run_through 'head -4 | rounded' analyze --metrics rms,output_rms --format csv step-001600.h5
run_through 'head -14' analyze --metrics rms --threads 2 --format json step-001600.h5
# seventeen digits unless rounded
run_through 'head -2 | grep -cE "[1-9][0-9]{16}"' analyze --metrics rms --format csv step-001600.h5
