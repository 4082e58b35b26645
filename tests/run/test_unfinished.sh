#!/bin/sh
# Runs that are stopped, or killed, before their first request is finished make
# progress all the same: every token is generated once, the output is that of an
# undisturbed run, and what is kept in between is nobody else's.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1

# Long enough that none of them ends within a round, however slow the machine.
i=0
while [ $i -lt 3 ]; do
  echo "{\"id\": \"p$i\", \"prompt\": \"number $i of the\"," \
    "\"max_new_tokens\": 600, \"temperature\": $((i % 2))}"
  i=$((i + 1))
done > prompts
flags="run --model $model --prompts prompts"
slow="--fault rank=0,sleep=2000us --keep-every 0.01"
succeed 0 $flags --output whole

# tokens FILE: how many its lines have.
tokens() {
  sed -n 's/.*"tokens":\[\([^]]*\)\].*/\1/p' "$1" | tr ',' '\n' | wc -l
}

# metric FILE OBJECT KEY: the number.
metric() {
  sed -n "s/.*\"$2\": {[^}]*\"$3\": \([0-9]*\).*/\1/p" "$1"
}

# begin RANKS ARGUMENT...: in the background, until more tokens are saved than
# there were.
begin() {
  ranks=$1
  shift
  before=0
  [ ! -e part.unfinished ] || before=$(tokens part.unfinished)
  if [ "$ranks" = 0 ]; then
    "$moerun" $flags --output part --metrics metrics $slow "$@" > out 2> err &
  else
    $mpiexec "$ranks" "$moerun" $flags --output part --metrics metrics \
      $slow "$@" > out 2> err &
  fi
  job=$!
  until [ -e part.unfinished ] && [ "$(tokens part.unfinished)" -gt "$before" ]
  do
    kill -0 "$job" || break
    sleep 0.05
  done
}

# signal NAME: to all ranks; the exit code of the job in found.
signal() {
  if [ "$ranks" = 0 ]; then
    kill -s "$1" "$job"
  else
    for pid in $(pgrep -P "$job"); do
      kill -s "$1" "$pid" 2> /dev/null
    done
  fi
  wait "$job"
  found=$?
}

# Stopped on 1, 3 and 2 ranks, then finished on 3.
generated=0
for ranks_of_round in 0 3 2; do
  begin $ranks_of_round --resume --max-sequences $((1 + ranks_of_round % 2))
  signal TERM
  [ $found = 75 ] || complain "$ranks ranks: expected 75, found $found"
  kept=$(tokens part.unfinished)
  says "0 of 3 finished; stopped by a signal; the same command with --resume"
  says "; $kept tokens of"
  [ "$kept" -gt "$before" ] || complain "expected more than $before, found $kept"
  [ "$(metric metrics tokens kept_before)" = "$before" ] &&
    [ "$(metric metrics tokens kept)" = "$kept" ] ||
    complain "expected $before tokens kept before, $kept now: $(cat metrics)"
  generated=$((generated + $(metric metrics tokens generated)))
  [ $generated = "$kept" ] ||
    complain "$kept tokens are kept, but $generated were generated"
done
cp part.unfinished stopped
succeed 3 $flags --output part --resume --metrics metrics
same whole part
[ ! -e part.unfinished ] || complain 'part.unfinished is still there'
generated=$((generated + $(metric metrics tokens generated)))
[ $generated = "$(tokens whole)" ] ||
  complain "$(tokens whole) tokens, but $generated were generated"

# Killed: what was saved last is there.
rm part metrics
begin 2
signal KILL
[ "$found" != 75 ] || complain "SIGKILL: found 75"
kept=$(tokens part.unfinished)
rm -f metrics
succeed 0 $flags --output part --resume --metrics metrics
same whole part
[ "$(metric metrics tokens kept_before)" = "$kept" ] ||
  complain "SIGKILL: expected $kept tokens kept before: $(cat metrics)"

# refused CODE WORDS ARGUMENT...: and nothing was touched.
refused() {
  code=$1 words=$2
  shift 2
  cp part.unfinished untouched
  "$moerun" $flags --output part "$@" > out 2> err
  found=$?
  [ $found = "$code" ] || complain "$*: expected $code, found $found"
  grep -qF -- "$words" err || complain "$*: expected '$words': $(cat err)"
  same untouched part.unfinished
  [ ! -e part ] || complain "$*: wrote its output"
}

# Somebody else's, and those of another run.
rm part
echo 'my notes' > part.unfinished
refused 65 'part.unfinished: cannot resume: expected unfinished requests of' \
  --resume
refused 65 'part.unfinished: exists already: --resume goes on with it'
refused 2 '(./part.unfinished) and the .unfinished beside --output' \
  --metrics ./part.unfinished --overwrite
cp stopped part.unfinished
refused 65 'cannot resume: what this line keeps was made by another request' \
  --resume --top-p 0.5
succeed 0 $flags --output part --overwrite
same whole part
[ ! -e part.unfinished ] || complain '--overwrite: part.unfinished is there'

# Damaged: one warning, and the requests begin anew.
for how in 's/"index":1,"tokens":\[\([0-9]*\)/&0/' '$s/...$//' '3,4d;2s/$/x/'; do
  rm part
  sed "$how" stopped > part.unfinished
  succeed 0 $flags --output part --resume
  same whole part
  [ "$(grep -c 'part.unfinished: 1 of its lines are damaged' "$scratch/err")" = 1 ] ||
    complain "$how: expected one warning: $(cat "$scratch/err")"
done

echo "$failures failures"
[ "$failures" = 0 ]
