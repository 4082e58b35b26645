/* Upper and lower case, strip and replace. Case is known for Latin, Greek and
 * Cyrillic letters and for scripts that have none; a text with another letter in
 * it is refused, because a wrong letter would go unnoticed. */
#include "runtime/text/template/render.h"

#include <string.h>

typedef struct case_range {
  uint32_t first;
  uint32_t last;
  int offset; /* from upper to lower; 0: pairs, the even one is upper; 1: the odd one */
} case_range;

/* Upper case letters, or both kinds where they come in pairs. */
static const case_range ranges[] = {
    {'A', 'Z', 32},      {0xC0, 0xD6, 32},     {0xD8, 0xDE, 32},
    {0x100, 0x12F, 0},   {0x132, 0x137, 0},    {0x139, 0x148, 1},
    {0x14A, 0x177, 0},   {0x179, 0x17E, 1},    {0x1A0, 0x1A1, 0},
    {0x1AF, 0x1B0, 1},   {0x1CD, 0x1DC, 1},    {0x1DE, 0x1EF, 0},
    {0x1F8, 0x21F, 0},   {0x222, 0x233, 0},    {0x388, 0x38A, 37},
    {0x391, 0x3A1, 32},  {0x3A3, 0x3AB, 32},   {0x400, 0x40F, 80},
    {0x410, 0x42F, 32},  {0x460, 0x481, 0},    {0x48A, 0x4BF, 0},
    {0x4C1, 0x4CE, 1},   {0x4D0, 0x52F, 0},    {0x1E00, 0x1E95, 0},
    {0x1EA0, 0x1EFF, 0}, {0x386, 0x386, 38},   {0x38C, 0x38C, 64},
    {0x38E, 0x38F, 63},  {0x178, 0x178, -121}, {0xFF21, 0xFF3A, 32}};

/* Characters without case. */
static const uint32_t caseless[][2] = {
    {0x80, 0xA9},       {0xAB, 0xB4},        {0xB6, 0xB9},
    {0xBB, 0xBF},       {0xD7, 0xD7},        {0xF7, 0xF7},
    {0x2B9, 0x2BF},     {0x300, 0x344},      {0x346, 0x36F},
    {0x482, 0x489},     {0x591, 0x109F},     {0x1100, 0x139F},
    {0x1400, 0x1C7F},   {0x2010, 0x2070},    {0x2080, 0x208F},
    {0x20A0, 0x20FF},   {0x2190, 0x245F},    {0x2500, 0x2BFF},
    {0x2E80, 0xA63F},   {0xAC00, 0xFAFF},    {0xFE00, 0xFF20},
    {0xFF3B, 0xFF40},   {0xFF5B, 0xFFFF},    {0x1B000, 0x1D3FF},
    {0x1F000, 0x1F12F}, {0x1F18A, 0x10FFFF}, {0x2000, 0x200F}};

/* The other case of a letter. *is_upper and the letter itself for one without. */
typedef enum letter_kind { UNKNOWN, CASELESS, UPPER, LOWER } letter_kind;

static letter_kind kind_of(uint32_t c, uint32_t *other) {
  *other = c;
  for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
    const case_range *range = &ranges[i];
    if (range->offset == 0 || range->offset == 1) {
      if (c < range->first || c > range->last) continue;
      const int upper = (int)(c & 1) == range->offset;
      *other = upper ? c + 1 : c - 1;
      return upper ? UPPER : LOWER;
    }
    const uint32_t lower = (uint32_t)((int64_t)c - range->offset);
    if (c >= range->first && c <= range->last) {
      *other = (uint32_t)((int64_t)c + range->offset);
      return UPPER;
    }
    if (lower >= range->first && lower <= range->last) {
      *other = lower;
      return LOWER;
    }
  }
  if (c < 0x80) return CASELESS;
  for (size_t i = 0; i < sizeof caseless / sizeof *caseless; i++) {
    if (c >= caseless[i][0] && c <= caseless[i][1]) return CASELESS;
  }
  return UNKNOWN;
}

enum { SHARP_S = 0xDF, SIGMA = 0x3A3, FINAL_SIGMA = 0x3C2, MICRO = 0xB5 };

/* Appends a letter in upper or lower case; *cased: whether it has one. */
static moerun_status append_letter(moerun__buffer *out, moerun__render *r,
                                   uint32_t c, int upper, int first,
                                   int *cased) {
  moerun_status status = MOERUN_OK;
  char spelt[4];
  uint32_t other = c;
  letter_kind kind = kind_of(c, &other);
  if (c == SHARP_S || c == FINAL_SIGMA || c == MICRO) {
    kind = LOWER;
    other = c == FINAL_SIGMA ? SIGMA : 0x39C;
  }
  MOERUN_REQUIRE(kind != UNKNOWN && (c != SIGMA || upper),
                 MOERUN_ERR_UNSUPPORTED,
                 "the case of the character U+%04X is not known", (unsigned)c);
  *cased = kind != CASELESS;
  if (c == SHARP_S && upper) {
    MOERUN_TRY(moerun__buffer_append(out, &r->pool, first ? "Ss" : "SS", 2));
    goto done;
  }
  const uint32_t made = kind == (upper ? LOWER : UPPER) ? other : c;
  const size_t length = moerun__character_write(spelt, made);
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
    int cased = 0;
    const uint32_t c = moerun__character_at(text->text.bytes + at,
                                            text->text.count - at, &length);
    const int begins = first && to >= CASE_TITLE;
    MOERUN_TRY(
        append_letter(&made, r, c, to == CASE_UPPER || begins, begins, &cased));
    first = to == CASE_TITLE && !cased;
    at += length;
  }
  const int safe = text->text.safe;
  *out = moerun__borrowed_text(made.bytes, made.count);
  out->text.safe = safe;
done:
  return status;
}

/* ---- Strip and replace ------------------------------------------------------------ */

static int is_stripped(uint32_t c, const moerun__value *characters) {
  if (characters->kind != VALUE_TEXT) return moerun__is_blank(c);
  for (size_t at = 0; at < characters->text.count;) {
    size_t length = 0;
    if (moerun__character_at(characters->text.bytes + at,
                             characters->text.count - at, &length) == c) {
      return 1;
    }
    at += length;
  }
  return 0;
}

moerun_status moerun__strip(moerun__value *out, const moerun__value *text,
                            const moerun__value *characters, int sides) {
  moerun_status status = MOERUN_OK;
  const char *from = text->text.bytes;
  const char *to = from + text->text.count;
  size_t length = 0;
  if (characters->kind != VALUE_ABSENT && characters->kind != VALUE_NONE) {
    MOERUN_TRY(moerun__want_text(characters, "strip"));
  }
  while ((sides & 1) != 0 && from < to &&
         is_stripped(moerun__character_at(from, (size_t)(to - from), &length),
                     characters)) {
    from += length;
  }
  while ((sides & 2) != 0 && from < to) {
    const char *last = to - 1;
    while (last > from && ((unsigned char)*last & 0xC0) == 0x80)
      last--;
    if (!is_stripped(moerun__character_at(last, (size_t)(to - last), &length),
                     characters)) {
      break;
    }
    to = last;
  }
  const int safe = text->text.safe;
  *out = moerun__borrowed_text(from, (size_t)(to - from));
  out->text.safe = safe;
done:
  return status;
}

moerun_status moerun__replace(moerun__value *out, moerun__render *r,
                              const moerun__value *text,
                              const moerun__value *before,
                              const moerun__value *after, int64_t most) {
  moerun_status status = MOERUN_OK;
  moerun__buffer made = {0};
  const char *bytes = text->text.bytes;
  const size_t count = text->text.count;
  const size_t n = before->text.count;
  size_t plain = 0;
  MOERUN_TRY(moerun__render_spend(r, count / 16));
  for (size_t at = 0; at + n <= count && most != 0;) {
    size_t step = 1;
    if (n > 0 && memcmp(bytes + at, before->text.bytes, n) != 0) {
      at++;
      continue;
    }
    if (n == 0 && at < count) {
      (void)moerun__character_at(bytes + at, count - at, &step);
    }
    MOERUN_TRY(
        moerun__buffer_append(&made, &r->pool, bytes + plain, at - plain));
    MOERUN_TRY(moerun__buffer_append(&made, &r->pool, after->text.bytes,
                                     after->text.count));
    plain = at + n;
    at += n > 0 ? n : step;
    most--;
  }
  if (made.count == 0 && plain == 0) {
    *out = *text;
    goto done;
  }
  MOERUN_TRY(
      moerun__buffer_append(&made, &r->pool, bytes + plain, count - plain));
  *out = moerun__borrowed_text(made.bytes, made.count);
done:
  return status;
}
