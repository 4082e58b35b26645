#!/bin/sh
# Subcommands that need one process print and write once under a launcher that
# starts several, end with one code, and each work by themselves if told to.
. "$(dirname "$0")/common.sh"

# once RANKS CODE WORDS ARGUMENT...: WORDS are in one line of all that is said.
once() {
  ranks=$1 code=$2 words=$3
  shift 3
  on "$ranks" "$@"
  found=$?
  [ "$found" = "$code" ] || complain "$*: expected exit code $code, not $found"
  lines=$(cat "$scratch/out" "$scratch/err" | grep -cF -- "$words")
  [ "$lines" = 1 ] || {
    complain "$*: expected '$words' once, found it $lines times:"
    cat "$scratch/out" "$scratch/err"
  }
}

once 3 0 'architecture  ' info --model "$model" --ranks 2
once 3 0 'compiler: ' info
once 3 0 'compiler: ' --version
once 3 0 'usage: moerun SUBCOMMAND' help
once 3 0 'usage: moerun place' place --help
once 3 2 'expected a subcommand, found "walk"' walk
once 3 2 'usage: moerun SUBCOMMAND'
once 3 2 'unknown option --nothing' info --nothing
once 3 66 'cannot be opened' info --model "$scratch/nowhere"

small="--layers 1 --hidden 8 --heads 1 --kv-heads 1 --head-dim 8 --experts 2
  --experts-per-token 1 --expert-width 8 --vocab 16 --positions 16"
# shellcheck disable=SC2086 # many options
once 3 0 'the other 2 of this job have nothing to do' \
  synth --output "$scratch/synth" $small
[ -f "$scratch/synth/config.json" ] || complain "expected a checkpoint"

# Ranks of two subcommands are refused, whichever comes first.
echo '{"prompt": "a"}' > "$scratch/one"
trace="profile --model $model --prompts $scratch/one --trace $scratch/t.npy"
plain="run --model $model --prompts $scratch/one --output $scratch/o"
for pair in "$trace:$plain" "$plain:$trace"; do
  # shellcheck disable=SC2086 # words of two commands
  once 1 2 'expected one subcommand for all ranks of a job, found run and profile' \
    ${pair%%:*} : -n 1 "$moerun" ${pair#*:}
done
[ ! -e "$scratch/o" ] && [ ! -e "$scratch/t.npy" ] ||
  complain "expected nothing to be written"

# What one process of a job does, as other launchers tell it.
env PMIX_RANK=1 "$moerun" info > "$scratch/out" 2>&1 ||
  complain "expected the second process to end well"
[ ! -s "$scratch/out" ] || complain "expected the second process to be silent"
env SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=3 "$moerun" info --nothing \
  > "$scratch/out" 2>&1
code=$?
[ $code = 0 ] || complain "expected 0 of the fourth process, found $code"
[ ! -s "$scratch/out" ] || complain "expected the fourth process to be silent"
env SLURM_STEP_NUM_TASKS=4 SLURM_PROCID=3 "$moerun" info --allow-singletons \
  > "$scratch/out" 2>&1 || complain "expected the fourth process to go on"
says 'compiler: '
# A batch script is one process.
env SLURM_NTASKS=4 SLURM_PROCID=0 "$moerun" info > "$scratch/out" 2>&1
says 'compiler: '

exit "$failures"
