/* The folder of a synthetic checkpoint: whole or absent, and what is in its
 * way. */
#include "runtime/base/file.h"
#include "runtime/model/synth.h"
#include "runtime/model/synth_folder.h"
#include "support/cmocka.h"
#include "support/temp_dir.h"
#include "support/warnings.h"

static const moerun__synth_options small = {
    .arch = "qwen3_moe",
    .seed = 7,
    .dtype = MOERUN_DTYPE_F32,
    .num_layers = 3,
    .num_dense = 1,
    .dense_width = 20,
    .hidden_width = 24,
    .heads = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 10},
    .num_experts = 5,
    .experts_per_token = 2,
    .expert_width = 12,
    .vocab_size = 300,
};

/* Only what synth could have made is replaced, and then completely. */
static void folders_are_replaced_or_kept(void **state) {
  (void)state;
  temp_dir dir;
  char path[TEMP_PATH];
  char name[2 * TEMP_PATH];
  assert_true(temp_dir_create(&dir));
  moerun__synth_options options = small;
  options.path = temp_path(path, &dir, "model");
  options.files.shard_bytes = 20000;
  assert_int_equal(moerun__synth_write(&options), MOERUN_OK);
  const int many = temp_dir_count(path);
  options.files.shard_bytes = 0;
  options.files.overwrite = 1;
  assert_int_equal(moerun__synth_write(&options), MOERUN_OK);
  assert_true(temp_dir_count(path) < many);
  assert_int_equal(temp_dir_count(dir.path), 1);
  (void)snprintf(name, sizeof name, "%s/notes", path);
  assert_int_equal(moerun__file_write(name, "mine", 4), MOERUN_OK);
  const int kept = temp_dir_count(path);
  assert_int_equal(moerun__synth_write(&options), MOERUN_ERR_INVALID);
  assert_non_null(strstr(moerun_last_error(), "found notes in it"));
  assert_int_equal(temp_dir_count(path), kept);
  assert_int_equal(temp_dir_count(dir.path), 1);
  options.path = name;
  assert_int_equal(moerun__synth_write(&options), MOERUN_ERR_INVALID);
  assert_non_null(strstr(moerun_last_error(), "expected a folder"));
  temp_dir_remove(&dir);
}

static void begin(moerun__synth_folder *folder, const char *path,
                  int overwrite) {
  int file = -1;
  assert_int_equal(moerun__synth_folder_begin(folder, path, overwrite, 0),
                   MOERUN_OK);
  assert_int_equal(moerun__synth_folder_create(&file, folder, "config.json"),
                   MOERUN_OK);
  assert_int_equal(close(file), 0);
}

/* Two commands write one folder at the same time. */
static void the_second_of_two_says_that_it_exists(void **state) {
  (void)state;
  temp_dir dir;
  char path[TEMP_PATH];
  char line[2 * TEMP_PATH];
  moerun__synth_folder first = {0};
  moerun__synth_folder second = {0};
  assert_true(temp_dir_create(&dir));
  (void)temp_path(path, &dir, "model");
  begin(&first, path, 0);
  begin(&second, path, 0);
  assert_int_equal(moerun__synth_folder_end(&first), MOERUN_OK);
  assert_int_equal(moerun__synth_folder_end(&second), MOERUN_ERR_INVALID);
  (void)snprintf(line, sizeof line,
                 "%s: exists already: another process has just created it",
                 path);
  assert_string_equal(moerun_last_error(), line);
  moerun__synth_folder_clear(&first);
  moerun__synth_folder_clear(&second);
  assert_int_equal(temp_dir_count(dir.path), 1);
  assert_int_equal(temp_dir_count(path), 1);
  temp_dir_remove(&dir);
}

/* A file of somebody else's that comes after the folder was looked at. */
static void what_came_meanwhile_is_kept_and_named(void **state) {
  (void)state;
  temp_dir dir;
  char path[TEMP_PATH];
  char name[2 * TEMP_PATH];
  moerun__synth_folder first = {0};
  moerun__synth_folder second = {0};
  assert_true(temp_dir_create(&dir));
  (void)temp_path(path, &dir, "model");
  begin(&first, path, 0);
  assert_int_equal(moerun__synth_folder_end(&first), MOERUN_OK);
  begin(&second, path, 1);
  (void)snprintf(name, sizeof name, "%s/notes", path);
  assert_int_equal(moerun__file_write(name, "mine", 4), MOERUN_OK);
  warnings_begin();
  assert_int_equal(moerun__synth_folder_end(&second), MOERUN_OK);
  warnings_end();
  char *where = strstr(warnings_text, "/model: what was there before is in ");
  assert_non_null(where);
  where = strchr(strstr(where, " is in "), '/');
  assert_non_null(where);
  where[strcspn(where, "\n")] = '\0';
  assert_int_equal(temp_dir_count(where), 1);
  (void)snprintf(name, sizeof name, "%s/notes", where);
  assert_int_equal(access(name, F_OK), 0);
  assert_int_equal(temp_dir_count(path), 1);
  moerun__synth_folder_clear(&first);
  moerun__synth_folder_clear(&second);
  temp_dir_remove(&dir);
}

typedef struct heard {
  int64_t done;
  int64_t all;
  int falls;
} heard;

static void hear(void *context, int64_t done, int64_t all) {
  heard *h = context;
  h->falls |= done <= h->done || done > all;
  h->done = done;
  h->all = all;
}

/* Up to the last byte of the weights, in each layout. */
static void what_is_written_is_told(void **state) {
  (void)state;
  for (int32_t fused = 0; fused < 2; fused++) {
    temp_dir dir;
    char path[TEMP_PATH];
    heard told = {0};
    const moerun__byte_watch watch = {&told, hear};
    assert_true(temp_dir_create(&dir));
    moerun__synth_options options = small;
    options.path = temp_path(path, &dir, "model");
    options.files.watch = &watch;
    options.files.shard_bytes = 20000;
    if (fused) options.arch = "mixtral";
    if (fused) options.num_dense = 0;
    options.fused = fused;
    assert_int_equal(moerun__synth_write(&options), MOERUN_OK);
    assert_true(told.all > 0);
    assert_int_equal(told.done, told.all);
    assert_false(told.falls);
    temp_dir_remove(&dir);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(folders_are_replaced_or_kept),
      cmocka_unit_test(the_second_of_two_says_that_it_exists),
      cmocka_unit_test(what_came_meanwhile_is_kept_and_named),
      cmocka_unit_test(what_is_written_is_told),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
