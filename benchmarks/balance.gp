# Curves of moerun_bench_balance, from the text that it prints and its series:
#
#   mpirun -n 2 moerun_bench_balance --series steps.txt > balance.txt
#   gnuplot -e "table='balance.txt'; steps='steps.txt'" balance.gp
#
# writes balance_skew.png, balance_slices.png, balance_replay.png,
# balance_slow.png and balance_gamma.png.
if (!exists("table")) table = 'balance.txt'
if (!exists("steps")) steps = 'steps.txt'
if (!exists("ranks")) ranks = 2

set terminal pngcairo noenhanced size 1100,520 font ',10'
set datafile missing NaN
set grid ytics lc rgb '#d0d0d0'
set key below

# Columns: see skew_names in balance_skew.c, behind the case.
set output 'balance_skew.png'
set title 'One layer, balancing against plain expert parallelism, ranks of this run'
set ylabel 'plain time / time'
set yrange [0:*]
set style data histograms
set style histogram clustered gap 1
set style fill solid 0.8 noborder
set xtics rotate by -35
plot table index 'skew' using 7:xtic(1) title 'weights sent' lc rgb '#9ecae1', \
     '' index 'skew' using 8 title 'weights there' lc rgb '#2171b5', \
     '' index 'skew' using 0:5 with points pt 2 ps 1.4 lc rgb '#cb181d' title 'ideal: busiest rank over mean', \
     '' index 'skew' using 0:($5 * $11 / ranks > 1 ? $5 * $11 / ranks : 1) with points pt 6 ps 1.4 \
        lc rgb 'black' title 'ideal on these cores'

# Columns: see names in balance_slices.c, behind the case.
set output 'balance_slices.png'
set title 'Steps of few rows, all ranks together, even routing'
set xlabel 'rows of the step'
set xtics norotate
plot table index 'slices' using 6:xtic(1) title 'as the plan chose' lc rgb '#2171b5', \
     '' index 'slices' using 7 title 'in slices' lc rgb '#9ecae1', \
     '' index 'slices' using 0:10 with points pt 2 ps 1.4 lc rgb '#cb181d' title 'ideal: experts that the busiest rank reads over its part', \
     1 with lines dt 3 lc rgb 'black' title 'experts whole'

set output 'balance_replay.png'
set title 'Replayed plans: share of the ideal speed-up'
set ylabel 'share of the ideal'
set xlabel 'ranks'
set style data linespoints
set logscale x 2
set xtics norotate 2
set yrange [0:1.05]
set key inside bottom left
only(name, value) = strcol(1) eq name ? value : NaN
plot table index 'replay_skew' using 2:(only('95%:1', $8)) pt 7 lc rgb '#2171b5' title '95 % to 1 expert, weights there', \
     '' index 'replay_skew' using 2:(only('95%:1', $6)) pt 7 dt 2 lc rgb '#2171b5' title '95 % to 1, weights sent', \
     '' index 'replay_skew' using 2:(only('95%:16', $8)) pt 5 lc rgb '#238b45' title '95 % to 16, weights there', \
     '' index 'replay_skew' using 2:(only('95%:16', $6)) pt 5 dt 2 lc rgb '#238b45' title '95 % to 16, weights sent', \
     0.85 with lines dt 3 lc rgb 'black' title 'target'

set output 'balance_slow.png'
set title ''
unset logscale x
set xlabel 'step'
set ylabel 'ms'
set yrange [0:*]
set xtics autofreq
set key inside top right
set multiplot layout 1,2
do for [k = 2:4:2] {
  set title k == 2 ? 'last rank 4 times slow from step 10 on' : 'by turns of 10 steps'
  plot steps index k using 1:2 with lines lw 1 lc rgb '#969696' title 'plain', \
       '' index k using 1:3 with lines lw 2 lc rgb '#2171b5' title 'auto', \
       '' index k using 1:4 with lines lw 1 lc rgb '#cb181d' title 'all ranks end at once'
}
unset multiplot

set output 'balance_gamma.png'
set xlabel 'capacity over the even share'
set xrange [0.7:3.05]
set key inside top right
set style data linespoints
set multiplot layout 1,2
set title 'quality of the demo model'
set ylabel 'perplexity over that without a capacity'
set yrange [0.99:*]
modes = 'drop_score drop paper fill rank_drop'
plot for [i=1:5] table index 'gamma' \
     using 2:(only(word(modes, i), $6)) lt i pt 7 title word(modes, i)
set title 'rows of the busiest, without a capacity over with it'
set ylabel 'times'
set yrange [0:*]
plot for [i=1:5] table index 'gamma' using 2:(only(word(modes, i), $11)) \
     lt i pt 7 title word(modes, i).', expert', \
     for [i=1:5] table index 'gamma' using 2:(only(word(modes, i), $12)) \
     lt i pt 6 dt 2 title word(modes, i).', rank'
unset multiplot
