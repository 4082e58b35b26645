#!/bin/sh
# mpirun for a laptop or a container: more ranks than cores, no busy waiting on
# them, and root, if that is who calls. For a cluster use mpirun or srun itself.
#
# Of what Open MPI writes to stderr, some messages only repeat that a rank ended
# with an exit code other than 0, or by the signal that it was sent. They are left
# out where a rank has said why in a line of its own, before or after them, and
# where the code says it (75: stopped by a signal); everything else passes.
#
# Open MPI kills its ranks a second after the first SIGINT or SIGTERM and at once
# after the second, and both the terminal and `timeout` send such a one to all
# processes of a group. So mpirun has a group of its own, and of the signals that
# ask for an end the first becomes SIGUSR1, which mpirun hands on to the ranks, once
# a second until one of them answers: a run then ends after its step with 75,
# however long that takes. The next one, a second or more later, is SIGTERM:
# mpirun ends its ranks. SIGUSR1 and SIGUSR2 pass as they are, without the line
# that mpirun has for them. Ctrl-C in `moerun chat` becomes SIGUSR2, which ends an
# answer, or at the prompt the conversation. Ctrl-Z, which would stop this script alone, stops the
# ranks as well, and what continues the script continues them. The exit code is
# mpirun's.
#
# Open MPI ends the ranks where whoever reads its stdout or stderr has gone
# (`| head`). Here somebody reads on.
set -u
(exec 3<&0) 2> /dev/null || exec < /dev/null
(exec 3>&1) 2> /dev/null || exec > /dev/null
(exec 3>&2) 2> /dev/null || exec 2> /dev/null

usage='usage: launch/mpirun.sh -n RANKS PROGRAM ARGUMENT...
(options are those of mpirun: mpirun --help)'
case ${1-} in
'')
  echo "$usage" >&2
  exit 2
  ;;
-h | --help)
  echo "$usage"
  exit
  ;;
esac
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none
export OMPI_MCA_orte_forward_job_control=1 # SIGTSTP and SIGCONT

# Open MPI makes a pipe of every rank's stderr: the program is told of the
# terminal at its other end, and draws for the width of that.
unset MOERUN_PROGRESS_TERMINAL
if [ -t 2 ] && terminal=$(tty <&2); then
  export MOERUN_PROGRESS_TERMINAL="$terminal"
fi

frame=--------------------------------------------------------------------------
newline='
'
forwarding='mpirun: Forwarding signal '

# Whether the held block only repeats an exit code.
repeats() {
  case $held in
  "$frame$newline"'Primary job  terminated normally, but '*) ;;
  "$frame$newline"'mpirun detected that one or more processes exited with'*) ;;
  "$frame$newline"'MPI_ABORT was invoked on rank '*) ;;
  "$frame$newline"'mpirun noticed that process rank '*' on signal 10 '*) ;;
  "$frame$newline"'mpirun noticed that process rank '*' on signal 12 '*) ;;
  "$frame$newline"'mpirun noticed that process rank '*' on signal 2 '*) ;;
  *) return 1 ;;
  esac
}

# Puts a line where the progress line may be drawn, which it takes away first.
put() {
  [ -z "$drawn" ] || printf '%s' "$erased"
  drawn=
  printf '%s\n' "$1"
}

# Keeps what is shown at the end if nobody has said what is wrong.
keep() {
  printf '%s\n' "$1" >> "$folder/kept"
}

# What is known once a line is there that somebody has said.
note() {
  case ${1##*"$erase"} in
  'moerun: asked to stop: '*) : > "$folder/answered" ;;
  moerun:* | 'usage: '* | step[1-4]:*) : > "$folder/spoken" ;;
  'mpirun: Error'*) : > "$folder/explained" ;;
  esac
}

# A line, or what is left of the one whose beginning is shown. One that begins
# with a carriage return and ends with the erasing of what is right of it redraws
# the progress line in place, and loses its line feed. Blocks between two frames
# are judged whole. What stdout has shown may have no line end: a frame, and what
# the program says of itself, begin a line then.
take() {
  line=$1
  if [ -n "$held" ]; then
    held=$held$newline$line num_held=$((num_held + 1))
    if [ "$line" = $frame ] || [ $num_held -gt 40 ]; then
      if repeats; then
        keep "$held"
      else
        : > "$folder/explained"
        put "$held"
      fi
      held=
    fi
    return
  fi
  case $line in
  "$frame")
    [ -z "$shown" ] || put ''
    held=$line num_held=1
    ;;
  *[!-]"$frame")
    put "${line%"$frame"}"
    held=$frame num_held=1
    ;;
  "$return"*"$erase")
    drawn=1
    [ "$line" != "$erased" ] || drawn=
    printf '%s' "$line"
    ;;
  *' sent help message help-mpi-api.txt / mpi-abort' | \
    *'Set MCA parameter "orte_base_help_aggregate" to 0 to see all help '*)
    keep "$line"
    ;;
  "$forwarding"*) ;;
  *)
    note "$shown$line"
    case $shown,$line in
    ,*) ;;
    *,'moerun: '*)
      put ''
      note "$line"
      ;;
    esac
    put "$line"
    ;;
  esac
  shown=
}

# The beginning of a line: it is shown as it comes, unless it may become one that
# is not to be seen, or to be seen whole.
begin_line() {
  case $frame in
  "$1"*) [ -n "$shown" ] || return 1 ;;
  esac
  case $forwarding in
  "$1"*) return 1 ;;
  esac
  case $1 in
  "$return"* | "$frame"* | "$forwarding"*) return 1 ;;
  esac
  [ -z "$held" ] || return 1
  [ -z "$drawn" ] || printf '%s' "$erased"
  drawn=
  [ -n "$shown" ] || shown=$1
  printf '%s' "$1"
}

# Copies what comes, in pieces: a line that is not over yet may be the text of an
# answer. A shell leaves NUL bytes out, so that a piece may be empty before the end.
filter() {
  LC_ALL=C
  held='' num_held=0 drawn='' shown='' part='' num_empty=0
  while [ $num_empty -lt 3 ]; do
    piece=$(
      dd bs=16384 count=1
      echo .
    )
    piece=${piece%.}
    if [ -z "$piece" ]; then
      num_empty=$((num_empty + 1))
      continue
    fi
    num_empty=0
    part=$part$piece
    while :; do
      case $part in
      *"$newline"*) ;;
      *) break ;;
      esac
      take "${part%%"$newline"*}"
      part=${part#*"$newline"}
    done
    [ -z "$part" ] || ! begin_line "$part" || part=
  done
  [ -z "$held" ] || put "$held"
  [ -z "$part" ] || put "$part"
  [ -z "$drawn" ] || printf '%s' "$erased"
}
return=$(printf '\r')
erase=$(printf '\033[K')
erased=$return$erase

# Whether mpirun is there, the time at which it was first asked for an end, who
# does so, and whether it was told to end.
running='' asked='' asking='' told=''
# Whether ranks talk with somebody, and have been interrupted.
talks='' interrupted='' before=''
for word in "$@"; do
  case $before,$word in
  *moerun,chat) talks=1 ;;
  esac
  before=$word
done
unanswered='mpirun.sh: stopped by a signal before all ranks could answer it'

# Whether mpirun has begun what it runs. Before, SIGUSR1 would end itself, and so
# it would when they have ended.
has_ranks() {
  set -- /proc/"$running"/task/*/children
  [ -r "$1" ] || return 0
  [ -n "$(cat "$@" 2> /dev/null)" ]
}

# Until a rank answers: what comes while they start does not reach them.
ask() {
  trap '' INT TERM HUP USR1 USR2
  tries=0
  while kill -0 "$running" && [ $tries -lt 600 ] &&
    [ ! -e "$folder/answered" ]; do
    if [ $((tries % 10)) = 0 ] && has_ranks; then
      kill -USR1 "$running"
    elif [ $((tries % 10)) = 0 ]; then
      tries=$((tries - 1))
    fi
    sleep 0.1
    tries=$((tries + 1))
  done
}

start_asking() {
  ask < /dev/null > /dev/null 2>&1 4>&- &
  asking=$!
}

# `timeout` sends a signal twice, to the script and to its group, which what runs
# here belongs to.
# shellcheck disable=SC2317 # traps call it
stop() {
  trap '' INT TERM HUP
  now=$(date +%s)
  if [ -z "$asked" ]; then
    asked=$now
    [ -z "$running" ] || start_asking
  elif [ -n "$running" ] && [ "$now" -gt $((asked + 1)) ]; then
    told=1
    kill -KILL "$asking" 2> /dev/null # a late SIGUSR1 would kill mpirun itself
    kill -TERM "$running" 2> /dev/null
  fi
  trap stop TERM HUP
  trap interrupt INT
}

# An answer ends by Ctrl-C, and the conversation goes on, as often as it comes:
# rank 0 of `moerun chat` hears it as SIGUSR2. While nobody is there who could
# answer, it ends what there is.
# shellcheck disable=SC2317
interrupt() {
  if [ -n "$talks" ] && [ -z "$asked" ] && [ -n "$running" ] && has_ranks; then
    interrupted=1
    pass USR2
  else
    stop
  fi
}

# shellcheck disable=SC2317 # traps call it
pass() {
  [ -z "$running" ] || kill "-$1" "$running" 2> /dev/null
}
# While ranks start, SIGUSR1 is repeated as well; later it is theirs to hear.
# shellcheck disable=SC2317
warn() {
  if [ -z "$asked" ] && [ $(($(date +%s) - began)) -lt 10 ]; then
    stop
  else
    pass USR1
  fi
}
# Stops the ranks and this script with them; it goes on by SIGCONT alone.
# shellcheck disable=SC2317
suspend() {
  pass TSTP
  kill -STOP $$
  pass CONT
}
began=$(date +%s)
trap stop TERM HUP
trap interrupt INT
trap suspend TSTP
trap warn USR1
trap 'pass USR2' USR2

launcher=$(
  trap '' INT TERM HUP USR1 USR2
  mpirun --version 2> /dev/null
)
if [ -n "$asked" ]; then
  echo "$unanswered" >&2
  exit 75
fi
case $launcher in
*"Open MPI"*) ;;
*) exec mpirun "$@" ;;
esac
temporary=${TMPDIR:-/tmp}
if [ ! -d "$temporary" ] || [ ! -w "$temporary" ]; then
  echo "mpirun.sh: no folder for pipes in $temporary: set TMPDIR to one that" \
    'may be written to' >&2
  exit 1
fi

folder=$(
  trap '' INT TERM HUP
  made=$(mktemp -d) && mkfifo "$made/said" "$made/shown" "$made/typed" \
    "$made/alive" && echo "$made"
) || exit 1
(
  trap '' INT TERM HUP USR1 USR2 PIPE
  filter < "$folder/said" >&2 2> /dev/null
) &
filtering=$!
showing=''
if [ -p /dev/fd/1 ] || [ -S /dev/fd/1 ]; then
  (
    trap '' INT TERM HUP USR1 USR2 PIPE
    exec < "$folder/shown"
    cat 2> /dev/null || cat > /dev/null
  ) &
  showing=$!
fi

# Without setsid mpirun is in the group of this script, and what is sent to all
# of the group ends it as it ends mpirun alone.
own=''
! command -v setsid > /dev/null || own=setsid

# Out of the group of the terminal nobody may read it; a shell gives /dev/null to
# what runs in the background.
exec 3<&0
typing=''
if [ -t 0 ]; then
  (
    trap '' INT TERM HUP USR1 USR2 TTIN
    exec cat <&3 > "$folder/typed" 2> /dev/null 3<&-
  ) &
  typing=$!
  exec 3< "$folder/typed"
fi
# What goes to one terminal stays in order. (In a substitution 1 is its pipe.)
exec 7>&1
terminal=$(tty <&7)
exec 7>&-
if [ "$terminal" = "${MOERUN_PROGRESS_TERMINAL-none}" ]; then
  $own mpirun --oversubscribe --bind-to none "$@" <&3 3<&- \
    > "$folder/said" 2>&1 &
elif [ -n "$showing" ]; then
  $own mpirun --oversubscribe --bind-to none "$@" <&3 3<&- \
    > "$folder/shown" 2> "$folder/said" &
else
  $own mpirun --oversubscribe --bind-to none "$@" <&3 3<&- \
    2> "$folder/said" &
fi
running=$!
exec 3<&-
[ -z "$asked" ] || start_asking

# Ends mpirun where somebody has killed this script, which alone holds the pipe
# open and writes to it before it ends.
# shellcheck disable=SC2094 # to be opened for both without waiting
exec 4<> "$folder/alive" 5< "$folder/alive"
exec 6> "$folder/alive" 4>&-
# shellcheck disable=SC2016 # for the inner shell
$own sh -c 'trap "" INT TERM HUP USR1 USR2
  read -r ended <&3 && exit
  kill -TERM "$1"
  tries=0
  while kill -0 "$1" && [ $tries -lt 10 ]; do
    sleep 1
    tries=$((tries + 1))
  done
  [ $tries -lt 10 ] || kill -KILL "$1"
  rm -rf "$2"' watch "$running" "$folder" 3<&5 4>&- 5<&- 6>&- \
  < /dev/null > /dev/null 2>&1 &
exec 4>&6 5<&- 6>&-

# A signal ends `wait`, not what is waited for.
while :; do
  wait $running
  code=$?
  kill -0 $running 2> /dev/null || break
done
for reading in $filtering $showing; do
  while kill -0 "$reading" 2> /dev/null; do
    wait "$reading"
  done
done
[ -z "$typing" ] || kill -KILL "$typing" 2> /dev/null
# Asked for an end before mpirun, or a rank, could know what to do.
if [ -n "$interrupted" ] && [ "$code" = 140 ]; then
  echo "$unanswered" >&2
  code=75
elif [ -n "$asked" ] && [ -z "$told" ]; then
  early=
  [ "$code" != 138 ] || early=1
  case $code in
  129 | 130 | 141 | 143) [ -e "$folder/answered" ] || early=1 ;;
  esac
  if [ -n "$early" ]; then
    echo "$unanswered" >&2
    code=75
  fi
fi
if [ -e "$folder/kept" ] && [ ! -e "$folder/spoken" ] && [ "$code" != 75 ] &&
  [ -z "$interrupted" ]; then
  cat "$folder/kept" >&2
fi
again='with --resume'
case " $* " in
*' --overwrite '*) again='with --resume in place of --overwrite' ;;
*' --resume '*) again='again' ;;
esac
case "$code $*" in
'1 '*' run '*'--output'* | '137 '*' run '*'--output'*)
  [ "$code" = 1 ] && [ -e "$folder/explained" ] ||
    echo "mpirun.sh: the run was ended from outside; the same command $again" \
      'goes on' >&2
  ;;
esac
echo ended >&4
rm -rf "$folder"
exit "$code"
