#!/bin/sh
# No struct of a header has more than 20 members that strangers write: files that
# are not of the struct's folder with a name that begins as the header's does. A
# member counts once some stranger assigns to it, or names it in an initialiser.
# Rows of constant tables (static const, extern const: operations, features) do
# not count, for each is filled in one place and never written to again. Names
# decide, not types: a variable is taken for a struct where it is declared so in
# its file, or as a member in any header. tests/ may write what they like.
cd "${1:-.}" || exit 2
most=${2:-20}
folders=
for folder in runtime placement comm kernels launch benchmarks; do
  [ -d "$folder" ] && folders="$folders $folder"
done
# shellcheck disable=SC2086 # a list of words
headers=$(find $folders -name '*.h' ! -path '*/build/*' | LC_ALL=C sort)
# shellcheck disable=SC2086
sources=$(find $folders -name '*.[ch]' ! -path '*/build/*' | LC_ALL=C sort)
# shellcheck disable=SC2086
awk -v most="$most" '
BEGIN {
  assignment = "[a-z_0-9]+(->|[.])[a-z_0-9]+([[][^]]*[]])*" \
               "( ([-+|&*/^%]|<<|>>)?=( |$)|[+][+]|--)"
}
# The line without comments.
function code(line, out, i) {
  out = ""
  while (length(line) > 0) {
    if (in_comment) {
      if (!(i = index(line, "*/"))) return out
      line = substr(line, i + 2)
      in_comment = 0
    } else {
      if (!(i = index(line, "/*"))) return out line
      out = out substr(line, 1, i - 1)
      line = substr(line, i + 2)
      in_comment = 1
    }
  }
  return out
}
# Folder and the first letters of the name: who is no stranger.
function family(path, folder, name) {
  folder = name = path
  sub("[^/]*$", "", folder)
  sub("^.*/", "", name)
  sub(/\.[ch]$/, "", name)
  return folder substr(name, 1, 5)
}
function is_own(s, path, name) {
  if (family(path) == family(header[s])) return 1
  name = header[s] # short names, such as plan.h and its plan_give.c
  sub(/\.h$/, "", name)
  return index(path, name) == 1
}
# Names behind the type of one declaration: "a", "*b", "c[3]", "(*f)(...)".
function declarators(text, out, n, depth, k, c) {
  n = depth = 0
  out[++n] = ""
  for (k = 1; k <= length(text); k++) {
    c = substr(text, k, 1)
    if (index("([{", c)) depth++
    if (index(")]}", c)) depth--
    if (c == "," && depth == 0) out[++n] = ""
    else out[n] = out[n] c
  }
  return n
}
function name_of(text) {
  if (match(text, /\(\*[a-z_0-9]+\)/)) return substr(text, RSTART + 2, RLENGTH - 3)
  sub("[:=].*", "", text)
  sub("[[].*", "", text)
  sub(/ +$/, "", text)
  return match(text, /[a-z_0-9A-Z]+$/) ? substr(text, RSTART, RLENGTH) : ""
}
# A member of struct s.
function add_member(s, text, list, n, k, type, name) {
  n = declarators(text, list)
  type = list[1]
  for (k = 1; k <= n; k++) {
    name = name_of(list[k])
    if (name == "") continue
    member[s, name] = 1
    count[s]++
    if (match(type, /moerun_[a-z_0-9]+ /)) {
      typed[substr(type, RSTART, RLENGTH - 1), name] = 1
    }
  }
}
function write_to(s, name) {
  if (!((s, name) in member) || is_own(s, FILENAME)) return
  if (!((s, name) in written)) strangers[s]++
  written[s, name] = written[s, name] == "" ? FILENAME : written[s, name]
}
FNR == 1 {
  in_comment = 0
  inside = ""
  text = ""
  split("", here)
  initialiser = ""
}
{ line = code($0) }

# ---- Headers: structs and their members
pass != 2 && inside == "" && match(line, /^(typedef )?struct [a-z_0-9]+ \{/) {
  inside = line
  sub(/^(typedef )?struct /, "", inside)
  sub(/ .*/, "", inside)
  header[inside] = FILENAME
  text = ""
  next
}
pass != 2 && inside != "" {
  if (line ~ /^}/) {
    inside = ""
    next
  }
  text = text " " line
  while ((i = index(text, ";")) > 0) {
    add_member(inside, substr(text, 1, i - 1))
    text = substr(text, i + 1)
  }
  next
}
pass != 2 { next }

# ---- All files: who writes to what
{
  rest = line
  while (match(rest, /moerun_[a-z_0-9]+ \**[a-z_0-9]+/)) {
    found = substr(rest, RSTART, RLENGTH)
    type = name = found
    sub(/ .*/, "", type)
    sub(/^[^ ]* \**/, "", name)
    if (type in header) here[type, name] = 1
    rest = substr(rest, RSTART + RLENGTH)
  }
  # An initialiser, up to the line with its end.
  if (initialiser == "" &&
      match(line, /moerun_[a-z_0-9]+( \**[a-z_0-9]+(\[[^]]*\])* =|\)) *\{/)) {
    type = substr(line, RSTART)
    sub(/[ )].*/, "", type)
    before = substr(line, 1, RSTART - 1)
    if (type in header) {
      initialiser = type
      is_constant = before ~ /(static|extern)? ?const $/ && before !~ /^  /
      depth = 0
      line_part = substr(line, RSTART)
    }
  } else line_part = line
  if (initialiser != "") {
    rest = line_part
    while (match(rest, /[{}]|\.[a-z_0-9]+ =/)) {
      found = substr(rest, RSTART, RLENGTH)
      rest = substr(rest, RSTART + RLENGTH)
      if (found == "{") depth++
      else if (found == "}") {
        if (--depth == 0) {
          initialiser = ""
          break
        }
      } else if (depth == 1 && !is_constant) {
        name = substr(found, 2)
        sub(/ =$/, "", name)
        write_to(initialiser, name)
      }
    }
  }
  # x->name = , x.name += , x->name[i]++
  rest = line
  while (match(rest, assignment)) {
    found = substr(rest, RSTART, RLENGTH)
    rest = substr(rest, RSTART + RLENGTH)
    name = found
    sub(/(->|\.).*/, "", found)
    sub(/^[a-z_0-9]+(->|\.)/, "", name)
    sub(/[^a-z_0-9].*/, "", name)
    for (s in header) {
      if (count[s] <= most) continue
      if ((s, found) in here || (s, found) in typed) write_to(s, name)
    }
  }
}
END {
  for (s in strangers) {
    if (strangers[s] <= most) continue
    printf "%s: struct %s: expected at most %d members that other files " \
           "write, found %d:", header[s], s, most, strangers[s]
    for (key in written) {
      split(key, of, SUBSEP)
      if (of[1] == s) printf " %s (%s)", of[2], written[key]
    }
    printf "\n"
    failed = 1
  }
  exit failed
}
' pass=1 $headers pass=2 $sources
