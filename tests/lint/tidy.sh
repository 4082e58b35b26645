#!/bin/sh
# clang-tidy over every source in the compile database of BUILD, two at a time.
# Exit status 77 (skipped) without it. Arguments: BUILD, the source tree.
build=$1
cd "${2:-.}" || exit 2
command -v clang-tidy > /dev/null || exit 77
sed -n 's/^ *"file": "\(.*\)",\{0,1\}$/\1/p' "$build/compile_commands.json" |
  LC_ALL=C sort -u |
  xargs -P "$(nproc)" -n 1 clang-tidy -p "$build" --quiet 2> /dev/null
