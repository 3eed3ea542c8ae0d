example step-000000.h5
run ls
run analyze
run analyze step-000000.h5 other.h5
run metrics step-000000.h5
run convert step-000000.h5
run convert step-000000.h5 b.h5 c.h5
run analyze -- --top

# metrics
run analyze --metrics rms,stablerank step-000000.h5
run analyze --metrics , step-000000.h5
run analyze --metrics '' step-000000.h5
run analyze --sort svd_entrpy step-000000.h5
run analyze --sort -nonsense step-000000.h5
run metrics --metrics rsm

# an output must not replace its input, nor be of a kind that is not written
cp step-000000.h5 copy.h5
ln -s copy.h5 link.h5
run analyze copy.h5 -o ./link.h5
run convert copy.h5 ./link.h5
cmp copy.h5 step-000000.h5
run convert copy.h5 copy.safetensor
run convert copy.h5 copy
run convert copy.h5 .h5
ls
