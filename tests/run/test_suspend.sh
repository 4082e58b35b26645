#!/bin/sh
# A whole job that is stopped for longer than its time limit, and continued,
# goes on (scontrol suspend, Ctrl-Z, a closed lid); one rank that stays stopped
# ends it, and is named.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1

prompts 80 | sed 's/"max_new_tokens": [0-9]*/"max_new_tokens": 90/' > prompts
flags="run --model $model --prompts prompts --max-sequences 1"
succeed 0 $flags --output whole

# begin SECONDS: three ranks with that time limit, until the first line is there.
begin() {
  $mpiexec 3 "$moerun" $flags --output out.jsonl --overwrite --timeout-s "$1" \
    > out 2> err &
  job=$!
  until [ -s out.jsonl ]; do
    kill -0 "$job" || break
    sleep 0.05
  done
  ranks=$(pgrep -P "$job")
}

for again in 1 2; do
  begin 3
  kill -s STOP $ranks
  sleep 5
  kill -s CONT $ranks
  wait "$job" || complain "stopped and continued: exit status $?: $(cat err)"
  same whole out.jsonl
  rm out.jsonl
done

begin 3
last=$(for pid in $ranks; do
  tr '\0' '\n' < "/proc/$pid/environ" | sed -n "s/^\(OMPI_COMM_WORLD_RANK\|PMI_RANK\)=2$/$pid/p"
done)
if [ -n "$last" ]; then
  kill -s STOP "$last"
  wait "$job"
  found=$?
  [ $found = 77 ] || complain "rank 2 stopped: expected 77, found $found"
  [ "$(grep -c '^moerun: ' err)" = 1 ] ||
    complain "rank 2 stopped: expected one line, found: $(cat err)"
  grep -q 'no answer within 3 s from rank [0-9]' err || {
    complain "rank 2 stopped: expected a line that names a rank in:"
    cat err
  }
  kill -s KILL "$last" 2> /dev/null
else
  kill "$job"
fi

echo "$failures failures"
[ "$failures" = 0 ]
