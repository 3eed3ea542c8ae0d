# Draws figure.svg from figures.dat (both written by muonlab fit). Colours after Okabe and Ito.
set terminal svg size 620,400 font "sans,12" background "white"
set output "figure.svg"
set grid lc "#dddddd"
set logscale x 2
set xrange [0.9:4.4]
set yrange [0:]
set xlabel "ranks"
set ylabel "optimizer's share of a step (%)"
set key outside top center horizontal
runs = "adamw/flat muon/flat muon/whole"
colors = "#000000 #0072b2 #d55e00"
plot for [i=1:3] "figures.dat" index "final/".word(runs, i)."/final/optimizer_share" \
     using 1:(100*$2):(100*$3):(100*$4) with yerrorlines lw 2 pt 7 ps 0.5 lc rgb word(colors, i) title word(runs, i)
