/* A class is read as operands of `&&`, each of them members that PCRE2 can have
 * in brackets, and others, which become alternatives of one character each. */
#include "runtime/text/regex_class.h"

#include "runtime/text/unicode.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NESTED = 16, MAX_NAME = 40 };

static const char space_set[] = "\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}"
                                "\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}"
                                "\\x{205f}\\x{3000}";
static const char word_set[] = "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}";

/* Names of properties and of POSIX's brackets, without blanks and signs. Names
 * of one or two letters are general categories; all others are scripts. */
typedef struct property {
  const char *name;
  const char *set;
} property;

static const property properties[] = {
    {"letter", "\\p{L}"},
    {"mark", "\\p{M}"},
    {"number", "\\p{N}"},
    {"punctuation", "\\p{P}"},
    {"symbol", "\\p{S}"},
    {"separator", "\\p{Z}"},
    {"other", "\\p{C}"},
    {"uppercaseletter", "\\p{Lu}"},
    {"lowercaseletter", "\\p{Ll}"},
    {"decimalnumber", "\\p{Nd}"},
    {"alpha", "\\p{Alphabetic}"},
    {"alphabetic", "\\p{Alphabetic}"},
    {"alnum", "\\p{Alphabetic}\\p{Nd}"},
    {"ascii", "\\x{0}-\\x{7f}"},
    {"any", "\\x{0}-\\x{10ffff}"},
    {"cntrl", "\\p{Cc}"},
    {"digit", "\\p{Nd}"},
    {"emoji", "\\p{Emoji}"},
    {"ideographic", "\\p{Ideographic}"},
    {"lower", "\\p{Lowercase}"},
    {"lowercase", "\\p{Lowercase}"},
    {"punct", "\\p{P}"},
    {"space", space_set},
    {"upper", "\\p{Uppercase}"},
    {"uppercase", "\\p{Uppercase}"},
    {"whitespace", space_set},
    {"word", word_set},
    {"xdigit", "0-9A-Fa-f"},
};

static const char *set_of_property(const char *name) {
  for (size_t i = 0; i < sizeof properties / sizeof *properties; i++) {
    if (strcmp(properties[i].name, name) == 0) return properties[i].set;
  }
  return NULL;
}

/* ---- Characters ---------------------------------------------------------- */

moerun_status moerun__regex_put_character(moerun__text *out, int32_t c) {
  return moerun__text_print(out, c < 0x80 && isalnum(c) ? "%c" : "\\x{%x}",
                            (unsigned)c);
}

/* \x1F, \x{1F600}, \u001F: the digits that begin at `at`. */
static moerun_status read_digits(moerun__regex_reader *r, int32_t *c,
                                 size_t most) {
  moerun_status status = MOERUN_OK;
  char digits[9] = "";
  const int in_braces = most == 2 && *r->at == '{';
  const char *at = r->at + in_braces;
  const size_t count = strspn(at, "0123456789abcdefABCDEF");
  const size_t limit = in_braces ? 6 : most;
  const size_t taken = in_braces || count < limit ? count : limit;
  MOERUN_REQUIRE(taken > 0 && taken <= limit &&
                     (!in_braces || at[taken] == '}'),
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: the regular expression has the number of a character "
                 "that cannot be read",
                 r->where);
  memcpy(digits, at, taken);
  *c = (int32_t)strtol(digits, NULL, 16);
  r->at = at + taken + in_braces;
done:
  return status;
}

moerun_status moerun__regex_character(moerun__regex_reader *r, int32_t *c) {
  moerun_status status = MOERUN_OK;
  static const char letters[] = "ntrfvae0";
  static const char meant[] = "\n\t\r\f\v\a\x1b\0";
  int bytes = 0;
  if (*r->at != '\\') {
    *c = moerun__code_point(r->at, &bytes);
    r->at += bytes;
    goto done;
  }
  const char letter = r->at[1];
  const char *found = letter != '\0' ? strchr(letters, letter) : NULL;
  MOERUN_REQUIRE(letter != '\0', MOERUN_ERR_UNSUPPORTED,
                 "%s: the regular expression ends in a backslash", r->where);
  if (letter == 'x' || letter == 'u') {
    r->at += 2;
    MOERUN_TRY(read_digits(r, c, letter == 'x' ? 2 : 4));
  } else if (found != NULL &&
             (letter != '0' || !isdigit((unsigned char)r->at[2]))) {
    *c = (unsigned char)meant[found - letters];
    r->at += 2;
  } else {
    MOERUN_REQUIRE((unsigned char)letter >= 0x80 ||
                       !isalnum((unsigned char)letter),
                   MOERUN_ERR_UNSUPPORTED,
                   "%s: the regular expression has \"\\%c\", which is not "
                   "supported",
                   r->where, letter);
    *c = moerun__code_point(r->at + 1, &bytes);
    r->at += 1 + bytes;
  }
done:
  return status;
}

/* ---- Sets ---------------------------------------------------------------- */

/* A property's members by its name, which goes up to `end`. */
static moerun_status put_property(moerun__regex_reader *r, moerun__text *out,
                                  const char *name, const char *end) {
  moerun_status status = MOERUN_OK;
  char plain[MAX_NAME + 1] = "";
  size_t count = 0;
  const int length = (int)(end - name);
  for (const char *at = name; at < end; at++) {
    const int is_sign = *at == ' ' || *at == '_' || *at == '-';
    MOERUN_REQUIRE((is_sign || isalnum((unsigned char)*at)) && count < MAX_NAME,
                   MOERUN_ERR_UNSUPPORTED,
                   "%s: the regular expression names a property that is not "
                   "known: \"%.*s\"",
                   r->where, length < 80 ? length : 80, name);
    if (!is_sign) plain[count++] = (char)tolower((unsigned char)*at);
  }
  const char *set = set_of_property(plain);
  if (set != NULL) {
    MOERUN_TRY(moerun__text_append(out, set, strlen(set)));
  } else if (count <= 2) {
    plain[0] = (char)toupper((unsigned char)plain[0]);
    MOERUN_TRY(moerun__text_print(out, "\\p{%s}", plain));
  } else {
    MOERUN_TRY(moerun__text_print(out, "\\p{sc:%.*s}", length, name));
  }
done:
  return status;
}

moerun_status moerun__regex_set(moerun__regex_reader *r, moerun__text *out,
                                int *is_negated, char letter) {
  moerun_status status = MOERUN_OK;
  *is_negated = isupper((unsigned char)letter) != 0;
  switch (tolower((unsigned char)letter)) {
  case 'd': MOERUN_TRY(moerun__text_print(out, "\\p{Nd}")); break;
  case 'w': MOERUN_TRY(moerun__text_print(out, "%s", word_set)); break;
  case 's': MOERUN_TRY(moerun__text_print(out, "%s", space_set)); break;
  case 'h': MOERUN_TRY(moerun__text_print(out, "0-9A-Fa-f")); break;
  default: {
    const char *end = *r->at == '{' ? strchr(r->at, '}') : NULL;
    MOERUN_REQUIRE(end != NULL, MOERUN_ERR_UNSUPPORTED,
                   "%s: the regular expression has \"\\%c\" without a property "
                   "in braces",
                   r->where, letter);
    const int is_turned = r->at[1] == '^';
    if (is_turned) *is_negated = !*is_negated;
    MOERUN_TRY(put_property(r, out, r->at + 1 + is_turned, end));
    r->at = end + 1;
  }
  }
done:
  return status;
}

/* ---- Classes ------------------------------------------------------------- */

typedef struct operand {
  moerun__text members; /* in brackets */
  moerun__text others;  /* each with a '|' in front */
} operand;

static void clear_operand(operand *o) {
  moerun__text_clear(&o->members);
  moerun__text_clear(&o->others);
}

static moerun_status put_set_member(operand *o, const moerun__text *set,
                                    int is_negated) {
  moerun_status status = MOERUN_OK;
  /* One property is negated by its letter. */
  const int is_one = set->count > 3 && memcmp(set->bytes, "\\p{", 3) == 0 &&
                     strchr(set->bytes, '}') == set->bytes + set->count - 1;
  if (!is_negated) {
    MOERUN_TRY(moerun__text_append(&o->members, set->bytes, set->count));
  } else if (is_one) {
    MOERUN_TRY(moerun__text_print(&o->members, "\\P%s", set->bytes + 2));
  } else {
    MOERUN_TRY(moerun__text_print(&o->others, "|[^%s]", set->bytes));
  }
done:
  return status;
}

/* [:alpha:] and [:^alpha:]; [:punct:] has more than \p{punct}. */
static moerun_status read_posix(moerun__regex_reader *r, operand *o) {
  moerun_status status = MOERUN_OK;
  moerun__text set = {0};
  const int is_negated = r->at[2] == '^';
  const char *name = r->at + 2 + is_negated;
  const char *end = strstr(name, ":]");
  char plain[MAX_NAME + 1] = "";
  const size_t length = end != NULL ? (size_t)(end - name) : MAX_NAME + 1;
  if (length <= MAX_NAME) memcpy(plain, name, length);
  const char *found =
      strcmp(plain, "punct") == 0 ? "\\p{P}\\p{S}" : set_of_property(plain);
  MOERUN_REQUIRE(found != NULL, MOERUN_ERR_UNSUPPORTED,
                 "%s: the regular expression has \"[:%s:]\", which is not "
                 "supported",
                 r->where, plain);
  MOERUN_TRY(moerun__text_print(&set, "%s", found));
  MOERUN_TRY(put_set_member(o, &set, is_negated));
  r->at = end + 2;
done:
  moerun__text_clear(&set);
  return status;
}

/* A character, or a range if a dash and another one follow. */
static moerun_status read_range(moerun__regex_reader *r, operand *o) {
  moerun_status status = MOERUN_OK;
  int32_t low = 0;
  int32_t high = 0;
  MOERUN_TRY(moerun__regex_character(r, &low));
  MOERUN_TRY(moerun__regex_put_character(&o->members, low));
  const int is_range =
      r->at[0] == '-' && r->at[1] != ']' && r->at[1] != '\0' && r->at[1] != '[';
  if (!is_range) goto done;
  r->at++;
  MOERUN_TRY(moerun__regex_character(r, &high));
  MOERUN_REQUIRE(low <= high, MOERUN_ERR_UNSUPPORTED,
                 "%s: the regular expression has an empty range of characters",
                 r->where);
  MOERUN_TRY(moerun__text_append(&o->members, "-", 1));
  MOERUN_TRY(moerun__regex_put_character(&o->members, high));
done:
  return status;
}

static moerun_status read_member(moerun__regex_reader *r, operand *o,
                                 int depth) {
  moerun_status status = MOERUN_OK;
  moerun__text set = {0};
  int is_negated = 0;
  char letter = '\0';
  if (r->at[0] == '\\') letter = r->at[1];
  if (r->at[0] == '[' && r->at[1] == ':' && strstr(r->at, ":]") != NULL) {
    MOERUN_TRY(read_posix(r, o));
  } else if (r->at[0] == '[') {
    MOERUN_TRY(moerun__text_append(&o->others, "|", 1));
    MOERUN_TRY(moerun__regex_class(r, &o->others, depth + 1));
  } else if (letter != '\0' && strchr("dDwWsShHpP", letter) != NULL) {
    r->at += 2;
    MOERUN_TRY(moerun__regex_set(r, &set, &is_negated, letter));
    MOERUN_TRY(put_set_member(o, &set, is_negated));
  } else if (letter == 'b') {
    r->at += 2;
    MOERUN_TRY(moerun__regex_put_character(&o->members, '\b'));
  } else {
    MOERUN_TRY(read_range(r, o));
  }
done:
  moerun__text_clear(&set);
  return status;
}

/* What an operand meets, as one item. */
static moerun_status put_operand(moerun__regex_reader *r, moerun__text *out,
                                 const operand *o) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(o->members.count > 0 || o->others.count > 0,
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: the regular expression has an empty class", r->where);
  if (o->others.count == 0) {
    MOERUN_TRY(moerun__text_print(out, "[%s]", o->members.bytes));
  } else if (o->members.count == 0) {
    MOERUN_TRY(moerun__text_print(out, "(?:%s)", o->others.bytes + 1));
  } else {
    MOERUN_TRY(moerun__text_print(out, "(?:[%s]%s)", o->members.bytes,
                                  o->others.bytes));
  }
done:
  return status;
}

/* All operands but the last are in `before`, as what must be met there. */
static moerun_status put_class(moerun__regex_reader *r, moerun__text *out,
                               const operand *last, const moerun__text *before,
                               int is_negated) {
  moerun_status status = MOERUN_OK;
  moerun__text meets = {0};
  MOERUN_TRY(put_operand(r, &meets, last));
  const int is_plain = before->count == 0 && last->others.count == 0;
  const char *first = before->count > 0 ? before->bytes : "";
  if (before->count == 0 && !is_negated) {
    MOERUN_TRY(moerun__text_append(out, meets.bytes, meets.count));
  } else if (is_plain) {
    MOERUN_TRY(moerun__text_print(out, "[^%s", meets.bytes + 1));
  } else if (!is_negated) {
    MOERUN_TRY(moerun__text_print(out, "(?:%s%s)", first, meets.bytes));
  } else {
    MOERUN_TRY(
        moerun__text_print(out, "(?:(?!%s%s)(?s:.))", first, meets.bytes));
  }
done:
  moerun__text_clear(&meets);
  return status;
}

moerun_status moerun__regex_class(moerun__regex_reader *r, moerun__text *out,
                                  int depth) {
  moerun_status status = MOERUN_OK;
  operand o = {0};
  moerun__text before = {0};
  const int is_negated = r->at[1] == '^';
  MOERUN_REQUIRE(depth <= MAX_NESTED, MOERUN_ERR_UNSUPPORTED,
                 "%s: the regular expression has more than %d classes in "
                 "classes",
                 r->where, MAX_NESTED);
  r->at += 1 + is_negated;
  for (int is_first = 1; *r->at != ']' || is_first; is_first = 0) {
    MOERUN_REQUIRE(*r->at != '\0', MOERUN_ERR_UNSUPPORTED,
                   "%s: the regular expression leaves a class open", r->where);
    if (strncmp(r->at, "&&", 2) == 0) {
      r->at += 2;
      MOERUN_TRY(moerun__text_append(&before, "(?=", 3));
      MOERUN_TRY(put_operand(r, &before, &o));
      MOERUN_TRY(moerun__text_append(&before, ")", 1));
      clear_operand(&o);
    } else {
      MOERUN_TRY(read_member(r, &o, depth));
    }
  }
  r->at++;
  MOERUN_TRY(put_class(r, out, &o, &before, is_negated));
done:
  moerun__text_clear(&before);
  clear_operand(&o);
  return status;
}
