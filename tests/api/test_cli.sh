#!/bin/sh
# The program without ranks: exit codes, one line on stderr for each refusal,
# results on stdout alone.
# Arguments: the program, the model, a folder for scratch.
set -u
moerun=$1 model=$2 scratch=$3
rm -rf "$scratch"
mkdir -p "$scratch"
failures=0

# expect CODE WORDS ARGUMENT...: the exit status, and for a failure one line on
# stderr that contains WORDS; for success WORDS on stdout.
expect() {
  code=$1 words=$2
  shift 2
  "$moerun" "$@" > "$scratch/out" 2> "$scratch/err"
  found=$?
  said=$scratch/out
  if [ "$code" != 0 ]; then
    said=$scratch/err
    [ "$(wc -l < "$said")" = 1 ] || found="$found with other than one line"
    [ ! -s "$scratch/out" ] || found="$found with something on stdout"
  fi
  if [ "$found" != "$code" ] ||
    { [ -n "$words" ] && ! grep -qF -- "$words" "$said"; }; then
    echo "moerun $*: expected $code and '$words', found $found and:"
    cat "$scratch/out" "$scratch/err"
    failures=1
  fi
}

expect 0 'usage: moerun SUBCOMMAND' --help
expect 0 'kernels: ref portable' --version
for subcommand in $("$moerun" --help | sed -n 's/^  \([a-z]*\) .*/\1/p'); do
  expect 0 "usage: " "$subcommand" --help
  expect 0 "  --log-level CHOICE" "$subcommand" --help
done
expect 0 'usage: moerun SUBCOMMAND' help
expect 0 'usage: moerun run ' help run
expect 0 'usage: moerun run ' run -h
expect 2 'expected a subcommand, found "walk"; `moerun help` lists them' walk
expect 2 'expected a subcommand, found "rnu": did you mean `moerun run`?' rnu
expect 2 'expected a subcommand, found "inf": did you mean `moerun info`?' help inf
expect 2 'found "--hlep": did you mean `moerun help`?' --hlep
expect 0 'kernels: ref portable' version
expect 2 'found none; `moerun help run` has examples' run
expect 2 'found "-n": the number of ranks is an option of mpirun' run -n 5
expect 2 'found "x"; `moerun info --help` lists the options' info x
expect 2 'unknown option --promts: did you mean --prompts?' run --promts x
"$moerun" > "$scratch/out" 2> "$scratch/err"
code=$?
if [ $code != 2 ] || [ -s "$scratch/out" ] ||
  ! grep -q 'usage: moerun SUBCOMMAND' "$scratch/err"; then
  echo "moerun alone: expected 2 and the help on stderr, found $code"
  failures=1
fi

# Help: 80 columns, two examples of each subcommand.
for subcommand in "" run profile place info synth tokenize detokenize; do
  # shellcheck disable=SC2086 # no word is no argument
  "$moerun" help $subcommand > "$scratch/help"
  if awk 'length($0) > 80' "$scratch/help" | grep .; then
    echo "moerun help $subcommand: expected at most 80 columns"
    failures=1
  fi
  [ -z "$subcommand" ] && continue
  examples=$(sed -n '/^examples:/,/^$/p' "$scratch/help" |
    grep -c "^  [^ ].*moerun $subcommand\|^  moerun $subcommand")
  if [ "$examples" -lt 2 ]; then
    echo "moerun help $subcommand: expected two examples, found $examples"
    failures=1
  fi
done
expect 2 '--model: expected a value, found none' info --model
expect 2 '--ranks: expected an integer from 0 to 1048576, found "-1"' \
  info --ranks -1
expect 2 '--prompts: not an option of `moerun info`, but of run, profile' info --prompts x
expect 2 '--output: expected a path, found none' synth

expect 0 'kernels: ref portable' info
expect 0 '| `max_tokens` | 1 to 1048576 | 256 | tokens |' info --config-table
expect 0 "ernie4_5_moe       Ernie4_5_MoeForCausalLM" info --list-models
expect 0 'experts       32 a layer, 4 a token, width 64' info --model "$model"
expect 0 'memory per rank, 3 ranks, placement block' \
  info --model "$model" --ranks 3
expect 66 'config.json: cannot be opened: no such file' info --model "$scratch/nowhere"
echo '{"model_type": "qwen3_moe"' > "$scratch/config.json"
expect 65 'config.json: line 2, column 0: not valid JSON' \
  info --model "$scratch"
echo '{"format": "moerun-placement"}' > "$scratch/placement"
expect 65 'key "version": expected an integer, found nothing' \
  info --model "$model" --placement "$scratch/placement"

export MOERUN_MAX_TOKEN=3
expect 2 'environment variable MOERUN_MAX_TOKEN: no such configuration key' info
unset MOERUN_MAX_TOKEN
echo 'ranks = 5' > "$scratch/conf"
export MOERUN_CONFIG="$scratch/conf"
expect 0 'memory per rank, 5 ranks' info --model "$model"
echo 'ranks = many' > "$scratch/conf"
expect 2 'conf:1: ranks: expected an integer from 0 to 1048576, found "many"' \
  info
unset MOERUN_CONFIG
expect 66 '/nowhere: cannot be opened: no such file' info --config "$scratch/nowhere"

expect 0 '' synth --output "$scratch/model" --layers 1 --experts 5 \
  --hidden 32 --heads 2 --expert-width 16 --log-level error
expect 0 'experts       5 a layer' info --model "$scratch/model"
expect 65 'exists already: --overwrite replaces it' \
  synth --output "$scratch/model/"
: > "$scratch/model/notes"
expect 65 'files of `moerun synth`, found notes in it' synth --output "$scratch/model"
expect 65 'notes: cannot be replaced: expected a folder, found a file' \
  synth --output "$scratch/model/notes"
rm "$scratch/model/notes"
expect 74 '(its folder is missing)' synth --output "$scratch/nowhere/model"
expect 74 'cannot be written: expected room for 826815.10 GB, found' synth \
  --output "$scratch/huge" --layers 1000 --experts 1024 --hidden 16384 \
  --heads 16 --expert-width 8192 --shard-gb 1000
find "$scratch" -name 'huge*' | grep . && failures=1
expect 2 '--ranks: not an option of `moerun run`, but of info, place; mpirun -n' \
  run --ranks 4
if [ -e /dev/full ]; then
  "$moerun" help > /dev/full 2> "$scratch/err"
  [ $? = 74 ] && grep -q 'stdout: cannot be written: no space' "$scratch/err" || {
    echo "a full stdout: $(cat "$scratch/err")"
    failures=1
  }
fi
expect 0 '' synth --output "$scratch/model/" --layers 1 --experts 6 \
  --hidden 32 --heads 2 --expert-width 16 --log-level error --overwrite
expect 0 'experts       6 a layer' info --model "$scratch/model"
# refuse WORDS OPTION...: by the names that were typed.
refuse() {
  words=$1
  shift
  expect 2 "moerun: $words" synth --output "$scratch/other" "$@"
}
refuse '--heads: expected heads of an even width of 2 to 4096, found 73 of --hi' \
  --heads 7
refuse '--heads: expected heads of an even width' --heads 1024
refuse '--head-dim: expected an even width, found 7' --head-dim 7
refuse '--head-dim: expected an integer from 0 to 4096' --head-dim 4098
refuse '--heads times --head-dim: expected at most 131072, found 262144' \
  --heads 65536 --head-dim 4
refuse '--kv-heads: expected a divisor of the 8 of --heads, found 16' --kv-heads 16
refuse '--experts: expected an integer from 1 to 32767, found "32768"' \
  --experts 32768
refuse '--experts, --null-experts and the like: expected at most 32767 in all' \
  --experts 32767 --null-experts 1
refuse '--layers: expected an integer from 1 to 1024, found "1025"' --layers 1025
refuse '--dense-layers: expected fewer than the 2 of --layers, found 2' \
  --layers 2 --dense-layers 2
refuse '--dense-width: expected to be given, because --experts-per-token times' \
  --dense-layers 1 --experts 64 --experts-per-token 64 --expert-width 4096
refuse '--shared-experts times --expert-width: expected at most 131072' \
  --arch qwen2_moe --shared-experts 1000
refuse '--hidden: expected an integer from 1 to 131072' --hidden 131073
refuse '--vocab: expected an integer from 2 to 16777216' --vocab 16777217
refuse '--positions: expected an integer from 1 to 16777216' --positions 99999999
[ ! -e "$scratch/other" ] || { echo "a refused model was left"; failures=1; }

# Parameters are those of the tensors that are stored, whatever config.json says
# of a tied head.
expect 0 '' synth --output "$scratch/heads" --layers 1 --hidden 256 --heads 4 \
  --log-level error
expect 0 'parameters    5.5 million' info --model "$scratch/heads"
sed -i 's/"tie_word_embeddings": false/"tie_word_embeddings": true/' \
  "$scratch/heads/config.json"
expect 0 'parameters    5.5 million' info --model "$scratch/heads"

if [ -c /dev/full ]; then
  "$moerun" info > /dev/full 2> "$scratch/err"
  code=$?
  [ $code = 74 ] && grep -q 'stdout: cannot be written' "$scratch/err" || {
    echo "moerun info > /dev/full: expected 74, found $code"
    failures=1
  }
fi

# stdout that is closed takes no results, and no other file gets them.
"$moerun" run --model "$model" --prompt 'ab' --max-new-tokens 2 \
  --log-level error --progress off >&- 2> "$scratch/err" < /dev/null
code=$?
[ $code = 74 ] && grep -q 'stdout: cannot be written' "$scratch/err" || {
  echo "run with stdout closed: expected 74, found $code: $(cat "$scratch/err")"
  failures=1
}
"$moerun" run --model "$model" --prompt 'ab' --max-new-tokens 2 \
  --output "$scratch/results" <&- >&- 2>&-
code=$?
[ "$(wc -l < "$scratch/results")" = 1 ] || {
  echo "run with all streams closed: expected its results, found code $code"
  failures=1
}

# A reader of a table who has gone has seen enough.
for command in "info --config-table" "info --model $model" "help run"; do
  rm -f "$scratch/closed" "$scratch/code"
  {
    until [ -e "$scratch/closed" ]; do
      sleep 0.05
    done
    # shellcheck disable=SC2086 # several words
    "$moerun" $command 2> "$scratch/err"
    echo $? > "$scratch/code"
  } | {
    exec < /dev/null
    : > "$scratch/closed"
  }
  until [ -s "$scratch/code" ]; do
    sleep 0.05
  done
  if [ "$(cat "$scratch/code")" != 0 ] || [ -s "$scratch/err" ]; then
    echo "moerun $command, without a reader: $(cat "$scratch/code" "$scratch/err")"
    failures=1
  fi
done
exit $failures
