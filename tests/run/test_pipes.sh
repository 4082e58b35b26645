#!/bin/sh
# Signals while a run waits at a pipe or loads, and pipes whose reader is gone:
# one line, a documented exit code, and no wait without an end.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1
prompts 3 > prompts
mkfifo in to gone full

# begin RANKS STDIN ARGUMENT...: a run in the background. An ignored signal
# stays ignored, as SIGINT is in the background of a script; env gives it back.
begin() {
  ranks=$1 from=$2
  shift 2
  if [ "$ranks" = 0 ]; then
    env --default-signal=INT "$moerun" run --model "$model" "$@" \
      < "$from" > out 2> err &
  else
    $mpiexec "$ranks" "$moerun" run --model "$model" "$@" \
      < "$from" > out 2> err &
  fi
  job=$!
}

# ends CODE WORDS: within two minutes, with this line and no other but the
# answer to the signal.
ends() {
  tries=0
  while kill -0 "$job" 2> /dev/null && [ $tries -lt 1200 ]; do
    sleep 0.1
    tries=$((tries + 1))
  done
  [ $tries -lt 1200 ] || kill -s KILL "$job"
  wait "$job"
  found=$?
  lines=$(grep '^moerun: ' err | grep -vc ': the run ends ')
  if [ "$found" != "$1" ] || [ "$lines" != 1 ] || ! grep -qF -- "$2" err; then
    complain "expected $1 and '$2', found $found and:"
    cat err
  fi
}

# ---- Prompts that do not come: nothing is written.

for signal in TERM USR1 HUP INT; do
  begin 0 /dev/null --prompts in --output results
  exec 4> in # opens once the run has
  kill -s $signal "$job"
  ends 75 'moerun: in: stopped by a signal while it was waited for'
  exec 4>&-
done
begin 0 in --prompts - --output results
exec 4> in
until ls -l "/proc/$job/fd" 2> /dev/null | grep -q moerun_input; do
  kill -0 "$job" || break
  sleep 0.05
done
kill -s TERM "$job"
ends 75 'moerun: stdin: stopped by a signal while it was waited for'
exec 4>&-
[ ! -e results ] || complain "expected no results of runs that were not begun"

# A writer that comes late, in pieces, is waited for.
begin 0 /dev/null --prompts in --output results
exec 4> in
head -n 1 prompts >&4
sleep 0.3
tail -n +2 prompts >&4
exec 4>&-
wait "$job" || complain "a pipe in pieces: exit status $?: $(cat err)"
succeed 0 run --model "$model" --prompts prompts --output whole
same whole results

# The other ranks wait for longer than they do for each other.
begin 2 /dev/null --prompts in --output slowly --timeout-s 2
exec 4> in
sleep 5
cat prompts >&4
exec 4>&-
wait "$job" || complain "a slow pipe on 2 ranks: exit status $?: $(cat err)"
same whole slowly

# ---- While weights are read: rank 1 alone has the signal, before it begins.

begin 3 /dev/null --prompts in --output loaded
exec 4> in
one=$(for pid in $(pgrep -P "$job"); do
  tr '\0' '\n' < "/proc/$pid/environ" |
    sed -n "s/^\(OMPI_COMM_WORLD_RANK\|PMI_RANK\)=1$/$pid/p"
done)
[ -z "$one" ] || kill -s TERM "$one"
cat prompts >&4
exec 4>&-
if [ -n "$one" ]; then
  ends 75 "moerun: rank 1: $model: stopped by a signal while its weights"
  [ ! -e loaded ] || complain "expected no results of a run that has not begun"
else
  wait "$job"
fi

# ---- Readers that do not come, and one that does not read

begin 0 /dev/null --prompts in --output to
cat prompts > in
sleep 1 # whether it loads or waits by now, it ends
kill -s TERM "$job"
ends 75 'stopped by a signal while'

# What the run starts may hold descriptor 5 for longer: no other pipe is that one.
exec 5<> full
yes | head -c 2000000 | timeout 2 dd of=full bs=4096 oflag=nonblock 2> /dev/null
begin 0 /dev/null --prompts in --output full
cat prompts > in
sleep 1
kill -s TERM "$job"
ends 75 'stopped by a signal while'
exec 5>&-

# Metrics to a pipe: --resume looks for no metrics of the run before in it.
head -n 1 whole > part
cat to > found &
reader=$!
begin 0 /dev/null --prompts prompts --output part --resume --metrics to
tries=0
while kill -0 "$job" 2> /dev/null && [ $tries -lt 1200 ]; do
  sleep 0.1
  tries=$((tries + 1))
done
[ $tries -lt 1200 ] || kill -s KILL "$job"
wait "$job" || {
  complain "--resume --metrics PIPE: exit status $?: $(cat err)"
  kill "$reader" # it has had no writer
}
wait "$reader"
grep -q '"moerun-metrics"' found || complain "no metrics in a pipe"
same whole part

# ---- Readers that are gone

: < gone &
echo '{"prompt": "a", "max_new_tokens": 900}' > long
begin 0 /dev/null --prompts long --output gone
ends 74 'moerun: gone: cannot be written: broken pipe: its reader is gone'
wait
# stdout: the reader goes when it has seen that the run is about to begin.
{
  "$moerun" run --model "$model" --prompts in 2> err
  echo $? > code
} | {
  exec 4> in
  exec < /dev/null
  cat prompts >&4
}
until [ -s code ]; do
  sleep 0.1
done
[ "$(cat code)" = 74 ] || complain "stdout: expected 74, found $(cat code)"
grep -qF 'moerun: stdout: cannot be written: broken pipe' err ||
  complain "stdout: $(cat err)"

echo "$failures failures"
[ "$failures" = 0 ]
