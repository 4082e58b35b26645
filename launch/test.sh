#!/bin/sh
# Builds the release preset and runs every test and check of the project; with
# --asan also the unit tests under AddressSanitizer and UBSan. The last line is
# `N passed, N failed`; the exit status is 0 if nothing failed.
set -eu
cd "$(dirname "$0")/.."

with_asan=
case "$*" in
'') ;;
--asan) with_asan=1 ;;
*)
  echo "usage: ./launch/test.sh [--asan]" >&2
  exit 2
  ;;
esac

./launch/setup.sh --test
trap 'echo "test: Ctrl-C: ended before its end" >&2; exit 130' INT
jobs=$(nproc)
passed=0
failed=0

# check PRESET CTEST-ARGUMENT...: adds to the two counts.
check() {
  preset=$1
  shift
  mkdir -p "build/$preset"
  log=build/$preset/test.log
  echo "== $preset: build, which takes minutes the first time (log: $log)"
  (cmake --preset "$preset" -DMOERUN_WERROR=ON -DMOERUN_BUILD_TESTS=ON &&
    cmake --build --preset "$preset" -j "$jobs") > "$log" 2>&1 || {
    tail -n 50 "$log"
    echo "the build of preset $preset failed" >&2
    exit 1
  }
  echo "== $preset: tests"
  # The status is in the counts; tee hides it from the shell anyway.
  ctest --preset "$preset" -j "$jobs" --no-tests=error "$@" 2>&1 | tee "$log"
  counts=$(sed -n \
    's/^.* tests passed, \([0-9]*\) tests* failed out of \([0-9]*\)$/\1 \2/p' \
    "$log")
  [ -n "$counts" ] || {
    echo "ctest ended without its summary" >&2
    exit 1
  }
  failed=$((failed + ${counts% *}))
  passed=$((passed + ${counts#* } - ${counts% *}))
}

check release
[ -z "$with_asan" ] || check asan -L 'unit|fuzz'

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
