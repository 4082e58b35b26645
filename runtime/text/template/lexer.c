/* Which blanks are dropped follows Jinja's lexer rule by rule: "-" inside a tag
 * strips all blanks on its side, "+" keeps them, a block or comment drops the
 * newline behind it, and blanks between the start of a line and a block or
 * comment go. What a "-" or a newline at the end of a tag took decides whether
 * the next text starts a line. */
#include "runtime/text/template/lexer.h"

#include "runtime/text/unicode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { ESCAPE_BYTES = 8, OPEN_BRACKETS = 128 };

typedef struct lexer {
  moerun__tokens *out;
  moerun__pool *pool;
  const char *at;
  const char *end;
  int *line;
  int line_starting;
} lexer;

static moerun_status add(lexer *l, moerun__token_kind kind, const char *text,
                         const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  moerun__tokens *out = l->out;
  if (out->count == out->room) {
    moerun__token *larger = NULL;
    const size_t room = out->room * 2 + 64;
    MOERUN_TRY(moerun__pool_take(l->pool, &larger, room * sizeof *larger));
    if (out->count > 0) memcpy(larger, out->at, out->count * sizeof *larger);
    out->at = larger;
    out->room = room;
  }
  out->at[out->count] =
      (moerun__token){.kind = kind, .line = *l->line, .text = text};
  if (value != NULL) out->at[out->count].value = *value;
  out->count++;
done:
  return status;
}

static void count_lines(lexer *l, const char *from, const char *to) {
  for (; from < to; from++) {
    *l->line += *from == '\n';
  }
}

static int looks_at(const lexer *l, const char *at, const char *text) {
  const size_t length = strlen(text);
  return (size_t)(l->end - at) >= length && memcmp(at, text, length) == 0;
}

/* Behind the blanks at `at`. */
static const char *skip_blanks(const lexer *l, const char *at) {
  while (at < l->end) {
    size_t length = 0;
    if (!moerun__is_blank(moerun__character_at(at, &length))) {
      break;
    }
    at += length;
  }
  return at;
}

/* The end of [from, to) without the blanks at its end. */
static const char *without_blanks(const char *from, const char *to) {
  while (to > from) {
    const char *start = to - 1;
    size_t length = 0;
    while (start > from && ((unsigned char)*start & 0xC0) == 0x80)
      start--;
    if (!moerun__is_blank(moerun__character_at(start, &length))) {
      break;
    }
    to = start;
  }
  return to;
}

/* The end of the text [from, tag) in front of a tag with this sign. */
static const char *text_end(const lexer *l, const char *from, const char *tag,
                            char sign, int is_print) {
  if (sign == '-') return without_blanks(from, tag);
  if (sign == '+' || is_print) return tag;
  const char *start = tag;
  while (start > from && start[-1] != '\n')
    start--;
  if (start == from && !l->line_starting) return tag;
  return without_blanks(start, tag) == start ? start : tag;
}

static moerun_status add_data(lexer *l, const char *from, const char *to) {
  if (to == from) return MOERUN_OK;
  const moerun__value text = moerun__borrowed_text(from, (size_t)(to - from));
  return add(l, TOKEN_DATA, NULL, &text);
}

/* If the end of a tag stands at `at` ("-%}" with blanks, "+%}", or "%}" with a
 * newline where `trims`), *next is behind it. */
static int ends_tag(const lexer *l, const char *at, const char *closing,
                    int plus, int trims, const char **next) {
  const size_t length = strlen(closing);
  if (looks_at(l, at, closing)) {
    *next = at + length;
    if (trims && *next < l->end && **next == '\n') (*next)++;
    return 1;
  }
  if (at < l->end && *at == '-' && looks_at(l, at + 1, closing)) {
    *next = skip_blanks(l, at + 1 + length);
    return 1;
  }
  if (plus && at < l->end && *at == '+' && looks_at(l, at + 1, closing)) {
    *next = at + 1 + length;
    return 1;
  }
  return 0;
}

/* Goes on behind `next`, which ends a token. */
static void advance(lexer *l, const char *next) {
  count_lines(l, l->at, next);
  if (next > l->at) l->line_starting = next[-1] == '\n';
  l->at = next;
}

static moerun_status skip_comment(lexer *l) {
  moerun_status status = MOERUN_OK;
  const char *at = l->at;
  const char *next = NULL;
  while (at < l->end && !ends_tag(l, at, "#}", 1, 1, &next))
    at++;
  MOERUN_REQUIRE(at < l->end, MOERUN_ERR_FORMAT, "a comment has no end");
  advance(l, next);
done:
  return status;
}

/* ---- Raw blocks ---------------------------------------------------------- */

/* Whether {% WORD %} stands at `at`; *next is behind it. */
static int is_word_block(const lexer *l, const char *at, const char *word,
                         int ends_raw, const char **next) {
  if (!looks_at(l, at, "{%")) return 0;
  at += 2;
  if (at < l->end && (*at == '-' || *at == '+')) at++;
  at = skip_blanks(l, at);
  if (!looks_at(l, at, word)) return 0;
  at = skip_blanks(l, at + strlen(word));
  return ends_tag(l, at, "%}", ends_raw, ends_raw, next);
}

static moerun_status add_raw(lexer *l, const char *begin) {
  moerun_status status = MOERUN_OK;
  const char *next = NULL;
  advance(l, begin);
  const char *at = l->at;
  while (at < l->end && !is_word_block(l, at, "endraw", 1, &next))
    at++;
  MOERUN_REQUIRE(at < l->end, MOERUN_ERR_FORMAT, "a raw block has no end");
  MOERUN_TRY(add_data(l, l->at, text_end(l, l->at, at, at[2], 0)));
  advance(l, next);
done:
  return status;
}

/* ---- Inside tags --------------------------------------------------------- */

static int is_name_byte(char c, int first) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
         (!first && c >= '0' && c <= '9');
}

static int is_digit(char c) {
  return c >= '0' && c <= '9';
}

static moerun_status add_name(lexer *l) {
  moerun_status status = MOERUN_OK;
  const char *end = l->at;
  char *name = NULL;
  while (end < l->end && is_name_byte(*end, 0))
    end++;
  const size_t length = (size_t)(end - l->at);
  MOERUN_TRY(moerun__pool_take(l->pool, &name, length + 1));
  memcpy(name, l->at, length);
  MOERUN_TRY(add(l, TOKEN_NAME, name, NULL));
  advance(l, end);
done:
  return status;
}

/* Behind digits with single underscores between them, or NULL. */
static const char *digits_end(const lexer *l, const char *at) {
  if (at >= l->end || !is_digit(*at)) return NULL;
  while (at < l->end && (is_digit(*at) ||
                         (*at == '_' && at + 1 < l->end && is_digit(at[1])))) {
    at++;
  }
  return at;
}

static const char *real_end(const lexer *l, const char *integer_end) {
  const char *end = integer_end;
  int real = 0;
  if (end < l->end && *end == '.') {
    const char *fraction = digits_end(l, end + 1);
    if (fraction != NULL) {
      end = fraction;
      real = 1;
    }
  }
  if (end < l->end && (*end == 'e' || *end == 'E')) {
    const char *digits = end + 1;
    if (digits < l->end && (*digits == '+' || *digits == '-')) digits++;
    digits = digits_end(l, digits);
    if (digits != NULL) {
      end = digits;
      real = 1;
    }
  }
  return real ? end : NULL;
}

static moerun_status add_number(lexer *l) {
  moerun_status status = MOERUN_OK;
  char spelt[64];
  size_t length = 0;
  const char *integer_end = digits_end(l, l->at);
  /* The one behind a dot is an index, as in x.0. */
  const int after_dot = l->out->count > 0 &&
                        l->out->at[l->out->count - 1].kind == TOKEN_OPERATOR &&
                        strcmp(l->out->at[l->out->count - 1].text, ".") == 0;
  const char *fraction_end = after_dot ? NULL : real_end(l, integer_end);
  const char *end = fraction_end != NULL ? fraction_end : integer_end;
  moerun__value value;
  for (const char *at = l->at; at < end && length + 1 < sizeof spelt; at++) {
    if (*at != '_') spelt[length++] = *at;
  }
  spelt[length] = '\0';
  MOERUN_REQUIRE(length + 1 < sizeof spelt, MOERUN_ERR_UNSUPPORTED,
                 "a number of more than %zu characters", sizeof spelt - 2);
  if (fraction_end != NULL) {
    value = moerun__real(strtod(spelt, NULL));
  } else {
    errno = 0;
    value = moerun__integer(strtoll(spelt, NULL, 10));
    MOERUN_REQUIRE(errno == 0, MOERUN_ERR_UNSUPPORTED,
                   "the integer %s has more than 64 bits", spelt);
    MOERUN_REQUIRE(spelt[0] != '0' || value.integer == 0, MOERUN_ERR_FORMAT,
                   "the integer %s starts with 0", spelt);
    MOERUN_REQUIRE(end == l->end || !is_name_byte(*end, 1),
                   MOERUN_ERR_UNSUPPORTED, "a number with a letter in it");
  }
  MOERUN_TRY(add(l, TOKEN_VALUE, NULL, &value));
  advance(l, end);
done:
  return status;
}

/* The code point of `digits` hexadecimal digits at `at`; -1: there are
 * fewer. */
static int64_t read_hex(const char *at, const char *end, int digits) {
  int64_t value = 0;
  for (int i = 0; i < digits; i++) {
    const char c = (char)(at + i < end ? at[i] : ' ');
    const int digit = is_digit(c)            ? c - '0'
                      : c >= 'a' && c <= 'f' ? c - 'a' + 10
                      : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                             : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

/* One escape of a text literal at *at, behind its backslash. What is none
 * stands for itself. */
static moerun_status read_escape(char out[ESCAPE_BYTES], size_t *length,
                                 const char **at, const char *end) {
  static const char spelt[] = "abfnrtv\\'\"";
  static const char meant[] = "\a\b\f\n\r\t\v\\'\"";
  moerun_status status = MOERUN_OK;
  const char c = *(*at)++;
  const char *simple = c != '\0' ? strchr(spelt, c) : NULL;
  *length = 1;
  if (simple != NULL) {
    out[0] = meant[simple - spelt];
  } else if (c == '\n') {
    *length = 0;
  } else if (c == 'x' || c == 'u' || c == 'U') {
    const int digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
    const int64_t code = read_hex(*at, end, digits);
    MOERUN_REQUIRE(code >= 0 && code < 0x110000 &&
                       (code < 0xD800 || code > 0xDFFF),
                   MOERUN_ERR_FORMAT, "\\%c is not followed by a character", c);
    *at += digits;
    *length = (size_t)moerun__write_code_point(out, (int32_t)code);
  } else if (c >= '0' && c <= '7') {
    uint32_t code = (uint32_t)(c - '0');
    for (int i = 0; i < 2 && *at < end && **at >= '0' && **at <= '7'; i++) {
      code = code * 8 + (uint32_t)(*(*at)++ - '0');
    }
    *length = (size_t)moerun__write_code_point(out, (int32_t)code);
  } else {
    MOERUN_REQUIRE(c != 'N', MOERUN_ERR_UNSUPPORTED,
                   "\\N{} in a text is not known");
    size_t bytes = 0;
    (*at)--;
    (void)moerun__character_at(*at, &bytes);
    out[0] = '\\';
    memcpy(out + 1, *at, bytes);
    *length = 1 + bytes;
    *at += bytes;
  }
done:
  return status;
}

static moerun_status add_text(lexer *l) {
  moerun_status status = MOERUN_OK;
  moerun__buffer text = {0};
  const char quote = *l->at;
  const char *at = l->at + 1;
  while (at < l->end && *at != quote) {
    const char *plain = at;
    while (at < l->end && *at != quote && *at != '\\')
      at++;
    MOERUN_TRY(
        moerun__buffer_append(&text, l->pool, plain, (size_t)(at - plain)));
    if (at + 1 < l->end && *at == '\\') {
      char spelt[ESCAPE_BYTES];
      size_t length = 0;
      at++;
      MOERUN_TRY(read_escape(spelt, &length, &at, l->end));
      MOERUN_TRY(moerun__buffer_append(&text, l->pool, spelt, length));
    } else if (at < l->end && *at == '\\') {
      at++;
    }
  }
  MOERUN_REQUIRE(at < l->end, MOERUN_ERR_FORMAT, "a text has no end");
  const moerun__value value = moerun__borrowed_text(text.bytes, text.count);
  MOERUN_TRY(add(l, TOKEN_VALUE, NULL, &value));
  advance(l, at + 1);
done:
  return status;
}

static const char *const operators[] = {
    "//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
    "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};

/* The brackets that are open: a tag ends behind the last of them only. */
typedef struct brackets {
  char open[OPEN_BRACKETS];
  int count;
} brackets;

static moerun_status follow_bracket(brackets *b, char c) {
  moerun_status status = MOERUN_OK;
  const char *const pairs = "()[]{}";
  const char *found = strchr(pairs, c);
  if (found == NULL) goto done;
  if ((found - pairs) % 2 == 0) {
    MOERUN_REQUIRE(b->count < OPEN_BRACKETS, MOERUN_ERR_UNSUPPORTED,
                   "more than %d brackets are open", OPEN_BRACKETS);
    b->open[b->count++] = c;
  } else {
    MOERUN_REQUIRE(b->count > 0 && b->open[b->count - 1] == found[-1],
                   MOERUN_ERR_FORMAT, "'%c' closes no bracket", c);
    b->count--;
  }
done:
  return status;
}

static moerun_status add_operator(lexer *l, brackets *open) {
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < sizeof operators / sizeof *operators; i++) {
    if (looks_at(l, l->at, operators[i])) {
      if (operators[i][1] == '\0') {
        MOERUN_TRY(follow_bracket(open, operators[i][0]));
      }
      MOERUN_TRY(add(l, TOKEN_OPERATOR, operators[i], NULL));
      advance(l, l->at + strlen(operators[i]));
      goto done;
    }
  }
  size_t length = 0;
  (void)moerun__character_at(l->at, &length);
  MOERUN_REQUIRE(0, MOERUN_ERR_FORMAT, "unexpected character '%.*s'",
                 (int)length, l->at);
done:
  return status;
}

/* What stands between the delimiters of a tag, and its end. */
static moerun_status add_tag(lexer *l, const char *closing,
                             moerun__token_kind kind) {
  moerun_status status = MOERUN_OK;
  brackets open = {.count = 0};
  for (;;) {
    const char *next = NULL;
    const int is_block = kind == TOKEN_BLOCK_END;
    if (open.count == 0 &&
        ends_tag(l, l->at, closing, is_block, is_block, &next)) {
      MOERUN_TRY(add(l, kind, NULL, NULL));
      advance(l, next);
      break;
    }
    next = skip_blanks(l, l->at);
    MOERUN_REQUIRE(next < l->end, MOERUN_ERR_FORMAT,
                   "a tag is not closed by %s", closing);
    if (next > l->at) {
      advance(l, next);
    } else if (is_digit(*l->at)) {
      MOERUN_TRY(add_number(l));
    } else if (is_name_byte(*l->at, 1)) {
      MOERUN_TRY(add_name(l));
    } else if (*l->at == '"' || *l->at == '\'') {
      MOERUN_TRY(add_text(l));
    } else {
      MOERUN_TRY(add_operator(l, &open));
    }
  }
done:
  return status;
}

/* The first tag of [at, end), or end. */
static const char *find_tag(const lexer *l) {
  const char *at = l->at;
  while (at + 1 < l->end &&
         (*at != '{' || (at[1] != '{' && at[1] != '%' && at[1] != '#'))) {
    at++;
  }
  return at + 1 < l->end ? at : l->end;
}

static moerun_status add_all(lexer *l) {
  moerun_status status = MOERUN_OK;
  while (l->at < l->end) {
    const char *tag = find_tag(l);
    if (tag == l->end) {
      MOERUN_TRY(add_data(l, l->at, tag));
      advance(l, tag);
      break;
    }
    const char *next = NULL;
    const char kind = tag[1];
    const char sign = (char)(tag + 2 < l->end ? tag[2] : ' ');
    const char *inside = tag + 2 + (sign == '-' || sign == '+');
    MOERUN_TRY(add_data(l, l->at, text_end(l, l->at, tag, sign, kind == '{')));
    if (kind == '%' && is_word_block(l, tag, "raw", 0, &next)) {
      MOERUN_TRY(add_raw(l, next));
      continue;
    }
    advance(l, inside);
    if (kind == '#') {
      MOERUN_TRY(skip_comment(l));
    } else {
      const int prints = kind == '{';
      MOERUN_TRY(
          add(l, prints ? TOKEN_PRINT_BEGIN : TOKEN_BLOCK_BEGIN, NULL, NULL));
      MOERUN_TRY(add_tag(l, prints ? "}}" : "%}",
                         prints ? TOKEN_PRINT_END : TOKEN_BLOCK_END));
    }
  }
  MOERUN_TRY(add(l, TOKEN_END, NULL, NULL));
done:
  return status;
}

/* All kinds of newlines as "\n", and none at the end. */
static moerun_status normal_newlines(char **out, size_t *out_count,
                                     moerun__pool *pool, const char *source,
                                     size_t count) {
  moerun_status status = MOERUN_OK;
  char *copy = NULL;
  size_t length = 0;
  MOERUN_TRY(moerun__pool_take(pool, &copy, count + 1));
  for (size_t i = 0; i < count; i++) {
    if (source[i] == '\r') {
      copy[length++] = '\n';
      i += i + 1 < count && source[i + 1] == '\n';
    } else {
      copy[length++] = source[i];
    }
  }
  if (length > 0 && copy[length - 1] == '\n') length--;
  *out = copy;
  *out_count = length;
done:
  return status;
}

moerun_status moerun__template_tokens(moerun__tokens *out, int *line,
                                      moerun__pool *pool, const char *source,
                                      size_t count) {
  moerun_status status = MOERUN_OK;
  char *text = NULL;
  size_t length = 0;
  *line = 1;
  for (size_t i = 0; i < count;) {
    const int valid = moerun__utf8_length(source + i, count - i);
    MOERUN_REQUIRE(valid > 0, MOERUN_ERR_FORMAT, "byte %zu is not valid UTF-8",
                   i);
    i += (size_t)valid;
  }
  MOERUN_TRY(normal_newlines(&text, &length, pool, source, count));
  lexer l = {.out = out,
             .pool = pool,
             .at = text,
             .end = text + length,
             .line = line,
             .line_starting = 1};
  MOERUN_TRY(add_all(&l));
done:
  return status;
}
