/* FNV-1a, 64 bits: tells apart what should be equal on all ranks, and
 * recognises what was seen before; no defence against intent. Numbers count as
 * little-endian bytes. */
#ifndef MOERUN_BASE_DIGEST_H
#define MOERUN_BASE_DIGEST_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define MOERUN_DIGEST_START 0xcbf29ce484222325U

static inline uint64_t moerun__digest_bytes(uint64_t digest, const void *bytes,
                                            size_t count) {
  const unsigned char *b = bytes;
  for (size_t i = 0; i < count; i++) {
    digest = (digest ^ b[i]) * 0x100000001b3U;
  }
  return digest;
}

static inline uint64_t moerun__digest_int(uint64_t digest, int64_t value) {
  unsigned char b[8];
  for (int i = 0; i < 8; i++) {
    b[i] = (unsigned char)((uint64_t)value >> 8 * i);
  }
  return moerun__digest_bytes(digest, b, sizeof b);
}

static inline uint64_t moerun__digest_ints(uint64_t digest,
                                           const int32_t *value, size_t count) {
  for (size_t i = 0; i < count; i++) {
    digest = moerun__digest_int(digest, value[i]);
  }
  return digest;
}

static inline uint64_t moerun__digest_double(uint64_t digest, double value) {
  int64_t bits = 0;
  memcpy(&bits, &value, sizeof bits);
  return moerun__digest_int(digest, bits);
}

/* The terminating NUL included, so that "ab", "c" differs from "a", "bc". */
static inline uint64_t moerun__digest_text(uint64_t digest, const char *text) {
  return moerun__digest_bytes(digest, text, strlen(text) + 1);
}

/* A text that may hold NUL: its length first, so that neighbours do not run
 * together. */
static inline uint64_t moerun__digest_span(uint64_t digest, const char *text,
                                           size_t count) {
  return moerun__digest_bytes(moerun__digest_int(digest, (int64_t)count), text,
                              count);
}

#endif
