/* Programs and whatever can go wrong in one, and the problems that are a
 * program and nothing else: transport, and tokens over replicas. */
#include "placement/judge/assignment.h"
#include "placement/methods/program.h"
#include "placement/methods/replica_split.h"
#include "support/draw.h"
#include "support/place_program.h"

#include <math.h>
#include <stdio.h>

enum { SEED = 61 };

/* ---- Programs ------------------------------------------------------------ */

static void add_row(moerun__program *p, double low, double high,
                    const double *weight, int32_t count) {
  assert_int_equal(moerun__program_add_row(p, low, high), MOERUN_OK);
  for (int32_t c = 0; c < count; c++) {
    assert_int_equal(moerun__program_add_term(p, c, weight[c]), MOERUN_OK);
  }
}

/* A knapsack, with fractions and without. */
static void programs_are_solved(void **state) {
  (void)needs_glpk(state);
  assert_int_equal(strncmp(moerun__program_solver(), "GLPK ", 5), 0);
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

/* Market split (Cornuejols and Dawande 1998): which half of the columns has
 * half of the weight in every row? The cost is what is over or short. With
 * fractions it is 0, which says nothing about the integers. */
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

/* ---- Transport ----------------------------------------------------------- */

/* The linear program of moerun__transport: its vertices are whole, and its
 * value is that of the assignment. Few different gains, so that ties abound. */
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

/* ---- Replicas ------------------------------------------------------------ */

enum { REPLICA_EXPERTS = 10, MOST_REPLICA_RANKS = 6 };

/* The largest load of experts that are only in a set of ranks, per speed of the
 * set: what no split can be below, and the best one reaches. */
static double densest_set(const moerun_placement *p, const int64_t *load,
                          const double *speed) {
  double most = 0;
  for (uint32_t set = 1; set < 1U << p->num_ranks; set++) {
    double tokens = 0;
    double room = 0;
    for (int32_t e = 0; e < p->num_experts; e++) {
      uint32_t hosts = 0;
      for (int32_t i = p->replica_offset[e]; i < p->replica_offset[e + 1];
           i++) {
        hosts |= 1U << p->rank_of[i];
      }
      if ((hosts & ~set) == 0) tokens += (double)load[e];
    }
    for (int32_t r = 0; r < p->num_ranks; r++) {
      if (set >> r & 1) room += speed[r];
    }
    most = fmax(most, tokens / room);
  }
  return most;
}

static moerun_placement *draw_replicas(draw *from, int32_t ranks) {
  moerun_placement *p = NULL;
  int32_t offset[REPLICA_EXPERTS + 1] = {0};
  int32_t rank_of[REPLICA_EXPERTS * MOST_REPLICA_RANKS];
  for (int32_t e = 0; e < REPLICA_EXPERTS; e++) {
    int32_t n = offset[e];
    for (int32_t r = 0; r < ranks; r++) {
      if (draw_int(from, 0, 3) == 0) rank_of[n++] = r;
    }
    if (n == offset[e]) rank_of[n++] = draw_int(from, 0, ranks - 1);
    offset[e + 1] = n;
  }
  assert_int_equal(moerun__placement_create(&p, 1, REPLICA_EXPERTS, ranks,
                                            offset, rank_of, "given"),
                   MOERUN_OK);
  return p;
}

static void replicas_share_as_evenly_as_they_can(void **state) {
  (void)needs_glpk(state);
  draw from = {SEED, 0};
  for (int round = 0; round < 60; round++) {
    const int32_t R = draw_int(&from, 1, MOST_REPLICA_RANKS);
    moerun_placement *p = draw_replicas(&from, R);
    int64_t load[REPLICA_EXPERTS];
    double speed[MOST_REPLICA_RANKS];
    int64_t tokens[REPLICA_EXPERTS * MOST_REPLICA_RANKS];
    double rank_load[MOST_REPLICA_RANKS] = {0};
    double even = 0;
    for (int32_t e = 0; e < REPLICA_EXPERTS; e++) {
      load[e] = draw_int(&from, 0, round % 2 == 0 ? 7 : 10000);
    }
    for (int32_t r = 0; r < R; r++) {
      speed[r] = round % 3 == 0 ? 1 : draw_int(&from, 1, 4) * 0.5;
    }
    assert_int_equal(moerun__replica_split(tokens, &even, p, 0, load, speed),
                     MOERUN_OK);
    assert_close(even, densest_set(p, load, speed));
    for (int32_t e = 0; e < REPLICA_EXPERTS; e++) {
      int64_t sum = 0;
      for (int32_t i = p->replica_offset[e]; i < p->replica_offset[e + 1];
           i++) {
        assert_true(tokens[i] >= 0);
        sum += tokens[i];
        rank_load[p->rank_of[i]] += (double)tokens[i];
      }
      assert_int_equal(sum, load[e]);
    }
    double most = 0;
    for (int32_t r = 0; r < R; r++) {
      assert_true(rank_load[r] < even * speed[r] + 1);
      most = fmax(most, rank_load[r] / speed[r]);
    }
    assert_true(most >= even - 1e-6);
    moerun_placement_destroy(p);
  }
}

/* Expert 0 takes every token, and each of the others one in three: rank 1 has
 * 2/3 of the tokens' terms until expert 0 is on both. */
static void balance_is_of_the_trace(void **state) {
  (void)needs_glpk(state);
  static const int32_t offset[5] = {0, 2, 3, 4, 5};
  static const int32_t rank_of[5] = {0, 1, 1, 1, 1};
  place_world w;
  moerun_placement *p = NULL;
  const synthetic make = {.tokens = 12,
                          .layers = 1,
                          .experts = 4,
                          .terms = 2,
                          .classes = 1,
                          .seed = SEED};
  place_world_create(
      &w, &make, "2 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_FANOUT});
  for (int16_t t = 0; t < 12; t++) {
    w.trace.ids[2 * t] = 0;
    w.trace.ids[2 * t + 1] = (int16_t)(1 + t % 3);
  }
  assert_int_equal(
      moerun__placement_create(&p, 1, 4, 2, offset, rank_of, "given"),
      MOERUN_OK);
  double mean = 0;
  double worst = 0;
  assert_int_equal(
      moerun__replica_balance(&mean, &worst, p, &w.trace, w.topology),
      MOERUN_OK);
  assert_close(mean, 1);
  assert_close(worst, 1);
  w.trace.ids[0] = 3; /* 11 tokens for rank 0 at most */
  w.trace.ids[1] = -1;
  w.trace.ids[2] = -1;
  assert_int_equal(
      moerun__replica_balance(&mean, &worst, p, &w.trace, w.topology),
      MOERUN_OK);
  assert_close(worst, 2 * 12. / 22);
  moerun_placement_destroy(p);
  place_world_destroy(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(programs_are_solved),
      cmocka_unit_test(limits_leave_what_was_found),
      cmocka_unit_test(errors_inside_glpk_become_a_status),
      cmocka_unit_test(failed_allocations_are_reported),
      cmocka_unit_test(transport_is_a_linear_program),
      cmocka_unit_test(replicas_share_as_evenly_as_they_can),
      cmocka_unit_test(balance_is_of_the_trace),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
