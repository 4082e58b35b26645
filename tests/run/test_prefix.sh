#!/bin/sh
# test_prefix.sh PROGRAM DEMO-FOLDER SCRATCH-FOLDER MPIEXEC...
# Questions about one document: the document is computed once on each rank that
# is asked of it, and the results are the same bytes as without.
. "${0%/*}/common.sh"
cd "$scratch" || exit 1

# questions DOCUMENT-TOKENS QUESTIONS
questions() {
  awk -v tokens="$1" -v count="$2" 'BEGIN {
    for (q = 0; q < count; q++) {
      printf "{\"tokens\": [1"
      for (t = 1; t < tokens; t++) printf ",%d", 40 + (t * t + 3 * t) % 200
      printf ",%d,%d,%d], \"max_new_tokens\": %d", 50 + q, 60, 70 + q, 2 + q % 3
      if (q % 2) printf ", \"temperature\": 0.9, \"seed\": %d", q
      print "}"
    }
  }'
}

# counted KEY: of the last run that wrote m.
counted() {
  sed -n "s/.*\"tokens\": {.*\"$1\": \([0-9]*\).*/\1/p" m
}

# 64 questions over 992 tokens are 62 pages once, and 3 tokens each.
questions 992 64 > many
run="run --model $model --tokens many --max-tokens 256 --metrics m --overwrite"
# shellcheck disable=SC2086
{
  succeed 0 $run --output shared
  [ "$(counted prompt) $(counted prompt_reused)" = "1184 62496" ] ||
    complain "expected 1184 rows of 63680: $(grep '"tokens"' m)"
  says '62496 tokens of prompts were in the cache, 98.1 % of all prompts'
  succeed 3 $run --output three
  same shared three
  [ $(($(counted prompt) + $(counted prompt_reused))) = 63680 ] ||
    complain "expected 63680 tokens of prompts: $(grep '"tokens"' m)"
  [ "$(counted prompt)" -le 3168 ] ||
    complain "expected a document a rank at most: $(grep '"tokens"' m)"
}

# Every row, and in the middle, with little room, and again from there.
questions 200 12 > few
run="run --model $model --tokens few --max-tokens 64 --metrics m --overwrite"
# shellcheck disable=SC2086
{
  succeed 0 $run --output alone --prefix-cache off
  [ "$(counted prompt) $(counted prompt_reused)" = "2436 0" ] ||
    complain "expected 2436 rows: $(grep '"tokens"' m)"
  grep -q 'prefix cache' out && complain "expected no row of the prefix cache"
  succeed 2 $run --output shared --max-sequences 3 --prefill-chunk 7
  same alone shared
  succeed 0 $run --output shared --kv-tokens 224
  same alone shared
  # All pages but the one of the last tokens are left from the one before.
  [ "$(counted prompt)" = $((203 + 11 * 11)) ] ||
    complain "expected 324 rows: $(grep '"tokens"' m)"
  head -n 5 alone > shared
  succeed 2 run --model $model --tokens few --max-tokens 64 --output shared \
    --resume
  same alone shared
  # Samples of one prompt, of which 96 of 100 tokens are whole pages.
  questions 97 1 | sed 's/}$/, "n": 5, "temperature": 1}/' > five
  succeed 0 run --model $model --tokens five --metrics m --overwrite \
    --output samples
  [ "$(counted prompt) $(wc -l < samples)" = "$((96 + 5 * 4)) 5" ] ||
    complain "expected 5 samples by 116 rows: $(grep '"tokens"' m)"
  # A trace has all rows.
  succeed 0 profile --model $model --tokens few --metrics m --overwrite \
    --output shared --trace t.npy
  same alone shared
  [ "$(counted prompt) $(counted prompt_reused)" = "2436 0" ] ||
    complain "expected 2436 rows: $(grep '"tokens"' m)"
}
[ "$failures" = 0 ]
