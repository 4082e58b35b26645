/* What balancing saw and did, layer by layer and step by step. Every rank knows
 * it all, from the counts that are exchanged anyway; rank 0's is reported. */
#ifndef MOERUN_PLAN_LEDGER_H
#define MOERUN_PLAN_LEDGER_H

#include "runtime/base/histogram.h"
#include "runtime/plan/plan.h"

enum {
  MOERUN_LEDGER_STEPS = 4096,   /* kept: the last so many */
  MOERUN_LEDGER_CHANGES = 1024, /* of speed that are kept: the last */
  MOERUN_MASS_ONE = 1024,       /* gate weight of 1 */
};

/* What each rank tells all others of itself when it balances. */
enum {
  MOERUN_TOLD_SPEED,  /* as in moerun__demand */
  MOERUN_TOLD_BUSY,   /* microseconds of the expert stage of the layer before */
  MOERUN_TOLD_ROWS,   /* that its experts computed in the layer before */
  MOERUN_TOLD_TOKENS, /* of the step */
  MOERUN_TOLD_WORDS,
};

/* And what they tell together: sums over ranks. */
typedef struct moerun__told_sums {
  int64_t offered; /* assignments that a capacity was enforced on */
  int64_t dropped; /* and those that it dropped */
  int64_t mass;    /* their gate weight, of MOERUN_MASS_ONE */
  int64_t mass_dropped;
} moerun__told_sums;

/* Plans that chose one way, and what all ranks together send for it: 0 for
 * whole experts. */
typedef struct moerun__way_count {
  int64_t plans;
  int64_t bytes;
} moerun__way_count;

/* Sums over the layers of a step, or over the steps of a layer. Busy is the
 * wall-clock time of the expert stage without waits. */
typedef struct moerun__ledger_entry {
  int64_t plans;       /* that were looked at */
  int64_t moved;       /* of them such that moved rows */
  int64_t rows;        /* of all ranks */
  int64_t peak_expert; /* rows of the expert with most */
  int64_t empty;       /* experts without rows */
  int64_t peak_routed; /* rows of the busiest rank, as routed */
  int64_t peak_planned;
  double deviation_routed; /* standard, of the ranks' rows */
  double deviation_planned;
  int64_t rows_told;    /* computed, as the ranks said afterwards */
  int64_t peak_told;    /* by the busiest rank */
  int64_t unplanned;    /* rows computed where they were not planned */
  int64_t time_routed;  /* of the rank that would end last over that of ranks */
  int64_t time_planned; /* which all end at once, in thousandths              */
  int64_t rows_moved;   /* to other ranks than they were routed to */
  int64_t weights_sent; /* experts whose weights were sent for that */
  int64_t weight_bytes; /* of them */
  int64_t uneven;       /* plans in which ranks wait all the same */
  int64_t no_room;      /* of them such that lack memory for guests; in the
                           others no weights were sent                      */
  int64_t waiting_rows; /* of uneven plans, in rows of the fastest rank: what
                           the last rank takes over its share               */
  int64_t room_rows;    /* of that what is waited for want of memory        */
  int64_t price_rows;   /* where there is memory, what the weights would take
                           that the last rank lacks                         */
  int64_t kind_changes; /* rows as routed or moved, or another way: not as
                            the layer was in the step before                */
  int64_t speed_changes; /* ranks that told another speed than the last time */
  int64_t offered;       /* as in moerun__told_sums */
  int64_t dropped;
  int64_t mass;
  int64_t mass_dropped;
  int64_t busy_most_us; /* of the rank that was busy for longest */
  int64_t busy_sum_us;  /* of all ranks */
  int32_t last;         /* rank that was busy for longest most recently */
  moerun__way_count way[MOERUN_MOST_WAYS]; /* by number of the way */
} moerun__ledger_entry;

/* A rank's speed from this step on, as it told it. */
typedef struct moerun__speed_change {
  int64_t step;
  int32_t rank;
  int32_t speed;
} moerun__speed_change;

typedef struct moerun__ledger {
  int32_t num_layers;
  int32_t num_ranks;
  int32_t num_experts;
  double row_seconds;          /* of the fastest rank */
  int64_t num_steps;           /* begun; step s is at s % MOERUN_LEDGER_STEPS */
  moerun__ledger_entry *steps; /* [MOERUN_LEDGER_STEPS] */
  moerun__ledger_entry *layers; /* [num_layers] */
  int64_t *last_count; /* [R] layers of steps in which the rank was last */
  moerun__histogram *duration;   /* [R] busy times of one layer */
  int64_t num_changes;           /* change c is at c % MOERUN_LEDGER_CHANGES */
  moerun__speed_change *changes; /* [MOERUN_LEDGER_CHANGES] */
  int32_t *speed;                /* [R] told last */
  int32_t *kind;                 /* [num_layers] of the last plan */
  int64_t *planned;              /* [R] rows of the plan that is told of next */
  int32_t is_spread;             /* whether its rows are shares of time */
  int32_t layer;                 /* its layer; -1: none */
  int64_t step;                  /* and its step */
} moerun__ledger;

/* What plans send, in bytes. */
typedef struct moerun__plan_bytes {
  int64_t expert; /* weights of one expert of the layer */
  int64_t way;    /* between ranks, by all, if it goes another way than by
                     whole experts                                        */
} moerun__plan_bytes;

void moerun__ledger_lay_out(moerun__ledger *ledger, moerun__arena *arena,
                            int32_t num_layers, int32_t num_ranks,
                            int32_t num_experts);
void moerun__ledger_clear(moerun__ledger *ledger);
void moerun__ledger_begin_step(moerun__ledger *ledger);
/* A plan that was solved of this demand; told[R][MOERUN_TOLD_WORDS]. */
void moerun__ledger_add(moerun__ledger *ledger, const moerun__plan *plan,
                        const moerun__demand *demand, const int32_t *told,
                        const moerun__told_sums *sums,
                        const moerun__plan_bytes *bytes);

/* What ranks say of the layer of the last plan, unless the next plan has told
 * it: only MOERUN_TOLD_BUSY and MOERUN_TOLD_ROWS are read. */
void moerun__ledger_end(moerun__ledger *ledger, const int32_t *told);

/* Sum over layers. */
moerun__ledger_entry moerun__ledger_total(const moerun__ledger *ledger);
/* Rows of the busiest of n over the mean, 0 for no rows. */
double moerun__peak_over_mean(int64_t peak, int64_t rows, int32_t n);
/* Share of the ranks' time that they wait for the one that is busy for
 * longest. */
double moerun__ledger_idle(const moerun__ledger *ledger,
                           const moerun__ledger_entry *entry);

#endif
