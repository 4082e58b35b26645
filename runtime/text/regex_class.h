/* Private to the regular expressions: classes, sets and characters of
 * Oniguruma's, in PCRE2's spelling. */
#ifndef MOERUN_TEXT_REGEX_CLASS_H
#define MOERUN_TEXT_REGEX_CLASS_H

#include "runtime/base/text.h"

#include <stdint.h>

typedef struct moerun__regex_reader {
  const char *at;    /* what is to be read next; valid UTF-8 that ends in NUL */
  const char *where; /* the stage, for messages */
} moerun__regex_reader;

/* One character, also as an escape that stands for one. */
moerun_status moerun__regex_character(moerun__regex_reader *reader, int32_t *c);
moerun_status moerun__regex_put_character(moerun__text *out, int32_t c);

/* The members, as they stand in a class, of the set that \letter means, one of
 * d D w W s S h H p P; the reader stands behind the letter. */
moerun_status moerun__regex_set(moerun__regex_reader *reader, moerun__text *out,
                                int *is_negated, char letter);

/* A class in brackets, which is `depth` classes deep in others. */
moerun_status moerun__regex_class(moerun__regex_reader *reader,
                                  moerun__text *out, int depth);

#endif
