/* Filters that make texts. Whatever is filtered is a text first, as str() has
 * it: something undefined is an empty one. */
#include "runtime/text/template/render.h"

#include <string.h>

static moerun_status changed_case(moerun__value *out, moerun__render *r,
                                  const moerun__value *subject,
                                  moerun__case to) {
  moerun_status status = MOERUN_OK;
  moerun__value text;
  MOERUN_TRY(moerun__as_text(&text, r, subject));
  MOERUN_TRY(moerun__change_case(out, r, &text, to));
done:
  return status;
}

static moerun_status filter_lower(moerun__value *out, moerun__render *r,
                                  const moerun__value *subject,
                                  const moerun__value *a,
                                  const moerun__arguments *given) {
  (void)a;
  (void)given;
  return changed_case(out, r, subject, CASE_LOWER);
}

static moerun_status filter_upper(moerun__value *out, moerun__render *r,
                                  const moerun__value *subject,
                                  const moerun__value *a,
                                  const moerun__arguments *given) {
  (void)a;
  (void)given;
  return changed_case(out, r, subject, CASE_UPPER);
}

static moerun_status filter_capitalize(moerun__value *out, moerun__render *r,
                                       const moerun__value *subject,
                                       const moerun__value *a,
                                       const moerun__arguments *given) {
  (void)a;
  (void)given;
  return changed_case(out, r, subject, CASE_CAPITALIZED);
}

/* Words are what stands between blanks, hyphens and opening brackets. */
static int parts_words(int32_t c) {
  return moerun__is_blank(c) || (c != 0 && c < 0x80 && strchr("-({[<", (int)c));
}

static moerun_status filter_title(moerun__value *out, moerun__render *r,
                                  const moerun__value *subject,
                                  const moerun__value *a,
                                  const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__buffer made = {0};
  moerun__value text;
  size_t length = 0;
  (void)a;
  (void)given;
  MOERUN_TRY(moerun__as_text(&text, r, subject));
  MOERUN_TRY(moerun__render_spend(r, text.text.count / 8));
  for (size_t at = 0; at < text.text.count;) {
    size_t end = at;
    while (end < text.text.count) {
      const int32_t c = moerun__character_at(text.text.bytes + end, &length);
      if (parts_words(c)) break;
      end += length;
    }
    moerun__value word = moerun__borrowed_text(text.text.bytes + at, end - at);
    MOERUN_TRY(moerun__change_case(&word, r, &word, CASE_CAPITALIZED));
    MOERUN_TRY(moerun__print(&made, r, &word));
    if (end < text.text.count) {
      MOERUN_TRY(moerun__buffer_append(&made, &r->pool, text.text.bytes + end,
                                       length));
      end += length;
    }
    at = end;
  }
  *out = moerun__borrowed_text(made.bytes, made.count);
done:
  return status;
}

static moerun_status filter_trim(moerun__value *out, moerun__render *r,
                                 const moerun__value *subject,
                                 const moerun__value *a,
                                 const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__value text;
  (void)given;
  MOERUN_TRY(moerun__as_text(&text, r, subject));
  MOERUN_TRY(moerun__strip(out, r, &text, &a[0], 3));
done:
  return status;
}

static moerun_status filter_replace(moerun__value *out, moerun__render *r,
                                    const moerun__value *subject,
                                    const moerun__value *a,
                                    const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__value text;
  moerun__value before;
  moerun__value after;
  int64_t most = -1;
  (void)given;
  MOERUN_TRY(moerun__as_text(&text, r, subject));
  MOERUN_TRY(moerun__as_text(&before, r, &a[0]));
  MOERUN_TRY(moerun__as_text(&after, r, &a[1]));
  if (a[2].kind != VALUE_NONE) {
    MOERUN_TRY(moerun__want_integer(&most, &a[2], -1, "replace"));
  }
  MOERUN_TRY(moerun__replace(out, r, &text, &before, &after, most));
done:
  return status;
}

static moerun_status filter_string(moerun__value *out, moerun__render *r,
                                   const moerun__value *subject,
                                   const moerun__value *a,
                                   const moerun__arguments *given) {
  (void)a;
  (void)given;
  return moerun__as_text(out, r, subject);
}

moerun_status moerun__escape(moerun__value *out, moerun__render *r,
                             const moerun__value *text) {
  static const struct {
    char character;
    const char *spelt;
  } escapes[] = {{'&', "&amp;"},
                 {'<', "&lt;"},
                 {'>', "&gt;"},
                 {'"', "&#34;"},
                 {'\'', "&#39;"}};
  moerun_status status = MOERUN_OK;
  moerun__buffer made = {0};
  MOERUN_TRY(moerun__render_spend(r, text->text.count / 16));
  for (size_t i = 0; i < text->text.count; i++) {
    const char *spelt = &text->text.bytes[i];
    size_t length = 1;
    for (size_t k = 0; k < sizeof escapes / sizeof *escapes; k++) {
      if (text->text.bytes[i] != escapes[k].character) continue;
      spelt = escapes[k].spelt;
      length = strlen(spelt);
    }
    MOERUN_TRY(moerun__buffer_append(&made, &r->pool, spelt, length));
  }
  *out = moerun__borrowed_text(made.bytes, made.count);
  out->text.safe = 1;
done:
  return status;
}

static moerun_status filter_escape(moerun__value *out, moerun__render *r,
                                   const moerun__value *subject,
                                   const moerun__value *a,
                                   const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  (void)a;
  (void)given;
  MOERUN_TRY(moerun__as_text(out, r, subject));
  const moerun__value text = *out;
  if (!text.text.safe) MOERUN_TRY(moerun__escape(out, r, &text));
done:
  return status;
}

static moerun_status filter_forceescape(moerun__value *out, moerun__render *r,
                                        const moerun__value *subject,
                                        const moerun__value *a,
                                        const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__value text;
  (void)a;
  (void)given;
  MOERUN_TRY(moerun__as_text(&text, r, subject));
  MOERUN_TRY(moerun__escape(out, r, &text));
done:
  return status;
}

static moerun_status filter_safe(moerun__value *out, moerun__render *r,
                                 const moerun__value *subject,
                                 const moerun__value *a,
                                 const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  (void)a;
  (void)given;
  MOERUN_TRY(moerun__as_text(out, r, subject));
  out->text.safe = 1;
done:
  return status;
}

/* What stands in front of lines: a text, or so many blanks. */
static moerun_status indentation(moerun__value *out, moerun__render *r,
                                 const moerun__value *width, int64_t fallback) {
  moerun_status status = MOERUN_OK;
  const moerun__value blank = moerun__borrowed_text(" ", 1);
  int64_t blanks = 0;
  *out = *width;
  if (width->kind == VALUE_TEXT) goto done;
  MOERUN_TRY(moerun__want_integer(&blanks, width, fallback, "indent"));
  const moerun__value times = moerun__integer(blanks);
  MOERUN_TRY(moerun__operate(out, r, '*', &blank, &times));
done:
  return status;
}

static moerun_status filter_indent(moerun__value *out, moerun__render *r,
                                   const moerun__value *subject,
                                   const moerun__value *a,
                                   const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__buffer made = {0};
  moerun__value text;
  moerun__value front;
  const int blank_lines = moerun__is_true(&a[2]);
  size_t start = 0;
  (void)given;
  MOERUN_TRY(moerun__as_text(&text, r, subject));
  MOERUN_TRY(moerun__render_spend(r, text.text.count / 16));
  MOERUN_TRY(indentation(&front, r, &a[0], 4));
  while (start <= text.text.count) {
    const char *line = text.text.bytes + start;
    const char *end = start < text.text.count
                          ? memchr(line, '\n', text.text.count - start)
                          : NULL;
    const size_t length =
        end != NULL ? (size_t)(end - line) : text.text.count - start;
    const int is_first = start == 0;
    if (is_first ? moerun__is_true(&a[1]) : (length > 0 || blank_lines)) {
      MOERUN_TRY(moerun__print(&made, r, &front));
    }
    MOERUN_TRY(
        moerun__buffer_append(&made, &r->pool, line, length + (end != NULL)));
    start += length + 1;
  }
  *out = moerun__borrowed_text(made.bytes, made.count);
done:
  return status;
}

static moerun_status filter_center(moerun__value *out, moerun__render *r,
                                   const moerun__value *subject,
                                   const moerun__value *a,
                                   const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__buffer made = {0};
  moerun__value text;
  moerun__value front;
  moerun__value back;
  int64_t width = 0;
  int64_t length = 0;
  (void)given;
  MOERUN_TRY(moerun__as_text(&text, r, subject));
  MOERUN_TRY(moerun__want_integer(&width, &a[0], 80, "center"));
  MOERUN_TRY(moerun__required_length(&length, r, &text));
  const int64_t room = width - length;
  /* As CPython has it: an odd blank goes left if the width is odd. */
  const int64_t left = room > 0 ? room / 2 + (room & width & 1) : 0;
  const moerun__value blanks[2] = {moerun__integer(left),
                                   moerun__integer(room > 0 ? room - left : 0)};
  MOERUN_TRY(indentation(&front, r, &blanks[0], 0));
  MOERUN_TRY(indentation(&back, r, &blanks[1], 0));
  MOERUN_TRY(moerun__print(&made, r, &front));
  MOERUN_TRY(moerun__print(&made, r, &text));
  MOERUN_TRY(moerun__print(&made, r, &back));
  *out = moerun__borrowed_text(made.bytes, made.count);
done:
  return status;
}

static moerun_status filter_format(moerun__value *out, moerun__render *r,
                                   const moerun__value *subject,
                                   const moerun__value *a,
                                   const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__value text;
  moerun__value values;
  (void)a;
  MOERUN_REQUIRE(given->count == 0 || given->named_count == 0,
                 MOERUN_ERR_INVALID,
                 "the filter \"format\" takes arguments with names or without");
  MOERUN_TRY(moerun__as_text(&text, r, subject));
  if (given->named_count > 0) {
    MOERUN_TRY(moerun__dict_value(&values, &r->pool, VALUE_DICT, 0));
    for (size_t i = 0; i < given->named_count; i++) {
      MOERUN_TRY(moerun__dict_set(values.dict, &r->pool, &given->named[i].name,
                                  &given->named[i].value));
    }
  } else {
    MOERUN_TRY(moerun__values_make(&values, &r->pool, VALUE_TUPLE, 0));
    values.sequence->at = given->at;
    values.sequence->count = given->count;
  }
  MOERUN_TRY(moerun__format_percent(out, r, &text, &values));
done:
  return status;
}

static moerun_status filter_tojson(moerun__value *out, moerun__render *r,
                                   const moerun__value *subject,
                                   const moerun__value *a,
                                   const moerun__arguments *given) {
  moerun_status status = MOERUN_OK;
  moerun__buffer made = {0};
  moerun__value front;
  const int lines = a[1].kind != VALUE_ABSENT && a[1].kind != VALUE_NONE;
  moerun__json_style style = {.ascii = moerun__is_true(&a[0]),
                              .sorted = moerun__is_true(&a[3]),
                              .item_separator =
                                  moerun__borrowed_text(", ", lines ? 1 : 2),
                              .key_separator = moerun__borrowed_text(": ", 2)};
  (void)given;
  if (lines) {
    MOERUN_TRY(indentation(&front, r, &a[1], 0));
    style.indent = front.text.count > 0 ? front.text.bytes : "";
    style.indent_count = front.text.count;
  }
  if (a[2].kind != VALUE_ABSENT && a[2].kind != VALUE_NONE) {
    const moerun__values *parts = NULL;
    MOERUN_TRY(moerun__elements(&parts, r, &a[2]));
    MOERUN_REQUIRE(parts->count == 2 && parts->at[0].kind == VALUE_TEXT &&
                       parts->at[1].kind == VALUE_TEXT,
                   MOERUN_ERR_INVALID, "tojson: expected two separators");
    style.item_separator = parts->at[0];
    style.key_separator = parts->at[1];
  }
  MOERUN_TRY(moerun__print_json(&made, r, subject, &style, 0));
  *out = moerun__borrowed_text(made.bytes, made.count);
done:
  return status;
}

const moerun__builtin moerun__text_filters[] = {
    {"lower", filter_lower, "", 0},
    {"upper", filter_upper, "", 0},
    {"capitalize", filter_capitalize, "", 0},
    {"title", filter_title, "", 0},
    {"trim", filter_trim, "chars", 0},
    {"replace", filter_replace, "old new count", 2},
    {"string", filter_string, "", 0},
    {"safe", filter_safe, "", 0},
    {"escape", filter_escape, "", 0},
    {"e", filter_escape, "", 0},
    {"forceescape", filter_forceescape, "", 0},
    {"indent", filter_indent, "width first blank", 0},
    {"center", filter_center, "width", 0},
    {"format", filter_format, "*", 0},
    {"tojson", filter_tojson, "ensure_ascii indent separators sort_keys", 0},
    {NULL, NULL, NULL, 0}};
