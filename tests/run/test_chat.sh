#!/bin/sh
# Conversations: a run of "messages" is that of the text which the template makes.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1

# refuse WORDS: the run of `talks` ends with 65 and one line with these words.
refuse() {
  on 0 run --model chat --prompts talks
  found=$?
  [ $found = 65 ] || complain "expected 65, found $found"
  tr -s '\n ' '  ' < err | grep -qF -- "$1" || {
    complain "expected '$1', found:"
    cat err
  }
}

mkdir chat
for file in "$model"/*; do
  ln -s "$file" chat/
done
rm chat/chat_template.jinja # the folder has one of its own
cat > talks <<'END'
{"id": "a", "messages": [{"role": "user", "content": "Who <eos> made"}]}
END
refuse 'talks:1: key "messages": the model has no chat template'
on 0 chat --model chat < talks
[ "$?" = 65 ] && grep -q 'the model has no chat template' err ||
  complain "expected 65 without a chat template: $(cat err)"

cat > chat/chat_template.jinja <<'END'
{% if tools %}{{ tools[0].name }}{% endif %}
{%- for m in messages %}
{%- if m.role == 'tool' %}{{ raise_exception('no ' + m.role) }}{% endif -%}
{%- if m.content == 'robot' %}{{ 'x' + 1 }}{% endif -%}
<{{ m.role }}> {{ m.content | trim }}
{% endfor %}
{%- if add_generation_prompt %}<answer>{{ mood }}{% endif %}
END
cat > talks <<'END'
{"id": "a", "messages": [{"role": "user", "content": "Who <eos> made"}]}
{"id": "b", "messages": [{"role": "system", "content": "é"}, {"role": "user", "content": [{"type": "text", "text": " x "}]}], "add_generation_prompt": false}
{"id": "c", "messages": [{"role": "user", "content": "y"}], "tools": [{"name": "T"}], "chat_template_kwargs": {"mood": " well"}, "temperature": 0.7}
END
cat > texts <<'END'
{"id": "a", "prompt": "<user> Who <eos> made\n<answer>"}
{"id": "b", "prompt": "<system> é\n<user> x\n"}
{"id": "c", "prompt": "T<user> y\n<answer> well", "temperature": 0.7}
END
succeed 0 run --model chat --prompts texts --output wanted
for ranks in 0 3; do
  succeed "$ranks" run --model chat --prompts talks --output found --overwrite
  same found wanted
done
head -c 100 wanted > found
succeed 0 run --model chat --prompts talks --output found --resume
same found wanted

# tokenize writes what is fed, and with --text as which text.
echo '{"custom_id": "d", "method": "POST", "url": "/v1/chat/completions", "body": {"messages": [{"role": "user", "content": "z"}]}}' \
  > batch
cat talks batch > all
succeed 0 tokenize --model chat --prompts all --text
sed 's/"tokens".*//' out > shown
cat > wanted_text <<'END'
{"id":"a","text":"<user> Who <eos> made\n<answer>",
{"id":"b","text":"<system> é\n<user> x\n",
{"id":"c","text":"T<user> y\n<answer> well",
{"id":"d","text":"<user> z\n<answer>",
END
same shown wanted_text
grep -q '"tokens":\[60,117,115,101,114,62,32,87,104,111,32,257,32,' out ||
  complain "expected <eos> as one token: $(cat out)"
head -n 3 out | sed 's/"text":"[^"]*",//; s/\("id":"c"\)/"temperature":0.7,\1/' > ids
succeed 0 run --model chat --tokens ids --output found --overwrite
sed 's/,"digest".*//' found > short
sed 's/,"digest".*//' wanted | cmp - short ||
  complain "expected the same of ids: $(cat short)"

# What is wrong with one conversation is said of it, and the others are run.
echo '{"id": "d", "messages": [{"role": "tool", "content": "z"}]}' >> talks
refuse 'talks:4: chat/chat_template.jinja: line 3: the chat template says: no tool'
echo '{"id": "e", "messages": [{"role": "user", "content": "robot"}]}' >> talks
on 0 run --model chat --prompts talks --on-error line --output found \
  --overwrite
head -n 3 found > first
same first wanted
grep '"error":' found | sed 's/.*: line/line/' | tr -d '\\"}' > refused
{
  echo 'line 3: the chat template says: no tool'
  echo 'line 4: + is not for str and int'
} > expected
same refused expected
for line in '"prompt": "a", "tools": []' '"messages": []' '"messages": 3' \
  '"messages": [{"role": "user"}], "chat_template_kwargs": 1' \
  '"messages": [{"content": "a"}]' \
  '"messages": [{"role": "alien", "content": "a"}]' \
  '"messages": [{"role": "user"}]' \
  '"messages": [{"role": "user", "content": [{"type": "image_url"}]}]' \
  '"messages": [{"role": "user"}], "prompt": "a"'; do
  echo "{$line}" > talks
  case $line in
    *'"tools"'*) refuse 'key "tools": expected beside "messages" alone' ;;
    *'[]') refuse 'key "messages": expected at least one, found none' ;;
    *3) refuse 'key "messages": expected an array' ;;
    *kwargs*) refuse 'key "chat_template_kwargs": expected an object' ;;
    *'[{"content"'*) refuse 'talks:1: message 1: key "role": expected a string' ;;
    *alien*) refuse 'message 1: key "role": expected system, developer, user' ;;
    *'user"}]') refuse 'key "content": expected a string or an array of parts' ;;
    *image*) refuse 'message 1: part 1: expected the type "text", found "image' ;;
    *) refuse 'expected one of "prompt", "messages" and "tokens"' ;;
  esac
done

# Line by line: what run makes of the same messages, and what was said counts.
newline='
'
how="--max-new-tokens 24 --seed 3 --temperature 0.7"
answer() {
  echo "{\"id\": 0, \"messages\": [$1]}" > asked
  # shellcheck disable=SC2086
  succeed 0 run --model chat --prompts asked $how --stop "$newline" \
    --output answered --overwrite
  sed 's/.*"text":"\(.*\)","finish".*/\1/' answered
}
system='{"role": "system", "content": "Be kind"}'
first='{"role": "user", "content": "Who made"}'
reply=$(answer "$system, $first")
then="{\"role\": \"assistant\", \"content\": \"$reply\"}"
{
  echo "$reply"
  answer "$system, $first, $then, {\"role\": \"user\", \"content\": \"y\"}"
  answer "$system, {\"role\": \"user\", \"content\": \"y\"}"
} > heard
printf 'Who made\n\ny\n/reset\ny\n/exit\nnever\n' > said
for ranks in 0 3; do
  # shellcheck disable=SC2086
  succeed "$ranks" chat --model chat $how --stop "$newline" --system 'Be kind' \
    < said
  same out heard
done
# What has no room is said to have none, and the next line is answered; so is
# the one after what the template refuses.
{
  printf 'robot\n'
  awk 'BEGIN { for (i = 0; i < 3000; i++) printf "x" }'
  printf '\n/reset\ny'
} > said
# shellcheck disable=SC2086
on 0 chat --model chat $how --stop "$newline" --system 'Be kind' < said
[ "$?" = 65 ] || complain "expected 65 for a line that was refused"
sed -n 3p heard > third
same out third
tr -s '\n ' '  ' < err | grep -q 'chat:1: expected at most .* /reset forgets' ||
  complain "expected a line about /reset: $(cat err)"
tr -s '\n ' '  ' < err | grep -q 'chat:1: .* line 4: "+" is not for' ||
  complain "expected what the template cannot do: $(cat err)"
# What is no command, what is no text, lines that go on, what templates are told,
# and options without effect.
printf '/RESET\n/exit now\nx\033[A\n/reset \nWho made\\\n\n/exit\n' > said
unset MOERUN_LOG_LEVEL
on 0 chat --model chat --max-new-tokens 2 --min-new-tokens 3 --max-sequences 4 \
  --chat-template-kwargs '{"mood": "x"}' < said
found=$?
export MOERUN_LOG_LEVEL=warn
[ $found = 65 ] || complain "expected 65, found $found"
for words in 'unknown command "/RESET"' 'unknown command "/exit now"' \
  'the control byte 0x1B' 'cut at --max-new-tokens 2' \
  '--min-new-tokens 3 has no effect' '--max-sequences 4 has no effect' \
  '3 of 4 lines were refused'; do
  grep -qF -- "$words" err || complain "expected '$words': $(cat err)"
done
printf '%s\n' '{"messages": [{"role": "user", "content": "Who made\n"}], "chat_template_kwargs": {"mood": "x"}}' \
  > asked
succeed 0 run --model chat --prompts asked --max-new-tokens 2 --stream
cp out wanted_text
on 0 chat --model chat --max-new-tokens 2 --chat-template-kwargs \
  '{"mood": "x"}' < said
same out wanted_text
for words in '--top-p 0.5' '--chat-template-kwargs [1]'; do
  # shellcheck disable=SC2086
  on 0 chat --model chat $words < /dev/null
  found=$?
  [ $found = 2 ] || complain "$words: expected 2, found $found"
done
on 0 chat --model chat --max-tokens 5 --system-prompt x < /dev/null
grep -q 'did you mean --system?' err || complain "expected --system: $(cat err)"
on 0 chat --model chat --max-tokens 5 < /dev/null
grep -q 'says --max-new-tokens' err || complain "expected advice: $(cat err)"
# A tokenizer that is larger than the model is said to be so.
mkdir wide
for file in chat/*; do
  ln -s "../$file" wide/
done
rm wide/tokenizer.json
sed 's/"id": *257/"id": 999/' "$model/tokenizer.json" > wide/tokenizer.json
on 0 chat --model wide < /dev/null
grep -q 'tokenizer.json has ids of 0 to 999' err ||
  complain "expected a word about ids: $(cat err)"
# A text that is shown alone has no place for what was wrong: it is said.
printf '{"prompt": "a", "max_new_tokens": 2}\n{"prompt": 3}\n' > asked
on 0 run --model chat --prompts asked --stream --on-error line
grep -q 'error: line 2: key "prompt"' err && grep -q '1 of 2 lines was wrong$' err ||
  complain "expected what was wrong: $(cat err)"
# Ctrl-C ends an answer, and at the prompt the conversation.
mkfifo talk
env --default-signal=INT "$moerun" chat --model chat --max-new-tokens 900 \
  < talk > out 2> err &
step=$!
exec 3> talk
# grows BYTES: waits until so many are there.
grows() {
  tries=0
  while [ "$(wc -c < out)" -lt "$1" ] && [ "$tries" -lt 3000 ]; do
    sleep 0.01
    tries=$((tries + 1))
  done
  [ "$(wc -c < out)" -ge "$1" ] || complain "expected more: $(cat out err)"
}
echo 'And God said' >&3
grows 9
kill -s INT $step
printf '/reset\nIn the' >&3
sleep 0.3
cut=$(wc -c < out)
[ "$cut" -lt 800 ] || complain "expected an answer that ends: $cut bytes"
echo >&3
grows $((cut + 9))
kill -s INT $step
sleep 0.3
kill -s INT $step 2> no
exec 3>&-
wait $step
[ "$?" = 0 ] || complain "expected a good end: $(cat err)"

# A template that cannot be read is of no matter to texts.
echo '{% nonsense %}' > chat/chat_template.jinja
succeed 0 run --model chat --prompts texts --output found --overwrite
same found wanted
echo '{"messages": [{"role": "user", "content": "y"}]}' > talks
refuse 'key "messages": the model'\''s chat template cannot be used: chat/chat_template.jinja: line 1: the tag "nonsense" is not known'
# It is no line's fault: the run ends.
on 0 run --model chat --prompts talks --on-error line --output nothing
[ "$?" = 65 ] || complain "expected 65 for a template that cannot be read"
[ -e nothing ] && complain "expected no output"
[ "$failures" = 0 ]
