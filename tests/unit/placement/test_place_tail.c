/* The busiest links: counted like the judge does, optimal where that can be
 * enumerated, and never worse for a search. */
#include "placement/judge/relabel.h"
#include "placement/search/split.h"
#include "placement/search/states.h"
#include "placement/search/tail.h"
#include "support/draw.h"
#include "support/place_world.h"

#include <stdio.h>

enum { SEED = 71, MOST_ENTRIES = 128 };

static const synthetic small = {.tokens = 300,
                                .layers = 3,
                                .experts = 4,
                                .terms = 2,
                                .classes = 3,
                                .affinity = 1.8,
                                .seed = SEED,
                                .sample = SEED};

static const moerun__problem_options tail = {.objective =
                                                 MOERUN_OBJECTIVE_TAIL};

static double count_of(const place_world *w, const int32_t *rank_of) {
  int64_t pairs = 0;
  int64_t total = 0;
  const int32_t E = w->problem->num_experts;
  const double R = w->problem->num_ranks;
  assert_int_equal(moerun__tail_count(&pairs, w->problem, rank_of), MOERUN_OK);
  for (int32_t n = 0; n < (w->problem->num_layers - 1) * E * E; n++) {
    total += w->problem->follow[n];
  }
  return (double)pairs * R * R / (double)total;
}

static void counts_are_the_judges(void **state) {
  (void)state;
  draw from = {SEED, 0};
  for (int32_t R = 1; R < 6; R++) {
    place_world w;
    char topology[16];
    int32_t rank_of[3 * 4];
    (void)snprintf(topology, sizeof topology, "%d ranks", R);
    place_world_create(&w, &small, topology, tail);
    for (int32_t n = 0; n < 3 * 4; n++) {
      rank_of[n] = draw_int(&from, 0, R - 1);
    }
    assert_close(count_of(&w, rank_of), judged_value(&w, rank_of));
    place_world_destroy(&w);
  }
}

/* The least over all sequences of splits within the caps. */
static double least_of_all(const place_world *w) {
  moerun__states *states = NULL;
  assert_int_equal(moerun__states_create(&states, w->problem), MOERUN_OK);
  const int32_t L = w->problem->num_layers;
  const int32_t E = w->problem->num_experts;
  int32_t rank_of[MOST_ENTRIES];
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
    least = fmin(least, count_of(w, rank_of));
  }
  moerun__states_destroy(states);
  return least;
}

/* Groups of two experts; one expert a rank or none; ranks that are not
 * alike. */
static void optima_are_found(void **state) {
  (void)state;
  static const char *const topologies[] = {
      "2 ranks", "4 ranks", "2 ranks, speed 1.5 0.5", "3 ranks", "5 ranks"};
  for (int round = 0; round < 10; round++) {
    place_world w;
    moerun_placement *p = NULL;
    int32_t proven = 0;
    double bound = 0;
    synthetic make = small;
    make.seed += (uint64_t)round;
    if (round % 5 == 4) make.layers = 2; /* 120 splits of each */
    place_world_create(&w, &make, topologies[round % 5], tail);
    const double least = least_of_all(&w);
    const moerun__method_options options = {.seed = 1};
    if (moerun__place(&p, &proven, &bound, w.problem,
                      moerun__method_find("exact"), &options) != MOERUN_OK) {
      fail_msg("%s", moerun_last_error());
    }
    assert_int_equal(proven, 1);
    assert_close(bound, least);
    assert_close(count_of(&w, p->rank_of), least);
    moerun_placement_destroy(p);
    (void)place_and_judge(&p, &w, "cd", &w.trace, options);
    assert_close(count_of(&w, p->rank_of), least);
    moerun_placement_destroy(p);
    place_world_destroy(&w);
  }
}

/* Of all renamings of the groups of two layers, the first being left alone. */
static void names_of_ranks_are_the_best(void **state) {
  (void)state;
  enum { RANKS = 4, EXPERTS = 8 };
  for (int round = 0; round < 10; round++) {
    place_world w;
    synthetic make = small;
    make.layers = 2;
    make.experts = EXPERTS;
    make.seed += (uint64_t)round;
    place_world_create(&w, &make, "4 ranks", tail);
    int32_t rank_of[2 * EXPERTS];
    assert_int_equal(moerun__start_ranks(rank_of, w.problem), MOERUN_OK);
    double least = INFINITY;
    for (int32_t n = 0; n < RANKS * RANKS * RANKS * RANKS; n++) {
      int32_t renamed[2 * EXPERTS];
      int32_t used = 0;
      memcpy(renamed, rank_of, sizeof renamed);
      for (int32_t e = 0; e < EXPERTS; e++) {
        renamed[EXPERTS + e] = n >> (2 * rank_of[EXPERTS + e]) & 3;
        used |= 1 << renamed[EXPERTS + e];
      }
      if (used != (1 << RANKS) - 1) continue;
      least = fmin(least, count_of(&w, renamed));
    }
    assert_int_equal(moerun__relabel(rank_of, w.problem), MOERUN_OK);
    assert_close(count_of(&w, rank_of), least);
    assert_int_equal(moerun__solution_check(w.problem, rank_of), MOERUN_OK);
    place_world_destroy(&w);
  }
}

static double clock_that_stands(void) {
  return 0;
}

static double clock_that_ran_out(void) {
  return 2;
}

/* From an even packing, for any shape; a time limit that is over returns what
 * was there. */
static void searches_only_gain(void **state) {
  (void)state;
  static const char *const topologies[] = {
      "1 rank", "4 ranks", "5 ranks", "2 nodes x 3 ranks, speed 2 1 1 1 1 1"};
  for (int t = 0; t < 4; t++) {
    place_world w;
    synthetic make = small;
    make.experts = 22;
    place_world_create(&w, &make, topologies[t], tail);
    int32_t start[3 * 22];
    int32_t found[3][3 * 22];
    assert_int_equal(moerun__start_ranks(start, w.problem), MOERUN_OK);
    for (int i = 0; i < 3; i++) {
      const moerun__method_options options = {.seed = i < 2 ? 4 : 5};
      const moerun__deadline deadline = {clock_that_stands, 1};
      memcpy(found[i], start, sizeof start);
      assert_int_equal(
          moerun__tail_search(found[i], w.problem, &options, &deadline),
          MOERUN_OK);
      assert_int_equal(moerun__solution_check(w.problem, found[i]), MOERUN_OK);
      if (t > 0) assert_true(count_of(&w, found[i]) < count_of(&w, start));
    }
    assert_memory_equal(found[0], found[1], sizeof start);
    if (t > 0) assert_memory_not_equal(found[0], found[2], sizeof start);
    const moerun__method_options options = {.seed = 4};
    const moerun__deadline over = {clock_that_ran_out, 1};
    memcpy(found[0], start, sizeof start);
    assert_int_equal(moerun__tail_search(found[0], w.problem, &options, &over),
                     MOERUN_OK);
    assert_memory_equal(found[0], start, sizeof start);
    place_world_destroy(&w);
  }
}

/* The default method, from the search for few pairs on, against that search. */
static void tails_are_lower_than_by_cut(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  synthetic make = small;
  make.experts = 32;
  make.tokens = 2000;
  make.terms = 4;
  double value[2] = {0};
  for (int i = 0; i < 2; i++) {
    moerun__problem_options options = tail;
    if (i == 0) options.objective = MOERUN_OBJECTIVE_CUT;
    place_world_create(&w, &make, "2 nodes x 4 ranks", options);
    value[i] = place_and_judge(&p, &w, "cd", &w.trace,
                               (moerun__method_options){.seed = 1})
                   .tail;
    moerun_placement_destroy(p);
    place_world_destroy(&w);
  }
  assert_true(value[1] < 0.9 * value[0]);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(counts_are_the_judges),
      cmocka_unit_test(optima_are_found),
      cmocka_unit_test(names_of_ranks_are_the_best),
      cmocka_unit_test(searches_only_gain),
      cmocka_unit_test(tails_are_lower_than_by_cut),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
