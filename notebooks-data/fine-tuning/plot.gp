# Draws figure.svg from figures.dat (both written by muonlab fit). Colours after Okabe and Ito.
set terminal svg size 620,400 font "sans,12" background "white"
set output "figure.svg"
set grid lc "#dddddd"
set xlabel "step of fine-tuning"
set ylabel "held-out loss (nats a byte)"
set yrange [1.5:3]
runs = "adamw/adamw adamw/muon muon/adamw muon/muon"
colors = "#000000 #e69f00 #56b4e9 #0072b2"
set key top right title "pre-training/fine-tuning"
plot for [i=1:4] "figures.dat" index word(runs, i)."/held_out_loss" using 1:2:3:4 with yerrorlines lw 2 pt 7 ps 0.4 lc rgb word(colors, i) title word(runs, i)
