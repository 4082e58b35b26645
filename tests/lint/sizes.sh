#!/bin/sh
# Files of at most 600 lines, functions (of tests excepted: tables of cases) of
# at most 80, the top CMakeLists.txt of at most 200, the public header of at
# most 320. Functions are found by their braces in column 0, which clang-format
# guarantees. Lines of C have at most 80 characters: clang-format lets comments
# pass.
cd "${1:-.}" || exit 2
folders=
for folder in runtime placement comm kernels launch tests benchmarks; do
  [ -d "$folder" ] && folders="$folders $folder"
done
# shellcheck disable=SC2086 # a list of words
find CMakeLists.txt $folders -type f ! -path '*/build/*' \
  \( -name '*.[ch]' -o -name '*.sh' -o -name '*.py' -o -name CMakeLists.txt \) |
  LC_ALL=C sort | {
  files=$(cat)
  status=0
  # shellcheck disable=SC2086
  LC_ALL=C.UTF-8 grep -nE '^.{81}' $(echo "$files" | grep '[.][ch]$') /dev/null |
    sed 's/^\([^:]*:[0-9]*\):.*/\1: expected at most 80 columns, found more/' |
    grep . && status=1
  # shellcheck disable=SC2086
  awk '
function finish_file() {
  limit = name == "CMakeLists.txt" ? 200 : name ~ /moerun\/moerun.h$/ ? 320 : 600
  if (lines > limit) {
    printf "%s: expected at most %d lines, found %d\n", name, limit, lines
    failed = 1
  }
}
FNR == 1 { finish_file(); name = FILENAME; begin = 0 }
{ lines = FNR }
name !~ /\.[ch]$/ || name ~ /^tests\// { next }
/^[A-Za-z_][^=;]*\(/ && !begin { begin = FNR; title = $0 }
/^}/ || /^[^ \t}].*;$/ {
  if (/^}/ && begin && FNR - begin >= 80) {
    printf "%s:%d: expected at most 80 lines, found %d: %s\n", name, begin,
           FNR - begin + 1, title
    failed = 1
  }
  begin = 0
}
END { finish_file(); exit failed }
' $files || status=1
  exit $status
}
