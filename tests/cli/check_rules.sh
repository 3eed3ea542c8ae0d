# rules on checkpoints, runs and comparisons
example step-000400.h5
example step-001600.h5
blocks 4 >four.safetensors
blocks 8 >eight.safetensors
# limits without a baseline, verdicts, and a rule that matches nothing
cat >more.json <<END
{"schema": "muonspec/rules/1", "rules": [
  {"metric": "rms", "name": "model.layers.?.self_attn.k*", "min": 0.09, "max": 0.2},
  {"metric": "svd_entropy.mean", "group": "Attn*", "min": 0.85},
  {"metric": "risk.precision", "name": "*.0.self_attn.q*", "verdict": "watch"},
  {"metric": "risk.range", "verdict": "ok"},
  {"metric": "rms", "name": "no.such.matrix", "max": 1},
  {"metric": "rms", "name": "no.such.matrix.either", "max": 1, "optional": true}]}
END
run check --rules more.json step-001600.h5

# runs and comparisons
mkdir run
cp "$EXAMPLE/step-000100.h5" "$EXAMPLE/step-000400.h5" "$EXAMPLE/step-001600.h5" run
run baseline --no-store -o run.json run
run check --no-store --baseline run.json run
rm run/step-001600.h5
run_through 'grep -A1 -e "(run)" -e gates -e exponent.of..model' check --no-store --baseline run.json run
cat >growth.json <<END
{"schema": "muonspec/rules/1", "rules": [
  {"metric": "rms.exponent", "kind": "model", "max": 0.1},
  {"metric": "checkpoints", "min": 2},
  {"metric": "risk.growth", "name": "*.0.*.q_proj*", "verdict": "ok", "optional": true}]}
END
run_through rounded check --no-store --rules growth.json run
run baseline --against step-000400.h5 --metrics svd_entropy -o compare.json step-001600.h5
run check --against step-000400.h5 --baseline compare.json step-001600.h5
run_through 'tail -2' check --against step-001600.h5 --baseline compare.json step-000400.h5
cat >higher.json <<END
{"schema": "muonspec/rules/1", "rules": [{"metric": "svd_entropy.share_higher_a", "min": 0.9}]}
END
run check --against step-000400.h5 --rules higher.json step-001600.h5
run check --against four.safetensors --rules higher.json eight.safetensors
