#!/bin/sh
# test_requests.sh PROGRAM DEMO-FOLDER SCRATCH-FOLDER MPIEXEC...
# What a request asks for beyond its prompt: lines depend on the request alone,
# over ranks, companions, pieces of prompts and an interruption.
. "${0%/*}/common.sh"
cd "$scratch" || exit 1
export MOERUN_ADD_BOS=yes MOERUN_MAX_NEW_TOKENS=24

# alone_and_together FILE: each line by itself, then together on several ranks, in
# pieces of prompts and from the middle, gives the same bytes.
alone_and_together() {
  succeed 0 run --model "$model" --prompts "$1" --output "$1.one" --overwrite
  number=0
  while read -r line; do
    echo "$line" > single
    succeed 0 run --model "$model" --prompts single --output single.out \
      --overwrite --prefill-chunk 3
    sed "s/\"index\":0/\"index\":$number/" single.out
    number=$((number + 1))
  done < "$1" > "$1.alone"
  same "$1.one" "$1.alone"
  for ranks in 3 4; do
    succeed "$ranks" run --model "$model" --prompts "$1" --output "$1.many" \
      --overwrite --max-sequences "$ranks"
    same "$1.one" "$1.many"
  done
  bytes=$(($(wc -c < "$1.one") / 2))
  head -c "$bytes" "$1.one" > "$1.part"
  succeed 2 run --model "$model" --prompts "$1" --output "$1.part" --resume
  same "$1.one" "$1.part"
}

# Ways to sample.
t='"temperature": 1.2'
i=0
for how in "$t" "$t, \"top_k\": 3" "$t, \"min_p\": 0.2" "$t, \"top_p\": 0.8" \
  "$t, \"top_k\": 20, \"min_p\": 0.05, \"top_p\": 0.9" \
  "$t, \"presence_penalty\": 1.5" "$t, \"frequency_penalty\": 1.5" \
  '"temperature": 0' '"repetition_penalty": 1.6' '"frequency_penalty": 2'; do
  echo "{\"id\": \"r$i\", \"prompt\": \"And God said, Let\", \"seed\": 3, $how}"
  i=$((i + 1))
done > ways
alone_and_together ways
[ "$(sed 's/.*"text"//; s/"finish".*//' ways.one | sort -u | wc -l)" = 10 ] ||
  complain "expected ten ways of sampling to give ten texts: $(cat ways.one)"

# Log-probabilities: of what is generated, of prompts, with the likeliest ones.
i=0
for how in '"logprobs": true' '"prompt_logprobs": true' \
  '"logprobs": true, "top_logprobs": 20, "temperature": 1.3, "top_k": 4' \
  '"logprobs": true, "prompt_logprobs": true, "top_logprobs": 3' \
  '"prompt_logprobs": true, "top_logprobs": 1, "repetition_penalty": 3' \
  '"temperature": 0'; do
  echo "{\"id\": $i, \"prompt\": \"In the beginning $i\", $how}"
  i=$((i + 1))
done > told
alone_and_together told
# Sampling changes none of them, and asking for them nothing else.
only_text() {
  sed 's/.*"text"://; s/,"\(prompt_\)*\(top_\)*logprobs":.*"finish"/,"finish"/
    s/,"digest".*//' "$1"
}
sed 's/"\(prompt_\)*\(top_\)*logprobs": [a-z0-9]*\(, \)*//g; s/, }/}/' told > untold
succeed 0 run --model "$model" --prompts untold --output untold.one
only_text told.one > told.text
only_text untold.one > untold.text
same told.text untold.text
# In the middle of requests, too: what is kept there has no log-probabilities.
# middle FILE TOKENS MAX-NEW-TOKENS: into `middle`, stopped once and gone on with.
middle() {
  rm -f middle middle.unfinished
  "$moerun" run --model "$model" --prompts "$1" --output middle \
    --max-new-tokens "$3" --keep-every 0.001 --max-tokens 7 --max-sequences 7 \
    --fault rank=0,sleep=2000us > out 2> err &
  step=$!
  tries=0
  while ! grep -q "tokens\":\[\([0-9]*,\)\{$2\}" middle.unfinished 2> no &&
    [ "$tries" -lt 3000 ]; do
    sleep 0.01
    tries=$((tries + 1))
  done
  kill -USR1 $step 2> no
  wait $step
  [ "$?" = 75 ] || complain "expected to stop in the middle: $(cat err)"
  [ -e middle.unfinished ] || complain "expected requests in the middle"
  succeed 3 run --model "$model" --prompts "$1" --output middle \
    --max-new-tokens "$3" --resume
}
middle told 0 400
succeed 0 run --model "$model" --prompts told --output whole \
  --max-new-tokens 400
same whole middle
# The first token of a prompt has none, be it the only one.
echo '{"prompt": "", "prompt_logprobs": true, "top_logprobs": 1}' > empty
succeed 0 run --model "$model" --prompts empty --output empty.one
grep -q '"prompt_logprobs":\[null\],"prompt_top_logprobs":\[null\],"fin' \
  empty.one || complain "expected null: $(cat empty.one)"
succeed 0 run --model "$model" --prompts empty --output empty.one --resume
# A line with a number too many is refused.
sed '1s/"logprobs":\[/"logprobs":[-1,/' told.one > longer
on 0 run --model "$model" --prompts told --output longer --resume
[ "$?" = 65 ] || complain "expected 65 for a number too many"
# Those of a prompt are what --score sums.
text='In the beginning God created the heaven and the earth.'
printf %s "$text" > scored
succeed 0 run --model "$model" --score scored --output score
succeed 0 run --model "$model" --prompt "$text" --prompt-logprobs \
  --max-new-tokens 1 --output prompt
sum=$(sed 's/.*"prompt_logprobs":\[null,//; s/\].*//' prompt | tr , '\n' |
  awk '{ s += $1 } END { printf "%.3f", s }')
whole=$(sed 's/.*"log_probability":\([-0-9.]*\).*/\1/' score |
  awk '{ printf "%.3f", $1 }')
[ "$sum" = "$whole" ] || complain "expected a sum of $whole, found $sum"

# No end before so many tokens; at this temperature all tokens are as likely.
for i in 0 1 2 3 4 5; do
  echo "{\"id\": $i, \"prompt\": \"x\", \"temperature\": 100}"
done > ending
long="--max-new-tokens 300 --output out.jsonl --overwrite"
# shellcheck disable=SC2086
succeed 0 run --model "$model" --prompts ending $long
grep -q '"finish":"eos"' out.jsonl || complain "expected an end before 300"
# shellcheck disable=SC2086
succeed 0 run --model "$model" --prompts ending $long --min-new-tokens 300 \
  --logprobs
grep -q '"finish":"eos"\|[[,]257[],]' out.jsonl &&
  complain "expected no end before 300 tokens"
grep -q 'inf' out.jsonl && complain "expected the model's own numbers"

# Stops: across borders of tokens, of which this vocabulary has one a byte.
i=0
for how in '"stop": "the"' '"stop": ["xyz", " G", ". "]' '"stop": "nowhere"' \
  '"stop": "e", "min_new_tokens": 12' '"stop_token_ids": [101, 32]' \
  '"stop_token_ids": [257], "stop": "é"' '"logprobs": true, "stop": "he "'; do
  echo "{\"id\": $i, \"prompt\": \"And God said, Let\", \"seed\": $i," \
    "\"temperature\": 0.7, $how}"
  i=$((i + 1))
done > stops
alone_and_together stops
[ "$(grep -c '"finish":"stop"' stops.one)" -ge 4 ] ||
  complain "expected stops: $(cat stops.one)"
sed 's/"stop\(_token_ids\)*": \("[^"]*"\|\[[^]]*\]\)/"priority": 0/g' stops |
  sed 's/"priority": 0, "priority"/"priority"/' > unstopped
succeed 0 run --model "$model" --prompts unstopped --output unstopped.one
for line in 1 2 7; do
  stopped=$(sed -n "${line}s/.*\"text\":\"\(.*\)\",\"\(logprobs\|finish\).*/\1/p" \
    stops.one)
  grep -qF -- "\"text\":\"$stopped" unstopped.one ||
    complain "expected '$stopped' to begin a text of: $(cat unstopped.one)"
done
echo '{"id": 0, "prompt": "And God said, Let", "seed": 0, "temperature": 0.7}' > single
succeed 0 run --model "$model" --prompts single --stop the --output typed.one
sed 1q stops.one > first
same typed.one first
on 0 run --model "$model" --prompts single --output typed.one --resume --stop th
[ "$?" = 65 ] || complain "expected 65 for a result of another stop"
on 0 run --model "$model" --prompts single --stop "$(printf '\377')"
found=$?
grep -q 'moerun: --stop: .*UTF-8' err && [ $found = 2 ] ||
  complain "--stop that is no UTF-8: found $found and $(cat err)"
on 0 run --model "$model" --prompts single --stop ''
[ "$?" = 2 ] || complain "expected 2 for an empty stop"
# In the middle, where a stop may have begun in what is kept.
sed 's/"min_new_tokens": 12/"min_new_tokens": 60/; s/"the"/"zzz"/' stops > long
middle long 9 90
succeed 0 run --model "$model" --prompts long --output whole \
  --max-new-tokens 90 --overwrite
same whole middle

# Texts as they come: pieces joined are the texts, and results are what they are.
succeed 3 run --model "$model" --prompts stops --stream --output streamed
same stops.one streamed
for i in 0 1 2 3 4 5 6; do
  grep "^{\"index\":$i," out > pieces
  sed 's/^[^:]*:[^:]*:[^:]*:"//; s/","finish":"[a-z]*"}$//; s/"}$//' pieces |
    tr -d '\n' > joined
  sed -n "s/^{\"index\":$i,.*\"text\":\"//; t found
    d; :found
    s/\",\"\(logprobs\|finish\)\".*//p" stops.one | tr -d '\n' > wanted
  same joined wanted
  [ "$(grep -c finish pieces)" = 1 ] || complain "expected one end: $(cat pieces)"
done
[ "$(wc -l < out)" -gt 60 ] || complain "expected pieces: $(cat out)"
succeed 2 run --model "$model" --prompts single --stop the --stream
printf ' in \n' > wanted
same out wanted
on 0 run --model "$model" --prompts single --stream \
  --output /dev/stdout
[ "$?" = 65 ] || complain "expected 65 for two kinds of output on stdout"
"$moerun" run --model "$model" --prompts single --stream --max-new-tokens 900 \
  2> err | head -c 5 > short
[ "$(wc -c < short)" = 5 ] || complain "expected a text to begin"

# The model's recommendation, on request alone, and for what nobody gives.
mkdir recommends
ln -s "$model"/*.safetensors "$model"/config.json "$model"/tokenizer.json \
  recommends
echo '{"bos_token_id": 256, "eos_token_id": 257, "do_sample": true,
  "temperature": 0.8, "top_k": 7, "top_p": 0.9, "repetition_penalty": 1.1}' \
  > recommends/generation_config.json
echo '{"prompt": "And God said, Let"}' > plain
text() {
  sed 's/,"digest".*//' "$1"
}
recommended() {
  succeed 0 run --model recommends --prompts plain --output out.jsonl \
    --overwrite "$@"
  text out.jsonl
}
given="--temperature 0.8 --top-k 7 --top-p 0.9 --repetition-penalty 1.1"
# shellcheck disable=SC2086
recommended $given > typed
recommended --generation-config on > by_file
same typed by_file
recommended > silent
cmp -s typed silent && complain "expected nothing of generation_config.json"
recommended --generation-config on --temperature 0 --repetition-penalty 1 \
  > greedy
same greedy silent
rm recommends/generation_config.json
on 0 run --model recommends --prompts plain --output no --generation-config on
[ "$?" = 66 ] || complain "expected 66 without generation_config.json"

exit "$failures"
