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

exit $((failures > 0))
