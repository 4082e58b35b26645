#!/bin/sh
# The examples, which use the public interface alone, on the demo model: what
# they print is the same for every number of ranks.
# Arguments: the folder of the examples, the model, the words that start ranks
# up to and including the flag for their number, further flags.
set -eu
folder=$1 model=$2 start=$3 count_flag=$4
shift 4

# ranks R PROGRAM ARGUMENT...
ranks() {
  number=$1
  shift
  # shellcheck disable=SC2086 # flags are words
  "$start" "$count_flag" "$number" $flags "$@"
}
flags=$*

fail() {
  echo "$1: expected '$2', found '$3'" >&2
  exit 1
}

rows=$("$folder/moerun_step1" "$model")
[ "$(echo "$rows" | grep -c '^row [012]: ')" = 3 ] ||
  fail step1 "three rows" "$rows"
if echo "$rows" | grep -iq nan; then fail step1 "numbers" "$rows"; fi

# Rank 0 has the same row in both worlds, rank 1 the same two.
two=$(ranks 2 "$folder/moerun_step2" "$model" | sort)
three=$(ranks 3 "$folder/moerun_step2" "$model" | sort | head -n 2)
[ "$two" = "$three" ] || fail step2 "$two" "$three"

one=$("$folder/moerun_step3" "$model" 12 256 65 110 100)
[ "$(echo "$one" | wc -w)" = 12 ] || fail step3 "12 ids" "$one"
for number in 2 3; do
  more=$(ranks "$number" "$folder/moerun_step3" "$model" 12 256 65 110 100)
  [ "$one" = "$more" ] || fail "step3 on $number ranks" "$one" "$more"
done

# An id that the model has not: one line, and nothing that looks like a token.
ids=$("$folder/moerun_step3" "$model" 5 999999 2> /dev/null) && code=0 || code=$?
[ "$code $ids" = '1 ' ] || fail "step3 of an unknown id" '1 and no id' "$code $ids"

# Its own gate and experts: every point goes through two experts, the answer is
# the same in both rounds and on every number of ranks, and the second round is
# more even.
# of WORDS: the last word of the line of rank 0 that begins so.
of() { echo "$points" | sed -n "s/^$1: $2 //p"; }
# computed ROUND: rows through experts, all ranks together.
computed() {
  echo "$points" | sed -n "s/^$1: rank .*, \([0-9]*\) computed$/\1/p" |
    awk '{ sum += $1 } END { print sum }'
}
error=
for number in 1 2 4; do
  points=$(ranks "$number" "$folder/moerun_step4" 600)
  for round in blocks placed; do
    found=$(of $round 'largest error')
    [ "$found" = "${error:=$found}" ] ||
      fail "step4 on $number ranks, $round" "$error" "$found"
    [ "$(computed $round)" = 1200 ] ||
      fail "step4 on $number ranks, $round" "1200 rows" "$points"
  done
  hosted=$(echo "$points" | sed -n 's/^experts of rank .*: //p' | tr ' ' '\n' |
    sort -n | tr '\n' ' ')
  [ "$hosted" = "$(seq -s ' ' 0 $(($(echo "$hosted" | wc -w) - 1))) " ] ||
    fail "step4 on $number ranks" "each expert on one rank" "$hosted"
  before=$(of blocks 'busiest rank') after=$(of placed 'busiest rank')
  [ "$after" -lt "$before" ] || [ "$number" = 1 ] ||
    fail "step4 on $number ranks" "fewer than $before rows" "$after"
done
case $error in
0.[01]*) ;;
*) fail step4 "an error below 0.2" "$error" ;;
esac
for argument in 0 x 100001 '1 2'; do
  # shellcheck disable=SC2086 # words
  said=$("$folder/moerun_step4" $argument 2>&1 > /dev/null) && code=0 || code=$?
  [ "$code $said" = "2 usage: step4 [POINTS] (1 to 100000)" ] ||
    fail "step4 $argument" "2 usage: step4" "$code $said"
done

# Without arguments, or with one too many: the usage, exit status 2.
for step in 1 2 3; do
  for arguments in '' '--help' "$model 1 x y"; do
    # shellcheck disable=SC2086 # words
    said=$("$folder/moerun_step$step" $arguments 2>&1 > /dev/null) && code=0 ||
      code=$?
    case "$code $said" in
    "2 usage: step$step MODEL_DIR"*) ;;
    *) fail "step$step $arguments" "2 usage: step$step MODEL_DIR" "$code $said" ;;
    esac
  done
done

# A folder that is not there: exit status 1, one line.
lines=$(ranks 2 "$folder/moerun_step2" nowhere 2>&1 > /dev/null &&
  echo "no failure") || true
echo "$lines" | grep -q 'step2: .*nowhere/config.json: cannot be opened' ||
  fail "step2 without a model" "a line that names the file" "$lines"
