/* What a session did on this rank since it was created: the one place where
 * each number of the metrics is defined, with runtime/plan/ledger.h. Counted
 * always; costs a clock reading per stage and layer, about 15 a layer. */
#ifndef MOERUN_REPORT_COUNTERS_H
#define MOERUN_REPORT_COUNTERS_H

#include "runtime/base/histogram.h"
#include "runtime/base/limits.h"

#include <stdint.h>

/* Where a step's wall-clock time goes. `experts` holds the placed experts'
 * GEMMs alone; what a rank waits for others is in the waits. */
#define MOERUN_STAGE_MAP(X)                                                    \
  X(EMBED, "embed")               /* token rows, rotary angles           */    \
  X(ATTENTION, "attention")       /* norm, q k v, cache, attention, out  */    \
  X(DENSE, "dense")               /* FFN of dense layers                 */    \
  X(GATE, "gate")                 /* norm, scores, top-k                 */    \
  X(DISPATCH, "dispatch")         /* route, pack, post messages          */    \
  X(COUNT_WAIT, "count_wait")     /* for the row counts of the others    */    \
  X(PLAN, "plan")                 /* who helps whom, if anyone           */    \
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

/* The stages of an MoE layer follow each other above. Of each layer of each
 * step their times are kept, then those of all waits together and of the
 * layer. */
enum {
  MOERUN_FIRST_LAYER_STAGE = MOERUN_STAGE_GATE,
  MOERUN_NUM_LAYER_STAGES = MOERUN_STAGE_COMBINE + 1 - MOERUN_STAGE_GATE,
  MOERUN_LAYER_WAITS = MOERUN_NUM_LAYER_STAGES,
  MOERUN_LAYER_WHOLE,
  MOERUN_NUM_LAYER_TIMES,
  MOERUN_CPU_EVERY = 32, /* steps: a reading of processor time takes long */
};

typedef struct moerun__stats {
  int64_t steps;       /* calls of moerun_forward or moerun_moe_forward     */
  int64_t home_rows;   /* rows of this rank's own tokens, per MoE layer sum */
  int64_t rows_out;    /* copies sent to other ranks                        */
  int64_t rows_in;     /* copies received from other ranks                  */
  int64_t rows_local;  /* copies that stayed                                */
  int64_t results_out; /* result rows, or slices' columns of them, sent home
                           to other ranks                                   */
  int64_t waves;       /* times a receive buffer was filled and worked off  */
  int64_t rows_moved;  /* rows that this rank's experts gave to other ranks */
  int64_t weights_out; /* experts whose weights this rank sent for that     */
  /* Sent by this rank in layers that went each way but by whole experts. */
  int64_t way_bytes[MOERUN_MOST_WAYS];
  int64_t *expert_rows; /* [num_moe_layers][E] rows this rank's experts
                           computed; experts elsewhere stay 0              */
  double seconds[MOERUN_NUM_STAGES];
  double mark; /* when the current stage began */
  double layer_began[MOERUN_NUM_LAYER_STAGES]; /* seconds[] at the end of the
                                                  MoE layer before           */
  moerun__histogram layer_time[MOERUN_NUM_LAYER_TIMES];
  double cpu_seconds; /* of the stage `experts` in every CPU_EVERYth step */
  double cpu_wall;    /* and what the clock on the wall said */
  double cpu_mark;
  double cpu_wall_mark;
  moerun__histogram first_token; /* from when a request came to this rank */
  moerun__histogram per_token;   /* after that, mean of each request */
} moerun__stats;

/* "embed", … */
const char *moerun__stage_name(moerun__stage stage);

/* Starts the clock; each end adds the time since the last mark to a stage. */
void moerun__stage_begin(moerun__stats *stats);
void moerun__stage_end(moerun__stats *stats, moerun__stage stage);

/* "gate", …, "waits", "layer" */
const char *moerun__layer_time_name(int32_t time);
/* Keeps how long the stages of the MoE layer took that has just ended. */
void moerun__layer_end(moerun__stats *stats);
/* Around the stage `experts`: right after the end of the stage before it, and
 * right after its own. */
void moerun__cpu_begin(moerun__stats *stats);
void moerun__cpu_end(moerun__stats *stats);

#endif
