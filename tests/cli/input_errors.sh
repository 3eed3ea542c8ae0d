# whatever the format asked for: nothing on standard output, one line of message
echo 'these are words' >text.h5
: >empty.safetensors
mkdir folder
example step-000000.h5
head -c 100000 step-000000.h5 >cut.h5
for format in table json jsonl csv; do
	run analyze --format $format no-such-file.h5
done
for verb in ls analyze; do
	for file in text.h5 empty.safetensors folder cut.h5; do
		run $verb $file
	done
done
run convert text.h5 out.h5
run convert step-000000.h5 no-such-folder/out.h5
run convert step-000000.h5 folder
ls
