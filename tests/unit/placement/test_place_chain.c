/* Searches over pairs of layers, against brute force and proven optima. */
#include "placement/judge/assignment.h"
#include "placement/search/chain.h"
#include "support/draw.h"
#include "support/place_world.h"

#include <stdio.h>

enum { SEED = 47 };

/* ---- Transport ----------------------------------------------------------- */

/* Largest sum over all ways to put rows row .. rows-1 into the room left. */
static int64_t best_sum(const int64_t *gain, int32_t row, int32_t rows,
                        int32_t columns, int32_t *room) {
  if (row == rows) return 0;
  int64_t best = INT64_MIN / 2;
  for (int32_t c = 0; c < columns; c++) {
    if (room[c] == 0) continue;
    room[c]--;
    const int64_t sum =
        gain[row * columns + c] + best_sum(gain, row + 1, rows, columns, room);
    room[c]++;
    best = sum > best ? sum : best;
  }
  return best;
}

static void transport_is_optimal(void **state) {
  (void)state;
  draw from = {SEED, 0};
  for (int round = 0; round < 300; round++) {
    int64_t gain[6 * 4] = {0};
    int32_t room[4];
    int32_t used[4] = {0};
    int32_t column_of[6];
    const int32_t columns = draw_int(&from, 1, 4);
    int32_t rows = draw_int(&from, 1, 6);
    int32_t total = 0;
    for (int32_t c = 0; c < columns; c++) {
      room[c] = draw_int(&from, 0, 3);
      total += room[c];
    }
    if (rows > total) rows = total;
    for (int32_t i = 0; i < rows * columns; i++) {
      gain[i] = draw_int(&from, -3, round % 2 ? 3 : 1000); /* ties too */
    }
    assert_int_equal(moerun__transport(column_of, gain, rows, columns, room),
                     MOERUN_OK);
    int64_t sum = 0;
    for (int32_t i = 0; i < rows; i++) {
      assert_in_range(column_of[i], 0, columns - 1);
      used[column_of[i]]++;
      sum += gain[i * columns + column_of[i]];
    }
    for (int32_t c = 0; c < columns; c++) {
      assert_true(used[c] <= room[c]);
    }
    assert_int_equal(sum, best_sum(gain, 0, rows, columns, room));
  }
}

static void forbidden_columns_stay_empty(void **state) {
  (void)state;
  const int64_t no = -MOERUN_FORBIDDEN;
  const int64_t gain[] = {9, 5, no, 9, no, no, 1, 2, 8};
  const int32_t room[] = {1, 1, 1};
  int32_t column_of[3];
  assert_int_equal(moerun__transport(column_of, gain, 3, 3, room), MOERUN_OK);
  assert_memory_equal(column_of, ((int32_t[]){1, 0, 2}), sizeof column_of);
}

/* ---- Proven optima ------------------------------------------------------- */

/* Every placement of 4 experts on 2 ranks in 3 layers. */
static double brute_force(const place_world *w) {
  double best = 1e300;
  for (int32_t bits = 0; bits < 1 << 12; bits++) {
    int32_t rank_of[12];
    for (int32_t i = 0; i < 12; i++) {
      rank_of[i] = bits >> i & 1;
    }
    if (moerun__solution_check(w->problem, rank_of) != MOERUN_OK) continue;
    const double value = judged_value(w, rank_of);
    best = value < best ? value : best;
  }
  return best;
}

static double ticks;

/* A second for each look at it. */
static double tick(void) {
  return ticks++;
}

/* Rows that there was no time for have no column; with enough it is the
 * same. */
static void transports_keep_to_their_time(void **state) {
  (void)state;
  static const int64_t gain[] = {5, 9, 1, 8, 7, 2, 3, 3, 3};
  static const int32_t room[] = {1, 1, 1};
  int32_t column_of[3] = {7, 7, 7};
  int is_whole = 1;
  for (int rows = 0; rows < 4; rows++) {
    ticks = 0;
    const moerun__deadline deadline = {tick, rows};
    assert_int_equal(moerun__transport_until(column_of, &is_whole, gain, 3, 3,
                                             room, &deadline),
                     MOERUN_OK);
    assert_int_equal(is_whole, rows == 3);
    for (int i = 0; i < 3; i++) {
      assert_int_equal(column_of[i] >= 0, i < rows);
    }
  }
  assert_memory_equal(column_of, ((int32_t[]){1, 0, 2}), sizeof column_of);
}

static void exact_is_the_best_of_all(void **state) {
  (void)state;
  for (int round = 0; round < 9; round++) {
    const synthetic make = {.tokens = 400,
                            .layers = 3,
                            .experts = 4,
                            .terms = 1 + round % 2,
                            .classes = 3,
                            .affinity = 1.5,
                            .seed = (uint64_t)round,
                            .sample = SEED};
    const moerun__problem_options options = {.objective =
                                                 (moerun__objective)(round % 3),
                                             .slack = round < 5 ? 0.5 : 0.05,
                                             .node_weight = 0.3,
                                             .far_weight = 1};
    place_world w;
    moerun_placement *p = NULL;
    int32_t proven = 0;
    double bound = 0;
    const moerun__method_options how = {0};
    place_world_create(&w, &make, "2 ranks", options);
    assert_int_equal(moerun__place(&p, &proven, &bound, w.problem,
                                   moerun__method_find("exact"), &how),
                     MOERUN_OK);
    const double best = brute_force(&w);
    assert_int_equal(proven, 1);
    assert_close(bound, best);
    assert_close(judged_value(&w, p->rank_of), best);
    moerun_placement_destroy(p);
    place_world_destroy(&w);
  }
}

/* The assignment problems of one expert a rank and the chain of all splits are
 * two roads to one optimum. */
static void one_expert_a_rank_is_solved_by_matching(void **state) {
  (void)state;
  const synthetic make = {.tokens = 500,
                          .layers = 4,
                          .experts = 6,
                          .terms = 2,
                          .classes = 4,
                          .affinity = 1.5,
                          .seed = SEED,
                          .sample = SEED};
  for (int more = 0; more < 2; more++) {
    place_world w;
    moerun_placement *p = NULL;
    const char *topology = more ? "7 ranks" : "6 ranks";
    place_world_create(
        &w, &make, topology,
        (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
    const double matched =
        place_and_judge(&p, &w, "exact", &w.trace, (moerun__method_options){0})
            .cut;
    moerun_placement_destroy(p);
    place_world_destroy(&w);
    place_world_create(
        &w, &make, topology,
        (moerun__problem_options){.objective = MOERUN_OBJECTIVE_WEIGHTED,
                                  .node_weight = 1,
                                  .far_weight = 1});
    const double walked =
        place_and_judge(&p, &w, "exact", &w.trace, (moerun__method_options){0})
            .weighted;
    assert_close(matched, walked);
    moerun_placement_destroy(p);
    place_world_destroy(&w);
  }
}

static void large_problems_have_no_exact_solution(void **state) {
  (void)state;
  const synthetic make = {.tokens = 20,
                          .layers = 1,
                          .experts = 16,
                          .terms = 1,
                          .classes = 1,
                          .seed = SEED,
                          .sample = SEED};
  place_world w;
  moerun_placement *p = NULL;
  const moerun__method_options how = {0};
  place_world_create(&w, &make, "4 ranks", (moerun__problem_options){0});
  assert_int_equal(moerun__place(&p, NULL, NULL, w.problem,
                                 moerun__method_find("exact"), &how),
                   MOERUN_ERR_UNSUPPORTED);
  assert_string_equal(moerun_last_error(),
                      "placement: exact: expected at most 20000 splits of 16 "
                      "experts into 4 ranks, found more: use another method");
  assert_null(p);
  place_world_destroy(&w);
}

/* With no time at all a chain stays as it is, after a look at the clock for
 * each search. */
static void leaves_all_without_time(moerun__chain *chain) {
  const moerun__deadline passed = {tick, 0};
  const double kept = moerun__chain_kept(chain);
  ticks = 0;
  assert_int_equal(moerun__chain_forward(chain, &passed), MOERUN_OK);
  assert_int_equal(moerun__chain_relabel(chain, &passed), MOERUN_OK);
  assert_true(ticks == 2);
  assert_true(moerun__chain_kept(chain) == kept);
}

/* The search alone; the method would solve these exactly. Two experts a rank
 * and caps as tight as a packing is the hardest that there is for swaps. */
static double search_cut(const place_world *w) {
  moerun__split *split = NULL;
  moerun__chain *chain = NULL;
  moerun__deadline never = {0};
  int32_t rank_of[8 * 8];
  assert_int_equal(moerun__start_ranks(rank_of, w->problem), MOERUN_OK);
  assert_int_equal(moerun__split_of_ranks(&split, w->problem, rank_of),
                   MOERUN_OK);
  assert_int_equal(moerun__chain_create(&chain, w->problem, split), MOERUN_OK);
  leaves_all_without_time(chain);
  assert_int_equal(moerun__chain_forward(chain, &never), MOERUN_OK);
  assert_int_equal(moerun__chain_sweep(chain, &never), MOERUN_OK);
  assert_int_equal(moerun__chain_anneal(chain, 1, 200000, 0.3, &never),
                   MOERUN_OK);
  assert_int_equal(moerun__chain_resplit(chain, 1, &never), MOERUN_OK);
  memcpy(split->part_of, chain->part_of,
         sizeof(int32_t) * (size_t)chain->num_layers * 8);
  moerun__split_to_ranks(rank_of, split, 8);
  moerun__chain_destroy(chain);
  moerun__split_destroy(split);
  return judged_value(w, rank_of);
}

static void descent_is_near_the_optimum(void **state) {
  (void)state;
  double sum = 0;
  for (uint64_t round = 0; round < 20; round++) {
    const synthetic make = {.tokens = 600,
                            .layers = 8,
                            .experts = 8,
                            .terms = 2,
                            .classes = 8,
                            .affinity = 1.8,
                            .seed = round,
                            .sample = SEED};
    place_world w;
    moerun_placement *p = NULL;
    place_world_create(
        &w, &make, "4 ranks",
        (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
    const moerun__judgement best = place_and_judge(
        &p, &w, "cd", &w.trace, (moerun__method_options){.seed = 1});
    moerun_placement_destroy(p);
    const double found = search_cut(&w);
    assert_true(found >= best.cut - 1e-12);
    if (found > 1.01 * best.cut) {
      fail_msg("seed %d: cut %.6f against %.6f", (int)round, found, best.cut);
    }
    sum += found / best.cut - 1;
    place_world_destroy(&w);
  }
  assert_true(sum / 20 < 0.003);
}

/* ---- Searches ------------------------------------------------------------ */

static const synthetic middle = {.tokens = 1500,
                                 .layers = 5,
                                 .experts = 22,
                                 .terms = 3,
                                 .classes = 12,
                                 .affinity = 1.8,
                                 .seed = SEED,
                                 .sample = SEED};

static void never_passes(moerun__deadline *deadline) {
  *deadline = moerun__deadline_after(NULL, 0);
}

/* The state kept step by step is the one derived from part_of, and its worth is
 * the judge's. */
static void assert_state(const place_world *w, moerun__chain *chain) {
  const size_t gains = (size_t)chain->num_layers * (size_t)chain->num_parts *
                       (size_t)chain->num_items;
  const size_t parts = (size_t)chain->num_layers * (size_t)chain->num_parts;
  int32_t *gain = synthetic_array(gains, sizeof *gain);
  int64_t *load = synthetic_array(parts, sizeof *load);
  memcpy(gain, chain->gain, gains * sizeof *gain);
  memcpy(load, chain->part_load, parts * sizeof *load);
  const double kept = moerun__chain_kept(chain);
  moerun__chain_derive(chain);
  assert_memory_equal(gain, chain->gain, gains * sizeof *gain);
  assert_memory_equal(load, chain->part_load, parts * sizeof *load);
  assert_true(kept == moerun__chain_kept(chain));
  free(gain);
  free(load);

  const int32_t E = w->problem->num_experts;
  int32_t rank_of[5 * 22];
  int64_t total = 0;
  for (int32_t i = 0; i < (w->problem->num_layers - 1) * E * E; i++) {
    total += w->problem->follow[i];
  }
  for (int32_t i = 0; i < chain->num_layers * chain->num_items; i++) {
    const int32_t e = chain->expert_of[i];
    if (e >= 0) rank_of[i / chain->num_items * E + e] = chain->part_of[i];
  }
  assert_int_equal(moerun__solution_check(w->problem, rank_of), MOERUN_OK);
  if (chain->group_gain == NULL) {
    assert_close(judged_value(w, rank_of), 1 - kept / (double)total);
  } else {
    assert_close(judged_value(w, rank_of) * (double)total,
                 w->problem->far_weight * (double)total - kept);
  }
}

static void searches_keep_the_state_and_improve(void **state) {
  (void)state;
  moerun__deadline never;
  never_passes(&never);
  static const char *const topologies[] = {
      "2 nodes x 3 ranks", "2 nodes x 3 ranks", "3 + 2 + 1 ranks"};
  for (int grouped = 0; grouped < 3; grouped++) {
    place_world w;
    moerun__split *split = NULL;
    moerun__chain *chain = NULL;
    int32_t rank_of[5 * 22];
    place_world_create(&w, &middle, topologies[grouped],
                       (moerun__problem_options){
                           .objective = grouped ? MOERUN_OBJECTIVE_WEIGHTED
                                                : MOERUN_OBJECTIVE_CUT,
                           .node_weight = 0.25,
                           .far_weight = 1});
    assert_int_equal(moerun__start_ranks(rank_of, w.problem), MOERUN_OK);
    assert_int_equal(moerun__split_of_ranks(&split, w.problem, rank_of),
                     MOERUN_OK);
    assert_int_equal(split->num_items, 24); /* two blanks */
    assert_int_equal(moerun__chain_create(&chain, w.problem, split), MOERUN_OK);
    if (grouped) {
      assert_int_equal(moerun__chain_set_groups(chain, w.topology->node_of,
                                                w.topology->num_nodes, 0.25,
                                                0.75),
                       MOERUN_OK);
    }
    double kept = moerun__chain_kept(chain);
    assert_state(&w, chain);
    for (int search = 0; search < 5; search++) {
      moerun_status status = MOERUN_OK;
      switch (search) {
      case 0: status = moerun__chain_greedy(chain); break;
      case 1: status = moerun__chain_forward(chain, &never); break;
      case 2: status = moerun__chain_sweep(chain, &never); break;
      case 3:
        status = moerun__chain_anneal(chain, 1, 200000, 0.05, &never);
        break;
      default: status = moerun__chain_resplit(chain, 1, &never); break;
      }
      assert_int_equal(status, MOERUN_OK);
      assert_state(&w, chain);
      const double now = moerun__chain_kept(chain);
      if (search != 1) assert_true(now >= kept);
      kept = now;
    }
    moerun__chain_destroy(chain);
    moerun__split_destroy(split);
    place_world_destroy(&w);
  }
}

/* With four items a part the re-split of two parts is exact. */
static void resplit_of_two_parts_is_optimal(void **state) {
  (void)state;
  moerun__deadline never;
  never_passes(&never);
  for (uint64_t round = 0; round < 10; round++) {
    const synthetic make = {.tokens = 300,
                            .layers = 4,
                            .experts = 8,
                            .terms = 2,
                            .classes = 6,
                            .affinity = 1.5,
                            .seed = round,
                            .sample = SEED};
    place_world w;
    moerun__split *split = NULL;
    moerun__chain *chain = NULL;
    moerun_placement *p = NULL;
    int32_t rank_of[32];
    place_world_create(
        &w, &make, "2 ranks",
        (moerun__problem_options){.objective = MOERUN_OBJECTIVE_CUT});
    assert_int_equal(moerun__start_ranks(rank_of, w.problem), MOERUN_OK);
    assert_int_equal(moerun__split_of_ranks(&split, w.problem, rank_of),
                     MOERUN_OK);
    assert_int_equal(moerun__chain_create(&chain, w.problem, split), MOERUN_OK);
    assert_int_equal(moerun__chain_resplit(chain, round, &never), MOERUN_OK);
    moerun__split_to_ranks(rank_of, split, 8);
    memcpy(split->part_of, chain->part_of, sizeof rank_of);
    moerun__split_to_ranks(rank_of, split, 8);
    const moerun__judgement best =
        place_and_judge(&p, &w, "exact", &w.trace, (moerun__method_options){0});
    assert_close(judged_value(&w, rank_of), best.cut);
    moerun_placement_destroy(p);
    moerun__chain_destroy(chain);
    moerun__split_destroy(split);
    place_world_destroy(&w);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(transports_keep_to_their_time),
      cmocka_unit_test(transport_is_optimal),
      cmocka_unit_test(forbidden_columns_stay_empty),
      cmocka_unit_test(exact_is_the_best_of_all),
      cmocka_unit_test(one_expert_a_rank_is_solved_by_matching),
      cmocka_unit_test(large_problems_have_no_exact_solution),
      cmocka_unit_test(descent_is_near_the_optimum),
      cmocka_unit_test(searches_keep_the_state_and_improve),
      cmocka_unit_test(resplit_of_two_parts_is_optimal),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
