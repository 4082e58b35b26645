#!/bin/sh
# Models whose gates may choose experts that need no dispatch, and the most
# experts of a token by layer: the same bytes on any number of ranks, counts
# that add up, and a trace that place and --replace-every read.
set -u
. "$(dirname "$0")/common.sh"
export MOERUN_OVERWRITE=true # names are used again
cd "$scratch" || exit 1

# number KEY FILE: the first value of the key.
number() {
  tr -d '\n' < "$2" | sed -n "s/.*\"$1\": \([0-9]*\)[,}].*/\1/p"
}

# rows FILE: computed by placed experts, all ranks and layers together.
rows() {
  tr -d '\n ' < "$1" | sed -n 's/.*"rank_rows":\(\[\[[0-9,[]*\]*[],0-9[]*\]\]\).*/\1/p' |
    tr -c '0-9\n' '\n' | awk '{sum += $1} END {print sum}'
}

# equal WHAT FOUND EXPECTED
equal() {
  [ -n "$2" ] && [ "$2" = "$3" ] || complain "$1: found '$2', expected '$3'"
}

succeed 0 synth --output home --arch mixtral --layers 3 --hidden 64 --heads 4 \
  --experts 8 --experts-per-token 5 --expert-width 2 --vocab 300 \
  --null-experts 2 --zero-experts 1 --copy-experts 2 --constant-experts 3
succeed 0 info --model home
says '  experts       8 a layer, 5 a token, width 2'
says '  and           2 null experts, computed at home'
says '  and           1 zero expert, computed at home'
says '  and           3 constant experts, computed at home'

# ---- The same on any number of ranks, and what was counted

prompts 20 > prompts
for R in 0 2 3; do
  succeed $R run --model home --prompts prompts --output home.$R --metrics m.$R
  same home.0 home.$R
  says 'of assignments, none of them dispatched'
  fed=$(number home_rows m.$R)
  equal "alone on $R" "$(number rows_without_others m.$R)" \
    "$(number rows_without_others m.0)"
  equal "assignments on $R" "$(number assignments m.$R)" $((5 * fed))
  kinds=0
  for kind in null zero copy constant; do
    count=$(number $kind m.$R)
    equal "$kind on $R" "$count" "$(number $kind m.0)"
    [ "${count:-0}" -gt 100 ] || complain "$kind on $R: only $count"
    kinds=$((kinds + count))
  done
  equal "computed on $R" "$(rows m.$R)" $((5 * fed - kinds))
done
[ "$(number rows_without_others m.3)" -gt 0 ] || complain 'no row was alone'
succeed 3 run --model home --prompts prompts --output a --balance off \
  --wire bf16 --chunks 3
succeed 0 run --model home --prompts prompts --output b --wire bf16
same a b

# Beside shared experts and a bias of the choice; and where nearly every row
# stays at home, with ranks that hold no expert.
prompts 6 > few
succeed 0 synth --output dots1 --arch dots1 --layers 3 --hidden 64 --heads 4 \
  --experts 8 --experts-per-token 5 --expert-width 8 --vocab 300 \
  --null-experts 2 --copy-experts 2 --constant-experts 2 --shared-experts 1
succeed 0 synth --output alone --arch olmoe --layers 2 --hidden 64 --heads 4 \
  --experts 1 --experts-per-token 3 --expert-width 8 --vocab 300 \
  --zero-experts 50 --constant-experts 1
for other in dots1 alone; do
  succeed 0 run --model $other --prompts few --output $other.0
  succeed 3 run --model $other --prompts few --output $other.3
  same $other.0 $other.3
done

# ---- With limits on top

for limit in '--capacity 0.8 --isolation route --drop-weights none' \
  '--capacity 0.8 --isolation route --expanded off' \
  '--gate-top-p 0.6 --drop-weights post' '--gate-top-k 0:1,2:2'; do
  # shellcheck disable=SC2086
  succeed 0 run --model home --prompts prompts --output limit.0 --overwrite $limit
  # shellcheck disable=SC2086
  succeed 3 run --model home --prompts prompts --output limit.3 --overwrite $limit
  same limit.0 limit.3
  cmp -s limit.0 home.0 && complain "$limit: changes nothing"
done

# Of the demo model's 4 experts a token in 6 layers: 3 are left out in one
# layer, 2 in another. A range of all layers is the number alone.
succeed 2 run --model "$model" --prompts prompts --output c --metrics m \
  --gate-top-k 1:1,4-4:2
fed=$(number home_rows m)
equal 'assignments' "$(number assignments m)" $((4 * fed))
equal 'left out' "$(number removed m)" $((5 * fed / 6))
succeed 0 run --model "$model" --prompts prompts --output d --gate-top-k 2
succeed 0 run --model "$model" --prompts prompts --output e --gate-top-k 0-5:2
sed 's/,"digest".*//' d > d.results
sed 's/,"digest".*//' e > e.results
same d.results e.results

# ---- Traces: -1 behind the placed experts

succeed 3 profile --model home --prompts prompts --trace t.npy --output p3 \
  --balance off --metrics m
same home.0 p3
grep -q '"experts_per_token": 5' t.json || complain 't.json: expected 5 terms'
succeed 0 place --trace t.npy --ranks 3 --model home --output placement \
  --json j
for key in copies_sent results_sent row_bytes; do
  foretold=$(tr -d '\n' < j |
    sed -n "s/.*\"recorded_run\".*\"contiguous\": {[^}]*\"$key\": \([0-9]*\).*/\1/p")
  equal "$key" "$foretold" "$(number $key m)"
done
succeed 0 place --describe t.npy --ranks 3
says '3 MoE layers of 8 experts, 5 a token'
succeed 3 run --model home --prompts prompts --output placed \
  --placement placement
same home.0 placed
succeed 3 run --model home --prompts prompts --output replaced \
  --replace-every 10 --metrics m \
  --fault rank=1,compute=2x,from=1000000,clock=counted
same home.0 replaced
[ "$(number experts_moved m)" -gt 0 ] || complain 'no expert moved'

[ "$failures" = 0 ]
