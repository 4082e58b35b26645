#!/bin/sh
# Signals that ask a run to end, sent once and sent again and again, and
# processes that were started together and are each alone.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1

prompts 80 | sed 's/"max_new_tokens": [0-9]*/"max_new_tokens": 90/' > prompts
flags="run --model $model --prompts prompts --max-sequences 1"
succeed 0 $flags --output whole

# begin RANKS: a run in the background, until its first line is there. An
# ignored signal stays ignored, as SIGINT is in the background of a script; env
# gives it back.
begin() {
  rm -f out.jsonl
  if [ "$1" = 0 ]; then
    env --default-signal=INT "$moerun" $flags --output out.jsonl > out 2> err &
  else
    $mpiexec "$1" "$moerun" $flags --output out.jsonl > out 2> err &
  fi
  job=$!
  until [ -s out.jsonl ]; do
    kill -0 "$job" || break
    sleep 0.05
  done
}

# ends CODE WORDS: the run stopped with it, and goes on to the same bytes.
ends() {
  wait "$job"
  found=$?
  [ "$found" = "$1" ] || complain "$2: expected $1, found $found"
  cp err err.stopped
  says 'stopped by a signal; the same command with --resume goes on'
  succeed 0 $flags --output out.jsonl --resume
  same whole out.jsonl
}

# The same signal until nobody is left to take it.
for signal in TERM USR1 HUP; do
  begin 0
  while kill -s $signal "$job" 2> /dev/null; do
    sleep 0.01
  done
  ends 75 "SIG$signal again and again"
  [ "$(grep -c 'asked to stop: the run ends after this step' err.stopped)" = 1 ] ||
    complain "SIG$signal: expected one line on stderr"
done

# Ctrl-C once ends as the others do and says what it does.
begin 0
kill -s INT "$job"
ends 75 'SIGINT once'
grep -q 'moerun: Ctrl-C: the run ends after this step.* unfinished' err.stopped ||
  complain 'SIGINT: expected a line on stderr'

# The ranks of a run on several, twice.
begin 3
for again in 1 2 3; do
  for pid in $(pgrep -P "$job"); do
    kill -s TERM "$pid" 2> /dev/null
  done
  sleep 0.05
done
ends 75 'SIGTERM to 3 ranks three times'

# Alone together: refused before anything is written, by one line of one of
# them; allowed by a variable.
rm -f out.jsonl
for rank in 0 1; do
  PMI_SIZE=2 PMI_RANK=$rank "$moerun" $flags --output out.jsonl > out 2> err
  found=$?
  [ $found = 2 ] || complain "alone, process $rank: expected 2, found $found"
  [ ! -e out.jsonl ] || complain "alone, process $rank: wrote its output"
  lines=$(grep -c 'PMI_SIZE is 2, but MPI knows 1 rank here' err)
  [ "$lines" = $((1 - rank)) ] || complain "process $rank: $lines lines"
done
echo '{"prompt": "alone", "max_new_tokens": 2}' > short
PMI_SIZE=2 PMI_RANK=1 MOERUN_ALLOW_SINGLETONS=1 "$moerun" run --model "$model" \
  --prompts short --output out.jsonl > out 2> err ||
  complain "MOERUN_ALLOW_SINGLETONS=1: $(cat err)"

# A profile that is stopped before its first request is finished leaves nothing
# that would be refused where it is read, or stand in the way of the next one.
recording="profile --model $model --prompts prompts --max-sequences 1"
files="--trace early.npy --output early.jsonl --metrics early-metrics.json"
# shellcheck disable=SC2086 # several words
"$moerun" $recording $files --fault rank=0,sleep=50000us > out 2> err &
job=$!
until [ -e early.jsonl ]; do
  kill -0 "$job" || break
  sleep 0.05
done
kill -s TERM "$job"
wait "$job"
found=$?
[ "$found" = 75 ] || complain "a profile stopped early: expected 75, found $found"
grep -q 'nothing was recorded, because no request was finished' err ||
  complain "a profile stopped early says: $(cat err)"
for file in early*; do
  [ ! -e "$file" ] || complain "a profile stopped early: left $file"
done
grep -q 'then 0.00' out && complain 'a latency that was not measured is printed'
echo '{"prompt": "alone", "max_new_tokens": 4}' > short
# shellcheck disable=SC2086 # several words
succeed 0 profile --model "$model" --prompts short $files
[ -s early.npy ] || complain 'a profile after one that was stopped: no trace'

# So does one whose requests are all wrong, but for what is wrong with them.
echo '{"prompt": 5}' > wrong
on 0 profile --model "$model" --prompts wrong --on-error line \
  --trace none.npy --output none.jsonl && complain 'wrong requests: exit code 0'
[ -s none.jsonl ] || complain 'wrong requests: no line says what is wrong'
[ ! -e none.npy ] && [ ! -e none.json ] || complain 'wrong requests: a trace'

# A placement that is found is not lost while a bound for it is searched: the
# first signal makes an end of that.
for signal in TERM INT; do
  rm -f placed err
  env --default-signal=INT "$moerun" place --trace early.npy --train all \
    --ranks 2 --objective cut --bound sdp --bound-time 0 --output placed \
    --json placed.json --overwrite --progress on > out 2> err &
  job=$!
  until grep -qs bounding err; do
    kill -0 "$job" || break
    sleep 0.01
  done
  kill -s $signal "$job"
  wait "$job"
  found=$?
  [ "$found" = 75 ] || complain "place, SIG$signal: expected 75, found $found"
  grep -q 'the placement that was found is written' err ||
    complain "place, SIG$signal: no answer in: $(cat -v err)"
  grep -q 'seed 0' out || complain "place, SIG$signal: no table in: $(cat out)"
  [ -s placed.json ] || complain "place, SIG$signal: no --json"
  succeed 0 place --trace early.npy --train all --ranks 2 --bound none \
    --placement placed
done
# Nor is it where the search for the bound leaves the finite numbers, as it does
# with few tokens.
succeed 0 place --trace early.npy --train all --ranks 8 --objective cut \
  --bound sdp --bound-time 0 --output placed --overwrite
says 'seed 0'

# What writes all at its end has written nothing before.
env --default-signal=INT "$moerun" synth --output big --layers 64 --experts 256 \
  --progress on > out 2> err &
job=$!
until grep -q writing err; do
  kill -0 "$job" || break
  sleep 0.05
done
kill -s INT "$job"
wait "$job"
tail -n 1 err | grep -q 'moerun: Ctrl-C: nothing was written$' ||
  complain "synth: expected a line on Ctrl-C, found: $(cat -v err)"
[ ! -e big ] || complain 'synth: expected no folder'

echo "$failures failures"
[ "$failures" = 0 ]
