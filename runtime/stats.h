/* What a session did on this rank since it was created: the one place where
 * each number of the metrics is defined. Counted always; costs a clock reading
 * per stage and layer. */
#ifndef MOERUN_RUNTIME_STATS_H
#define MOERUN_RUNTIME_STATS_H

#include "comm/comm.h"
#include "runtime/balance/ledger.h"
#include "runtime/gate.h"

/* Where a step's wall-clock time goes. `experts` holds the placed experts'
 * GEMMs alone; what a rank waits for others is in the two waits. */
#define MOERUN_STAGE_MAP(X)                                                    \
  X(EMBED, "embed")               /* token rows, rotary angles           */    \
  X(ATTENTION, "attention")       /* norm, q k v, cache, attention, out  */    \
  X(DENSE, "dense")               /* FFN of dense layers                 */    \
  X(GATE, "gate")                 /* norm, scores, top-k                 */    \
  X(DISPATCH, "dispatch")         /* route, pack, post messages          */    \
  X(COUNT_WAIT, "count_wait")     /* for the row counts of the others    */    \
  X(ROWS_WAIT, "rows_wait")       /* for rows to arrive                  */    \
  X(SHARED, "shared")             /* shared experts of own rows          */    \
  X(WEIGHTS_WAIT, "weights_wait") /* for weights of guest experts        */    \
  X(EXPERTS, "experts")           /* gather, GEMMs, scatter              */    \
  X(RESULTS_WAIT, "results_wait") /* for result rows to come home        */    \
  X(COMBINE, "combine")           /* weighted sum at home                */    \
  X(HEAD, "head")                 /* final norm, logits                  */    \
  X(SAMPLE, "sample")             /* logits to token                     */    \
  X(CONTROL, "control")           /* requests and completions, rank 0    */    \
  X(REPLACE, "replace")           /* looks at the routing, experts moved */

typedef enum moerun__stage {
#define MOERUN_STAGE_ENUM(name, text) MOERUN_STAGE_##name,
  MOERUN_STAGE_MAP(MOERUN_STAGE_ENUM)
#undef MOERUN_STAGE_ENUM
      MOERUN_NUM_STAGES,
} moerun__stage;

typedef struct moerun__stats {
  int64_t steps;        /* calls of moerun_forward or moerun_moe_forward     */
  int64_t home_rows;    /* rows of this rank's own tokens, per MoE layer sum */
  int64_t rows_out;     /* copies sent to other ranks                        */
  int64_t rows_in;      /* copies received from other ranks                  */
  int64_t rows_local;   /* copies that stayed                                */
  int64_t results_out;  /* result rows sent home to other ranks             */
  int64_t waves;        /* times a receive buffer was filled and worked off  */
  int64_t rows_moved;   /* rows that this rank's experts gave to other ranks */
  int64_t weights_out;  /* experts whose weights this rank sent for that     */
  int64_t *expert_rows; /* [num_moe_layers][E] rows this rank's experts
                           computed; experts elsewhere stay 0              */
  double seconds[MOERUN_NUM_STAGES];
  double mark; /* when the current stage began */
} moerun__stats;

/* "embed", … */
const char *moerun__stage_name(moerun__stage stage);

/* Starts the clock; each end adds the time since the last mark to a stage. */
void moerun__stage_begin(moerun__stats *stats);
void moerun__stage_end(moerun__stats *stats, moerun__stage stage);

/* The statistics of a session; borrowed. */
moerun__stats *moerun__session_stats(moerun_session *session);
/* Everything back to zero (after a warm-up), the comm's counts excepted. */
void moerun__session_stats_reset(moerun_session *session);

/* One number over the ranks. */
typedef struct moerun__spread {
  double minimum;
  double mean;
  double maximum;
  int32_t rank_of_maximum;
} moerun__spread;

/* All ranks' statistics on rank 0. */
typedef struct moerun__report {
  int32_t num_ranks;
  int32_t num_moe_layers;
  int32_t num_experts;
  moerun__spread seconds[MOERUN_NUM_STAGES];
  moerun__spread resident_bytes; /* peak of the process, from the caller */
  int64_t rows_out;              /* sums over ranks from here            */
  int64_t rows_local;
  int64_t results_out;
  int64_t home_rows;
  int64_t waves;
  moerun__comm_count count;
  int64_t *expert_rows; /* [num_moe_layers][E] */
  int64_t *rank_rows;   /* [num_moe_layers][R] rows computed per rank */
  int64_t rows_moved;
  int64_t weights_sent;
  int64_t speed_changes;
  double *speed; /* [R] applied at the end, relative to the fastest rank's at
                    the start                                              */
  moerun__gate_counts gate;     /* sums, but for capacity.over of rank 0 */
  int32_t is_lossy;             /* 1: a capacity or fewer experts were chosen */
  const moerun__ledger *ledger; /* of the session, borrowed; NULL: no balance */
} moerun__report;

/* [collective] *out on rank 0, NULL elsewhere. resident_bytes: this rank's. */
moerun_status moerun__report_collect(moerun__report **out,
                                     moerun_session *session,
                                     int64_t resident_bytes);
void moerun__report_destroy(moerun__report *report);

/* Hottest over mean of counts[n], 1 if all are 0. */
double moerun__max_over_mean(const int64_t *counts, int32_t n);

#endif
