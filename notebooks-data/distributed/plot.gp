# Draws figure.svg from fit.csv (written by muonlab fit).
set terminal svg size 620,400 font "sans,12" background "white"
set output "figure.svg"
set datafile separator ","
set style fill solid 0.8
set grid y lc "#dddddd"
set ylabel "optimizer's share of a step (%)"
