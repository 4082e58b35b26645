#!/bin/sh
# launch/setup.sh on machines made up of links and stand-ins: what is missing is
# named in one line, what only tests use is not asked for by the demo, and with
# apt and root what is missing is installed.
# Arguments: the source tree, a folder for scratch.
set -u
source=$1 scratch=$2
setup=$source/launch/setup.sh
rm -rf "$scratch"
mkdir -p "$scratch"
failures=0

# machine: the folder bin with all that the script runs or looks for.
machine() {
  rm -rf "${scratch:?}/bin"
  mkdir "$scratch/bin"
  for name in sh mktemp rm tr cat sed grep tail env; do
    ln -s "$(command -v $name)" "$scratch/bin/$name"
  done
  for name in make mpirun clang-format clang-tidy; do
    stand_in $name ':'
  done
  stand_in cmake 'echo "cmake version 3.25.1"'
  stand_in pkg-config 'exit 1'
  # A compiler that has every header but those named in the file without.
  : > "$scratch/without"
  # shellcheck disable=SC2016
  stand_in cc 'for word; do case $word in *.c) source=$word ;; esac; done
    ! grep -qF -f "'"$scratch/without"'" "$source"'
  cp "$scratch/bin/cc" "$scratch/bin/mpicc"
  stand_in id 'echo 1000'
}

stand_in() { # stand_in NAME COMMANDS
  printf '#!/bin/sh\n%s\n' "$2" > "$scratch/bin/$1"
  chmod +x "$scratch/bin/$1"
}

# expect CODE WORDS [--test]: WORDS '' when nothing is to be said.
expect() {
  code=$1 words=$2
  shift 2
  env -i PATH="$scratch/bin" TMPDIR="$scratch" "$setup" "$@" \
    > "$scratch/out" 2> "$scratch/err"
  found=$?
  lines=$(wc -l < "$scratch/err")
  [ ! -s "$scratch/out" ] || found="$found and stdout"
  [ -n "$words" ] || [ "$lines" = 0 ] || found="$found and lines"
  if [ "$found" != "$code" ] || [ "$lines" -gt 1 ] ||
    ! grep -qF -- "$words" "$scratch/err" && [ -n "$words" ]; then
    echo "setup $*: expected $code and '$words', found $found and:"
    cat "$scratch/out" "$scratch/err"
    failures=$((failures + 1))
  fi
}

machine
expect 0 ''
expect 0 '' --test
env -i PATH="$scratch/bin" "$setup" --all 2> "$scratch/err"
[ $? = 2 ] && grep -q '^usage: ' "$scratch/err" || {
  echo "setup --all: expected 2 and the usage"
  failures=$((failures + 1))
}

# What only tests use.
printf '%s\n' cmocka.h cblas.h glpk.h > "$scratch/without"
rm "$scratch/bin/clang-tidy"
expect 0 ''
expect 1 'setup: missing: cmocka 1.1 (Debian: libcmocka-dev libglpk-dev' --test
printf '%s\n' cblas.h > "$scratch/without"
expect 0 'setup: going on without OpenBLAS, clang-tidy (Debian: libopenblas' \
  --test

# What there is no building without, each named alone.
machine
stand_in cmake 'echo "cmake version 3.18.4"'
expect 1 'setup: missing: CMake 3.25 (Debian: cmake); install'
stand_in cmake 'echo "cmake version 4.0.0"'
expect 0 ''
rm "$scratch/bin/make"
expect 1 'setup: missing: make (Debian: make); install'
machine
echo jansson.h > "$scratch/without"
expect 1 'setup: missing: Jansson 2.12 (Debian: libjansson-dev); install'
echo xxhash.h > "$scratch/without"
expect 1 'setup: missing: xxHash 0.8 (Debian: libxxhash-dev); install'
echo pcre2.h > "$scratch/without"
expect 1 'setup: missing: PCRE2 10.40 (Debian: libpcre2-dev); install'
echo utf8proc.h > "$scratch/without"
expect 1 'setup: missing: utf8proc 2.5 (Debian: libutf8proc-dev); install'
echo mpi.h > "$scratch/without"
expect 1 'setup: missing: MPI 3.1 (Debian: libopenmpi-dev); install'
machine
rm "$scratch/bin/mpirun" "$scratch/bin/mpicc"
echo mpi.h > "$scratch/without"
expect 1 'missing: MPI 3.1, mpirun (Debian: libopenmpi-dev openmpi-bin); install'
machine
rm "$scratch/bin/cc"
expect 1 'C11 compiler, Jansson 2.12, xxHash 0.8, PCRE2 10.40, utf8proc 2.5 (Debian: gcc'

# A library that pkg-config knows as too old is missing, whatever links.
machine
# shellcheck disable=SC2016
stand_in pkg-config 'case $2 in *jansson*">="*) exit 1 ;; esac'
expect 1 'setup: missing: Jansson 2.12 (Debian: libjansson-dev); install'

# Root and apt: installed, and looked for again. Without a network the line
# says what is missing all the same.
machine
stand_in id 'echo 0'
echo jansson.h > "$scratch/without"
stand_in apt-get "echo \"\$*\" >> $scratch/apt; : > $scratch/without"
expect 0 'setup: installing libjansson-dev'
grep -q '^install .* libjansson-dev$' "$scratch/apt" || {
  echo "apt-get: expected to be asked for libjansson-dev, found:"
  cat "$scratch/apt"
  failures=$((failures + 1))
}
expect 0 ''

# The README lists every package of the table.
for package in $(sed -n 's/^\(all\|test\) .*|//p' "$setup"); do
  grep -q "^|.*\`$package\`" "$source/README.md" || {
    echo "README.md: expected $package among what is needed"
    failures=$((failures + 1))
  }
done

exit "$failures"
