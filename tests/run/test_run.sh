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

# To stdout, the table elsewhere, unless warnings alone are wanted; in whatever
# order.
for level in info warn; do
  succeed 2 run --model "$model" --prompts prompts --log-level $level
  sort out > sorted
  sort one | diff - sorted || complain "stdout: expected the lines of one"
  tables=$(grep -c '^requests  *12 of 12' err || :)
  case $level,$tables in info,1 | warn,0) ;; *)
    complain "--log-level $level: found $tables tables on stderr" ;;
  esac
done

# Ids in place of text give the same tokens.
echo '{"prompt": "on the hill", "max_new_tokens": 12}' > text
echo '{"tokens": [256,111,110,32,116,104,101,32,104,105,108,108],
  "max_new_tokens": 12}' | tr -d '\n' > ids
succeed 0 run --model "$model" --prompts text --output a --overwrite \
  --add-bos yes
succeed 0 run --model "$model" --tokens ids --output b --overwrite
same a b
succeed 0 run --model "$model" --tokens ids --output c --add-bos yes
same c b
succeed 0 run --model "$model" --prompts text --output d --add-bos no
grep -q '"prompt_tokens":11,' d || complain "--add-bos no: expected 11 tokens"

# auto does what tokenizer.json's post_processor does, never twice, and a byte
# order mark is no part of a file.
succeed 0 run --model "$model" --prompts text --output auto
same auto d
mkdir template
ln -s "$model/model.safetensors" template
for file in config.json tokenizer.json text; do
  to=template/$file from=$model/$file
  [ $file = text ] && to=marked from=text
  { printf '\357\273\277' && cat "$from"; } > "$to"
done
front='{"type": "TemplateProcessing", "single": [{"SpecialToken": {"id":'
front="$front"' "<bos>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id":'
front="$front"' 0}}], "pair": [], "special_tokens": {"<bos>": {"id": "<bos>",'
front="$front"' "ids": [256], "tokens": ["<bos>"]}}}'
sed -i "s/\"post_processor\": null/\"post_processor\": $front/" \
  template/tokenizer.json
sed 's/on the hill/<bos>&/' text > twice
for prompts in text marked twice; do
  succeed 0 run --model template --prompts $prompts --output auto --overwrite
  grep -q '"prompt_tokens":12,' auto || complain "$prompts: expected 12 tokens"
  [ ! -s err ] || complain "$prompts: expected nothing on stderr"
done
echo '{"bos_token": "<eos>", "add_bos_token": false, "model_max_length":
  1000000000000000019884624838656}' > template/tokenizer_config.json
succeed 0 run --model template --prompts text --output auto --overwrite
grep -q '"prompt_tokens":12,' auto || complain "expected 12 tokens as before"
grep -q 'tokenizer_config.json has add_bos_token false, but the' err ||
  complain "expected a warning of add_bos_token"
succeed 0 run --model template --prompts text --output auto --overwrite \
  --add-bos yes
grep -q 'has bos_token_id 256, the tokenizer.s bos token is 257, which' err ||
  complain "expected a warning of two bos tokens"

# Lines that are wrong can be reported in their place; the exit status says so.
{ prompts 5 | sed '2s/"prompt"/"promt"/; 4s/number/number\\u0000/'; } > wrong
for ranks in 0 3; do
  on $ranks run --model "$model" --prompts wrong --output w$ranks \
    --on-error line --metrics m --overwrite
  [ $? = 65 ] || complain "--on-error line: expected 65"
  grep -qF '2 of 5 lines were wrong and have "error" in place' err ||
    complain "expected a line on wrong requests"
  grep -q '"total": 5, "resumed": 0, "finished": 3, "bad": 2' m ||
    complain "expected 2 bad requests in the metrics"
done
same w0 w3
[ "$(sed -nE 's/^.("index":[0-9],"id":"?[^,]*),"(error|prompt).*/\1 \2/p' w0 |
  tr '\n' ' ')" = '"index":0,"id":"p0" prompt "index":1,"id":"p1" error '`
  `'"index":2,"id":"p2" prompt "index":3,"id":3 error '`
  `'"index":4,"id":"p4" prompt ' ] || complain "w0: expected two errors"
grep -q '"error":"line 2: unknown key \\"promt\\": ' w0 || complain "no reason"
head -n 2 w0 > part
on 3 run --model "$model" --prompts wrong --output part --resume \
  --on-error line
[ $? = 65 ] || complain "--resume with bad lines: expected 65"
same part w0
prompts 5 > wrong # mended, and resumed without the option
prompts 5 > mended
succeed 0 run --model "$model" --prompts mended --output right
succeed 3 run --model "$model" --prompts wrong --output part --resume
same part right

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

# One prompt many times: draws of its own each time, which stay on other ranks,
# beside others and after an interruption.
for i in 0 1 2 3 4 5; do
  echo "{\"id\": \"d$i\", \"prompt\": \"And the man said \"}"
done > alike
sampled="--temperature 1 --max-new-tokens 16"
# shellcheck disable=SC2086
succeed 0 run --model "$model" --prompts alike --output draws $sampled
[ "$(sed 's/.*"text"//; s/"finish".*//' draws | sort -u | wc -l)" = 6 ] ||
  complain "expected six texts of six requests with one prompt"
# shellcheck disable=SC2086
succeed 3 run --model "$model" --prompts alike --output a --overwrite $sampled
same draws a
head -n 2 draws > b
# shellcheck disable=SC2086
succeed 2 run --model "$model" --prompts alike --output b --resume $sampled
same draws b
sed -n 5p alike > fifth
# shellcheck disable=SC2086
succeed 0 run --model "$model" --prompts fifth --output c --overwrite $sampled
sed -n 5p draws | sed 's/"index":4/"index":0/' | diff - c ||
  complain "expected a request alone to draw as beside others"

# Perplexity: the number of the float64 reference (1.6022 for these bytes), each
# window behind <bos>.
export MOERUN_ADD_BOS=yes
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
    --capacity-level expert --metrics lossy.json --overwrite "$@"
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

unset MOERUN_ADD_BOS

# The routing does not depend on the ranks either.
succeed 0 profile --model "$model" --prompts prompts --trace a.npy --output f
succeed 3 profile --model "$model" --prompts prompts --trace b.npy --output g
same a.npy b.npy
grep -v '"rank":\|"num_ranks":' a.json > a.description
grep -v '"rank":\|"num_ranks":' b.json | diff a.description - ||
  complain "a.json and b.json differ beyond the ranks"
same one f
same one g
for left in ./*.tmp; do
  [ ! -e "$left" ] || complain "$left was left"
done

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
  --replace-window 16384 --metrics m --overwrite --balance off \
  --fault rank=1,compute=2x,from=1000000,clock=counted
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
