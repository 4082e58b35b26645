/* Calls of what is built in: the table of names, and which argument is which
 * parameter. */
#include "runtime/text/template/render.h"

#include <string.h>

static const moerun__builtin *find_in(const moerun__builtin *rows,
                                      const char *name, size_t length) {
  for (; rows->name != NULL; rows++) {
    if (strlen(rows->name) == length && memcmp(rows->name, name, length) == 0) {
      return rows;
    }
  }
  return NULL;
}

const moerun__builtin *moerun__filter_find(const char *name) {
  const moerun__builtin *const tables[] = {
      moerun__text_filters, moerun__list_filters, moerun__choice_filters,
      moerun__number_filters, NULL};
  for (size_t i = 0; tables[i] != NULL; i++) {
    const moerun__builtin *found = find_in(tables[i], name, strlen(name));
    if (found != NULL) return found;
  }
  return NULL;
}

const moerun__builtin *moerun__test_find(const char *name) {
  return find_in(moerun__tests, name, strlen(name));
}

const moerun__builtin *moerun__function_find(const char *name) {
  return find_in(moerun__functions, name, strlen(name));
}

/* Methods of Python that are not known here. */
static int is_python_method(moerun__value_kind kind, const char *name,
                            size_t length) {
  static const char text[] =
      " casefold center encode expandtabs islower isupper ljust rjust zfill "
      "format_map isascii isdecimal isidentifier "
      "isnumeric isprintable istitle maketrans rindex swapcase translate ";
  static const char number[] =
      " as_integer_ratio bit_count bit_length conjugate denominator from_bytes "
      "fromhex hex imag is_integer numerator real to_bytes ";
  static const char other[] = " count index mapping isdisjoint start stop step "
                              "copy throw send close ";
  const char *list =
      kind == VALUE_TEXT ? text
      : kind == VALUE_BOOL || kind == VALUE_INTEGER || kind == VALUE_REAL
          ? number
      : kind == VALUE_VIEW || kind == VALUE_RANGE || kind == VALUE_ITERATOR ||
              kind == VALUE_LOOP
          ? other
          : "";
  for (const char *at = list; (at = strchr(at, ' ')) != NULL; at++) {
    if (length > 0 && strncmp(at + 1, name, length) == 0 &&
        at[1 + length] == ' ') {
      return 1;
    }
  }
  return 0;
}

const moerun__builtin *moerun__member_method(int *known,
                                             moerun__value_kind kind,
                                             const char *name, size_t length) {
  static const moerun__builtin *const tables[VALUE_KINDS] = {
      [VALUE_TEXT] = moerun__text_methods,
      [VALUE_DICT] = moerun__dict_methods,
      [VALUE_LIST] = moerun__list_methods,
      [VALUE_TUPLE] = moerun__list_methods,
      [VALUE_LOOP] = moerun__loop_methods};
  const moerun__builtin *rows = tables[kind];
  const moerun__builtin *found =
      rows != NULL ? find_in(rows, name, length) : NULL;
  *known = found != NULL || is_python_method(kind, name, length);
  return found;
}

/* The parameter of this name, -1 if there is none. */
static int parameter_of(const char *parameters, const moerun__value *name) {
  int at = 0;
  for (const char *word = parameters; *word != '\0'; at++) {
    const size_t length = strcspn(word, " ");
    if (name->text.count == length &&
        memcmp(name->text.bytes, word, length) == 0) {
      return at;
    }
    word += length;
    while (*word == ' ')
      word++;
  }
  return -1;
}

static int parameter_count(const char *parameters) {
  int count = *parameters != '\0';
  for (; *parameters != '\0'; parameters++) {
    count += *parameters == ' ';
  }
  return count;
}

moerun_status moerun__builtin_apply(moerun__value *out,
                                    struct moerun__render *r,
                                    const moerun__builtin *builtin,
                                    const char *what,
                                    const moerun__value *subject,
                                    const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__value a[MOERUN_MOST_PARAMETERS] = {{0}};
  MOERUN_TRY(moerun__render_deeper(r));
  MOERUN_TRY(moerun__render_spend(r, 1));
  MOERUN_REQUIRE(builtin->call != NULL, MOERUN_ERR_UNSUPPORTED,
                 "the %s \"%s\" is not known", what, builtin->name);
  if (strcmp(builtin->parameters, "*") != 0) {
    const int count = parameter_count(builtin->parameters);
    MOERUN_REQUIRE(given->count <= (size_t)count, MOERUN_ERR_INVALID,
                   "the %s \"%s\" takes at most %d arguments, found %zu", what,
                   builtin->name, count, given->count);
    for (size_t i = 0; i < given->count; i++) {
      a[i] = given->at[i];
    }
    for (size_t i = 0; i < given->named_count; i++) {
      const moerun__value *name = &given->named[i].name;
      const int at = parameter_of(builtin->parameters, name);
      MOERUN_REQUIRE(at >= 0 && a[at].kind == VALUE_ABSENT, MOERUN_ERR_INVALID,
                     "the %s \"%s\" takes no argument \"%.*s\"%s", what,
                     builtin->name, moerun__shown_bytes(name), name->text.bytes,
                     at >= 0 ? " twice" : "");
      a[at] = given->named[i].value;
    }
    for (int i = 0; i < builtin->required; i++) {
      MOERUN_REQUIRE(a[i].kind != VALUE_ABSENT, MOERUN_ERR_INVALID,
                     "the %s \"%s\" needs %d arguments", what, builtin->name,
                     builtin->required);
    }
  }
  MOERUN_TRY(builtin->call(out, r, subject, a, given));
done:
  r->depth--;
  return status;
}

static moerun_status want(const moerun__value *value, const char *what,
                          const char *expected) {
  if (value->kind == VALUE_UNDEFINED) {
    return moerun__fail(MOERUN_ERR_INVALID, __FILE__, __LINE__,
                        "%s: \"%.60s\" is not defined", what,
                        value->missing.name);
  }
  return moerun__fail(MOERUN_ERR_INVALID, __FILE__, __LINE__,
                      "%s: expected %s, found a %s", what, expected,
                      moerun__kind_name(value));
}

moerun_status moerun__want_text(const moerun__value *value, const char *what) {
  return value->kind == VALUE_TEXT ? MOERUN_OK : want(value, what, "a str");
}

moerun_status moerun__want_integer(int64_t *out, const moerun__value *value,
                                   int64_t fallback, const char *what) {
  *out = fallback;
  if (value->kind == VALUE_ABSENT) return MOERUN_OK;
  if (!moerun__is_integral(value)) return want(value, what, "an int");
  *out = moerun__integer_of(value);
  return MOERUN_OK;
}
