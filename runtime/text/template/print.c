/* Values as text: str() and repr() of Python, and json.dumps. */
#include "runtime/text/template/render.h"

#include "runtime/text/unicode.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- Numbers ------------------------------------------------------------- */

/* The fewest digits that read back as the number, as d.ddde±xx. */
static int shortest_digits(char digits[24], int *exponent, double real) {
  char spelt[40];
  int precision = 0;
  for (; precision < 17; precision++) {
    (void)snprintf(spelt, sizeof spelt, "%.*e", precision, real);
    if (strtod(spelt, NULL) == real) break;
  }
  int count = 0;
  const char *at = spelt + (spelt[0] == '-');
  for (; *at != 'e'; at++) {
    if (*at != '.') digits[count++] = *at;
  }
  *exponent = (int)strtol(at + 1, NULL, 10);
  while (count > 1 && digits[count - 1] == '0')
    count--;
  digits[count] = '\0';
  return count;
}

void moerun__real_text(char out[MOERUN_REAL_TEXT], double real) {
  char digits[24];
  int exponent = 0;
  const char *sign = signbit(real) ? "-" : "";
  if (isnan(real) || isinf(real)) {
    (void)snprintf(out, MOERUN_REAL_TEXT, "%s",
                   isnan(real) ? "nan" : (real < 0 ? "-inf" : "inf"));
    return;
  }
  const int count = shortest_digits(digits, &exponent, real);
  if (exponent < -4 || exponent >= 16) {
    (void)snprintf(out, MOERUN_REAL_TEXT, "%s%c%s%se%c%02d", sign, digits[0],
                   count > 1 ? "." : "", digits + 1, exponent < 0 ? '-' : '+',
                   abs(exponent));
  } else if (exponent < 0) {
    (void)snprintf(out, MOERUN_REAL_TEXT, "%s0.%.*s%s", sign, -exponent - 1,
                   "0000", digits);
  } else if (count <= exponent + 1) {
    (void)snprintf(out, MOERUN_REAL_TEXT, "%s%s%.*s.0", sign, digits,
                   exponent + 1 - count, "0000000000000000");
  } else {
    (void)snprintf(out, MOERUN_REAL_TEXT, "%s%.*s.%s", sign, exponent + 1,
                   digits, digits + exponent + 1);
  }
}

static moerun_status print_plain(moerun__buffer *out, moerun__render *r,
                                 const char *text) {
  return moerun__buffer_append(out, &r->pool, text, strlen(text));
}

static moerun_status print_number(moerun__buffer *out, moerun__render *r,
                                  const moerun__value *value) {
  char spelt[MOERUN_REAL_TEXT];
  if (value->kind == VALUE_BOOL) {
    return print_plain(out, r, value->truth ? "True" : "False");
  }
  if (value->kind == VALUE_REAL) {
    moerun__real_text(spelt, value->real);
  } else {
    (void)snprintf(spelt, sizeof spelt, "%lld", (long long)value->integer);
  }
  return print_plain(out, r, spelt);
}

/* ---- repr ---------------------------------------------------------------- */

static void escape_character(char out[16], int32_t c, char quote) {
  const char *spelt = c == '\n'    ? "\\n"
                      : c == '\r'  ? "\\r"
                      : c == '\t'  ? "\\t"
                      : c == '\\'  ? "\\\\"
                      : c == quote ? (quote == '\'' ? "\\'" : "\\\"")
                                   : NULL;
  if (spelt != NULL) {
    (void)snprintf(out, 16, "%s", spelt);
  } else {
    const char *format = c < 0x100     ? "\\x%02x"
                         : c < 0x10000 ? "\\u%04x"
                                       : "\\U%08x";
    (void)snprintf(out, 16, format, (unsigned)c);
  }
}

static moerun_status print_text_quoted(moerun__buffer *out, moerun__render *r,
                                       const moerun__value *text) {
  moerun_status status = MOERUN_OK;
  const char *bytes = text->text.bytes;
  const size_t count = text->text.count;
  const int has_single = count > 0 && memchr(bytes, '\'', count) != NULL;
  const int has_double = count > 0 && memchr(bytes, '"', count) != NULL;
  const char quote = has_single && !has_double ? '"' : '\'';
  size_t plain = 0;
  if (text->text.safe) MOERUN_TRY(print_plain(out, r, "Markup("));
  MOERUN_TRY(moerun__buffer_append(out, &r->pool, &quote, 1));
  for (size_t at = 0; at < count;) {
    size_t length = 0;
    const int32_t c = moerun__character_at(bytes + at, &length);
    if (!moerun__is_shown(c) || c == quote || c == '\\') {
      char escaped[16];
      escape_character(escaped, c, quote);
      MOERUN_TRY(
          moerun__buffer_append(out, &r->pool, bytes + plain, at - plain));
      MOERUN_TRY(print_plain(out, r, escaped));
      plain = at + length;
    }
    at += length;
  }
  MOERUN_TRY(
      moerun__buffer_append(out, &r->pool, bytes + plain, count - plain));
  MOERUN_TRY(moerun__buffer_append(out, &r->pool, &quote, 1));
  if (text->text.safe) MOERUN_TRY(print_plain(out, r, ")"));
done:
  return status;
}

static moerun_status print_sequence(moerun__buffer *out, moerun__render *r,
                                    const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  const moerun__values *sequence = value->sequence;
  const int is_list = value->kind != VALUE_TUPLE;
  if (value->kind == VALUE_VIEW) {
    MOERUN_TRY(print_plain(out, r, "dict_"));
    MOERUN_TRY(print_plain(out, r, sequence->view));
    MOERUN_TRY(print_plain(out, r, "("));
  }
  MOERUN_TRY(print_plain(out, r, is_list ? "[" : "("));
  for (size_t i = 0; i < sequence->count; i++) {
    if (i > 0) MOERUN_TRY(print_plain(out, r, ", "));
    MOERUN_TRY(moerun__print_quoted(out, r, &sequence->at[i]));
  }
  if (!is_list && sequence->count == 1) MOERUN_TRY(print_plain(out, r, ","));
  MOERUN_TRY(print_plain(out, r, is_list ? "]" : ")"));
  if (value->kind == VALUE_VIEW) MOERUN_TRY(print_plain(out, r, ")"));
done:
  return status;
}

static moerun_status print_dict(moerun__buffer *out, moerun__render *r,
                                const moerun__dict *dict) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(print_plain(out, r, "{"));
  for (size_t i = 0; i < dict->count; i++) {
    if (i > 0) MOERUN_TRY(print_plain(out, r, ", "));
    MOERUN_TRY(moerun__print_quoted(out, r, &dict->at[i].key));
    MOERUN_TRY(print_plain(out, r, ": "));
    MOERUN_TRY(moerun__print_quoted(out, r, &dict->at[i].value));
  }
  MOERUN_TRY(print_plain(out, r, "}"));
done:
  return status;
}

static moerun_status print_range(moerun__buffer *out, moerun__render *r,
                                 const moerun__value *value) {
  char spelt[96];
  const moerun__range *range = value->range;
  const long long stop =
      (long long)range->start + (long long)range->count * range->step;
  if (range->step == 1) {
    (void)snprintf(spelt, sizeof spelt, "range(%lld, %lld)",
                   (long long)range->start, stop);
  } else {
    return moerun__fail(MOERUN_ERR_UNSUPPORTED, __FILE__, __LINE__,
                        "a range with a step cannot be printed");
  }
  return print_plain(out, r, spelt);
}

moerun_status moerun__print_quoted(moerun__buffer *out, moerun__render *r,
                                   const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__render_deeper(r));
  switch (value->kind) {
  case VALUE_UNDEFINED: MOERUN_TRY(print_plain(out, r, "Undefined")); break;
  case VALUE_NONE: MOERUN_TRY(print_plain(out, r, "None")); break;
  case VALUE_BOOL:
  case VALUE_INTEGER:
  case VALUE_REAL: MOERUN_TRY(print_number(out, r, value)); break;
  case VALUE_TEXT: MOERUN_TRY(print_text_quoted(out, r, value)); break;
  case VALUE_LIST:
  case VALUE_TUPLE:
  case VALUE_VIEW: MOERUN_TRY(print_sequence(out, r, value)); break;
  case VALUE_RANGE: MOERUN_TRY(print_range(out, r, value)); break;
  case VALUE_DICT: MOERUN_TRY(print_dict(out, r, value->dict)); break;
  default:
    MOERUN_REQUIRE(0, MOERUN_ERR_UNSUPPORTED, "a %s cannot be printed",
                   moerun__kind_name(value));
  }
done:
  r->depth--;
  return status;
}

moerun_status moerun__print(moerun__buffer *out, moerun__render *r,
                            const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  if (value->kind == VALUE_TEXT) {
    MOERUN_TRY(moerun__render_spend(r, value->text.count / 64));
    MOERUN_TRY(moerun__buffer_append(out, &r->pool, value->text.bytes,
                                     value->text.count));
  } else if (value->kind != VALUE_UNDEFINED) {
    const size_t before = out->count;
    MOERUN_TRY(moerun__print_quoted(out, r, value));
    MOERUN_TRY(moerun__render_spend(r, (out->count - before) / 16));
  }
done:
  return status;
}

moerun_status moerun__as_text(moerun__value *out, moerun__render *r,
                              const moerun__value *value) {
  moerun_status status = MOERUN_OK;
  moerun__buffer text = {0};
  *out = *value;
  if (value->kind == VALUE_TEXT) goto done;
  MOERUN_TRY(moerun__print(&text, r, value));
  *out = moerun__borrowed_text(text.bytes, text.count);
done:
  return status;
}

/* ---- JSON ---------------------------------------------------------------- */

static moerun_status json_escape(moerun__buffer *out, moerun__render *r,
                                 int32_t c) {
  static const char plain[] = "\"\\\n\r\t\f\b";
  static const char spelt[] = "\"\\nrtfb";
  char escaped[16];
  const char *found = c < 0x80 && c != 0 ? strchr(plain, (int)c) : NULL;
  if (found != NULL) {
    (void)snprintf(escaped, sizeof escaped, "\\%c", spelt[found - plain]);
  } else if (c < 0x10000) {
    (void)snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)c);
  } else {
    (void)snprintf(escaped, sizeof escaped, "\\u%04x\\u%04x",
                   (unsigned)(0xD800 + ((c - 0x10000) >> 10)),
                   (unsigned)(0xDC00 + ((c - 0x10000) & 0x3FF)));
  }
  return print_plain(out, r, escaped);
}

static moerun_status json_text(moerun__buffer *out, moerun__render *r,
                               const moerun__value *text, int ascii) {
  moerun_status status = MOERUN_OK;
  const char *bytes = text->text.bytes;
  const size_t count = text->text.count;
  size_t plain = 0;
  MOERUN_TRY(print_plain(out, r, "\""));
  for (size_t at = 0; at < count;) {
    size_t length = 1;
    int32_t c = (unsigned char)bytes[at];
    if (ascii && c >= 0x80) {
      c = moerun__character_at(bytes + at, &length);
    }
    if (c < 0x20 || c == '"' || c == '\\' ||
        (ascii && c >= 0x7F && c != 0x7F)) {
      MOERUN_TRY(
          moerun__buffer_append(out, &r->pool, bytes + plain, at - plain));
      MOERUN_TRY(json_escape(out, r, c));
      plain = at + length;
    }
    at += length;
  }
  MOERUN_TRY(
      moerun__buffer_append(out, &r->pool, bytes + plain, count - plain));
  MOERUN_TRY(print_plain(out, r, "\""));
done:
  return status;
}

static moerun_status json_scalar(moerun__buffer *out, moerun__render *r,
                                 const moerun__value *value) {
  switch (value->kind) {
  case VALUE_NONE: return print_plain(out, r, "null");
  case VALUE_BOOL: return print_plain(out, r, value->truth ? "true" : "false");
  case VALUE_REAL:
    if (isnan(value->real)) return print_plain(out, r, "NaN");
    if (isinf(value->real)) {
      return print_plain(out, r, value->real < 0 ? "-Infinity" : "Infinity");
    }
    return print_number(out, r, value);
  case VALUE_INTEGER: return print_number(out, r, value);
  default: break;
  }
  return moerun__fail(MOERUN_ERR_INVALID, __FILE__, __LINE__, "a %s is no JSON",
                      moerun__kind_name(value));
}

/* A new line of this depth, if there are lines. */
static moerun_status json_line(moerun__buffer *out, moerun__render *r,
                               const moerun__json_style *style, int depth) {
  moerun_status status = MOERUN_OK;
  if (style->indent == NULL) goto done;
  MOERUN_TRY(print_plain(out, r, "\n"));
  for (int i = 0; i < depth; i++) {
    MOERUN_TRY(moerun__buffer_append(out, &r->pool, style->indent,
                                     style->indent_count));
  }
done:
  return status;
}

static moerun_status json_next(moerun__buffer *out, moerun__render *r,
                               const moerun__json_style *style, size_t i,
                               int depth) {
  moerun_status status = MOERUN_OK;
  if (i > 0) MOERUN_TRY(moerun__print(out, r, &style->item_separator));
  MOERUN_TRY(json_line(out, r, style, depth));
done:
  return status;
}

static moerun_status json_key(moerun__buffer *out, moerun__render *r,
                              const moerun__json_style *style,
                              const moerun__value *key) {
  moerun_status status = MOERUN_OK;
  if (key->kind == VALUE_TEXT) {
    MOERUN_TRY(moerun__render_spend(r, key->text.count / 16));
    MOERUN_TRY(json_text(out, r, key, style->ascii));
  } else {
    MOERUN_TRY(print_plain(out, r, "\""));
    MOERUN_TRY(json_scalar(out, r, key));
    MOERUN_TRY(print_plain(out, r, "\""));
  }
  MOERUN_TRY(moerun__print(out, r, &style->key_separator));
done:
  return status;
}

static int pair_order(const void *a, const void *b) {
  const moerun__value *x = &((const moerun__pair *)a)->key;
  const moerun__value *y = &((const moerun__pair *)b)->key;
  int order = 0;
  (void)moerun__value_compare(&order, x, y, 0, NULL);
  return order;
}

/* The pairs in the order in which they are printed. */
static moerun_status json_pairs(const moerun__pair **out, moerun__render *r,
                                const moerun__dict *dict, int sorted) {
  moerun_status status = MOERUN_OK;
  moerun__pair *copy = NULL;
  *out = dict->at;
  if (!sorted || dict->count == 0) goto done;
  for (size_t i = 0; i < dict->count; i++) {
    MOERUN_REQUIRE(dict->at[i].key.kind == VALUE_TEXT, MOERUN_ERR_UNSUPPORTED,
                   "only keys that are texts are sorted");
    MOERUN_TRY(moerun__render_spend(r, 1 + dict->at[i].key.text.count / 4));
  }
  MOERUN_TRY(moerun__pool_take(&r->pool, &copy, dict->count * sizeof *copy));
  memcpy(copy, dict->at, dict->count * sizeof *copy);
  qsort(copy, dict->count, sizeof *copy, pair_order); /* keys differ */
  *out = copy;
done:
  return status;
}

moerun_status moerun__print_json(moerun__buffer *out, moerun__render *r,
                                 const moerun__value *value,
                                 const moerun__json_style *style, int depth) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__render_deeper(r));
  MOERUN_TRY(moerun__render_spend(r, 1));
  if (value->kind == VALUE_DICT) {
    const moerun__pair *pairs = NULL;
    const size_t count = value->dict->count;
    MOERUN_TRY(json_pairs(&pairs, r, value->dict, style->sorted));
    MOERUN_TRY(print_plain(out, r, "{"));
    for (size_t i = 0; i < count; i++) {
      MOERUN_TRY(json_next(out, r, style, i, depth + 1));
      MOERUN_TRY(json_key(out, r, style, &pairs[i].key));
      MOERUN_TRY(moerun__print_json(out, r, &pairs[i].value, style, depth + 1));
    }
    if (count > 0) MOERUN_TRY(json_line(out, r, style, depth));
    MOERUN_TRY(print_plain(out, r, "}"));
  } else if (moerun__is_sequence(value)) {
    const size_t count = value->sequence->count;
    MOERUN_TRY(print_plain(out, r, "["));
    for (size_t i = 0; i < count; i++) {
      MOERUN_TRY(json_next(out, r, style, i, depth + 1));
      MOERUN_TRY(moerun__print_json(out, r, &value->sequence->at[i], style,
                                    depth + 1));
    }
    if (count > 0) MOERUN_TRY(json_line(out, r, style, depth));
    MOERUN_TRY(print_plain(out, r, "]"));
  } else if (value->kind == VALUE_TEXT) {
    MOERUN_TRY(moerun__render_spend(r, value->text.count / 16));
    MOERUN_TRY(json_text(out, r, value, style->ascii));
  } else {
    MOERUN_TRY(json_scalar(out, r, value));
  }
done:
  r->depth--;
  return status;
}
