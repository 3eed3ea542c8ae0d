run --version
run analyze --version
# without what `run` puts in its place
"$MUONSPEC" --version | grep -c '^muonspec [0-9][0-9]*\.[0-9][0-9]*\.[0-9][0-9]*$'
