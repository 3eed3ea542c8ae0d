# Draws figure.svg from figures.dat (both written by muonlab fit). Colours after Okabe and Ito.
set terminal svg size 900,380 font "sans,12" background "white"
set output "figure.svg"
set grid lc "#dddddd"
set multiplot layout 1,2
set logscale x
set xlabel "update RMS"
set xrange [0.04:1]
set title "held-out loss at the end (nats a byte)"
unset key
plot "figures.dat" index "sweep/all/final/held_out_loss" using 1:2:3:4 with yerrorlines lw 2 pt 7 ps 0.6 lc rgb "#0072b2"
set xlabel "step"
set xrange [*:*]
set key top right
set title "held-out loss over steps"
runs = "adamw 0.05 0.1 0.2 0.4 0.8"
colors = "#000000 #56b4e9 #0072b2 #009e73 #e69f00 #d55e00"
plot for [i=1:6] "figures.dat" index word(runs, i)."/held_out_loss" using 1:2 with lines lw 2 lc rgb word(colors, i) \
     title i == 1 ? "AdamW" : "Muon ".word(runs, i)
unset multiplot
