# a gnuplot that gives its script back as the picture: these tests need none
printf '#!/bin/sh\necho picture; cat\n' >echo_script
printf '#!/bin/sh\ncat >/dev/null\necho "line 7: undefined" >&2\nexit 1\n' >broken
printf '#!/bin/sh\nkill -SEGV $$\n' >crashing
printf '#!/bin/sh\nexec 0<&-\necho said nothing >&2\n' >deaf
chmod +x echo_script broken crashing deaf
export MUONSPEC_GNUPLOT=./echo_script
# names that would be commands, formats, markup or the end of a string
python3 - <<'PYTHON' >header
import json
names = ["model.layers.0.a'; !touch cut; 'b.weight", "model.layers.1.`touch back`$(touch shell).weight",
         'model.layers.1.<script>x</script>"&%d_x^2{/Bold @y}.weight',
         "model.layers.2.line\nset output 'line'\n.weight"]
tensor = lambda i: {"dtype": "F32", "shape": [2, 2], "data_offsets": [16 * i, 16 * i + 16]}
print(json.dumps({n: tensor(i) for i, n in enumerate(names)}), end="")
PYTHON
for matrix in 1 2 3 4; do printf '\0\0\200\077\0\0\0\100\0\0\100\100\0\0\200\077'; done |
	safetensors "$(cat header)" >hostile.safetensors
run plot hostile.safetensors -o out --metrics rms --keep-script
cat out/heatmap-rms.gp out/heatmap-rms.dat
sed -n '/^set title/p' out/spectra.gp
cmp out/heatmap-rms.svg - <<END && echo the picture is of the same script
picture
$(sed "1d; /^set output/d; s/^data = .*/\$figure << end_of_data/" out/heatmap-rms.gp |
	sed '/^\$figure/r out/heatmap-rms.dat' |
	sed "s/^set style line/end_of_data\ndata = '\$figure'\nset style line/")
END
ls -A
# runs and comparisons
ln -s "$EXAMPLE" run
run plot -q --no-store run -o run-figures
run plot -q --no-store -f pdf --label muon --label adamw run run -o pair
grep -h 'title' pair/growth.pdf | head -4
# what goes wrong
run plot hostile.safetensors
run plot hostile.safetensors -o header
run plot hostile.safetensors -o none/figures
run plot hostile.safetensors -o out --metrics rsm
run plot hostile.safetensors -o out --format gif
run plot a b c -o out
MUONSPEC_GNUPLOT=broken; PATH=$PATH:. run plot hostile.safetensors -o out
export MUONSPEC_GNUPLOT=./crashing
run plot hostile.safetensors -o out
export MUONSPEC_GNUPLOT=./deaf
run plot hostile.safetensors -o out
export MUONSPEC_GNUPLOT=./none
run plot hostile.safetensors -o out
