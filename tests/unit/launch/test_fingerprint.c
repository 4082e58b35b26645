/* What makes a model another one, and what does not. */
#include "launch/run/fingerprint.h"
#include "runtime/base/memory.h"
#include "support/scratch.h"
#include "support/temp_dir.h"

#include <sys/stat.h>

enum { LARGE = (1 << 17) + 1 }; /* more than is read at once */

static temp_dir folder;
static temp_dir other;
static char words[LARGE];

static void put(const temp_dir *dir, const char *name, const char *content,
                size_t bytes) {
  char path[TEMP_PATH];
  assert_int_equal(
      moerun__file_write(temp_path(path, dir, name), content, bytes),
      MOERUN_OK);
}

static void fill(const temp_dir *dir) {
  put(dir, "config.json", "{}", 2);
  put(dir, "tokenizer.json", words, LARGE);
}

static int set_up(void **state) {
  (void)state;
  for (int i = 0; i < LARGE; i++) {
    words[i] = (char)(i * 7 >> 3);
  }
  if (!temp_dir_create(&folder) || !temp_dir_create(&other)) return -1;
  fill(&folder);
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  temp_remove(folder.path, 0);
  temp_remove(other.path, 0);
  return 0;
}

static uint64_t fingerprint_of(const temp_dir *dir) {
  uint64_t digest = 0;
  assert_int_equal(moerun__fingerprint(&digest, dir->path), MOERUN_OK);
  return digest;
}

static void a_copy_is_the_same(void **state) {
  (void)state;
  fill(&other);
  put(&other, "train.log", "not a part of the model", 23);
  put(&other, "model.safetensors", "told when it is loaded", 22);
  assert_true(fingerprint_of(&folder) == fingerprint_of(&other));
}

static void any_change_is_another(void **state) {
  (void)state;
  const uint64_t before = fingerprint_of(&folder);
  fill(&other);
  put(&other, "config.json", "{ }", 3);
  assert_true(before != fingerprint_of(&other));
  fill(&other);
  put(&other, "tokenizer.json", words, LARGE - 1);
  assert_true(before != fingerprint_of(&other));
  for (int i = 0; i < 4; i++) { /* the start, the end and two places between */
    const int at = i * ((LARGE - 1) / 3);
    words[at]++;
    fill(&other);
    words[at]--;
    assert_true(before != fingerprint_of(&other));
  }
  fill(&other);
  put(&other, "generation_config.json", "{}", 2);
  assert_true(before != fingerprint_of(&other));
}

static void failures_are_named(void **state) {
  (void)state;
  uint64_t digest = 0;
  const size_t live = moerun__alloc_live();
  char path[TEMP_PATH];
  assert_int_equal(unlink(temp_path(path, &other, "config.json")), 0);
  assert_int_equal(mkdir(path, 0700), 0);
  assert_int_equal(moerun__fingerprint(&digest, other.path), MOERUN_ERR_IO);
  expect_words("config.json: ");
  assert_int_equal(rmdir(path), 0);
  for (long nth = 0; nth < 2; nth++) {
    moerun__alloc_fail_nth(nth);
    assert_int_equal(moerun__fingerprint(&digest, folder.path),
                     MOERUN_ERR_NOMEM);
    moerun__alloc_fail_nth(-1);
    assert_int_equal(moerun__alloc_live(), live);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_copy_is_the_same),
      cmocka_unit_test(any_change_is_another),
      cmocka_unit_test(failures_are_named),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
