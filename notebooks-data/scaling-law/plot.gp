# Draws figure.svg from figures.dat (both written by muonlab fit). Colours after Okabe and Ito.
set terminal svg size 620,420 font "sans,12" background "white"
set output "figure.svg"
set style fill transparent solid 0.2 noborder
set grid lc "#dddddd"
set logscale xy
set format x "10^{%L}"
set xlabel "compute, 6 N D (flops)"
set ylabel "held-out loss (nats a byte)"
set yrange [1.2:1.9]
set ytics (1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9)
set xrange [1.5e11:2.7e13]
set key top right
plot "figures.dat" index "adamw/law" using 1:3:4 with filledcurves lc rgb "#000000" notitle, \
     "figures.dat" index "muon/law" using 1:3:4 with filledcurves lc rgb "#0072b2" notitle, \
     "figures.dat" index "adamw/law" using 1:2 with lines lw 2 lc rgb "#000000" title "AdamW", \
     "figures.dat" index "muon/law" using 1:2 with lines lw 2 lc rgb "#0072b2" title "Muon", \
     "figures.dat" index "adamw/points" using 1:2:3:4 with yerrorbars pt 6 lc rgb "#000000" notitle, \
     "figures.dat" index "muon/points" using 1:2:3:4 with yerrorbars pt 7 lc rgb "#0072b2" notitle
