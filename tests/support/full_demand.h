/* What every rank wants of every replica, which no rank knows: sums and parts
 * that ranks make of it, and the splitting of rows as one sees it who knows
 * all. */
#ifndef MOERUN_TESTS_FULL_DEMAND_H
#define MOERUN_TESTS_FULL_DEMAND_H

#include "runtime/plan/plan.h"
#include "support/cmocka.h"

#include <stdlib.h>
#include <string.h>

enum {
  FULL_RANKS = 64,
  FULL_REPLICAS = 1024,
  FULL_STAY = 2 * (FULL_REPLICAS + 2 * FULL_RANKS),
};

typedef struct full_demand {
  int32_t rows[FULL_RANKS][FULL_REPLICAS]; /* of each source for each replica */
  int32_t total[FULL_REPLICAS];
  int32_t before[FULL_REPLICAS]; /* of the sources below the one looked at */
} full_demand;

/* What `rank` knows of it. */
static inline void full_demand_show(full_demand *full, moerun__demand *demand,
                                    int32_t rank) {
  for (int32_t h = 0; h < demand->num_replicas; h++) {
    full->total[h] = 0;
    for (int32_t s = 0; s < demand->num_ranks; s++) {
      if (s == rank) full->before[h] = full->total[h];
      full->total[h] += full->rows[s][h];
    }
  }
  demand->rows = full->total;
  demand->own = full->rows[rank];
  demand->before = full->before;
}

/* ---- The splitting of one who knows all ---------------------------------- */

typedef struct full_destination {
  int32_t rank;
  int64_t open; /* rows that it has room for */
} full_destination;

static inline int full__by_rank(const void *a, const void *b) {
  const full_destination *x = a;
  const full_destination *y = b;
  return (x->rank > y->rank) - (x->rank < y->rank);
}

static inline int64_t full__least(int64_t a, int64_t b) {
  return a < b ? a : b;
}

/* given[R][R]: rows of each source that go to each rank, of one replica. First
 * each rank keeps what it may of its own; then sources and destinations are
 * matched in the order of ranks. */
static inline void full_split(int64_t *given, const full_demand *full,
                              const moerun__plan *plan,
                              const moerun__demand *demand, int32_t replica) {
  const int32_t R = demand->num_ranks;
  full_destination to[FULL_RANKS];
  int32_t count = 1;
  int32_t d = 0;
  to[0] = (full_destination){demand->rank_of[replica], full->total[replica]};
  for (int32_t m = 0; m < plan->num_moves; m++) {
    if (plan->moves[m].replica != replica) continue;
    assert_true(count < FULL_RANKS);
    to[0].open -= plan->moves[m].rows;
    to[count++] = (full_destination){plan->moves[m].rank, plan->moves[m].rows};
  }
  qsort(to, (size_t)count, sizeof *to, full__by_rank);
  memset(given, 0, (size_t)R * (size_t)R * sizeof *given);
  for (int32_t i = 0; i < count; i++) {
    const int32_t r = to[i].rank;
    const int64_t stays = full__least(full->rows[r][replica], to[i].open);
    given[r * R + r] = stays;
    to[i].open -= stays;
  }
  for (int32_t s = 0; s < R; s++) {
    int64_t left = full->rows[s][replica] - given[s * R + s];
    while (left > 0) {
      const int64_t rows = full__least(left, to[d].open);
      given[s * R + to[d].rank] += rows;
      to[d].open -= rows;
      left -= rows;
      if (left > 0) d++;
      assert_true(d < count);
    }
  }
}

/* ---- The splitting of the ranks ------------------------------------------ */

/* Portions of one source and replica: their sum, and what each call of
 * plan_next says. */
static inline void full__check_parts(const full_demand *full,
                                     moerun__plan *plan, int32_t source,
                                     int32_t replica, const int64_t *given) {
  const int32_t first = plan->portion_of[replica];
  const int32_t last = plan->portion_of[replica + 1];
  int64_t sum = 0;
  for (int32_t p = first; p < last; p++) {
    const moerun__portion *portion = &plan->portions[p];
    int64_t rows = 0;
    for (int32_t q = first; q < last; q++) {
      rows +=
          plan->portions[q].rank == portion->rank ? plan->portions[q].rows : 0;
    }
    assert_true(portion->rows > 0);
    assert_int_equal(rows, given[source * plan->num_ranks + portion->rank]);
    sum += portion->rows;
  }
  assert_int_equal(sum, full->rows[source][replica]);
  for (int64_t i = 0; i < sum; i++) {
    const moerun__portion *portion = moerun__plan_next(plan, replica);
    assert_true(portion >= plan->portions + first);
    assert_true(portion < plan->portions + last);
  }
}

static inline int full__moves(const moerun__plan *plan, int32_t replica) {
  for (int32_t m = 0; m < plan->num_moves; m++) {
    if (plan->moves[m].replica == replica) return 1;
  }
  return 0;
}

/* Every source finds alone, from sums, what one finds who knows all. */
static inline void split_check(full_demand *full, moerun__plan *plan,
                               moerun__demand *demand) {
  const int32_t R = demand->num_ranks;
  static int64_t given[FULL_RANKS * FULL_RANKS];
  int32_t stay[FULL_STAY] = {0};
  int32_t n = 0;
  for (int32_t r = 0; r < R; r++) {
    full_demand_show(full, demand, r);
    n = moerun__plan_stay(plan, demand, r);
    assert_true(n <= 2 * plan->num_moves);
    for (int32_t i = 0; i < n; i++) {
      stay[i] += plan->staying[i];
    }
  }
  for (int32_t s = 0; s < R; s++) {
    full_demand_show(full, demand, s);
    memcpy(plan->staying, stay, (size_t)n * sizeof *stay);
    moerun__plan_split(plan, demand, s);
    for (int32_t h = 0; h < demand->num_replicas; h++) {
      if (!full__moves(plan, h)) {
        assert_null(moerun__plan_next(plan, h));
        continue;
      }
      full_split(given, full, plan, demand, h);
      full__check_parts(full, plan, s, h, given);
    }
  }
}

#endif
