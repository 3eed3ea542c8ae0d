# Draws figure.svg from figures.dat (both written by muonlab fit). Colours after Okabe and Ito.
set terminal svg size 1050,360 font "sans,12" background "white"
set output "figure.svg"
set style fill transparent solid 0.2 noborder
set grid lc "#dddddd"
set xlabel "step"
set key top right samplen 2
runs = "adamw/decay muon/none muon/decay"
colors = "#000000 #d55e00 #0072b2"
name(i) = i == 1 ? "AdamW, decay 0.1" : i == 2 ? "Muon, no decay" : "Muon, decay 0.1"
set multiplot layout 1,3
set title "held-out loss (nats a byte)"
set logscale x
set xrange [200:]
plot for [i=1:3] "figures.dat" index word(runs, i)."/held_out_loss" using 1:3:4 with filledcurves lc rgb word(colors, i) notitle, \
     for [i=1:3] "figures.dat" index word(runs, i)."/held_out_loss" using 1:2 with lines lw 2 lc rgb word(colors, i) title name(i)
set title "RMS of the hidden matrices' weights"
unset key
set xrange [*:*]
plot for [i=1:3] "figures.dat" index word(runs, i)."/weight_rms" using 1:3:4 with filledcurves lc rgb word(colors, i) notitle, \
     for [i=1:3] "figures.dat" index word(runs, i)."/weight_rms" using 1:2 with lines lw 2 lc rgb word(colors, i)
set title "RMS of the layers' outputs"
set logscale y
plot for [i=1:3] "figures.dat" index word(runs, i)."/output_rms" using 1:3:4 with filledcurves lc rgb word(colors, i) notitle, \
     for [i=1:3] "figures.dat" index word(runs, i)."/output_rms" using 1:2 with lines lw 2 lc rgb word(colors, i)
unset multiplot
