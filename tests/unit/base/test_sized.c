/* Structs that begin with their size, between programs and libraries of other
 * versions: here versions of a struct that grows by a member. */
#include "runtime/base/sized.h"
#include "support/cmocka.h"

#include <string.h>

typedef struct first {
  size_t struct_size;
  int32_t a;
  int32_t b;
} first;

typedef struct second {
  size_t struct_size;
  int32_t a;
  int32_t b;
  double c;
} second;

static void older_callers_leave_new_members_zero(void **state) {
  (void)state;
  const first given = {sizeof given, 1, 2};
  second own = {.c = 7};
  assert_int_equal(moerun__sized_read(&own, sizeof own, &given, "second"),
                   MOERUN_OK);
  assert_int_equal(own.struct_size, sizeof own);
  assert_int_equal(own.a, 1);
  assert_int_equal(own.b, 2);
  assert_true(own.c == 0);
}

static void newer_callers_may_not_set_what_is_not_there(void **state) {
  (void)state;
  second given = {sizeof given, 1, 2, 0};
  first own = {0};
  assert_int_equal(moerun__sized_read(&own, sizeof own, &given, "first"),
                   MOERUN_OK);
  assert_int_equal(own.b, 2);
  given.c = 1;
  assert_int_equal(moerun__sized_read(&own, sizeof own, &given, "first"),
                   MOERUN_ERR_UNSUPPORTED);
  assert_non_null(strstr(moerun_last_error(), "first: expected at most 16 "));
  assert_non_null(strstr(moerun_last_error(), "a later version"));
}

static void sizes_that_were_forgotten_are_refused(void **state) {
  (void)state;
  static const size_t sizes[] = {0, 1, 7, 4097, (size_t)-1};
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    second given = {sizes[i], 1, 2, 3};
    second own = {0};
    assert_int_equal(moerun__sized_read(&own, sizeof own, &given, "second"),
                     MOERUN_ERR_INVALID);
    assert_non_null(strstr(moerun_last_error(),
                           "second: struct_size: expected sizeof(second), "));
    assert_int_equal(moerun__sized_write(&given, &own, sizeof own, "second"),
                     MOERUN_ERR_INVALID);
    assert_int_equal(given.a, 1);
  }
}

static void there_has_to_be_one(void **state) {
  (void)state;
  second own = {0};
  assert_int_equal(moerun__sized_read(&own, sizeof own, NULL, "second"),
                   MOERUN_ERR_INVALID);
  assert_string_equal(moerun_last_error(), "second is NULL");
  assert_int_equal(moerun__sized_write(NULL, &own, sizeof own, "second"),
                   MOERUN_ERR_INVALID);
  assert_string_equal(moerun_last_error(), "second is NULL");
}

static void as_much_is_filled_as_both_know(void **state) {
  (void)state;
  const second own = {sizeof own, 1, 2, 3};
  struct {
    first given;
    double behind;
  } older = {{sizeof older.given, 8, 9}, 5};
  assert_int_equal(moerun__sized_write(&older.given, &own, sizeof own, "first"),
                   MOERUN_OK);
  assert_int_equal(older.given.struct_size, sizeof older.given);
  assert_int_equal(older.given.b, 2);
  assert_true(older.behind == 5);
  const first less = {sizeof less, 1, 2};
  second newer = {sizeof newer, 8, 9, 10};
  assert_int_equal(moerun__sized_write(&newer, &less, sizeof less, "second"),
                   MOERUN_OK);
  assert_int_equal(newer.struct_size, sizeof newer);
  assert_int_equal(newer.a, 1);
  assert_true(newer.c == 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(older_callers_leave_new_members_zero),
      cmocka_unit_test(newer_callers_may_not_set_what_is_not_there),
      cmocka_unit_test(sizes_that_were_forgotten_are_refused),
      cmocka_unit_test(there_has_to_be_one),
      cmocka_unit_test(as_much_is_filled_as_both_know),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
