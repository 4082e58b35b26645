#include "runtime/base/status.h"

#include "runtime/base/log.h"

#include <stdarg.h>
#include <stdio.h>

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

moerun_status moerun__fail(moerun_status code, const char *file, int line,
                           const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  (void)vsnprintf(last_error, sizeof last_error, format, arguments);
  va_end(arguments);
  /* One line, whatever names or bytes of a hostile file went into it. */
  for (char *c = last_error; *c != '\0'; c++) {
    if ((unsigned char)*c < 0x20 || *c == 0x7f) *c = '?';
  }
  LOG_RANK(MOERUN_LOG_DEBUG, "%s:%d: %s", file, line, last_error);
  return code;
}
