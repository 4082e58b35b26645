/* The ledger of balancing and its histograms, by numbers made by hand. */
#include "runtime/base/memory.h"
#include "runtime/plan/ledger.h"
#include "support/cmocka.h"

#include <math.h>

/* ---- Histograms ---------------------------------------------------------- */

static void a_quantile_is_a_quarter_above_at_most(void **state) {
  (void)state;
  double seconds = 3e-9;
  for (int i = 0; i < 390; i++) {
    moerun__histogram h = {0};
    moerun__histogram_add(&h, 2000);
    moerun__histogram_add(&h, seconds);
    const double found = moerun__histogram_quantile(&h, 0.5);
    assert_true(found >= seconds - 1e-9);
    assert_true(found <= seconds * 1.25 + 1e-9);
    assert_true(moerun__histogram_quantile(&h, 1) == 2000);
    seconds *= 1.07;
  }
}

static void quantiles_are_by_rank(void **state) {
  (void)state;
  moerun__histogram h = {0};
  moerun__histogram part = {0};
  assert_true(moerun__histogram_quantile(&h, 0.5) == 0);
  for (int i = 0; i < 90; i++) {
    moerun__histogram_add(&h, 0);
  }
  for (int i = 0; i < 9; i++) {
    moerun__histogram_add(&part, 3e-9);
  }
  moerun__histogram_add(&part, 1);
  moerun__histogram_merge(&h, &part);
  assert_int_equal(moerun__histogram_total(&h), 100);
  assert_true(moerun__histogram_quantile(&h, 0) == 0);
  assert_true(moerun__histogram_quantile(&h, 0.9) == 0);
  assert_true(fabs(moerun__histogram_quantile(&h, 0.91) - 3e-9) < 1e-15);
  assert_true(fabs(moerun__histogram_quantile(&h, 0.99) - 3e-9) < 1e-15);
  assert_true(moerun__histogram_quantile(&h, 0.995) == 1);
  moerun__histogram few = {0};
  moerun__histogram_add(&few, 4e-9); /* alone in its bucket, as all below 16 */
  moerun__histogram_add(&few, 1);
  assert_true(fabs(moerun__histogram_quantile(&few, 0.5) - 4e-9) < 1e-15);
  moerun__histogram_add(&h, -1); /* a clock that goes back */
  moerun__histogram_add(&h, 1e9);
  assert_int_equal(moerun__histogram_total(&h), 102);
  assert_true(moerun__histogram_quantile(&h, 1) >= 1);
}

/* ---- The ledger ---------------------------------------------------------- */

enum { R = 3, E = 4, LAYERS = 2 };

typedef struct rig {
  char *block;
  moerun__ledger ledger;
  moerun__plan plan;
  int32_t rows[E];
  int32_t speed[R];
  int32_t told[R][MOERUN_TOLD_WORDS];
  moerun__told_sums sums;
} rig;

static const int32_t replica_of_expert[E + 1] = {0, 1, 2, 3, 4};
static const int32_t rank_of[E] = {0, 0, 1, 2};
static const int32_t slot_of[E] = {0, 1, 0, 0};
static const moerun__plan_options options = {.threshold = 1100,
                                             .threshold_held = 1100,
                                             .slack = 1000,
                                             .min_rows = 1,
                                             .min_rows_held = 1};
static const moerun__plan_bytes bytes = {1000, 77};

static void lay_out(rig *r, moerun__arena *arena, moerun__guest_table *guests) {
  moerun__ledger_lay_out(&r->ledger, arena, LAYERS, R, E);
  moerun__plan_lay_out(&r->plan, arena, R, E);
  moerun__guest_table_lay_out(guests, arena, R, LAYERS, 2);
}

static void set_up(rig *r, moerun__guest_table *guests) {
  moerun__arena arena = {NULL, 0};
  *r = (rig){0};
  lay_out(r, &arena, guests);
  assert_int_equal(moerun__alloc(&r->block, arena.used, 1), MOERUN_OK);
  arena = (moerun__arena){r->block, 0};
  lay_out(r, &arena, guests);
  moerun__guest_table_clear(guests);
  moerun__ledger_clear(&r->ledger);
}

static moerun__demand demand_of(rig *r, int32_t layer) {
  return (moerun__demand){.layer = layer,
                          .num_ranks = R,
                          .num_replicas = E,
                          .num_experts = E,
                          .replica_of_expert = replica_of_expert,
                          .rank_of = rank_of,
                          .slot_of = slot_of,
                          .rows = r->rows,
                          .speed = r->speed};
}

/* Rows of each expert. */
static void add(rig *r, moerun__guest_table *guests, int32_t layer,
                const int32_t rows[E], const int32_t busy[R]) {
  for (int32_t e = 0; e < E; e++) {
    r->rows[e] = rows[e];
  }
  for (int32_t i = 0; i < R; i++) {
    r->speed[i] = r->told[i][MOERUN_TOLD_SPEED];
    r->told[i][MOERUN_TOLD_BUSY] = busy[i];
    r->told[i][MOERUN_TOLD_ROWS] = (int32_t)r->plan.load[i];
  }
  const moerun__demand demand = demand_of(r, layer);
  moerun__plan_solve(&r->plan, guests, &demand, &options);
  moerun__ledger_add(&r->ledger, &r->plan, &demand, r->told[0], &r->sums,
                     &bytes);
}

static const int32_t even[E] = {10, 10, 20, 20};
static const int32_t skewed[E] = {60, 0, 0, 0};
static const int32_t no_time[R] = {0, 0, 0};

static void loads_are_those_of_the_plan(void **state) {
  (void)state;
  rig r;
  moerun__guest_table guests;
  set_up(&r, &guests);
  moerun__ledger_begin_step(&r.ledger);
  add(&r, &guests, 0, even, no_time);
  const moerun__ledger_entry *step = &r.ledger.steps[0];
  assert_int_equal(step->rows, 60);
  assert_int_equal(step->peak_expert, 20);
  assert_int_equal(step->empty, 0);
  assert_true(step->deviation_routed == 0 && step->deviation_planned == 0);
  assert_int_equal(step->rows_moved, 0);
  add(&r, &guests, 1, skewed, no_time);
  assert_int_equal(step->rows, 120);
  assert_int_equal(step->peak_expert, 80);
  assert_int_equal(step->empty, 3);
  assert_int_equal(step->peak_routed, 80);
  assert_int_equal(step->peak_planned, 40);
  assert_true(fabs(step->deviation_routed - sqrt(800)) < 1e-9);
  assert_true(step->deviation_planned == 0);
  assert_int_equal(step->rows_moved, 40);
  assert_int_equal(step->weights_sent, 2);
  assert_int_equal(step->weight_bytes, 2000);
  assert_int_equal(step->way[1].bytes, 0);
  assert_int_equal(step->way[MOERUN_WAY_WHOLE].bytes, 0);
  assert_int_equal(step->way[MOERUN_WAY_WHOLE].plans, step->plans);
  const moerun__ledger_entry total = moerun__ledger_total(&r.ledger);
  assert_int_equal(total.rows, step->rows);
  assert_int_equal(total.weight_bytes, step->weight_bytes);
  assert_int_equal(r.ledger.layers[0].rows_moved, 0);
  assert_int_equal(r.ledger.layers[1].rows_moved, 40);
  moerun__free(r.block);
}

/* Why ranks waited: layers, rows of waiting, and of what would end it. */
static void obstacles_are_summed(void **state) {
  (void)state;
  static const moerun__plan_obstacle obstacles[] = {
      {0, 70, 300}, {1, 5, 11}, {0, 0, 0}};
  rig r;
  moerun__guest_table guests;
  set_up(&r, &guests);
  moerun__ledger_begin_step(&r.ledger);
  add(&r, &guests, 0, even, no_time);
  const moerun__demand demand = demand_of(&r, 1);
  for (int i = 0; i < 3; i++) {
    r.plan.obstacle = obstacles[i];
    moerun__ledger_add(&r.ledger, &r.plan, &demand, r.told[0], &r.sums, &bytes);
  }
  const moerun__ledger_entry *step = &r.ledger.steps[0];
  assert_int_equal(step->plans, 4);
  assert_int_equal(step->uneven, 2);
  assert_int_equal(step->no_room, 1);
  assert_int_equal(step->waiting_rows, 75);
  assert_int_equal(step->room_rows, 5);
  assert_int_equal(step->price_rows, 300);
  assert_int_equal(r.ledger.layers[0].uneven, 0);
  assert_int_equal(r.ledger.layers[1].price_rows, 300);
  moerun__free(r.block);
}

/* Busy times and rows come a layer late, the last ones at the end. */
static void what_ranks_tell_is_of_the_layer_before(void **state) {
  (void)state;
  static const int32_t first[R] = {150, 400, 290};
  static const int32_t second[R] = {500, 0, 100};
  rig r;
  moerun__guest_table guests;
  set_up(&r, &guests);
  moerun__ledger_begin_step(&r.ledger);
  add(&r, &guests, 0, even, no_time);
  moerun__ledger_begin_step(&r.ledger); /* one layer was all of the step */
  add(&r, &guests, 1, skewed, first);
  assert_int_equal(r.ledger.steps[0].busy_most_us, 400);
  assert_int_equal(r.ledger.steps[0].last, 1);
  assert_int_equal(r.ledger.steps[0].rows_told, 60);
  assert_int_equal(r.ledger.steps[0].unplanned, 0);
  /* Of 3 * 400 us ranks worked for 840. */
  assert_true(fabs(moerun__ledger_idle(&r.ledger, &r.ledger.steps[0]) - 0.3) <
              1e-12);
  assert_int_equal(r.ledger.steps[1].rows_told, 0);
  for (int32_t i = 0; i < R; i++) {
    r.told[i][MOERUN_TOLD_BUSY] = second[i];
    r.told[i][MOERUN_TOLD_ROWS] = i == 0 ? 60 : 0; /* 20 each were planned */
  }
  moerun__ledger_end(&r.ledger, r.told[0]);
  moerun__ledger_end(&r.ledger, r.told[0]); /* nothing more to tell */
  const moerun__ledger_entry *step = &r.ledger.steps[1];
  assert_int_equal(step->rows_told, 60);
  assert_int_equal(step->peak_told, 60);
  assert_int_equal(step->unplanned, 80);
  assert_int_equal(step->busy_sum_us, 600);
  assert_int_equal(step->last, 0);
  assert_int_equal(r.ledger.layers[1].unplanned, 80);
  assert_int_equal(r.ledger.last_count[0], 1);
  assert_int_equal(r.ledger.last_count[1], 1);
  const double longest[R] = {500e-6, 400e-6, 290e-6};
  for (int32_t i = 0; i < R; i++) {
    const moerun__histogram *h = &r.ledger.duration[i];
    assert_int_equal(moerun__histogram_total(h), 2);
    assert_true(fabs(h->longest - longest[i]) < 1e-12);
  }
  moerun__free(r.block);
}

/* Who computes which part of every row was not planned; how much is. */
static void spread_rows_are_planned_in_sum(void **state) {
  (void)state;
  static const int32_t told[R] = {27, 18, 18}; /* 20 each were planned */
  rig r;
  moerun__guest_table guests;
  set_up(&r, &guests);
  moerun__ledger_begin_step(&r.ledger);
  add(&r, &guests, 0, even, no_time);
  r.plan.way = 2;
  r.plan.is_spread = 1;
  const moerun__demand demand = demand_of(&r, 1);
  for (int32_t i = 0; i < R; i++) {
    r.told[i][MOERUN_TOLD_ROWS] = 20;
  }
  moerun__ledger_add(&r.ledger, &r.plan, &demand, r.told[0], &r.sums, &bytes);
  for (int32_t i = 0; i < R; i++) {
    r.told[i][MOERUN_TOLD_ROWS] = told[i];
  }
  moerun__ledger_end(&r.ledger, r.told[0]);
  const moerun__ledger_entry *layer = &r.ledger.layers[1];
  assert_int_equal(layer->way[2].plans, 1);
  assert_int_equal(layer->way[2].bytes, bytes.way);
  assert_int_equal(layer->way[MOERUN_WAY_WHOLE].plans, 0);
  assert_int_equal(layer->rows_told, 63);
  assert_int_equal(layer->unplanned, 3);
  assert_int_equal(r.ledger.layers[0].unplanned, 0);
  /* Ways one after another: the same is no change, another is one. */
  static const int32_t ways[] = {2, 3, MOERUN_WAY_WHOLE, 1, 1};
  for (size_t i = 0; i < sizeof ways / sizeof *ways; i++) {
    r.plan.way = ways[i];
    moerun__ledger_add(&r.ledger, &r.plan, &demand, r.told[0], &r.sums, &bytes);
  }
  assert_int_equal(layer->kind_changes, 3);
  moerun__free(r.block);
}

/* An expert of one row is not empty. */
static void experts_without_rows_are_counted(void **state) {
  (void)state;
  static const int32_t one_row[E] = {19, 1, 40, 0};
  rig r;
  moerun__guest_table guests;
  set_up(&r, &guests);
  moerun__ledger_begin_step(&r.ledger);
  add(&r, &guests, 0, one_row, no_time);
  assert_int_equal(r.ledger.steps[0].empty, 1);
  assert_int_equal(r.ledger.steps[0].peak_expert, 40);
  moerun__free(r.block);
}

static void changes_are_counted(void **state) {
  (void)state;
  rig r;
  moerun__guest_table guests;
  set_up(&r, &guests);
  for (int32_t i = 0; i < 4; i++) {
    moerun__ledger_begin_step(&r.ledger);
    if (i == 2) r.told[1][MOERUN_TOLD_SPEED] = -32;
    add(&r, &guests, 0, i == 1 ? skewed : even, no_time);
  }
  const moerun__ledger_entry *layer = &r.ledger.layers[0];
  /* Step 1 moves rows; so does step 2, for the slow rank. */
  assert_int_equal(layer->kind_changes, 1);
  assert_int_equal(layer->speed_changes, 1);
  assert_int_equal(r.ledger.steps[0].speed_changes, 0);
  assert_int_equal(r.ledger.steps[2].speed_changes, 1);
  assert_int_equal(r.ledger.num_changes, R + 1);
  const moerun__speed_change *change = &r.ledger.changes[R];
  assert_int_equal(change->step, 2);
  assert_int_equal(change->rank, 1);
  assert_int_equal(change->speed, -32);
  for (int32_t i = 0; i < 2 * MOERUN_LEDGER_CHANGES; i++) {
    r.told[1][MOERUN_TOLD_SPEED] = -i % 2; /* more than are kept */
    add(&r, &guests, 0, even, no_time);
  }
  assert_int_equal(layer->speed_changes, 1 + 2 * MOERUN_LEDGER_CHANGES);
  moerun__free(r.block);
}

static void drops_of_layers_are_summed(void **state) {
  (void)state;
  rig r;
  moerun__guest_table guests;
  set_up(&r, &guests);
  r.sums =
      (moerun__told_sums){30, 3, 15 * MOERUN_MASS_ONE, 3 * MOERUN_MASS_ONE / 2};
  moerun__ledger_begin_step(&r.ledger);
  add(&r, &guests, 0, even, no_time);
  add(&r, &guests, 1, even, no_time);
  const moerun__ledger_entry *step = &r.ledger.steps[0];
  assert_int_equal(step->offered, 60);
  assert_int_equal(step->dropped, 6);
  assert_int_equal(step->mass, 30 * MOERUN_MASS_ONE);
  assert_int_equal(step->mass_dropped, 3 * MOERUN_MASS_ONE);
  moerun__free(r.block);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_quantile_is_a_quarter_above_at_most),
      cmocka_unit_test(quantiles_are_by_rank),
      cmocka_unit_test(loads_are_those_of_the_plan),
      cmocka_unit_test(obstacles_are_summed),
      cmocka_unit_test(what_ranks_tell_is_of_the_layer_before),
      cmocka_unit_test(spread_rows_are_planned_in_sum),
      cmocka_unit_test(experts_without_rows_are_counted),
      cmocka_unit_test(changes_are_counted),
      cmocka_unit_test(drops_of_layers_are_summed),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
