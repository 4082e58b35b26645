/* What was warned of, instead of on stderr. */
#ifndef MOERUN_TESTS_WARNINGS_H
#define MOERUN_TESTS_WARNINGS_H

#include "runtime/base/log.h"

#include <stdio.h>
#include <string.h>

enum { WARNINGS_BYTES = 4096 };

static char warnings_text[WARNINGS_BYTES]; /* each with its newline */

static inline void warnings_take(moerun__log_level level, const char *line) {
  const size_t used = strlen(warnings_text);
  if (level != MOERUN_LOG_WARN) return;
  (void)snprintf(warnings_text + used, sizeof warnings_text - used, "%s\n",
                 line);
}

/* From here on, and none so far. */
static inline void warnings_begin(void) {
  warnings_text[0] = '\0';
  moerun__log_set_callback(warnings_take);
}

static inline void warnings_end(void) {
  moerun__log_set_callback(NULL);
}

#endif
