#!/bin/sh
# Every source file stands in a table of its folder's README, and every source
# file that stands there exists. A name is what the first column has between
# backquotes; it is a pattern, may leave out folders, and one that ends in a
# slash is of all files in that folder. Argument: the source tree.
cd "${1:-.}" || exit 2
failed=0
found=0
set -f

# is_of FILE NAME
# shellcheck disable=SC2254 # NAME is a pattern
is_of() {
  case $1 in $2 | */$2) return 0 ;; esac
  case $2 in */) case $1 in "$2"*) return 0 ;; esac ;; esac
  return 1
}

# any_is_of FILES NAMES: some file is of some name.
any_is_of() {
  for file in $1; do
    for name in $2; do
      if is_of "$file" "$name"; then return 0; fi
    done
  done
  return 1
}

for folder in runtime runtime/plan placement comm kernels launch benchmarks; do
  readme=$folder/README.md
  [ -f "$readme" ] || continue
  found=1
  # shellcheck disable=SC2016 # backquotes of the table
  names=$(sed -n 's/^| \(`[^|]*\) |.*/\1/p' "$readme" |
    grep -o '`[^` ]*`' | tr -d '`')
  files=$(cd "$folder" && find . -name '*.[ch]' | sed 's,^\./,,' | LC_ALL=C sort)
  for source in $files; do
    any_is_of "$source" "$names" && continue
    echo "$folder/$source: expected to stand in a table of $readme"
    failed=1
  done
  for listed in $(printf '%s\n' "$names" | grep -E '\.(c|h|\[ch\])$'); do
    any_is_of "$files" "$listed" && continue
    echo "$readme: lists $listed, which is no file of the folder"
    failed=1
  done
done
[ $found = 1 ] || { echo "no README.md under $PWD"; exit 2; }
exit $failed
