/* x86 has an instruction that counts bits, which its oldest processors lack:
 * two versions of each function, of which the loader picks one. Elsewhere, and
 * where the loader cannot (sanitizers run too late for it), the compiler does
 * what it can. The versions are static, because gcc exports the loader's choice
 * whatever visibility says. */
#include "placement/search/token_set.h"

#if defined __x86_64__ && defined __GLIBC__ && defined __GNUC__ &&             \
    !defined __clang__ && !defined __SANITIZE_ADDRESS__
#define COUNTS_BITS __attribute__((target_clones("popcnt", "default")))
#else
#define COUNTS_BITS
#endif

COUNTS_BITS
static int32_t set_size(const uint64_t *a, size_t words) {
  int64_t bits = 0;
  for (size_t w = 0; w < words; w++) {
    bits += __builtin_popcountll(a[w]);
  }
  return (int32_t)bits;
}

COUNTS_BITS
static int32_t set_common(const uint64_t *a, const uint64_t *b, size_t words) {
  int64_t bits = 0;
  for (size_t w = 0; w < words; w++) {
    bits += __builtin_popcountll(a[w] & b[w]);
  }
  return (int32_t)bits;
}

COUNTS_BITS
static int32_t set_common_three(const uint64_t *a, const uint64_t *b,
                                const uint64_t *c, size_t words) {
  int64_t bits = 0;
  for (size_t w = 0; w < words; w++) {
    bits += __builtin_popcountll(a[w] & b[w] & c[w]);
  }
  return (int32_t)bits;
}

COUNTS_BITS
static int32_t set_common_twice(const uint64_t *a, const uint64_t *b,
                                const uint64_t *c, const uint64_t *d,
                                size_t words) {
  int64_t bits = 0;
  for (size_t w = 0; w < words; w++) {
    const uint64_t both = a[w] & b[w];
    bits += __builtin_popcountll(both & c[w]);
    bits += __builtin_popcountll(both & d[w]);
  }
  return (int32_t)bits;
}

COUNTS_BITS
static int32_t set_common_any(const uint64_t *a, const uint64_t *const *sets,
                              int32_t count, size_t words) {
  int64_t bits = 0;
  for (size_t w = 0; w < words; w++) {
    uint64_t any = sets[0][w];
    for (int32_t i = 1; i < count; i++) {
      any |= sets[i][w];
    }
    bits += __builtin_popcountll(a[w] & any);
  }
  return (int32_t)bits;
}

int32_t moerun__set_size(const uint64_t *a, size_t words) {
  return set_size(a, words);
}

int32_t moerun__set_common(const uint64_t *a, const uint64_t *b, size_t words) {
  return set_common(a, b, words);
}

int32_t moerun__set_common_three(const uint64_t *a, const uint64_t *b,
                                 const uint64_t *c, size_t words) {
  return set_common_three(a, b, c, words);
}

int32_t moerun__set_common_twice(const uint64_t *a, const uint64_t *b,
                                 const uint64_t *c, const uint64_t *d,
                                 size_t words) {
  return set_common_twice(a, b, c, d, words);
}

int32_t moerun__set_common_any(const uint64_t *a, const uint64_t *const *sets,
                               int32_t count, size_t words) {
  return set_common_any(a, sets, count, words);
}
