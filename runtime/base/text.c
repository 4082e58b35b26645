/* Model output is bytes: a sampled token may end in the middle of a character.
 * What is written as JSON must be UTF-8 all the same, so invalid parts are
 * replaced here, at the only place where text leaves the program. NUL is
 * replaced too: JSON could carry it, but many readers cannot (Jansson, C
 * strings, databases), and the token ids beside it are the exact record. */
#include "runtime/base/text.h"

#include "runtime/base/memory.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { INTEGER_BYTES = 12 }; /* ",-2147483648" */

static moerun_status reserve(moerun__text *text, size_t more) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(more < SIZE_MAX / 4 && text->count < SIZE_MAX / 4,
                 MOERUN_ERR_NOMEM, "out of memory: a text of %zu bytes",
                 text->count);
  const size_t needed = text->count + more + 1;
  if (needed > text->room) {
    const size_t room = needed < 64 ? 64 : needed + needed / 2;
    MOERUN_TRY(moerun__resize_unset(&text->bytes, text->room, room, 1));
    text->room = room;
  }
done:
  return status;
}

moerun_status moerun__text_append(moerun__text *text, const char *bytes,
                                  size_t count) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(reserve(text, count));
  if (count > 0) memcpy(text->bytes + text->count, bytes, count);
  text->count += count;
  text->bytes[text->count] = '\0';
done:
  return status;
}

moerun_status moerun__text_print(moerun__text *text, const char *format, ...) {
  moerun_status status = MOERUN_OK;
  va_list arguments;
  va_start(arguments, format);
  const int length = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  MOERUN_REQUIRE(length >= 0, MOERUN_ERR_INVALID, "a text cannot be formatted");
  MOERUN_TRY(reserve(text, (size_t)length));
  va_start(arguments, format);
  (void)vsnprintf(text->bytes + text->count, (size_t)length + 1, format,
                  arguments);
  va_end(arguments);
  text->count += (size_t)length;
done:
  return status;
}

/* Files of ids have millions of these, which vsnprintf takes long for. */
moerun_status moerun__text_integers(moerun__text *text, const int32_t *value,
                                    size_t count) {
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < count; i++) {
    char digits[INTEGER_BYTES];
    char *at = digits + sizeof digits;
    const int64_t wide = value[i];
    uint64_t left = (uint64_t)(wide < 0 ? -wide : wide);
    do {
      *--at = (char)('0' + left % 10);
      left /= 10;
    } while (left > 0);
    if (wide < 0) *--at = '-';
    if (i > 0) *--at = ',';
    MOERUN_TRY(
        moerun__text_append(text, at, (size_t)(digits + sizeof digits - at)));
  }
done:
  return status;
}

const char *moerun__number_text(char out[MOERUN_NUMBER_TEXT], double value) {
  for (int digits = 6; digits <= 17; digits++) {
    (void)snprintf(out, MOERUN_NUMBER_TEXT, "%.*g", digits, value);
    if (strtod(out, NULL) == value) break;
  }
  return out;
}

void moerun__text_clear(moerun__text *text) {
  moerun__free(text->bytes);
  memset(text, 0, sizeof *text);
}

/* Unicode, table 3-7: the second byte's range depends on the first. */
int moerun__utf8_length(const char *bytes, size_t count) {
  const unsigned char *b = (const unsigned char *)bytes;
  if (b[0] < 0x80) return 1;
  if (b[0] < 0xC2 || b[0] > 0xF4) return -1;
  const int length = b[0] < 0xE0 ? 2 : b[0] < 0xF0 ? 3 : 4;
  const unsigned low = b[0] == 0xE0 ? 0xA0 : b[0] == 0xF0 ? 0x90 : 0x80;
  const unsigned high = b[0] == 0xED ? 0x9F : b[0] == 0xF4 ? 0x8F : 0xBF;
  if (count < 2 || b[1] < low || b[1] > high) return -1;
  for (int i = 2; i < length; i++) {
    if ((size_t)i >= count || (b[i] & 0xC0U) != 0x80) return -i;
  }
  return length;
}

/* Three bytes at most are the start of a character, and the first of them alone
 * is none that continues one. */
size_t moerun__whole_characters(const char *bytes, size_t count) {
  for (size_t back = 1; back <= 3 && back <= count; back++) {
    const unsigned char first = (unsigned char)bytes[count - back];
    if ((first & 0xC0U) == 0x80) continue;
    const int length = moerun__utf8_length(bytes + count - back, back);
    const int is_cut =
        first >= 0xC2 && first <= 0xF4 && length < 0 && (size_t)-length == back;
    return is_cut ? count - back : count;
  }
  return count;
}

/* The text of one character below 0x20, '"' or '\\'. */
static moerun_status append_escape(moerun__text *text, char c) {
  static const char plain[] = "\"\\\b\f\n\r\t";
  static const char letter[] = "\"\\bfnrt";
  const char *found = strchr(plain, c);
  if (c == '\0') return moerun__text_append(text, "\xEF\xBF\xBD", 3);
  if (found == NULL) {
    return moerun__text_print(text, "\\u%04x", (unsigned)(unsigned char)c);
  }
  const char pair[2] = {'\\', letter[found - plain]};
  return moerun__text_append(text, pair, 2);
}

moerun_status moerun__text_json(moerun__text *text, const char *bytes,
                                size_t count) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_append(text, "\"", 1));
  size_t i = 0;
  while (i < count) {
    const unsigned char c = (unsigned char)bytes[i];
    const int length = moerun__utf8_length(bytes + i, count - i);
    if (length < 0) {
      MOERUN_TRY(moerun__text_append(text, "\xEF\xBF\xBD", 3));
      i += (size_t)-length;
      continue;
    }
    if (c < 0x20 || c == '"' || c == '\\') {
      MOERUN_TRY(append_escape(text, bytes[i]));
    } else {
      MOERUN_TRY(moerun__text_append(text, bytes + i, (size_t)length));
    }
    i += (size_t)length;
  }
  MOERUN_TRY(moerun__text_append(text, "\"", 1));
done:
  return status;
}

int moerun__words_have(const char *list, const char *word) {
  const size_t length = strlen(word);
  while (*list != '\0') {
    const size_t n = strcspn(list, " ");
    if (n == length && strncmp(list, word, n) == 0) return 1;
    list += n + (list[n] == ' ');
  }
  return 0;
}

int moerun__name_ends_in(const char *name, size_t length, const char *ending) {
  const size_t n = strlen(ending);
  return length > n && memcmp(name + length - n, ending, n) == 0;
}
