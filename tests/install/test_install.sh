#!/bin/sh
# Installs moerun into an empty prefix, static or shared, and builds and runs a
# program against it: by find_package and by pkg-config.
# Arguments: static|shared, the source tree, a build tree of it, a folder for
# scratch, and then the words that start 2 ranks of a program.
set -eu
kind=$1 source=$2 build=$3 scratch=$4
shift 4
rm -rf "$scratch"
mkdir -p "$scratch"
prefix=$scratch/prefix
jobs=$(nproc)

say() { echo "== $*"; }

if [ "$kind" = shared ]; then
  say "building the shared library"
  build=$scratch/build
  cmake -S "$source" -B "$build" -DCMAKE_BUILD_TYPE=Debug \
    -DBUILD_SHARED_LIBS=ON -DMOERUN_BUILD_TESTS=OFF \
    -DMOERUN_BUILD_BENCHMARKS=OFF > "$scratch/log"
  cmake --build "$build" -j "$jobs" --target moerun >> "$scratch/log"
fi
say "installing"
cmake --install "$build" --prefix "$prefix" --component library > "$scratch/log"

say "find_package, C and C++17"
cmake -S "$source/tests/install" -B "$scratch/consumer" \
  -DCMAKE_PREFIX_PATH="$prefix" > "$scratch/log"
cmake --build "$scratch/consumer" >> "$scratch/log"
"$@" "$scratch/consumer/consumer" | grep '^moerun .* on 2 ranks$'
"$scratch/consumer/consumer_cpp"
"$@" "$scratch/consumer/step4" 50 | grep -c '^placed: rank [01]: ' | grep '^2$'

say "pkg-config"
pc=$(find "$prefix" -name moerun.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
# shellcheck disable=SC2046 # lists of words
cc -std=c11 -Wall -Wextra -Wpedantic -Werror -I "$source/tests" \
  -o "$scratch/by_pkg_config" \
  "$source/tests/install/consumer.c" $(pkg-config --cflags --libs moerun)
LD_LIBRARY_PATH=$(dirname "$(dirname "$pc")")
export LD_LIBRARY_PATH
"$@" "$scratch/by_pkg_config" | grep '^moerun .* on 2 ranks$'
c++ -std=c++98 -Wall -Wextra -Wpedantic -Werror -fsyntax-only -x c++ \
  "$(find "$prefix" -name moerun.h)"
# shellcheck disable=SC2046
c++ -std=c++17 -I "$source/tests" -o "$scratch/by_pkg_config_cpp" \
  "$source/tests/install/consumer.cpp" $(pkg-config --cflags --libs moerun)
"$scratch/by_pkg_config_cpp"

if [ "$kind" = static ]; then
  say "documents"
  cmake --install "$build" --prefix "$prefix" --component program \
    > "$scratch/log"
  documents=$prefix/share/doc/moerun
  "$source/tests/lint/links.sh" "$documents"
  # The help says in which folder its examples run.
  (cd "$documents" && "$prefix/bin/moerun" help run |
    grep -o 'launch/[^ ]*' | sort -u | while read -r name; do
    [ -e "$name" ] || echo "help names $name, which is not installed"
  done) > "$scratch/missing"
  [ ! -s "$scratch/missing" ] || { cat "$scratch/missing" && exit 1; }
  (cd "$documents" && "$prefix/bin/moerun" info --model launch/demo/model |
    grep -q '^verdict ')
fi

if [ "$kind" = shared ]; then
  say "exported symbols"
  library=$(find "$prefix" -name 'libmoerun.so')
  nm -D --defined-only "$library" | awk '{ print $3 }' > "$scratch/symbols"
  grep -q '^moerun_model_load$' "$scratch/symbols"
  if grep -v '^moerun_[a-z]' "$scratch/symbols"; then
    echo "expected only moerun_* to be exported" >&2
    exit 1
  fi
fi
