example step-001600.h5
cat >rules <<'END'
# my own groups
Conv       *.q_proj.weight

router     model.layers.[01].mlp.*
Other      lm_head.weight
END
run_through 'sed -n "/^group/,/^$/p"' analyze --groups rules --metrics rms step-001600.h5
run_through 'sed -n "5,12p"' ls -g rules step-001600.h5
echo 'Attention *.q_proj.weight' >unknown
run analyze --groups unknown step-001600.h5
printf '# fine\nDense\n' >no-glob
run analyze --groups no-glob step-001600.h5
run ls --groups no-such-file step-001600.h5
