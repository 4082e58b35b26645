/* Slow ranks, step after step, without any ranks: loads are drawn, plans are
 * those of moerun__plan_solve, and times are counted in rows of a rank that is
 * not slow, so results are the same on any machine. Ranks learn their speeds as
 * in a run, from the time of what they computed (speed.h). Weights leave a rank
 * and come to it one expert at a time, and rows of a guest wait for them.
 *
 * Judged is by the true optimum: rows can be divided at will and all ranks end
 * at once. It knows nothing of how plans are made, nor of their options. */
#ifndef MOERUN_TESTS_SLOW_RANKS_H
#define MOERUN_TESTS_SLOW_RANKS_H

#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/base/timer.h"
#include "runtime/plan/plan.h"
#include "runtime/plan/speed.h"

#include <stdlib.h>
#include <string.h>

enum {
  SLOW_LAYERS = 2,
  SLOW_MAX_RANKS = 64,
  SLOW_MAX_EXPERTS = 256,
  SLOW_MAX_MOVES = SLOW_MAX_EXPERTS + 2 * SLOW_MAX_RANKS,
  SLOW_FROM = 4,               /* first slow step */
  SLOW_JUDGED = SLOW_FROM + 4, /* the fifth */
};

typedef struct slow_case {
  int32_t ranks;
  int32_t experts; /* in blocks */
  int32_t slow;    /* the last so many ranks are slow */
  int32_t factor;  /* by which they are */
  int32_t flap;    /* by turns of so many steps; 0: always */
  int32_t guests;  /* of each layer that a rank has memory for */
  int32_t rows;    /* of an expert in a layer and step, on average */
  double spread;   /* share of that by which an expert's rows differ at most */
  double noise;    /* the same of the time that a row takes */
} slow_case;

typedef struct slow_ranks {
  slow_case of;
  moerun__demand demand;
  moerun__plan plan;
  moerun__guest_table guests;
  moerun__plan_options options;
  moerun__speed speed[SLOW_MAX_RANKS];
  int32_t step;
  int32_t replica_of_expert[SLOW_MAX_EXPERTS + 1];
  int32_t rank_of[SLOW_MAX_EXPERTS];
  int32_t slot_of[SLOW_MAX_EXPERTS];
  int32_t rows[SLOW_MAX_EXPERTS];
  int32_t speeds[SLOW_MAX_RANKS];  /* as ranks tell them */
  double slowness[SLOW_MAX_RANKS]; /* now; 1 is as fast as any */
  double busy[SLOW_MAX_RANKS];
  double out[SLOW_MAX_RANKS]; /* when the last weights have left */
  double in[SLOW_MAX_RANKS];  /* and have come */
  double came[SLOW_MAX_MOVES];
  char *block;
} slow_ranks;

/* Times in rows, but for `seconds`. */
typedef struct slow_times {
  double plain;     /* of the last rank, as routed */
  double end;       /* as planned */
  double best;      /* the optimum */
  double best_held; /* no plan ends sooner with so much memory for guests */
  double seconds;   /* of the processor, that the plan took to make */
  int32_t sends;
} slow_times;

static const uint64_t slow_seed = 20261130;

/* ---- The optimum --------------------------------------------------------- */

/* All ranks end at once: total work over the sum of speeds. */
static inline double slow_optimum(double rows, const double *slowness,
                                  int32_t num_ranks) {
  double speeds = 0;
  for (int32_t r = 0; r < num_ranks; r++) {
    speeds += 1 / slowness[r];
  }
  return rows / speeds;
}

static inline int slow__most_first(const void *a, const void *b) {
  const int32_t x = *(const int32_t *)a;
  const int32_t y = *(const int32_t *)b;
  return (x < y) - (x > y);
}

/* No more experts can leave the slow ranks than others have memory for: of
 * their rows, those of the experts with fewest stay. */
static inline double slow_optimum_held(const slow_ranks *w, double optimum) {
  int32_t rows[SLOW_MAX_EXPERTS];
  const int32_t fast = w->of.ranks - w->of.slow;
  const int32_t room = (w->of.guests + MOERUN_SHARED_GUESTS) * fast;
  int32_t count = 0;
  double stay = 0;
  for (int32_t e = 0; e < w->of.experts; e++) {
    if (w->rank_of[e] >= fast) rows[count++] = w->rows[e];
  }
  qsort(rows, (size_t)count, sizeof *rows, slow__most_first);
  for (int32_t i = room; i < count; i++) {
    stay += rows[i];
  }
  const double held = stay * w->slowness[w->of.ranks - 1] / w->of.slow;
  return held > optimum ? held : optimum;
}

/* Guests of a layer that a session has memory for by default: what is needed
 * when a quarter of the ranks give all away. */
static inline int32_t slow_default_guests(int32_t ranks, int32_t experts) {
  const int32_t slow = (ranks + 3) / 4;
  const int32_t own = (experts + ranks - 1) / ranks;
  return (own * slow + ranks - slow - 1) / (ranks - slow);
}

/* ---- Setting up ---------------------------------------------------------- */

static inline void slow__lay_out(slow_ranks *w, moerun__arena *arena) {
  moerun__plan_lay_out(&w->plan, arena, w->of.ranks, w->of.experts);
  moerun__guest_table_lay_out(&w->guests, arena, w->of.ranks, SLOW_LAYERS,
                              w->of.guests * SLOW_LAYERS +
                                  MOERUN_SHARED_GUESTS);
}

/* Options are those of a session that counts; they may be changed before the
 * first step. */
static inline moerun_status slow_ranks_create(slow_ranks *w,
                                              const slow_case *of) {
  moerun__arena arena = {NULL, 0};
  memset(w, 0, sizeof *w);
  w->of = *of;
  for (int32_t e = 0; e < of->experts; e++) {
    w->replica_of_expert[e + 1] = e + 1;
    w->rank_of[e] = e * of->ranks / of->experts;
    w->slot_of[e] =
        e > 0 && w->rank_of[e] == w->rank_of[e - 1] ? w->slot_of[e - 1] + 1 : 0;
  }
  for (int32_t r = 0; r < of->ranks; r++) {
    moerun__speed_expect(&w->speed[r], 1e-4, 1e-2, 100);
  }
  w->demand = (moerun__demand){.num_ranks = of->ranks,
                               .num_replicas = of->experts,
                               .num_experts = of->experts,
                               .replica_of_expert = w->replica_of_expert,
                               .rank_of = w->rank_of,
                               .slot_of = w->slot_of,
                               .rows = w->rows,
                               .speed = w->speeds};
  w->options = (moerun__plan_options){.threshold = 1300,
                                      .threshold_held = 1100,
                                      .slack = 1000,
                                      .min_rows = 32,
                                      .min_rows_held = 8,
                                      .weight_rows = 12};
  slow__lay_out(w, &arena);
  const moerun_status status = moerun__alloc(&w->block, arena.used, 1);
  if (status != MOERUN_OK) return status;
  arena = (moerun__arena){w->block, 0};
  slow__lay_out(w, &arena);
  moerun__guest_table_clear(&w->guests);
  return MOERUN_OK;
}

static inline void slow_ranks_destroy(slow_ranks *w) {
  moerun__free(w->block);
  w->block = NULL;
}

/* ---- A step -------------------------------------------------------------- */

static inline double slow__later(double a, double b) {
  return a > b ? a : b;
}

/* When each move's weights are there. */
static inline void slow__send_weights(slow_ranks *w) {
  memset(w->out, 0, sizeof w->out);
  memset(w->in, 0, sizeof w->in);
  memset(w->came, 0, sizeof w->came);
  for (int32_t i = 0; i < w->plan.num_sends; i++) {
    const moerun__send *send = &w->plan.sends[i];
    double *in = &w->in[w->plan.moves[send->move].rank];
    double *out = &w->out[send->from];
    double start = slow__later(*in, *out);
    if (send->from_move >= 0) {
      start = slow__later(start, w->came[send->from_move]);
    }
    *in = *out = w->came[send->move] = start + w->options.weight_rows;
  }
}

/* When the last rank ends: own rows and guests that are there first, then those
 * whose weights come, in the order in which they do. */
static inline double slow__end_of(slow_ranks *w) {
  const moerun__plan *plan = &w->plan;
  double end = 0;
  slow__send_weights(w);
  for (int32_t r = 0; r < w->of.ranks; r++) {
    w->busy[r] = (double)plan->before[r] * w->slowness[r];
  }
  for (int32_t m = 0; m < plan->num_moves; m++) {
    const moerun__move *move = &plan->moves[m];
    const int32_t from = w->rank_of[move->replica];
    w->busy[from] -= move->rows * w->slowness[from];
    if (move->sends) continue;
    w->busy[move->rank] += move->rows * w->slowness[move->rank];
  }
  for (int32_t i = 0; i < plan->num_sends; i++) {
    const moerun__move *move = &plan->moves[plan->sends[i].move];
    double *busy = &w->busy[move->rank];
    *busy = slow__later(*busy, w->came[plan->sends[i].move]) +
            move->rows * w->slowness[move->rank];
  }
  for (int32_t r = 0; r < w->of.ranks; r++) {
    end = slow__later(end, w->busy[r]);
  }
  return end;
}

/* What ranks read off the clock; noise is theirs, not the optimum's. */
static inline void slow__learn(slow_ranks *w, int32_t layer) {
  const uint64_t at = (uint64_t)(w->step * SLOW_LAYERS + layer);
  for (int32_t r = 0; r < w->of.ranks; r++) {
    const double uniform =
        moerun__uniform(slow_seed + 1, at, (uint64_t)r) * 2 - 1;
    const int64_t rows = w->plan.load[r];
    moerun__speed_add(&w->speed[r], 1, rows, 1,
                      w->slowness[r] * (1 + w->of.noise * uniform) *
                          moerun__speed_expected(&w->speed[r], 1, rows));
  }
}

/* Rows of each expert: who sends them is no matter of time here. Layer 0 begins
 * a step. */
static inline double slow__draw(slow_ranks *w, int32_t layer) {
  const uint64_t at = (uint64_t)(w->step * SLOW_LAYERS + layer);
  double total = 0;
  w->demand.layer = layer;
  for (int32_t e = 0; e < w->of.experts; e++) {
    const double uniform = moerun__uniform(slow_seed, at, (uint64_t)e) * 2 - 1;
    w->rows[e] = (int32_t)(w->of.rows * (1 + w->of.spread * uniform));
    total += w->rows[e];
  }
  return total;
}

static inline void slow__begin_step(slow_ranks *w) {
  const int32_t since = w->step - SLOW_FROM;
  const int is_slow =
      since >= 0 && (w->of.flap == 0 || since / w->of.flap % 2 == 0);
  for (int32_t r = 0; r < w->of.ranks; r++) {
    w->slowness[r] =
        is_slow && r >= w->of.ranks - w->of.slow ? w->of.factor : 1;
    w->speeds[r] = w->speed[r].applied;
  }
}

static inline void slow__end_step(slow_ranks *w) {
  for (int32_t r = 0; r < w->of.ranks; r++) {
    moerun__speed_step(&w->speed[r]);
  }
  w->step++;
}

/* times[SLOW_LAYERS] of the next step. */
static inline void slow_ranks_step(slow_ranks *w, slow_times *times) {
  slow__begin_step(w);
  for (int32_t layer = 0; layer < SLOW_LAYERS; layer++) {
    const double total = slow__draw(w, layer);
    slow_times *t = &times[layer];
    *t = (slow_times){.seconds = -moerun__thread_seconds()};
    moerun__plan_solve(&w->plan, &w->guests, &w->demand, &w->options);
    t->seconds += moerun__thread_seconds();
    for (int32_t r = 0; r < w->of.ranks; r++) {
      t->plain =
          slow__later(t->plain, (double)w->plan.before[r] * w->slowness[r]);
    }
    t->end = slow__end_of(w);
    t->best = slow_optimum(total, w->slowness, w->of.ranks);
    t->best_held = slow_optimum_held(w, t->best);
    t->sends = w->plan.num_sends;
    slow__learn(w, layer);
  }
  slow__end_step(w);
}

#endif
