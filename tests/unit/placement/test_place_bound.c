/* A bound is what no placement costs less than: every single one that is
 * computed is held against proven optima. */
#include "placement/bound/bound.h"
#include "placement/bound/bound_level.h"
#include "placement/bound/eigen.h"
#include "placement/map/certificate.h"
#include "support/draw.h"
#include "support/place_world.h"

#include <float.h>
#include <stdio.h>

enum { SEED = 61, WORLDS = 36, TAILS = 10 };

static const synthetic small = {.tokens = 120,
                                .layers = 4,
                                .experts = 6,
                                .terms = 2,
                                .classes = 5,
                                .affinity = 1.8,
                                .seed = SEED,
                                .sample = SEED};

typedef struct record {
  double most;    /* that a bound may be */
  double highest; /* that was seen */
  int count;
} record;

static void observe(void *context, int64_t step, double bound) {
  record *seen = context;
  if (bound > seen->most) {
    fail_msg("step %lld: bound %.15g above the optimum %.15g", (long long)step,
             bound, seen->most);
  }
  if (bound > seen->highest) seen->highest = bound;
  seen->count++;
}

/* The best of `steps`, none above `most`. */
static double bound_of(const place_world *w, int32_t steps, double most) {
  record seen = {.most = most, .highest = -1};
  double bound = -2;
  const moerun__bound_options options = {.kind = MOERUN_BOUND_SDP,
                                         .most_steps = steps,
                                         .observe = observe,
                                         .context = &seen};
  assert_int_equal(moerun__bound(&bound, w->problem, &options), MOERUN_OK);
  assert_true(seen.count > 0);
  assert_true(bound == seen.highest);
  return bound;
}

static double optimum_of(const place_world *w) {
  moerun_placement *p = NULL;
  const moerun__judgement j =
      place_and_judge(&p, w, "exact", &w->trace, (moerun__method_options){0});
  moerun_placement_destroy(p);
  return moerun__judged(w->problem, &j);
}

static void no_bound_passes_the_optimum(void **state) {
  (void)state;
  static const char *const topologies[] = {"2 ranks",
                                           "3 ranks",
                                           "4 ranks",
                                           "2 nodes x 2 ranks",
                                           "6 ranks",
                                           "3 nodes x 1 rank",
                                           "2 + 1 ranks",
                                           "1 rank",
                                           "3 ranks, speed 1 1 0.4",
                                           "2 nodes x 4 ranks",
                                           "2 nodes x 2 ranks, speed 2 1 1 1"};
  const size_t num_topologies = sizeof topologies / sizeof *topologies;
  draw from = {SEED, 0};
  for (size_t i = 0; i < WORLDS + TAILS; i++) {
    synthetic make = small;
    make.seed = (uint64_t)draw_int(&from, 0, 1 << 20);
    make.experts = draw_int(&from, 4, 7);
    make.terms = draw_int(&from, 1, 3);
    make.affinity = draw_float(&from, 0, 4);
    const moerun__objective objective =
        i < WORLDS ? (moerun__objective)(i % 3) : MOERUN_OBJECTIVE_TAIL;
    const moerun__problem_options options = {.objective = objective,
                                             .slack = i % 2 == 0 ? 1e-6 : 0.3,
                                             .node_weight = 0.4,
                                             .far_weight = 1};
    place_world w;
    place_world_create(&w, &make, topologies[i % num_topologies], options);
    (void)bound_of(&w, 230, optimum_of(&w));
    place_world_destroy(&w);
  }
}

/* Twenty terms of which each is lost when it is added to the first: exactly
 * they are 1 + 19 * 2^-54, and a bound is no less than that. */
static void what_sums_lose_is_paid_for(void **state) {
  (void)state;
  enum { ITEMS = 20, PARTS = 4 };
  moerun__relax *relax = NULL;
  double value = 0;
  assert_int_equal(moerun__relax_create(&relax, 1, ITEMS, PARTS, 1), MOERUN_OK);
  for (size_t i = 0; i < ITEMS; i++) {
    relax->worth[i * ITEMS + i] = i == 0 ? 1 : ldexp(1, -54);
  }
  moerun__relax_start(relax);
  assert_int_equal(moerun__relax_value(&value, relax), MOERUN_OK);
  assert_true(value - 1 >= (ITEMS - 1) * ldexp(1, -54));
  moerun__relax_destroy(relax);
}

/* The same of the prices of terms: as many roundings as there are terms. */
static void what_prices_lose_is_paid_for(void **state) {
  (void)state;
  place_world w;
  moerun__bound_level level;
  int valued = 0;
  place_world_create(&w, &small, "3 ranks",
                     (moerun__problem_options){
                         .objective = MOERUN_OBJECTIVE_FANOUT, .slack = 0.3});
  assert_int_equal(moerun__bound_level_create_terms(&level, w.problem),
                   MOERUN_OK);
  for (int i = 0; i < 3; i++) {
    assert_int_equal(moerun__bound_level_step(&level, &valued, 1), MOERUN_OK);
  }
  const double terms = (double)(small.tokens * small.layers * small.terms);
  assert_true(level.prices->least > 0);
  assert_true(level.prices->rounding * small.layers >=
              terms * DBL_EPSILON * level.prices->least);
  moerun__bound_level_clear(&level);
  place_world_destroy(&w);
}

/* Whole numbers are what is kept: a sum that has lost its last bits on the way
 * to one of them counts as that number, not as the one below. */
static void a_sum_just_below_a_whole_number_is_that_number(void **state) {
  (void)state;
  place_world w;
  moerun__bound_level level;
  int valued = 0;
  place_world_create(&w, &small, "3 ranks",
                     (moerun__problem_options){
                         .objective = MOERUN_OBJECTIVE_CUT, .slack = 0.3});
  assert_int_equal(moerun__bound_level_create(&level, w.problem, 1, 2),
                   MOERUN_OK);
  level.base = nextafter(1000, 0);
  level.scale = 0;
  level.kept = 1e9;
  assert_int_equal(moerun__bound_level_step(&level, &valued, 1), MOERUN_OK);
  assert_int_equal(valued, 1);
  assert_true(level.kept == 1000);
  moerun__bound_level_clear(&level);
  place_world_destroy(&w);
}

/* Loose caps, and still no more than a few per cent of what is kept are
 * lost. */
static void bounds_are_close_to_the_optimum(void **state) {
  (void)state;
  for (uint64_t seed = 0; seed < 6; seed++) {
    synthetic make = small;
    make.seed = SEED + seed;
    make.experts = 8;
    place_world w;
    place_world_create(&w, &make, "4 ranks",
                       (moerun__problem_options){
                           .objective = MOERUN_OBJECTIVE_CUT, .slack = 0.3});
    const double optimum = optimum_of(&w);
    const double bound = bound_of(&w, 400, optimum);
    assert_true(moerun__gap(optimum, bound, 1) < 0.05);
    place_world_destroy(&w);
  }
}

/* With one expert a rank the pairs of a boundary are an assignment, and its
 * linear program has no gap. */
static void one_expert_a_rank_is_bounded_by_its_optimum(void **state) {
  (void)state;
  place_world w;
  place_world_create(&w, &small, "6 ranks",
                     (moerun__problem_options){
                         .objective = MOERUN_OBJECTIVE_CUT, .slack = 10});
  const double optimum = optimum_of(&w);
  assert_true(moerun__gap(optimum, bound_of(&w, 1000, optimum), 1) < 1e-4);
  place_world_destroy(&w);
}

/* Token t takes three of the experts e with e % 4 = t % 4. */
static void planted_blocks_have_bound_0(void **state) {
  (void)state;
  place_world w;
  synthetic make = small;
  make.experts = 16;
  make.terms = 3;
  const moerun__problem_options options = {.objective = MOERUN_OBJECTIVE_CUT};
  place_world_create(&w, &make, "4 ranks", options);
  for (int64_t t = 0; t < make.tokens; t++) {
    for (int32_t i = 0; i < make.layers * 3; i++) {
      w.trace.ids[t * make.layers * 3 + i] =
          (int16_t)(t % 4 + 4 * ((t / 4 + i / 3 + i % 3) % 4));
    }
  }
  moerun__problem_destroy(w.problem);
  assert_int_equal(
      moerun__problem_create(&w.problem, &w.trace, w.topology, &options),
      MOERUN_OK);
  assert_true(bound_of(&w, 100, 0) == 0);
  place_world_destroy(&w);
}

static void equal_pairs_have_the_bound_of_chance(void **state) {
  (void)state;
  place_world w;
  synthetic make = small;
  make.tokens = 36;
  make.terms = 1;
  make.layers = 2;
  const moerun__problem_options options = {.objective = MOERUN_OBJECTIVE_CUT};
  place_world_create(&w, &make, "3 ranks", options);
  for (int16_t t = 0; t < 36; t++) {
    w.trace.ids[2 * t] = (int16_t)(t / 6);
    w.trace.ids[2 * t + 1] = (int16_t)(t % 6);
  }
  moerun__problem_destroy(w.problem);
  assert_int_equal(
      moerun__problem_create(&w.problem, &w.trace, w.topology, &options),
      MOERUN_OK);
  assert_close(bound_of(&w, 100, 2.0 / 3), 2.0 / 3);
  place_world_destroy(&w);
}

static void the_same_steps_give_the_same_bits(void **state) {
  (void)state;
  synthetic make = small;
  make.experts = 11;
  for (int objective = 0; objective < 3; objective++) {
    double bound[2];
    for (int i = 0; i < 2; i++) {
      place_world w;
      place_world_create(
          &w, &make, "2 nodes x 2 ranks",
          (moerun__problem_options){.objective = (moerun__objective)objective,
                                    .node_weight = 0.5,
                                    .far_weight = 1});
      bound[i] = bound_of(&w, 320, INFINITY);
      place_world_destroy(&w);
    }
    assert_memory_equal(&bound[0], &bound[1], sizeof *bound);
    assert_true(bound[0] > 0);
  }
}

/* More steps never give less. */
static void patience_pays(void **state) {
  (void)state;
  place_world w;
  synthetic make = small;
  make.experts = 12;
  double before = 0;
  place_world_create(
      &w, &make, "3 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
  for (int32_t steps = 20; steps <= 320; steps *= 4) {
    const double bound = bound_of(&w, steps, INFINITY);
    assert_true(bound > before);
    before = bound;
  }
  place_world_destroy(&w);
}

static double clock_now;

static double ticking_clock(void) {
  return clock_now += 1;
}

static void limits_end_the_search(void **state) {
  (void)state;
  place_world w;
  double bound = 0;
  double goal = 0;
  place_world_create(
      &w, &small, "3 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
  clock_now = 0;
  moerun__bound_options options = {
      .kind = MOERUN_BOUND_SDP, .time_limit_s = 30, .clock = ticking_clock};
  assert_int_equal(moerun__bound(&bound, w.problem, &options), MOERUN_OK);
  assert_true(bound > 0 && clock_now > 30 && clock_now < 40);
  goal = bound;
  options = (moerun__bound_options){.kind = MOERUN_BOUND_SDP, .cost = goal};
  record seen = {.most = INFINITY};
  options.observe = observe;
  options.context = &seen;
  assert_int_equal(moerun__bound(&bound, w.problem, &options), MOERUN_OK);
  assert_true(bound >= goal && seen.count < 10);
  options.cost = 0; /* ends by itself */
  assert_int_equal(moerun__bound(&bound, w.problem, &options), MOERUN_OK);
  assert_true(bound >= goal);
  options.kind = MOERUN_BOUND_NONE;
  assert_int_equal(moerun__bound(&bound, w.problem, &options), MOERUN_OK);
  assert_true(bound == -1);
  place_world_destroy(&w);
}

static void one_layer_has_no_neighbours(void **state) {
  (void)state;
  place_world w;
  synthetic make = small;
  make.layers = 1;
  double bound = 0;
  const moerun__bound_options options = {.kind = MOERUN_BOUND_SDP};
  place_world_create(
      &w, &make, "3 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
  assert_int_equal(moerun__bound(&bound, w.problem, &options), MOERUN_OK);
  assert_true(bound == -1);
  place_world_destroy(&w);
}

static void failed_allocations_leave_nothing_behind(void **state) {
  (void)state;
  synthetic make = small;
  make.tokens = 60;
  make.layers = 3;
  make.experts = 4;
  for (int objective = 0; objective < 3; objective++) {
    place_world w;
    const moerun__bound_options options = {.kind = MOERUN_BOUND_SDP,
                                           .most_steps = 210};
    place_world_create(
        &w, &make, "2 nodes x 2 ranks",
        (moerun__problem_options){.objective = (moerun__objective)objective,
                                  .node_weight = 0.5,
                                  .far_weight = 1});
    const size_t live = moerun__alloc_live();
    for (long nth = 0;; nth++) {
      double bound = 0;
      moerun__alloc_fail_nth(nth);
      const moerun_status status = moerun__bound(&bound, w.problem, &options);
      moerun__alloc_fail_nth(-1);
      assert_int_equal(moerun__alloc_live(), live);
      if (status == MOERUN_OK) {
        assert_true(nth > 15);
        break;
      }
      assert_int_equal(status, MOERUN_ERR_NOMEM);
    }
    place_world_destroy(&w);
  }
}

/* ---- Eigenvalues --------------------------------------------------------- */

enum { MOST_ROWS = 40 };

static void assert_eigen(const double *matrix, int32_t n) {
  static double copy[MOST_ROWS * MOST_ROWS];
  static double vector[MOST_ROWS * MOST_ROWS];
  double value[MOST_ROWS];
  double alone[MOST_ROWS];
  double scratch[4 * MOST_ROWS];
  memcpy(copy, matrix, sizeof *copy * (size_t)(n * n));
  assert_int_equal(moerun__eigen(value, vector, copy, n, scratch), MOERUN_OK);
  memcpy(copy, matrix, sizeof *copy * (size_t)(n * n));
  assert_int_equal(moerun__eigen(alone, NULL, copy, n, scratch), MOERUN_OK);
  for (int32_t k = 0; k < n; k++) {
    assert_true(k == 0 || value[k] >= value[k - 1]);
    assert_true(fabs(value[k] - alone[k]) < 1e-11);
    for (int32_t i = 0; i < n; i++) {
      double along = -value[k] * vector[k * n + i];
      double dot = k == i ? -1 : 0;
      for (int32_t j = 0; j < n; j++) {
        along += matrix[i * n + j] * vector[k * n + j];
        dot += vector[k * n + j] * vector[i * n + j];
      }
      assert_true(fabs(along) < 1e-11);
      assert_true(fabs(dot) < 1e-12);
    }
  }
}

static void eigenvalues_satisfy_their_definition(void **state) {
  (void)state;
  static double matrix[MOST_ROWS * MOST_ROWS];
  draw from = {SEED, 9};
  for (int32_t n = 1; n <= MOST_ROWS; n += n < 6 ? 1 : 17) {
    for (int kind = 0; kind < 4; kind++) { /* full, low rank, diagonal, 0 */
      for (int32_t i = 0; i < n * n; i++) {
        matrix[i] = 0;
      }
      for (int32_t i = 0; i < n; i++) {
        for (int32_t j = 0; j <= i; j++) {
          const double full = (double)draw_float(&from, -3, 3);
          const double x = kind == 0   ? full
                           : kind == 1 ? (i % 2) * (j % 2)
                           : kind == 2 ? (i == j) * (i % 3)
                                       : 0;
          matrix[i * n + j] = x;
          matrix[j * n + i] = x;
        }
      }
      assert_eigen(matrix, n);
    }
  }
  double value[2];
  double scratch[8];
  double broken[4] = {1, NAN, NAN, 1};
  assert_int_equal(moerun__eigen(value, NULL, broken, 2, scratch),
                   MOERUN_ERR_INVALID);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(no_bound_passes_the_optimum),
      cmocka_unit_test(what_sums_lose_is_paid_for),
      cmocka_unit_test(what_prices_lose_is_paid_for),
      cmocka_unit_test(a_sum_just_below_a_whole_number_is_that_number),
      cmocka_unit_test(bounds_are_close_to_the_optimum),
      cmocka_unit_test(one_expert_a_rank_is_bounded_by_its_optimum),
      cmocka_unit_test(planted_blocks_have_bound_0),
      cmocka_unit_test(equal_pairs_have_the_bound_of_chance),
      cmocka_unit_test(the_same_steps_give_the_same_bits),
      cmocka_unit_test(patience_pays),
      cmocka_unit_test(limits_end_the_search),
      cmocka_unit_test(one_layer_has_no_neighbours),
      cmocka_unit_test(failed_allocations_leave_nothing_behind),
      cmocka_unit_test(eigenvalues_satisfy_their_definition),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
