example step-000100.h5
run_through 'wc -l' analyze --metrics rms,svd_entropy -o spectra.h5 step-000100.h5
ls
run_through 'cut -d , -f 1,4,5,7' ls --format csv spectra.h5
# over an older file, and with nothing kept when it fails
run_through 'wc -l' analyze --metrics rms -o spectra.h5 step-000100.h5
run_through 'grep -c matrices/' ls --format csv spectra.h5
before=$(cksum <spectra.h5)
run analyze --strict --max-memory 1K -o spectra.h5 step-000100.h5
run analyze -o no-such-folder/spectra.h5 step-000100.h5
run analyze -o . step-000100.h5
[ "$before" = "$(cksum <spectra.h5)" ] && echo 'the older file is as it was'
# a spectrum for every matrix, also where there is none
run_through 'wc -l' analyze --max-memory 1K -o empty.h5 step-000100.h5
run_through 'grep singular' ls --format csv empty.h5
ls
