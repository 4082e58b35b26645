/* Categories are utf8proc's. White_Space is written out, because utf8proc has
 * no such property; `word` follows Unicode's Annex C of regular expressions, as
 * the Hugging Face library does. */
#include "runtime/text/unicode.h"

#include <utf8proc.h>

int moerun__character_bytes(char lead) {
  const unsigned byte = (unsigned char)lead;
  if (byte < 0xC0) return 1;
  if (byte < 0xE0) return 2;
  return byte < 0xF0 ? 3 : 4;
}

int32_t moerun__code_point(const char *text, int *bytes) {
  const unsigned char *s = (const unsigned char *)text;
  *bytes = moerun__character_bytes(*text);
  switch (*bytes) {
  case 1: return s[0];
  case 2: return (s[0] & 0x1F) << 6 | (s[1] & 0x3F);
  case 3: return (s[0] & 0x0F) << 12 | (s[1] & 0x3F) << 6 | (s[2] & 0x3F);
  default:
    return (s[0] & 0x07) << 18 | (s[1] & 0x3F) << 12 | (s[2] & 0x3F) << 6 |
           (s[3] & 0x3F);
  }
}

int moerun__write_code_point(char *out, int32_t c) {
  return (int)utf8proc_encode_char(c, (utf8proc_uint8_t *)out);
}

moerun_status moerun__put_code_point(moerun__text *out, int32_t c) {
  char bytes[MOERUN_CHARACTER_BYTES];
  const int count = moerun__write_code_point(bytes, c);
  return moerun__text_append(out, bytes, (size_t)count);
}

moerun_status moerun__expect_utf8(const char *text, size_t bytes,
                                  const char *origin) {
  moerun_status status = MOERUN_OK;
  size_t at = 0;
  while (at < bytes) {
    const int length =
        text[at] >= 0 ? 1 : moerun__utf8_length(text + at, bytes - at);
    MOERUN_REQUIRE(length > 0, MOERUN_ERR_FORMAT,
                   "%s: byte %zu of the text: expected UTF-8, found 0x%02x",
                   origin, at + 1, (unsigned)(unsigned char)text[at]);
    at += (size_t)length;
  }
done:
  return status;
}

int moerun__is_white_space(int32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r');
  return c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

int moerun__is_numeric(int32_t c) {
  const utf8proc_category_t category = utf8proc_category(c);
  return category == UTF8PROC_CATEGORY_ND || category == UTF8PROC_CATEGORY_NL ||
         category == UTF8PROC_CATEGORY_NO;
}

int moerun__is_punctuation(int32_t c) {
  const utf8proc_category_t category = utf8proc_category(c);
  if (c < 0x80) {
    return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') ||
           (c >= '[' && c <= '`') || (c >= '{' && c <= '~');
  }
  return category >= UTF8PROC_CATEGORY_PC && category <= UTF8PROC_CATEGORY_PO;
}

int moerun__is_word(int32_t c) {
  const utf8proc_category_t category = utf8proc_category(c);
  const int is_joiner = c == 0x200C || c == 0x200D;
  const int is_letter_in_a_circle =
      (c >= 0x24B6 && c <= 0x24E9) || (c >= 0x1F130 && c <= 0x1F149) ||
      (c >= 0x1F150 && c <= 0x1F169) || (c >= 0x1F170 && c <= 0x1F189);
  return (category >= UTF8PROC_CATEGORY_LU &&
          category <= UTF8PROC_CATEGORY_NL) ||
         category == UTF8PROC_CATEGORY_PC || is_joiner || is_letter_in_a_circle;
}

int moerun__is_cased(int32_t c) {
  const utf8proc_category_t category = utf8proc_category(c);
  return category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_LT;
}

int moerun__is_shown(int32_t c) {
  const utf8proc_category_t category = utf8proc_category(c);
  return c == ' ' ||
         (category >= UTF8PROC_CATEGORY_LU && category <= UTF8PROC_CATEGORY_SO);
}

/* utf8proc gives one character; SpecialCasing.txt has several for these. */
static int has_several(int32_t c) {
  static const int32_t several[][2] = {
      {0xDF, 0xDF},     {0x130, 0x130},   {0x149, 0x149},   {0x1F0, 0x1F0},
      {0x390, 0x390},   {0x3B0, 0x3B0},   {0x587, 0x587},   {0x1E96, 0x1E9A},
      {0x1F50, 0x1F50}, {0x1F52, 0x1F52}, {0x1F54, 0x1F54}, {0x1F56, 0x1F56},
      {0x1F80, 0x1FAF}, {0x1FB2, 0x1FB4}, {0x1FB6, 0x1FB7}, {0x1FBC, 0x1FBC},
      {0x1FC2, 0x1FC4}, {0x1FC6, 0x1FC7}, {0x1FCC, 0x1FCC}, {0x1FD2, 0x1FD3},
      {0x1FD6, 0x1FD7}, {0x1FE2, 0x1FE4}, {0x1FE6, 0x1FE7}, {0x1FF2, 0x1FF4},
      {0x1FF6, 0x1FF7}, {0x1FFC, 0x1FFC}, {0xFB00, 0xFB06}, {0xFB13, 0xFB17}};
  for (size_t i = 0; i < sizeof several / sizeof *several; i++) {
    if (c >= several[i][0] && c <= several[i][1]) return 1;
  }
  return 0;
}

int32_t moerun__to_upper(int32_t c) {
  return has_several(c) ? -1 : utf8proc_toupper(c);
}

int32_t moerun__to_lower(int32_t c) {
  /* Of these, this one alone has several in lower case. */
  return c == 0x130 ? -1 : utf8proc_tolower(c);
}

int32_t moerun__to_title(int32_t c) {
  return has_several(c) ? -1 : utf8proc_totitle(c);
}

size_t moerun__white_space_behind(const char *text, size_t bytes) {
  size_t end = bytes;
  int length = 0;
  while (end > 0) {
    size_t start = end - 1;
    while (start > 0 && ((unsigned char)text[start] & 0xC0U) == 0x80) {
      start--;
    }
    if (!moerun__is_white_space(moerun__code_point(text + start, &length))) {
      break;
    }
    end = start;
  }
  return bytes - end;
}

size_t moerun__white_space_in_front(const char *text, size_t bytes) {
  size_t at = 0;
  int length = 0;
  while (at < bytes &&
         moerun__is_white_space(moerun__code_point(text + at, &length))) {
    at += (size_t)length;
  }
  return at;
}
