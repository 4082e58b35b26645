/* Methods of texts, mappings and lists. A row without a function is a method
 * that would change its value: a template may name it but not call it. */
#include "runtime/text/template/search.h"

#include <string.h>

/* Every method has this signature. */
#define METHOD(name)                                                           \
  static moerun_status name(                                                   \
      moerun__value *out, moerun__render *r, const moerun__value *subject,     \
      const moerun__value *a, const moerun__arguments *given)
#define UNUSED(x) (void)(x)

/* ---- Case and ends ------------------------------------------------------- */

METHOD(text_lower) {
  UNUSED(a);
  UNUSED(given);
  return moerun__change_case(out, r, subject, CASE_LOWER);
}

METHOD(text_upper) {
  UNUSED(a);
  UNUSED(given);
  return moerun__change_case(out, r, subject, CASE_UPPER);
}

METHOD(text_title) {
  UNUSED(a);
  UNUSED(given);
  return moerun__change_case(out, r, subject, CASE_TITLE);
}

METHOD(text_capitalize) {
  UNUSED(a);
  UNUSED(given);
  return moerun__change_case(out, r, subject, CASE_CAPITALIZED);
}

METHOD(text_strip) {
  UNUSED(given);
  return moerun__strip(out, r, subject, &a[0], 3);
}

METHOD(text_lstrip) {
  UNUSED(given);
  return moerun__strip(out, r, subject, &a[0], 1);
}

METHOD(text_rstrip) {
  UNUSED(given);
  return moerun__strip(out, r, subject, &a[0], 2);
}

static int begins(const moerun__value *text, const moerun__value *part) {
  return part->text.count <= text->text.count &&
         (part->text.count == 0 ||
          memcmp(text->text.bytes, part->text.bytes, part->text.count) == 0);
}

static int ends(const moerun__value *text, const moerun__value *part) {
  const size_t n = part->text.count;
  return n <= text->text.count &&
         (n == 0 || memcmp(text->text.bytes + text->text.count - n,
                           part->text.bytes, n) == 0);
}

/* A part, or a tuple of parts of which one is enough. */
static moerun_status
has_end(moerun__value *out, moerun__render *r, const moerun__value *subject,
        const moerun__value *part,
        int (*has)(const moerun__value *text, const moerun__value *part)) {
  moerun_status status = MOERUN_OK;
  int holds = 0;
  if (part->kind == VALUE_TUPLE) {
    for (size_t i = 0; i < part->sequence->count; i++) {
      MOERUN_TRY(
          moerun__want_text(&part->sequence->at[i], "startswith, endswith"));
      MOERUN_TRY(
          moerun__render_spend(r, 1 + part->sequence->at[i].text.count / 64));
      holds |= has(subject, &part->sequence->at[i]);
    }
  } else {
    MOERUN_TRY(moerun__want_text(part, "startswith, endswith"));
    MOERUN_TRY(moerun__render_spend(r, part->text.count / 64));
    holds = has(subject, part);
  }
  *out = moerun__truth(holds);
done:
  return status;
}

/* The part of a text from `start` to `stop`, as its methods count. */
static moerun_status part_of(moerun__value *out, moerun__render *r,
                             const moerun__value *subject,
                             const moerun__value *start,
                             const moerun__value *stop) {
  const moerun__value part[3] = {*start, *stop, {.kind = VALUE_ABSENT}};
  return moerun__slice(out, r, subject, part);
}

METHOD(text_startswith) {
  moerun_status status = MOERUN_OK;
  moerun__value part;
  UNUSED(given);
  MOERUN_TRY(part_of(&part, r, subject, &a[1], &a[2]));
  MOERUN_TRY(has_end(out, r, &part, &a[0], begins));
done:
  return status;
}

METHOD(text_endswith) {
  moerun_status status = MOERUN_OK;
  moerun__value part;
  UNUSED(given);
  MOERUN_TRY(part_of(&part, r, subject, &a[1], &a[2]));
  MOERUN_TRY(has_end(out, r, &part, &a[0], ends));
done:
  return status;
}

METHOD(text_removeprefix) {
  moerun_status status = MOERUN_OK;
  UNUSED(given);
  MOERUN_TRY(moerun__want_text(&a[0], "removeprefix"));
  MOERUN_TRY(moerun__render_spend(r, a[0].text.count / 64));
  const size_t n = begins(subject, &a[0]) ? a[0].text.count : 0;
  *out =
      moerun__borrowed_text(subject->text.bytes + n, subject->text.count - n);
done:
  return status;
}

METHOD(text_removesuffix) {
  moerun_status status = MOERUN_OK;
  UNUSED(given);
  MOERUN_TRY(moerun__want_text(&a[0], "removesuffix"));
  MOERUN_TRY(moerun__render_spend(r, a[0].text.count / 64));
  const size_t n = ends(subject, &a[0]) ? a[0].text.count : 0;
  *out = moerun__borrowed_text(subject->text.bytes, subject->text.count - n);
done:
  return status;
}

METHOD(text_replace) {
  moerun_status status = MOERUN_OK;
  int64_t most = -1;
  UNUSED(given);
  MOERUN_TRY(moerun__want_text(&a[0], "replace"));
  MOERUN_TRY(moerun__want_text(&a[1], "replace"));
  MOERUN_TRY(moerun__want_integer(&most, &a[2], -1, "replace"));
  MOERUN_TRY(moerun__replace(out, r, subject, &a[0], &a[1], most));
done:
  return status;
}

/* ---- Split --------------------------------------------------------------- */

static moerun_status append_part(moerun__value *out, moerun__render *r,
                                 const char *from, const char *to) {
  const moerun__value part = moerun__borrowed_text(from, (size_t)(to - from));
  return moerun__values_append(out->sequence, &r->pool, &part);
}

/* From the end the parts come last one first. */
static moerun_status split_at(moerun__value *out, moerun__render *r,
                              const moerun__value *text,
                              const moerun__value *between, int64_t most,
                              int from_end) {
  moerun_status status = MOERUN_OK;
  const size_t n = between->text.count;
  const char *from = text->text.bytes;
  const char *to = from + text->text.count;
  moerun__text_search search;
  MOERUN_REQUIRE(n > 0, MOERUN_ERR_INVALID, "%s: an empty separator",
                 from_end ? "rsplit" : "split");
  MOERUN_TRY(moerun__search_begin(&search, r, text, between, from_end));
  for (; most != 0; most--) {
    const char *at = NULL;
    MOERUN_TRY(moerun__search_next(&at, &search));
    if (at == NULL) break;
    if (from_end) {
      MOERUN_TRY(append_part(out, r, at + n, to));
      to = at;
    } else {
      MOERUN_TRY(append_part(out, r, from, at));
      from = at + n;
    }
  }
  MOERUN_TRY(append_part(out, r, from, to));
done:
  return status;
}

static moerun_status split_blanks(moerun__value *out, moerun__render *r,
                                  const moerun__value *text, int64_t most) {
  moerun_status status = MOERUN_OK;
  const moerun__value blanks = {.kind = VALUE_ABSENT};
  moerun__value left = *text;
  MOERUN_TRY(moerun__render_spend(r, text->text.count / 16));
  MOERUN_TRY(moerun__strip(&left, r, &left, &blanks, 1));
  while (left.text.count > 0) {
    size_t at = 0;
    size_t length = 0;
    while (at < left.text.count && !moerun__is_blank(moerun__character_at(
                                       left.text.bytes + at, &length))) {
      at += length;
    }
    if (most == 0) {
      MOERUN_TRY(moerun__values_append(out->sequence, &r->pool, &left));
      break;
    }
    MOERUN_TRY(append_part(out, r, left.text.bytes, left.text.bytes + at));
    left = moerun__borrowed_text(left.text.bytes + at, left.text.count - at);
    MOERUN_TRY(moerun__strip(&left, r, &left, &blanks, 1));
    most--;
  }
done:
  return status;
}

METHOD(text_split) {
  moerun_status status = MOERUN_OK;
  int64_t most = -1;
  UNUSED(given);
  MOERUN_TRY(moerun__want_integer(&most, &a[1], -1, "split"));
  MOERUN_TRY(moerun__values_make(out, &r->pool, VALUE_LIST, 0));
  if (a[0].kind == VALUE_ABSENT || a[0].kind == VALUE_NONE) {
    MOERUN_TRY(split_blanks(out, r, subject, most));
  } else {
    MOERUN_TRY(moerun__want_text(&a[0], "split"));
    MOERUN_TRY(split_at(out, r, subject, &a[0], most, 0));
  }
done:
  return status;
}

METHOD(text_rsplit) {
  moerun_status status = MOERUN_OK;
  int64_t most = -1;
  UNUSED(given);
  MOERUN_TRY(moerun__want_integer(&most, &a[1], -1, "rsplit"));
  MOERUN_TRY(moerun__values_make(out, &r->pool, VALUE_LIST, 0));
  if (a[0].kind == VALUE_ABSENT || a[0].kind == VALUE_NONE) {
    MOERUN_REQUIRE(most < 0, MOERUN_ERR_UNSUPPORTED,
                   "rsplit at blanks with a limit is not known");
    MOERUN_TRY(split_blanks(out, r, subject, most));
    goto done;
  }
  MOERUN_TRY(moerun__want_text(&a[0], "rsplit"));
  MOERUN_TRY(split_at(out, r, subject, &a[0], most, 1));
  moerun__value *const part = out->sequence->at;
  for (size_t i = 0, k = out->sequence->count - 1; i < k; i++, k--) {
    const moerun__value other = part[i];
    part[i] = part[k];
    part[k] = other;
  }
done:
  return status;
}

static moerun_status partition(moerun__value *out, moerun__render *r,
                               const moerun__value *subject,
                               const moerun__value *between, int last) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__want_text(between, "partition"));
  const size_t n = between->text.count;
  MOERUN_REQUIRE(n > 0, MOERUN_ERR_INVALID, "partition: an empty separator");
  const char *const from = subject->text.bytes;
  const char *const to = from + subject->text.count;
  const char *at = NULL;
  moerun__text_search search;
  MOERUN_TRY(moerun__search_begin(&search, r, subject, between, last));
  MOERUN_TRY(moerun__search_next(&at, &search));
  const char *first_end = at != NULL ? at : (last ? from : to);
  const char *rest = at != NULL ? at + n : (last ? from : to);
  MOERUN_TRY(moerun__values_make(out, &r->pool, VALUE_TUPLE, 3));
  MOERUN_TRY(append_part(out, r, from, first_end));
  MOERUN_TRY(append_part(out, r, first_end, rest));
  MOERUN_TRY(append_part(out, r, rest, to));
done:
  return status;
}

METHOD(text_partition) {
  UNUSED(given);
  return partition(out, r, subject, &a[0], 0);
}

METHOD(text_rpartition) {
  UNUSED(given);
  return partition(out, r, subject, &a[0], 1);
}

METHOD(text_splitlines) {
  moerun_status status = MOERUN_OK;
  const char *from = subject->text.bytes;
  const char *const to = from + subject->text.count;
  const int keeps = moerun__is_true(&a[0]);
  UNUSED(given);
  MOERUN_TRY(moerun__render_spend(r, subject->text.count / 16));
  MOERUN_TRY(moerun__values_make(out, &r->pool, VALUE_LIST, 0));
  while (from < to) {
    const char *at = from;
    size_t length = 0;
    int32_t c = 0;
    for (; at < to; at += length) {
      c = moerun__character_at(at, &length);
      if ((c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 ||
          c == 0x2028 || c == 0x2029) {
        break;
      }
    }
    const char *next = at < to ? at + length : to;
    if (c == '\r' && next < to && *next == '\n') next++;
    MOERUN_TRY(append_part(out, r, from, keeps ? next : at));
    from = next;
  }
done:
  return status;
}

/* ---- Find, join, format -------------------------------------------------- */

static moerun_status find_text(int64_t *out, moerun__render *r,
                               const moerun__value *subject,
                               const moerun__value *a, int last) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__want_text(&a[0], "find"));
  MOERUN_REQUIRE(a[1].kind == VALUE_ABSENT, MOERUN_ERR_UNSUPPORTED,
                 "find from a place on is not known");
  MOERUN_TRY(moerun__render_spend(r, subject->text.count / 16));
  const char *const from = subject->text.count > 0 ? subject->text.bytes : "";
  const char *at = last ? from + subject->text.count : from;
  if (a[0].text.count > 0) {
    moerun__text_search search;
    MOERUN_TRY(moerun__search_begin(&search, r, subject, &a[0], last));
    MOERUN_TRY(moerun__search_next(&at, &search));
  }
  *out = at != NULL
             ? (int64_t)moerun__character_count(from, (size_t)(at - from))
             : -1;
done:
  return status;
}

METHOD(text_find) {
  moerun_status status = MOERUN_OK;
  int64_t at = 0;
  UNUSED(given);
  MOERUN_TRY(find_text(&at, r, subject, a, 0));
  *out = moerun__integer(at);
done:
  return status;
}

METHOD(text_rfind) {
  moerun_status status = MOERUN_OK;
  int64_t at = 0;
  UNUSED(given);
  MOERUN_TRY(find_text(&at, r, subject, a, 1));
  *out = moerun__integer(at);
done:
  return status;
}

METHOD(text_index) {
  moerun_status status = MOERUN_OK;
  int64_t at = 0;
  UNUSED(given);
  MOERUN_TRY(find_text(&at, r, subject, a, 0));
  MOERUN_REQUIRE(at >= 0, MOERUN_ERR_INVALID, "index: the text is not there");
  *out = moerun__integer(at);
done:
  return status;
}

METHOD(text_count) {
  moerun_status status = MOERUN_OK;
  moerun__text_search search;
  int64_t count = 0;
  UNUSED(given);
  MOERUN_TRY(moerun__want_text(&a[0], "count"));
  if (a[0].text.count == 0) {
    MOERUN_TRY(moerun__required_length(&count, r, subject));
    count++;
  } else {
    const char *at = NULL;
    MOERUN_TRY(moerun__search_begin(&search, r, subject, &a[0], 0));
    MOERUN_TRY(moerun__search_next(&at, &search));
    while (at != NULL) {
      count++;
      MOERUN_TRY(moerun__search_next(&at, &search));
    }
  }
  *out = moerun__integer(count);
done:
  return status;
}

METHOD(text_join) {
  moerun_status status = MOERUN_OK;
  moerun__buffer made = {0};
  const moerun__values *all = NULL;
  UNUSED(given);
  MOERUN_TRY(moerun__elements(&all, r, &a[0]));
  for (size_t i = 0; i < all->count; i++) {
    MOERUN_TRY(moerun__want_text(&all->at[i], "join"));
    if (i > 0) MOERUN_TRY(moerun__print(&made, r, subject));
    MOERUN_TRY(moerun__print(&made, r, &all->at[i]));
  }
  *out = moerun__borrowed_text(made.bytes, made.count);
done:
  return status;
}

METHOD(text_format) {
  UNUSED(a);
  return moerun__format_braces(out, r, subject, given);
}

/* Whether all characters are of a kind, and there is one. */
static moerun_status all_are(moerun__value *out, moerun__render *r,
                             const moerun__value *subject,
                             int (*is)(int32_t c)) {
  moerun_status status = MOERUN_OK;
  int holds = subject->text.count > 0;
  MOERUN_TRY(moerun__render_spend(r, subject->text.count / 16));
  for (size_t at = 0; at < subject->text.count;) {
    size_t length = 0;
    const int32_t c = moerun__character_at(subject->text.bytes + at, &length);
    MOERUN_REQUIRE(c < 0x80 || is == moerun__is_blank, MOERUN_ERR_UNSUPPORTED,
                   "the kind of the character U+%04X is not known",
                   (unsigned)c);
    holds &= is(c);
    at += length;
  }
  *out = moerun__truth(holds);
done:
  return status;
}

static int is_digit(int32_t c) {
  return c >= '0' && c <= '9';
}
static int is_letter(int32_t c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static int is_letter_or_digit(int32_t c) {
  return is_digit(c) || is_letter(c);
}

METHOD(text_isdigit) {
  UNUSED(a);
  UNUSED(given);
  return all_are(out, r, subject, is_digit);
}

METHOD(text_isalpha) {
  UNUSED(a);
  UNUSED(given);
  return all_are(out, r, subject, is_letter);
}

METHOD(text_isalnum) {
  UNUSED(a);
  UNUSED(given);
  return all_are(out, r, subject, is_letter_or_digit);
}

METHOD(text_isspace) {
  UNUSED(a);
  UNUSED(given);
  return all_are(out, r, subject, moerun__is_blank);
}

const moerun__builtin moerun__text_methods[] = {
    {"lower", text_lower, "", 0},
    {"upper", text_upper, "", 0},
    {"title", text_title, "", 0},
    {"capitalize", text_capitalize, "", 0},
    {"strip", text_strip, "chars", 0},
    {"lstrip", text_lstrip, "chars", 0},
    {"rstrip", text_rstrip, "chars", 0},
    {"startswith", text_startswith, "prefix start end", 1},
    {"endswith", text_endswith, "suffix start end", 1},
    {"removeprefix", text_removeprefix, "prefix", 1},
    {"removesuffix", text_removesuffix, "suffix", 1},
    {"replace", text_replace, "old new count", 2},
    {"split", text_split, "sep maxsplit", 0},
    {"rsplit", text_rsplit, "sep maxsplit", 0},
    {"splitlines", text_splitlines, "keepends", 0},
    {"partition", text_partition, "sep", 1},
    {"rpartition", text_rpartition, "sep", 1},
    {"find", text_find, "sub start end", 1},
    {"rfind", text_rfind, "sub start end", 1},
    {"index", text_index, "sub start end", 1},
    {"count", text_count, "sub", 1},
    {"join", text_join, "iterable", 1},
    {"format", text_format, "*", 0},
    {"isdigit", text_isdigit, "", 0},
    {"isalpha", text_isalpha, "", 0},
    {"isalnum", text_isalnum, "", 0},
    {"isspace", text_isspace, "", 0},
    {NULL, NULL, NULL, 0}};
