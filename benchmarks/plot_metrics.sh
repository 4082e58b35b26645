#!/bin/sh
# Curves of a run from the file that `moerun run --metrics` wrote: step by step
# the busiest rank over the mean, as routed and as run, the time of the expert
# stage, and what was moved.
#
#   benchmarks/plot_metrics.sh metrics.json curves.png
#
# Needs gnuplot; with `-` for the picture it prints the table that is plotted.
set -eu
[ $# -eq 2 ] || {
  echo "usage: plot_metrics.sh METRICS PICTURE.png|-" >&2
  exit 2
}

# One step a line, whatever other keys there are: step, rank that was last, rows,
# routed and planned of rank_max_over_mean and of time_over_best, busy seconds of
# the slowest rank and in the mean, idle, layers that moved rows and that sliced.
steps() {
  awk '
    function value(key, from,   at, text) {
      at = index(from, "\"" key "\": ")
      if (at == 0) return "NaN"
      text = substr(from, at + length(key) + 4)
      sub(/[,}\]].*/, "", text)
      return text
    }
    function part(key, from,   at, text) {
      at = index(from, "\"" key "\": {")
      text = at == 0 ? "" : substr(from, at)
      sub(/}.*/, "}", text)
      return text
    }
    /\{"step": [0-9]+, "last": / {
      line = $0
      print value("step", line), value("last", line), value("rows", line), \
        value("routed", part("rank_max_over_mean", line)), \
        value("planned", part("rank_max_over_mean", line)), \
        value("routed", part("time_over_best", line)), \
        value("planned", part("time_over_best", line)), \
        value("max", part("busy_seconds", line)), \
        value("mean", part("busy_seconds", line)), \
        value("idle", line), value("moved", line), value("sliced", line)
    }' "$1"
}

table=$(mktemp)
trap 'rm -f "$table"' EXIT
steps "$1" > "$table"
[ -s "$table" ] || {
  echo "$1: expected the key \"balance\" with \"steps\": is it of a run that balanced?" >&2
  exit 65
}
if [ "$2" = - ]; then
  cat "$table"
  exit 0
fi
command -v gnuplot > /dev/null || {
  echo "plot_metrics: gnuplot is not there: install it, or give - in place of" \
    "$2 for the numbers" >&2
  exit 1
}
gnuplot << EOF
set terminal pngcairo size 1100,820 font ',10'
set output '$2'
set datafile missing 'NaN'
set grid ytics lc rgb '#d0d0d0'
set key top right
set multiplot layout 2,2
set xlabel 'step'
set title 'rows of the busiest rank over the mean'
set yrange [1:*]
plot '$table' using 1:4 with lines lc rgb '#969696' title 'as routed', \
     '' using 1:5 with lines lw 2 lc rgb '#2171b5' title 'as run'
set title 'time of the last rank over that of ranks which all end at once'
plot '$table' using 1:6 with lines lc rgb '#969696' title 'as routed', \
     '' using 1:7 with lines lw 2 lc rgb '#2171b5' title 'as run'
set title 'expert stage, ms'
set yrange [0:*]
plot '$table' using 1:(1e3*\$8) with lines lc rgb '#cb181d' title 'slowest rank', \
     '' using 1:(1e3*\$9) with lines lw 2 lc rgb '#2171b5' title 'mean'
set title 'layers of the step that moved rows or were sliced'
plot '$table' using 1:11 with impulses lc rgb '#2171b5' title 'rows moved', \
     '' using 1:12 with points pt 7 ps 0.4 lc rgb '#238b45' title 'sliced'
unset multiplot
EOF
