# gates: baselines, rules, and every way to fail closed
example step-000400.h5
example step-001600.h5
blocks 4 >four.safetensors
blocks 8 >eight.safetensors
few='--metrics rms,svd_entropy'
run baseline $few -o four.json four.safetensors
"$MUONSPEC" convert -q four.safetensors four.h5
rounded <four.json | sed 's/"version": "[^"]*"/"version": VERSION/; s/"blas": "[^"]*"/"blas": BLAS/' | head -70
run check --baseline four.json four.safetensors
run check --baseline four.json four.h5

# another checkpoint fails, with the rows that differ
run_through 'tail -3' baseline --include '*layers.2.self_attn*' --metrics rms -o attn.json step-001600.h5
run check --all --baseline attn.json step-000400.h5
run check --baseline attn.json step-000400.h5 --include '*layers.2.self_attn.q*'

# updates are asked for, and show what changes
run baseline $few -o four.json eight.safetensors
run baseline --update -o attn.json step-000400.h5
run check -q --baseline attn.json step-000400.h5
run baseline --update -o none.json four.safetensors
run baseline four.safetensors
run baseline --include nothing -o none.json four.safetensors

# new and missing matrices, and those allowed by name
run check --baseline four.json eight.safetensors
run_through 'tail -3' check --baseline four.json --allow-new 'blocks.1.*' eight.safetensors
run_through 'tail -1' baseline $few -o eight.json eight.safetensors
run_through 'grep -A1 FAILED | grep -A1 matrix' check --baseline eight.json four.safetensors
cat >groups.json <<END
{"schema": "muonspec/rules/1", "rules": [{"metric": "*", "kind": "group", "ignore": true}]}
END
run_through 'tail -1' check --baseline eight.json --allow-missing 'blocks.1.*' \
	--rules groups.json four.safetensors

# NaN; undefined values; no matrices
entry='{"dtype":"F32","shape":[2,2],"data_offsets":'
header="{\"a.weight\":${entry}[0,16]},\"b.weight\":${entry}[16,32]}}"
one='\0\0\200\077\0\0\200\077\0\0\200\077\0\0\000\100'
zeros='\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0'
printf "$one$one" | safetensors "$header" >ones.safetensors
printf "$one\0\0\300\177\0\0\0\0\0\0\0\0\0\0\0\0" | safetensors "$header" >nan.safetensors
printf "$one$zeros" | safetensors "$header" >zeros.safetensors
run_through 'tail -1' baseline --metrics svd_entropy -o ones.json ones.safetensors
run check --baseline ones.json nan.safetensors
run_through 'tail -1' check --baseline ones.json --allow-not-ok 'b.*' --rules groups.json nan.safetensors
run check --baseline ones.json zeros.safetensors
run check --baseline ones.json --rules groups.json --allow-undefined 'b.weight:svd*' zeros.safetensors
run baseline --metrics rms -o nan.json nan.safetensors
run_through 'tail -1' check --baseline nan.json nan.safetensors
cat >limit.json <<END
{"schema": "muonspec/rules/1", "comment": "limits", "rules": [{"metric": "rms", "max": 1.2, "comment": "b"}]}
END
run check --rules limit.json --include nothing ones.safetensors
run check --rules limit.json nan.safetensors
