run metrics
run metrics --metrics stable_rank,rms --format csv
run metrics --metrics stable_rank,rms --format jsonl
run metrics -m alpha --format json
