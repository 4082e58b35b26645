#!/bin/sh
# test_batch.sh PROGRAM DEMO-FOLDER SCRATCH-FOLDER MPIEXEC...
# Batch files, and several samples of a request: the same bytes on any number of
# ranks and from the middle of a line on, beside lines that are wrong.
. "${0%/*}/common.sh"
cd "$scratch" || exit 1

mkdir chat
for file in "$model"/*; do
  ln -s "$file" chat/
done
rm chat/chat_template.jinja # the folder has one of its own
echo '{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}' \
  > chat/chat_template.jinja
text='"method": "POST", "url": "/v1/completions", "body":'
cat > lines <<END
{"custom_id": "talk", "method": "POST", "url": "/v1/chat/completions", "body": {"model": "m", "messages": [{"role": "user", "content": "Hello"}], "max_completion_tokens": 30, "n": 3, "logprobs": true, "top_logprobs": 2}}
{"custom_id": "many", $text {"prompt": ["And God said", "In the", [65, 66]], "max_tokens": 20, "n": 2, "logprobs": 2, "echo": true}}
{"custom_id": "wrong", $text {"prompt": "x", "stream": true}}
{"custom_id": "one", $text {"prompt": "And God said, Let", "temperature": 0.9, "seed": 3, "max_tokens": 24, "stop": [" the", "x"]}}
{"custom_id": "one", $text {"prompt": "again"}}
nonsense
{"custom_id": "prompt", $text {"prompt": "And God said", "max_tokens": 0, "echo": true, "logprobs": 0}}
END

# batch RANKS OUTPUT ARGUMENT...: ends with 65, as lines are wrong.
batch() {
  ranks=$1 output=$2
  shift 2
  case " $* " in
  *' --prompts '*) ;;
  *) set -- --prompts lines "$@" ;;
  esac
  on "$ranks" run --model chat --output "$output" "$@"
  found=$?
  [ $found = 65 ] && grep -q '3 of 7 lines were wrong' err ||
    complain "expected 65 and 3 wrong lines, found $found: $(cat err)"
}
batch 0 whole --max-sequences 2
[ "$(grep -c '^{"id":"batch_req_' whole)" = 7 ] || complain "expected 7 lines"
[ "$(grep -c '"status_code":200' whole)" = 4 ] || complain "expected 4 answers"
mkdir elsewhere
cp lines elsewhere/others
batch 3 found --max-tokens 16 --max-sequences 4 --prompts elsewhere/others
same whole found
head -c $(($(wc -c < whole) / 2)) whole > found
batch 0 found --resume
same whole found

# From the middle of a line: samples that are finished wait for the others.
"$moerun" run --model chat --prompts lines --output middle --keep-every 0.001 \
  --max-sequences 3 --max-tokens 3 --fault rank=0,sleep=500us > out 2> err &
step=$!
tries=0
while ! grep -qs '"index":7,' middle.unfinished && [ "$tries" -lt 3000 ]; do
  sleep 0.01
  tries=$((tries + 1))
done
kill -USR1 $step 2> no
wait $step
[ "$?" = 75 ] || complain "expected to stop in the middle: $(cat err)"
grep -q '"index":7,' middle.unfinished ||
  complain "expected requests in the middle"
# The first prompt's samples are finished: all of their 20 tokens but the last.
[ "$(grep '"index":[34],' middle.unfinished | tr , '\n' | grep -c .)" = \
  $((2 * 22)) ] || complain "expected samples that wait: $(cat middle.unfinished)"
batch 2 middle --resume
same whole middle
[ -e middle.unfinished ] && complain "expected nothing unfinished"

# What a line says is what the program's own lines say; the first sample is that
# of a request without "n".
cat > own <<'END'
{"id": "one", "prompt": "And God said, Let", "temperature": 0.9, "seed": 3, "max_new_tokens": 24, "n": 3}
{"id": "alone", "prompt": "And God said, Let", "temperature": 0.9, "seed": 3, "max_new_tokens": 24}
END
succeed 0 run --model chat --prompts own --output samples
succeed 3 run --model chat --prompts own --output found --overwrite
same samples found
text_of() {
  sed 's/.*"text":"//; s/","finish.*//; s/","logprobs".*//; s/\\.*//'
}
grep '"id":"one","sample":0,' samples | text_of > first
grep '"id":"alone",' samples | text_of > alone
grep '"custom_id":"one"' whole | head -n 1 |
  sed 's/"\(,"logprobs":null\)/","finish\1/' | text_of > answer
same first alone
same first answer
[ "$(sed 's/.*"text"//; s/"finish".*//' samples | sort -u | wc -l)" = 3 ] ||
  complain "expected three texts: $(cat samples)"
head -c 400 samples > found
succeed 0 run --model chat --prompts own --output found --resume
same samples found

# Pieces of a stream say which sample they are of, and are its text together.
succeed 0 run --model chat --prompts own --stream
for sample in 0 1 2; do
  grep "^{\"index\":0,\"id\":\"one\",\"sample\":$sample," out |
    sed 's/.*"text":"//; s/"[,}].*//' | tr -d '\n' > joined
  grep "\"sample\":$sample," samples |
    sed 's/.*"text":"//; s/","finish.*//' | tr -d '\n' > wanted
  same joined wanted
done

# Without --on-error line the first wrong line ends the run.
on 0 run --model chat --prompts lines --output none --on-error stop
[ "$?" = 65 ] || complain "expected 65 for the first wrong line"
[ -e none ] && complain "expected no output"
grep -q 'lines:3: body: key "stream": expected false' err ||
  complain "expected the line and the key: $(cat err)"
exit "$failures"
