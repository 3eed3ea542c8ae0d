run --help
run help analyze
run ls --help
run metrics --help
run convert --help
run track --help
run compare --help
run risk --help
run forward --help
run baseline --help
run check --help

# the same however one asks, and whatever else is on the line
"$MUONSPEC" help analyze >help
for words in 'analyze --help' 'analyze -h' 'analyze --top 3 --help no-such-file' '--help analyze'; do
	"$MUONSPEC" $words | cmp - help
done
for words in --help 'ls -h' 'analyze -h' 'metrics -h' 'convert -h'; do
	"$MUONSPEC" $words | widest_line
done
