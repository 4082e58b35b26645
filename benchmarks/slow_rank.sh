#!/bin/sh
# A rank of two that computes every expert product four times: how much
# sooner a run with balancing as by default is done than with --balance off. The
# two take turns; every pair gives a ratio, and the median of them is reported
# against the target. Outputs must be the same.
#
# The model has OLMoE's width: 2 layers of 64 experts of 12 MB (2.0 GB in all),
# 32 on a rank; --small has experts of 0.8 MB, to see that everything runs. "30
# steps" prefills 30 prompts of 512 tokens, 256 a step on each rank; "whole"
# prefills 48 prompts of 500.
set -eu
cd "$(dirname "$0")/.."
usage() {
  echo "usage: benchmarks/slow_rank.sh [--small] [--pairs N] [--moerun FILE]" \
    "[--compute NAME] [-- OPTIONS OF BALANCED RUNS]" >&2
  exit 2
}
moerun=build/release/launch/moerun
pairs=3 hidden=2048 width=1024 vocab=50304 compute=bf16
while [ $# -gt 0 ]; do
  case $1 in
  --small) hidden=512 width=256 vocab=1024 ;;
  --pairs) [ $# -gt 1 ] || usage; pairs=$2; shift ;;
  --compute) [ $# -gt 1 ] || usage; compute=$2; shift ;;
  --moerun) [ $# -gt 1 ] || usage; moerun=$2; shift ;;
  --) shift; break ;;
  *) usage ;;
  esac
  shift
done
case $pairs in '' | *[!0-9]* | 0) usage ;; esac
[ -x "$moerun" ] || {
  echo "slow_rank: $moerun: expected the program" >&2
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

"$moerun" synth --log-level warn --output "$scratch/model" --arch olmoe \
  --layers 2 --hidden $hidden --heads 16 --experts 64 --experts-per-token 8 \
  --expert-width $width --vocab $vocab > /dev/null

# prompts NUMBER LENGTH
prompts() {
  awk -v n="$1" -v length_="$2" 'BEGIN {
    srand(1)
    for (i = 0; i < n; i++) {
      printf "{\"tokens\": ["
      for (t = 0; t < length_; t++) printf "%s%d", t ? "," : "", rand() * 1000 + 3
      print "], \"max_new_tokens\": 1}"
    }
  }'
}
prompts 30 512 > "$scratch/30 steps"
prompts 48 500 > "$scratch/whole"

# run CASE BALANCE OPTIONS: seconds of the run in $seconds.
run() {
  case=$1 balance=$2
  shift 2
  ./launch/mpirun.sh -n 2 --bind-to core "$moerun" run --model "$scratch/model" \
    --tokens "$scratch/$case" --output "$scratch/output.$balance" --overwrite \
    --fault rank=1,compute=4x --balance "$balance" --progress off \
    --compute "$compute" --log-level warn --metrics "$scratch/metrics" "$@" \
    > "$scratch/table" &
  job=$!
  wait $job || {
    cat "$scratch/table" >&2
    exit 1
  }
  job=
  seconds=$(tr -d '\n' < "$scratch/metrics" |
    sed -n 's/.*"run": \([0-9.]*\).*/\1/p')
}

load() {
  cut -d ' ' -f 1-3 /proc/loadavg 2> /dev/null || echo unknown
}

echo "# $hidden wide, experts $width wide, $compute; $pairs pairs; load average $(load)"
for case in "30 steps" whole; do
  : > "$scratch/ratios"
  i=0
  while [ $i -lt "$pairs" ]; do
    run "$case" off
    off=$seconds
    run "$case" auto "$@"
    cmp "$scratch/output.off" "$scratch/output.auto"
    awk -v off="$off" -v auto="$seconds" 'BEGIN { print off / auto }' \
      >> "$scratch/ratios"
    echo "  $case: off $off s, balanced $seconds s"
    # What balancing did of it.
    sed -n '/^replacement /,/^[d-q]/p; /^balance /,/^memory /p' "$scratch/table" |
      grep -E '^(replacement|balance|uneven|idle| )' || :
    i=$((i + 1))
  done
  sort -n "$scratch/ratios" | awk -v name="$case" '
    { ratio[NR] = $1 }
    END {
      median = (ratio[int((NR + 1) / 2)] + ratio[int(NR / 2) + 1]) / 2
      printf "%s: %.2f times as fast (median; %.2f to %.2f)", name, median, ratio[1], ratio[NR]
      if (name == "30 steps") printf ", target 1.4: %s", (median >= 1.4 ? "reached" : "missed")
      print ""
    }'
done
echo "# the same outputs; load average $(load)"
