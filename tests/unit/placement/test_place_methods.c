/* What holds for every placement that a method makes: caps and counts for any
 * shape, determinism, structure found and none invented, refusals. */
#include "support/draw.h"
#include "support/place_world.h"

#include <stdio.h>

enum { SEED = 47 };

static const synthetic middle = {.tokens = 1500,
                                 .layers = 5,
                                 .experts = 22,
                                 .terms = 3,
                                 .classes = 12,
                                 .affinity = 1.8,
                                 .seed = SEED,
                                 .sample = SEED};

static void assert_method_works(const char *method, const synthetic *make,
                                const char *topology,
                                moerun__problem_options options) {
  place_world w;
  moerun_placement *p = NULL;
  place_world_create(&w, make, topology, options);
  (void)place_and_judge(&p, &w, method, &w.trace,
                        (moerun__method_options){.seed = 3});
  assert_int_equal(moerun__solution_check(w.problem, p->rank_of), MOERUN_OK);
  moerun_placement_destroy(p);
  place_world_destroy(&w);
}

static void any_shape_is_placed_within_the_caps(void **state) {
  (void)state;
  static const char *const methods[] = {"greedy", "chain", "cd"};
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
  draw from = {SEED, 0};
  for (size_t i = 0; i < sizeof topologies / sizeof *topologies; i++) {
    synthetic make = middle;
    make.tokens = 200;
    make.layers = 3;
    make.seed = (uint64_t)draw_int(&from, 0, 1000);
    for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
      for (int objective = 1; objective < 3; objective++) {
        assert_method_works(
            methods[m], &make, topologies[i],
            (moerun__problem_options){.objective = (moerun__objective)objective,
                                      .node_weight = 0.5,
                                      .far_weight = 1});
      }
    }
  }
  synthetic one = middle;
  one.layers = 1;
  one.tokens = 50;
  assert_method_works(
      "cd", &one, "4 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
}

static void seeds_decide(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p[3] = {NULL};
  place_world_create(
      &w, &middle, "2 nodes x 2 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
  for (int i = 0; i < 3; i++) {
    (void)place_and_judge(
        &p[i], &w, "cd", &w.trace,
        (moerun__method_options){.seed = i < 2 ? 8 : 9, .polish = 2});
  }
  const size_t bytes = 5 * 22 * sizeof(int32_t);
  assert_memory_equal(p[0]->rank_of, p[1]->rank_of, bytes);
  assert_memory_not_equal(p[0]->rank_of, p[2]->rank_of, bytes);
  for (int i = 0; i < 3; i++) {
    moerun_placement_destroy(p[i]);
  }
  place_world_destroy(&w);
}

/* `moerun place` refuses or says options that the table of methods rules out:
 * what it says of seeds and rounds of annealing is so. */
static void what_a_method_does_not_read_changes_nothing(void **state) {
  (void)state;
  place_world w;
  const moerun__method *method = NULL;
  const moerun__method_options hows[] = {
      {.seed = 8}, {.seed = 9}, {.seed = 8, .polish = 2}};
  synthetic make = middle;
  make.tokens = 60;
  make.layers = 2;
  make.experts = 4;
  make.terms = 2;
  place_world_create(
      &w, &make, "2 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT, .slack = 1});
  for (int m = 0; (method = moerun__method_at(m)) != NULL; m++) {
    moerun_placement *p[3] = {NULL};
    moerun_status found = MOERUN_OK;
    for (int i = 0; i < 3 && found == MOERUN_OK; i++) {
      found = moerun__place(&p[i], NULL, NULL, w.problem, method, &hows[i]);
    }
    assert_true(found == MOERUN_OK || method->needs_glpk);
    const size_t bytes = 2 * 4 * sizeof(int32_t);
    if (found == MOERUN_OK && !method->draws) {
      assert_memory_equal(p[0]->rank_of, p[1]->rank_of, bytes);
    }
    if (found == MOERUN_OK && !method->polishes) {
      assert_memory_equal(p[0]->rank_of, p[2]->rank_of, bytes);
    }
    for (int i = 0; i < 3; i++) {
      moerun_placement_destroy(p[i]);
    }
  }
  place_world_destroy(&w);
}

/* Tokens in another order, or all of them twice, are the same problem; labels
 * of ranks mean nothing while they are all alike. */
static void order_and_scale_do_not_matter(void **state) {
  (void)state;
  place_world w;
  place_world twice;
  moerun_placement *p = NULL;
  moerun_placement *q = NULL;
  const moerun__problem_options options = {.objective = MOERUN_OBJECTIVE_CUT};
  place_world_create(&w, &middle, "4 ranks", options);
  synthetic make = middle;
  make.tokens *= 2;
  place_world_create(&twice, &make, "4 ranks", options);
  const size_t width = 5 * 3;
  for (size_t t = 0; t < 3000; t++) { /* backwards, and each token twice */
    memcpy(twice.trace.ids + t * width, w.trace.ids + (1499 - t / 2) * width,
           width * sizeof(int16_t));
  }
  moerun__problem_destroy(twice.problem);
  assert_int_equal(moerun__problem_create(&twice.problem, &twice.trace,
                                          twice.topology, &options),
                   MOERUN_OK);
  for (int32_t i = 0; i < 4 * 22 * 22; i++) {
    assert_int_equal(2 * w.problem->follow[i], twice.problem->follow[i]);
  }
  const moerun__method_options how = {.seed = 2};
  const moerun__judgement a = place_and_judge(&p, &w, "chain", &w.trace, how);
  const moerun__judgement b =
      place_and_judge(&q, &twice, "chain", &twice.trace, how);
  assert_close(a.cut, b.cut);
  assert_close(a.fanout, b.fanout);
  assert_close(a.load, b.load);
  int32_t relabelled[5 * 22];
  for (int32_t i = 0; i < 5 * 22; i++) {
    relabelled[i] = (p->rank_of[i] + 1) % 4;
  }
  assert_close(judged_value(&w, relabelled), a.cut);
  moerun_placement_destroy(p);
  moerun_placement_destroy(q);
  place_world_destroy(&w);
  place_world_destroy(&twice);
}

/* Token t takes three of the experts e with (e + shift) % 4 = t % 4. */
static void planted_blocks_are_found(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  synthetic make = middle;
  make.experts = 24;
  make.tokens = 1200;
  const moerun__problem_options options = {.objective = MOERUN_OBJECTIVE_CUT};
  place_world_create(&w, &make, "4 ranks", options);
  draw from = {SEED, 3};
  for (int64_t t = 0; t < make.tokens; t++) {
    for (int32_t l = 0; l < make.layers; l++) {
      const int32_t start = draw_int(&from, 0, 5);
      for (int32_t k = 0; k < 3; k++) {
        const int32_t block = (int32_t)(t % 4) + 4 * ((start + k) % 6);
        w.trace.ids[(t * make.layers + l) * 3 + k] =
            (int16_t)((block + 5 * l) % 24);
      }
    }
  }
  moerun__problem_destroy(w.problem);
  assert_int_equal(
      moerun__problem_create(&w.problem, &w.trace, w.topology, &options),
      MOERUN_OK);
  const moerun__judgement j = place_and_judge(
      &p, &w, "cd", &w.trace, (moerun__method_options){.seed = 1});
  assert_close(j.cut, 0);
  assert_close(j.fanout, 1);
  moerun_placement_destroy(p);
  place_world_destroy(&w);
}

static void no_affinity_means_chance(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  synthetic make = middle;
  make.affinity = 0;
  make.classes = 1;
  place_world_create(
      &w, &make, "4 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
  make.sample = SEED + 1;
  moerun__trace held_out = synthetic_create(&make);
  const moerun__judgement j = place_and_judge(
      &p, &w, "cd", &held_out, (moerun__method_options){.seed = 1});
  assert_true(j.cut > 0.74);
  moerun_placement_destroy(p);
  synthetic_free(&held_out);
  place_world_destroy(&w);
}

static void levels_keep_more_within_nodes(void **state) {
  (void)state;
  synthetic make = middle;
  make.experts = 48;
  make.tokens = 3000;
  double node_cut[2];
  for (int levels = 0; levels < 2; levels++) {
    place_world w;
    moerun_placement *p = NULL;
    moerun__topology *nodes = NULL;
    moerun__judgement j = {0};
    place_world_create(
        &w, &make, levels ? "4 nodes x 3 ranks" : "12 ranks",
        (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
    (void)place_and_judge(&p, &w, "cd", &w.trace,
                          (moerun__method_options){.seed = 1});
    assert_int_equal(moerun__topology_parse(&nodes, "4 nodes x 3 ranks"),
                     MOERUN_OK);
    assert_int_equal(moerun__judge(&j, p, &w.trace, nodes, 1, 1, NULL),
                     MOERUN_OK);
    node_cut[levels] = j.node_cut;
    moerun__topology_destroy(nodes);
    moerun_placement_destroy(p);
    place_world_destroy(&w);
  }
  assert_true(node_cut[1] < node_cut[0] - 0.01);
}

static void caps_that_cannot_be_met_are_reported(void **state) {
  (void)state;
  static const char *const methods[] = {"lpt", "greedy", "chain", "cd",
                                        "exact"};
  synthetic make = middle;
  make.experts = 8;
  make.tokens = 200;
  for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
    place_world w;
    moerun_placement *p = NULL;
    const moerun__method_options how = {0};
    place_world_create(
        &w, &make, "2 ranks",
        (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
    w.problem->cap[3 * 2] = 10;
    w.problem->cap[3 * 2 + 1] = 20;
    assert_int_equal(moerun__place(&p, NULL, NULL, w.problem,
                                   moerun__method_find(methods[m]), &how),
                     MOERUN_ERR_INFEASIBLE);
    assert_non_null(strstr(moerun_last_error(), "layer 3"));
    assert_null(p);
    place_world_destroy(&w);
  }
}

static double clock_now;

static double ticking_clock(void) {
  return clock_now += 1;
}

static void a_time_limit_ends_the_search(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  place_world_create(
      &w, &middle, "4 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
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

/* The same placement as without one, and the clock is asked all the same. */
static void a_clock_without_a_limit_changes_nothing(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p[2] = {NULL, NULL};
  place_world_create(
      &w, &middle, "4 ranks",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
  clock_now = 0;
  for (int i = 0; i < 2; i++) {
    const moerun__method_options how = {
        .seed = 1, .polish = 2, .clock = i == 0 ? NULL : ticking_clock};
    (void)place_and_judge(&p[i], &w, "cd", &w.trace, how);
  }
  const int32_t entries = p[0]->num_layers * p[0]->num_experts;
  assert_memory_equal(p[0]->rank_of, p[1]->rank_of,
                      (size_t)entries * sizeof *p[0]->rank_of);
  assert_true(clock_now > 10);
  moerun_placement_destroy(p[0]);
  moerun_placement_destroy(p[1]);
  place_world_destroy(&w);
}

static void failed_allocations_leave_nothing_behind(void **state) {
  (void)state;
  static const char *const methods[] = {"cd", "exact"};
  synthetic make = middle;
  make.tokens = 60;
  make.layers = 2;
  for (size_t m = 0; m < sizeof methods / sizeof *methods; m++) {
    place_world w;
    /* For cd the limit is over at once: it is memory that this is about. */
    const moerun__method_options how = {.time_limit_s = m == 0 ? 0.5 : 1e12,
                                        .clock = ticking_clock};
    make.experts = m == 0 ? 14 : 4;
    place_world_create(
        &w, &make, "2 nodes x 2 ranks",
        (moerun__problem_options){.objective = MOERUN_OBJECTIVE_WEIGHTED});
    const size_t live = moerun__alloc_live();
    for (long nth = 0;; nth++) {
      moerun_placement *p = NULL;
      moerun__alloc_fail_nth(nth);
      const moerun_status status = moerun__place(
          &p, NULL, NULL, w.problem, moerun__method_find(methods[m]), &how);
      moerun__alloc_fail_nth(-1);
      moerun_placement_destroy(p);
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

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(any_shape_is_placed_within_the_caps),
      cmocka_unit_test(seeds_decide),
      cmocka_unit_test(what_a_method_does_not_read_changes_nothing),
      cmocka_unit_test(order_and_scale_do_not_matter),
      cmocka_unit_test(planted_blocks_are_found),
      cmocka_unit_test(no_affinity_means_chance),
      cmocka_unit_test(levels_keep_more_within_nodes),
      cmocka_unit_test(caps_that_cannot_be_met_are_reported),
      cmocka_unit_test(a_time_limit_ends_the_search),
      cmocka_unit_test(a_clock_without_a_limit_changes_nothing),
      cmocka_unit_test(failed_allocations_leave_nothing_behind),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
