run
run anlyze x.h5
run metric
run frobnicate
run ''
run help anlyze
run --verison
run -x
run --threads 2
# escaped
"$MUONSPEC" "$(printf 'a\033[31m')" 2>&1 || true
