#!/bin/sh
# docs/options.md is what the program prints, every key of it is read by a
# subcommand, and every key that is read is in it.
# Arguments: the program, the source tree.
program=$1
cd "${2:-.}" || exit 2
table=$("$program" info --config-table) || exit 2
failed=0
# Where options are used, not where they are listed.
sources=$(find launch -name '*.[ch]' ! -name 'option_rows*' ! -name 'effect_rows*')

if [ "$(cat docs/options.md)" != "$table" ]; then
  echo "docs/options.md: expected what \`moerun info --config-table\` prints; run"
  echo "  build/release/launch/moerun info --config-table > docs/options.md"
  failed=1
fi

keys=$(printf '%s\n' "$table" | sed -n 's/^| `\([a-z_0-9]*\)`.*/\1/p' | sort -u)
for key in $keys; do
  # The loader itself reads the key that names the configuration file.
  [ "$key" = config ] && continue
  # shellcheck disable=SC2086 # a list of words
  grep -q "\"$key\"" $sources && continue
  echo "configuration key $key: expected to be read in launch/, found nowhere"
  failed=1
done
# shellcheck disable=SC2086
read_keys=$(cat $sources | tr -d '\n' |
  grep -oE 'moerun__config_(int|double|bool|text|origin_of)\([^,()]*, *"[^"]*"' |
  sed 's/.*"\([^"]*\)"/\1/' | sort -u)
for key in $read_keys; do
  printf '%s\n' "$keys" | grep -qx "$key" && continue
  echo "launch/: reads the configuration key $key, which is not in the table"
  failed=1
done
exit $failed
