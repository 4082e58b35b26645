#!/bin/sh
# The first hour of README.md, the commands of launch/README.md and the examples
# of --help run as they are written, from a folder that looks like the source tree with its build.
# Arguments: the program, the folder of the demo, a folder for scratch, mpiexec.
set -u
moerun=$1 demo=$2 scratch=$3
source=$(cd "$demo/../.." && pwd)
failures=0
rm -rf "$scratch"
mkdir -p "$scratch/build/release"
ln -s "$source/launch" "$scratch/launch"
ln -s "$(dirname "$moerun")" "$scratch/build/release/launch"
cd "$scratch" || exit 1

# runs NAME FILE: the commands of FILE, each of which has to succeed.
runs() {
  sh -eu "$2" > "$1.log" 2>&1 || {
    echo "$1: expected every command to succeed, found:"
    cat "$1.log"
    failures=1
  }
}

# commands FILE FROM TO: the blocks of shell commands between two headings.
commands() {
  sed -n "/^$2/,/^$3/p" "$source/$1" |
    awk '/^```$/ { inside = 0 } inside; /^```sh$/ { inside = 1 }'
}

commands README.md '## The first hour' '## How' > first_hour.sh
commands launch/README.md '## Placement' '### While' > placement.sh
[ "$(cat first_hour.sh placement.sh | grep -c 'moerun ')" -ge 9 ] || {
  echo "README.md, launch/README.md: expected commands"
  failures=1
}
runs first_hour first_hour.sh
grep -q '^the same bytes$' first_hour.log || {
  echo "first hour: expected the same bytes with the placement"
  failures=1
}
# 26 bytes and the token that the demo model wants in front.
grep -q '"id":"light","prompt_tokens":27,' first_hour.log || {
  echo "first hour: expected a begin-of-sequence token before the prompt"
  failures=1
}
runs placement placement.sh

for subcommand in run profile place info synth tokenize detokenize; do
  {
    echo 'PATH="$PWD/build/release/launch:$PATH"'
    echo 'mpirun() { ./launch/mpirun.sh "$@"; }'
    "$moerun" help "$subcommand" |
      sed -n '/^examples:/,/^$/{/^  /p;}'
  } > "help_$subcommand.sh"
  runs "help_$subcommand" "help_$subcommand.sh"
done
exit $failures
