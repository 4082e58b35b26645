/* Ranks of different speeds: loads follow them within the caps, slots where
 * there is room for it; small problems against all placements there are; and
 * equal speeds are no speeds. */
#include "placement/bound/bound.h"
#include "placement/search/replicas.h"
#include "support/draw.h"
#include "support/place_world.h"

#include <stdio.h>

enum { SEED = 97, ROOM = 4 };

static const synthetic middle = {.tokens = 1500,
                                 .layers = 3,
                                 .experts = 24,
                                 .terms = 3,
                                 .classes = 12,
                                 .affinity = 1.8,
                                 .seed = SEED,
                                 .sample = SEED};

/* ---- All placements ------------------------------------------------------ */

/* Caps and counts of one layer with expert e on rank code / R^e mod R. */
static int is_allowed(const moerun__problem *p, int32_t layer, int32_t code,
                      int32_t *rank_of) {
  int64_t load[8] = {0};
  int32_t count[8] = {0};
  for (int32_t e = 0; e < p->num_experts; e++, code /= p->num_ranks) {
    rank_of[e] = code % p->num_ranks;
    load[rank_of[e]] += p->load[layer * p->num_experts + e];
    count[rank_of[e]]++;
  }
  for (int32_t r = 0; r < p->num_ranks; r++) {
    if (count[r] < p->fewest_slots || count[r] > p->most_slots) return 0;
    if (load[r] > p->cap[layer * p->num_ranks + r]) return 0;
  }
  return 1;
}

static int32_t codes_of(const moerun__problem *p) {
  int32_t codes = 1;
  for (int32_t e = 0; e < p->num_experts; e++) {
    codes *= p->num_ranks;
  }
  return codes;
}

/* The least value over all placements of one or two layers within the caps. */
static double least_of_all(const place_world *w) {
  const moerun__problem *p = w->problem;
  const int32_t codes = codes_of(p);
  int32_t rank_of[16];
  double least = HUGE_VAL;
  for (int32_t a = 0; a < codes; a++) {
    if (!is_allowed(p, 0, a, rank_of)) continue;
    for (int32_t b = 0; b < (p->num_layers > 1 ? codes : 1); b++) {
      if (p->num_layers > 1 && !is_allowed(p, 1, b, rank_of + p->num_experts)) {
        continue;
      }
      least = fmin(least, judged_value(w, rank_of));
    }
  }
  return least;
}

static void small_problems_are_solved_at_best(void **state) {
  (void)state;
  static const char *const topologies[] = {
      "3 ranks, speed 1 1 0.25", "2 ranks, speed 1 0.3", "3 ranks, speed 2 1 1",
      "2 ranks, speed 1 0.05"};
  draw from = {SEED, 0};
  for (int round = 0; round < 16; round++) {
    static const char *const methods[] = {"exact", "cd"};
    const int is_cut = round % 2;
    synthetic make = middle;
    make.tokens = 30;
    make.layers = is_cut ? 2 : 1;
    make.experts = is_cut ? 4 : 6;
    make.terms = 2;
    make.seed = (uint64_t)draw_int(&from, 0, 1 << 20);
    place_world w;
    place_world_create(
        &w, &make, topologies[round / 2 % 4],
        (moerun__problem_options){.objective = is_cut ? MOERUN_OBJECTIVE_CUT
                                                      : MOERUN_OBJECTIVE_FANOUT,
                                  .spare_slots = draw_int(&from, 0, 3)});
    const double least = least_of_all(&w);
    for (int m = 0; m < 2; m++) {
      moerun_placement *p = NULL;
      const moerun__judgement j = place_and_judge(
          &p, &w, methods[m], &w.trace, (moerun__method_options){.seed = 1});
      assert_close(moerun__judged(w.problem, &j), least);
      assert_int_equal(moerun__solution_check(w.problem, p->rank_of),
                       MOERUN_OK);
      moerun_placement_destroy(p);
    }
    double bound = -1;
    const moerun__bound_options how = {.kind = MOERUN_BOUND_SDP,
                                       .most_steps = 150};
    assert_int_equal(moerun__bound(&bound, w.problem, &how), MOERUN_OK);
    assert_true(bound <= least + 1e-9);
    place_world_destroy(&w);
  }
}

/* ---- Loads and counts ---------------------------------------------------- */

typedef struct sums {
  int64_t load[8];
  int32_t count[8];
  int64_t total;
} sums;

static sums sum_layer(const moerun__problem *p, const moerun_placement *q,
                      int32_t layer) {
  sums s = {{0}, {0}, 0};
  for (int32_t e = 0; e < p->num_experts; e++) {
    const int32_t n = layer * p->num_experts + e;
    s.load[q->rank_of[n]] += p->load[n];
    s.count[q->rank_of[n]]++;
    s.total += p->load[n];
  }
  return s;
}

/* With room a slow rank has its share by speed, nearly to the slack; without,
 * as many experts as the others, and the fast ones share what that leaves. */
static void loads_follow_speeds(void **state) {
  (void)state;
  static const char *const methods[] = {"lpt", "greedy", "chain", "cd"};
  static const char *const topologies[] = {
      "4 ranks, speed 1 1 1 0.25", "2 nodes x 2 ranks, speed 1 1 1 0.25",
      "5 ranks, speed 1 1 1 1 0.3", "6 ranks, speed 1 1 1 0.5 1 0.2"};
  for (int c = 0; c < 4 * 4 * 4; c++) {
    const char *method = methods[c % 4];
    const moerun__objective objective = (moerun__objective)(c / 16);
    if (objective == MOERUN_OBJECTIVE_TAIL && c % 4 != 3) continue;
    double load[2];
    int32_t fewest[2] = {24, 24};
    for (int has_room = 0; has_room < 2; has_room++) {
      place_world w;
      moerun_placement *p = NULL;
      place_world_create(
          &w, &middle, topologies[c / 4 % 4],
          (moerun__problem_options){.objective = objective,
                                    .node_weight = 0.5,
                                    .far_weight = 1,
                                    .spare_slots = has_room ? ROOM : 0});
      const moerun__problem *problem = w.problem;
      const int32_t R = problem->num_ranks;
      const moerun__judgement j = place_and_judge(
          &p, &w, method, &w.trace, (moerun__method_options){.seed = 3});
      assert_int_equal(moerun__solution_check(problem, p->rank_of), MOERUN_OK);
      load[has_room] = j.load;
      for (int32_t l = 0; l < 3; l++) {
        const sums s = sum_layer(problem, p, l);
        for (int32_t r = 0; r < R; r++) {
          assert_in_range(s.count[r], has_room ? 1 : 24 / R,
                          (24 + R - 1) / R + (has_room ? ROOM : 0));
          if (s.count[r] < fewest[has_room]) fewest[has_room] = s.count[r];
          const double share = (double)s.total * w.topology->speed[r] / R;
          if (has_room || w.topology->speed[r] > 1) {
            assert_true((double)s.load[r] <= 1.25 * share);
          }
        }
      }
      moerun_placement_destroy(p);
      place_world_destroy(&w);
    }
    assert_true(load[1] <= 1.25);
    /* Within the slack either is as good. */
    assert_true(load[1] < fmax(load[0], 1.05));
    assert_true(fewest[1] < fewest[0]);
  }
}

/* Nodes, speeds, room and objectives as they come; moerun__place checks counts
 * and caps. */
static void any_speeds_are_placed_within_the_caps(void **state) {
  (void)state;
  static const char *const methods[] = {"lpt", "greedy", "chain", "cd"};
  draw from = {SEED, 7};
  for (int round = 0; round < 60; round++) {
    const int32_t nodes = draw_int(&from, 1, 3);
    const int32_t per_node = draw_int(&from, 1, 4);
    char line[200];
    int at = snprintf(line, sizeof line, "%d nodes x %d ranks, speed", nodes,
                      per_node);
    for (int32_t r = 0; r < nodes * per_node; r++) {
      at += snprintf(line + at, sizeof line - (size_t)at, " %g",
                     0.05 * draw_int(&from, 1, 20));
    }
    synthetic make = middle;
    make.tokens = 150;
    make.experts = draw_int(&from, 2, 20);
    make.terms = draw_int(&from, 1, 2);
    make.seed = (uint64_t)draw_int(&from, 0, 1 << 20);
    const int32_t spare = draw_int(&from, 0, 3);
    const int32_t copies = draw_int(&from, 0, 1) * spare;
    const int m = draw_int(&from, 0, 3);
    const moerun__problem_options options = {
        .objective = (moerun__objective)draw_int(&from, 0, 2),
        .node_weight = 0.5,
        .far_weight = 1,
        .slack = draw_int(&from, 0, 1) ? 1e-6 : 0.2,
        .spare_slots = spare};
    place_world w;
    moerun_placement *p = NULL;
    place_world_create(&w, &make, line, options);
    const moerun__judgement j = place_and_judge(
        &p, &w, methods[m], &w.trace,
        (moerun__method_options){.seed = 3, .spare_slots = copies});
    assert_true(j.load >= 1 - 1e-9);
    moerun_placement_destroy(p);
    place_world_destroy(&w);
  }
}

/* Copies and uneven counts share the spare slots, within the caps. */
static void replicas_leave_slow_ranks_alone(void **state) {
  (void)state;
  place_world w;
  moerun_placement *p = NULL;
  place_world_create(
      &w, &middle, "4 ranks, speed 1 1 1 0.25",
      (moerun__problem_options){.objective = MOERUN_OBJECTIVE_FANOUT,
                                .spare_slots = ROOM});
  const moerun__judgement j =
      place_and_judge(&p, &w, "cd", &w.trace,
                      (moerun__method_options){.seed = 3, .spare_slots = ROOM});
  assert_true(p->replica_offset[3 * 24] > 3 * 24);
  for (int32_t n = 0; n < 3 * 4; n++) {
    assert_in_range(p->slot_count[n], 1, 6 + ROOM);
  }
  assert_int_equal(moerun__replicas_check(w.problem, p, ROOM), MOERUN_OK);
  assert_true(j.load <= 1.25);
  assert_true(j.worst_row_load < 1.5);
  moerun_placement_destroy(p);
  place_world_destroy(&w);
}

/* Of any size, and with room: the same as none. */
static void equal_speeds_are_no_speeds(void **state) {
  (void)state;
  static const char *const topologies[] = {"4 ranks",
                                           "4 ranks, speed 0.3 0.3 0.3 0.3"};
  for (int32_t spare = 0; spare < 3; spare += 2) {
    place_world w[2];
    moerun_placement *p[2] = {NULL};
    for (int i = 0; i < 2; i++) {
      place_world_create(
          &w[i], &middle, topologies[i],
          (moerun__problem_options){.objective = MOERUN_OBJECTIVE_FANOUT,
                                    .spare_slots = i * ROOM});
      const moerun__judgement j = place_and_judge(
          &p[i], &w[i], "cd", &w[i].trace,
          (moerun__method_options){.seed = 3, .spare_slots = spare});
      assert_close(j.load, j.row_load);
      assert_close(j.worst_load, j.worst_row_load);
    }
    assert_memory_equal(w[0].problem->cap, w[1].problem->cap,
                        3 * 4 * sizeof(int64_t));
    assert_memory_equal(p[0]->replica_offset, p[1]->replica_offset,
                        (3 * 24 + 1) * sizeof(int32_t));
    assert_memory_equal(p[0]->rank_of, p[1]->rank_of,
                        (size_t)p[0]->replica_offset[3 * 24] * sizeof(int32_t));
    for (int i = 0; i < 2; i++) {
      moerun_placement_destroy(p[i]);
      place_world_destroy(&w[i]);
    }
  }
}

/* Six rows on the fast rank and two on the slow one, four to one: 6 / 1.6 of a
 * mean of 4 in time, 6 of 4 in rows. */
static void loads_are_judged_in_time_and_in_rows(void **state) {
  (void)state;
  synthetic make = middle;
  make.tokens = 8;
  make.layers = 1;
  make.experts = 2;
  make.terms = 1;
  place_world w;
  moerun_placement *p = NULL;
  moerun__judgement j;
  place_world_create(&w, &make, "2 ranks, speed 1 0.25",
                     (moerun__problem_options){0});
  for (int t = 0; t < 8; t++) {
    w.trace.ids[t] = t % 4 == 0 ? 1 : 0;
  }
  assert_int_equal(moerun_placement_create_block(&p, 1, 2, 2), MOERUN_OK);
  assert_int_equal(moerun__judge(&j, p, &w.trace, w.topology, 1, 1, NULL),
                   MOERUN_OK);
  assert_close(j.row_load, 1.5);
  assert_close(j.load, 2 / 0.4 / 4);
  moerun_placement_destroy(p);
  place_world_destroy(&w);
}

static void methods_without_speeds_are_refused(void **state) {
  (void)state;
  place_world w;
  place_world_create(&w, &middle, "4 ranks, speed 1 1 1 0.25",
                     (moerun__problem_options){0});
  static const char *const methods[] = {"contiguous", "random", "exflow",
                                        "topo"};
  for (int m = 0; m < 4; m++) {
    moerun_placement *p = NULL;
    char line[200];
    const moerun__method_options how = {.seed = 1};
    (void)snprintf(line, sizeof line,
                   "placement: method %s does not look at speeds, found ranks "
                   "that differ in speed",
                   methods[m]);
    assert_int_equal(moerun__place(&p, NULL, NULL, w.problem,
                                   moerun__method_find(methods[m]), &how),
                     MOERUN_ERR_UNSUPPORTED);
    assert_null(p);
    assert_string_equal(moerun_last_error(), line);
  }
  place_world_destroy(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(small_problems_are_solved_at_best),
      cmocka_unit_test(loads_follow_speeds),
      cmocka_unit_test(any_speeds_are_placed_within_the_caps),
      cmocka_unit_test(replicas_leave_slow_ranks_alone),
      cmocka_unit_test(equal_speeds_are_no_speeds),
      cmocka_unit_test(loads_are_judged_in_time_and_in_rows),
      cmocka_unit_test(methods_without_speeds_are_refused),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
