/* Problems, the judge (against a second, slower one written here)
 * and the methods that look at loads only. */
#include "placement/judge/packing.h"
#include "support/draw.h"
#include "support/place_world.h"

#include <stdio.h>

enum { SEED = 31 };

/* ---- Packing ------------------------------------------------------------- */

static void packing_keeps_counts_and_speeds(void **state) {
  (void)state;
  draw from = {SEED, 0};
  for (int round = 0; round < 200; round++) {
    int64_t load[40];
    int32_t bin_of[40];
    int32_t order[40];
    double speed[50];
    int32_t count[50] = {0};
    const int32_t n = draw_int(&from, 1, 40);
    const int32_t bins = draw_int(&from, 1, 50);
    for (int32_t i = 0; i < n; i++) {
      load[i] = draw_int(&from, 0, 9);
    }
    for (int32_t b = 0; b < bins; b++) {
      speed[b] = draw_int(&from, 1, 3);
    }
    moerun__heaviest_first(order, load, n);
    for (int32_t i = 1; i < n; i++) {
      assert_true(
          load[order[i - 1]] > load[order[i]] ||
          (load[order[i - 1]] == load[order[i]] && order[i - 1] < order[i]));
    }
    const moerun__bins even =
        moerun__even_bins(n, bins, round % 2 ? speed : NULL, NULL);
    assert_int_equal(moerun__pack(bin_of, load, n, &even), MOERUN_OK);
    for (int32_t i = 0; i < n; i++) {
      assert_in_range(bin_of[i], 0, bins - 1);
      count[bin_of[i]]++;
    }
    for (int32_t b = 0; b < bins; b++) {
      assert_in_range(count[b], n / bins, (n + bins - 1) / bins);
    }
  }
  /* 7 4 3 and 6 5 1; a bin twice as fast gets 7 5 4. */
  static const int64_t load[] = {3, 7, 4, 1, 6, 5};
  static const double speed[] = {1, 2};
  int32_t bin_of[6];
  moerun__bins two = moerun__even_bins(6, 2, NULL, NULL);
  assert_int_equal(moerun__pack(bin_of, load, 6, &two), MOERUN_OK);
  assert_memory_equal(bin_of, ((int32_t[]){0, 0, 0, 1, 1, 1}), sizeof bin_of);
  two.speed = speed;
  assert_int_equal(moerun__pack(bin_of, load, 6, &two), MOERUN_OK);
  assert_memory_equal(bin_of, ((int32_t[]){0, 1, 1, 0, 0, 1}), sizeof bin_of);
}

/* ---- Problem ------------------------------------------------------------- */

static const synthetic small = {.tokens = 300,
                                .sequence_tokens = 50,
                                .layers = 3,
                                .experts = 10,
                                .terms = 3,
                                .classes = 5,
                                .affinity = 1.8,
                                .seed = SEED,
                                .sample = SEED};

/* Some terms are missing, as capacity limits leave them. */
static void drop_terms(moerun__trace *trace, draw *from) {
  const int64_t n = trace->num_tokens * trace->num_layers * trace->num_terms;
  for (int64_t i = 0; i < n; i++) {
    if (draw_int(from, 0, 9) == 0) trace->ids[i] = -1;
  }
}

static int has_expert(const moerun__trace *trace, int64_t t, int32_t l,
                      int32_t e) {
  const int64_t row = (t * trace->num_layers + l) * trace->num_terms;
  for (int32_t k = 0; k < trace->num_terms; k++) {
    if (trace->ids[row + k] == e) return 1;
  }
  return 0;
}

static void statistics_are_counts_of_tokens(void **state) {
  (void)state;
  place_world w;
  draw from = {SEED, 0};
  place_world_create(&w, &small, "4 ranks", (moerun__problem_options){0});
  drop_terms(&w.trace, &from);
  moerun__problem_destroy(w.problem);
  const moerun__problem_options options = {.slack = 0.2};
  assert_int_equal(
      moerun__problem_create(&w.problem, &w.trace, w.topology, &options),
      MOERUN_OK);
  const moerun__problem *p = w.problem;
  const int32_t E = small.experts;
  assert_int_equal(p->most_slots, 3);
  assert_int_equal(p->fewest_slots, 2);
  for (int32_t l = 0; l < small.layers; l++) {
    for (int32_t i = 0; i < E * E; i++) {
      int64_t load = 0;
      int64_t together = 0;
      int64_t follow = 0;
      for (int64_t t = 0; t < small.tokens; t++) {
        if (!has_expert(&w.trace, t, l, i / E)) continue;
        load++;
        together += i / E != i % E && has_expert(&w.trace, t, l, i % E);
        follow += l + 1 < small.layers && has_expert(&w.trace, t, l + 1, i % E);
      }
      assert_int_equal(p->load[l * E + i / E], load);
      assert_int_equal(p->together[l * E * E + i], together);
      if (l + 1 < small.layers) {
        assert_int_equal(p->follow[l * E * E + i], follow);
      }
    }
  }
  place_world_destroy(&w);
}

static void caps_follow_mean_packing_and_speed(void **state) {
  (void)state;
  place_world w;
  place_world_create(&w, &small, "4 ranks, speed 1 1 1 0.5",
                     (moerun__problem_options){.slack = 0.5});
  for (int32_t l = 0; l < small.layers; l++) {
    const int64_t *cap = w.problem->cap + l * 4;
    const double mean = (double)(small.tokens * small.terms) / 4;
    for (int32_t r = 0; r < 4; r++) {
      const double share = 1.5 * mean * w.topology->speed[r];
      assert_true((double)cap[r] <= share + 1e-6);
      assert_true((double)cap[r] > share - 1);
    }
  }
  place_world_destroy(&w);
  /* With one expert a rank the hottest one sets every cap. */
  place_world_create(&w, &small, "10 ranks", (moerun__problem_options){0});
  for (int32_t l = 0; l < small.layers; l++) {
    int64_t hottest = 0;
    for (int32_t e = 0; e < small.experts; e++) {
      const int64_t load = w.problem->load[l * small.experts + e];
      hottest = load > hottest ? load : hottest;
    }
    for (int32_t r = 0; r < 10; r++) {
      assert_int_equal(w.problem->cap[l * 10 + r], hottest);
    }
  }
  place_world_destroy(&w);
}

static void weights_follow_the_links(void **state) {
  (void)state;
  place_world w;
  place_world_create(&w, &small,
                     "2 nodes x 2 ranks, intra 40 GB/s, inter 4 GB/s",
                     (moerun__problem_options){0});
  assert_true(fabs(w.problem->node_weight - 0.1) < 1e-12);
  assert_true(w.problem->far_weight == 1);
  place_world_destroy(&w);
  place_world_create(&w, &small, "2 nodes x 2 ranks",
                     (moerun__problem_options){.far_weight = 3});
  assert_true(w.problem->node_weight == 3);
  place_world_destroy(&w);
}

static void bad_problems_are_refused(void **state) {
  (void)state;
  place_world w;
  place_world_create(&w, &small, "2 ranks", (moerun__problem_options){0});
  moerun__problem *p = NULL;
  assert_int_equal(
      moerun__problem_create(&p, &w.trace, w.topology,
                             &(moerun__problem_options){.slack = NAN}),
      MOERUN_ERR_INVALID);
  assert_string_equal(moerun_last_error(),
                      "placement: slack: expected 0 to 1000000, found nan");
  assert_int_equal(
      moerun__problem_create(&p, &w.trace, w.topology,
                             &(moerun__problem_options){.node_weight = 2}),
      MOERUN_ERR_INVALID);
  assert_string_equal(moerun_last_error(),
                      "placement: weights of distances: expected no more "
                      "within a node than between nodes, found 2 and 1");
  w.trace.num_tokens = 0;
  assert_int_equal(moerun__problem_create(&p, &w.trace, w.topology,
                                          &(moerun__problem_options){0}),
                   MOERUN_ERR_INVALID);
  assert_null(p);
  place_world_destroy(&w);
}

/* ---- Judge --------------------------------------------------------------- */

/* Every expert on one to three ranks. */
static moerun_placement *random_placement(draw *from, int32_t L, int32_t E,
                                          int32_t R, int most) {
  int32_t *offset = synthetic_array((size_t)(L * E) + 1, sizeof *offset);
  int32_t *rank_of = synthetic_array((size_t)(L * E * R), sizeof *rank_of);
  moerun_placement *placement = NULL;
  int32_t n = 0;
  for (int32_t i = 0; i < L * E; i++) {
    const int32_t first = draw_int(from, 0, R - 1);
    const int32_t count = draw_int(from, 1, most < R ? most : R);
    for (int32_t r = 0; r < R; r++) {
      if ((r - first + R) % R < count) rank_of[n++] = r;
    }
    offset[i + 1] = n;
  }
  assert_int_equal(
      moerun__placement_create(&placement, L, E, R, offset, rank_of, "random"),
      MOERUN_OK);
  free(offset);
  free(rank_of);
  return placement;
}

typedef struct counts {
  double ranks, remote, returned, nodes, pairs, cut, node_cut, visits;
} counts;

static void terms_on_ranks(int32_t *rank_of, const place_world *w,
                           const moerun_placement *p, int64_t t, int32_t l,
                           int32_t home) {
  const int32_t K = w->trace.num_terms;
  int32_t ids[8] = {0};
  for (int32_t k = 0; k < K; k++) {
    ids[k] = w->trace.ids[(t * w->trace.num_layers + l) * K + k];
  }
  moerun__placement_choose(rank_of, p, l, home, ids, K);
  for (int32_t k = 0; k < K; k++) {
    if (rank_of[k] >= 0) rank_of[k] = p->rank_of[rank_of[k]];
  }
}

static void count_visit(counts *c, const place_world *w,
                        const moerun_placement *p, int64_t t, int32_t l,
                        int32_t home) {
  const int32_t K = w->trace.num_terms;
  const moerun__topology *topology = w->topology;
  int32_t now[8] = {0};
  int32_t next[8] = {0};
  terms_on_ranks(now, w, p, t, l, home);
  c->visits++;
  for (int32_t r = 0; r < p->num_ranks; r++) {
    int32_t here = 0;
    for (int32_t k = 0; k < K; k++) {
      here += now[k] == r;
    }
    c->ranks += here > 0;
    c->remote += here > 0 && r != home;
    c->returned += r != home ? here : 0;
  }
  for (int32_t n = 0; n < topology->num_nodes; n++) {
    int32_t here = 0;
    for (int32_t k = 0; k < K; k++) {
      here += now[k] >= 0 && topology->node_of[now[k]] == n;
    }
    c->nodes += here > 0;
  }
  if (l + 1 == p->num_layers) return;
  terms_on_ranks(next, w, p, t, l + 1, home);
  for (int32_t i = 0; i < K * K; i++) {
    const int32_t a = now[i / K];
    const int32_t b = next[i % K];
    if (a < 0 || b < 0) continue;
    c->pairs++;
    c->cut += a != b;
    c->node_cut += topology->node_of[a] != topology->node_of[b];
  }
}

static void assert_judged(const moerun__judgement *j, const counts *c) {
  assert_close(j->fanout, c->ranks / c->visits);
  assert_close(j->remote, c->remote / c->visits);
  assert_close(j->returned, c->returned / c->visits);
  assert_close(j->node_fanout, c->nodes / c->visits);
  assert_close(j->cut, c->cut / c->pairs);
  assert_close(j->node_cut, c->node_cut / c->pairs);
  assert_close(j->weighted,
               (0.5 * (c->cut - c->node_cut) + 2 * c->node_cut) / c->pairs);
}

static void compare_judges(const char *topology) {
  place_world w;
  draw from = {SEED, 7};
  place_world_create(&w, &small, topology, (moerun__problem_options){0});
  drop_terms(&w.trace, &from);
  int32_t homes[6];
  for (int round = 0; round < 6; round++) {
    moerun_placement *p =
        random_placement(&from, small.layers, small.experts, 6, 1 + round % 3);
    moerun__judgement j;
    counts all = {0};
    counts given = {0};
    for (int s = 0; s < 6; s++) {
      homes[s] = draw_int(&from, 0, 5);
    }
    for (int64_t i = 0; i < small.tokens * small.layers; i++) {
      const int64_t t = i / small.layers;
      const int32_t l = (int32_t)(i % small.layers);
      for (int32_t home = 0; home < 6; home++) {
        count_visit(&all, &w, p, t, l, home);
      }
      count_visit(&given, &w, p, t, l, homes[t / small.sequence_tokens]);
    }
    assert_int_equal(moerun__judge(&j, p, &w.trace, w.topology, 0.5, 2, NULL),
                     MOERUN_OK);
    assert_judged(&j, &all);
    assert_int_equal(j.rows_out, 0);
    assert_int_equal(moerun__judge(&j, p, &w.trace, w.topology, 0.5, 2, homes),
                     MOERUN_OK);
    assert_judged(&j, &given);
    assert_int_equal(j.rows_out, (int64_t)given.remote);
    assert_int_equal(j.rows_back, (int64_t)given.returned);
    moerun_placement_destroy(p);
  }
  place_world_destroy(&w);
}

static void the_judge_agrees_with_a_second_one(void **state) {
  (void)state;
  compare_judges("3 nodes x 2 ranks");
  compare_judges("3 + 1 + 2 ranks");
}

/* 2 ranks, 2 layers, 4 experts, 2 tokens with K = 2; experts 0 and 1 are on
 * rank 0. Token 0: {0, 1} then {0, 2}; token 1: {0, 2} then {2, 3}. */
static void a_judgement_by_hand(void **state) {
  (void)state;
  int16_t ids[] = {0, 1, 0, 2, 0, 2, 2, 3};
  int64_t offset[] = {0, 1, 2};
  static char model[] = "";
  const moerun__trace trace = {.model = model,
                               .num_tokens = 2,
                               .num_layers = 2,
                               .num_experts = 4,
                               .num_terms = 2,
                               .ids = ids,
                               .num_sequences = 2,
                               .sequence_offset = offset};
  moerun__topology *topology = NULL;
  moerun_placement *p = NULL;
  moerun__judgement j;
  assert_int_equal(moerun__topology_parse(&topology, "2 ranks, speed 3 1"),
                   MOERUN_OK);
  assert_int_equal(moerun_placement_create_block(&p, 2, 4, 2), MOERUN_OK);
  assert_int_equal(moerun__judge(&j, p, &trace, topology, 1, 1, NULL),
                   MOERUN_OK);
  assert_close(j.fanout, 6.0 / 4);
  assert_close(j.remote, 3.0 / 4);
  assert_close(j.returned, 1);
  assert_close(j.node_fanout, 1);
  assert_close(j.cut, 4.0 / 8); /* links 0->0: 2, 0->1: 4, 1->1: 2 */
  assert_close(j.node_cut, 0);
  assert_close(j.tail, 4.0 * 4 / 8);
  /* Loads (3, 1) and (1, 3); speeds 1.5 and 0.5. */
  assert_close(j.load, (1 + 3) / 2.0);
  assert_close(j.worst_load, 3);
  assert_int_equal(
      moerun__judge(&j, p, &trace, topology, 1, 1, (const int32_t[]){0, 2}),
      MOERUN_ERR_INVALID);
  assert_string_equal(
      moerun_last_error(),
      "placement: home of sequence 1: expected 0 to 1, found 2");
  moerun_placement_destroy(p);
  assert_int_equal(moerun_placement_create_block(&p, 2, 4, 3), MOERUN_OK);
  assert_int_equal(moerun__judge(&j, p, &trace, topology, 1, 1, NULL),
                   MOERUN_ERR_SHAPE);
  moerun_placement_destroy(p);
  moerun__topology_destroy(topology);
}

/* ---- Methods ------------------------------------------------------------- */

static void simple_methods_place(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  const synthetic iid = {.tokens = 4000,
                         .layers = 4,
                         .experts = 16,
                         .terms = 2,
                         .classes = 1,
                         .seed = SEED,
                         .sample = SEED};
  place_world_create(&w, &iid, "4 ranks", (moerun__problem_options){0});
  moerun__judgement j = place_and_judge(&p, &w, "contiguous", &w.trace,
                                        (moerun__method_options){0});
  assert_string_equal(p->method, "contiguous");
  for (int32_t e = 0; e < 16; e++) {
    assert_int_equal(p->rank_of[e], e / 4);
  }
  moerun_placement_destroy(p);
  const double uneven = j.load;
  j = place_and_judge(&p, &w, "lpt", &w.trace, (moerun__method_options){0});
  assert_true(j.load < uneven - 0.05 && j.load < 1.1);
  assert_int_equal(moerun__solution_check(w.problem, p->rank_of), MOERUN_OK);
  moerun_placement_destroy(p);
  /* Without affinity chance is all there is: cut 1 - 1/R. */
  j = place_and_judge(&p, &w, "random", &w.trace,
                      (moerun__method_options){.seed = 5});
  assert_true(fabs(j.cut - 0.75) < 0.03);
  moerun_placement *again = NULL;
  (void)place_and_judge(&again, &w, "random", &w.trace,
                        (moerun__method_options){.seed = 5});
  assert_memory_equal(p->rank_of, again->rank_of, 64 * sizeof(int32_t));
  moerun_placement_destroy(again);
  (void)place_and_judge(&again, &w, "random", &w.trace,
                        (moerun__method_options){.seed = 6});
  assert_memory_not_equal(p->rank_of, again->rank_of, 64 * sizeof(int32_t));
  moerun_placement_destroy(again);
  moerun_placement_destroy(p);
  assert_null(moerun__method_find("none"));
  place_world_destroy(&w);
}

static void broken_solutions_are_named(void **state) {
  (void)state;
  place_world w;
  int32_t rank_of[30];
  place_world_create(&w, &small, "5 ranks", (moerun__problem_options){0});
  moerun__solution solution = {.rank_of = rank_of};
  const moerun__method_options options = {0};
  assert_int_equal(
      moerun__method_find("lpt")->solve(&solution, w.problem, &options),
      MOERUN_OK);
  assert_int_equal(moerun__solution_check(w.problem, rank_of), MOERUN_OK);
  const int32_t before = rank_of[12];
  rank_of[12] = (before + 1) % 5;
  assert_int_equal(moerun__solution_check(w.problem, rank_of),
                   MOERUN_ERR_INFEASIBLE);
  assert_non_null(strstr(moerun_last_error(), "layer 1, rank "));
  assert_non_null(strstr(moerun_last_error(), "expected 2 to 2 experts"));
  rank_of[12] = 5;
  assert_int_equal(moerun__solution_check(w.problem, rank_of),
                   MOERUN_ERR_INFEASIBLE);
  assert_string_equal(moerun_last_error(),
                      "placement: layer 1, expert 2: expected a rank from 0 to "
                      "4, found 5");
  rank_of[12] = before;
  w.problem->cap[2 * 5 + 3] = 7;
  assert_int_equal(moerun__solution_check(w.problem, rank_of),
                   MOERUN_ERR_INFEASIBLE);
  assert_non_null(strstr(moerun_last_error(),
                         "layer 2, rank 3: expected a load of at most 7, "));
  place_world_destroy(&w);
}

static void failed_allocations_leave_nothing_behind(void **state) {
  (void)state;
  moerun__trace trace = synthetic_create(&small);
  const size_t live = moerun__alloc_live();
  for (long nth = 0;; nth++) {
    moerun__topology *topology = NULL;
    moerun__problem *problem = NULL;
    moerun_placement *p = NULL;
    moerun__judgement j;
    const moerun__problem_options options = {0};
    const moerun__method_options how = {0};
    moerun__alloc_fail_nth(nth);
    moerun_status status = moerun__topology_parse(&topology, "4 ranks");
    if (status == MOERUN_OK) {
      status = moerun__problem_create(&problem, &trace, topology, &options);
    }
    if (status == MOERUN_OK) {
      status = moerun__place(&p, NULL, NULL, problem,
                             moerun__method_find("lpt"), &how);
    }
    if (status == MOERUN_OK) {
      status = moerun__judge(&j, p, &trace, topology, 1, 1, NULL);
    }
    moerun__alloc_fail_nth(-1);
    moerun_placement_destroy(p);
    moerun__problem_destroy(problem);
    moerun__topology_destroy(topology);
    assert_int_equal(moerun__alloc_live(), live);
    if (status == MOERUN_OK) {
      assert_true(nth > 20);
      break;
    }
    assert_int_equal(status, MOERUN_ERR_NOMEM);
  }
  synthetic_free(&trace);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(packing_keeps_counts_and_speeds),
      cmocka_unit_test(statistics_are_counts_of_tokens),
      cmocka_unit_test(caps_follow_mean_packing_and_speed),
      cmocka_unit_test(weights_follow_the_links),
      cmocka_unit_test(bad_problems_are_refused),
      cmocka_unit_test(the_judge_agrees_with_a_second_one),
      cmocka_unit_test(a_judgement_by_hand),
      cmocka_unit_test(simple_methods_place),
      cmocka_unit_test(broken_solutions_are_named),
      cmocka_unit_test(failed_allocations_leave_nothing_behind),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
