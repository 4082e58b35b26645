#!/bin/sh
# A rank that stays slow loses experts without any option that asks for it, and
# no output changes. In counts: speeds follow from the fault, not from a clock.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1

# number KEY FILE: the first value of the key.
number() {
  tr -d '\n' < "$2" | sed -n "s/.*\"$1\": \([0-9]*\),.*/\1/p"
}

prompts 60 > prompts
slow="rank=1,compute=4x,clock=counted"
# Small enough steps for slowness to last for many of them.
run="run --model $model --prompts prompts --max-tokens 64 --max-sequences 8"
# shellcheck disable=SC2086
succeed 2 $run --output even --metrics m.even --fault "from=1000000,$slow"
grep -q '"replacement"' m.even && complain "experts moved where no rank is slow"
# shellcheck disable=SC2086
succeed 2 $run --output a --metrics m.a --fault "$slow" --balance-rows 1
says 'replacement'
same even a
[ "$(number experts_moved m.a)" -gt 0 ] || complain "no expert left a slow rank"
# shellcheck disable=SC2086
succeed 2 $run --output b --metrics m.b --fault "$slow" --balance-rows 1
[ "$(number experts_moved m.a)" = "$(number experts_moved m.b)" ] ||
  complain "two runs with counted speeds move other experts"
# shellcheck disable=SC2086
succeed 2 $run --output c --metrics m.c --fault "$slow" --replace-every 0
grep -q '"replacement"' m.c && complain "--replace-every 0 moved experts"
same even c

# 32 experts on each of two ranks: as many leave the slow one as it takes, from
# the fifth slow step on within a tenth of ranks that all end at once, which
# without plans take 2.5 times as long. No expert moves for good in it.
succeed 0 synth --output many --overwrite --arch olmoe --layers 2 --hidden 64 \
  --heads 2 --experts 64 --experts-per-token 8 --expert-width 32 --vocab 512
awk 'BEGIN { for (i = 0; i < 24; i++) {
  printf "{\"tokens\": ["
  for (t = 0; t < 256; t++) printf "%s%d", t ? "," : "", (i * 7919 + t * 104729) % 500 + 3
  print "], \"max_new_tokens\": 1}" } }' > tokens
many="run --model many --tokens tokens --replace-every 0 --fault $slow"
# shellcheck disable=SC2086
succeed 2 $many --output d --balance off
# shellcheck disable=SC2086
succeed 2 $many --output e --metrics m.e
same d e
# Of each step: as routed, as planned.
tr -d '\n' < m.e | sed 's/"step": /\n/g' |
  sed -n 's/^\([0-9]*\), .*"time_over_best": {"routed": \([0-9.]*\), "planned": \([0-9.]*\)}.*/\1 \2 \3/p' > steps
awk '$1 >= 4 && NF == 3 { n++; if ($2 < 2 || $3 > 1.1) exit 1 } END { exit n < 6 }' steps || {
  complain "expected at least 6 steps over 2 as routed and at most 1.1 as planned:"
  cat steps
}

exit $((failures > 0))
