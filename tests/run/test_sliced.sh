#!/bin/sh
# Experts in slices: the same bytes as whole ones for every kind of model, with
# limits, rounding and moving experts on top; memory as foretold; what cannot be
# cut is refused.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1

# sliced FILE: layers of steps in slices, and all that were planned.
sliced() {
  tr -d '\n' < "$1" | sed -n \
    's/.*"balance": {"plans": \([0-9]*\), "moved": [0-9]*, "sliced": \([0-9]*\).*/\2 of \1/p'
}

prompts 9 > prompts
succeed 0 synth --output home --arch qwen3_moe --layers 3 --dense-layers 1 \
  --hidden 64 --heads 4 --experts 6 --experts-per-token 4 --expert-width 96 \
  --vocab 300 --null-experts 1 --copy-experts 2 --constant-experts 1
succeed 0 synth --output shared --arch dots1 --layers 2 --hidden 80 --heads 4 \
  --experts 8 --experts-per-token 3 --expert-width 64 --shared-experts 1 \
  --vocab 300 --dtype f32
for of in "$model" home shared; do
  succeed 0 run --model "$of" --prompts prompts --output whole --overwrite
  for R in 2 3; do
    succeed $R run --model "$of" --prompts prompts --output parts --overwrite \
      --balance sliced --metrics m --chunks $R
    same whole parts
    says 'all ranks computed a part of each expert'
    found=$(sliced m)
    [ "${found% of*}" = "${found#*of }" ] && [ "${found% of*}" -gt 50 ] ||
      complain "$of on $R: sliced $found"
  done
  succeed 3 run --model "$of" --prompts prompts --output parts --overwrite \
    --slice-memory -1 --metrics m
  same whole parts
done

# The table behind the curves has a line a step, and what was sliced adds up.
"$demo/../../benchmarks/plot_metrics.sh" m - > table ||
  complain 'plot_metrics.sh fails'
lines=$(wc -l < table)
layers=$(awk '{sum += $12} END {print sum + 0}' table)
[ "$lines" -gt 5 ] && [ "$layers" = "$(sliced m | sed 's/ of.*//')" ] ||
  complain "table of $lines lines, $layers layers in slices: $(sliced m)"
echo '{}' > none
"$demo/../../benchmarks/plot_metrics.sh" none - > table 2> err &&
  complain 'a file without steps is plotted'
grep -q 'none: expected the key' err || complain "said: $(cat err)"

# Rounded, moved, limited: as without slices.
for extra in '--wire bf16 --compute bf16' '--replace-every 10' \
  '--capacity 0.8 --isolation route' '--gate-top-k 0:1' \
  '--fault rank=1,compute=3x,clock=counted'; do
  # shellcheck disable=SC2086
  succeed 3 run --model "$model" --prompts prompts --output whole --overwrite \
    --balance off $extra
  # shellcheck disable=SC2086
  succeed 3 run --model "$model" --prompts prompts --output parts --overwrite \
    --balance sliced $extra
  same whole parts
done

# Slices of all layers on 2 ranks are as much as the experts of one.
for slices in 0 -1; do
  succeed 0 info --model "$model" --ranks 2 --slice-memory $slices
  sed -n 's/^ *buffers  *\([0-9.]*\).*/\1/p' out > buffers.$slices
done
experts=$(sed -n 's|^ *experts  *\([0-9]*\.[0-9]\) .*|\1|p' out)
paste buffers.0 buffers.-1 | awk -v experts="$experts" \
  '{exit experts < 1 || $2 - $1 < experts - 0.1}' ||
  complain "slices are not foretold: $(paste buffers.0 buffers.-1), $experts"

succeed 0 synth --output odd --arch mixtral --layers 1 --hidden 64 --heads 4 \
  --experts 4 --experts-per-token 2 --expert-width 40 --vocab 300
on 2 run --model odd --prompts prompts --output no --balance sliced
grep -q 'expected an expert width that is a multiple of 32, found 40' err ||
  complain "a width of 40 is not refused: $(cat err)"
[ -e no ] && complain 'an output was begun'
# info says so before a rank is started; one rank slices nothing.
for slices in '--balance sliced' '--slice-memory -1' '--slice-memory 5'; do
  # shellcheck disable=SC2086 # several words
  on 0 info --model odd --ranks 2 $slices
  [ $? = 65 ] && grep -q 'balance sliced and memory for slices: expected an ' \
    err || complain "info with $slices: $(cat out err)"
done
succeed 0 info --model odd --balance sliced
succeed 0 run --model odd --prompts prompts --output one --balance sliced
# What else a session refuses, info refuses.
on 0 info --model "$model" --ranks 1000 --max-tokens 1048576
[ $? = 65 ] && grep -q 'are too many for one step' err ||
  complain "too many rows: $(cat out err)"

[ "$failures" = 0 ]
