#!/bin/sh
# Rank 0's configuration is that of all ranks, which may run where neither the
# file nor the variables are; a mistake in it ends all of them with one line.
# Arguments: the program, the model, a folder for scratch, the launcher, its flag
# for the number of ranks, more flags.
set -u
moerun=$1 model=$2 scratch=$3 launcher=$4 ranks_flag=$5
shift 5
rm -rf "$scratch"
mkdir -p "$scratch"
failures=0

echo '{"prompt": "In the beginning"}' > "$scratch/prompts.jsonl"
cat > "$scratch/moerun.conf" << END
model = $model
prompts = $scratch/prompts.jsonl  # three kinds of source
wire = bf16
max_new_tokens = 99
progress = off
END

# start ARGUMENT... on rank 0 with the file and a variable, 2 ranks with nothing.
start() {
  "$launcher" $flags "$ranks_flag" 1 env MOERUN_CONFIG="$scratch/moerun.conf" \
    MOERUN_MAX_NEW_TOKENS=8 "$moerun" run "$@" : \
    "$ranks_flag" 2 "$moerun" run > "$scratch/out" 2> "$scratch/err"
}
flags=$*

start --output "$scratch/three.jsonl" --max-tokens 40 || {
  echo "3 ranks, one of them configured: failed"
  cat "$scratch/err"
  failures=1
}
MOERUN_CONFIG="$scratch/moerun.conf" "$moerun" run --max-new-tokens 8 \
  --output "$scratch/one.jsonl" > "$scratch/out" 2>&1 || failures=1
cmp "$scratch/one.jsonl" "$scratch/three.jsonl" || failures=1
grep -q '"tokens":\[\([0-9]*,\)\{7\}[0-9]*\]' "$scratch/one.jsonl" || {
  echo "expected 8 tokens, as the variable says"
  failures=1
}

echo 'wires = bf16' >> "$scratch/moerun.conf"
start --output "$scratch/other.jsonl"
code=$?
if [ $code != 2 ] || [ "$(grep -c '^moerun: ' "$scratch/err")" != 1 ] ||
  ! grep -q 'conf:6: expected a configuration key, found "wires"' "$scratch/err"
then
  echo "a bad file on rank 0: expected 2 and one line, found $code and:"
  cat "$scratch/err"
  failures=1
fi
exit $failures
