#!/bin/sh
# The first hour of README.md and the examples of --help run as they are
# written, from a folder that looks like the source tree with its build.
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

sed -n '/^## The first hour/,/^## How/p' "$source/README.md" |
  awk '/^```$/ { inside = 0 } inside; /^```sh$/ { inside = 1 }' > first_hour.sh
[ "$(grep -c 'moerun ' first_hour.sh)" -ge 5 ] || {
  echo "README.md: expected the commands of the first hour"
  failures=1
}
runs first_hour first_hour.sh
grep -q '^the same bytes$' first_hour.log || {
  echo "first hour: expected the same bytes with the placement"
  failures=1
}

for subcommand in run profile place info synth; do
  {
    echo 'PATH="$PWD/build/release/launch:$PATH"'
    echo 'mpirun() { ./launch/mpirun.sh "$@"; }'
    "$moerun" help "$subcommand" |
      sed -n '/^examples:/,/^$/{/^  /p;}'
  } > "help_$subcommand.sh"
  runs "help_$subcommand" "help_$subcommand.sh"
done
exit $failures
