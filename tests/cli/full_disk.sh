# what is printed may not get lost in silence
example step-000000.h5
for words in --version --help help 'help analyze' 'analyze --help' 'ls -h' 'metrics --version' \
             metrics 'ls step-000000.h5' 'analyze --metrics rms --format json step-000000.h5'; do
	"$MUONSPEC" $words >/dev/full
	echo "$words: $?"
done
"$MUONSPEC" --version >&-
echo "closed: $?"
# but a reader may have seen enough
for words in --help 'help analyze' 'analyze --help'; do
	{ sleep 0.05; "$MUONSPEC" $words; echo "$words: $?" >&2; } | true
done
