# formats, and what is refused
blocks 4 >four.safetensors
entry='{"dtype":"F32","shape":[2,2],"data_offsets":'
header="{\"a.weight\":${entry}[0,16]},\"b.weight\":${entry}[16,32]}}"
one='\0\0\200\077\0\0\200\077\0\0\200\077\0\0\000\100'
printf "$one$one" | safetensors "$header" >ones.safetensors
cat >limit.json <<END
{"schema": "muonspec/rules/1", "comment": "limits", "rules": [{"metric": "rms", "max": 1.2, "comment": "b"}]}
END
"$MUONSPEC" baseline --metrics rms -o four.json four.safetensors >printed
run_through rounded check --threads 1 --baseline four.json --rules limit.json --allow-missing '*.mlp.*' --format json --include '*.[qk]_proj*' four.safetensors
run_through rounded check --threads 1 --rules limit.json --format jsonl ones.safetensors
run_through rounded check --rules limit.json --format csv ones.safetensors
run check --rules limit.json --format github ones.safetensors
run check --rules limit.json --format github four.safetensors
stamped() { sed 's/timestamp="[-0-9]*T[:0-9]*"/timestamp="NOW"/; s/time="[0-9.]*">/time="S">/; s/"version" value="[^"]*"/"version" value="V"/'; }
run_through stamped check --rules limit.json --format junit ones.safetensors
run_through 'tail -1' check --rules limit.json --junit out.xml ones.safetensors
"$MUONSPEC" check --rules limit.json --format junit ones.safetensors | stamped >printed.xml
stamped <out.xml | cmp - printed.xml
run check --rules limit.json --junit ones.safetensors ones.safetensors
run check --rules limit.json --junit limit.json ones.safetensors
run check --rules limit.json --junit none/out.xml ones.safetensors

# what is refused
run check four.safetensors
run check --baseline none.json four.safetensors
run check --baseline four.safetensors four.safetensors
run check --baseline limit.json four.safetensors
: >empty.json
run check --baseline empty.json four.safetensors
head -c 1000 four.json >cut.json
run check --baseline cut.json four.safetensors
run check --baseline . four.safetensors
run check --rules none.json four.safetensors
run check --rules empty.json four.safetensors
run check --rules four.json four.safetensors
echo '{"schema": "muonspec/rules/1", "rules": [{"metric": "rms", "relative": 1}]}' >compare.json
run check --rules compare.json four.safetensors
run check --baseline four.json four.safetensors ones.safetensors
run check --baseline four.json --against four.safetensors four.safetensors
run check --baseline four.json none.safetensors
run baseline --update -o cut.json four.safetensors
ls

# names that would do harm in XML, a spreadsheet, a workflow's log or a terminal
entry='{"dtype":"F32","shape":[1,2],"data_offsets":'
printf '\0\0\200\077\0\0\0\100\0\0\100\100\0\0\200\077\0\0\200\077\0\0\0\300' | safetensors \
	"{\"::error::<script>alert('1')</script>&\\\"\\n::warning::x\\u001b[31m\":${entry}[0,8]},\"=cmd|' /C calc'!A0%,\$(touch harm)\`touch harm\`\\r\":${entry}[8,16]},\"＝1+1##[add-mask]\\uffff]]>\":${entry}[16,24]}}" \
	>names.safetensors
for format in table csv github json; do
	run check --rules limit.json --format $format --threads 1 names.safetensors
done
run_through stamped check --rules limit.json --format junit names.safetensors
run_through 'tail -1' baseline -o names.json names.safetensors
run check --baseline names.json names.safetensors
ls harm 2>harm.txt || echo 'nothing was run'
