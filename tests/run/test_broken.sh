#!/bin/sh
# Weights that are broken: requests that meet them have no result, the others do,
# and all ranks end with one line and 65. CHANGE_WEIGHTS names that program.
set -u
. "$(dirname "$0")/common.sh"
fixtures=$(dirname "$0")/../data/hf
cd "$scratch" || exit 1

# break_model NAME FOLDER TENSOR HOW ELEMENT: a copy with one element broken.
break_model() {
  mkdir "$1"
  cp "$2"/*.json "$2/model.safetensors" "$1"
  chmod u+w "$1"/*
  "$CHANGE_WEIGHTS" "$1/model.safetensors" "$3" "$4" "$5" > /dev/null ||
    complain "$1: nothing was changed"
}

# ends WORDS RANKS ARGUMENT...: with 65 and one line that says so.
ends() {
  words=$1
  shift
  on "$@"
  found=$?
  grep '^moerun: ' err > said
  if [ "$found" != 65 ] || [ "$(wc -l < said)" != 1 ] ||
    ! grep -qF -- "$words" said; then
    complain "$*: expected 65 and '$words', found $found and:"
    cat err
  fi
}

# Results without their digests, which depend on the weights.
bare() {
  sed 's/"digest":"[0-9a-f]*"/"digest"/' "$1" | sort
}

{
  echo '{"prompt": "And the man said "}'
  echo '{"prompt": "def f(x):"}'
  echo '{"prompt": "Die Datei wird "}'
  echo '{"id": "cold", "prompt": "/* Return"}'
  echo '{"id": "warm", "prompt": "/* Return", "temperature": 1.0}'
} > prompts
head -c 200 "$demo/text.txt" > text
set -- --prompts prompts --max-new-tokens 6 --add-bos yes
succeed 0 run --model "$model" "$@" --output sound

# A norm's weight: every request, whatever is asked for. Finite values whose
# squares are not would become zeros in the next norm.
break_model norm "$model" model.layers.0.input_layernorm.weight bit 1
for ranks in 0 3; do
  ends 'request 0 (id 0): at position 0 (its prompt has 18) the output of decoder layer 0 is not a finite number, or beyond 3.6e16: the model'"'"'s weights are broken or overflow; 5 of 5 requests have no result' \
    $ranks run --model norm "$@" --output none.$ranks
  [ ! -s none.$ranks ] || complain "a broken norm: expected no result"
  ends 'the output of decoder layer 0' $ranks run --model norm --score text
  grep -q perplexity out && complain 'a broken norm: a perplexity was printed'
done

# One expert's weight in the last layer: the requests whose last positions meet
# it, and no others; the trace has the others, too.
break_model expert "$model" model.layers.5.mlp.experts.7.up_proj.weight bit 64
for ranks in 0 3; do
  for command in run profile; do
    trace=
    [ $command = run ] || trace="--trace t.$ranks.npy"
    # shellcheck disable=SC2086
    ends 'request 3 (id "cold"): at position 9 (its prompt has 10) the output of decoder layer 5' \
      $ranks $command --model expert "$@" --output some.$ranks.$command $trace
    bare some.$ranks.$command > found
    bare sound | grep -v cold | grep -v warm > wanted
    same found wanted
  done
  grep -q '"index": \[0,1,2\]' t.$ranks.json ||
    complain 'expected the trace to have the three requests with results'
done
same some.0.run some.0.profile

# The head, the embedding.
break_model head "$fixtures/dots1" lm_head.weight bit 70
echo '{"tokens": [1, 2, 3], "max_new_tokens": 4}' > ids
ends 'the output of the head' 0 run --model head --tokens ids
break_model embedding "$model" model.embed_tokens.weight bit 6400
echo '{"tokens": [7, 50, 8], "max_new_tokens": 2}' > ids
ends 'request 0 (id 0): at position 1 (its prompt has 3) the output of the embedding' \
  0 run --model embedding --tokens ids

# A gate whose scores are sigmoids never chooses an expert of which the score is
# NaN: nothing that follows would show it.
echo '{"tokens": [1, 2, 3], "max_new_tokens": 4}' > ids
break_model gate "$fixtures/dots1" layers.1.mlp.gate.weight bit 5
for ranks in 0 2; do
  ends 'the output of decoder layer 1' $ranks run --model gate --tokens ids
done

# Prompts that begin alike: what one finds broken is not what another goes on
# from. In the part that they have in common, and behind it.
begins='And the man said unto him, Behold, I am thy servant, '
for ends in and but 'for all that'; do
  echo "{\"prompt\": \"$begins$ends\", \"max_new_tokens\": 4}"
  echo "{\"prompt\": \"Die Datei wird von dem Programm gelesen, weil $ends\"}"
done > alike
for broken in 1.29 4.9; do
  break_model "alike.$broken" "$model" \
    "model.layers.${broken%.*}.mlp.experts.${broken#*.}.up_proj.weight" bit 64
  for shares in on off; do
    ends 'request 0 (id 0): at position ' 0 run --add-bos yes \
      --model "alike.$broken" --prompts alike --max-new-tokens 4 \
      --output alike.$shares --overwrite --prefix-cache $shares
    mv said said.$shares
  done
  same said.on said.off
  bare alike.on > found
  bare alike.off > wanted
  same found wanted
done
[ -s wanted ] || complain 'expected some requests to have a result'

exit "$failures"
