/* Load tables: JSON and .npy, whole numbers and others, refusals. */
#include "placement/trace/load_table.h"
#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/npy.h"
#include "support/cmocka.h"
#include "support/npy_file.h"
#include "support/temp_dir.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static temp_dir folder;
static char path[TEMP_PATH];

static int make_folder(void **state) {
  (void)state;
  if (!temp_dir_create(&folder)) return -1;
  (void)temp_path(path, &folder, "t.npy");
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  temp_dir_remove(&folder);
  return 0;
}

static void assert_table(moerun__load_table *table, const int64_t *load) {
  assert_int_equal(table->num_layers, 2);
  assert_int_equal(table->num_experts, 3);
  assert_memory_equal(table->load, load, 6 * sizeof *load);
  moerun__load_table_destroy(table);
}

static void lists_are_read(void **state) {
  (void)state;
  static const int64_t whole[] = {90, 132, 40, 0, 104, 39};
  static const int64_t scaled[] = {(int64_t)1 << 38, (int64_t)1 << 39,
                                   (int64_t)1 << 37, 0,
                                   (int64_t)1 << 39, 1};
  static const char *const texts[] = {
      "[[90,132,40],[0,104.0,39]]",
      "{\"logical_count\":[[90,132,40],[0,104,39]]}",
      "{\"weight\":[[90,132,40],[0,104,39]],\"other\":1}"};
  moerun__load_table *table = NULL;
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    assert_int_equal(
        moerun__load_table_parse(&table, texts[i], strlen(texts[i]), "t"),
        MOERUN_OK);
    assert_table(table, whole);
  }
  const char *text = "[[0.25,0.5,0.125],[0,0.0078125,1.5e-14]]";
  assert_int_equal(moerun__load_table_parse(&table, text, strlen(text), "t"),
                   MOERUN_OK);
  assert_table(table, scaled);
  /* Whole numbers beyond 2^40 are scaled, too. */
  static const int64_t halved[] = {
      (int64_t)1 << 39, (int64_t)1 << 38, 0, (int64_t)1 << 39, 0, 1};
  text = "[[2199023255552,1099511627776,1],[1099511627776,0,2]]";
  assert_int_equal(moerun__load_table_parse(&table, text, strlen(text), "t"),
                   MOERUN_OK);
  assert_table(table, halved);
}

/* Steps of three layers as SGLang records them, the first one dense: in either
 * form. */
static void steps_are_summed_and_dense_layers_left_out(void **state) {
  (void)state;
  static const int64_t sums[] = {5, 5, 9, 2, 4, 6};
  static const int64_t steps[] = {0, 0, 0, 1, 2, 3, 1, 2, 3,
                                  0, 0, 0, 4, 3, 6, 1, 2, 3};
  static const char text[] = "{\"rank\":0,\"logical_count\":"
                             "[[[0,0,0],[1,2,3],[1,2,3]],"
                             "[[0,0,0],[4,3,6],[1,2,3]]]}";
  const moerun__npy_shape shape = {MOERUN_NPY_I64, 3, {2, 3, 3}};
  npy_file_write(path, &shape, steps);
  for (int i = 0; i < 2; i++) {
    moerun__load_table *table = NULL;
    assert_int_equal(
        i == 0 ? moerun__load_table_parse(&table, text, strlen(text), "t")
               : moerun__load_table_load(&table, path),
        MOERUN_OK);
    assert_int_equal(table->num_steps, 2);
    assert_int_equal(table->num_rows, 3);
    assert_int_equal(table->row_of[0], 1);
    assert_int_equal(table->row_of[1], 2);
    assert_table(table, sums);
  }
}

static void write_array(moerun__npy_type type, const void *rows) {
  const moerun__npy_shape shape = {type, 2, {2, 3}};
  npy_file_write(path, &shape, rows);
}

static void arrays_are_read(void **state) {
  (void)state;
  static const int64_t load[] = {1, 2, 3, 4, 5, 6};
  static const float narrow[] = {1, 2, 3, 4, 5, 6};
  static const double wide[] = {1, 2, 3, 4, 5, 6};
  static const uint16_t small[] = {1, 2, 3, 4, 5, 6};
  const struct {
    moerun__npy_type type;
    const void *rows;
  } arrays[] = {{MOERUN_NPY_I64, load},
                {MOERUN_NPY_F32, narrow},
                {MOERUN_NPY_F64, wide},
                {MOERUN_NPY_U16, small}};
  for (size_t i = 0; i < sizeof arrays / sizeof *arrays; i++) {
    moerun__load_table *table = NULL;
    write_array(arrays[i].type, arrays[i].rows);
    assert_int_equal(moerun__load_table_load(&table, path), MOERUN_OK);
    assert_table(table, load);
  }
}

static void bad_arrays_get_one_clear_line(void **state) {
  (void)state;
  static const float bad[] = {1, 2, NAN, 4, 5, 6};
  moerun__load_table *table = NULL;
  char line[TEMP_PATH + 100];
  write_array(MOERUN_NPY_F32, bad);
  (void)snprintf(line, sizeof line,
                 "%s: layer 0, expert 2: expected a load from 0 to 1e300, "
                 "found nan",
                 path);
  assert_int_equal(moerun__load_table_load(&table, path), MOERUN_ERR_FORMAT);
  assert_string_equal(moerun_last_error(), line);
  assert_null(table);
}

/* Steps whose loads add up beyond the limit are as good as one at it. */
static void steps_do_not_add_up_to_infinity(void **state) {
  (void)state;
  char text[4096] = "[";
  moerun__load_table *table = NULL;
  size_t used = 1;
  for (int step = 0; step < 200; step++) {
    const int wrote = snprintf(text + used, sizeof text - used,
                               "%s[[1e300,1,0]]", step > 0 ? "," : "");
    used += wrote > 0 ? (size_t)wrote : 0;
  }
  assert_true(used + 1 < sizeof text);
  text[used++] = ']';
  assert_int_equal(moerun__load_table_parse(&table, text, used, "t.json"),
                   MOERUN_OK);
  assert_int_equal(table->num_steps, 200);
  const int64_t largest = table->load[0];
  moerun__load_table_destroy(table);
  assert_int_equal(
      moerun__load_table_parse(&table, "[[1e300,200,0]]", 15, "t.json"),
      MOERUN_OK);
  assert_int_equal(table->load[0], largest);
  assert_in_range(largest, (int64_t)1 << 39, (int64_t)1 << 40);
  assert_int_equal(table->load[1], 0);
  assert_int_equal(table->load[2], 0);
  moerun__load_table_destroy(table);
}

static void too_many_loads_are_refused(void **state) {
  (void)state;
  const moerun__npy_shape shape = {MOERUN_NPY_U8, 2, {65, 65536}};
  moerun__load_table *table = NULL;
  char line[TEMP_PATH + 200];
  void *zeros = NULL;
  assert_int_equal(moerun__alloc(&zeros, (size_t)moerun__npy_count(&shape), 1),
                   MOERUN_OK);
  npy_file_write(path, &shape, zeros);
  moerun__free(zeros);
  (void)snprintf(line, sizeof line,
                 "%s: expected 1 to 65536 experts and at most 4194304 loads in "
                 "all, found 65536 in each of 65 layers",
                 path);
  assert_int_equal(moerun__load_table_load(&table, path), MOERUN_ERR_FORMAT);
  assert_string_equal(moerun_last_error(), line);
  assert_null(table);
}

typedef struct bad_text {
  const char *text;
  const char *message;
} bad_text;

static const bad_text bad_texts[] = {
    {"[", "line 1, column 1: not valid JSON: ']' expected near end of file"},
    {"{\"loads\":[[1]]}",
     "expected a list of layers, or of steps with lists of layers, by itself "
     "or as \"logical_count\" or \"weight\", found nothing"},
    {"{\"weight\":1}",
     "expected a list of layers, or of steps with lists of layers, by itself "
     "or as \"logical_count\" or \"weight\", found an integer"},
    {"{\"logcnt\":[[1,2]],\"phy2log\":[[0,1,1]]}",
     "key \"logcnt\": expected loads, found how many replicas each expert has; "
     "give how many tokens each expert got, \"logical_count\" or \"weight\""},
    {"{\"weight\":[[1]],\"logical_count\":[[1]]}",
     "expected one of the keys \"logical_count\" and \"weight\", found both"},
    {"[]", "expected 1 to 4096 layers, found 0"},
    {"[1]",
     "expected 1 to 65536 experts and at most 4194304 loads in all, found 0 "
     "in each of 1 layers"},
    {"[[1,2],[1]]", "layer 1: expected a list of 2 loads, found an array of 1"},
    {"[[1,2],7]", "layer 1: expected a list of 2 loads, found an integer of 0"},
    {"[[1,\"2\"]]", "layer 0, expert 1: expected a number, found a string"},
    {"[[1,-2]]",
     "layer 0, expert 1: expected a load from 0 to 1e300, found -2"},
    {"[[1,1e301]]",
     "layer 0, expert 1: expected a load from 0 to 1e300, found 1e+301"},
    {"[[0,0],[0,0]]", "expected loads, found all 0 in all 2 layers"},
    {"[[[1,2]],[[1,2],[3,4]]]",
     "step 1: expected a list of 1 layers, found an array of 2"},
    {"[[[1,2]],[[1,-3]]]",
     "step 1, layer 0, expert 1: expected a load from 0 to 1e300, found -3"},
};

static void bad_texts_get_one_clear_line(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  for (size_t i = 0; i < sizeof bad_texts / sizeof *bad_texts; i++) {
    const bad_text *bad = &bad_texts[i];
    moerun__load_table *table = NULL;
    char line[256];
    (void)snprintf(line, sizeof line, "t.json: %s", bad->message);
    assert_int_equal(moerun__load_table_parse(&table, bad->text,
                                              strlen(bad->text), "t.json"),
                     MOERUN_ERR_FORMAT);
    assert_string_equal(moerun_last_error(), line);
    assert_null(table);
    assert_int_equal(moerun__alloc_live(), live);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lists_are_read),
      cmocka_unit_test(steps_are_summed_and_dense_layers_left_out),
      cmocka_unit_test(arrays_are_read),
      cmocka_unit_test(bad_arrays_get_one_clear_line),
      cmocka_unit_test(steps_do_not_add_up_to_infinity),
      cmocka_unit_test(too_many_loads_are_refused),
      cmocka_unit_test(bad_texts_get_one_clear_line),
  };
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
