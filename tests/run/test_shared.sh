#!/bin/sh
# Models with shared experts, one of them with sigmoid scores and a bias of the
# choice, beside experts that need no dispatch: the same bytes on any number of
# ranks, whatever is limited, moved or rounded.
set -u
. "$(dirname "$0")/common.sh"
export MOERUN_OVERWRITE=true # names are used again
cd "$scratch" || exit 1

prompts 12 > prompts
for arch in qwen2_moe dots1; do
  succeed 0 synth --output $arch --arch $arch --layers 3 --dense-layers 1 \
    --hidden 64 --heads 4 --experts 8 --experts-per-token 3 --expert-width 8 \
    --shared-experts 5 --vocab 300 --skew 1 --copy-experts 2
  succeed 0 info --model $arch --ranks 3
  says '  layers        3, 2 of them with experts'
  says '  experts       8 a layer, 3 a token, width 8'
  says '  shared        width 40 for every token'
  for R in 0 2 3; do
    succeed $R run --model $arch --prompts prompts --output $arch.$R --metrics m
    same $arch.0 $arch.$R
    tr -d '\n ' < m | grep -q '"shared":{"min":0,' &&
      complain "$arch on $R: no time for shared experts"
  done
  succeed 0 run --model $arch --prompts prompts --output a --wire bf16 \
    --compute bf16
  succeed 3 run --model $arch --prompts prompts --output b --wire bf16 \
    --compute bf16 --chunks 3 --balance off
  same a b
  succeed 3 run --model $arch --prompts prompts --output c --replace-every 10
  same $arch.0 c
  for limit in '--capacity 0.8 --isolation route --drop-weights none' \
    '--gate-top-p 0.6 --drop-weights post' '--gate-top-k 2 --drop-weights none'; do
    # shellcheck disable=SC2086
    succeed 0 run --model $arch --prompts prompts --output d --overwrite $limit
    # shellcheck disable=SC2086
    succeed 3 run --model $arch --prompts prompts --output e --overwrite $limit
    same d e
    cmp -s d $arch.0 && complain "$arch $limit: changes nothing"
  done
  rm -f a b c
done
[ "$failures" = 0 ]
