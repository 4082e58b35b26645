#!/bin/sh
# Builds moerun, runs the demo model on 4 ranks over a dozen prompts and shows
# what came out, how fast, and that 1 rank writes the same bytes.
set -eu
cd "$(dirname "$0")/.."
if [ $# -gt 0 ]; then
  echo "usage: ./launch/demo.sh" >&2
  exit 2
fi

./launch/setup.sh
moerun=build/release/launch/moerun
model=launch/demo/model
prompts=launch/demo/prompts.jsonl
results=build/demo
rm -rf "$results"
mkdir -p "$results"

trap 'echo "demo: Ctrl-C: ended before its end" >&2; exit 130' INT

say() { printf '\n== %s\n' "$*"; }

say "building, which takes minutes the first time (log: $results/build.log)"
(cmake --preset release &&
  cmake --build --preset release -j "$(nproc)" --target moerun_cli) \
  > "$results/build.log" 2>&1 || {
  tail -n 40 "$results/build.log"
  exit 1
}
"$moerun" --version | grep -q '^linear programs: GLPK' ||
  echo "without GLPK: the placement methods that need it are left out"

# The demo model was trained on texts behind <bos>, which its tokenizer.json does
# not say.
export MOERUN_ADD_BOS=yes

# on R ARGUMENT...: moerun on R ranks. Not in a pipe: there Ctrl-C ends the shell
# that waits for it.
on() {
  ranks=$1
  shift
  ./launch/mpirun.sh -n "$ranks" "$moerun" "$@"
}

say "$(wc -l < $prompts) prompts on 4 ranks"
on 4 run --model $model --prompts $prompts --output "$results/4_ranks.jsonl" \
  --metrics "$results/metrics.json" > "$results/table"

# strings KEY FILE: the JSON strings of a key, one a line, still escaped.
strings() {
  sed -nE 's/.*"'"$1"'": ?"(([^"\\]|\\.)*)".*/\1/p' "$2"
}
strings prompt $prompts > "$results/prompts"
strings text "$results/4_ranks.jsonl" > "$results/texts"
say "the first of each domain: prompt, then after the bar the completion"
paste -d '\t' "$results/prompts" "$results/texts" | sed -n '1~2p' |
  while IFS="$(printf '\t')" read -r prompt text; do
    printf '%b\n\n' "$prompt┃$text" | sed 's/\\"/"/g'
  done

say "perplexity of launch/demo/text.txt on 4 ranks"
on 4 run --model $model --score launch/demo/text.txt --log-level warn \
  --progress off > "$results/score"
grep '^perplexity' "$results/score"

say "the run over the prompts"
cat "$results/table"

say "experts placed by recorded routing: bytes between the 4 ranks"
# Without balancing: then every row goes where the placement says, to the byte.
trace=$results/trace.npy
on 4 profile --model $model --balance off --prompts $prompts --trace "$trace" \
  --output "$results/recorded.jsonl" --metrics "$results/recorded.json" \
  --log-level warn --progress off > /dev/null
"$moerun" place --trace "$trace" --ranks 4 --model $model \
  --output "$results/placement.json" --json "$results/place.json" \
  > "$results/place_table"
on 4 run --model $model --balance off --prompts $prompts \
  --output "$results/placed.jsonl" \
  --placement "$results/placement.json" --metrics "$results/placed.json" \
  --log-level warn --progress off > /dev/null
cmp "$results/placed.jsonl" "$results/4_ranks.jsonl"

# predicted WHICH, counted FILE: bytes of rows from rank to rank.
predicted() {
  tr -d '\n' < "$results/place.json" |
    sed -n "s/.*\"recorded_run\".*\"$1\": {[^}]*\"row_bytes\": \([0-9]*\).*/\1/p"
}
counted() {
  tr -d '\n' < "$results/$1" |
    sed -n 's/.*"exchange": {"row_bytes": \([0-9]*\),.*/\1/p'
}
printf '%-24s %12s %12s\n' '' predicted counted
printf '%-24s %12s %12s\n' 'contiguous blocks' "$(predicted contiguous)" \
  "$(counted recorded.json)"
printf '%-24s %12s %12s\n' 'placed' "$(predicted placed)" \
  "$(counted placed.json)"
echo "the completions are the same bytes"

say "the same on 1 rank"
on 1 run --model $model --prompts $prompts --output "$results/1_rank.jsonl" \
  --log-level warn --progress off > "$results/1_rank_table"
grep -E '^(prefill|decode)' "$results/1_rank_table"
cmp "$results/1_rank.jsonl" "$results/4_ranks.jsonl"
echo "1 rank and 4 ranks wrote the same $(wc -c < "$results/1_rank.jsonl")" \
  "bytes, SHA-256 $(sha256sum < "$results/1_rank.jsonl" | cut -c 1-16)…"
