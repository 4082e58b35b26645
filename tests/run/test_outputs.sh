#!/bin/sh
# What is written: never over an input or another output, over what exists only
# when told so, all of it or nothing, and nothing left behind; devices and pipes
# as an ordinary user.
set -u
. "$(dirname "$0")/common.sh"
user=
trap '[ -z "$user" ] || rm -rf "$user"' EXIT
cd "$scratch" || exit 1
prompts 4 > prompts
succeed 0 profile --model "$model" --prompts prompts --trace t.npy --output kept
cp t.npy t.npy.before
cp t.json t.json.before
cp prompts prompts.before
ls > names

# refuse CODE WORDS RANKS ARGUMENT...: with this exit status and line, and no
# file is there that was not, and none is changed.
refuse() {
  code=$1 words=$2
  shift 2
  on "$@"
  found=$?
  if [ "$found" != "$code" ] || ! grep -qF -- "$words" err ||
    [ "$(grep -c '^moerun: ' err)" != 1 ]; then
    complain "$*: expected $code and '$words', found $found and:"
    cat out err
  fi
  ls > names.now
  diff names names.now > difference || {
    complain "$*: changed what is there:"
    cat difference
  }
  for file in t.npy t.json prompts; do
    same $file $file.before
  done
}
touch difference names.now
ls > names

# ---- The same file by two names; the unit test of the table has them all.

run="run --model $model"
place="place --trace t.npy --ranks 2 --bound none"
for ranks in 0 3; do
  refuse 2 '--output (prompts) and --prompts (prompts) are the same file' \
    $ranks $run --prompts prompts --output prompts --overwrite
  refuse 2 '--metrics (./prompts) and --prompts (prompts)' \
    $ranks $run --prompts prompts --metrics ./prompts --overwrite
  refuse 2 'the .json beside --trace (n.json) and --output (n.json)' \
    $ranks profile --model "$model" --prompts prompts --trace n.npy \
    --output n.json
done
refuse 2 'and a file of --model (' 0 $run --prompts prompts --overwrite \
  --output "$model/model.safetensors"
refuse 2 '--json (t.json) and the .json beside --trace (t.json)' \
  0 $place --json t.json --overwrite
refuse 2 '--output (./o) and --export (o)' 0 $place --export eplb:o --output ./o

# stdout that a shell has sent to a file is an output, too.
"$moerun" $place >> t.json 2> err
[ $? = 2 ] || complain "place >> t.json: expected 2"
grep -q 'and stdout are the same file' err || complain "stdout: $(cat err)"
same t.json t.json.before

# ---- What exists

exists='exists already: --overwrite replaces it'
refuse 65 "kept: $exists" 0 $run --prompts prompts --metrics kept
refuse 65 "kept: $exists" 3 $run --prompts prompts --metrics kept
for ranks in 0 3; do
  # --resume replaces metrics, and not what is something else.
  refuse 65 "t.json: $exists" $ranks $run --prompts prompts --output new \
    --metrics t.json --resume
done
refuse 65 "t.npy: $exists" 0 profile --model "$model" --prompts prompts \
  --trace t.npy
for output in '--output kept' '--json kept' '--export eplb:kept'; do
  refuse 65 "kept: $exists" 0 $place $output
done
cp t.npy k.npy
ls > names
refuse 65 "k.npy: $exists" 0 $place --convert k.npy
refuse 65 'kept: exists already: --resume goes on with it' \
  0 $run --prompts prompts --output kept
ln -s target link
succeed 0 $place --output link
[ -L link ] && [ -f target ] || complain "a link was not followed"
cp target placement
ls > names
refuse 65 "link: $exists" 0 $place --output link
succeed 0 $place --output link --seed 1 --method random --overwrite
[ -L link ] || complain "a link was replaced"
cmp -s target placement && complain "the target of a link was not replaced"

# ---- All or nothing, at a limit on the size of files

# limited BLOCKS ARGUMENT...: with files of at most so many times 512 bytes,
# which is too little for MPI's own.
limited() {
  blocks=$1
  shift
  (ulimit -f "$blocks" && exec "$moerun" "$@") > out 2> err
}
limited 4 $place --export exflow:csv --output o --json j
[ $? = 74 ] || complain "ulimit -f: expected 74"
grep -q 'moerun: o: cannot be written: file too large' err ||
  complain "ulimit -f: $(cat err)"
limited 1 synth --output big --layers 1
[ $? = 74 ] || complain "ulimit -f: expected 74"
ls > names.now
diff names names.now || complain "ulimit -f: something was left"

# ---- Several processes that write one file

for seed in 1 2 3 4 5 6; do
  succeed 0 $place --method random --seed $seed --output alone.$seed
  sed '/"seconds"/d' alone.$seed > whole.$seed
done
for round in 1 2 3 4 5; do
  jobs=
  for seed in 1 2 3 4 5 6; do
    "$moerun" $place --method random --seed $seed --output many --overwrite \
      > /dev/null 2> err.$seed &
    jobs="$jobs $!"
  done
  for job in $jobs; do
    wait "$job" || complain "round $round: $(cat err.?)"
  done
  sed '/"seconds"/d' many > found
  wins=0
  for seed in 1 2 3 4 5 6; do
    cmp -s found whole.$seed && wins=1
  done
  [ $wins = 1 ] || complain "round $round: a mixture was written"
done
for left in ./*.tmp; do
  [ ! -e "$left" ] || complain "$left was left"
done

# ---- Signals

# Ended by the signal itself while its temporary folder is there.
for signal in TERM INT HUP XCPU; do
  env --default-signal=INT "$moerun" synth --output big --layers 200 \
    > /dev/null 2>&1 &
  job=$!
  until [ -e "$(echo big.*.tmp)" ]; do
    kill -0 "$job" || break
    sleep 0.01
  done
  kill -s $signal "$job"
  wait "$job"
  [ $? -gt 128 ] || complain "SIG$signal: expected to be ended by it"
  for left in big*; do
    [ ! -e "$left" ] || complain "SIG$signal: $left was left"
  done
done

# Not even SIGKILL leaves anything of a trace.
prompts 40 > many_prompts
"$moerun" profile --model "$model" --prompts many_prompts --trace long.npy \
  --max-sequences 1 --output long > out 2> err &
job=$!
until [ -s long ]; do
  kill -0 "$job" || break
  sleep 0.05
done
kill -s KILL "$job"
wait "$job"
for left in long.*; do
  [ ! -e "$left" ] || complain "SIGKILL: $left was left"
done

# ---- Devices and pipes, as a user who may write neither /dev nor this folder

user=$(mktemp -d)
cp "$moerun" "$user/moerun"
cp -r "$model" prompts t.npy t.json "$user"
as_user=
if [ "$(id -u)" = 0 ]; then
  as_user='setpriv --reuid=65534 --regid=65534 --clear-groups'
fi
chmod -R a+rX "$user"
mkdir "$user/own"
chmod a+rwx "$user/own"
# user_moerun ARGUMENT...: in a folder of the user's own.
user_moerun() {
  (cd "$user/own" && HOME=$user/own TMPDIR=$user/own $as_user ../moerun "$@")
}
run="run --model ../model --prompts ../prompts"
place="place --trace ../t.npy --ranks 2 --bound none"

user_moerun $run > lines 2> err || complain "run: $(cat err)"
user_moerun $run --output /dev/stdout --metrics /dev/null > found 2> err ||
  complain "--output /dev/stdout: $(cat err)"
same lines found
user_moerun $run --output /dev/null --metrics /dev/stderr > out 2> err ||
  complain "--metrics /dev/stderr: $(cat err)"
grep -q '"moerun-metrics"' err || complain "no metrics on stderr"
user_moerun $place --output /dev/null --json /dev/stdout > out 2> err ||
  complain "--json /dev/stdout: $(cat err)"
grep -q '"moerun-place"' out || complain "no JSON on stdout"
grep -q 'placement of 6 MoE layers' out || complain "no table on stdout"
user_moerun $place --output /dev/null --json /dev/null --export eplb:/dev/null \
  > out 2> err || complain "/dev/null thrice: $(cat err)"
echo before > out
user_moerun $place --json /dev/stdout >> out 2> err ||
  complain "--json /dev/stdout: $(cat err)"
[ "$(head -n 1 out)" = before ] || complain "stdout was written from its start"

mkfifo "$user/own/pipe"
chmod a+rw "$user/own/pipe"
cat "$user/own/pipe" > found &
job=$!
user_moerun $run --output pipe > out 2> err || complain "a pipe: $(cat err)"
wait "$job"
sort lines > sorted
sort found | cmp - sorted || complain "a pipe had other lines"
cat "$user/own/pipe" > found &
job=$!
user_moerun $place --output pipe > out 2> err || complain "a pipe: $(cat err)"
wait "$job"
grep -q '"moerun-placement"' found || complain "no placement in a pipe"
[ -p "$user/own/pipe" ] || complain "a pipe was replaced"

if [ -n "$as_user" ]; then
  user_moerun $place --output ../o > out 2> err
  [ $? = 74 ] || complain "a folder of another user: expected 74"
  grep -q '../o: cannot be created: permission denied' err ||
    complain "a folder of another user: $(cat err)"
fi

echo "$failures failures"
[ "$failures" = 0 ]
