#!/bin/sh
# Memory before it is taken: the cache holds what the requests need, and ranks
# that would not fit their node end before the first weight is read.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1

# A context of 4 Mi tokens, of which the request needs 7.
succeed 0 synth --output large --layers 2 --hidden 64 --heads 2 --experts 4 \
  --experts-per-token 2 --expert-width 32 --vocab 300 --positions 4194304
echo '{"tokens": [1, 2, 3], "max_new_tokens": 4}' > short
succeed 0 run --model large --tokens short --output out.jsonl --metrics metrics
predicted=$(tr -d ' \n' < metrics |
  sed 's/.*"predicted":{"min":\([0-9]*\).*/\1/')
[ "$predicted" -lt 16777216 ] || complain "predicted $predicted bytes"

# Weights that are not numbers are found when they are read, so a run that ends
# for want of memory has read none.
weights=$(echo large/*.safetensors)
size=$(wc -c < "$weights")
head -c 40000 /dev/zero | tr '\0' '\377' |
  dd of="$weights" conv=notrunc bs=1 seek=$((size - 40000)) 2> /dev/null
on 0 run --model large --tokens short --output no.jsonl
found=$?
[ $found = 65 ] || complain "broken weights: expected 65, found $found"
on 0 run --model large --tokens short --output no.jsonl --node-memory 1
found=$?
[ $found = 71 ] || complain "1 MiB: expected 71, found $found: $(cat err)"
# 1 GiB of keys and values, where there is less address space.
echo '{"tokens": [1, 2, 3], "max_new_tokens": 1048576}' > long
(ulimit -v 1000000 && on 0 run --model large --tokens long --output no.jsonl \
  --memory-check off)
found=$?
[ $found = 71 ] || complain "too large a cache: expected 71, found $found"
grep -q 'out of memory: .*--max-sequences, --kv-tokens' err ||
  complain "too large a cache: $(cat err)"
[ ! -e no.jsonl ] || complain "wrote an output"

# More than the node has for all of its ranks together: one rank fits, three
# do not.
prompts 3 > prompts
succeed 1 run --model "$model" --prompts prompts --output one.jsonl \
  --node-memory 24
on 3 run --model "$model" --prompts prompts --output no.jsonl --node-memory 24
found=$?
[ $found = 71 ] || complain "3 ranks in 24 MiB: expected 71, found $found"
lines=$(grep -c '^moerun: ' err)
[ "$lines" = 1 ] || complain "expected one line, found $lines"
grep -q '3 ranks of this node would take .* --memory-check off goes on' err ||
  complain "3 ranks in 24 MiB: $(cat err)"
[ ! -e no.jsonl ] || complain "wrote an output"
succeed 3 run --model "$model" --prompts prompts --output off.jsonl \
  --node-memory 24 --memory-check off
grep -q 'warning: .*3 ranks of this node' err || complain "expected a warning"
same one.jsonl off.jsonl

# With what the run needs and no more, experts are not moved unasked, rather
# than the run refused; guests get nothing either. What is asked for is named.
few="run --model $model --prompts prompts --output no.jsonl"
for mib in $(seq 30 3 60); do
  on 3 $few --replace-every 0 --guest-memory -1 --node-memory "$mib"
  found=$?
  rm -f no.jsonl
  [ $found = 0 ] && break
done
[ $found = 0 ] || complain "3 ranks in $mib MiB without moving: found $found"
window='--replace-window 400000' # beyond what loading needs for a moment
on 3 $few $window --replace-every 8 --node-memory "$mib"
found=$?
[ $found = 71 ] || complain "in $mib MiB moving should not fit: found $found"
on 3 $few $window --spare-slots 4 --node-memory "$mib"
found=$?
[ $found = 71 ] || complain "$mib MiB, --spare-slots 4: expected 71, found $found"
grep -q -- '--slice-memory, --spare-slots; --memory-check' err ||
  complain "expected --spare-slots to be named: $(cat err)"
succeed 3 run --model "$model" --prompts prompts --output small.jsonl \
  $window --node-memory "$mib" --log-level info
grep -q 'experts stay where they are, also those of slow ranks' err ||
  complain "expected to be told that experts stay: $(cat err)"
same one.jsonl small.jsonl

# info has no requests, and says what it assumes.
succeed 0 info --model large
says 'assumed for --max-sequences 16 of 2048 tokens each'

echo "$failures failures"
[ "$failures" = 0 ]
