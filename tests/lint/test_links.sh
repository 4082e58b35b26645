#!/bin/sh
# Shows links.sh documents whose links are sound, then one fault of each kind.
here=$(cd "$(dirname "$0")" && pwd) || exit 2
tree=$(mktemp -d) || exit 2
trap 'rm -rf "$tree"' EXIT
failures=0

# judge CODE WORDS: links.sh ends so and says these words alone.
judge() {
  found=$("$here/links.sh" "$tree")
  code=$?
  if [ $code != "$1" ] || [ "$found" != "$2" ]; then
    echo "expected $1 and '$2', found $code and '$found'"
    failures=1
  fi
}

judge 1 "$tree: expected documents, found none"
mkdir "$tree/a"
echo '# A `b.c`, and "more"' > "$tree/a/b.md"
cat > "$tree/c.md" << 'END'
[b](a/b.md), [b](a/b.md#a-bc-and-more), [a](a/), [x](https://x.org/none#a)
## Here
[here](#here)
END
judge 0 ''
echo '[b](b.md)' >> "$tree/c.md"
judge 1 './c.md: b.md leads nowhere'
sed -i 's/(b.md)/(a\/b.md#none)/' "$tree/c.md"
judge 1 './c.md: a/b.md#none: expected such a heading'
exit $failures
