#!/bin/sh
# What info says of a model, counted a second time from the model's files: of all
# architectures, whose layers differ in what they have.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1

# elements FILE: of all tensors, 2 bytes each, behind a header whose length is in
# the first 8 bytes.
elements() {
  header=$(od -An -tu8 -N8 "$1" | tr -d ' ')
  echo $((($(wc -c < "$1") - 8 - header) / 2))
}

# A token meets 2 of the 6 experts of each layer that has experts.
for options in "qwen3_moe" "qwen3_moe --dense-layers 1 --tied" "mixtral" "olmoe" \
  "qwen2_moe --shared-experts 3" "dots1 --dense-layers 1 --shared-experts 2" \
  "qwen3_moe --constant-experts 3 --zero-experts 2"; do
  # shellcheck disable=SC2086 # several words
  succeed 0 synth --output m --overwrite --arch $options --dtype bf16 \
    --layers 3 --hidden 512 --heads 8 --experts 6 --experts-per-token 2 \
    --expert-width 128 --vocab 3000
  layers=3
  case $options in
  *--dense-layers*) layers=2 ;;
  esac
  all=$(elements m/model*.safetensors)
  met=$((all - layers * 4 * 3 * 512 * 128))
  wanted=$(awk -v a="$all" -v b="$met" 'BEGIN {
    printf "%.1f million, %.1f million of them for one token", a / 1e6, b / 1e6
  }')
  succeed 0 info --model m
  says "parameters    $wanted"
  says "layers        3, $layers of them with experts"
  says 'experts       6 a layer, 2 a token, width 128'
  says 'hidden width  512'
  says 'heads of width'
  says 'vocabulary    3000'
done
says 'and           2 zero experts, computed at home'
says 'and           3 constant experts, computed at home'

# Whether it fits: ranks of the same size, so that the largest one counted so
# often is the sum.
fixed="info --model $model --ranks 4 --guest-memory -1 --replace-every 0"
# shellcheck disable=SC2086 # several words
on 0 $fixed
peak=$(awk '$1 == "peak" { print int($4) + 1 }' "$scratch/out")
says 'verdict   fits: all 4 ranks on one node take '
says 'the node that info runs on has '
says '--node-memory MIB asks of other nodes'
# shellcheck disable=SC2086 # several words
succeed 0 $fixed --node-memory $((4 * peak))
says 'verdict   fits: all 4 ranks'
for held in 0 1 3; do
  # shellcheck disable=SC2086 # several words
  succeed 0 $fixed --node-memory $((held * peak + 1))
  says 'verdict   does not fit: all 4 ranks'
  says "so that one like it holds $held of them"
done
# A run gives guests and spare slots what is left, and fits.
run=$((4 * peak))
succeed 0 info --model "$model" --ranks 4 --node-memory $run
says 'verdict   fits: '
# What the model can be given beside ids.
says 'tokenizer     reads and writes texts'
says 'chat template for conversations'
succeed 0 info --model m
says 'chat template none'
rm m/tokenizer.json
succeed 0 info --model m
says 'tokenizer     none that is read, for token ids alone: m/tokenizer.json'
# A launcher says how many ranks the run would have.
succeed 3 info --model "$model"
says 'memory per rank, 3 ranks, placement block'
says 'as many ranks as a launcher has started'
succeed 3 info --model "$model" --ranks 2
says 'memory per rank, 2 ranks, placement block'

echo "$failures failures"
[ "$failures" = 0 ]
