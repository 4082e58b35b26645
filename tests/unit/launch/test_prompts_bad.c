/* Requests that are wrong and reported in their place. */
#include "launch/lines.h"
#include "runtime/base/memory.h"
#include "runtime/base/npy.h"
#include "support/npy_file.h"
#include "support/prompts_rig.h"

#include <stdio.h>
#include <unistd.h>

static void expect_error(const moerun__prompts *prompts, int64_t index,
                         const char *id, const char *words) {
  const char *found = NULL;
  const char *reason = moerun__prompts_error(prompts, index, &found);
  assert_non_null(reason);
  if (strstr(reason, words) == NULL) print_error("found: %s\n", reason);
  assert_non_null(strstr(reason, words));
  assert_string_equal(found, id);
}

/* Every kind of wrong line keeps its place; the others are read as ever. */
static void bad_lines_are_reported(void **state) {
  (void)state;
  moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  moerun__prompt prompt = {0};
  const char *id = NULL;
  const size_t live = moerun__alloc_live();
  options.on_error = MOERUN_ON_ERROR_LINE;
  scratch_write(path,
                "{\"prompt\":\"a\"}\n\nnonsense\n"
                "{\"id\":\"long\",\"prompt\":\"a\",\"max_new_tokens\":64}\n"
                "{\"id\":7,\"prompt\":\"b\"}\n"
                "{\"id\":9,\"prompt\":\"c\",\"sed\":1}\n"
                "{\"id\":7,\"prompt\":\"d\"}\n"
                "{\"id\":7,\"prompt\":\"e\"}\n"
                "{\"tokens\":[272]}\n{\"prompt\":\"f\"}");
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  assert_int_equal(moerun__prompts_count(prompts), 9);
  assert_int_equal(moerun__prompts_num_bad(prompts), 6);
  expect_error(
      prompts, 1, "1",
      "line 3: expected a line such as {\"prompt\": \"a text\"}, found "
      "\"nonsense\"");
  expect_error(prompts, 2, "\"long\"", "line 4: expected at most 64 tokens");
  expect_error(prompts, 4, "9", "line 6: unknown key \"sed\"");
  expect_error(prompts, 5, "7", "line 7: id 7 stands in line 5 already");
  expect_error(prompts, 6, "7", "line 8: id 7 stands in line 7 already");
  expect_error(prompts, 7, "7", "line 9: token 0: expected an id of 0 to 271");
  static const int64_t right[] = {0, 3, 8};
  for (int i = 0; i < 3; i++) {
    assert_null(moerun__prompts_error(prompts, right[i], &id));
    assert_int_equal(moerun__prompts_read(prompts, &prompt, right[i]),
                     MOERUN_OK);
    assert_int_equal(prompt.request.prompt[1], "abf"[i]);
  }
  moerun__prompt_clear(&prompt);
  moerun__prompts_destroy(prompts);
  assert_int_equal(moerun__alloc_live(), live);
  /* What is no fault of a line ends the reading all the same. */
  scratch_write(path, "\n");
  assert_int_equal(moerun__prompts_open(&prompts, path, &options),
                   MOERUN_ERR_FORMAT);
  expect_words("expected at least one request, found none");
}

/* A line that is too long is a fault of its own; it takes no room on a disk. */
static void endless_line_is_reported(void **state) {
  (void)state;
  moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  const char *id = NULL;
  scratch_write(path, "x");
  assert_int_equal(truncate(path, (off_t)MOERUN_LINE_LIMIT + 1), 0);
  FILE *file = fopen(path, "ae");
  assert_non_null(file);
  assert_true(fputs("\n{\"prompt\":\"b\"}\n", file) >= 0);
  assert_int_equal(fclose(file), 0);
  assert_int_equal(moerun__prompts_open(&prompts, path, &options),
                   MOERUN_ERR_FORMAT);
  expect_words(":1: expected a line of at most 256 MiB, "
               "found 268435457 bytes");
  options.on_error = MOERUN_ON_ERROR_LINE;
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  assert_int_equal(moerun__prompts_count(prompts), 2);
  expect_error(prompts, 0, "0", "line 1: expected a line of at most 256 MiB");
  assert_null(moerun__prompts_error(prompts, 1, &id));
  moerun__prompts_destroy(prompts);
}

static void bad_rows_are_reported(void **state) {
  (void)state;
  static const int32_t id[6] = {1, -1, 2, 272, -1, -1};
  const moerun__npy_shape rows = {MOERUN_NPY_I32, 2, {3, 2}};
  moerun__prompt_options options = defaults();
  moerun__prompts *prompts = NULL;
  options.on_error = MOERUN_ON_ERROR_LINE;
  npy_file_write(path, &rows, id);
  assert_int_equal(moerun__prompts_open_tokens(&prompts, path, &options),
                   MOERUN_OK);
  assert_int_equal(moerun__prompts_count(prompts), 3);
  assert_int_equal(moerun__prompts_num_bad(prompts), 2);
  expect_error(prompts, 1, "1", "row 1: token 1: expected an id of 0 to 271");
  expect_error(prompts, 2, "2", "row 2: expected at least one token");
  moerun__prompts_destroy(prompts);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bad_lines_are_reported),
      cmocka_unit_test(endless_line_is_reported),
      cmocka_unit_test(bad_rows_are_reported),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
