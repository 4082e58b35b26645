#!/bin/sh
# Questions about one document, with what they begin with in common computed
# once, as by default, and with --prefix-cache off. The two take turns; every
# pair gives a ratio, and the median of them is reported against the target.
# Outputs must be the same. The model is the demo's, allowed more positions.
set -eu
cd "$(dirname "$0")/.."
usage() {
  echo "usage: benchmarks/prefix.sh [--pairs N] [--ranks R] [--document TOKENS]" \
    "[--questions N] [--new-tokens N] [--moerun FILE]" >&2
  exit 2
}
moerun=build/release/launch/moerun
pairs=3 ranks=1 document=2000 questions=64 new=16
while [ $# -gt 0 ]; do
  [ $# -gt 1 ] || usage
  case $1 in
  --pairs) pairs=$2 ;;
  --ranks) ranks=$2 ;;
  --document) document=$2 ;;
  --questions) questions=$2 ;;
  --new-tokens) new=$2 ;;
  --moerun) moerun=$2 ;;
  *) usage ;;
  esac
  shift 2
done
for number in "$pairs" "$ranks" "$document" "$questions" "$new"; do
  case $number in '' | *[!0-9]* | 0) usage ;; esac
done
[ -x "$moerun" ] || {
  echo "prefix: $moerun: expected the program" >&2
  exit 1
}

scratch=$(mktemp -d)
job=
finish() {
  [ -z "$job" ] || kill "$job" 2> /dev/null || true
  wait 2> /dev/null || true
  rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 1' INT TERM

cp -r launch/demo/model "$scratch/model"
sed "s/\"max_position_embeddings\": [0-9]*/\"max_position_embeddings\": $((document + new + 64))/" \
  launch/demo/model/config.json > "$scratch/model/config.json"
# Each question is 16 tokens of its own.
awk -v n="$document" -v count="$questions" 'BEGIN {
  srand(1)
  for (t = 0; t < n; t++) text = text (t ? "," : "") int(rand() * 250)
  for (q = 0; q < count; q++) {
    printf "{\"tokens\": [%s", text
    for (t = 0; t < 16; t++) printf ",%d", rand() * 250
    print "]}"
  }
}' > "$scratch/questions"

# number KEY: of the metrics.
number() {
  tr -d '\n' < "$scratch/metrics" | sed -n "s/.*\"$1\": \([0-9.]*\).*/\1/p"
}

# run ON-OR-OFF
run() {
  ./launch/mpirun.sh -n "$ranks" "$moerun" run --model "$scratch/model" \
    --tokens "$scratch/questions" --output "$scratch/output.$1" --overwrite \
    --max-new-tokens "$new" --min-new-tokens "$new" --prefix-cache "$1" \
    --progress off --log-level warn --metrics "$scratch/metrics" \
    > "$scratch/table" &
  job=$!
  wait $job || {
    cat "$scratch/table" >&2
    exit 1
  }
  job=
  seconds=$(number run)
  rows=$(sed -n 's/.*"tokens": {"prompt": \([0-9]*\).*/\1/p' "$scratch/metrics")
}

load() {
  cut -d ' ' -f 1-3 /proc/loadavg 2> /dev/null || echo unknown
}

echo "# $questions questions over $document tokens, $new new tokens each," \
  "$ranks ranks; $pairs pairs; load average $(load)"
i=0
while [ "$i" -lt "$pairs" ]; do
  run off
  off=$seconds all=$rows
  run on
  cmp "$scratch/output.off" "$scratch/output.on"
  echo "  off $off s, $all rows of prompts; on $seconds s, $rows rows" >&2
  echo "$off $seconds $all $rows"
  i=$((i + 1))
done > "$scratch/pairs"
awk '{ print $1 / $2, $3 / $4 }' "$scratch/pairs" | sort -n | awk '
  { ratio[NR] = $1; rows = $2 }
  END {
    median = (ratio[int((NR + 1) / 2)] + ratio[int(NR / 2) + 1]) / 2
    printf "%.2f times as fast (median; %.2f to %.2f), target 8: %s; ",
      median, ratio[1], ratio[NR], (median >= 8 ? "reached" : "missed")
    printf "rows of prompts, ratio %.2f\n", rows
  }'
echo "# the same outputs; load average $(load)"
