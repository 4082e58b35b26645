/* Texts are valid UTF-8; Python counts, indexes and cuts them by code
 * points. */
#include "runtime/text/template/value.h"

#include "runtime/text/unicode.h"

size_t moerun__character_count(const char *bytes, size_t count) {
  size_t characters = 0;
  for (size_t i = 0; i < count; i++) {
    characters += ((unsigned char)bytes[i] & 0xC0) != 0x80;
  }
  return characters;
}

size_t moerun__character_start(const char *bytes, size_t count, size_t index) {
  size_t at = 0;
  for (; index > 0 && at < count; index--) {
    at += (size_t)moerun__character_bytes(bytes[at]);
  }
  return at;
}

int32_t moerun__character_at(const char *bytes, size_t *length) {
  int count = 0;
  const int32_t c = moerun__code_point(bytes, &count);
  *length = (size_t)count;
  return c;
}

int moerun__is_blank(int32_t c) {
  return moerun__is_white_space(c) || (c >= 0x1C && c <= 0x1F);
}
