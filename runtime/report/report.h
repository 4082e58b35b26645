/* What all ranks did, brought together on rank 0. */
#ifndef MOERUN_REPORT_REPORT_H
#define MOERUN_REPORT_REPORT_H

#include "runtime/decoder/session.h"

/* One number over the ranks. */
typedef struct moerun__spread {
  double minimum;
  double mean;
  double maximum;
  int32_t rank_of_maximum;
} moerun__spread;

typedef struct moerun__quantiles {
  double p50;
  double p90;
  double p99;
  double longest;
} moerun__quantiles;

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
  int64_t weight_bytes;
  int64_t way_bytes[MOERUN_MOST_WAYS];
  moerun__quantiles *layer_time; /* [NUM_LAYER_TIMES][R] seconds of one layer */
  double *wall_over_cpu;         /* [R] of the stage experts; 0: not seen */
  moerun__histogram first_token;
  moerun__histogram per_token;
  double *speed; /* [R] applied at the end, relative to the fastest rank's at
                    the start                                              */
  moerun__gate_counts gate; /* sums, but for capacity.over of rank 0 */
  moerun__gate_counts *gate_of_layer; /* [num_moe_layers] the same */
  int32_t is_lossy; /* 1: a capacity or fewer experts were chosen */
  const moerun__way_table *ways; /* of the session, borrowed */
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
