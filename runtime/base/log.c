#include "runtime/base/log.h"

#include "runtime/base/digest.h"

#include <stdarg.h>
#include <stdio.h>

enum { LINE_BYTES = 1280, REMEMBERED = 64 };

static void to_stderr(moerun__log_level level, const char *line) {
  static const char *const names[] = {"error: ", "warning: ", "", "debug: "};
  (void)fprintf(stderr, "moerun: %s%s\n", names[level], line);
}

/* Set once at start, before any object exists. */
static moerun__log_level current_level = MOERUN_LOG_WARN;
static moerun__log_callback current_callback = to_stderr;
static moerun__log_before current_before = NULL;
static int32_t this_rank = 0;
static int32_t rank_count = 1;

/* What was warned of already: a model's files are read more than once, to be
 * checked, to predict memory and to be loaded. */
static uint64_t remembered[REMEMBERED];
static int num_remembered = 0;

static int is_repeated(const char *line) {
  const uint64_t digest = moerun__digest_text(MOERUN_DIGEST_START, line);
  for (int i = 0; i < num_remembered; i++) {
    if (remembered[i] == digest) return 1;
  }
  if (num_remembered < REMEMBERED) remembered[num_remembered++] = digest;
  return 0;
}

void moerun__log_set_level(moerun__log_level level) {
  current_level = level;
}

void moerun__log_set_rank(int32_t rank, int32_t num_ranks) {
  this_rank = rank;
  rank_count = num_ranks;
}

void moerun__log_set_callback(moerun__log_callback callback) {
  current_callback = callback != NULL ? callback : to_stderr;
  num_remembered = 0;
}

void moerun__log_set_before(moerun__log_before before) {
  current_before = before;
}

void moerun__log(moerun__log_level level, int root_only, const char *format,
                 ...) {
  if (level > current_level || (root_only && this_rank != 0)) return;
  char line[LINE_BYTES];
  int used = 0;
  if (!root_only && rank_count > 1) {
    used = snprintf(line, sizeof line, "[r%d/%d] ", this_rank, rank_count);
  }
  va_list arguments;
  va_start(arguments, format);
  (void)vsnprintf(line + used, sizeof line - (size_t)used, format, arguments);
  va_end(arguments);
  if (level == MOERUN_LOG_WARN && is_repeated(line)) return;
  if (current_before != NULL) current_before();
  current_callback(level, line);
}
