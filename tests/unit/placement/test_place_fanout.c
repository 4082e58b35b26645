/* The objective fanout: the state of the search against plain recounts, and
 * what the search makes of it. Token sets are read back through item_of, whose
 * rows are checked against the trace. */
#include "placement/search/visits.h"
#include "support/draw.h"
#include "support/place_world.h"

#include <stdio.h>

enum { SEED = 61 };

static const synthetic middle = {.tokens = 700,
                                 .layers = 3,
                                 .experts = 22,
                                 .terms = 4,
                                 .classes = 12,
                                 .affinity = 1.8,
                                 .seed = SEED,
                                 .sample = SEED};
static const moerun__problem_options fanout = {.objective =
                                                   MOERUN_OBJECTIVE_FANOUT};

static const moerun__deadline never = {0};

static moerun__split *flat_split(const place_world *w) {
  moerun__split *split = NULL;
  int32_t rank_of[3 * 24];
  assert_int_equal(moerun__start_ranks(rank_of, w->problem), MOERUN_OK);
  assert_int_equal(moerun__split_of_ranks(&split, w->problem, rank_of),
                   MOERUN_OK);
  return split;
}

/* ---- State --------------------------------------------------------------- */

/* Visits of the tokens looked at, and the tables, by counting. */
static int64_t recount(const moerun__visits *v) {
  const size_t K = (size_t)v->problem->trace->num_terms;
  const int32_t n = v->num_items;
  int64_t count = 0;
  int32_t *alone = synthetic_array((size_t)n, sizeof *alone);
  int32_t *without =
      synthetic_array((size_t)(n * v->num_parts), sizeof *without);
  for (size_t t = 0; t < 64 * v->words; t++) {
    const int32_t *item_of = v->item_of + t * K;
    int32_t in_part[32] = {0};
    for (size_t k = 0; k < K && item_of[k] >= 0; k++) {
      in_part[v->part_of[item_of[k]]]++;
    }
    for (int32_t p = 0; p < v->num_parts; p++) {
      count += in_part[p] > 0;
      for (size_t k = 0; k < K && item_of[k] >= 0; k++) {
        without[p * n + item_of[k]] += in_part[p] == 0;
        alone[item_of[k]] += in_part[p] == 1 && v->part_of[item_of[k]] == p;
      }
    }
  }
  assert_memory_equal(v->alone, alone, (size_t)n * sizeof *alone);
  assert_memory_equal(v->without, without,
                      (size_t)(n * v->num_parts) * sizeof *without);
  free(alone);
  free(without);
  return count;
}

/* Every loss says what the count does then, bounds are bounds, and loads and
 * blanks are those of the parts. */
static void assert_swaps_match(moerun__visits *v, draw *from) {
  int64_t count = recount(v);
  assert_int_equal(moerun__visits_count(v), count);
  for (int s = 0; s < 40; s++) {
    const int32_t i = draw_int(from, 0, v->num_items - 1);
    const int32_t k = draw_int(from, 0, v->num_items - 1);
    if (v->part_of[i] == v->part_of[k]) continue;
    const int32_t loss = moerun__visits_loss(v, i, k);
    assert_true(moerun__visits_least_loss(v, i, k) <= loss);
    moerun__visits_swap(v, i, k);
    assert_int_equal(recount(v), count + loss);
    count += loss;
  }
  assert_int_equal(moerun__visits_count(v), count);
  int64_t load[32] = {0};
  int32_t blanks[32] = {0};
  for (int32_t i = 0; i < v->num_items; i++) {
    load[v->part_of[i]] += v->load[i];
    blanks[v->part_of[i]] += v->expert_of[i] < 0;
  }
  assert_memory_equal(v->part_load, load, (size_t)v->num_parts * sizeof *load);
  assert_memory_equal(v->part_blanks, blanks,
                      (size_t)v->num_parts * sizeof *blanks);
}

static void losses_are_what_swaps_lose(void **state) {
  (void)state;
  static const char *const topologies[] = {"2 ranks", "5 ranks", "11 ranks",
                                           "24 ranks"};
  draw from = {SEED, 0};
  for (size_t i = 0; i < sizeof topologies / sizeof *topologies; i++) {
    place_world w;
    moerun__visits *v = NULL;
    synthetic make = middle;
    make.seed = (uint64_t)draw_int(&from, 0, 1000);
    make.terms = draw_int(&from, 1, 6);
    place_world_create(&w, &make, topologies[i], fanout);
    moerun__split *split = flat_split(&w);
    assert_int_equal(moerun__visits_create(&v, w.problem, split), MOERUN_OK);
    for (int32_t l = 2; l >= 0; l--) {
      moerun__visits_load(v, l);
      assert_swaps_match(v, &from);
      moerun__visits_look_at(v, 3);
      assert_true(v->words <= 3);
      assert_swaps_match(v, &from);
    }
    moerun__visits_destroy(v);
    moerun__split_destroy(split);
    place_world_destroy(&w);
  }
}

/* The sets hold every token of two items or more once, whatever their number,
 * and missing terms are none. */
static void token_sets_are_those_of_the_trace(void **state) {
  (void)state;
  static const int64_t counts[] = {1, 2, 63, 64, 65, 610, 987};
  draw from = {SEED, 1};
  for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
    place_world w;
    moerun__visits *v = NULL;
    synthetic make = middle;
    make.tokens = counts[c];
    place_world_create(&w, &make, "4 ranks", fanout);
    for (int64_t i = 0; i < make.tokens * 3 * 4; i++) {
      if (draw_int(&from, 0, 2) == 0) w.trace.ids[i] = -1;
    }
    moerun__split *split = flat_split(&w);
    assert_int_equal(moerun__visits_create(&v, w.problem, split), MOERUN_OK);
    moerun__visits_load(v, 1);
    int64_t want[22] = {0};
    for (int64_t t = 0; t < make.tokens; t++) {
      const int16_t *ids = w.trace.ids + (t * 3 + 1) * 4;
      int terms = 0;
      for (int k = 0; k < 4; k++) {
        terms += ids[k] >= 0;
      }
      for (int k = 0; k < 4; k++) {
        if (terms > 1 && ids[k] >= 0) want[ids[k]] += 1 + 1000 * terms;
      }
    }
    for (size_t t = 0; t < 64 * v->words; t++) {
      int terms = 0;
      for (int k = 0; k < 4; k++) {
        terms += v->item_of[t * 4 + (size_t)k] >= 0;
      }
      for (int k = 0; k < terms; k++) {
        const int32_t item = v->item_of[t * 4 + (size_t)k];
        const uint64_t *set = v->takes + (size_t)item * v->stride;
        assert_true((set[t / 64] >> t % 64 & 1) == 1);
        want[v->expert_of[item]] -= 1 + 1000 * terms;
      }
    }
    for (int e = 0; e < 22; e++) {
      assert_int_equal(want[e], 0);
    }
    moerun__visits_destroy(v);
    moerun__split_destroy(split);
    place_world_destroy(&w);
  }
}

/* ---- Search -------------------------------------------------------------- */

/* Every token here takes two experts or more, so that the state counts all. */
static void the_value_is_the_judges(void **state) {
  (void)state;
  place_world w;
  moerun__visits *v = NULL;
  place_world_create(&w, &middle, "5 ranks", fanout);
  moerun__split *split = flat_split(&w);
  const moerun__method_options how = {.seed = 5};
  assert_int_equal(moerun__visits_search(split, w.problem, &how, &never),
                   MOERUN_OK);
  assert_int_equal(moerun__visits_create(&v, w.problem, split), MOERUN_OK);
  int64_t count = 0;
  for (int32_t l = 0; l < 3; l++) {
    moerun__visits_load(v, l);
    count += moerun__visits_count(v);
  }
  int32_t rank_of[3 * 22];
  moerun__split_to_ranks(rank_of, split, 22);
  assert_int_equal(moerun__solution_check(w.problem, rank_of), MOERUN_OK);
  assert_close((double)count / (3 * 700), judged_value(&w, rank_of));
  moerun__visits_destroy(v);
  moerun__split_destroy(split);
  place_world_destroy(&w);
}

/* Caps that bind could make the optimum unreachable by swaps: these do not. */
static void small_worlds_are_solved_to_the_optimum(void **state) {
  (void)state;
  static const struct {
    const char *topology;
    int32_t experts;
  } shapes[] = {{"2 ranks", 8},
                {"3 ranks", 6},
                {"4 ranks", 8},
                {"3 ranks", 7},
                {"3 ranks, speed 1 2 1", 6},
                {"7 ranks", 5}};
  for (int32_t i = 0; i < 18; i++) {
    place_world w;
    moerun_placement *p = NULL;
    int32_t rank_of[3 * 8];
    synthetic make = middle;
    make.seed = (uint64_t)i;
    make.experts = shapes[i % 6].experts;
    make.terms = 2 + i % 2;
    place_world_create(&w, &make, shapes[i % 6].topology,
                       (moerun__problem_options){
                           .objective = MOERUN_OBJECTIVE_FANOUT, .slack = 1});
    const moerun__judgement best =
        place_and_judge(&p, &w, "exact", &w.trace, (moerun__method_options){0});
    const moerun__method_options how = {.seed = 1, .polish = 1};
    assert_int_equal(moerun__place_by_levels(rank_of, w.problem, &how, &never,
                                             moerun__visits_search),
                     MOERUN_OK);
    assert_int_equal(moerun__solution_check(w.problem, rank_of), MOERUN_OK);
    assert_close(judged_value(&w, rank_of), best.fanout);
    moerun_placement_destroy(p);
    place_world_destroy(&w);
  }
}

/* A token's three experts e are those of one block: e + 5 l = t (mod 4). */
static void planted_groups_are_found(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  synthetic make = middle;
  make.experts = 24;
  make.terms = 3;
  place_world_create(&w, &make, "2 nodes x 2 ranks", fanout);
  draw from = {SEED, 3};
  for (int64_t t = 0; t < make.tokens; t++) {
    for (int32_t l = 0; l < 3; l++) {
      const int32_t start = draw_int(&from, 0, 5);
      for (int32_t k = 0; k < 3; k++) {
        const int32_t block = (int32_t)(t % 4) + 4 * ((start + k) % 6);
        w.trace.ids[(t * 3 + l) * 3 + k] = (int16_t)((block + 5 * l) % 24);
      }
    }
  }
  moerun__problem_destroy(w.problem);
  assert_int_equal(
      moerun__problem_create(&w.problem, &w.trace, w.topology, &fanout),
      MOERUN_OK);
  const moerun__judgement j = place_and_judge(
      &p, &w, "cd", &w.trace, (moerun__method_options){.seed = 1});
  assert_close(j.fanout, 1);
  moerun_placement_destroy(p);
  place_world_destroy(&w);
}

static void any_shape_is_placed_within_the_caps(void **state) {
  (void)state;
  static const char *const topologies[] = {
      "1 rank",
      "5 ranks",
      "22 ranks",
      "25 ranks",
      "2 nodes x 3 ranks",
      "3 nodes x 1 rank",
      "4 nodes x 4 ranks",
      "4 + 2 + 1 ranks",
      "3 nodes x 11 ranks",
      "4 ranks, speed 1 1 1 0.5",
      "2 nodes x 3 ranks, speed 2 1 1 1 1 1"};
  for (size_t i = 0; i < sizeof topologies / sizeof *topologies; i++) {
    place_world w;
    moerun_placement *p = NULL;
    moerun_placement *even = NULL;
    synthetic make = middle;
    make.tokens = 200;
    make.terms = i % 2 == 0 ? 3 : 1;
    place_world_create(&w, &make, topologies[i], fanout);
    const moerun__method_options how = {.seed = i};
    const moerun__judgement start =
        place_and_judge(&even, &w, "lpt", &w.trace, how);
    const moerun__judgement j = place_and_judge(&p, &w, "cd", &w.trace, how);
    assert_int_equal(moerun__solution_check(w.problem, p->rank_of), MOERUN_OK);
    assert_true(j.fanout <= start.fanout + 1e-9);
    moerun_placement_destroy(p);
    moerun_placement_destroy(even);
    place_world_destroy(&w);
  }
}

static void seeds_decide_and_polish_never_harms(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p[4] = {NULL};
  double value[4];
  synthetic make = middle;
  make.experts = 60;
  place_world_create(&w, &make, "6 ranks", fanout);
  for (int i = 0; i < 4; i++) {
    const moerun__method_options how = {.seed = i == 2 ? 9 : 8,
                                        .polish = i == 3 ? 3 : 0};
    value[i] = place_and_judge(&p[i], &w, "cd", &w.trace, how).fanout;
  }
  const size_t bytes = 3 * 60 * sizeof(int32_t);
  assert_memory_equal(p[0]->rank_of, p[1]->rank_of, bytes);
  assert_memory_not_equal(p[0]->rank_of, p[2]->rank_of, bytes);
  assert_true(value[3] <= value[0]);
  for (int i = 0; i < 4; i++) {
    moerun_placement_destroy(p[i]);
  }
  place_world_destroy(&w);
}

static void levels_visit_fewer_nodes(void **state) {
  (void)state;
  synthetic make = middle;
  make.experts = 24;
  double node_fanout[2];
  for (int levels = 0; levels < 2; levels++) {
    place_world w;
    moerun_placement *p = NULL;
    moerun__topology *nodes = NULL;
    moerun__judgement j = {0};
    place_world_create(&w, &make, levels ? "3 nodes x 4 ranks" : "12 ranks",
                       fanout);
    (void)place_and_judge(&p, &w, "cd", &w.trace,
                          (moerun__method_options){.seed = 1});
    assert_int_equal(moerun__topology_parse(&nodes, "3 nodes x 4 ranks"),
                     MOERUN_OK);
    assert_int_equal(moerun__judge(&j, p, &w.trace, nodes, 1, 1, NULL),
                     MOERUN_OK);
    node_fanout[levels] = j.node_fanout;
    moerun__topology_destroy(nodes);
    moerun_placement_destroy(p);
    place_world_destroy(&w);
  }
  assert_true(node_fanout[1] < node_fanout[0] - 0.05);
}

static double clock_now;

static double ticking_clock(void) {
  return clock_now += 1;
}

static void a_time_limit_ends_the_search(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  place_world_create(&w, &middle, "4 ranks", fanout);
  clock_now = 0;
  (void)place_and_judge(&p, &w, "cd", &w.trace,
                        (moerun__method_options){.seed = 1,
                                                 .polish = 1 << 30,
                                                 .time_limit_s = 500,
                                                 .clock = ticking_clock});
  assert_int_equal(moerun__solution_check(w.problem, p->rank_of), MOERUN_OK);
  assert_true(clock_now > 500 && clock_now < 520);
  moerun_placement_destroy(p);
  place_world_destroy(&w);
}

static void failed_allocations_leave_nothing_behind(void **state) {
  (void)state;
  place_world w;
  synthetic make = middle;
  make.tokens = 60;
  place_world_create(&w, &make, "2 nodes x 2 ranks", fanout);
  /* The limit is over at once: it is memory that this is about. */
  const moerun__method_options how = {.time_limit_s = 0.5,
                                      .clock = ticking_clock};
  const size_t live = moerun__alloc_live();
  for (long nth = 0;; nth++) {
    moerun_placement *p = NULL;
    moerun__alloc_fail_nth(nth);
    const moerun_status status = moerun__place(&p, NULL, NULL, w.problem,
                                               moerun__method_find("cd"), &how);
    moerun__alloc_fail_nth(-1);
    moerun_placement_destroy(p);
    assert_int_equal(moerun__alloc_live(), live);
    if (status == MOERUN_OK) {
      assert_true(nth > 30);
      break;
    }
    assert_int_equal(status, MOERUN_ERR_NOMEM);
  }
  place_world_destroy(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(losses_are_what_swaps_lose),
      cmocka_unit_test(token_sets_are_those_of_the_trace),
      cmocka_unit_test(the_value_is_the_judges),
      cmocka_unit_test(small_worlds_are_solved_to_the_optimum),
      cmocka_unit_test(planted_groups_are_found),
      cmocka_unit_test(any_shape_is_placed_within_the_caps),
      cmocka_unit_test(seeds_decide_and_polish_never_harms),
      cmocka_unit_test(levels_visit_fewer_nodes),
      cmocka_unit_test(a_time_limit_ends_the_search),
      cmocka_unit_test(failed_allocations_leave_nothing_behind),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
