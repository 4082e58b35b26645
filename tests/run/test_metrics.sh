#!/bin/sh
# The metrics of runs with uneven loads, read back: sums over steps and layers
# are the totals, what plans say is what ranks counted, nothing is computed
# where it was not planned. CHECK_METRICS names the reader.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1

# Long prompts, so that moving weights pays, which is counted and not measured.
awk 'BEGIN {
  for (i = 0; i < 12; i++) {
    printf "{\"tokens\": [%d", i
    for (t = 1; t < 250; t++) printf ",%d", (i * 31 + t * 17) % 300
    print "], \"max_new_tokens\": 9}"
  }
}' > prompts
succeed 0 synth --output skewed --arch qwen3_moe --layers 3 --dense-layers 1 \
  --hidden 128 --heads 4 --experts 8 --experts-per-token 2 \
  --expert-width 512 --vocab 300 --skew 2
# Three matrices of 128 x 512, of 2 bytes an element.
bytes=$((3 * 128 * 512 * 2))

# check NAME...: the metrics of the last run, in which these are not 0.
check() {
  "$CHECK_METRICS" m $bytes 12 "$@" > found ||
    complain "$* on $R ranks: $(cat found)"
}

for R in 2 3; do
  run="$R run --model skewed --prompts prompts --output o --overwrite"
  run="$run --metrics m --balance-rows 1"
  # shellcheck disable=SC2086
  {
    succeed $run --fault rank=0,compute=1x,clock=counted
    check moved rows_moved weights_sent weight_bytes plan_changes
    succeed $run --chunks 2 --balance sliced
    check sliced slice_bytes
    succeed $run --capacity 0.7
    check assignments dropped mass_dropped
    succeed $run --fault 'rank=1,compute=4x,from=3,to=9,clock=counted'
    check speed_changes
  }
done
on 3 run --model skewed --prompts prompts --output o --overwrite \
  --metrics m --balance off
grep -q '"layer_seconds"' m || complain 'no times of layers without balancing'
grep -q '"balance": {' m && complain 'balance off has been balanced'
[ "$failures" = 0 ]
