#!/bin/sh
# Weights that are others than before, or than on another rank: results of two
# models never stand in one file. CHANGE_WEIGHTS names that program.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1

# copy FOLDER [TENSOR]: the demo's model, with the signs of some tensors changed.
copy() {
  rm -rf "$1"
  mkdir -p "$1"
  cp "$model"/*.json "$model/model.safetensors" "$1"
  chmod u+w "$1"/*
  [ $# = 1 ] || "$CHANGE_WEIGHTS" "$1/model.safetensors" "$2" sign \
    > /dev/null || complain "$2: nothing was changed"
}

# ends WORDS: with 65 and one line that says so; the status of `on` is in found.
ends() {
  grep '^moerun: ' err > said
  if [ "$found" != 65 ] || [ "$(wc -l < said)" != 1 ] ||
    ! grep -qF -- "$1" said; then
    complain "expected 65 and '$1', found $found and:"
    cat err
  fi
}

for i in 0 1 2 3; do
  echo "{\"id\": \"p$i\", \"prompt\": \"number $i of the\"}"
done > p
copy m
set -- --prompts p
succeed 0 run --model m "$@" --output whole
head -n 2 whole > half

# The same weights, on one rank and on three; a copy is no other model.
copy elsewhere
for ranks in 0 3; do
  cp half part
  succeed $ranks run --model elsewhere "$@" --output part --resume
  same whole part
done

# Weights that were tuned: experts, gates, norms, attention, the embedding.
for tensor in mlp.experts.17. layers.3.mlp.experts.5.up_proj mlp.gate.weight \
  model.norm.weight layers.2.self_attn.o_proj embed_tokens; do
  copy m "$tensor"
  for ranks in 0 3; do
    cp half part
    on $ranks run --model m "$@" --output part --resume
    found=$?
    ends 'part: cannot resume: these results were made with other weights'
    same half part
  done
done

# Nothing is left: the weights are not read, which is said.
cp whole all
MOERUN_LOG_LEVEL=info on 0 run --model m "$@" --output all --resume
found=$?
[ $found = 0 ] || complain "nothing left: expected 0, found $found"
grep -q 'weights were not read' err || complain 'nothing left: not said'
same whole all

# Lines of two models, and lines of versions whose digest was of samples.
copy m mlp.gate.weight
succeed 0 run --model m "$@" --output other
{ head -n 1 whole && sed -n 2p other; } > mixed
cp mixed part
on 0 run --model m "$@" --output part --resume
found=$?
ends 'part:2: cannot resume: this result was made with other weights than those before it'
same mixed part
sed 's/\("digest":"[0-9a-f]\{16\}\)[0-9a-f]*/\1/' half > old
cp old part
on 0 run --model m "$@" --output part --resume
found=$?
ends 'part:1: cannot resume: digest: expected 32 digits, found 16'
same old part

# Another copy of the model on the node of rank 1: a rank's number chooses the
# folder that it works in. Rank 0 reads and writes beside its own copy.
cat > as_node << 'S'
#!/bin/sh
rank=${OMPI_COMM_WORLD_RANK:-${PMI_RANK:-${PMIX_RANK:?}}}
cd "node$rank" && exec "$@"
S
chmod +x as_node
real=$moerun
moerun=$scratch/as_node
for tensor in model.norm.weight mlp.gate.weight mlp.experts.17. \
  layers.5.mlp.experts.0.down_proj layers.0.mlp.experts.30.; do
  for rank in 0 1 2; do
    copy node$rank/m
  done
  copy node1/m "$tensor"
  cp p node0
  on 3 "$real" run --model m "$@" --output b
  found=$?
  ends 'rank 1: m: expected the weights that rank 0 has, found others'
  [ ! -e node0/b ] || complain "$tensor: something was written"
done
copy node1/m
# Another tokenizer there would end requests elsewhere: it counts for stops.
sed 's/"a":/"a_":/; s/"b":/"a":/; s/"a_":/"b":/' "$model/tokenizer.json" \
  > node1/m/tokenizer.json
cmp -s node0/m/tokenizer.json node1/m/tokenizer.json &&
  complain 'tokenizer.json: nothing was changed'
on 3 "$real" run --model m "$@" --output b --stop the
found=$?
ends 'rank 1: m: expected tokenizer.json as on rank 0, found another'
[ ! -e node0/b ] || complain 'another tokenizer: something was written'
copy node1/m
on 3 "$real" run --model m "$@" --output b
found=$?
[ $found = 0 ] || complain "equal copies: expected 0, found $found"
same whole node0/b

exit "$failures"
