/* Where a text has a part, as its methods look for it: work by the bytes that
 * are looked at, whatever they are. */
#ifndef MOERUN_TEXT_TEMPLATE_SEARCH_H
#define MOERUN_TEXT_TEMPLATE_SEARCH_H

#include "runtime/text/template/render.h"

enum { MOERUN_SHORT_PART = 64 }; /* whose table needs no memory */

typedef struct moerun__text_search {
  moerun__render *render;
  const char *text; /* [bytes] borrowed, as the part */
  size_t bytes;
  const char *part;
  size_t part_bytes;
  int from_end;
  size_t searched; /* bytes of the text, from the side where it begins */
  size_t *border;  /* [part_bytes] of the part's first i + 1 bytes, how many
                      at their end are also their beginning */
  size_t room[MOERUN_SHORT_PART];
} moerun__text_search;

/* The part is not empty. A long one takes memory of the rendering. */
moerun_status moerun__search_begin(moerun__text_search *search,
                                   moerun__render *r, const moerun__value *text,
                                   const moerun__value *part, int from_end);
/* The next place that does not overlap those before it, or NULL. */
moerun_status moerun__search_next(const char **out,
                                  moerun__text_search *search);

#endif
