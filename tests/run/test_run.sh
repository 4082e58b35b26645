#!/bin/sh
# What a run writes: the same bytes on any number of ranks, from prompts or
# from ids, to a file or to stdout, at once or in two parts.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1

prompts 12 > prompts
succeed 0 run --model "$model" --prompts prompts --output one --metrics m
[ "$(wc -l < one)" = 12 ] || complain "expected 12 lines in one"
[ "$(sed -n '8s/^{"index":7,"id":"p7",.*/yes/p' one)" = yes ] ||
  complain "expected the results in input order"
says 'requests         12 of 12 finished'
grep -q '"format": "moerun-metrics", "version": 1' m || complain "no metrics"

for wire in fp32 bf16; do
  succeed 0 run --model "$model" --prompts prompts --output a --wire $wire \
    --overwrite
  succeed 3 run --model "$model" --prompts prompts --output b --wire $wire \
    --overwrite --max-tokens 24 --max-sequences 3 --kv-tokens 300 --chunks 2 \
    --prefill-chunk 5 --kernels portable
  same a b
  [ $wire = fp32 ] && same one a
done

# To stdout, the table elsewhere; in whatever order.
succeed 2 run --model "$model" --prompts prompts
sort out > sorted
sort one | diff - sorted || complain "stdout: expected the lines of one"
grep -q '^requests  *12 of 12' err || complain "expected the table on stderr"

# Ids in place of text give the same tokens.
echo '{"prompt": "on the hill", "max_new_tokens": 12}' > text
echo '{"tokens": [256,111,110,32,116,104,101,32,104,105,108,108],
  "max_new_tokens": 12}' | tr -d '\n' > ids
succeed 0 run --model "$model" --prompts text --output a --overwrite
succeed 0 run --model "$model" --tokens ids --output b --overwrite
same a b
succeed 0 run --model "$model" --tokens ids --output c --add-bos yes
grep -q '"prompt_tokens":13,' c || complain "--add-bos yes: expected 13 tokens"
succeed 0 run --model "$model" --prompts text --output d --add-bos no
grep -q '"prompt_tokens":11,' d || complain "--add-bos no: expected 11 tokens"

# Without a tokenizer.
mkdir bare
ln -s "$model/model.safetensors" "$model/config.json" bare
succeed 0 run --model bare --tokens ids --output e
grep -q '"tokens":\[[0-9,]*\],"finish":"length"' e || complain "bare: bad line"

# Resumed, with a torn line.
head -c 1500 one > part
succeed 3 run --model "$model" --prompts prompts --output part --resume
same one part
says 'of them before this run'
succeed 3 run --model "$model" --prompts prompts --output part --resume
says '12 of 12 finished, 12 of them before this run'
same one part

# Perplexity: the number of the float64 reference (1.6022 for these bytes).
head -c 4096 "$demo/text.txt" > text
succeed 0 run --model "$model" --score text --output windows
says '1.6022 bits per byte over 4096 bytes'
cp out table
head -c 700 windows > part
succeed 3 run --model "$model" --score text --output part --resume
same windows part
says "$(grep perplexity table)"
succeed 2 run --model "$model" --score text --window 64
says 'over 4096 bytes'

# With a capacity some is lost: by default by score with the published
# expansion, by weight with the other.
lossy() {
  file=$1
  shift
  succeed 2 run --model "$model" --score text --capacity 1 \
    --capacity-level expert --metrics lossy.json "$@"
  grep -q '"dropped": [1-9]' lossy.json || complain "nothing dropped by $*"
  grep perplexity out > "$file"
}
lossy paper --expanded paper
lossy score --expanded paper --capacity-metric score
same paper score
lossy fill --expanded fill
lossy weight --expanded fill --capacity-metric weight
same fill weight
lossy score --expanded fill --capacity-metric score
cmp -s fill score && complain "--expanded fill goes by score"
lossy more --expanded fill --expanded-most 8
cmp -s fill more && complain "--expanded-most changes nothing"

# The routing does not depend on the ranks either.
succeed 0 profile --model "$model" --prompts prompts --trace a.npy --output f
succeed 3 profile --model "$model" --prompts prompts --trace b.npy --output g
same a.npy b.npy
grep -v '"rank":\|"num_ranks":' a.json > a.description
grep -v '"rank":\|"num_ranks":' b.json | diff a.description - ||
  complain "a.json and b.json differ beyond the ranks"
same one f
same one g
[ ! -e a.npy.partial ] || complain "a.npy.partial was left"

# Experts that move between steps change nothing but the traffic.
head -c 880 "$demo/text.txt" | tr '\n"\\' '   ' > text
i=0
while [ "$i" -lt 14 ]; do
  echo "{\"prompt\": \"$i $(cat text)\", \"max_new_tokens\": $((1 + i % 4)),"
  echo "\"temperature\": 0.9, \"seed\": $i}"
  i=$((i + 1))
done | paste -d ' ' - - > long
succeed 1 run --model "$model" --prompts long --output h
succeed 3 run --model "$model" --prompts long --output k --replace-every 6 \
  --replace-window 16384 --metrics m --balance off
same h k
says 'replacement      moves after'
replaced() {
  tr -d '\n' < m | sed -n "s/.*\"replacement\".*\"$1\": \([0-9-]*\)[,}].*/\1/p"
}
[ "$(replaced looks)" -ge 2 ] && [ "$(replaced moves)" -ge 1 ] &&
  [ "$(replaced experts_moved)" -ge 2 ] &&
  [ "$(replaced row_bytes_saved_predicted)" -gt "$(replaced bytes_moved)" ] &&
  [ "$(replaced row_bytes_saved_counted)" -gt 0 ] ||
  complain "m: $(grep -A 2 replacement m)"

# Nor do those that leave a slow rank.
succeed 3 run --model "$model" --prompts long --output k --replace-every 6 \
  --replace-window 16384 --metrics m --overwrite --spare-slots 2 \
  --fault rank=1,compute=8x,clock=counted --balance-rows 8
same h k
[ "$(replaced last_rank_rows_saved_predicted)" -gt 0 ] ||
  complain "m: $(grep -A 3 replacement m)"

exit "$failures"
