/* A build without GLPK, from placement/methods/program.c compiled that way and
 * linked in place of the library's: the methods that need it say so, the others
 * work. */
#include "placement/methods/program.h"
#include "support/place_world.h"

#include <stdio.h>

static const synthetic small = {.tokens = 100,
                                .layers = 2,
                                .experts = 4,
                                .terms = 2,
                                .classes = 2,
                                .affinity = 1.8,
                                .seed = 1,
                                .sample = 1};

static void methods_say_what_they_need(void **state) {
  (void)state;
  place_world w;
  const moerun__method *method = NULL;
  int refused = 0;
  place_world_create(
      &w, &small, "2 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
  for (int i = 0; (method = moerun__method_at(i)) != NULL; i++) {
    moerun_placement *p = NULL;
    const moerun__method_options options = {.seed = 1};
    const moerun_status status =
        moerun__place(&p, NULL, NULL, w.problem, method, &options);
    refused += status != MOERUN_OK;
    assert_int_equal(status,
                     method->needs_glpk ? MOERUN_ERR_UNSUPPORTED : MOERUN_OK);
    if (method->needs_glpk) {
      char want[128];
      (void)snprintf(want, sizeof want,
                     "placement: method %s needs GLPK, which this build is "
                     "without",
                     method->name);
      assert_string_equal(moerun_last_error(), want);
    }
    moerun_placement_destroy(p);
  }
  assert_true(refused > 0);
  place_world_destroy(&w);
}

static void programs_are_refused(void **state) {
  (void)state;
  moerun__program *p = NULL;
  moerun__program_result result = {0};
  assert_int_equal(moerun__program_available(), 0);
  assert_string_equal(moerun__program_solver(), "none");
  assert_int_equal(moerun__program_create(&p), MOERUN_OK);
  assert_int_equal(moerun__program_solve(&result, p, NULL),
                   MOERUN_ERR_UNSUPPORTED);
  assert_int_equal(result.outcome, MOERUN_OUTCOME_NONE);
  assert_non_null(strstr(moerun_last_error(), "without"));
  moerun__program_destroy(p);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(methods_say_what_they_need),
      cmocka_unit_test(programs_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
