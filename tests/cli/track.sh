mkdir run
for step in 000000 000100 000400 001600; do
	cp "$EXAMPLE/step-$step.h5" run
done
run track -o kept.spectra.h5 run
# a second call computes nothing and says the same
run_through 'tee second | wc -l' track --format csv -o kept.spectra.h5 run
run_through 'cmp - second' track --format csv --no-store run
# a new checkpoint, and two that don't belong
blocks 4 >run/step-300.safetensors
cp run/step-000400.h5 run/step-000500.h5
echo broken >run/step-000700.h5
run_through 'tail -6' track -o kept.spectra.h5 run
run track --strict --no-store run
rm run/step-300.safetensors run/step-000500.h5 run/step-000700.h5
# limits
run_through 'sed -n "/^Trends/,\$p"' track -q --no-store --metrics rms,output_rms --changes none \
	--include '*q_proj.weight' --limit rms=0.05 --limit output_rms=0.2 run
run_through 'sed -n "/^Trends/,\$p"' track -q --no-store --metrics rms --changes none -v --width 100 \
	--include '*layers.0.self_attn*' run
# formats; single files and a pattern for their steps
run_through rounded track -q --format json --threads 1 --no-store --metrics rms --include '*0*q_proj.weight' run/step-000100.h5 run/step-000400.h5
run_through rounded track -q --format jsonl --threads 1 --no-store --metrics rms --include '*0*q_proj.weight' --limit rms=0.02 --align 2 run
run_through rounded track -q --format csv --no-store --metrics svd_entropy --include '*0*q_proj.weight' --changes none --step-regex '([0-9]+)00[.]h5' run
# the file that keeps results
cp run/step-000100.h5 model.h5
run track -o model.h5 run
run_through 'wc -l' ls --format csv model.h5
printf 'x' | dd of=kept.spectra.h5 bs=1 seek=3000 conv=notrunc 2>/dev/null
run_through 'wc -l' track --format csv -o kept.spectra.h5 run
run_through 'wc -l' track --format csv -o no-such-folder/kept.spectra.h5 run
# outputs that checkpoints recorded, against the closed form
mkdir decay
cp "$EXAMPLE"/../weight-decay/checkpoints/muon-none/step-*.h5 decay
run_through 'sed -n "/^Output RMS/,\$p"' track -q --no-store --changes none decay
run_through 'grep recorded_output | rounded' track -q --no-store --changes none --format csv --include '*1*down_proj.weight' decay
# what is refused
mkdir empty
run track --no-store empty
run track --no-store missing
run track --no-store run --limit rms
run track --no-store run --limit rsm=1
run track --no-store run --step-regex '(['
run track --no-store run --align 9
run track --no-store run --watch --format json
run track --no-store --include nothing run
run track
# watching ends when nothing comes
run_through 'head -3' track -q --no-store --watch --interval 0.1 --idle 0.3 --metrics rms run
