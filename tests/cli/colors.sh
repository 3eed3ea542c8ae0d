example step-000000.h5
options='analyze --include lm_head.weight --metrics rms --width 80 step-000000.h5'
escapes()
{
	grep -c "$(printf '\033')"
}
for color in auto always never; do
	echo "$color: $("$MUONSPEC" $options --color $color | escapes)"
done
echo "always, NO_COLOR: $(NO_COLOR=1 "$MUONSPEC" $options --color always | escapes)"
# on a terminal; TERM is dumb, so that there is no progress line
on_terminal()
{
	script -qec "$1 $MUONSPEC $options" /dev/null | escapes
}
echo "terminal: $(on_terminal '')"
echo "terminal, NO_COLOR: $(on_terminal NO_COLOR=1)"
echo "terminal, empty NO_COLOR: $(on_terminal NO_COLOR=)"
