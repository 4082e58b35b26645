/* For tests of what needs GLPK. */
#ifndef MOERUN_TESTS_PLACE_PROGRAM_H
#define MOERUN_TESTS_PLACE_PROGRAM_H

#include "placement/methods/program.h"
#include "support/place_world.h"

static inline int needs_glpk(void **state) {
  (void)state;
  if (moerun__program_available()) return 0;
  print_message("skipped: this build is without GLPK\n");
  skip();
  return 0;
}

static inline moerun__program *program_of(int32_t columns, double high,
                                          int integer) {
  moerun__program *p = NULL;
  int32_t first = -1;
  assert_int_equal(moerun__program_create(&p), MOERUN_OK);
  assert_int_equal(
      moerun__program_add_columns(&first, p, columns, 0, high, integer),
      MOERUN_OK);
  assert_int_equal(first, 0);
  return p;
}

static inline moerun__program_result
solve_it(moerun__program *p, const moerun__program_options *options) {
  moerun__program_result result = {0};
  if (moerun__program_solve(&result, p, options) != MOERUN_OK) {
    fail_msg("%s", moerun_last_error());
  }
  return result;
}

#endif
