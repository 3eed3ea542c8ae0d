example step-001600.h5
run analyze --width 80 step-001600.h5
# 80 is the width where there is no terminal
"$MUONSPEC" analyze step-001600.h5 >unasked
COLUMNS=60 "$MUONSPEC" analyze step-001600.h5 >columns
"$MUONSPEC" analyze --width 80 step-001600.h5 | cmp - unasked
"$MUONSPEC" analyze --width 60 step-001600.h5 | cmp - columns
echo "widest lines: $(widest_line <unasked) and $(widest_line <columns)"
