/* Error handling inside the library: every fallible function returns
 * moerun_status, the innermost failure writes one line to a thread-local
 * buffer, and outer layers add to it only what it could not know. Functions
 * that use the two macros declare `moerun_status status = MOERUN_OK;` and one
 * `done:` label that frees. */
#ifndef MOERUN_BASE_STATUS_H
#define MOERUN_BASE_STATUS_H

#include <moerun/moerun.h>

/* Stores the formatted line and returns `code`. The place in the source goes
 * to the debug log, not to the user. */
moerun_status moerun__fail(moerun_status code, const char *file, int line,
                           const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* The failure that is stored, with where it was in front ("WHERE: LINE"), or
 * with more behind it, as it is; a line that becomes too long loses the end of
 * `where` or of what was there. Returns `code`. */
moerun_status moerun__say_where(moerun_status code, const char *where);
moerun_status moerun__say_more(moerun_status code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

#define MOERUN_TRY(call)                                                       \
  do {                                                                         \
    status = (call);                                                           \
    if (status != MOERUN_OK) goto done;                                        \
  } while (0)

#define MOERUN_REQUIRE(condition, code, ...)                                   \
  do {                                                                         \
    if (!(condition)) {                                                        \
      status = moerun__fail((code), __FILE__, __LINE__, __VA_ARGS__);          \
      goto done;                                                               \
    }                                                                          \
  } while (0)

#endif
