/* Pipes: who waits at one looks whether the program is asked to end, and a
 * reader who is gone is an error. */
#include "runtime/base/file.h"
#include "runtime/base/output.h"
#include "runtime/base/stop.h"
#include "support/scratch.h"
#include "support/temp_dir.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/stat.h>

static int asked;

static int is_asked(void) {
  return asked;
}

/* What can be read or written at once is, even then. */
static void waits_end_when_asked(void **state) {
  (void)state;
  static char block[1 << 17]; /* more than fits into most pipes at once */
  char line[2 * TEMP_PATH];
  char path[TEMP_PATH];
  moerun__outputs outputs = {0};
  temp_dir dir;
  int ends[2];
  assert_true(temp_dir_create(&dir));
  (void)temp_path(path, &dir, "pipe");
  asked = 1;
  moerun__stop_set_callback(is_asked);
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_int_equal(moerun__outputs_put(&outputs, path, "x", 1),
                   MOERUN_ERR_STOPPED);
  (void)snprintf(line, sizeof line,
                 "%s: stopped by a signal while its reader was waited for",
                 path);
  assert_string_equal(moerun_last_error(), line);
  moerun__outputs_clear(&outputs);

  assert_int_equal(pipe(ends), 0);
  assert_int_equal(moerun__file_wait(ends[0], 0, "p"), MOERUN_ERR_STOPPED);
  assert_int_equal(moerun__file_put(ends[1], "abc", 3, "p"), MOERUN_OK);
  assert_int_equal(moerun__file_wait(ends[0], 0, "p"), MOERUN_OK);
  moerun_status status = MOERUN_OK;
  for (int i = 0; i < 1 << 11 && status == MOERUN_OK; i++) {
    status = moerun__file_put(ends[1], block, sizeof block, "p");
  }
  assert_int_equal(status, MOERUN_ERR_STOPPED);
  assert_string_equal(moerun_last_error(),
                      "p: stopped by a signal while it was waited for");
  moerun__stop_set_callback(NULL);

  (void)signal(SIGPIPE, SIG_IGN);
  (void)close(ends[0]);
  assert_int_equal(moerun__file_put(ends[1], "abc", 3, "p"), MOERUN_ERR_OUTPUT);
  assert_string_equal(moerun_last_error(),
                      "p: cannot be written: broken pipe: its reader is gone");
  (void)close(ends[1]);
  assert_int_equal(moerun__file_wait(-1, 0, "p"), MOERUN_OK);
  temp_dir_remove(&dir);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(waits_end_when_asked),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
