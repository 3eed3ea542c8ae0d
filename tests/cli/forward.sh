example step-001600.h5
printf 'In the beginning God created the heaven and the earth.\nAnd the earth was without form, and void' >text
# numbers are other tests' business: the last digits of float32 sums are the processor's
masked()
{
	sed -E 's/\b[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?\b/N/g' | tr -s ' '
}
run_through masked forward step-001600.h5 --tokens text
run_through masked forward step-001600.h5 --tokens text -v --length 40 --max-tokens 90
# formats
run_through 'masked | head -70' forward step-001600.h5 --tokens text --threads 1 --format json
run_through 'masked | cut -c1-200 | head -8' forward step-001600.h5 --tokens text --format jsonl
run_through 'masked | head -12' forward step-001600.h5 --tokens text --format csv
# logits of the float32 run
run_through 'head -1' forward step-001600.h5 --tokens text -o logits.h5
run ls logits.h5
# neither input is overwritten
run forward step-001600.h5 --tokens text -o text
cp step-001600.h5 own.h5
run forward own.h5 --tokens text -o own.h5
# what is no model, and what are no tokens
blocks 3 >three.safetensors
run forward three.safetensors --tokens text
echo '{"model_type": "gpt2"}' >config.json
run forward three.safetensors --tokens text
run forward step-001600.h5
run forward step-001600.h5 --tokens none
run forward step-001600.h5 --tokens .
printf x >short
run forward step-001600.h5 --tokens short
