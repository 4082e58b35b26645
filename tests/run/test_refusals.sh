#!/bin/sh
# Bad input: one line from one rank, a documented exit status on all ranks, and
# an output file that is not touched.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1
echo '{"prompt": "a"}' > good
export MOERUN_MODEL=$model

# refuse CODE WORDS ARGUMENT...
refuse() {
  code=$1 words=$2
  shift 2
  for ranks in $ranks_list; do
    echo untouched > output
    on "$ranks" "$@"
    found=$?
    grep '^moerun: ' err > said
    [ "$(wc -l < said)" = 1 ] || found="$found with other than one line"
    [ "$ranks" != 0 ] || [ "$(wc -l < err)" = 1 ] || found="$found and noise"
    [ ! -s out ] || found="$found with something on stdout"
    [ "$(cat output)" = untouched ] || found="$found with a touched output"
    if [ "$found" != "$code" ] || ! grep -qF -- "$words" said; then
      complain "$* on $ranks: expected $code and '$words', found $found and:"
      cat out err
    fi
  done
}

# Once with many ranks for each kind of failure, else with one.
ranks_list='0 3'
refuse 2 'expected one of --prompt, --prompts, --tokens and --score, found none' \
  run --output output --overwrite
echo '[]' > bad
refuse 65 'bad:1: expected a JSON object, found an array: one such as {"prompt"' \
  run --prompts bad --output output --overwrite
refuse 66 'nowhere: cannot be opened: no such file' \
  run --prompts nowhere --output output --overwrite
ln -sf round round
refuse 66 'round: cannot be opened: too many symbolic links' \
  run --prompts round --output output --overwrite
refuse 66 'nowhere/config.json: cannot be opened' \
  run --model nowhere --prompts good --output output --overwrite
refuse 65 'output: exists already: --resume goes on with it' \
  run --prompts good --output output

ranks_list=0
echo '[1, 2, 3]' > bad
refuse 65 'found an array: one such as {"tokens": [1, 2, 3]}, each in a line' \
  run --prompts bad --output output --overwrite
refuse 65 'good:1: key "prompt": expected "tokens" in a file of token ids; --prom' \
  run --tokens good --output output --overwrite
printf '{"prompt": "a"}\n{"prompt": "b", "id": 0}\n' > bad
refuse 65 'bad:2: id 0 is the number of line 1, which has no id of its own' \
  run --prompts bad --output output --overwrite
refuse 2 '--on-error line has no effect here: the text of --score has no lines' \
  run --score good --on-error line
refuse 2 'found --prompts and --tokens' run --prompts good --tokens good
refuse 2 'expected one of --resume and --overwrite, found both' \
  run --prompts good --output output --resume --overwrite
refuse 2 '--resume has no effect here: expected --output' run --prompts good --resume
refuse 2 '--resume: not an option of `moerun profile`, but of run' \
  profile --prompts good --trace t.npy --output output --resume
refuse 2 '--fault: expected a rank from 0 to 0, found 1' \
  run --prompts good --fault rank=1,compute=2x
refuse 2 '--fault: expected what slows a rank in "rank=0", such as compute=4x' \
  run --prompts good --fault rank=0
refuse 2 '--seed: given twice, with 1 and with 2' \
  run --prompts good --seed 1 --top-p 0.5 --seed 2
# What can have no effect in a run, and is refused for that.
refuse 2 '--top-p 0.5 has no effect here: the likeliest token is taken' \
  run --prompts good --top-p 0.5
refuse 2 '--gate-top-k 50 has no effect here: the model takes no more experts' \
  run --prompts good --gate-top-k 50
refuse 2 '--window 64 has no effect here: it is the length of the pieces' \
  run --prompts good --window 64
refuse 2 '--model: expected a folder, found nothing' info --model= --ranks 4
refuse 2 '--output: expected a path, found nothing' \
  run --prompts good --output ''
MOERUN_MODEL=
refuse 2 '--ranks 4 has no effect here: expected --model with it' \
  info --ranks 4
MOERUN_MODEL=$model
refuse 2 '--dense-width 8 has no effect here: expected --dense-layers with it' \
  synth --output new --dense-width 8
refuse 2 '--spare-slots 1 has no effect here: experts stay where they are' \
  info --ranks 2 --spare-slots 1 --replace-every 0
refuse 2 '--progress-terminal: expected a terminal such as /dev/pts/3' \
  run --prompts good --progress-terminal nonsense
refuse 2 '--score, found an empty one' run --prompt ''
refuse 2 '--max-sequences: expected at most --max-tokens (4), found 5' \
  run --prompts good --max-tokens 4 --max-sequences 5
refuse 2 '--gate-top-k "0": expected a number from 1' run --prompts good --gate-top-k 0
refuse 2 '--gate-top-k "0-2:3,2:1": expected layer 2 once, found it twice' \
  run --prompts good --gate-top-k 0-2:3,2:1
refuse 2 '--gate-top-k: expected MoE layers 0 to 5, found 6' \
  run --prompts good --gate-top-k 4-6:1
refuse 65 'output:1: column 9: not valid JSON' \
  run --prompts good --output output --resume
printf '{"important":"my only copy"}' > notes
cp notes notes.before
refuse 65 'notes:1: cannot resume: expected a line end, or the start of a result' \
  run --prompts good --output notes --resume
same notes notes.before
refuse 74 'nowhere/output: cannot be created' \
  run --prompts good --output nowhere/output
refuse 74 'nowhere/metrics: cannot be created' \
  run --prompts good --output output --overwrite --metrics nowhere/metrics
refuse 2 '--trace: expected a name that ends in .npy, found t' \
  profile --prompts good --trace t --output output --overwrite
refuse 65 'expected at most 16 tokens (--kv-tokens, the cache of one rank)' \
  run --prompts good --output output --overwrite --kv-tokens 16
refuse 65 'good:1: expected at most 1024 tokens (the model' \
  run --prompts good --output output --overwrite --max-new-tokens 1024
refuse 66 'good.npy: cannot be opened' run --score good.npy
refuse 65 'window 0: expected at most 1024 tokens' \
  run --score "$demo/text.txt" --window 1025
refuse 65 'found 1025: a smaller --window has room' \
  run --score "$demo/text.txt" --window 1025
echo '{"format": "moerun-placement", "version": 1}' > placement
refuse 65 'placement: ' run --prompts good --output output --overwrite \
  --placement placement
succeed 0 profile --prompts good --trace recorded.npy --output recorded
refuse 65 'recorded.npy: expected 6 layers' run --prompts good --output output \
  --overwrite --placement recorded.npy
grep -q '; it is a trace, by which `moerun place --trace`' err ||
  complain "a trace as a placement: $(cat err)"

refuse 2 'expanded-most: expected an integer from 0 to 64' run --prompts good \
  --output output --overwrite --expanded-most 65
refuse 2 '--expanded-most 1 has no effect here: expected --expanded' run \
  --prompts good --output output --overwrite --capacity 0.9 --expanded-most 1

# What others call the length: the seats of a default shrink, and a line helps.
succeed 0 run --prompt ab --max-tokens 8 --log-level warn
grep -qF -- '--max-tokens 8 is the most rows of a step; how long a completion' \
  err || complain "expected a line on --max-new-tokens, found: $(cat err)"
succeed 0 run --prompt ab --max-tokens 8 --max-new-tokens 2
[ ! -s err ] || complain "expected no line, found: $(cat err)"
# What was typed is named, not what follows from it.
refuse 2 '--max-tokens: expected at least 128, because a capacity of a request' \
  run --prompts good --max-tokens 8 --isolation route --capacity 1
refuse 2 '--prefill-chunk: expected at least 128' run --prompts good \
  --prefill-chunk 8 --capacity-scope request --capacity 1
refuse 2 '--capacity-window: expected at most --max-tokens (8), found 9' run \
  --prompts good --max-tokens 8 --isolation route --capacity 1 \
  --capacity-window 9
# A capacity that drops nothing is said on one rank and on several.
for ranks in 1 2; do
  succeed $ranks run --prompt ab --max-new-tokens 2 --capacity 100
  grep -q -- '--capacity 100 has no effect here' err ||
    complain "$ranks ranks, capacity 100: expected a warning, found: $(cat err)"
done
# On one rank nothing travels and all rows have room.
succeed 0 run --prompt ab --max-new-tokens 2 --chunks 4 --capacity 1
grep -q -- '--chunks 4 has no effect here' err &&
  grep -q -- '--capacity 1 has no effect here' err ||
  complain "expected two warnings, found: $(cat err)"

# What to do instead.
printf '[\n{"prompt": "a"}\n]\n' > array
refuse 65 'expected one object a line, and each in one line' run --prompts array
refuse 66 'config.json: expected the folder of a checkpoint, found a file' \
  run --model "$model/config.json" --prompts good
echo '{"format": "moerun-place", "version": 1}' > numbers
refuse 65 'the placement is what --output wrote' \
  run --prompts good --placement numbers
refuse 65 'a larger --kv-tokens has room' \
  run --prompts good --kv-tokens 16
refuse 66 '.: expected a regular file, found a folder' run --prompts .
refuse 74 'no such file or directory (its folder is missing)' \
  run --prompts good --output nodir/x
refuse 2 'found "nodes" behind --topology 2: a value of several words needs quotes' \
  place --trace t.npy --topology 2 nodes x 4 ranks
refuse 2 'found "nothing"; `moerun help` lists them' help nothing
refuse 2 '--heads: expected heads of an even width of 2 to 4096, found 73' \
  synth --output new --heads 7
refuse 2 '--experts-per-token: expected at most the 16 of --experts' \
  synth --output new --experts-per-token 20
refuse 2 '--speeds: expected 4 speeds with commas between, one of each rank, found 2' \
  place --trace t.npy --ranks 4 --speeds 1,1
refuse 66 'expected speeds with commas between, or the file of --metrics' \
  place --trace t.npy --ranks 4 --speeds 1,2,x,1

# Weights that cannot be read are an input, whatever is written meanwhile.
mkdir parts
cp "$model/config.json" "$model/tokenizer.json" parts
ranks_list='0 3'
refuse 66 'parts: expected model.safetensors' \
  run --model parts --prompts good --output output --overwrite
mkdir parts/model.safetensors
refuse 66 'parts/model.safetensors: expected a regular file' \
  run --model parts --prompts good --output output --overwrite
ranks_list=0
rmdir parts/model.safetensors
mkfifo parts/model.safetensors
refuse 66 'parts/model.safetensors: expected a regular file' \
  run --model parts --prompts good --output output --overwrite
rm parts/model.safetensors
echo '{"weight_map": {"lm_head.weight": "a.safetensors"}}' \
  > parts/model.safetensors.index.json
refuse 66 'names a.safetensors, which is not there' \
  run --model parts --prompts good --output output --overwrite
refuse 66 'names a.safetensors, which is not there' info --model parts
rm -r parts

# A file of weights with more layers than config.json knows of.
mkdir few
ln -s "$model/model.safetensors" "$model/tokenizer.json" few
sed 's/"num_hidden_layers": 6/"num_hidden_layers": 5/' "$model/config.json" \
  > few/config.json
ranks_list='0 3'
refuse 65 'model.layers.5.input_layernorm.weight" and 104 others: expected 5 as' \
  run --model few --prompts good --output output --overwrite
ranks_list=0
refuse 65 'and 104 others: expected 5 as the number of layers' info --model few
rm -r few

# A model that is broken, and one whose tokenizer is not understood.
mkdir broken
cp "$model/config.json" "$model/tokenizer.json" broken
head -c 100000 "$model/model.safetensors" > broken/model.safetensors
refuse 65 'broken/model.safetensors' \
  run --model broken --prompts good --output output --overwrite
rm -r broken
mkdir broken
ln -s "$model/model.safetensors" "$model/config.json" broken
sed 's/"normalizer": null/"normalizer": {"type": "Precompiled"}/' \
  "$model/tokenizer.json" > broken/tokenizer.json
refuse 65 'type "Precompiled" is not supported: give token ids instead' \
  run --model broken --prompts good --output output --overwrite
echo '{"tokens": [1], "max_new_tokens": 2}' > ids
succeed 0 run --model broken --tokens ids --output ids.out
grep -q '"text":' ids.out || complain "expected a text of what can be decoded"
sed '/"decoder"/,/}/s/ByteLevel/CTC/' \
  "$model/tokenizer.json" > broken/tokenizer.json
succeed 0 run --model broken --tokens ids --output ids.out --overwrite
grep -q 'results hold no text' err || complain "expected a warning on text"
cp "$model/tokenizer.json" broken
for config in '{"add_bos_token": 5}' '{' '<html>'; do
  echo "$config" > broken/tokenizer_config.json
  succeed 0 run --model broken --tokens ids --output ids.out --overwrite
  grep -q 'tokenizer_config.json: .*; results hold no text' err ||
    complain "$config: expected a warning on text"
  refuse 65 'broken/tokenizer_config.json: ' \
    run --model broken --prompts good --output output --overwrite
done
rm broken/tokenizer_config.json
rm broken/tokenizer.json
refuse 65 "a text needs the model's tokenizer.json, which is not there" \
  run --model broken --prompts good --output output --overwrite
sed 's/"bos_token_id": 256,//' "$model/config.json" > without
rm broken/config.json
mv without broken/config.json
refuse 65 '--add-bos: broken: expected a bos_token in tokenizer_config.json' \
  run --model broken --tokens ids --output output --overwrite --add-bos yes

# As many experts of a token as a row has room for, and more.
refuse 2 '--experts-per-token: expected an integer from 1 to 64, found "65"' \
  synth --output wide --experts 100 --experts-per-token 65
succeed 0 synth --output wide --layers 1 --hidden 64 --heads 2 --vocab 300 \
  --experts 100 --experts-per-token 64 --expert-width 16
for ranks in 0 2; do
  succeed $ranks run --model wide --prompts good --output "wide.$ranks" \
    --max-new-tokens 3
done
same wide.0 wide.2
for wide in 65 100; do
  sed "s/\"num_experts_per_tok\": 64/\"num_experts_per_tok\": $wide/" \
    wide/config.json > "config.$wide"
  cp "config.$wide" wide/config.json
  refuse 65 "expected at most 64 experts of a token, found $wide" \
    info --model wide
  ranks_list='0 3'
  refuse 65 "expected at most 64 experts of a token, found $wide" \
    run --model wide --prompts good --output output --overwrite
  ranks_list=0
  sed "s/\"num_experts_per_tok\": $wide/\"num_experts_per_tok\": 64/" \
    "config.$wide" > wide/config.json
done

# Results of other requests.
succeed 0 run --prompts good --output other --max-new-tokens 3
for change in '--max-new-tokens 4' '--max-new-tokens 3 --temperature 1' \
  '--max-new-tokens 3 --wire bf16' '--max-new-tokens 3 --kernels ref'; do
  cp other before
  # shellcheck disable=SC2086
  on 0 run --prompts good --output other --resume $change
  [ $? = 65 ] || complain "$change: expected 65"
  grep -q 'other:1: cannot resume: this result was made by another request' \
    err || complain "$change: bad message"
  same other before
done

# What has no effect asks for no other results.
MOERUN_CAPACITY_WINDOW=7 \
  succeed 0 run --prompts good --output other --resume --max-new-tokens 3 \
  --seed 1
same other before
grep -q -- '--seed 1 has no effect here' err || complain "no word of --seed"
lossy='--prompts good --max-new-tokens 3 --capacity 1 --capacity-level expert'
succeed 0 run $lossy --output lossy
cp lossy before
MOERUN_CAPACITY_WINDOW=7 MOERUN_EXPANDED_MOST=3 \
  succeed 0 run $lossy --output lossy --resume --seed 1
same lossy before
on 0 run $lossy --output lossy --resume --capacity-metric hash
[ $? = 65 ] || complain "another --capacity-metric: expected 65"
same lossy before

exit "$failures"
