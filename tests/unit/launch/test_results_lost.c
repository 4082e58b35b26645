/* A file of results that somebody moves, removes, cuts or writes to while a run
 * goes on: an error that says where the results are, and nobody else's bytes
 * are lost. */
#include "launch/results/results.h"
#include "runtime/base/memory.h"
#include "support/scratch.h"
#include "support/temp_dir.h"

#include <fcntl.h>

enum { REQUESTS = 3, BYTES = 4096 };

static temp_dir dir;
static char path[TEMP_PATH];
static char moved[TEMP_PATH];
static moerun__prompts *prompts;
static char whole[BYTES]; /* as an undisturbed run writes it */

static const uint64_t weights = 0x0123456789abcdef;
static const moerun__model_config model = {.vocab_size = 50};
static const moerun__results_options fresh = {.path = path};
static const moerun__results_options resume = {
    .path = path, .model = &model, .resume = 1};
static const moerun__results_options overwrite = {.path = path, .overwrite = 1};

static moerun__results *begin(const moerun__results_options *options) {
  moerun__results *results = NULL;
  assert_int_equal(moerun__results_open(&results, prompts, NULL, options),
                   MOERUN_OK);
  assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
  return results;
}

static moerun_status append(moerun__results *results, int32_t index) {
  const int32_t token[2] = {index, 49};
  const moerun__completion c = {.index = index,
                                .finish = MOERUN_FINISH_LENGTH,
                                .num_tokens = 2,
                                .token = token};
  return moerun__results_append(results, &c);
}

static moerun_status end(moerun__results *results) {
  moerun__outputs outputs = {.only_new = 1};
  moerun_status status = moerun__results_end(results, &outputs);
  if (status == MOERUN_OK) status = moerun__outputs_commit(&outputs);
  moerun__outputs_clear(&outputs);
  moerun__results_destroy(results);
  return status;
}

static void read_text(char out[BYTES], const char *name) {
  char *text = NULL;
  size_t bytes = 0;
  assert_int_equal(moerun__file_read(&text, &bytes, name, BYTES - 1),
                   MOERUN_OK);
  memcpy(out, text, bytes + 1);
  moerun__free(text);
}

static void expect_text(const char *name, const char *wanted) {
  char text[BYTES];
  read_text(text, name);
  assert_string_equal(text, wanted);
}

/* Where the last error says that the results are. */
static void find_kept(char out[TEMP_PATH]) {
  static const char words[] = "what was written is in ";
  const char *at = strstr(moerun_last_error(), words);
  assert_non_null(at);
  (void)snprintf(out, TEMP_PATH, "%s", at + sizeof words - 1);
}

static int set_up(void **state) {
  (void)state;
  const moerun__prompt_options options = {.text_bos = -1,
                                          .tokens_bos = -1,
                                          .vocab_size = 50,
                                          .max_positions = 64,
                                          .kv_tokens = 64,
                                          .max_new_tokens = 2,
                                          .sampling.top_p = 1};
  if (!temp_dir_create(&dir)) return -1;
  (void)temp_path(path, &dir, "prompts");
  scratch_write(path, "{\"tokens\":[1]}\n{\"tokens\":[2]}\n{\"tokens\":[3]}\n");
  assert_int_equal(moerun__prompts_open(&prompts, path, &options), MOERUN_OK);
  assert_int_equal(unlink(path), 0);
  (void)temp_path(path, &dir, "out");
  (void)temp_path(moved, &dir, "moved");
  moerun__results *results = begin(&fresh);
  for (int32_t i = 0; i < REQUESTS; i++) {
    assert_int_equal(append(results, i), MOERUN_OK);
  }
  assert_int_equal(end(results), MOERUN_OK);
  read_text(whole, path);
  return unlink(path);
}

static int tear_down(void **state) {
  (void)state;
  moerun__prompts_destroy(prompts);
  temp_dir_remove(&dir);
  return 0;
}

/* In input order already or not, and unfinished: all go the same way. */
static void lost_names_leave_results_beside(void **state) {
  (void)state;
  static const int32_t order[3][REQUESTS] = {{0, 1, 2}, {2, 0, 1}, {0, 1, -1}};
  char kept[TEMP_PATH];
  for (int i = 0; i < 9; i++) {
    moerun__results *results = begin(&fresh);
    for (int k = 0; k < REQUESTS; k++) {
      if (order[i / 3][k] < 0) continue;
      assert_int_equal(append(results, order[i / 3][k]), MOERUN_OK);
    }
    assert_int_equal(i % 3 == 0 ? unlink(path) : rename(path, moved), 0);
    if (i % 3 == 2) scratch_write(path, "yours");
    assert_int_equal(end(results), MOERUN_ERR_OUTPUT);
    expect_words(i % 3 == 2 ? "/out: is another file since the program began"
                            : "/out: was removed while the program was ");
    find_kept(kept);
    if (i % 3 == 2) {
      expect_text(path, "yours");
      assert_int_equal(unlink(path), 0);
    } else {
      assert_int_equal(access(path, F_OK), -1);
    }
    /* From there the next run goes on. */
    assert_int_equal(rename(kept, path), 0);
    results = begin(&resume);
    assert_int_equal(moerun__results_count(results), i < 6 ? 3 : 2);
    if (i >= 6) assert_int_equal(append(results, 2), MOERUN_OK);
    assert_int_equal(end(results), MOERUN_OK);
    expect_text(path, whole);
    assert_int_equal(unlink(path), 0);
    (void)unlink(moved);
    assert_int_equal(temp_dir_count(dir.path), 0);
  }
}

/* Its end is where this process left it, or somebody else writes it. */
static void a_file_that_others_write_is_an_error(void **state) {
  (void)state;
  char text[BYTES];
  moerun__results *results = begin(&fresh);
  assert_int_equal(append(results, 0), MOERUN_OK);
  const int file = open(path, O_WRONLY | O_APPEND);
  assert_int_equal(write(file, "yours", 5), 5);
  (void)close(file);
  read_text(text, path);
  assert_int_equal(append(results, 1), MOERUN_ERR_OUTPUT);
  expect_words("another program has written to it; the results are in front of "
               "what it added");
  expect_text(path, text);
  assert_int_equal(end(results), MOERUN_ERR_OUTPUT);
  expect_text(path, text);
  results = begin(&overwrite);
  assert_int_equal(append(results, 0), MOERUN_OK);
  assert_int_equal(truncate(path, 10), 0);
  assert_int_equal(append(results, 1), MOERUN_ERR_OUTPUT);
  expect_words("found 10: another program has written to it; results that it "
               "cut off are lost");
  moerun__results_destroy(results);
  expect_text(path, "{\"index\":0");
  assert_int_equal(unlink(path), 0);
}

/* Between the look at it and the first write, while weights are loaded. */
static void a_file_that_changed_before_is_not_touched(void **state) {
  (void)state;
  const moerun__results_options *const options[] = {&resume, &overwrite};
  moerun__results *results = NULL;
  for (int i = 0; i < 2; i++) {
    scratch_write(path, whole);
    assert_int_equal(moerun__results_open(&results, prompts, NULL, options[i]),
                     MOERUN_OK);
    assert_int_equal(rename(path, moved), 0);
    scratch_write(path, "yours");
    assert_int_equal(moerun__results_begin(results, &weights),
                     MOERUN_ERR_OUTPUT);
    expect_words("/out: was moved or removed after the run began; nothing was");
    moerun__results_destroy(results);
    expect_text(path, "yours");
    expect_text(moved, whole);
    assert_int_equal(unlink(moved), 0);
  }
  scratch_write(path, "{\"index\":0,");
  assert_int_equal(moerun__results_open(&results, prompts, NULL, &resume),
                   MOERUN_OK);
  const int file = open(path, O_WRONLY | O_APPEND);
  assert_int_equal(write(file, "yours", 5), 5);
  (void)close(file);
  assert_int_equal(moerun__results_begin(results, &weights), MOERUN_ERR_OUTPUT);
  expect_words("another program has written to it");
  moerun__results_destroy(results);
  expect_text(path, "{\"index\":0,yours");
  assert_int_equal(unlink(path), 0);
}

/* A run that fails takes away the empty file that it made, and no other. */
static void a_failure_removes_no_other_file(void **state) {
  (void)state;
  for (int is_taken = 0; is_taken < 2; is_taken++) {
    moerun__results *results = begin(&fresh);
    if (is_taken) {
      assert_int_equal(rename(path, moved), 0);
      scratch_write(path, "yours");
    }
    moerun__results_destroy(results);
    assert_int_equal(access(path, F_OK), is_taken ? 0 : -1);
  }
  expect_text(path, "yours");
  assert_int_equal(unlink(path), 0);
  assert_int_equal(unlink(moved), 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lost_names_leave_results_beside),
      cmocka_unit_test(a_file_that_others_write_is_an_error),
      cmocka_unit_test(a_file_that_changed_before_is_not_touched),
      cmocka_unit_test(a_failure_removes_no_other_file),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
