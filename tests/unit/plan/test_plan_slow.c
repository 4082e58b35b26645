/* Slow ranks with few and many experts, step after step, against the true
 * optimum (support/slow_ranks.h), which knows nothing of how plans are made;
 * and plans for slow ranks by hand. */
#include "support/slow_ranks.h"

#include "support/cmocka.h"

#include <stdio.h>

enum { STEPS = 32 };

/* Over the optimum from the fifth slow step on. */
typedef struct outcome {
  double mean;
  double worst;
  double worst_rows; /* of the fastest rank's time, after the optimum */
  double worst_held; /* over the optimum within the memory for guests */
  int64_t sends;
} outcome;

static outcome run(const slow_case *of) {
  static slow_ranks w;
  outcome found = {0};
  assert_int_equal(slow_ranks_create(&w, of), MOERUN_OK);
  for (int32_t step = 0; step < STEPS; step++) {
    slow_times times[SLOW_LAYERS];
    slow_ranks_step(&w, times);
    for (int32_t i = 0; i < SLOW_LAYERS && step >= SLOW_JUDGED; i++) {
      const double over = times[i].end / times[i].best;
      const double held = times[i].end / times[i].best_held;
      assert_true(over > 1 - 1e-9); /* or the optimum is none */
      assert_true(held > 1 - 1e-9);
      found.mean += over / (SLOW_LAYERS * (STEPS - SLOW_JUDGED));
      found.worst = slow__later(found.worst, over);
      found.worst_rows =
          slow__later(found.worst_rows, times[i].end - times[i].best);
      found.worst_held = slow__later(found.worst_held, held);
      found.sends += times[i].sends;
    }
  }
  slow_ranks_destroy(&w);
  print_message("%2d ranks, %3d experts of %4d rows +- %.0f %%, %3d guests, "
                "%2d slow %dx: mean %.3f, worst %.3f (%.0f rows later) of the "
                "optimum, %.3f within the memory, %lld sent\n",
                of->ranks, of->experts, of->rows, 100 * of->spread, of->guests,
                of->slow, of->factor, found.mean, found.worst, found.worst_rows,
                found.worst_held, (long long)found.sends);
  return found;
}

typedef void judge(const slow_case *of, const outcome *found);

/* All numbers of ranks, experts and slow ranks, for so many rows and so on. */
static void run_all(slow_case of, judge *is_right) {
  static const int32_t ranks[] = {2, 4, 8, 16, 64};
  static const int32_t experts[] = {16, 64, 256};
  static const int32_t factors[] = {2, 4, 8};
  const int32_t rows = of.rows;
  print_message("seed %llu\n", (unsigned long long)slow_seed);
  for (int i = 0; i < 5 * 3 * 3 * 2; i++) {
    of.ranks = ranks[i / 18];
    of.experts = experts[i / 6 % 3];
    of.factor = factors[i / 2 % 3];
    of.slow = i % 2 > 0 ? of.ranks / 4 : 1;
    if (of.experts < of.ranks || (i % 2 > 0 && of.slow < 2)) continue;
    of.guests = slow_default_guests(of.ranks, of.experts);
    of.rows = rows > 0 ? rows : 2048 * of.ranks / of.experts;
    const outcome found = run(&of);
    is_right(&of, &found);
  }
}

/* What everything else here is judged by. */
static void the_optimum_is_known(void **state) {
  (void)state;
  static slow_ranks w;
  const double slowness[3] = {1, 1, 4};
  assert_true(slow_optimum(900, slowness, 3) == 400);
  /* Rank 1 of 2 is four times slower. Rank 0 has memory for the two guests that
   * layers share, and they take 25 and 20 rows of the slow one's 60. */
  const slow_case of = {.ranks = 2, .experts = 8, .slow = 1, .factor = 4};
  static const int32_t rows[8] = {15, 15, 15, 15, 5, 25, 10, 20};
  assert_int_equal(slow_ranks_create(&w, &of), MOERUN_OK);
  memcpy(w.rows, rows, sizeof rows);
  w.slowness[0] = 1;
  w.slowness[1] = 4;
  assert_true(slow_optimum(120, w.slowness, 2) == 96);
  assert_true(slow_optimum_held(&w, 96) == 96);
  w.rows[6] = 25;
  assert_true(slow_optimum_held(&w, 108) == 108);
  w.rows[4] = 10;
  assert_true(slow_optimum_held(&w, 112) == 120);
  slow_ranks_destroy(&w);
}

static void is_near_the_optimum(const slow_case *of, const outcome *found) {
  (void)of;
  assert_true(found->worst <= 1.1);
}

/* Steps of 256 tokens a rank, each with 8 experts. */
static void slow_ranks_are_relieved(void **state) {
  (void)state;
  run_all((slow_case){.spread = 0.25}, is_near_the_optimum);
}

/* Where experts have so few rows that what is over is not worth weights (less
 * than 32 rows, more with room that is made for them), that is waited for. */
static void crumbs_are_what_is_waited_for(const slow_case *of,
                                          const outcome *found) {
  (void)of;
  assert_true(found->worst <= 1.1 || found->worst_rows <= 48);
}

static void slow_ranks_with_few_rows_are_relieved(void **state) {
  (void)state;
  run_all((slow_case){.rows = 128, .spread = 0.25},
          crumbs_are_what_is_waited_for);
  run_all((slow_case){.rows = 128}, crumbs_are_what_is_waited_for);
}

/* Less memory than is needed by default serves for as much as it can hold. */
static void guests_are_as_many_as_memory_holds(void **state) {
  (void)state;
  static const int32_t guests[] = {0, 1, 4, 10, 20, 28};
  for (int i = 0; i < 6; i++) {
    const outcome found = run(&(slow_case){.ranks = 2,
                                           .experts = 64,
                                           .slow = 1,
                                           .factor = 4,
                                           .guests = guests[i],
                                           .rows = 256,
                                           .spread = 0.25});
    assert_true(found.worst_held <= 1.15);
  }
}

/* Rank 3 of 4 is four times slower; weights cost no time. */
static void solve_vector(slow_ranks *w, const int32_t rows[8],
                         int32_t min_rows) {
  const slow_case of = {.ranks = 4, .experts = 8, .slow = 1, .guests = 2};
  assert_int_equal(slow_ranks_create(w, &of), MOERUN_OK);
  memcpy(w->rows, rows, 8 * sizeof *rows);
  w->speeds[3] = -2 * MOERUN_SPEED_OCTAVE;
  w->options.threshold = 1000;
  w->options.min_rows = min_rows;
  w->options.weight_rows = 0;
  moerun__plan_solve(&w->plan, &w->guests, &w->demand, &w->options);
}

static void assert_move(const slow_ranks *w, int m, int32_t replica,
                        int32_t rank, int32_t rows) {
  assert_int_equal(w->plan.moves[m].replica, replica);
  assert_int_equal(w->plan.moves[m].rank, rank);
  assert_int_equal(w->plan.moves[m].rows, rows);
  assert_int_equal(w->plan.moves[m].sends, 1);
}

/* What counts is how long a slow rank is relieved: 32 rows of the fastest take
 * as long as 8 of its own. */
static void few_rows_of_a_slow_rank_are_worth_weights(void **state) {
  (void)state;
  static slow_ranks w;
  /* A 13th of all is 24 both times. */
  solve_vector(&w, (const int32_t[8]){55, 55, 55, 55, 30, 30, 31, 0}, 32);
  assert_int_equal(w.plan.num_moves, 0);
  slow_ranks_destroy(&w);
  solve_vector(&w, (const int32_t[8]){55, 55, 55, 55, 30, 30, 33, 0}, 32);
  assert_int_equal(w.plan.num_moves, 1);
  assert_move(&w, 0, 6, 2, 9);
  slow_ranks_destroy(&w);
}

/* Where what is over fits nobody's budget, all may end a little later. Weights
 * are sent for 50 rows of the slow rank; budgets have room for 46, and for 77
 * with an eighth more. */
static void room_is_made_for_weights(void **state) {
  (void)state;
  static slow_ranks w;
  solve_vector(&w, (const int32_t[8]){100, 100, 100, 100, 100, 100, 100, 100},
               200);
  assert_int_equal(w.plan.num_moves, 2);
  assert_move(&w, 0, 6, 0, 77);
  assert_move(&w, 1, 7, 1, 53);
  slow_ranks_destroy(&w);
}

static void speeds_and_shares(void **state) {
  (void)state;
  assert_int_equal(moerun__plan_speed(0), MOERUN_SPEED_ONE);
  assert_int_equal(moerun__plan_speed(MOERUN_SPEED_OCTAVE),
                   MOERUN_SPEED_ONE / 2);
  assert_int_equal(moerun__plan_speed(1000), MOERUN_SPEED_ONE / 32);
  for (int32_t i = 0; i < MOERUN_SLOWEST; i++) {
    assert_true(moerun__plan_speed(i) > moerun__plan_speed(i + 1));
  }
  int64_t share[4];
  moerun__plan_shares(share, 10, (const int32_t[]){1, 1, 1, 1}, 4);
  assert_int_equal(share[0], 3);
  assert_int_equal(share[1], 3);
  assert_int_equal(share[2], 2);
  assert_int_equal(share[3], 2);
  for (int64_t total = 0; total < 10; total++) {
    moerun__plan_shares(share, total, (const int32_t[]){3, 3, 3, 3}, 4);
    for (int32_t r = 0; r < 4; r++) {
      assert_int_equal(moerun__plan_even_share(total, 4, r), share[r]);
    }
  }
  moerun__plan_shares(share, 7, (const int32_t[]){4, 2, 1, 1}, 4);
  assert_int_equal(share[0], 3); /* 3.5, 1.75, 0.875, 0.875 */
  assert_int_equal(share[1], 2);
  assert_int_equal(share[2], 1);
  assert_int_equal(share[3], 1);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_optimum_is_known),
      cmocka_unit_test(slow_ranks_are_relieved),
      cmocka_unit_test(slow_ranks_with_few_rows_are_relieved),
      cmocka_unit_test(guests_are_as_many_as_memory_holds),
      cmocka_unit_test(few_rows_of_a_slow_rank_are_worth_weights),
      cmocka_unit_test(room_is_made_for_weights),
      cmocka_unit_test(speeds_and_shares),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
