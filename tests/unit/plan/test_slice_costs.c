/* When slices are taken: 4 ranks of 2 experts each, times by hand. A whole
 * expert costs 1000 + rows, a slice a quarter of that, and sharing nothing, so
 * that every number is a sum. */
#include "runtime/base/memory.h"
#include "runtime/plan/slice_costs.h"
#include "support/cmocka.h"

#include <string.h>

enum { R = 4, E = 8, SLICED = 1 };

typedef struct world {
  moerun__demand demand;
  moerun__plan plan;
  moerun__guest_table guests;
  moerun__plan_options options;
  moerun__slice_costs costs;
  moerun__slice_offer offer;
  moerun__way_offer ways[3];
  int64_t gain[2]; /* of two ways that are made up */
  int32_t replica_of_expert[E + 1];
  int32_t rank_of[E];
  int32_t slot_of[E];
  int32_t rows[E];
  int32_t speeds[R]; /* in sixteenths of a factor of 2 */
  int32_t speed[R];
  int64_t time[R];
  char *block;
} world;

static void lay_out(world *w, moerun__arena *arena) {
  moerun__plan_lay_out(&w->plan, arena, R, E);
  moerun__guest_table_lay_out(&w->guests, arena, R, 1, 2);
}

static int64_t made_gain(const void *self, moerun__plan *plan,
                         const moerun__demand *demand) {
  (void)plan;
  (void)demand;
  return *(const int64_t *)self;
}

/* Rank 0 wants load[e] rows of expert e. */
static void set_up(world *w, const int32_t load[E]) {
  moerun__arena arena = {NULL, 0};
  memset(w, 0, sizeof *w);
  for (int32_t e = 0; e < E; e++) {
    w->replica_of_expert[e + 1] = e + 1;
    w->rank_of[e] = e / 2;
    w->slot_of[e] = e % 2;
    w->rows[e] = load[e];
  }
  for (int i = 0; i < MOERUN_COST_POINTS; i++) {
    w->costs.whole[i] = 1000 + (1 << i);
    w->costs.slice[i] = (1000 + (1 << i)) / R;
  }
  for (int r = 0; r < R; r++) {
    w->speed[r] = MOERUN_SPEED_ONE;
  }
  w->offer = (moerun__slice_offer){
      .costs = &w->costs, .speed = w->speed, .rounds = 1, .time = w->time};
  w->ways[0] = (moerun__way_offer){.way = SLICED,
                                   .is_spread = 1,
                                   .gain = moerun__slices_gain,
                                   .self = &w->offer};
  for (int i = 0; i < 2; i++) {
    w->ways[1 + i] =
        (moerun__way_offer){.way = 2 + i, .gain = made_gain, &w->gain[i]};
  }
  w->demand = (moerun__demand){.num_ranks = R,
                               .num_replicas = E,
                               .num_experts = E,
                               .replica_of_expert = w->replica_of_expert,
                               .rank_of = w->rank_of,
                               .slot_of = w->slot_of,
                               .rows = w->rows,
                               .speed = w->speeds,
                               .offers = w->ways,
                               .num_offers = 1};
  w->options = (moerun__plan_options){.threshold = 1000,
                                      .threshold_held = 1000,
                                      .slack = 1000,
                                      .min_rows = 1 << 30,
                                      .min_rows_held = 1 << 30};
  lay_out(w, &arena);
  assert_int_equal(moerun__alloc(&w->block, arena.used, 1), MOERUN_OK);
  arena = (moerun__arena){w->block, 0};
  lay_out(w, &arena);
  moerun__guest_table_clear(&w->guests);
}

static void solve(world *w) {
  moerun__plan_solve(&w->plan, &w->guests, &w->demand, &w->options);
}

static void tear_down(world *w) {
  moerun__free(w->block);
}

static void times_lie_between_points(void **state) {
  (void)state;
  const int64_t points[MOERUN_COST_POINTS] = {10,  20,  30,  50,  90,
                                              170, 330, 650, 1290};
  static const int64_t rows[] = {0, 1, 2, 3, 4, 6, 255, 256, 512, 384};
  static const int64_t want[] = {0, 10, 20, 25, 30, 40, 1285, 1290, 2580, 1935};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    assert_int_equal(moerun__slice_cost(points, rows[i]), want[i]);
  }
}

/* Both experts of rank 1: whole 2 x 1001 one after another, sliced a
 * quarter. */
static void neighbours_are_sliced(void **state) {
  (void)state;
  static const int32_t load[E] = {0, 0, 1, 1, 0, 0, 0, 0};
  world w;
  set_up(&w, load);
  solve(&w);
  assert_int_equal(moerun__whole_time(&w.offer, &w.plan, &w.demand), 2002);
  assert_int_equal(moerun__sliced_time(&w.offer, &w.plan, &w.demand), 500);
  assert_int_equal(w.plan.way, SLICED);
  assert_int_equal(w.plan.num_moves, 0);
  int64_t load_sum = 0;
  for (int r = 0; r < R; r++) {
    load_sum += w.plan.load[r];
    assert_true(w.plan.load[r] <= 1);
  }
  assert_int_equal(load_sum, 2);
  tear_down(&w);
}

/* One expert of each rank: all are at work, slices would save nothing. */
static void even_steps_stay_whole(void **state) {
  (void)state;
  static const int32_t load[E] = {1, 0, 1, 0, 1, 0, 1, 0};
  world w;
  set_up(&w, load);
  solve(&w);
  assert_int_equal(moerun__whole_time(&w.offer, &w.plan, &w.demand), 1001);
  assert_int_equal(moerun__sliced_time(&w.offer, &w.plan, &w.demand), 1000);
  assert_int_equal(w.plan.way, MOERUN_WAY_WHOLE);
  w.offer.always = 1;
  solve(&w);
  assert_int_equal(w.plan.way, SLICED);
  tear_down(&w);
}

/* Three exchanges against two, and h goes to everybody. */
static void sharing_is_paid_for(void **state) {
  (void)state;
  static const int32_t load[E] = {0, 0, 1, 1, 0, 0, 0, 0};
  world w;
  set_up(&w, load);
  w.costs.spread = 300;
  w.costs.spread_kib = 10;
  w.offer.rows = 1;
  w.offer.row_bytes = 1024;
  w.offer.h_bytes = 2048;
  w.offer.result_bytes = 1024;
  solve(&w);
  assert_int_equal(moerun__whole_time(&w.offer, &w.plan, &w.demand),
                   2002 + 2 * 300 + 10);
  assert_int_equal(moerun__sliced_time(&w.offer, &w.plan, &w.demand),
                   500 + 3 * 300 + (1 + 2 * 2 + 1) * 10);
  assert_int_equal(w.plan.way, SLICED);
  w.offer.rounds = 2;
  solve(&w);
  assert_int_equal(w.plan.way, MOERUN_WAY_WHOLE);
  tear_down(&w);
}

/* A plan that moves rows to where the weights are is the third way: then rank 1
 * keeps one expert and slices are compared with that. */
static void moves_are_compared_too(void **state) {
  (void)state;
  static const int32_t load[E] = {0, 0, 64, 64, 0, 0, 0, 0};
  world w;
  set_up(&w, load);
  w.guests.key[0] = 2; /* rank 0 has expert 2 as a guest */
  w.options.min_rows_held = 1;
  w.costs.slice[6] = 1064; /* cut, and no faster for it */
  solve(&w);
  assert_int_equal(w.plan.way, MOERUN_WAY_WHOLE);
  assert_int_equal(w.plan.num_moves, 1);
  const moerun__move *move = &w.plan.moves[0];
  assert_int_equal(move->replica, 2);
  assert_int_equal(move->rank, 0);
  const int64_t whole = moerun__whole_time(&w.offer, &w.plan, &w.demand);
  assert_int_equal(whole, 1000 + 64 - move->rows + 1000 + 64);
  w.costs.slice[6] = 1064 / R;
  solve(&w);
  assert_int_equal(w.plan.way, SLICED);
  assert_int_equal(w.plan.num_moves, 0);
  assert_int_equal(w.plan.obstacle.waiting_rows, 0);
  assert_int_equal(w.guests.plans, 1); /* the plan that was not taken left no
                                          trace */
  tear_down(&w);
}

/* A rank four times slower than its slices expect makes them last as long. */
static void slow_ranks_count(void **state) {
  (void)state;
  static const int32_t load[E] = {0, 0, 1, 1, 0, 0, 0, 0};
  world w;
  set_up(&w, load);
  w.speeds[3] = -2 * MOERUN_SPEED_OCTAVE;
  solve(&w);
  assert_int_equal(moerun__whole_time(&w.offer, &w.plan, &w.demand), 2002);
  assert_int_equal(moerun__sliced_time(&w.offer, &w.plan, &w.demand), 2000);
  assert_int_equal(w.plan.way, MOERUN_WAY_WHOLE);
  w.speed[3] = MOERUN_SPEED_ONE / 4; /* they are made for it */
  solve(&w);
  assert_int_equal(w.plan.way, SLICED);
  tear_down(&w);
}

/* Of several ways; a way that is not spread leaves rows where they are
 * routed. */
static void the_way_that_gains_most_is_taken(void **state) {
  (void)state;
  static const int32_t load[E] = {0, 0, 1, 1, 0, 0, 0, 0};
  static const struct {
    int64_t gain[2];
    int32_t way; /* slices gain 2002 - 500 * 21 / 20 = 1477 */
  } cases[] = {{{0, 0}, SLICED},      {{-1, 1477}, SLICED}, {{1478, 0}, 2},
               {{1478, 1479}, 3},     {{1479, 1479}, 2},    {{0, INT64_MAX}, 3},
               {{1476, 1476}, SLICED}};
  world w;
  set_up(&w, load);
  w.demand.num_offers = 3;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    memcpy(w.gain, cases[i].gain, sizeof w.gain);
    solve(&w);
    assert_int_equal(w.plan.way, cases[i].way);
    assert_int_equal(w.plan.is_spread, cases[i].way == SLICED);
    assert_int_equal(w.plan.load[1], cases[i].way == SLICED ? 1 : 2);
  }
  w.offer.always = 1; /* ties go to the lower number */
  w.gain[1] = INT64_MAX;
  solve(&w);
  assert_int_equal(w.plan.way, SLICED);
  w.demand.num_offers = 0;
  solve(&w);
  assert_int_equal(w.plan.way, MOERUN_WAY_WHOLE);
  assert_int_equal(w.plan.is_spread, 0);
  tear_down(&w);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(times_lie_between_points),
      cmocka_unit_test(neighbours_are_sliced),
      cmocka_unit_test(even_steps_stay_whole),
      cmocka_unit_test(sharing_is_paid_for),
      cmocka_unit_test(moves_are_compared_too),
      cmocka_unit_test(slow_ranks_count),
      cmocka_unit_test(the_way_that_gains_most_is_taken),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
