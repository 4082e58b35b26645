/* Replanning: it finds what repays and leaves what does not, layer by layer;
 * its figures are those of the trace; parts get the ranks that serve best. */
#include "placement/methods/replan.h"
#include "support/draw.h"
#include "support/place_world.h"

#include <stdio.h>

enum { SEED = 71, LAYERS = 3, EXPERTS = 12, RANKS = 3, TERMS = 2 };

static const int64_t cheap[LAYERS] = {1, 1, 1};

static const synthetic model = {.tokens = 900,
                                .sequence_tokens = 300,
                                .layers = LAYERS,
                                .experts = EXPERTS,
                                .terms = TERMS,
                                .classes = 9,
                                .affinity = 3,
                                .seed = SEED,
                                .sample = SEED};

static int32_t homes[RANKS] = {0, 1, 2};

/* Three sequences, one at home on each rank. */
static moerun__trace make_trace(uint64_t sample) {
  synthetic make = model;
  make.sample = sample;
  moerun__trace trace = synthetic_create(&make);
  trace.home = homes;
  trace.num_ranks = RANKS;
  return trace;
}

static moerun_placement *make_blocks(void) {
  moerun_placement *p = NULL;
  assert_int_equal(moerun_placement_create_block(&p, LAYERS, EXPERTS, RANKS),
                   MOERUN_OK);
  return p;
}

/* Blocks, and one expert of a layer on the last rank too; in the middle layer
 * if `everywhere`. */
static moerun_placement *make_replicas(int everywhere) {
  moerun_placement *p = NULL;
  int32_t offset[LAYERS * EXPERTS + 1];
  int32_t rank_of[2 * LAYERS * EXPERTS];
  int32_t next = 0;
  for (int32_t n = 0; n < LAYERS * EXPERTS; n++) {
    offset[n] = next;
    rank_of[next++] = n % EXPERTS * RANKS / EXPERTS;
    if (n % EXPERTS != 3 || (n / EXPERTS == 1 && !everywhere)) continue;
    rank_of[next++] = RANKS - 1;
  }
  offset[LAYERS * EXPERTS] = next;
  assert_int_equal(moerun__placement_create(&p, LAYERS, EXPERTS, RANKS, offset,
                                            rank_of, "given"),
                   MOERUN_OK);
  return p;
}

static moerun__replan_costs make_costs(const int64_t *expert_bytes,
                                       double horizon) {
  return (moerun__replan_costs){.copy_bytes = 100,
                                .result_bytes = 10,
                                .expert_bytes = expert_bytes,
                                .horizon = horizon};
}

/* Replicas of one layer that `to` has and `from` has not. */
static int64_t lacking(const moerun_placement *from, const moerun_placement *to,
                       int32_t layer) {
  int64_t count = 0;
  for (int32_t n = layer * EXPERTS; n < (layer + 1) * EXPERTS; n++) {
    for (int32_t i = to->replica_offset[n]; i < to->replica_offset[n + 1];
         i++) {
      int found = 0;
      for (int32_t j = from->replica_offset[n]; j < from->replica_offset[n + 1];
           j++) {
        found |= from->rank_of[j] == to->rank_of[i];
      }
      count += !found;
    }
  }
  return count;
}

static void figures_are_those_of_the_trace(void **state) {
  (void)state;
  moerun__trace train = make_trace(1);
  moerun__trace judge = make_trace(2);
  moerun_placement *now = make_blocks();
  static const int64_t weights[LAYERS] = {300, 200, 100};
  const moerun__replan_costs costs = make_costs(weights, 2.5);
  moerun__replan_verdict v;
  int64_t before[LAYERS];
  int64_t after[LAYERS];
  int64_t moved = 0;
  int64_t bytes = 0;
  double saved = 0;
  moerun__judgement j;
  moerun__topology *topology = NULL;
  assert_int_equal(moerun__replan(&v, now, &train, &judge, &costs), MOERUN_OK);
  assert_non_null(v.placement);
  assert_int_equal(moerun__placement_check(v.placement), MOERUN_OK);
  assert_int_equal(moerun__replan_bytes(before, now, &judge, &costs),
                   MOERUN_OK);
  assert_int_equal(moerun__replan_bytes(after, v.placement, &judge, &costs),
                   MOERUN_OK);
  for (int32_t l = 0; l < LAYERS; l++) {
    moved += lacking(now, v.placement, l);
    bytes += lacking(now, v.placement, l) * weights[l];
    saved += 2.5 * (double)(before[l] - after[l]);
  }
  assert_int_equal(v.experts_moved, moved);
  assert_int_equal(v.bytes_moved, bytes);
  assert_true(fabs((double)v.bytes_saved - saved) <= LAYERS);
  assert_true(v.bytes_saved > v.bytes_moved);
  /* The layers' bytes add up to what the judgement of all layers says. */
  assert_int_equal(moerun__topology_parse(&topology, "3 ranks"), MOERUN_OK);
  assert_int_equal(moerun__judge(&j, now, &judge, topology, 1, 1, judge.home),
                   MOERUN_OK);
  assert_int_equal(before[0] + before[1] + before[2],
                   100 * j.rows_out + 10 * j.rows_back);
  moerun__topology_destroy(topology);
  moerun_placement_destroy(v.placement);
  moerun_placement_destroy(now);
  synthetic_free(&train);
  synthetic_free(&judge);
}

static void what_does_not_repay_stays(void **state) {
  (void)state;
  moerun__trace train = make_trace(1);
  moerun__trace judge = make_trace(2);
  moerun_placement *now = make_blocks();
  moerun__replan_verdict v;
  int64_t before[LAYERS];
  moerun__replan_costs costs = make_costs(cheap, 1);
  assert_int_equal(moerun__replan_bytes(before, now, &judge, &costs),
                   MOERUN_OK);
  /* More than all rows together, and more than a part of them can save. */
  for (int64_t share = 1; share <= 4; share *= 4) {
    const int64_t dear[LAYERS] = {before[0] / share, before[1] / share,
                                  before[2] / share};
    costs.expert_bytes = dear;
    assert_int_equal(moerun__replan(&v, now, &train, &judge, &costs),
                     MOERUN_OK);
    assert_null(v.placement);
    assert_int_equal(v.experts_moved, 0);
    assert_int_equal(v.bytes_saved, 0);
    costs.horizon = 1000; /* the same for longer does repay */
    assert_int_equal(moerun__replan(&v, now, &train, &judge, &costs),
                     MOERUN_OK);
    assert_non_null(v.placement);
    moerun_placement_destroy(v.placement);
    costs.horizon = 1;
  }
  moerun_placement_destroy(now);
  synthetic_free(&train);
  synthetic_free(&judge);
}

static void layers_are_decided_one_by_one(void **state) {
  (void)state;
  moerun__trace train = make_trace(1);
  moerun__trace judge = make_trace(2);
  moerun_placement *now = make_blocks();
  static const int64_t weights[LAYERS] = {INT64_C(1) << 40, 1,
                                          INT64_C(1) << 40};
  const moerun__replan_costs costs = make_costs(weights, 1);
  moerun__replan_verdict v;
  assert_int_equal(moerun__replan(&v, now, &train, &judge, &costs), MOERUN_OK);
  assert_non_null(v.placement);
  assert_int_equal(lacking(now, v.placement, 0), 0);
  assert_true(lacking(now, v.placement, 1) > 0);
  assert_int_equal(lacking(now, v.placement, 2), 0);
  moerun_placement_destroy(v.placement);
  moerun_placement_destroy(now);
  synthetic_free(&train);
  synthetic_free(&judge);
}

/* No other naming of the parts found would have been worth more. Replicas keep
 * swaps from starting at what is there, and moves cost too little for others;
 * nothing new has replicas, because there are no spare slots for them. */
static void parts_are_named_at_best(void **state) {
  (void)state;
  static const int32_t names[6][RANKS] = {{0, 1, 2}, {0, 2, 1}, {1, 0, 2},
                                          {1, 2, 0}, {2, 0, 1}, {2, 1, 0}};
  moerun__trace trace = make_trace(1);
  moerun_placement *now = make_replicas(1);
  static const int64_t weights[LAYERS] = {20, 10, 1};
  const moerun__replan_costs costs = make_costs(weights, 3);
  moerun__replan_verdict v;
  assert_int_equal(moerun__replan(&v, now, &trace, &trace, &costs), MOERUN_OK);
  assert_non_null(v.placement);
  int32_t changed = 0;
  int64_t best[LAYERS];
  int64_t found[LAYERS];
  for (int i = 0; i < 6; i++) {
    int32_t rank_of[LAYERS * EXPERTS];
    moerun_placement *other = NULL;
    int64_t bytes[LAYERS];
    for (int32_t n = 0; n < LAYERS * EXPERTS; n++) {
      const int32_t first = v.placement->replica_offset[n];
      rank_of[n] = names[i][v.placement->rank_of[first]];
    }
    assert_int_equal(
        moerun_placement_create(&other, LAYERS, EXPERTS, RANKS, rank_of),
        MOERUN_OK);
    assert_int_equal(moerun__replan_bytes(bytes, other, &trace, &costs),
                     MOERUN_OK);
    for (int32_t l = 0; l < LAYERS; l++) {
      const int64_t total = 3 * bytes[l] + weights[l] * lacking(now, other, l);
      if (i == 0) found[l] = total;
      if (i == 0 || total < best[l]) best[l] = total;
    }
    moerun_placement_destroy(other);
  }
  for (int32_t l = 0; l < LAYERS; l++) {
    const int32_t *offset = v.placement->replica_offset + (size_t)l * EXPERTS;
    if (offset[EXPERTS] - offset[0] > EXPERTS) continue; /* stays */
    changed++;
    assert_int_equal(found[l], best[l]);
  }
  assert_true(changed > 0);
  moerun_placement_destroy(v.placement);
  moerun_placement_destroy(now);
  synthetic_free(&trace);
}

/* Exchanges two experts of layer 1 where that costs the most. */
static moerun_placement *spoil(const moerun_placement *best,
                               const moerun__trace *trace,
                               const moerun__replan_costs *costs) {
  moerun_placement *worst = NULL;
  int64_t most = -1;
  for (int32_t a = EXPERTS; a < 2 * EXPERTS; a++) {
    for (int32_t b = EXPERTS; b < a; b++) {
      int32_t rank_of[LAYERS * EXPERTS];
      int64_t bytes[LAYERS];
      moerun_placement *p = NULL;
      memcpy(rank_of, best->rank_of, sizeof rank_of);
      rank_of[a] = best->rank_of[b];
      rank_of[b] = best->rank_of[a];
      assert_int_equal(
          moerun_placement_create(&p, LAYERS, EXPERTS, RANKS, rank_of),
          MOERUN_OK);
      assert_int_equal(moerun__replan_bytes(bytes, p, trace, costs), MOERUN_OK);
      moerun_placement *other = bytes[1] > most ? worst : p;
      if (bytes[1] > most) worst = p;
      if (bytes[1] > most) most = bytes[1];
      moerun_placement_destroy(other);
    }
  }
  return worst;
}

/* Two experts of the best placement stand in each other's place: they alone
 * move, and then nothing more does. */
static void few_move_where_few_are_wrong(void **state) {
  (void)state;
  moerun__trace trace = make_trace(1);
  moerun_placement *now = make_blocks();
  moerun__replan_costs costs = make_costs(cheap, 1);
  moerun__replan_verdict best;
  moerun__replan_verdict v;
  assert_int_equal(moerun__replan(&best, now, &trace, &trace, &costs),
                   MOERUN_OK);
  moerun_placement_destroy(now);
  now = spoil(best.placement, &trace, &costs);
  static const int64_t dear[LAYERS] = {50, 50, 50};
  costs.expert_bytes = dear;
  assert_int_equal(moerun__replan(&v, now, &trace, &trace, &costs), MOERUN_OK);
  assert_non_null(v.placement);
  assert_int_equal(v.experts_moved, 2);
  assert_memory_equal(v.placement->rank_of, best.placement->rank_of,
                      LAYERS * EXPERTS * sizeof(int32_t));
  moerun_placement_destroy(now);
  now = v.placement;
  assert_int_equal(moerun__replan(&v, now, &trace, &trace, &costs), MOERUN_OK);
  assert_null(v.placement);
  moerun_placement_destroy(now);
  moerun_placement_destroy(best.placement);
  synthetic_free(&trace);
}

static void replicas_stay_in_layers_that_do_not_change(void **state) {
  (void)state;
  moerun__trace train = make_trace(1);
  moerun_placement *now = make_replicas(0);
  static const int64_t weights[LAYERS] = {INT64_C(1) << 40, 1,
                                          INT64_C(1) << 40};
  const moerun__replan_costs costs = make_costs(weights, 1);
  moerun__replan_verdict v;
  assert_int_equal(moerun__replan(&v, now, &train, &train, &costs), MOERUN_OK);
  assert_non_null(v.placement);
  assert_memory_equal(v.placement->replica_offset, now->replica_offset,
                      (LAYERS * EXPERTS + 1) * sizeof(int32_t));
  assert_int_equal(lacking(now, v.placement, 0), 0);
  assert_true(lacking(now, v.placement, 1) > 0);
  assert_int_equal(lacking(now, v.placement, 2), 0);
  moerun_placement_destroy(v.placement);
  moerun_placement_destroy(now);
  synthetic_free(&train);
}

static void spare_slots_are_filled(void **state) {
  (void)state;
  moerun__trace train = make_trace(1);
  moerun_placement *now = make_replicas(1);
  int64_t saved[2];
  for (int32_t spare = 0; spare < 2; spare++) {
    moerun__replan_verdict v;
    moerun__replan_costs costs = make_costs(cheap, 1);
    costs.spare_slots = spare;
    assert_int_equal(moerun__replan(&v, now, &train, &train, &costs),
                     MOERUN_OK);
    assert_non_null(v.placement);
    assert_int_equal(moerun__placement_check(v.placement), MOERUN_OK);
    int64_t moved = 0;
    for (int32_t l = 0; l < LAYERS; l++) {
      moved += lacking(now, v.placement, l);
      for (int32_t r = 0; r < RANKS; r++) {
        assert_true(v.placement->slot_count[l * RANKS + r] <=
                    EXPERTS / RANKS + 1);
      }
    }
    assert_int_equal(v.experts_moved, moved);
    saved[spare] = v.bytes_saved;
    moerun_placement_destroy(v.placement);
  }
  assert_true(saved[1] > saved[0]);
  moerun_placement_destroy(now);
  synthetic_free(&train);
}

/* ---- Speeds -------------------------------------------------------------- */

static const double slow_last[RANKS] = {1, 1, 0.25};

/* Rows of the fastest rank until the last one is done, all layers; *on_slow:
 * rows of the slow rank. */
static double busy(const moerun_placement *p, const moerun__trace *trace,
                   int64_t *on_slow) {
  moerun__topology *topology = NULL;
  int64_t load[LAYERS * RANKS];
  double sum = 0;
  assert_int_equal(moerun__topology_parse(&topology, "3 ranks"), MOERUN_OK);
  assert_int_equal(moerun__count_loads(load, p, trace, topology, trace->home),
                   MOERUN_OK);
  *on_slow = 0;
  for (int32_t l = 0; l < LAYERS; l++) {
    const int64_t *of = load + (ptrdiff_t)l * RANKS;
    sum += fmax(fmax((double)of[0], (double)of[1]), 4 * (double)of[2]);
    *on_slow += of[2];
    assert_int_equal(of[0] + of[1] + of[2], 900 * TERMS);
  }
  moerun__topology_destroy(topology);
  return sum;
}

static void slow_ranks_are_relieved(void **state) {
  (void)state;
  moerun__trace train = make_trace(1);
  moerun__trace judge = make_trace(2);
  moerun_placement *now = make_blocks();
  static const int64_t weights[LAYERS] = {3000, 2000, 1000};
  int64_t share = LAYERS * 900 * TERMS;
  for (int32_t spare = 0; spare < 4; spare += 3) {
    moerun__replan_costs costs = make_costs(weights, 2);
    moerun__replan_verdict v;
    int64_t slow_before = 0;
    int64_t slow_after = 0;
    costs.speed = slow_last;
    costs.rows_per_expert = 20;
    costs.spare_slots = spare;
    assert_int_equal(moerun__replan(&v, now, &train, &judge, &costs),
                     MOERUN_OK);
    assert_non_null(v.placement);
    assert_int_equal(moerun__placement_check(v.placement), MOERUN_OK);
    const double saved = busy(now, &judge, &slow_before) -
                         busy(v.placement, &judge, &slow_after);
    assert_true(fabs((double)v.rows_saved - 2 * saved) <= LAYERS);
    assert_true(2 * slow_after < slow_before);
    assert_true(slow_after < share);
    share = slow_after; /* room takes more off it */
    for (int32_t n = 0; n < LAYERS * RANKS; n++) {
      assert_in_range(v.placement->slot_count[n], spare > 0 ? 1 : 4, 4 + spare);
    }
    moerun_placement_destroy(v.placement);
  }
  /* A ninth of all, but for what the older half did not foretell. */
  assert_true(9 * share <= LAYERS * 900 * TERMS * 12 / 10);
  moerun_placement_destroy(now);
  synthetic_free(&train);
  synthetic_free(&judge);
}

/* The same verdict whatever the fastest rank's number is. */
static void speeds_count_by_their_ratios(void **state) {
  (void)state;
  moerun__trace train = make_trace(1);
  moerun__trace judge = make_trace(2);
  moerun_placement *now = make_blocks();
  static const int64_t weights[LAYERS] = {3000, 2000, 1000};
  static const double eightfold[RANKS] = {8, 8, 2};
  moerun__replan_costs costs = make_costs(weights, 2);
  moerun__replan_verdict v[2];
  costs.rows_per_expert = 20;
  for (int i = 0; i < 2; i++) {
    costs.speed = i == 0 ? slow_last : eightfold;
    assert_int_equal(moerun__replan(&v[i], now, &train, &judge, &costs),
                     MOERUN_OK);
    assert_non_null(v[i].placement);
  }
  assert_int_equal(v[0].experts_moved, v[1].experts_moved);
  assert_int_equal(v[0].bytes_saved, v[1].bytes_saved);
  assert_int_equal(v[0].rows_saved, v[1].rows_saved);
  for (int32_t l = 0; l < LAYERS; l++) {
    assert_true(moerun__replan_same(v[0].placement, v[1].placement, l));
  }
  moerun_placement_destroy(v[0].placement);
  moerun_placement_destroy(v[1].placement);
  moerun_placement_destroy(now);
  synthetic_free(&train);
  synthetic_free(&judge);
}

/* Weights that no traffic repays: it is time that does, at its price. */
static void time_repays_at_its_price(void **state) {
  (void)state;
  moerun__trace train = make_trace(1);
  moerun__trace judge = make_trace(2);
  moerun_placement *now = make_blocks();
  static const int64_t dear[LAYERS] = {INT64_C(1) << 24, INT64_C(1) << 24,
                                       INT64_C(1) << 24};
  static const double equal[RANKS] = {3, 3, 3};
  static const struct {
    const double *speed;
    double rows_per_expert;
    int moves;
  } cases[] = {
      {NULL, 0, 0}, {slow_last, 20, 1}, {slow_last, 1e5, 0}, {equal, 1e5, 0}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    moerun__replan_costs costs = make_costs(dear, 1);
    moerun__replan_verdict v;
    costs.speed = cases[i].speed;
    costs.rows_per_expert = cases[i].rows_per_expert;
    assert_int_equal(moerun__replan(&v, now, &train, &judge, &costs),
                     MOERUN_OK);
    assert_int_equal(v.placement != NULL, cases[i].moves);
    assert_true((double)v.bytes_saved +
                    (double)v.rows_saved * (double)dear[0] / 20 >=
                (double)v.bytes_moved);
    assert_true((v.rows_saved > 0) == cases[i].moves);
    moerun_placement_destroy(v.placement);
  }
  moerun_placement_destroy(now);
  synthetic_free(&train);
  synthetic_free(&judge);
}

/* Placed for a slow rank that is slow no more: loads alone bring experts
 * back. */
static void experts_come_back(void **state) {
  (void)state;
  moerun__trace train = make_trace(1);
  moerun__trace judge = make_trace(2);
  moerun_placement *now = make_blocks();
  static const int64_t weights[LAYERS] = {1000, 1000, 1000};
  static const double equal[RANKS] = {1, 1, 1};
  moerun__replan_costs costs = make_costs(weights, 2);
  moerun__replan_verdict away;
  moerun__replan_verdict back;
  int64_t slow[2];
  costs.speed = slow_last;
  costs.rows_per_expert = 20;
  costs.spare_slots = 3;
  assert_int_equal(moerun__replan(&away, now, &train, &judge, &costs),
                   MOERUN_OK);
  assert_non_null(away.placement);
  costs.speed = equal;
  assert_int_equal(
      moerun__replan(&back, away.placement, &train, &judge, &costs), MOERUN_OK);
  assert_non_null(back.placement);
  (void)busy(away.placement, &judge, &slow[0]);
  (void)busy(back.placement, &judge, &slow[1]);
  assert_true(slow[1] > 2 * slow[0]);
  assert_true(back.rows_saved > 0);
  moerun_placement_destroy(away.placement);
  moerun_placement_destroy(back.placement);
  moerun_placement_destroy(now);
  synthetic_free(&train);
  synthetic_free(&judge);
}

static void traces_without_homes_are_refused(void **state) {
  (void)state;
  moerun__trace trace = make_trace(1);
  moerun_placement *now = make_blocks();
  const moerun__replan_costs costs = make_costs(cheap, 1);
  moerun__replan_verdict v;
  trace.home = NULL;
  assert_int_equal(moerun__replan(&v, now, &trace, &trace, &costs),
                   MOERUN_ERR_INVALID);
  assert_null(v.placement);
  moerun_placement_destroy(now);
  synthetic_free(&trace);
}

static void failed_allocations_leave_nothing_behind(void **state) {
  (void)state;
  moerun__trace train = make_trace(1);
  moerun_placement *now = make_blocks();
  moerun__replan_costs costs = make_costs(cheap, 1);
  costs.speed = slow_last;
  costs.rows_per_expert = 20;
  const size_t live = moerun__alloc_live();
  for (long nth = 0;; nth++) {
    moerun__replan_verdict v;
    moerun__alloc_fail_nth(nth);
    const moerun_status status =
        moerun__replan(&v, now, &train, &train, &costs);
    moerun__alloc_fail_nth(-1);
    moerun_placement_destroy(v.placement);
    assert_int_equal(moerun__alloc_live(), live);
    if (status == MOERUN_OK) {
      assert_true(nth > 20);
      break;
    }
    assert_int_equal(status, MOERUN_ERR_NOMEM);
  }
  moerun_placement_destroy(now);
  synthetic_free(&train);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(figures_are_those_of_the_trace),
      cmocka_unit_test(what_does_not_repay_stays),
      cmocka_unit_test(layers_are_decided_one_by_one),
      cmocka_unit_test(parts_are_named_at_best),
      cmocka_unit_test(few_move_where_few_are_wrong),
      cmocka_unit_test(replicas_stay_in_layers_that_do_not_change),
      cmocka_unit_test(spare_slots_are_filled),
      cmocka_unit_test(slow_ranks_are_relieved),
      cmocka_unit_test(speeds_count_by_their_ratios),
      cmocka_unit_test(time_repays_at_its_price),
      cmocka_unit_test(experts_come_back),
      cmocka_unit_test(traces_without_homes_are_refused),
      cmocka_unit_test(failed_allocations_leave_nothing_behind),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
