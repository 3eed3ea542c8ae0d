example step-000400.h5
example step-001600.h5
run risk step-001600.h5
# two checkpoints, in whatever order: what changed between them
run risk --include '*layers.2.mlp*' step-001600.h5 step-000400.h5
# settings and limits of one's own; what is not known is said
blocks 4 >four.safetensors
run risk four.safetensors
run risk four.safetensors --all --lr 0.01 --weight-decay 0.1 --update-rms 0.3 \
	--limit growth=10,20 --limit range=200,100
run risk -v --include '*q_proj*' --lr 0.01 --weight-decay 0 four.safetensors
# outputs and attention logits, measured
printf 'In the beginning God created the heaven and the earth.' >text
run_through 'grep -cE "logit measured is|largest output"' risk step-001600.h5 --format csv --tokens text
run risk four.safetensors --tokens text
# formats
run_through rounded risk --threads 1 --include '*q_proj*' --format json four.safetensors
run_through rounded risk --threads 1 --include '*q_proj*' --format jsonl --lr 0.01 four.safetensors
run_through rounded risk --include '*.2.self_attn.q*' --format csv step-001600.h5 step-000400.h5
# exit status
run_through 'grep Verdict' risk four.safetensors --fail-on watch
run_through 'grep Verdict' risk four.safetensors --lr 0.01 --fail-on risk
run_through 'grep Verdict' risk four.safetensors --lr 0.01 --fail-on watch --limit precision=0.01,9
run_through 'grep Verdict' risk four.safetensors --lr 0.01 --fail-on risk --limit precision=0.01,9
run risk four.safetensors --limit growht=1,2
run risk four.safetensors --limit growth=1
run risk four.safetensors --limit growth=2,1
run risk four.safetensors --limit range=1,2
run risk four.safetensors --fail-on ok
run risk four.safetensors --lr -1
run risk
run risk four.safetensors none.h5
# a run: its last two checkpoints by step; what is of another run is named and set aside
mkdir run
cp "$EXAMPLE"/step-000[14]00.h5 four.safetensors run
run_through 'head -10' risk run
run_through 'head -2' risk -q run/step-000400.h5 run/step-000100.h5
run_through 'head -2' risk run/step-000400.h5 run/step-000400.h5
mkdir none
run risk none
