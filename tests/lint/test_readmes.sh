#!/bin/sh
# Shows readmes.sh a tree in which all is named, then one fault of each kind.
here=$(cd "$(dirname "$0")" && pwd) || exit 2
tree=$(mktemp -d) || exit 2
trap 'rm -rf "$tree"' EXIT
failures=0

reset() {
  rm -rf "${tree:?}"/*
  mkdir -p "$tree/kernels/cpu" "$tree/runtime/base" "$tree/runtime/plan" \
    "$tree/runtime/model"
  cat > "$tree/kernels/README.md" << 'END'
Prose names `prose.c` only.

| file | what |
|---|---|
| `table.c`, `set*.[ch]` `cpu/` | kernels |
| `near.h` | a second column with `second.c` |
END
  echo "| \`model/model.[ch]\` \`base/\` \`plan/\` | models |" > "$tree/runtime/README.md"
  echo "| \`plan.c\` | plans |" > "$tree/runtime/plan/README.md"
  for file in kernels/table.c kernels/sets.h kernels/cpu/ref.c \
    kernels/cpu/near.h runtime/model/model.h runtime/base/stop.c \
    runtime/plan/plan.c; do
    echo '/* empty */' > "$tree/$file"
  done
}

# says WORDS: readmes.sh fails and has a line of these words alone.
says() {
  if ! "$here/readmes.sh" "$tree" > "$tree/said" && grep -qxF "$1" "$tree/said"; then
    return
  fi
  echo "expected: $1, found: $(cat "$tree/said")"
  failures=1
}

reset
"$here/readmes.sh" "$tree" || { echo 'wrongly refused'; failures=1; }

for unnamed in kernels/prose.c kernels/second.c runtime/plan/give.h; do
  reset
  echo '/* empty */' > "$tree/$unnamed"
  says "$unnamed: expected to stand in a table of ${unnamed%/*}/README.md"
done

reset
rm "$tree/kernels/table.c"
says "kernels/README.md: lists table.c, which is no file of the folder"
rm -rf "${tree:?}"/*
says "no README.md under $tree"
exit $failures
