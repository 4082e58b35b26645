/* Patterns that tokenizers cut and replace by: literal texts, and regular
 * expressions as Oniguruma reads them (Ruby's syntax), matched by PCRE2. */
#ifndef MOERUN_TEXT_REGEX_H
#define MOERUN_TEXT_REGEX_H

#include "runtime/base/text.h"

#include <jansson.h>

typedef struct moerun__pattern moerun__pattern;

/* One literal text; an empty one is found nowhere. */
moerun_status moerun__pattern_literal(moerun__pattern **out, const char *text,
                                      size_t bytes);
/* A regular expression; `where` names the stage in messages. ERR_UNSUPPORTED
 * where PCRE2 would read it otherwise than Oniguruma. */
moerun_status moerun__pattern_regex(moerun__pattern **out, const char *regex,
                                    const char *where);
/* Member "pattern" of a stage: {"String": text} or {"Regex": expression}. */
moerun_status moerun__pattern_read(moerun__pattern **out, const json_t *stage,
                                   const char *where);
void moerun__pattern_destroy(moerun__pattern *pattern);

/* A search through a text; all zero but for `text`, which is valid UTF-8, and
 * `bytes` before the first call. */
typedef struct moerun__search {
  const char *text;
  size_t bytes;
  size_t from;     /* where the next search begins */
  size_t last_end; /* of the match before; 1 more than it, 0: there was none */
  size_t start;    /* of the match that was found */
  size_t end;
} moerun__search;

/* Finds the next match and sets *found. One thread at a time may search with a
 * pattern, by any number of searches. */
moerun_status moerun__pattern_next(moerun__pattern *pattern, int *found,
                                   moerun__search *search, const char *origin);

/* PCRE2's spelling of Oniguruma's regular expression, appended to `out`. */
moerun_status moerun__regex_rewrite(moerun__text *out, const char *regex,
                                    const char *where);

#endif
