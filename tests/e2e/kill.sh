#!/bin/sh
# Promise 3: a rank that dies (SIGKILL), or a run that is asked to stop (SIGTERM,
# SIGUSR1), ends all ranks within 10 s and loses nothing: resumed as often as it
# takes, the run writes the very bytes of an undisturbed one.
# Arguments: the program, the model, a folder for scratch, the number of
# interruptions, the launcher, its flag for the number of ranks, more flags.
# The delays come from MOERUN_TEST_SEED (printed); where they land is the
# machine's, the property holds wherever.
set -u
moerun=$1 model=$2 scratch=$3 rounds=$4 launcher=$5 ranks_flag=$6
shift 6
seed=${MOERUN_TEST_SEED:-20240501}
unset MOERUN_TEST_SEED # the program takes no variables that it does not know
echo "seed $seed"
rm -rf "$scratch"
mkdir -p "$scratch"
prompts=$scratch/prompts.jsonl
awk 'BEGIN {
  for (i = 0; i < 40; i++)
    printf "{\"id\": \"r%d\", \"prompt\": \"Request number %d of the book of the\", \"max_new_tokens\": %d, \"temperature\": 0.8, \"seed\": %d}\n", i, i, 80 + i * 9 % 50, i
}' > "$prompts"

start() { # start OUTPUT RANKS ARGUMENT...: the job in the background, its pid in job
  output=$1 ranks=$2
  shift 2
  "$launcher" "$ranks_flag" "$ranks" $flags "$moerun" run --model "$model" \
    --prompts "$prompts" --output "$output" --max-sequences 1 \
    --timeout-s 60 --progress off "$@" > "$scratch/out" 2> "$scratch/err" &
  job=$!
}
flags=$*

fail() {
  echo "FAILED: $*"
  cat "$scratch/err"
  exit 1
}

# wait_ended: waits for the job, at most 10 s; its exit status in status.
wait_ended() {
  ticks=0
  while kill -0 "$job" 2> /dev/null; do
    [ "$ticks" -lt 100 ] || { kill -9 "$job"; fail "still running after 10 s"; }
    sleep 0.1
    ticks=$((ticks + 1))
  done
  wait "$job"
  status=$?
}

# The ranks of the job: processes of the program below the launcher.
ranks_of() {
  pgrep -P "$1" 2> /dev/null | while read -r child; do
    case $(cat "/proc/$child/comm" 2> /dev/null) in
    moerun) echo "$child" ;;
    *) ranks_of "$child" ;;
    esac
  done
}

is_alive() { # a zombie is not
  state=$(sed -n 's/^State:[[:space:]]*//p' "/proc/$1/status" 2> /dev/null)
  case $state in '' | Z*) return 1 ;; esac
}

began=$(date +%s%N)
start "$scratch/undisturbed.jsonl" 2
wait "$job" || fail "the undisturbed run"
centiseconds=$((($(date +%s%N) - began) / 10000000))

draw() { # draw BELOW: the next number of the sequence, in drawn
  seed=$(((seed * 1103515245 + 12345) % 2147483648))
  drawn=$((seed / 65536 % $1))
}

# interrupt: a signal to one of the ranks, somewhere between the start and the
# end of an undisturbed run; nothing of the job is left 10 s later.
interrupt() {
  draw "$centiseconds"
  hundredths=0
  while [ "$hundredths" -lt "$drawn" ] && kill -0 "$job" 2> /dev/null; do
    sleep 0.1
    hundredths=$((hundredths + 10))
  done
  victims=$(ranks_of "$job")
  count=$(echo "$victims" | grep -c .)
  [ "$count" -gt 0 ] || return 0
  draw "$count"
  victim=$(echo "$victims" | sed -n "$((drawn + 1))p")
  case $((interruptions % 3)) in
  0) signal=KILL ;;
  1) signal=TERM ;;
  2) signal=USR1 ;;
  esac
  kill -s "$signal" "$victim" 2> /dev/null || return 0
  interruptions=$((interruptions + 1))
  pending=1
  before=$(date +%s)
  wait_ended
  lines=$(grep -c . "$output" 2> /dev/null || :)
  echo "$signal to one of $count: exit $status, ${lines:-0} of 40 there"
  case $signal,$status in
  *,0 | *,75) ;; # just finished; stopped at a step
  KILL,*) grep -q -e 'signal 9' -e 'Killed' "$scratch/err" ||
    fail "the message does not tell of the dead rank" ;;
  TERM,143 | USR1,138) ;; # before the handler was there
  *) fail "exit $status after $signal" ;;
  esac
  for pid in $victims; do
    while is_alive "$pid"; do
      [ $(($(date +%s) - before)) -le 10 ] || fail "process $pid is left over"
      sleep 0.1
    done
  done
}

interruptions=0
attempts=0
complete=0
pending=1
output=$scratch/disturbed.jsonl
while [ "$interruptions" -lt "$rounds" ] || [ "$pending" = 1 ]; do
  attempts=$((attempts + 1))
  [ "$attempts" -le $((rounds * 5)) ] || fail "not done after $attempts attempts"
  draw 4
  start "$output" $((drawn + 1)) --resume
  status=running
  [ "$interruptions" -ge "$rounds" ] || interrupt
  if [ "$status" = running ]; then
    wait "$job"
    status=$?
    [ "$status" = 0 ] || fail "exit $status of a run that nobody interrupted"
  fi
  if [ "$status" = 0 ]; then
    cmp "$scratch/undisturbed.jsonl" "$output" || fail "the outputs differ"
    complete=$((complete + 1))
    pending=0
    rm "$output"
  fi
done
echo "$complete runs with the same bytes, $interruptions interruptions, $attempts starts"
