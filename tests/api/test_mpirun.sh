#!/bin/sh
# launch/mpirun.sh: one line where a rank has said what is wrong, all of Open
# MPI's where none has; exit codes, stdin and signals pass. Exit status 77
# (skipped) where mpirun is not Open MPI's.
# A signal that asks a run to end reaches it once, however often it was sent;
# nothing is lost and no process left.
# Arguments: the source tree, the program, a folder for scratch.
set -u
wrapper=$1/launch/mpirun.sh moerun=$2 scratch=$3
case $(mpirun --version 2> /dev/null) in
*"Open MPI"*) ;;
*)
  echo "skipped: mpirun is not Open MPI's"
  exit 77
  ;;
esac
rm -rf "$scratch"
mkdir -p "$scratch"
failures=0

complain() {
  echo "$*"
  failures=$((failures + 1))
}

# on RANKS ARGUMENT...
on() {
  timeout 50 "$wrapper" -n "$@" > "$scratch/out" 2> "$scratch/err"
}

expect() { # expect CODE FOUND LINES: exit code, and lines on stderr
  [ "$1" = "$2" ] || complain "expected exit code $1, found $2"
  [ "$3" = "$(wc -l < "$scratch/err")" ] || {
    complain "expected $3 lines on stderr, found:"
    cat "$scratch/err"
  }
}

on 3 "$moerun" run --model "$scratch/nowhere" --prompts x
expect 66 $? 1
grep -q '^moerun: .*config.json: cannot be opened' "$scratch/err" ||
  complain "expected the line of the program"

# What mpirun says, and what a program says in a frame, is not ours to hide.
on 2 sh -c 'exit 3'
code=$?
[ $code = 3 ] || complain "expected exit code 3, found $code"
grep -q '^a non-zero exit code' "$scratch/err" || complain "expected mpirun's"
frame=$(printf '%074d' 0 | tr 0 -)
on 1 sh -c "printf 'moerun: x\\n%s\\nwords\\n%s\\nopen\\n%s\\nend' $frame $frame \
  $frame >&2"
expect 0 $? 7
grep -qx words "$scratch/err" || complain "expected a frame of a program"
[ "$(tail -n 1 "$scratch/err")" = end ] || complain "expected an open frame"

# A frame that stays open is given up after 40 lines: what comes behind it is
# heard, and mpirun's words are left out.
on 1 sh -c "{ echo $frame; i=0; while [ \$i -lt 50 ]; do echo \$i
  i=\$((i + 1)); done
  printf 'moerun: x\n%s\nMPI_ABORT was invoked on rank 0\n%s\n' $frame $frame
  } >&2; exit 77"
expect 77 $? 52
grep -qx 49 "$scratch/err" || complain "expected the lines of an open frame"
! grep -q MPI_ABORT "$scratch/err" || complain "expected mpirun's to be left out"

# Who is ended from outside is told how to go on, where that is possible.
hint='^mpirun.sh: the run was ended from outside; the same command with --resume'
for words in 'run --output o' 'run --model m --output=o'; do
  # shellcheck disable=SC2016,SC2086 # for the inner shell; words
  on 1 sh -c 'kill -KILL $$' moerun $words
  [ $? = 137 ] || complain "expected exit code 137 after SIGKILL"
  grep -q "$hint" "$scratch/err" || complain "$words: expected a hint"
done
for words in 'run --metrics m' 'place --output o'; do
  # shellcheck disable=SC2016,SC2086 # for the inner shell; words
  on 1 sh -c 'kill -KILL $$' moerun $words
  [ $? = 137 ] || complain "expected exit code 137 after SIGKILL"
  ! grep -q "$hint" "$scratch/err" || complain "$words: expected no hint"
done

# With --overwrite there is no --resume, and it may stand there already.
for words in 'run --output o --overwrite,with --resume in place of --overwrite ' \
  'run --output o --resume,again '; do
  # shellcheck disable=SC2016,SC2086 # for the inner shell; words
  on 1 sh -c 'kill -KILL $$' moerun ${words%,*}
  grep -q "same command ${words#*,}goes on" "$scratch/err" ||
    complain "$words: found $(cat "$scratch/err")"
done
# Nobody from outside: mpirun says what it was.
for words in --bogus "$scratch/nowhere"; do
  on 1 "$words" moerun run --output o
  [ $? != 0 ] && grep -q '^[Mm]pirun' "$scratch/err" &&
    ! grep -q "$hint" "$scratch/err" ||
    complain "$words: expected no hint, found $(cat "$scratch/err")"
done

# Its words are left out also where they come before the line of a rank, and
# where the code alone says that the run was stopped.
on 1 sh -c "printf '%s\\nMPI_ABORT was invoked on rank 0\\n%s\\nmoerun: x\\n' \
  $frame $frame >&2; exit 77"
expect 77 $? 1
on 2 sh -c 'exit 75'
expect 75 $? 0

# Usage and help are what a program says, too.
on 2 "$moerun"
code=$?
[ $code = 2 ] && ! grep -q '^a non-zero exit' "$scratch/err" ||
  complain "moerun alone: expected its help, found $code: $(cat "$scratch/err")"

# Who reads no further has seen enough, of either stream.
# shellcheck disable=SC2016 # for the inner shell
lines='i=0; while [ $i -lt 40 ]; do echo $i; echo $i >&2; i=$((i + 1))
  sleep 0.02; done; echo all > "$0"'
{ timeout 50 "$wrapper" -n 1 sh -c "$lines" "$scratch/all" 2> /dev/null
  echo $? > "$scratch/code"; } | head -n 1 > "$scratch/out"
[ "$(cat "$scratch/out" "$scratch/code" "$scratch/all" | tr '\n' ' ')" = \
  '0 0 all ' ] || complain "a reader of stdout that goes: $(cat "$scratch/code")"
rm "$scratch/all"
{ timeout 50 "$wrapper" -n 1 sh -c "$lines" "$scratch/all" 2>&1 > /dev/null
  echo $? > "$scratch/code"; } | head -n 1 > "$scratch/out"
[ "$(cat "$scratch/out" "$scratch/code" "$scratch/all" | tr '\n' ' ')" = \
  '0 0 all ' ] || complain "a reader of stderr that goes: $(cat "$scratch/code")"

echo through > "$scratch/in"
on 1 cat < "$scratch/in"
expect 0 $? 0
[ "$(cat "$scratch/out")" = through ] || complain "expected stdin to pass"

# The redraws of a progress line lose their line feeds and are taken away before
# other lines, which keep theirs, and at the end.
on 1 sh -c 'e="\033[K"
  printf "\rone$e\n\rtwo$e\nthree\n\r$e\nfour\n\rfive\n\rsix$e\n" >&2'
expect 0 $? 3
[ "$(tr '\r\n\033' '+/_' < "$scratch/err")" = \
  '+one_[K+two_[K+_[Kthree/+_[Kfour/+five/+six_[K+_[K' ] ||
  complain "expected redraws and three lines, found $(cat "$scratch/err")"

# A terminal is named to the ranks where there is one, and no stale one.
export MOERUN_PROGRESS_TERMINAL=/dev/stale
# shellcheck disable=SC2016 # for the inner shell
told='test -c "${MOERUN_PROGRESS_TERMINAL-none}" && echo terminal ||
  echo "no terminal: ${MOERUN_PROGRESS_TERMINAL-none}"'
on 1 sh -c "$told"
[ "$(cat "$scratch/out")" = 'no terminal: none' ] ||
  complain "expected no terminal, found $(cat "$scratch/out")"
if script -qec true /dev/null < /dev/null > /dev/null 2>&1; then
  echo "$told" > "$scratch/told.sh"
  timeout 50 script -qec "'$wrapper' -n 1 sh '$scratch/told.sh'" /dev/null \
    < /dev/null > "$scratch/out"
  grep -q '^terminal' "$scratch/out" ||
    complain "expected a terminal, found $(cat "$scratch/out")"
fi

# Its own help, and no arguments, no mpirun.
"$wrapper" --help > "$scratch/out" 2> "$scratch/err"
expect 0 $? 0
grep -q '^usage: ' "$scratch/out" || complain "--help: expected a usage line"
"$wrapper" > "$scratch/out" 2> "$scratch/err"
expect 2 $? 2
grep -q '^usage: ' "$scratch/err" || complain "expected a usage line"

# A signal to the script reaches the ranks: mpirun hands SIGUSR1 and SIGUSR2 on as
# they are, and neither ends the script.
for signal in USR1 USR2; do
  : > "$scratch/out"
  "$wrapper" -n 1 sh -c "trap 'echo caught; exit 5' $signal; echo ready
    i=0; while [ \$i -lt 300 ]; do sleep 0.1; i=\$((i + 1)); done" \
    > "$scratch/out" 2> "$scratch/err" &
  running=$!
  i=0
  while ! grep -q ready "$scratch/out" && [ $i -lt 300 ]; do
    sleep 0.1
    i=$((i + 1))
  done
  kill -$signal $running
  wait $running
  [ $? = 5 ] || complain "expected the rank's exit code after SIG$signal"
  grep -q caught "$scratch/out" || complain "expected SIG$signal to reach the rank"
done

# Ctrl-Z stops the ranks, too, and what continues the script continues them.
# awaits STATE: until both ranks have it.
awaits() {
  i=0
  states=
  while [ "$states" != "$1$1" ] && [ $i -lt 100 ]; do
    sleep 0.1
    states=$(for rank in 0 1; do
      cut -d ' ' -f 3 "/proc/$(cat "$scratch/pid.$rank")/stat"
    done 2> /dev/null | tr -d '\n')
    i=$((i + 1))
  done
  [ "$states" = "$1$1" ] || complain "expected ranks in state $1, found $states"
}
# shellcheck disable=SC2016 # for the inner shell
"$wrapper" -n 2 sh -c 'trap "exit 5" USR2
  echo $$ > "$0.$OMPI_COMM_WORLD_RANK"
  while :; do sleep 0.1; done' "$scratch/pid" > "$scratch/out" \
  2> "$scratch/err" &
running=$!
awaits S
kill -TSTP $running
awaits T
[ "$(cut -d ' ' -f 3 /proc/$running/stat)" = T ] ||
  complain "expected the script to stop"
kill -CONT $running
awaits S
kill -USR2 $running
wait $running
code=$?
[ $code = 5 ] || complain "stopped and continued: expected 5, found $code"

# ---- Asked for an end, in steps of three seconds.

cd "$scratch" || exit 1
i=0
while [ $i -lt 4 ]; do
  i=$((i + 1))
  echo "{\"prompt\": \"number $i of the\", \"max_new_tokens\": 6}"
done > prompts
flags="run --model $1/launch/demo/model --prompts $scratch/prompts"
slow='--fault rank=0,sleep=500000us --keep-every 0.01 --output out.jsonl'
export MOERUN_PROGRESS=off MOERUN_LOG_LEVEL=warn
# shellcheck disable=SC2086 # words
"$moerun" $flags --output whole > out 2> err || complain "$(cat err)"

# However early it is asked, as soon as there is an mpirun (the first one only tells
# its version), the run ends with 75.
for wait in 0 0.2; do
  for number in USR1 TERM; do
    # shellcheck disable=SC2086 # words
    "$wrapper" -n 2 "$moerun" $flags $slow --overwrite > out 2> err <&- &
    job=$!
    until pgrep -P $job -x mpirun > left; do
      sleep 0.02
    done
    sleep $wait
    kill -$number $job
    wait $job
    found=$?
    [ $found = 75 ] ||
      complain "SIG$number after $wait s: expected 75, found $found: $(cat err)"
  done
done

# begin WORD...: these and the wrapper with the slow run.
# An ignored signal stays ignored, as SIGINT is in the background of a script.
begin() {
  rm -f out.jsonl*
  # shellcheck disable=SC2086 # words
  env --default-signal=INT "$@" "$wrapper" -n 2 "$moerun" $flags $slow \
    > out 2> err &
  job=$!
}

# A step is done, and the next one takes its time.
ready() {
  i=0
  while [ ! -s out.jsonl.unfinished ] && [ $i -lt 600 ]; do
    sleep 0.1
    i=$((i + 1))
  done
}

# No process is left that has a file of this test in its arguments.
gone() {
  i=0
  while pgrep -f "$scratch/" > left &&
    [ $i -lt 300 ]; do
    sleep 0.1
    i=$((i + 1))
  done
  [ ! -s left ] || complain "$1: expected no process, found $(cat left)"
}

# kept CODE WHAT: what has been generated is there, --resume goes on.
kept() {
  wait "$job"
  found=$?
  [ $found = "$1" ] || complain "$2: expected $1, found $found"
  [ "$(grep -c 'the run ends after this step and keeps' err)" = 1 ] ||
    complain "$2: expected one line of the run, found $(cat err)"
  [ "$(wc -l < err)" = 1 ] || complain "$2: expected no more, found $(cat err)"
  tr -s '\n ' '  ' < out | grep -q '[1-9][0-9]* tokens of 4 unfinished requests are kept' ||
    complain "$2: expected the table and tokens that are kept: $(cat out)"
  gone "$2"
  # shellcheck disable=SC2086 # words
  "$moerun" $flags --output out.jsonl --resume > out 2> err ||
    complain "$2: --resume: $(cat err)"
  cmp whole out.jsonl || complain "$2: expected the file of the whole run"
}

for signal in TERM INT HUP; do
  begin
  ready
  kill -s $signal "$job"
  kept 75 "SIG$signal"
done

# As `timeout` does: to the script, and to all of its group.
begin setsid
ready
kill -s TERM "$job"
kill -s TERM -- "-$job"
kept 75 'SIGTERM to the group'

# shows WORDS [BYTES]: waits until they, and so many bytes, are there.
shows() {
  i=0
  until grep -q "$1" out && [ "$(wc -c < out)" -ge "${2-0}" ] || [ $i -ge 300 ]; do
    sleep 0.05
    i=$((i + 1))
  done
  [ $i -lt 300 ] || complain "expected '$1': $(cat out)"
}

# Ctrl-C in a terminal: the answer comes before the table.
if script -qec true /dev/null < /dev/null > /dev/null 2>&1; then
  rm -f out.jsonl* keys
  mkfifo keys
  env --default-signal=INT script -qec \
    "exec '$wrapper' -n 2 '$moerun' $flags $slow" /dev/null < keys > out 2>&1 &
  job=$!
  exec 4> keys
  ready
  printf '\003' >&4
  wait "$job"
  found=$?
  exec 4>&-
  said=$(grep -n 'the run ends after this step' out | cut -d: -f1)
  table=$(grep -n 'requests .* stopped by a signal' out | cut -d: -f1)
  [ "$found" = 75 ] && [ "${said:-9}" -lt "${table:-0}" ] || {
    complain "Ctrl-C: expected 75 and an answer before the table, found $found"
    cat out
  }
  gone 'Ctrl-C'

  # A progress line is taken away before a line of stdout comes.
  printf '%s\n' 'printf "\rbar\033[K\n" >&2; sleep 1; echo table' > draw
  script -qec "exec '$wrapper' -n 1 sh draw" /dev/null < /dev/null > out 2>&1
  printf '\rbar\033[K\r\033[Ktable\r\n' > wanted
  cmp -s wanted out ||
    complain "a table after progress: found $(od -c out)"

  # What has no line end is shown as it comes, and nothing is taken for a part of
  # it that mpirun or the program says. mpirun has a pipe for each of stdout and
  # stderr: what is to come in order waits until it has been seen.
  cat > pieces << END
seen() { until [ -e "\$1" ]; do sleep 0.1; done; }
printf half
seen half.seen
printf ' done\ntext'
seen text.seen
printf '%s\nPrimary job  terminated normally, but x\n%s\n' $frame $frame >&2
seen frame.seen
printf more
seen more.seen
echo 'moerun: asked to stop: x' >&2
exit 75
END
  script -qefc "exec '$wrapper' -n 1 sh pieces" /dev/null \
    < /dev/null > out 2>&1 &
  job=$!
  shows half
  : > half.seen
  shows '^text'
  : > text.seen
  shows "^text$(printf '\r')"
  sleep 0.5
  : > frame.seen
  shows '^more'
  : > more.seen
  wait "$job"
  [ $? = 75 ] || complain "pieces: expected 75"
  printf '%s\r\n' 'half done' text more 'moerun: asked to stop: x' > wanted
  cmp -s wanted out || complain "pieces: found $(od -c out)"

  # Ctrl-C ends an answer and not the conversation, unless there is no answer.
  mkdir talker
  for file in "$1"/launch/demo/model/*; do
    [ "${file##*/}" = chat_template.jinja ] || ln -s "$file" talker/
  done
  echo '{{ messages[-1].content }}' > talker/chat_template.jinja
  env --default-signal=INT MOERUN_MAX_NEW_TOKENS=900 script -qefc \
    "exec '$wrapper' -n 2 '$moerun' chat --model talker" /dev/null \
    < keys > out 2>&1 &
  job=$!
  exec 4> keys
  for words in 'And God said' 'In the'; do
    size=$(wc -c < out)
    echo "$words" >&4
    shows "$words" $((size + 60))
    printf '\003' >&4
    sleep 0.5
  done
  printf '\003' >&4
  wait "$job"
  found=$?
  exec 4>&-
  [ "$found" = 0 ] && [ "$(wc -c < out)" -lt 2000 ] ||
    complain "Ctrl-C in a conversation: found $found: $(cat out)"
  gone 'Ctrl-C in a conversation'
fi

# While it starts, there may be nobody yet who could keep anything.
begin
sleep 0.3
kill -s TERM "$job"
wait "$job"
found=$?
[ $found = 75 ] || [ $found = 143 ] ||
  complain "at the start: expected 75 or 143, found $found and $(cat err)"
gone 'at the start'

# A second one ends ranks that do not want to, and so does the end of the script.
# shellcheck disable=SC2016 # for the inner shell
stubborn='trap "" USR1 TERM INT HUP; echo ready
  i=0; while [ $i -lt 600 ]; do sleep 0.1; i=$((i + 1)); done # '$scratch/
begin_stubborn() {
  : > out
  "$wrapper" -n 2 sh -c "$stubborn" "$moerun" > out 2> err &
  job=$!
  i=0
  while [ "$(wc -l < out)" -lt 2 ] && [ $i -lt 600 ]; do
    sleep 0.1
    i=$((i + 1))
  done
}
begin_stubborn
kill -s TERM "$job"
sleep 2.1
kill -s TERM "$job"
wait "$job"
found=$?
case $found in
0 | 75) complain "the second signal: expected a failure, found $found" ;;
esac
gone 'the second signal'
begin_stubborn
kill -s KILL "$job"
wait "$job" 2> /dev/null
gone 'SIGKILL to the script'

# Of stdin, stdout and stderr any may be closed: nothing stays behind.
TMPDIR=$scratch/pipes
export TMPDIR
mkdir "$TMPDIR"
closed() { # closed NAME
  [ $code = 0 ] || complain "$1 closed: expected exit code 0, found $code"
  [ -z "$(ls "$TMPDIR")" ] || complain "$1 closed: expected no folder"
  [ -f "$scratch/here" ] || complain "$1 closed: expected that it runs"
  rm -f "$scratch/here"
}
# shellcheck disable=SC2016 # for the inner shell
shows='echo hi; echo hi >&2; : > "$0"'
timeout 50 "$wrapper" -n 1 sh -c "$shows" "$scratch/here" >&- 2> err
code=$?
closed stdout
timeout 50 "$wrapper" -n 1 sh -c "$shows" "$scratch/here" > out 2>&-
code=$?
closed stderr
[ "$(cat out)" = hi ] || complain "stderr closed: expected stdout to pass"
timeout 50 "$wrapper" -n 1 sh -c "$shows" "$scratch/here" <&- >&- 2>&-
code=$?
closed all

TMPDIR=$scratch/nowhere
timeout 50 "$wrapper" -n 1 sh -c "$shows" "$scratch/here" > out 2> err
code=$?
[ $code = 1 ] || complain "TMPDIR: expected exit code 1, found $code"
grep -q "^mpirun.sh: no folder for pipes in $scratch/nowhere: set TMPDIR" err ||
  complain "TMPDIR: expected a line that names it"

exit "$failures"
