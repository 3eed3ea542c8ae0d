# Draws figure.svg from figures.dat (both written by muonlab fit). Colours after Okabe and Ito.
set terminal svg size 1050,620 font "sans,12" background "white"
set output "figure.svg"
set style fill transparent solid 0.2 noborder
set grid lc "#dddddd"
set logscale x
set xrange [8:]
set xlabel "step"
groups = "AttnQO AttnKV Experts SharedExperts Router Dense"
set multiplot layout 2,3 title "SVD entropy of the mixture of experts' matrices: AdamW black, Muon blue"
unset key
do for [g=1:6] {
  set title word(groups, g)
  plot "figures.dat" index "moe-tiny/adamw/".word(groups, g)."/svd_entropy" using 1:3:4 with filledcurves lc rgb "#000000", \
       "figures.dat" index "moe-tiny/muon/".word(groups, g)."/svd_entropy" using 1:3:4 with filledcurves lc rgb "#0072b2", \
       "figures.dat" index "moe-tiny/adamw/".word(groups, g)."/svd_entropy" using 1:2 with lines lw 2 lc rgb "#000000", \
       "figures.dat" index "moe-tiny/muon/".word(groups, g)."/svd_entropy" using 1:2 with lines lw 2 lc rgb "#0072b2"
}
unset multiplot
