#!/bin/sh
# The progress of a run: one line, redrawn within the width of a terminal, also
# under mpirun; nothing of that kind in a pipe. What fits and when it comes is
# for unit tests, so nothing here depends on how fast the run is.
. "$(dirname "$0")/common.sh"
unset MOERUN_PROGRESS
wrapper=$(dirname "$0")/../../launch/mpirun.sh
prompts 12 > "$scratch/prompts"
esc=$(printf '\033')
cr=$(printf '\r')

options="run --model $model --prompts $scratch/prompts --output $scratch/results
  --overwrite --max-sequences 2"

# drawn COLUMNS FILE: lines that were redrawn, none of them COLUMNS wide.
drawn() {
  redraws=$(tr '\r' '\n' < "$2" | grep -c "$esc\[K\$")
  [ "$redraws" -ge 2 ] || {
    complain "expected redrawn lines in $2, found:"
    cat -v "$2"
  }
  wide=$(tr '\r' '\n' < "$2" | sed -n "s/$esc\[K\$//p" |
    awk -v most="$1" 'length($0) >= most')
  [ -z "$wide" ] || complain "expected less than $1 columns, found: $wide"
  grep -q "12/12" "$2" || grep -q "12 of 12 finished" "$2" ||
    complain "expected the run to end in $2"
}

# In a pipe, or a file: plain lines, and none at all of so short a run.
# shellcheck disable=SC2086 # many options
for ranks in 0 2; do
  on $ranks $options
  grep -q "[$cr$esc]" "$scratch/err" && complain "expected no redraws in a file"
done
# shellcheck disable=SC2086
MOERUN_PROGRESS_TERMINAL=/dev/null on 0 $options
grep -q "[$cr$esc]" "$scratch/err" && complain "expected no redraws in a file"

# Asked for, in the width that COLUMNS says, and with what is waited for.
# shellcheck disable=SC2086
for ranks in 0 2; do
  COLUMNS=40 on $ranks $options --progress on
  cat "$scratch/out" >> "$scratch/err"
  drawn 40 "$scratch/err"
  grep -q 'reading prompts' "$scratch/err" || complain "expected the prompts"
  grep -q 'load' "$scratch/err" || complain "expected the loading"
done

# The others that may take long: what they wait for, and tables after it.
# shellcheck disable=SC2086
on 0 profile --model "$model" --prompts "$scratch/prompts" \
  --output "$scratch/profiled" --trace "$scratch/trace.npy"
COLUMNS=60 on 0 place --trace "$scratch/trace.npy" --ranks 4 --progress on
for phase in 'reading the trace' solving judging; do
  grep -q "$cr$phase" "$scratch/err" || complain "expected place to be $phase"
done
grep -q "[$cr$esc]" "$scratch/out" && complain "expected tables alone"
[ "$(tail -c 4 "$scratch/err")" = "$cr$esc[K" ] ||
  complain "expected the line to be taken away"
COLUMNS=60 on 0 synth --output "$scratch/synth" --layers 1 --hidden 8 \
  --heads 1 --kv-heads 1 --head-dim 8 --experts 2 --experts-per-token 1 \
  --expert-width 8 --vocab 16 --positions 16 --progress on
grep -q "${cr}writing" "$scratch/err" || complain "expected synth to be writing"

# On a terminal.
terminal() { # terminal COLUMNS COMMAND
  timeout 100 script -qec "stty cols $1; $2" /dev/null < /dev/null \
    > "$scratch/seen" || complain "$2: exit status $?"
  drawn "$1" "$scratch/seen"
}
if script -qec true /dev/null < /dev/null > /dev/null 2>&1; then
  program=$(echo "$moerun" $options | tr '\n' ' ')
  terminal 60 "$program"
  terminal 80 "$program"
  case $(mpirun --version 2> /dev/null) in
  *"Open MPI"*) terminal 60 "'$wrapper' -n 2 $program" ;;
  esac
fi

exit "$failures"
