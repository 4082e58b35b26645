/* FNV-1a, 64 bits: tells apart what should be equal on all ranks; no defence
 * against intent. */
#ifndef MOERUN_BASE_DIGEST_H
#define MOERUN_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>

#define MOERUN_DIGEST_START 0xcbf29ce484222325U

static inline uint64_t moerun__digest_byte(uint64_t digest,
                                           unsigned char byte) {
  return (digest ^ byte) * 0x100000001b3U;
}

static inline uint64_t moerun__digest_int(uint64_t digest, int64_t value) {
  for (int shift = 0; shift < 64; shift += 8) {
    digest =
        moerun__digest_byte(digest, (unsigned char)((uint64_t)value >> shift));
  }
  return digest;
}

static inline uint64_t moerun__digest_ints(uint64_t digest,
                                           const int32_t *value, size_t count) {
  for (size_t i = 0; i < count; i++) {
    digest = moerun__digest_int(digest, value[i]);
  }
  return digest;
}

/* The terminating NUL included, so that "ab", "c" differs from "a", "bc". */
static inline uint64_t moerun__digest_text(uint64_t digest, const char *text) {
  for (; *text != '\0'; text++) {
    digest = moerun__digest_byte(digest, (unsigned char)*text);
  }
  return moerun__digest_byte(digest, 0);
}

#endif
