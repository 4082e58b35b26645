/* Arrays whose layers may come first: no sizes say so, but few tokens look
 * so. */
#include "placement/trace/trace.h"
#include "runtime/base/file.h"
#include "support/cmocka.h"
#include "support/npy_file.h"
#include "support/temp_dir.h"
#include "support/warnings.h"

static temp_dir folder;
static char npy_path[TEMP_PATH];
static char tsv_path[TEMP_PATH];

static int make_folder(void **state) {
  (void)state;
  if (!temp_dir_create(&folder)) return -1;
  (void)temp_path(npy_path, &folder, "t.npy");
  (void)temp_path(tsv_path, &folder, "t.seqs.tsv");
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  temp_dir_remove(&folder);
  return 0;
}

/* Whether reading an array [first][second][2] and looking at it warns. */
static int warns(int64_t first, int64_t second) {
  static const int8_t ids[] = {0, 1, 1, 0, 2, 1, 0, 1, 1, 0, 2, 1};
  const moerun__npy_shape shape = {MOERUN_NPY_I8, 3, {first, second, 2}};
  moerun__trace *trace = NULL;
  char expected[TEMP_PATH + 200] = "";
  npy_file_write(npy_path, &shape, ids);
  warnings_begin();
  assert_int_equal(moerun__trace_load(&trace, npy_path, 0), MOERUN_OK);
  assert_string_equal(warnings_text, "");
  moerun__trace_warn_if_turned(trace, npy_path);
  warnings_end();
  const int may_be_turned = trace->may_be_turned;
  if (may_be_turned) {
    (void)snprintf(expected, sizeof expected,
                   "%s: expected an array [tokens][layers][terms], found fewer "
                   "tokens than layers: it looks like one with layers first, "
                   "whose first two dimensions have to be swapped\n",
                   npy_path);
  }
  assert_string_equal(warnings_text, expected);
  moerun__trace_destroy(trace);
  return may_be_turned;
}

static void fewer_tokens_than_layers_look_turned(void **state) {
  (void)state;
  static const char sequence[] = "a\t0\t2\n";
  assert_true(warns(2, 3));
  assert_false(warns(3, 2));
  assert_false(warns(2, 2));
  /* What stands beside it has the same number of tokens. */
  assert_int_equal(moerun__file_write(tsv_path, sequence, sizeof sequence - 1),
                   MOERUN_OK);
  assert_false(warns(2, 3));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(fewer_tokens_than_layers_look_turned),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
