# scaling laws of a table of trainings; a gnuplot that gives its script back as the picture
printf '#!/bin/sh\ncat\n' >echo_script
chmod +x echo_script
export MUONSPEC_GNUPLOT=./echo_script
# L = 2 C^-0.05 and 1.9 C^-0.06, twice each with factors that cancel; a run that is to be left out
awk 'BEGIN {
	print "run,optimizer,status,compute,held_out_loss,note"
	for (c = 1; c <= 1000; c *= 10)
		for (s = -1; s <= 1; s += 2) {
			printf "main/%d%+d-a,adamw,ok,%d,%.17g,\n", c, s, c, 2 * c ^ -0.05 * exp(0.01 * s)
			printf "main/%d%+d-m,muon,ok,%d,%.17g,\"a, b\"\n", c, s, c, 1.9 * c ^ -0.06 * exp(0.01 * s)
		}
	print "main/diverged,muon,diverged,10,nan,"
	print "tune/a,muon,ok,10,9,"
}' >runs.csv
run plot runs.csv --include 'main/*' -o out --keep-script
cat out/scaling-law.gp
head -24 out/scaling-law.dat
# no optimizer and no run, two runs only: no interval
printf 'compute,loss\n1e10,3\n1e12,2\n' >two.csv
run plot two.csv -o two
# a name that would be a command
printf 'optimizer,compute,loss\n"a'"'"'; !touch x; \n\033[1m",1,3\nb,1,2\n' >hostile.csv
run plot hostile.csv -o hostile
grep -c title hostile/scaling-law.svg
ls -A
# what goes wrong
printf 'compute,loss\n1,0\n' >zero.csv
printf 'compute,perplexity\n1,1\n' >columns.csv
printf 'compute,loss\n1,"2\n' >quote.csv
run plot none.csv -o out
run plot zero.csv -o out
run plot columns.csv -o out
run plot quote.csv -o out
run plot runs.csv -i 'mian/*' -o out
# what spreadsheets write: a byte order mark, carriage returns, a blank line
printf '\357\273\277compute,loss\r\n1e10,3\r\n1e12,2\r\n\r\n' >sheet.csv
run plot sheet.csv -o out
# compute whose ratio is beyond double's range
printf 'compute,loss\n1e-300,3\n1,2.5\n1e300,2\n' >range.csv
run plot range.csv -o out --keep-script
grep -c inf out/scaling-law.dat
# rows far shorter than the line of names: 1 GB if each had cells for all of it
awk 'BEGIN {
	printf "run,status,compute,loss"
	for (i = 0; i < 4000; i++) printf ",%d", i
	print "\na,ok,1,3\nb,ok,10,2"
	for (i = 0; i < 30000; i++) print "c,failed"
}' >short.csv
(ulimit -v 500000 && export OPENBLAS_NUM_THREADS=1 && run plot short.csv -o out)
