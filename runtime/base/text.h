/* Growable byte strings, and JSON strings that are valid UTF-8 whatever bytes
 * they are made from. */
#ifndef MOERUN_BASE_TEXT_H
#define MOERUN_BASE_TEXT_H

#include "runtime/base/status.h"

#include <stdint.h>

/* All zero: empty. bytes[count] is NUL once something was appended. */
typedef struct moerun__text {
  char *bytes;
  size_t count;
  size_t room;
} moerun__text;

moerun_status moerun__text_append(moerun__text *text, const char *bytes,
                                  size_t count);
moerun_status moerun__text_print(moerun__text *text, const char *format, ...)
    __attribute__((format(printf, 2, 3)));
/* Appends integers with a comma between two, as a JSON array has them. */
moerun_status moerun__text_integers(moerun__text *text, const int32_t *value,
                                    size_t count);
/* Appends a quoted JSON string. NUL and each maximal part of an invalid UTF-8
 * sequence become U+FFFD, as Unicode recommends. */
moerun_status moerun__text_json(moerun__text *text, const char *bytes,
                                size_t count);
/* The shortest decimal number that reads back as `value`, for messages: a
 * number beyond a limit never prints as the limit. Returns out. */
enum { MOERUN_NUMBER_TEXT = 32 };
const char *moerun__number_text(char out[MOERUN_NUMBER_TEXT], double value);
/* Frees the bytes; the text is empty afterwards. */
void moerun__text_clear(moerun__text *text);

/* Whether `word` is one of the words of `list`, a blank between two. */
int moerun__words_have(const char *list, const char *word);
/* Whether name[0 .. length) is something with `ending` behind it. */
int moerun__name_ends_in(const char *name, size_t length, const char *ending);

/* Length 1..4 of the valid UTF-8 sequence at the start of bytes[count], or
 * minus the length of the invalid part to be replaced. count >= 1. */
int moerun__utf8_length(const char *bytes, size_t count);
/* How many of bytes[count] are in front of the start of a character that has
 * not ended, if they end in one. */
size_t moerun__whole_characters(const char *bytes, size_t count);

#endif
