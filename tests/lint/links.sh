#!/bin/sh
# Every link of a document to another file, or to a heading, leads there, in the
# source tree and as installed. Argument: the folder whose documents are read.
cd "${1:-.}" || exit 2

# headings FILE: as links name them.
headings() {
  sed -n '/^```/,/^```/!s/^##* //p' "$1" | tr 'A-Z ' 'a-z-' |
    LC_ALL=C.UTF-8 sed 's/[^[:alnum:]_-]//g'
}

find . -name '*.md' ! -path './build*' ! -path './_*' | LC_ALL=C sort > \
  "${TMPDIR:-/tmp}/links.$$"
trap 'rm -f "${TMPDIR:-/tmp}/links.$$"' EXIT
[ -s "${TMPDIR:-/tmp}/links.$$" ] || {
  echo "$1: expected documents, found none"
  exit 1
}
while read -r document; do
  grep -o ']([^)[:blank:]]*)' "$document" | sed 's/^](//; s/)$//' |
    grep -v '^[a-z]*:' | LC_ALL=C sort -u |
    while read -r link; do
      file=${link%%#*} heading=${link#"${link%%#*}"}
      to=$(dirname "$document")/$file
      [ -n "$file" ] || to=$document
      if [ ! -e "$to" ]; then
        echo "$document: $link leads nowhere"
      elif [ -n "$heading" ] && ! headings "$to" | grep -qxF -- "${heading#?}"
      then
        echo "$document: $link: expected such a heading"
      fi
    done
done < "${TMPDIR:-/tmp}/links.$$" | {
  ! grep .
}
