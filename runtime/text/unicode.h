/* Code points of valid UTF-8 and the classes of them that tokenizers name. */
#ifndef MOERUN_TEXT_UNICODE_H
#define MOERUN_TEXT_UNICODE_H

#include "runtime/base/text.h"

#include <stdint.h>

enum { MOERUN_CHARACTER_BYTES = 4 }; /* the longest character in UTF-8 */

/* The bytes of the character that begins with the byte `lead`. */
int moerun__character_bytes(char lead);
/* The code point at the start of `text`; *bytes is the length of it. */
int32_t moerun__code_point(const char *text, int *bytes);
/* Writes the character in UTF-8 to out[MOERUN_CHARACTER_BYTES]; returns its
 * bytes. */
int moerun__write_code_point(char *out, int32_t c);
/* Appends the character in UTF-8. */
moerun_status moerun__put_code_point(moerun__text *out, int32_t c);

/* ERR_FORMAT, naming `origin` and the first byte that is not UTF-8. */
moerun_status moerun__expect_utf8(const char *text, size_t bytes,
                                  const char *origin);

int moerun__is_white_space(int32_t c); /* White_Space */
int moerun__is_numeric(int32_t c);     /* Nd, Nl, No */
int moerun__is_punctuation(int32_t c); /* P*, and all symbols of ASCII */
int moerun__is_word(int32_t c);  /* letters, marks, decimal digits, joiners */
int moerun__is_cased(int32_t c); /* Lu, Ll, Lt */
int moerun__is_shown(int32_t c); /* no C*, no Z* but the blank */

/* The character in another case, itself where it has none; -1 where it would be
 * several characters. */
int32_t moerun__to_upper(int32_t c);
int32_t moerun__to_lower(int32_t c);
int32_t moerun__to_title(int32_t c);

/* Bytes of white space at the end, and at the start, of text[bytes]. */
size_t moerun__white_space_behind(const char *text, size_t bytes);
size_t moerun__white_space_in_front(const char *text, size_t bytes);

#endif
