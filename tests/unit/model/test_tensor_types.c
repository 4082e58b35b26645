/* Which element types of a checkpoint are read: those of the table. */
#include "runtime/model/shard.h"
#include "support/dtype_names.h"
#include "support/made_types.h"
#include "support/temp_dir.h"

#include <stdio.h>

static const char header[] =
    "{\"w\":{\"dtype\":\"M8\",\"shape\":[2,3],\"data_offsets\":[0,6]},"
    "\"long\":{\"dtype\":\"M8LONGER\",\"shape\":[2],\"data_offsets\":[6,8]}}";

static void write_file(const temp_dir *dir) {
  char path[TEMP_PATH];
  FILE *file = fopen(temp_path(path, dir, "model.safetensors"), "wb");
  const size_t length = strlen(header);
  assert_non_null(file);
  for (int i = 0; i < 8; i++) {
    (void)fputc((int)(length >> (8 * i) & 255U), file);
  }
  assert_int_equal(fwrite(header, 1, length, file), length);
  assert_int_equal(fwrite("12345678", 1, 8, file), 8);
  assert_int_equal(fclose(file), 0);
}

static void check_refused(const moerun__shards *shards, const char *tensor,
                          const char *line) {
  const int64_t shape[] = {2, 3};
  moerun__dtype dtype = MOERUN_DTYPE_F32;
  assert_int_equal(moerun__tensor_check(&dtype, shards,
                                        moerun__shards_find(shards, tensor),
                                        shape, 2),
                   MOERUN_ERR_UNSUPPORTED);
  assert_non_null(strstr(moerun_last_error(), line));
}

/* A type is refused by its name, and read when the table has it; a longer name
 * that begins alike is another type all the same. */
static void types_of_the_table_are_read(void **state) {
  (void)state;
  const int64_t shape[] = {2, 3};
  moerun__dtype dtype = MOERUN_DTYPE_F32;
  moerun__shards *shards = NULL;
  temp_dir dir;
  assert_true(temp_dir_create(&dir));
  write_file(&dir);
  assert_int_equal(moerun__shards_load(&shards, dir.path), MOERUN_OK);
  assert_int_equal(moerun__tensor_bits("M8"), 0);
  check_refused(shards, "w",
                ": tensor \"w\": expected " DTYPE_NAMES ", found M8");
  const moerun__dtype made = made_type(&made_m8);
  assert_int_equal(moerun__tensor_check(&dtype, shards,
                                        moerun__shards_find(shards, "w"), shape,
                                        2),
                   MOERUN_OK);
  assert_int_equal(dtype, made);
  assert_int_equal(moerun__tensor_bits("M8"), 8);
  check_refused(shards, "long",
                ": tensor \"long\": expected " DTYPES_THEN
                " or M8, found M8LONGER");
  moerun__shards_destroy(shards);
  temp_dir_remove(&dir);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(types_of_the_table_are_read),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
