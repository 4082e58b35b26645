/* What balancing saw and did, layer by layer and step by step. Every rank knows
 * it all, from the counts that are exchanged anyway; rank 0's is reported. */
#ifndef MOERUN_RUNTIME_BALANCE_LEDGER_H
#define MOERUN_RUNTIME_BALANCE_LEDGER_H

#include "runtime/balance/plan.h"

enum {
  MOERUN_LEDGER_STEPS = 4096, /* kept: the last so many */
  MOERUN_LEDGER_BUCKETS = 96, /* of durations, a quarter of an octave each */
};

/* Sums over the layers of a step, or over the steps of a layer. Busy is the
 * wall-clock time of the expert stage without waits. */
typedef struct moerun__ledger_entry {
  int64_t plans;       /* that were looked at */
  int64_t moved;       /* of them such that moved rows */
  int64_t sliced;      /* and such that sliced the experts */
  int64_t rows;        /* of all ranks */
  int64_t peak_routed; /* rows of the busiest rank, as routed */
  int64_t peak_planned;
  int64_t time_routed;  /* of the rank that would end last over that of ranks */
  int64_t time_planned; /* which all end at once, in thousandths              */
  int64_t busy_most_us; /* of the rank that was busy for longest */
  int64_t busy_sum_us;  /* of all ranks */
  int32_t last;         /* rank that was busy for longest most recently */
} moerun__ledger_entry;

typedef struct moerun__ledger {
  int32_t num_layers;
  int32_t num_ranks;
  int64_t num_steps;           /* begun; step s is at s % MOERUN_LEDGER_STEPS */
  moerun__ledger_entry *steps; /* [MOERUN_LEDGER_STEPS] */
  moerun__ledger_entry *layers; /* [num_layers] */
  int64_t *last_count; /* [R] layers of steps in which the rank was last */
  int32_t *duration;   /* [R][BUCKETS] busy times of one layer */
  int32_t layer;       /* the one whose busy times are told next; -1: none */
} moerun__ledger;

void moerun__ledger_lay_out(moerun__ledger *ledger, moerun__arena *arena,
                            int32_t num_layers, int32_t num_ranks);
void moerun__ledger_clear(moerun__ledger *ledger);
void moerun__ledger_begin_step(moerun__ledger *ledger);
/* Rank r was busy for busy_us[r * stride] in the layer before this one, which
 * the plan is of. */
void moerun__ledger_add(moerun__ledger *ledger, int32_t layer,
                        const moerun__plan *plan, const int32_t *busy_us,
                        size_t stride);

/* Duration below which `share` of a rank's layers were, in seconds; 0: none. */
double moerun__ledger_quantile(const moerun__ledger *ledger, int32_t rank,
                               double share);

#endif
