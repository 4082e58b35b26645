/* Sets of tokens as bits, 64 to a word: their sizes, and those of what they
 * have in common. Most of the time of the searches for a low fan-out goes into
 * these. */
#ifndef MOERUN_SEARCH_TOKEN_SET_H
#define MOERUN_SEARCH_TOKEN_SET_H

#include <stddef.h>
#include <stdint.h>

enum { MOERUN_WORD_BITS = 64 };

/* |a| */
int32_t moerun__set_size(const uint64_t *a, size_t words);
/* |a & b| */
int32_t moerun__set_common(const uint64_t *a, const uint64_t *b, size_t words);
/* |a & b & c| */
int32_t moerun__set_common_three(const uint64_t *a, const uint64_t *b,
                                 const uint64_t *c, size_t words);
/* |a & b & c| + |a & b & d| */
int32_t moerun__set_common_twice(const uint64_t *a, const uint64_t *b,
                                 const uint64_t *c, const uint64_t *d,
                                 size_t words);
/* |a & (sets[0] | sets[1] | …)|, count >= 1 */
int32_t moerun__set_common_any(const uint64_t *a, const uint64_t *const *sets,
                               int32_t count, size_t words);

#endif
