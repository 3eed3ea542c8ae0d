lab
lab rnu plan.json
lab --verbose
lab run
lab run a.json b.json
lab run --jbos 2 plan.json
lab run --jobs 0 plan.json
lab run --progress maybe plan.json
lab run plan.json
lab fit a b
lab fit nowhere
lab fit --level 2 nowhere
lab inspect
lab inspect nowhere
lab inspect --metrics nonsense .
printf '{"experiment": "try", "stages": [{"name": "a", "axes": [{"name": "lr", "values": [1, 2]}]}]}' >plan.json
lab run --list plan.json
lab run --list plan.json --only '*/2'
lab run --list plan.json --only 'b/*'
