#include "runtime/base/status.h"

#include "runtime/base/log.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

enum { LINE_BYTES = 1024 };

static _Thread_local char last_error[LINE_BYTES];

const char *moerun_status_string(moerun_status status) {
  switch (status) {
#define STATUS_TEXT(name, value, text)                                         \
  case MOERUN_##name: return text;
    MOERUN_STATUS_MAP(STATUS_TEXT)
#undef STATUS_TEXT
  }
  return "unknown status";
}

const char *moerun_last_error(void) {
  return last_error;
}

/* One line, whatever names or bytes of a hostile file went into it. */
static void make_one_line(void) {
  for (char *c = last_error; *c != '\0'; c++) {
    if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
  }
}

/* Both parts, the first shortened to what the second leaves of the line. */
static void join(const char *first, const char *second) {
  char line[LINE_BYTES];
  const size_t most = sizeof line - 1;
  const size_t behind = strnlen(second, most);
  const size_t before = strnlen(first, most - behind);
  memcpy(line, first, before);
  memcpy(line + before, second, behind);
  line[before + behind] = '\0';
  memcpy(last_error, line, before + behind + 1);
  make_one_line();
}

moerun_status moerun__say_where(moerun_status code, const char *where) {
  char line[LINE_BYTES + 2] = ": ";
  memcpy(line + 2, last_error, sizeof last_error);
  join(where, line);
  return code;
}

moerun_status moerun__say_more(moerun_status code, const char *format, ...) {
  char more[LINE_BYTES];
  va_list arguments;
  va_start(arguments, format);
  (void)vsnprintf(more, sizeof more, format, arguments);
  va_end(arguments);
  join(last_error, more);
  return code;
}

moerun_status moerun__fail(moerun_status code, const char *file, int line,
                           const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  (void)vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
  make_one_line();
  LOG_RANK(MOERUN_LOG_DEBUG, "%s:%d: %s", file, line, last_error);
  return code;
}
