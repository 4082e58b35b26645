/* The table of element types: what it says of those that it has, what it takes
 * in, and rows that are not whole blocks. */
#include "support/dtype_names.h"
#include "support/made_types.h"

#include <math.h>
#include <stdio.h>

static void types_are_found_by_name(void **state) {
  (void)state;
  static const char *const names[] = {"F32", "BF16", "F16"};
  char all[MOERUN_DTYPE_NAMES];
  moerun__dtype found = MOERUN_DTYPE_F16;
  for (int d = 0; d < 3; d++) {
    assert_true(moerun__dtype_find(&found, names[d]));
    assert_int_equal(found, d);
    assert_string_equal(moerun__dtype_name(found), names[d]);
    assert_int_equal(moerun__dtype_bytes(found, 7), d == 0 ? 28 : 14);
    assert_int_equal(moerun__dtype_scales(found, 7), 0);
  }
  assert_false(moerun__dtype_find(&found, "F8_E4M3"));
  assert_false(moerun__dtype_find(&found, "bf16"));
  assert_false(moerun__dtype_find(&found, ""));
  moerun__dtype_names(all);
  assert_string_equal(all, DTYPE_NAMES);
  assert_null(moerun__dtype_at((moerun__dtype)3));
  assert_null(moerun__dtype_at((moerun__dtype)MOERUN_MAX_DTYPES));
}

static void unsound_elements_are_found(void **state) {
  (void)state;
  enum { COUNT = 37 };
  float values[COUNT];
  float blocks[COUNT];
  for (int d = 0; d < 3; d++) {
    const moerun__dtype_row *row = moerun__dtype_at((moerun__dtype)d);
    for (size_t i = 0; i < COUNT; i++) {
      values[i] = 1.0F / (float)(i + 1);
    }
    row->narrow(blocks, values, COUNT);
    assert_int_equal(row->first_unsound(blocks, COUNT), COUNT);
    values[30] = -HUGE_VALF;
    row->narrow(blocks, values, COUNT);
    assert_int_equal(row->first_unsound(blocks, COUNT), 30);
    assert_int_equal(row->first_unsound(blocks, 30), 30);
    values[11] = NAN;
    row->narrow(blocks, values, COUNT);
    assert_int_equal(row->first_unsound(blocks, COUNT), 11);
  }
}

static void rows_that_break_the_rules_are_refused(void **state) {
  (void)state;
  moerun__dtype out = MOERUN_DTYPE_F32;
  static const char *const names[] = {"", "F8_E4M3FN", "BF16"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    moerun__dtype_row row = made_m4;
    row.name = names[i];
    assert_int_equal(moerun__dtype_add(&out, &row), MOERUN_ERR_INVALID);
  }
  for (int i = 0; i < 6; i++) {
    moerun__dtype_row row = made_m4;
    if (i == 0) row.block = 48;
    if (i == 1) row.block = 0;
    if (i == 2) row.block_bytes = 0;
    if (i == 3) row.block_bytes = MOERUN_MAX_BLOCK_BYTES + 1;
    if (i == 4) row.widen = NULL;
    if (i == 5) row.scale_block = 24;
    assert_int_equal(moerun__dtype_add(&out, &row), MOERUN_ERR_INVALID);
  }
  assert_null(moerun__dtype_at((moerun__dtype)3));
}

/* Any run of elements of a row is the same as in the row as a whole. */
static void parts_of_blocks_are_widened(void **state) {
  (void)state;
  enum { BLOCKS = 3, ALL = BLOCKS * MADE_BLOCK };
  unsigned char row[BLOCKS * M4_BYTES];
  float all[ALL];
  const moerun__dtype m4 = made_type(&made_m4);
  for (size_t i = 0; i < sizeof row; i++) {
    row[i] = (unsigned char)(29 * i + 3);
  }
  for (size_t b = 0; b < BLOCKS; b++) {
    const float factor = 0.5F * (float)(b + 1);
    memcpy(row + b * M4_BYTES, &factor, sizeof factor);
  }
  made_m4.widen(all, row, BLOCKS);
  assert_true(all[2] != all[3] && all[2] != all[MADE_BLOCK + 2]);
  for (size_t first = 0; first < ALL; first++) {
    for (size_t count = 0; first + count <= ALL; count++) {
      float part[ALL + 1];
      part[count] = -1234.5F;
      moerun__widen(part, m4, row, first, count);
      assert_memory_equal(part, all + first, count * sizeof *part);
      assert_true(part[count] == -1234.5F);
    }
    assert_true(moerun__element(row, m4, first) == all[first]);
  }
  assert_int_equal(moerun__dtype_bytes(m4, 1), M4_BYTES);
  assert_int_equal(moerun__dtype_bytes(m4, MADE_BLOCK), M4_BYTES);
  assert_int_equal(moerun__dtype_bytes(m4, MADE_BLOCK + 1), 2 * M4_BYTES);
}

static void made_types_are_in_the_table(void **state) {
  (void)state;
  char all[MOERUN_DTYPE_NAMES];
  const moerun__dtype m8 = made_type(&made_m8);
  assert_int_equal(made_type(&made_m8), m8);
  assert_ptr_equal(moerun__dtype_at(m8), &made_m8);
  assert_int_equal(moerun__dtype_bytes(m8, 100), 100);
  assert_int_equal(moerun__dtype_scales(m8, 96), 3);
  assert_int_equal(moerun__dtype_scales(m8, 97), 4);
  moerun__dtype_names(all);
  assert_non_null(strstr(all, DTYPES_THEN));
  assert_non_null(strstr(all, " or M8"));
}

/* The table is full at some point, and says so. */
static void the_table_ends(void **state) {
  (void)state;
  static char names[MOERUN_MAX_DTYPES + 1][4];
  static moerun__dtype_row rows[MOERUN_MAX_DTYPES + 1];
  moerun_status status = MOERUN_OK;
  int added = 0;
  for (; added <= MOERUN_MAX_DTYPES && status == MOERUN_OK; added++) {
    moerun__dtype out = MOERUN_DTYPE_F32;
    rows[added] = made_m4;
    (void)snprintf(names[added], sizeof *names, "X%d", added);
    rows[added].name = names[added];
    status = moerun__dtype_add(&out, &rows[added]);
  }
  assert_int_equal(status, MOERUN_ERR_INVALID);
  assert_int_equal(added, MOERUN_MAX_DTYPES - 5 + 1);
  assert_non_null(moerun__dtype_at((moerun__dtype)(MOERUN_MAX_DTYPES - 1)));
  assert_null(moerun__dtype_at((moerun__dtype)MOERUN_MAX_DTYPES));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(types_are_found_by_name),
      cmocka_unit_test(unsound_elements_are_found),
      cmocka_unit_test(rows_that_break_the_rules_are_refused),
      cmocka_unit_test(parts_of_blocks_are_widened),
      cmocka_unit_test(made_types_are_in_the_table),
      cmocka_unit_test(the_table_ends),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
