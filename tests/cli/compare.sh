example step-000400.h5
example step-001600.h5
run compare step-000400.h5 step-001600.h5
mkdir a b
cp "$EXAMPLE"/step-000[14]00.h5 "$EXAMPLE"/step-001600.h5 a
cp "$EXAMPLE"/step-000000.h5 "$EXAMPLE"/step-000400.h5 "$EXAMPLE"/step-001600.h5 b
run_through 'grep -A99 Unpaired' compare --no-store --label muon --label adamw a b
run_through rounded compare -q --format json --threads 1 --no-store --metrics rms --include '*0*q_proj.weight' a b
run_through rounded compare -q --format jsonl --threads 1 --metrics rms --include '*0*q_proj.weight' step-000400.h5 step-001600.h5
run_through rounded compare -q --format csv --metrics rms --include '*0*[qk]_proj.weight' step-000400.h5 step-001600.h5
run_through 'sed -n "/^Their/,\$p"' compare -q -v --no-store --include '*layers.1.*' --metrics svd_entropy step-000400.h5 step-001600.h5
# other models
blocks 4 >four.safetensors
run compare four.safetensors step-001600.h5
run compare four.safetensors
run compare four.safetensors none.h5
run compare --by size a b
run compare --label a --label b --label c a b
rm a/step-000400.h5 a/step-001600.h5
run compare --no-store a b/step-000400.h5
mkdir c
cp b/step-000000.h5 c
cp a/step-000100.h5 c/step-000100.h5
cp b/step-000400.h5 a
rm c/step-000000.h5
cp b/step-001600.h5 c
rm a/step-000100.h5
cp b/step-000000.h5 a
run compare --no-store a c
