/* Upper and lower case, strip and replace. The few letters whose other case is
 * several letters, and the Greek sigma, whose lower case depends on what is
 * about it, are refused, because a wrong letter would go unnoticed. */
#include "runtime/text/template/search.h"

#include "runtime/text/unicode.h"

#include <string.h>

enum { SHARP_S = 0xDF, SIGMA = 0x3A3 };

/* Appends a letter; `begins`: it is the first of a capitalised word. */
static moerun_status append_letter(moerun__buffer *out, moerun__render *r,
                                   int32_t c, int upper, int begins) {
  moerun_status status = MOERUN_OK;
  char spelt[MOERUN_CHARACTER_BYTES];
  if (c == SHARP_S && upper) {
    MOERUN_TRY(moerun__buffer_append(out, &r->pool, begins ? "Ss" : "SS", 2));
    goto done;
  }
  const int32_t made = begins  ? moerun__to_title(c)
                       : upper ? moerun__to_upper(c)
                               : moerun__to_lower(c);
  MOERUN_REQUIRE(made >= 0 && (c != SIGMA || upper), MOERUN_ERR_UNSUPPORTED,
                 "the case of the character U+%04X is not known", (unsigned)c);
  const size_t length = (size_t)moerun__write_code_point(spelt, made);
  MOERUN_TRY(moerun__buffer_append(out, &r->pool, spelt, length));
done:
  return status;
}

moerun_status moerun__change_case(moerun__value *out, moerun__render *r,
                                  const moerun__value *text, moerun__case to) {
  moerun_status status = MOERUN_OK;
  moerun__buffer made = {0};
  int first = 1; /* of the text, or of a word */
  MOERUN_TRY(moerun__render_spend(r, text->text.count / 4));
  for (size_t at = 0; at < text->text.count;) {
    size_t length = 0;
    const int32_t c = moerun__character_at(text->text.bytes + at, &length);
    const int begins = first && to >= CASE_TITLE;
    MOERUN_TRY(append_letter(&made, r, c, to == CASE_UPPER || begins, begins));
    first = to == CASE_TITLE && !moerun__is_cased(c);
    at += length;
  }
  const int safe = text->text.safe;
  *out = moerun__borrowed_text(made.bytes, made.count);
  out->text.safe = safe;
done:
  return status;
}

/* ---- Strip and replace --------------------------------------------------- */

static int is_stripped(int32_t c, const moerun__value *characters) {
  if (characters->kind != VALUE_TEXT) return moerun__is_blank(c);
  for (size_t at = 0; at < characters->text.count;) {
    size_t length = 0;
    if (moerun__character_at(characters->text.bytes + at, &length) == c) {
      return 1;
    }
    at += length;
  }
  return 0;
}

moerun_status moerun__strip(moerun__value *out, moerun__render *r,
                            const moerun__value *text,
                            const moerun__value *characters, int sides) {
  moerun_status status = MOERUN_OK;
  size_t steps = 0; /* of each character */
  const char *from = text->text.bytes;
  const char *to = from + text->text.count;
  size_t length = 0;
  if (characters->kind != VALUE_ABSENT && characters->kind != VALUE_NONE) {
    MOERUN_TRY(moerun__want_text(characters, "strip"));
    steps = characters->text.count / 16;
  }
  while ((sides & 1) != 0 && from < to &&
         is_stripped(moerun__character_at(from, &length), characters)) {
    MOERUN_TRY(moerun__render_spend(r, steps));
    from += length;
  }
  while ((sides & 2) != 0 && from < to) {
    const char *last = to - 1;
    while (last > from && ((unsigned char)*last & 0xC0) == 0x80)
      last--;
    if (!is_stripped(moerun__character_at(last, &length), characters)) {
      break;
    }
    MOERUN_TRY(moerun__render_spend(r, steps));
    to = last;
  }
  const size_t stripped = text->text.count - (size_t)(to - from);
  MOERUN_TRY(moerun__render_spend(r, stripped / 16));
  const int safe = text->text.safe;
  *out = moerun__borrowed_text(from, (size_t)(to - from));
  out->text.safe = safe;
done:
  return status;
}

/* The place behind *at, or the first if that is NULL. An empty part stands in
 * front of each character, and at the end. */
static moerun_status next_place(const char **at, moerun__text_search *search,
                                const char *from, const char *end) {
  moerun_status status = MOERUN_OK;
  size_t length = 0;
  if (search->part_bytes > 0) {
    MOERUN_TRY(moerun__search_next(at, search));
  } else if (*at == NULL) {
    *at = from;
  } else {
    if (*at < end) (void)moerun__character_at(*at, &length);
    *at = *at < end ? *at + length : NULL;
  }
done:
  return status;
}

moerun_status moerun__replace(moerun__value *out, moerun__render *r,
                              const moerun__value *text,
                              const moerun__value *before,
                              const moerun__value *after, int64_t most) {
  moerun_status status = MOERUN_OK;
  moerun__buffer made = {0};
  moerun__text_search search = {0};
  const char *const from = text->text.count > 0 ? text->text.bytes : "";
  const char *const end = from + text->text.count;
  const char *plain = from; /* from here on nothing is copied yet */
  const char *at = NULL;
  const size_t n = before->text.count;
  int is_changed = 0;
  if (n > 0) MOERUN_TRY(moerun__search_begin(&search, r, text, before, 0));
  for (; most != 0; most--) {
    MOERUN_TRY(next_place(&at, &search, from, end));
    if (at == NULL) break;
    MOERUN_TRY(moerun__render_spend(r, 1 + after->text.count / 64));
    MOERUN_TRY(
        moerun__buffer_append(&made, &r->pool, plain, (size_t)(at - plain)));
    MOERUN_TRY(moerun__buffer_append(&made, &r->pool, after->text.bytes,
                                     after->text.count));
    plain = at + n;
    is_changed = 1;
  }
  if (!is_changed) {
    *out = *text;
    goto done;
  }
  MOERUN_TRY(
      moerun__buffer_append(&made, &r->pool, plain, (size_t)(end - plain)));
  *out = moerun__borrowed_text(made.bytes, made.count);
done:
  return status;
}
