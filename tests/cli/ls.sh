example step-001600.h5
run ls step-001600.h5
run_through 'head -6' ls --width 60 step-001600.h5
run_through "sed -n '1,8p; \$p'" ls --include '*.0.*' --include lm_head.weight --exclude '*up*' \
	step-001600.h5
run_through 'head -5' ls --format csv step-001600.h5
run_through 'head -3' ls --format jsonl step-001600.h5
run_through 'head -14' ls --format json step-001600.h5
blocks 2 >two.safetensors
run ls --format json --exclude '*.k_proj.*' two.safetensors
