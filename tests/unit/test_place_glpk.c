/* What needs GLPK: programs and whatever can go wrong in one, and the methods
 * built on them, held against enumeration, dynamic programming and each
 * other. */
#include "placement/assignment.h"
#include "placement/ilp.h"
#include "placement/program.h"
#include "placement/states.h"
#include "support/draw.h"
#include "support/place_world.h"

#include <stdio.h>

enum { SEED = 61 };

static int needs_glpk(void **state) {
  (void)state;
  if (moerun__program_available()) return 0;
  print_message("skipped: this build is without GLPK\n");
  skip();
  return 0;
}

/* ---- Programs ---------------------------------------------------------------- */

static moerun__program *program_of(int32_t columns, double high, int integer) {
  moerun__program *p = NULL;
  int32_t first = -1;
  assert_int_equal(moerun__program_create(&p), MOERUN_OK);
  assert_int_equal(
      moerun__program_add_columns(&first, p, columns, 0, high, integer),
      MOERUN_OK);
  assert_int_equal(first, 0);
  return p;
}

static void add_row(moerun__program *p, double low, double high,
                    const double *weight, int32_t count) {
  assert_int_equal(moerun__program_add_row(p, low, high), MOERUN_OK);
  for (int32_t c = 0; c < count; c++) {
    assert_int_equal(moerun__program_add_term(p, c, weight[c]), MOERUN_OK);
  }
}

static moerun__program_result solve_it(moerun__program *p,
                                       const moerun__program_options *options) {
  moerun__program_result result = {0};
  if (moerun__program_solve(&result, p, options) != MOERUN_OK) {
    fail_msg("%s", moerun_last_error());
  }
  return result;
}

/* A knapsack, with fractions and without. */
static void programs_are_solved(void **state) {
  (void)needs_glpk(state);
  static const double size[3] = {5, 4, 3};
  static const double worth[3] = {-10, -7, -5};
  for (int integer = 0; integer < 2; integer++) {
    moerun__program *p = program_of(3, 1, integer);
    add_row(p, -INFINITY, 7, size, 3);
    for (int32_t c = 0; c < 3; c++) {
      moerun__program_set_cost(p, c, worth[c]);
    }
    const moerun__program_result result = solve_it(p, NULL);
    assert_int_equal(result.outcome, MOERUN_OUTCOME_OPTIMAL);
    assert_close(result.cost, integer ? -12 : -13.5);
    assert_close(result.bound, result.cost);
    assert_close(moerun__program_value(p, 0), integer ? 0 : 1);
    assert_close(moerun__program_value(p, 1), integer ? 1 : 0.5);
    moerun__program_set_bounds(p, 2, 1, 1);
    moerun__program_set_bounds(p, 0, 1, 1);
    assert_int_equal(solve_it(p, NULL).outcome, MOERUN_OUTCOME_INFEASIBLE);
    moerun__program_destroy(p);
  }
}

enum { SPLIT_COLUMNS = 30, SPLIT_ROWS = 3 };

/* Market split (Cornuejols and Dawande 1998): which half of the columns has half
 * of the weight in every row? The cost is what is over or short. With fractions
 * it is 0, which says nothing about the integers. */
static moerun__program *market_split(double *start) {
  draw from = {SEED, 9};
  int32_t slack = 0;
  moerun__program *p = program_of(SPLIT_COLUMNS, 1, 1);
  assert_int_equal(
      moerun__program_add_columns(&slack, p, 2 * SPLIT_ROWS, 0, INFINITY, 0),
      MOERUN_OK);
  for (int32_t r = 0; r < SPLIT_ROWS; r++) {
    double weight[SPLIT_COLUMNS];
    double sum = 0;
    for (int32_t c = 0; c < SPLIT_COLUMNS; c++) {
      weight[c] = draw_int(&from, 0, 99);
      sum += weight[c];
    }
    const double half = floor(sum / 2);
    add_row(p, half, half, weight, SPLIT_COLUMNS);
    for (int32_t side = 0; side < 2; side++) {
      const int32_t column = slack + 2 * r + side;
      moerun__program_set_cost(p, column, 1);
      assert_int_equal(moerun__program_add_term(p, column, 1 - 2 * side),
                       MOERUN_OK);
      start[column] = side == 0 ? half : 0; /* none of the columns */
    }
  }
  return p;
}

static void limits_leave_what_was_found(void **state) {
  (void)needs_glpk(state);
  double start[SPLIT_COLUMNS + 2 * SPLIT_ROWS] = {0};
  moerun__program *p = market_split(start);
  double cost = 0;
  for (int32_t r = 0; r < SPLIT_ROWS; r++) {
    cost += start[SPLIT_COLUMNS + 2 * r];
  }
  moerun__program_options options = {.node_limit = 1, .start = start};
  moerun__program_result result = solve_it(p, &options);
  assert_int_equal(result.outcome, MOERUN_OUTCOME_FEASIBLE);
  assert_true(result.cost <= cost);
  assert_true(result.bound >= 0 && result.bound < result.cost);
  options = (moerun__program_options){.time_limit_s = 0.02};
  result = solve_it(p, &options);
  assert_int_not_equal(result.outcome, MOERUN_OUTCOME_OPTIMAL);
  assert_int_not_equal(result.outcome, MOERUN_OUTCOME_INFEASIBLE);
  moerun__program_destroy(p);
}

/* A column twice in a row: GLPK would end the process. */
static void errors_inside_glpk_become_a_status(void **state) {
  (void)needs_glpk(state);
  const size_t alive = moerun__alloc_live();
  for (int round = 0; round < 3; round++) {
    moerun__program *p = program_of(3, 1, round % 2);
    moerun__program_result result = {0};
    static const double ones[2] = {1, 1};
    add_row(p, 0, 1, ones, 2);
    assert_int_equal(moerun__program_add_term(p, 1, 2), MOERUN_OK);
    assert_int_equal(moerun__program_solve(&result, p, NULL),
                     MOERUN_ERR_INVALID);
    assert_non_null(strstr(moerun_last_error(), "duplicate"));
    assert_null(strchr(moerun_last_error(), '\n'));
    moerun__program_destroy(p);
    p = program_of(2, 1, 1); /* and the next one is fine */
    add_row(p, 1, 1, ones, 2);
    assert_int_equal(solve_it(p, NULL).outcome, MOERUN_OUTCOME_OPTIMAL);
    moerun__program_destroy(p);
  }
  assert_int_equal(moerun__alloc_live(), alive);
}

static void failed_allocations_are_reported(void **state) {
  (void)needs_glpk(state);
  const size_t alive = moerun__alloc_live();
  int failures = 0;
  for (long nth = 0; nth < 40; nth++) {
    moerun__program *p = NULL;
    moerun__program_result result = {0};
    int32_t first = 0;
    double start[2] = {0};
    const moerun__program_options options = {.start = start};
    moerun__alloc_fail_nth(nth);
    moerun_status status = moerun__program_create(&p);
    if (status == MOERUN_OK) {
      status = moerun__program_add_columns(&first, p, 2, 0, 1, 1);
    }
    if (status == MOERUN_OK) status = moerun__program_add_row(p, 0, 1);
    if (status == MOERUN_OK) status = moerun__program_add_term(p, 0, 1);
    if (status == MOERUN_OK) {
      status = moerun__program_solve(&result, p, &options);
    }
    moerun__alloc_fail_nth(-1);
    failures += status == MOERUN_ERR_NOMEM;
    assert_true(status == MOERUN_OK || status == MOERUN_ERR_NOMEM);
    moerun__program_destroy(p);
    assert_int_equal(moerun__alloc_live(), alive);
  }
  assert_in_range(failures, 8, 20);
}

/* ---- Transport --------------------------------------------------------------- */

/* The linear program of moerun__transport: its vertices are whole, and its value
 * is that of the assignment. Few different gains, so that ties abound. */
static void transport_is_a_linear_program(void **state) {
  (void)needs_glpk(state);
  enum { ROWS = 12, COLUMNS = 4 };
  draw from = {SEED, 0};
  for (int round = 0; round < 40; round++) {
    int64_t gain[ROWS * COLUMNS];
    int32_t room[COLUMNS];
    int32_t column_of[ROWS];
    moerun__program *p = program_of(ROWS * COLUMNS, 1, 0);
    for (int32_t i = 0; i < ROWS * COLUMNS; i++) {
      gain[i] = draw_int(&from, -2, round % 2 == 0 ? 3 : 1000);
      moerun__program_set_cost(p, i, -(double)gain[i]);
    }
    for (int32_t r = 0; r < ROWS; r++) {
      assert_int_equal(moerun__program_add_row(p, 1, 1), MOERUN_OK);
      for (int32_t c = 0; c < COLUMNS; c++) {
        assert_int_equal(moerun__program_add_term(p, r * COLUMNS + c, 1),
                         MOERUN_OK);
      }
    }
    for (int32_t c = 0; c < COLUMNS; c++) {
      room[c] = draw_int(&from, 3, 5);
      assert_int_equal(moerun__program_add_row(p, -INFINITY, room[c]),
                       MOERUN_OK);
      for (int32_t r = 0; r < ROWS; r++) {
        assert_int_equal(moerun__program_add_term(p, r * COLUMNS + c, 1),
                         MOERUN_OK);
      }
    }
    const moerun__program_result result = solve_it(p, NULL);
    assert_int_equal(moerun__transport(column_of, gain, ROWS, COLUMNS, room),
                     MOERUN_OK);
    int64_t sum = 0;
    for (int32_t r = 0; r < ROWS; r++) {
      sum += gain[r * COLUMNS + column_of[r]];
    }
    assert_int_equal(result.outcome, MOERUN_OUTCOME_OPTIMAL);
    assert_close(result.cost, -(double)sum);
    for (int32_t i = 0; i < ROWS * COLUMNS; i++) {
      const double x = moerun__program_value(p, i);
      assert_true(fabs(x - nearbyint(x)) < 1e-9);
    }
    moerun__program_destroy(p);
  }
}

/* ---- The whole problem ------------------------------------------------------- */

static const synthetic tiny = {.tokens = 300,
                               .layers = 3,
                               .experts = 4,
                               .terms = 2,
                               .classes = 3,
                               .affinity = 1.8,
                               .seed = SEED,
                               .sample = SEED};

/* The least judged value over all sequences of splits within the caps. */
static double least_of_all(const place_world *w) {
  moerun__states *states = NULL;
  assert_int_equal(moerun__states_create(&states, w->problem), MOERUN_OK);
  const int32_t L = w->problem->num_layers;
  const int32_t E = w->problem->num_experts;
  int32_t rank_of[64];
  double least = INFINITY;
  int64_t all = 1;
  for (int32_t l = 0; l < L; l++) {
    all *= states->count;
  }
  for (int64_t n = 0; n < all; n++) {
    int64_t rest = n;
    for (int32_t l = 0; l < L; l++) {
      for (int32_t e = 0; e < E; e++) {
        rank_of[l * E + e] = states->rank_of[rest % states->count * E + e];
      }
      rest /= states->count;
    }
    if (moerun__solution_check(w->problem, rank_of) != MOERUN_OK) continue;
    const double value = judged_value(w, rank_of);
    if (value < least) least = value;
  }
  moerun__states_destroy(states);
  return least;
}

static void all_exact_methods_agree(void **state) {
  (void)needs_glpk(state);
  static const char *const topologies[] = {"2 ranks", "2 ranks, speed 1.5 0.5",
                                           "3 ranks"};
  for (int round = 0; round < 6; round++) {
    place_world w;
    synthetic make = tiny;
    make.seed += (uint64_t)round;
    place_world_create(
        &w, &make, topologies[round % 3],
        (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
    const double least = least_of_all(&w);
    const moerun__deadline never = {0};
    int32_t rank_of[3 * 4] = {0};
    for (int form = MOERUN_ILP_CUT; form <= MOERUN_ILP_RLT; form++) {
      moerun__solution found = {.rank_of = rank_of, .bound = -1};
      if (moerun__ilp(&found, w.problem, (moerun__ilp_form)form, NULL,
                      &never) != MOERUN_OK) {
        fail_msg("%s", moerun_last_error());
      }
      assert_int_equal(found.proven, 1);
      assert_close(found.bound, least);
      assert_close(judged_value(&w, rank_of), least);
      assert_int_equal(moerun__solution_check(w.problem, rank_of), MOERUN_OK);
    }
    static const char *const methods[] = {"exact", "ilp", "cd"};
    for (int m = 0; m < 3; m++) {
      moerun_placement *p = NULL;
      const moerun__judgement judged = place_and_judge(
          &p, &w, methods[m], &w.trace, (moerun__method_options){.seed = 1});
      assert_close(judged.cut, least);
      moerun_placement_destroy(p);
    }
    place_world_destroy(&w);
  }
}

static double clock_that_ran_out(void) {
  static double now = 0;
  return now += 1;
}

/* What cd found is returned, with a bound below it, when time is short. */
static void ilp_keeps_its_start(void **state) {
  (void)needs_glpk(state);
  place_world w;
  synthetic make = tiny;
  make.experts = 8;
  make.layers = 4;
  place_world_create(
      &w, &make, "4 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
  int32_t start[4 * 8];
  int32_t rank_of[4 * 8];
  const moerun__method_options cd = {.seed = 1};
  moerun__solution found = {.rank_of = start, .bound = -1};
  const moerun__method *method = moerun__method_find("cd");
  assert_non_null(method);
  assert_int_equal(method->solve(&found, w.problem, &cd), MOERUN_OK);
  found.rank_of = rank_of;
  const moerun__deadline soon = {clock_that_ran_out, 1};
  assert_int_equal(moerun__ilp(&found, w.problem, MOERUN_ILP_RLT, start, &soon),
                   MOERUN_OK);
  assert_int_equal(found.proven, 0);
  assert_true(judged_value(&w, rank_of) <= judged_value(&w, start) + 1e-9);
  assert_true(found.bound <= judged_value(&w, rank_of) + 1e-9);
  assert_int_equal(moerun__ilp(&found, w.problem, MOERUN_ILP_RLT, NULL, &soon),
                   MOERUN_ERR_UNSUPPORTED);
  place_world_destroy(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(programs_are_solved),
      cmocka_unit_test(limits_leave_what_was_found),
      cmocka_unit_test(errors_inside_glpk_become_a_status),
      cmocka_unit_test(failed_allocations_are_reported),
      cmocka_unit_test(transport_is_a_linear_program),
      cmocka_unit_test(all_exact_methods_agree),
      cmocka_unit_test(ilp_keeps_its_start),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
