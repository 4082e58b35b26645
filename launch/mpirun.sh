#!/bin/sh
# mpirun for a laptop or a container: more ranks than cores, no busy waiting on
# them, and root, if that is who calls. For a cluster use mpirun or srun itself.
#
# Of what Open MPI writes to stderr, three messages only repeat that a rank ended
# with an exit code other than 0. They are left out where a rank has said why in
# a line of its own, before or after them, and where the code says it (75: stopped
# by a signal); everything else passes. The exit code is mpirun's, and signals
# are handed on to it.
set -u

case $(mpirun --version 2> /dev/null) in
*"Open MPI"*) ;;
*) exec mpirun "$@" ;;
esac
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_mpi_yield_when_idle=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none

# Open MPI makes a pipe of every rank's stderr: the program is told of the
# terminal at its other end, and draws for the width of that.
unset MOERUN_PROGRESS_TERMINAL
if [ -t 2 ] && terminal=$(tty <&2); then
  export MOERUN_PROGRESS_TERMINAL="$terminal"
fi

frame=--------------------------------------------------------------------------
newline='
'

# Whether the held block only repeats an exit code.
repeats() {
  case $held in
  "$frame$newline"'Primary job  terminated normally, but '*) ;;
  "$frame$newline"'mpirun detected that one or more processes exited with'*) ;;
  "$frame$newline"'MPI_ABORT was invoked on rank '*) ;;
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

# Copies lines. One that begins with a carriage return and ends with the erasing
# of what is right of it redraws the progress line in place, and loses its line
# feed. Blocks between two frames are judged whole.
filter() {
  held='' num_held=0 drawn=''
  while IFS= read -r line || [ -n "$line" ]; do
    if [ -z "$held" ] && [ "$line" = $frame ]; then
      held=$line num_held=1
      continue
    elif [ -n "$held" ]; then
      held=$held$newline$line num_held=$((num_held + 1))
      if [ "$line" = $frame ] || [ $num_held -gt 40 ]; then
        if repeats; then keep "$held"; else put "$held"; fi
        held=
      fi
      continue
    fi
    case $line in
    "$return"*"$erase")
      drawn=1
      [ "$line" != "$erased" ] || drawn=
      printf '%s' "$line"
      ;;
    *' sent help message help-mpi-api.txt / mpi-abort' | \
      *'Set MCA parameter "orte_base_help_aggregate" to 0 to see all help '*)
      keep "$line"
      ;;
    *)
      case ${line##*"$erase"} in moerun:*) : > "$folder/spoken" ;; esac
      put "$line"
      ;;
    esac
  done
  [ -z "$held" ] || put "$held"
  [ -z "$drawn" ] || printf '%s' "$erased"
}
return=$(printf '\r')
erase=$(printf '\033[K')
erased=$return$erase

folder=$(mktemp -d) && mkfifo "$folder/said" || exit 1
(
  trap '' INT TERM HUP USR1 USR2
  filter < "$folder/said" >&2
) &
filtering=$!
exec 3<&0 # a shell gives /dev/null to what runs in the background
mpirun --oversubscribe --bind-to none "$@" <&3 3<&- 2> "$folder/said" &
running=$!
exec 3<&-

for signal in TERM HUP USR1 USR2; do
  # shellcheck disable=SC2064 # the name is to be expanded now
  trap "kill -$signal $running 2> /dev/null" $signal
done
# The terminal sends Ctrl-C to mpirun, too; a second one would kill at once.
if [ -t 0 ] || [ -t 1 ] || [ -t 2 ]; then
  trap : INT
else
  trap 'kill -INT $running 2> /dev/null' INT
fi

# A signal ends `wait`, not mpirun.
while :; do
  wait $running
  code=$?
  kill -0 $running 2> /dev/null || break
done
wait $filtering
if [ -e "$folder/kept" ] && [ ! -e "$folder/spoken" ] && [ "$code" != 75 ]; then
  cat "$folder/kept" >&2
fi
rm -rf "$folder"
exit "$code"
