/* What Oniguruma (Ruby's syntax, UTF-8) and PCRE2 (UTF and UCP, 10.40 or later)
 * read differently, and how it is said to PCRE2:
 *
 *   [A&&B]               (?:(?=[A])[B]); PCRE2 takes the signs as characters
 *   [A[B]] [\S]          alternatives, as PCRE2 has no classes in classes
 *   \s \d \w \h \b       their sets, by White_Space, Nd, and Unicode's `word`
 *   \p{Han}              the script alone, without what other scripts share
 *   X{1,3}+ X{2}?        a repetition of the repetition, not possessive or lazy
 *   (?m:X) X(?i)Y|Z      a dot meets line ends; Y|Z together ignore case
 *   {,3} \v \uFFFF       {0,3}, the vertical tab, a character
 *
 * Every character that is neither a letter nor a digit is written by its
 * number, so that no sign is taken for an operator. What no known tokenizer has
 * (back references, calls, conditions, comments in extended syntax) is
 * refused. One difference stays: where case is ignored, Oniguruma lets "ss"
 * meet the letter that is both. */
#include "runtime/text/regex.h"

#include "runtime/text/regex_class.h"
#include "runtime/text/unicode.h"

#include <ctype.h>
#include <string.h>

enum { MAX_DEPTH = 64, NO_ATOM = -1 };

typedef struct level {
  int64_t atom; /* where the group begins in what is written */
  int closers;  /* groups that were opened for options and end with it */
} level;

typedef struct rewriter {
  moerun__regex_reader reader;
  moerun__text *out;
  int64_t atom;    /* where what a quantifier would repeat begins, or NO_ATOM */
  int is_repeated; /* a quantifier stands behind it already */
  int depth;
  level level[MAX_DEPTH];
} rewriter;

static moerun_status put(rewriter *r, const char *text) {
  return moerun__text_append(r->out, text, strlen(text));
}

static void begin_atom(rewriter *r) {
  r->atom = (int64_t)r->out->count;
  r->is_repeated = 0;
}

/* (?: ) round the atom and its quantifier. */
static moerun_status wrap_atom(rewriter *r) {
  moerun_status status = MOERUN_OK;
  static const char open[] = "(?:";
  const size_t bytes = sizeof open - 1;
  const size_t atom = (size_t)r->atom;
  const size_t count = r->out->count;
  MOERUN_TRY(moerun__text_append(r->out, open, bytes));
  memmove(r->out->bytes + atom + bytes, r->out->bytes + atom, count - atom);
  memcpy(r->out->bytes + atom, open, bytes);
  MOERUN_TRY(put(r, ")"));
done:
  return status;
}

/* ---- Escapes outside of classes ------------------------------------------ */

/* Oniguruma's \w has these six numbers outside of classes, and not within. */
static const char further_words[] = "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}";

static moerun_status read_set(rewriter *r, moerun__text *set, int *is_negated,
                              char letter) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__regex_set(&r->reader, set, is_negated, letter));
  if (letter == 'w' || letter == 'W') {
    MOERUN_TRY(moerun__text_print(set, "%s", further_words));
  }
done:
  return status;
}

static moerun_status put_set(rewriter *r, char letter) {
  moerun_status status = MOERUN_OK;
  moerun__text set = {0};
  int is_negated = 0;
  MOERUN_TRY(read_set(r, &set, &is_negated, letter));
  begin_atom(r);
  MOERUN_TRY(
      moerun__text_print(r->out, "[%s%s]", is_negated ? "^" : "", set.bytes));
done:
  moerun__text_clear(&set);
  return status;
}

static moerun_status put_border(rewriter *r, char letter) {
  moerun_status status = MOERUN_OK;
  moerun__text set = {0};
  int is_negated = 0;
  MOERUN_TRY(read_set(r, &set, &is_negated, 'w'));
  const char *a = letter == 'b' ? "!" : "=";
  const char *b = letter == 'b' ? "=" : "!";
  const char *w = set.bytes;
  begin_atom(r);
  MOERUN_TRY(moerun__text_print(
      r->out, "(?:(?<=[%s])(?%s[%s])|(?<![%s])(?%s[%s]))", w, a, w, w, b, w));
done:
  moerun__text_clear(&set);
  return status;
}

static moerun_status rewrite_escape(rewriter *r) {
  moerun_status status = MOERUN_OK;
  const char letter = r->reader.at[1];
  if (letter != '\0' && strchr("dDwWsShHpP", letter) != NULL) {
    r->reader.at += 2;
    MOERUN_TRY(put_set(r, letter));
  } else if (letter == 'b' || letter == 'B') {
    r->reader.at += 2;
    MOERUN_TRY(put_border(r, letter));
  } else if (letter != '\0' && strchr("AzZGR", letter) != NULL) {
    begin_atom(r);
    MOERUN_TRY(moerun__text_append(r->out, r->reader.at, 2));
    r->reader.at += 2;
  } else {
    int32_t c = 0;
    MOERUN_TRY(moerun__regex_character(&r->reader, &c));
    begin_atom(r);
    MOERUN_TRY(moerun__regex_put_character(r->out, c));
  }
done:
  return status;
}

/* ---- Groups -------------------------------------------------------------- */

static moerun_status open_level(rewriter *r, const char *text) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(r->depth + 1 < MAX_DEPTH, MOERUN_ERR_UNSUPPORTED,
                 "%s: the regular expression has more than %d groups in groups",
                 r->reader.where, MAX_DEPTH - 1);
  r->level[++r->depth] = (level){.atom = (int64_t)r->out->count, .closers = 0};
  MOERUN_TRY(put(r, text));
  r->atom = NO_ATOM;
done:
  return status;
}

static moerun_status close_options(rewriter *r) {
  moerun_status status = MOERUN_OK;
  for (int i = 0; i < r->level[r->depth].closers; i++) {
    MOERUN_TRY(put(r, ")"));
  }
done:
  return status;
}

static moerun_status close_level(rewriter *r) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(r->depth > 0, MOERUN_ERR_UNSUPPORTED,
                 "%s: the regular expression closes a group that is not open",
                 r->reader.where);
  MOERUN_TRY(close_options(r));
  MOERUN_TRY(put(r, ")"));
  r->atom = r->level[r->depth--].atom;
  r->is_repeated = 0;
  r->reader.at++;
done:
  return status;
}

/* (?i) (?mi-x: and so on, from the sign behind the question mark. */
static moerun_status open_options(rewriter *r) {
  moerun_status status = MOERUN_OK;
  char options[16] = "(?";
  size_t count = 2;
  int is_off = 0;
  const char *at = r->reader.at + 2;
  for (; *at != ':' && *at != ')'; at++) {
    const int is_known = *at != '\0' && strchr("imx-", *at) != NULL &&
                         (*at != 'x' || is_off) && count + 2 < sizeof options;
    MOERUN_REQUIRE(is_known, MOERUN_ERR_UNSUPPORTED,
                   "%s: the regular expression has a group \"(?%c\", which is "
                   "not supported",
                   r->reader.where, r->reader.at[2]);
    is_off = is_off || *at == '-';
    options[count] = *at;
    if (*at == 'm') options[count] = 's';
    count++;
  }
  options[count++] = ':';
  options[count] = '\0';
  r->reader.at = at + 1;
  if (*at == ':') {
    MOERUN_TRY(open_level(r, options));
  } else {
    MOERUN_TRY(put(r, options));
    r->level[r->depth].closers++;
    r->atom = NO_ATOM;
  }
done:
  return status;
}

static moerun_status rewrite_open(rewriter *r) {
  moerun_status status = MOERUN_OK;
  static const char *const kept[] = {"(?:", "(?=",  "(?!",
                                     "(?>", "(?<=", "(?<!"};
  const char *at = r->reader.at;
  for (size_t i = 0; i < sizeof kept / sizeof *kept; i++) {
    if (strncmp(at, kept[i], strlen(kept[i])) == 0) {
      r->reader.at += strlen(kept[i]);
      MOERUN_TRY(open_level(r, kept[i]));
      goto done;
    }
  }
  if (at[1] != '?') {
    r->reader.at++;
    MOERUN_TRY(open_level(r, "(?:"));
  } else if (at[2] == '<' && (isalpha((unsigned char)at[3]) || at[3] == '_') &&
             strchr(at, '>') != NULL) {
    r->reader.at = strchr(at, '>') + 1;
    MOERUN_TRY(open_level(r, "(?:"));
  } else {
    MOERUN_TRY(open_options(r));
  }
done:
  return status;
}

/* ---- Quantifiers --------------------------------------------------------- */

/* Length of {n}, {n,}, {n,m}, {,m} at `at`; 0: these are characters. */
static size_t interval_length(const char *at) {
  const char *end = at + 1;
  const size_t low = strspn(end, "0123456789");
  end += low;
  size_t high = 0;
  if (*end == ',') {
    high = strspn(end + 1, "0123456789");
    end += 1 + high;
  }
  return *end == '}' && low + high > 0 ? (size_t)(end - at) + 1 : 0;
}

static moerun_status rewrite_quantifier(rewriter *r) {
  moerun_status status = MOERUN_OK;
  const char *at = r->reader.at;
  const size_t interval = *at == '{' ? interval_length(at) : 0;
  if (*at == '{' && interval == 0) {
    begin_atom(r);
    MOERUN_TRY(moerun__regex_put_character(r->out, '{'));
    r->reader.at++;
    goto done;
  }
  MOERUN_REQUIRE(r->atom != NO_ATOM, MOERUN_ERR_UNSUPPORTED,
                 "%s: the regular expression repeats nothing by \"%c\"",
                 r->reader.where, *at);
  if (r->is_repeated) MOERUN_TRY(wrap_atom(r));
  r->is_repeated = 1;
  if (interval > 0) {
    if (at[1] == ',') MOERUN_TRY(put(r, "{0"));
    const size_t from = at[1] == ',' ? 1 : 0;
    MOERUN_TRY(moerun__text_append(r->out, at + from, interval - from));
    r->reader.at += interval;
    goto done;
  }
  const size_t length = at[1] == '?' || at[1] == '+' ? 2 : 1;
  MOERUN_TRY(moerun__text_append(r->out, at, length));
  r->reader.at += length;
done:
  return status;
}

/* ---- All of it ----------------------------------------------------------- */

static moerun_status rewrite_next(rewriter *r) {
  moerun_status status = MOERUN_OK;
  int32_t c = 0;
  switch (*r->reader.at) {
  case '\\': status = rewrite_escape(r); break;
  case '(': status = rewrite_open(r); break;
  case ')': status = close_level(r); break;
  case '*':
  case '+':
  case '?':
  case '{': status = rewrite_quantifier(r); break;
  case '[':
    begin_atom(r);
    status = moerun__regex_class(&r->reader, r->out, 0);
    break;
  case '|':
  case '^':
  case '$':
    MOERUN_TRY(moerun__text_append(r->out, r->reader.at++, 1));
    r->atom = NO_ATOM;
    break;
  case '.':
    begin_atom(r);
    MOERUN_TRY(moerun__text_append(r->out, r->reader.at++, 1));
    break;
  default:
    MOERUN_TRY(moerun__regex_character(&r->reader, &c));
    begin_atom(r);
    status = moerun__regex_put_character(r->out, c);
  }
done:
  return status;
}

moerun_status moerun__regex_rewrite(moerun__text *out, const char *regex,
                                    const char *where) {
  moerun_status status = MOERUN_OK;
  rewriter r = {
      .reader = {.at = regex, .where = where}, .out = out, .atom = NO_ATOM};
  MOERUN_TRY(put(&r, ""));
  while (*r.reader.at != '\0') {
    MOERUN_TRY(rewrite_next(&r));
  }
  MOERUN_REQUIRE(r.depth == 0, MOERUN_ERR_UNSUPPORTED,
                 "%s: the regular expression leaves a group open", where);
  MOERUN_TRY(close_options(&r));
done:
  return status;
}
