/* Two macros: LOG_ROOT speaks on rank 0 only, LOG_RANK on each rank with
 * "[r3/8]" in front. One callback, stderr by default. No logs in per-row
 * code. A number never appears without its unit. A warning is given once,
 * however often its cause is met. */
#ifndef MOERUN_BASE_LOG_H
#define MOERUN_BASE_LOG_H

#include <stdint.h>

typedef enum moerun__log_level {
  MOERUN_LOG_ERROR = 0,
  MOERUN_LOG_WARN,
  MOERUN_LOG_INFO,
  MOERUN_LOG_DEBUG,
} moerun__log_level;

typedef void (*moerun__log_callback)(moerun__log_level level, const char *line);
typedef void (*moerun__log_before)(void);

/* Default: errors and warnings, to stderr, as a program of one rank. */
void moerun__log_set_level(moerun__log_level level);
void moerun__log_set_rank(int32_t rank, int32_t num_ranks);
/* Warnings that were given before may come again. NULL: stderr. */
void moerun__log_set_callback(moerun__log_callback callback);
/* Called before each line that is shown, to make room for it. NULL: nothing. */
void moerun__log_set_before(moerun__log_before before);

void moerun__log(moerun__log_level level, int root_only, const char *format,
                 ...) __attribute__((format(printf, 3, 4)));

#define LOG_ROOT(level, ...) moerun__log((level), 1, __VA_ARGS__)
#define LOG_RANK(level, ...) moerun__log((level), 0, __VA_ARGS__)

#endif
