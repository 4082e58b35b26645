#!/bin/sh
# Outputs that somebody removes, moves or replaces while a run goes on: 74 and
# one line that says where the results are, and nobody else's file is touched.
set -u
. "$(dirname "$0")/common.sh"
cd "$scratch" || exit 1
prompts 4 > prompts
run="run --model $model --prompts prompts"
slow='--fault rank=0,sleep=5000us --max-sequences 2'
succeed 0 $run --output whole

# results: how many there are.
results() {
  if [ -e res ]; then wc -l < res; else echo 0; fi
}

# begin RANKS ARGUMENT...: in the background, until `res` has one result more.
begin() {
  ranks=$1
  shift
  before=$(results)
  if [ "$ranks" = 0 ]; then
    "$moerun" "$@" --output res $slow > said 2> err &
  else
    $mpiexec "$ranks" "$moerun" "$@" --output res $slow > said 2> err &
  fi
  job=$!
  until [ "$(results)" -gt "$before" ]; do
    kill -0 "$job" || break
    sleep 0.02
  done
}

# lost WHAT WORDS: the run ends with 74 and one line beside the answer to a
# signal, which has these words; the
# names in it that begin with `res` are in kept.
lost() {
  wait "$job"
  found=$?
  [ $found = 74 ] || complain "$1: expected 74, found $found"
  [ "$(grep '^moerun: ' err | grep -vc 'asked to stop')" = 1 ] && grep -qF -- "$2" err ||
    complain "$1: expected one line with '$2': $(cat err)"
  kept=$(grep -o 'res\.[0-9a-f]*\.tmp' err)
}

# no_more_than NAME...: of what the run may leave.
no_more_than() {
  rm -f "$@"
  for left in res* m.* m t.*; do
    [ ! -e "$left" ] || complain "$left was left"
  done
}

for ranks_of_case in 0 2; do
  begin $ranks_of_case $run
  rm res
  lost 'removed' 'res: was removed while the program was writing it; what was'
  same whole "$kept"
  no_more_than "$kept"

  begin $ranks_of_case $run --metrics m
  mv res moved
  echo yours > res
  lost 'replaced' 'res: is another file since the program began, which was left'
  same whole "$kept"
  [ "$(cat res)" = yours ] || complain "replaced: $(cat res)"
  [ ! -e m ] || complain 'replaced: metrics, but no results'
  no_more_than res "$kept" m.*
done

begin 0 $run --metrics m
echo yours > m
lost 'metrics' 'm: is another file since the program began, which was left'
[ "$(cat m)" = yours ] || complain "metrics: $(cat m)"
sort res > sorted
sort whole | cmp - sorted || complain 'metrics: the results are others'
no_more_than res m m.*.tmp res.*.tmp

begin 0 profile --model "$model" --prompts prompts --trace t.npy
echo yours > t.json
lost 'trace' 't.json: is another file since the program began, which was left'
[ ! -e t.npy ] || complain 'trace: an array beside the .json of another'
ls t.npy.*.tmp > /dev/null || complain 'trace: the array is lost'
no_more_than res t.json t.*.tmp res.*.tmp

# Stopped as well: what was finished and what was begun goes on by its names.
begin 0 $run
rm res
kill -s TERM "$job"
lost 'stopped' 'res: was removed while the program was writing it; what was'
[ -e res.unfinished ] || complain 'stopped: no res.unfinished'
mv "$kept" res
succeed 2 $run --output res --resume
same whole res
no_more_than res

# --resume replaces metrics of the run before, and nothing else.
succeed 0 $run --output res --metrics m
cp m metrics
echo yours > yours
for yours in metrics yours; do
  head -n 1 whole > res
  begin 0 $run --metrics m --resume
  cp $yours m
  if [ $yours = metrics ]; then
    wait "$job" || complain "metrics of a run: $(cat err)"
    cmp -s m metrics && complain 'metrics of a run were not replaced'
  else
    lost 'resumed' 'm: is another file since the program began, which was left'
    same yours m
  fi
  same whole res
done
no_more_than res m m.*.tmp res.*.tmp

# With --overwrite what has a name is replaced, whenever it came.
rm -f res
begin 0 $run --metrics m --overwrite
echo yours > m
wait "$job" || complain "--overwrite: $(cat err)"
grep -q '"moerun-metrics"' m || complain '--overwrite: m was not replaced'
same whole res

# A run that cannot begin removes nothing that --overwrite would replace: rank 1
# is stopped until rank 0 has opened the file, which is another by then.
mkfifo in
echo kept > res.unfinished
$mpiexec 2 "$moerun" run --model "$model" --prompts in --output res \
  --overwrite > said 2> err &
job=$!
exec 4> in
for pid in $(pgrep -P "$job"); do
  rank=$(tr '\0' '\n' < "/proc/$pid/environ" |
    sed -n 's/^\(OMPI_COMM_WORLD_RANK\|PMI_RANK\)=\([01]\)$/\2/p')
  [ "$rank" != 0 ] || first=$pid
  [ "$rank" != 1 ] || second=$pid
done
if [ -n "${second:-}" ]; then
  kill -s STOP "$second"
  cat prompts >&4
  exec 4>&-
  until ls -l "/proc/$first/fd" 2> /dev/null | grep -q '/res$'; do
    kill -0 "$job" || break
    sleep 0.02
  done
  rm res
  echo yours > res
  kill -s CONT "$second"
  lost 'not begun' 'res: was moved or removed after the run began; nothing was'
  [ "$(cat res res.unfinished)" = "$(printf 'yours\nkept')" ] ||
    complain "not begun: $(cat res res.unfinished 2>&1)"
else
  cat prompts >&4
  exec 4>&-
  wait "$job"
fi
rm -f res.unfinished

# Nor where what is to be replaced cannot be.
mkdir res.unfinished
cp whole res
on 0 $run --output res --overwrite
[ $? = 74 ] || complain "res.unfinished is a folder: expected 74"
grep -qF 'res.unfinished: cannot be created: it is a directory' err ||
  complain "res.unfinished is a folder: $(cat err)"
same whole res
rmdir res.unfinished

# What --resume reads is an input.
mkdir res.unfinished
cp whole res
on 0 $run --output res --resume
[ $? = 66 ] || complain "--resume, res.unfinished is a folder: expected 66"
grep -qF 'res.unfinished: expected a regular file' err ||
  complain "--resume, res.unfinished is a folder: $(cat err)"
same whole res
rmdir res.unfinished

# The folder is moved, or removed: the message says where the results are.
mkdir there
begin_in() { # begin_in FOLDER ARGUMENT...
  rm -f "$1"/*
  where=$1
  shift
  "$moerun" $run $slow --output "$where/res" "$@" > said 2> err &
  job=$!
  until [ -s "$where/res" ]; do
    kill -0 "$job" || break
    sleep 0.02
  done
}
begin_in there
mv there moved.there
lost 'folder moved' "results are in $PWD/moved.there/res, with which --resume"
succeed 0 $run --output moved.there/res --resume
same whole moved.there/res
mkdir there
begin_in there
rm -r there
lost 'folder removed' 'there/res: was removed while the run was writing it, and'

# A name for which the ending is too much: nothing is kept beside it.
long=$(printf '%0250d' 1)
succeed 0 $run --output "$long" --overwrite
succeed 0 $run --output "$long" --resume
same whole "$long"

echo "$failures failures"
[ "$failures" = 0 ]
