/* Texts are valid UTF-8; Python counts, indexes and cuts them by code points. */
#include "runtime/text/template/value.h"

#include "runtime/base/text.h"

size_t moerun__character_count(const char *bytes, size_t count) {
  size_t characters = 0;
  for (size_t i = 0; i < count; i++) {
    characters += ((unsigned char)bytes[i] & 0xC0) != 0x80;
  }
  return characters;
}

size_t moerun__character_start(const char *bytes, size_t count, size_t index) {
  size_t at = 0;
  while (index > 0 && at < count) {
    at++;
    while (at < count && ((unsigned char)bytes[at] & 0xC0) == 0x80)
      at++;
    index--;
  }
  return at;
}

uint32_t moerun__character_at(const char *bytes, size_t count, size_t *length) {
  const int valid = moerun__utf8_length(bytes, count);
  const unsigned char *b = (const unsigned char *)bytes;
  *length = valid > 0 ? (size_t)valid : 1;
  switch (valid) {
  case 1: return b[0];
  case 2: return (b[0] & 0x1FU) << 6 | (b[1] & 0x3FU);
  case 3: return (b[0] & 0x0FU) << 12 | (b[1] & 0x3FU) << 6 | (b[2] & 0x3FU);
  case 4:
    return (b[0] & 0x07U) << 18 | (b[1] & 0x3FU) << 12 | (b[2] & 0x3FU) << 6 |
           (b[3] & 0x3FU);
  default: return 0xFFFD;
  }
}

size_t moerun__character_write(char out[4], uint32_t c) {
  if (c < 0x80) {
    out[0] = (char)c;
    return 1;
  }
  if (c < 0x800) {
    out[0] = (char)(0xC0 | c >> 6);
    out[1] = (char)(0x80 | (c & 0x3F));
    return 2;
  }
  if (c < 0x10000) {
    out[0] = (char)(0xE0 | c >> 12);
    out[1] = (char)(0x80 | (c >> 6 & 0x3F));
    out[2] = (char)(0x80 | (c & 0x3F));
    return 3;
  }
  out[0] = (char)(0xF0 | c >> 18);
  out[1] = (char)(0x80 | (c >> 12 & 0x3F));
  out[2] = (char)(0x80 | (c >> 6 & 0x3F));
  out[3] = (char)(0x80 | (c & 0x3F));
  return 4;
}

int moerun__is_blank(uint32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 ||
         c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
         c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
         c == 0x3000;
}
