#!/bin/sh
# Bad input through the whole program on 3 ranks: one line that says what was
# wrong and what was expected, the documented exit code on all ranks, and the
# output file untouched.
# Arguments: the program, the model, a folder for scratch, the launcher, its flag
# for the number of ranks, more flags.
set -u
moerun=$1 model=$2 scratch=$3 launcher=$4 ranks_flag=$5
shift 5
rm -rf "$scratch"
mkdir -p "$scratch"
failures=0
prompts=$scratch/prompts.jsonl
output=$scratch/output.jsonl
echo '{"prompt": "In the beginning"}' > "$prompts"
launch="$launcher $ranks_flag 3 $*"

# refuse CODE WORDS MODEL ARGUMENT...: the run must end with CODE on all ranks and
# exactly one line of ours, containing WORDS.
export MOERUN_MAX_NEW_TOKENS=4 # a line may have another number
refuse() {
  code=$1 words=$2 dir=$3
  shift 3
  echo 'kept as it is' > "$output"
  # The launcher ends with the code of a rank only if all exit by themselves.
  $launch "$moerun" run --model "$dir" --output "$output" --overwrite \
    --progress off "$@" > "$scratch/out" 2> "$scratch/err"
  found=$?
  grep '^moerun: ' "$scratch/err" | grep -v 'memory of a rank' > "$scratch/said"
  lines=$(grep -c . "$scratch/said")
  [ "$lines" = 1 ] || found="$found with $lines lines"
  if [ "$found" != "$code" ] || ! grep -qF -- "$words" "$scratch/said"; then
    echo "$*: expected $code and '$words', found $found and:"
    cat "$scratch/err"
    failures=$((failures + 1))
  fi
  [ "$(cat "$output")" = 'kept as it is' ] || {
    echo "$*: the output file was touched"
    failures=$((failures + 1))
  }
}

# copy NAME: a model of its own to spoil, in dir.
copy() {
  dir=$scratch/$1
  mkdir -p "$dir"
  cp "$model"/config.json "$model"/generation_config.json "$model"/tokenizer.json \
    "$model"/model.safetensors "$dir"
}

with_prompts() { # with_prompts LINE: a prompt file of that line
  printf '%s\n' "$1" > "$scratch/bad.jsonl"
}

refuse 66 'config.json' "$scratch/nowhere" --prompts "$prompts"
refuse 66 'nowhere.jsonl' "$model" --prompts "$scratch/nowhere.jsonl"

copy truncated
head -c 5000000 "$model/model.safetensors" > "$dir/model.safetensors"
refuse 65 'model.safetensors' "$dir" --prompts "$prompts"
copy header
printf '\377\377\377\377\377\377\377\177' |
  dd of="$dir/model.safetensors" conv=notrunc 2> /dev/null
refuse 65 'model.safetensors' "$dir" --prompts "$prompts"
copy nan
size=$(wc -c < "$dir/model.safetensors")
dd if=/dev/zero bs=1000000 count=2 2> /dev/null | tr '\0' '\377' |
  dd of="$dir/model.safetensors" conv=notrunc bs=1000 seek=$((size / 1000 - 2000)) 2> /dev/null
refuse 65 'NaN' "$dir" --prompts "$prompts"
copy shape
sed 's/"moe_intermediate_size": 64/"moe_intermediate_size": 96/' "$model/config.json" > "$dir/config.json"
refuse 65 'expected' "$dir" --prompts "$prompts"
copy duplicate
sed 's/"hidden_size": 128,/"hidden_size": 128, "hidden_size": 128,/' "$model/config.json" > "$dir/config.json"
refuse 65 'duplicate' "$dir" --prompts "$prompts"
copy unknown
sed 's/qwen3_moe/gpt_neox/' "$model/config.json" > "$dir/config.json"
refuse 65 'gpt_neox' "$dir" --prompts "$prompts"
copy tokenizer
echo '{"model": {"type": "Unigram"}}' > "$dir/tokenizer.json"
refuse 65 'tokenizer.json' "$dir" --prompts "$prompts"

with_prompts '{"prompt": "x", "tempurature": 1}'
refuse 65 'tempurature' "$model" --prompts "$scratch/bad.jsonl"
with_prompts '{"prompt": "x"'
refuse 65 'bad.jsonl' "$model" --prompts "$scratch/bad.jsonl"
with_prompts '{"tokens": [1, 99999]}'
refuse 65 '99999' "$model" --prompts "$scratch/bad.jsonl"
with_prompts '{"prompt": "x", "max_new_tokens": 5000}'
refuse 65 '5000' "$model" --prompts "$scratch/bad.jsonl"
with_prompts '{"prompt": "x", "prompt": "y"}'
refuse 65 'duplicate' "$model" --prompts "$scratch/bad.jsonl"
with_prompts '{"id": 1, "prompt": "x"}
{"id": 1, "prompt": "y"}'
refuse 65 'id' "$model" --prompts "$scratch/bad.jsonl"

echo '{"format":"moerun-placement","version":1,"num_layers":6,"num_experts":32,"num_ranks":2,"layers":[]}' > "$scratch/placement.json"
refuse 65 'placement.json' "$model" --prompts "$prompts" --placement "$scratch/placement.json"
refuse 2 'temperature' "$model" --prompts "$prompts" --temperature -1
refuse 2 'kernels' "$model" --prompts "$prompts" --kernels mmx
refuse 2 'transport' "$model" --prompts "$prompts" --transport self

echo "$failures failures"
[ "$failures" = 0 ]
