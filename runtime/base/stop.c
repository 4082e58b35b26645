/* Like the log's, the callback is the process's: a signal is, too, and what
 * looks for it lies too deep to be handed one each. */
#include "runtime/base/stop.h"

#include <stddef.h>

static int (*is_asked_for)(void);

void moerun__stop_set_callback(int (*is_asked)(void)) {
  is_asked_for = is_asked;
}

moerun_status moerun__stop_check(const char *name, const char *what) {
  moerun_status status = MOERUN_OK;
  const int is_asked = is_asked_for != NULL && is_asked_for();
  MOERUN_REQUIRE(!is_asked, MOERUN_ERR_STOPPED,
                 "%.200s: stopped by a signal while %s", name, what);
done:
  return status;
}
