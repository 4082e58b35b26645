/* The memory that this process can still take, and what it took. */
#ifndef MOERUN_RUN_MEMORY_LEFT_H
#define MOERUN_RUN_MEMORY_LEFT_H

#include "runtime/base/status.h"

enum { MOERUN_SOURCE_BYTES = 256 };

typedef struct moerun__memory_left {
  int64_t bytes;                    /* INT64_MAX: nothing says */
  char source[MOERUN_SOURCE_BYTES]; /* where that stands, for messages */
} moerun__memory_left;

/* The least of what the system has available and of what the limits of this
 * process's control group and of all groups above it leave, version 1 and 2.
 * Reads below `root`: "" for the real /proc and /sys. What cannot be read
 * limits nothing. */
moerun_status moerun__memory_left_read(moerun__memory_left *out,
                                       const char *root);

/* Largest resident size of this process so far; 0: nothing says. */
int64_t moerun__memory_peak(void);

#endif
