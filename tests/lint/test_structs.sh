#!/bin/sh
# structs.sh over a small tree with breaches planted in it: at most 3 members.
lint=$(dirname "$0")/structs.sh
tree=$(mktemp -d) || exit 2
trap 'rm -rf "$tree"' EXIT
failures=0
mkdir -p "$tree/runtime/a" "$tree/runtime/b" "$tree/tests"
cat > "$tree/runtime/a/large.h" << 'END'
typedef struct moerun__large {
  int32_t one; /* .two = */
  const char *two, *three;
  int (*four)(int, int);
  int32_t five[3];
} moerun__large;
typedef struct moerun__outer {
  moerun__large *inner;
} moerun__outer;
END

# expect NAME MEMBERS TEXT: of a stranger's file; MEMBERS 0: nothing is found.
expect() {
  printf '%s\n' "$3" > "$tree/runtime/b/x.c"
  found=$(sh "$lint" "$tree" 3)
  code=$?
  case $2:$code:$found in
  0:0:) ;;
  "$2:1:runtime/a/large.h: struct moerun__large: "*" found $2: "*) ;;
  *)
    echo "$1: expected $2, found $code: $found"
    failures=$((failures + 1))
    ;;
  esac
}

expect 'three members' 0 'void f(moerun__large *x) {
  x->one = 1;
  x->two = x->three;
  x->five[0] += 2;
  x->five[1]++;
  if (x->three == x->two || x->four != NULL) y->four = NULL;
}'
expect 'four members' 4 'void f(moerun__large *x) {
  x->one |= 1;
  x->two = NULL;
  x->four = f;
  x->five[i + 1]--;
}'
expect 'through another' 4 'void f(moerun__outer *o) {
  o->inner->one = 1;
  o->inner->two = o->inner->three = NULL;
  o->inner->four = f;
}'
expect 'an initialiser' 5 'void f(void) {
  const moerun__large x = {.one = 1, .two = {.none = 2},
                           .three = "3", .four = f,
                           .five = {1, 2, 3}};
}'
expect 'a literal' 4 'void f(void) {
  g((moerun__large){.one = 1, .two = "2", .three = "3", .four = f});
}'
expect 'a constant table' 0 'static const moerun__large rows[] = {
    {.one = 1, .two = "2", .three = "3", .four = f},
    {.one = 2, .two = "2", .three = "3", .four = f}};
const moerun__large row = {.one = 1, .two = "2", .three = "3", .four = f};'
expect 'comments' 0 '/* x->one = 1; x->two = 2; */
void f(moerun__large *x) {
  x->three = 3; /* x->four = 4;
  x->five = 5; */
}'
four='void f(moerun__large *x) { x->one = x->two = x->three = x->four = 0; }'
echo "$four" > "$tree/runtime/a/large_more.c"
echo "$four" > "$tree/tests/x.c"
expect 'own files and tests' 0 ''

echo "$failures failures"
[ "$failures" = 0 ]
