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

echo "$failures failures"
[ "$failures" = 0 ]
