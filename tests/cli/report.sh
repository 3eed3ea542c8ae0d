# the page itself is the business of tests/report_page.py
example step-000400.h5
cp "$EXAMPLE/step-001600.h5" .
export MUONSPEC_GNUPLOT=/none
run report step-001600.h5 -o page.html
sed -n '/<section id="findings">/,/<\/section>/p' page.html | sed 's/<[^>]*>//g'
run report -q --no-store --label early --label late step-000400.h5 step-001600.h5 -o page.html
sed -n '/<section id="findings">/,/<\/section>/p' page.html | sed 's/<[^>]*>//g' | head -7
run report step-001600.h5
run report step-001600.h5 -o step-001600.h5
mkdir run
cp "$EXAMPLE/step-000400.h5" run
cp step-001600.h5 run
run report -q --no-store run -o run/step-000400.h5
run report step-001600.h5 -o none/page.html
run report step-001600.h5 -o .
run report none.h5 -o new.html
run report step-001600.h5 -o page.html --metrics rsm
# a figure that fails leaves the page as it was
printf '#!/bin/sh\ncat >/dev/null\necho "line 7: undefined" >&2\nexit 1\n' >broken
chmod +x broken
export MUONSPEC_GNUPLOT=./broken
echo before >page.html
run report step-001600.h5 -o page.html
cat page.html
ls -A
