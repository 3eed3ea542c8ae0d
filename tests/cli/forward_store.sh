mkdir run bare
cp "$EXAMPLE"/../weight-decay/checkpoints/muon-none/step-000100.h5 run
cp "$EXAMPLE"/../weight-decay/checkpoints/muon-none/step-001000.h5 run
example step-001600.h5
mv step-001600.h5 bare # it has no recorded activations
printf 'In the beginning God created the heaven and the earth.' >text
# numbers are other tests' business
masked()
{
	sed -E 's/\b[0-9]+(\.[0-9]+)?(e[-+]?[0-9]+)?\b/N/g' | tr -s ' '
}
stored()
{
	grep forward_ | masked
}
# in a file of one's own: track shows it, and computes nothing for it
run_through 'wc -l' track -q --format csv -o kept.spectra.h5 --changes none run
run_through 'head -1' forward run/step-000100.h5 --tokens text --store-file kept.spectra.h5
run_through stored track --format csv -o kept.spectra.h5 --changes none run
run_through 'wc -l' track -q --format csv --no-store --changes none run
run_through 'grep forward_loss | masked' track -q -o kept.spectra.h5 --changes none --limit forward_loss=0.1 run
# a later call replaces it
run_through 'head -1' forward -q run/step-000100.h5 --tokens text --max-tokens 9 --store-file kept.spectra.h5
run_through 'grep -c forward_' track -q --format csv -o kept.spectra.h5 --changes none run
# where track keeps the results of the folder
run_through 'wc -l >/dev/null' forward -q bare/step-001600.h5 --tokens text --store
run_through 'grep forward_loss | masked' track -q --format csv --changes none bare
ls -A . bare
# risk uses it where nothing is recorded, and says so; --tokens and what is recorded come first
run_through 'grep -c "stored by forward"' risk run/step-000100.h5 --store-file kept.spectra.h5 --format csv
run_through 'grep "stored by forward" | masked' risk bare/step-001600.h5 --format csv
run_through 'grep -c "stored by forward"' risk bare/step-001600.h5 --format csv --tokens text
run_through 'grep -c "stored by forward"' risk bare/step-001600.h5 --format csv --store-file kept.spectra.h5
# a damaged store is made anew
printf 'x' | dd of=kept.spectra.h5 bs=1 seek=3000 conv=notrunc 2>/dev/null
run_through 'grep -c "stored by forward"' risk bare/step-001600.h5 --format csv --store-file kept.spectra.h5
run_through 'wc -l >/dev/null' forward bare/step-001600.h5 --tokens text --store-file kept.spectra.h5
run_through 'grep -c forward_loss' track -q --format csv -o kept.spectra.h5 --changes none bare
# what is refused, before the model runs
run forward bare/step-001600.h5 --tokens text --store --store-file kept.spectra.h5
run forward bare/step-001600.h5 --tokens text --store-file bare/step-001600.h5
run forward bare/step-001600.h5 --tokens text --store-file run/step-000100.h5
run forward bare/step-001600.h5 --tokens text --store-file text
run forward bare/step-001600.h5 --tokens text --store-file none/kept.spectra.h5
