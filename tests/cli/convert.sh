example step-001600.h5
run convert step-001600.h5 a.safetensors
run convert a.safetensors b.h5
run convert b.h5 c.SafeTensors
run convert c.SafeTensors d.hdf5
ls
cmp a.safetensors c.SafeTensors && echo 'the same bytes'
"$MUONSPEC" ls --format csv step-001600.h5 >expected
for file in a.safetensors b.h5 c.SafeTensors d.hdf5; do
	"$MUONSPEC" ls --format csv $file | cmp - expected && echo "$file lists the same"
	"$MUONSPEC" analyze $file | head -1
done
# over an older file
echo old >a.safetensors
run convert b.h5 a.safetensors
cmp a.safetensors c.SafeTensors && echo 'the same bytes'
