# Sourced by the scripts of this folder with their arguments:
#   PROGRAM DEMO-FOLDER SCRATCH-FOLDER MPIEXEC... (the last word takes a number)
moerun=$1 demo=$2 scratch=$3
shift 3
mpiexec=$*
model=$demo/model
rm -rf "$scratch"
mkdir -p "$scratch"
failures=0
export MOERUN_PROGRESS=off MOERUN_LOG_LEVEL=warn

complain() {
  echo "$*"
  failures=$((failures + 1))
}

# on RANKS ARGUMENT...: the program on so many ranks (0: without mpiexec); what
# it says in $scratch/out and $scratch/err.
on() {
  ranks=$1
  shift
  if [ "$ranks" = 0 ]; then
    "$moerun" "$@" > "$scratch/out" 2> "$scratch/err"
  else
    $mpiexec "$ranks" "$moerun" "$@" > "$scratch/out" 2> "$scratch/err"
  fi
}

# succeed RANKS ARGUMENT...: and tables fit a terminal of 80 columns.
succeed() {
  on "$@" || {
    complain "$*: exit status $?"
    cat "$scratch/out" "$scratch/err"
  }
  wide=$(grep -v '^{' "$scratch/out" | awk 'length($0) > 80')
  [ -z "$wide" ] || complain "$*: expected at most 80 columns, found: $wide"
}

# same FILE FILE
same() {
  cmp "$1" "$2" || complain "$1 and $2 differ"
}

# says WORDS: on stdout, last time; in one line, or wrapped at blanks.
says() {
  { cat "$scratch/out" && tr -s '\n ' '  ' < "$scratch/out"; } |
    grep -qF -- "$1" || {
    complain "expected '$1' in:"
    cat "$scratch/out"
  }
}

# prompts NUMBER: as many requests of different lengths, sampled.
prompts() {
  i=0
  while [ "$i" -lt "$1" ]; do
    echo "{\"id\": \"p$i\", \"prompt\": \"number $i of the\"," \
      "\"max_new_tokens\": $((10 + i % 7 * 9)), \"temperature\": 0.8," \
      "\"seed\": $i}"
    i=$((i + 1))
  done
}
