#!/bin/sh
# Promise 4: the peak resident memory of a rank is at most 1.05 times what was
# predicted before anything was allocated, and 30 MiB for the program itself.
# Arguments: the program, the model (not used), a folder for scratch, the size of
# the synthetic checkpoint in MB, the launcher, its flag for the number of ranks,
# more flags. The full size of the promise is 4000 (README of benchmarks/).
set -u
moerun=$1 scratch=$3 megabytes=$4 launcher=$5 ranks_flag=$6
shift 6
rm -rf "$scratch"
mkdir -p "$scratch"
trap 'rm -rf "$scratch/model"' EXIT
# A layer of 64 experts of 3 * 512 * 768 in 16 bits is 151 MB, near enough.
layers=$((megabytes / 150))
"$moerun" synth --output "$scratch/model" --arch olmoe --layers "$layers" \
  --hidden 768 --heads 8 --experts 64 --experts-per-token 4 --expert-width 512 \
  --vocab 1024 --dtype bf16 || exit 1
du -sm "$scratch/model"
awk 'BEGIN { for (i = 0; i < 8; i++) printf "{\"prompt\": \"memory %d\"}\n", i }' \
  > "$scratch/prompts.jsonl"
"$launcher" "$ranks_flag" 4 "$@" "$moerun" run --model "$scratch/model" \
  --prompts "$scratch/prompts.jsonl" --output "$scratch/output.jsonl" \
  --metrics "$scratch/metrics.json" --max-new-tokens 8 --kv-tokens 4096 \
  --progress off || exit 1
# The largest peak against the smallest prediction: stricter than rank by rank.
tr -d ' \n' < "$scratch/metrics.json" |
  sed 's/.*"predicted":{"min":\([0-9.e+]*\).*"peak_resident":{[^}]*"max":\([0-9.e+]*\).*/\1 \2/' |
  awk -v mib=1048576 '{
    allowed = 1.05 * $1 + 30 * mib
    printf "predicted %.1f MiB, peak %.1f MiB, allowed %.1f MiB\n", $1 / mib, $2 / mib, allowed / mib
    exit !(NF == 2 && $1 > 0 && $2 > 0 && $2 <= allowed)
  }'
