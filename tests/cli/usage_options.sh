# unknown ones, also before and after the file and in a bundle of letters
run analyze --metrcs rms x.h5
run analyze x.h5 --treads=2
run analyze x.h5 -z
run analyze -qzv x.h5
run ls --sort rms x.h5
run convert --format json a.h5 b.h5
run analyze --in a x.h5

# no value, or one where none belongs
run analyze x.h5 --top
run analyze x.h5 -k
run analyze --all=yes x.h5

# bad values
run analyze --threads 0 x.h5
run analyze --threads 2.5 x.h5
run analyze --top -1 x.h5
run analyze --top '' x.h5
run analyze --width 99999999999999999999 x.h5
run analyze --max-memory 4X x.h5
run analyze --max-memory '4 ' x.h5
run analyze --max-memory 0 x.h5
run analyze --max-memory 4GG x.h5
run analyze --max-memory nan x.h5
run analyze --open-timeout 0 x.h5
run analyze --open-timeout inf x.h5
run analyze --format xml x.h5
run analyze --format js x.h5
run analyze --svd fast x.h5
run ls --color sometimes x.h5
