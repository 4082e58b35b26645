/* Fewer experts for tokens that need fewer, decided by the token alone. */
#ifndef MOERUN_PLAN_WIDTH_H
#define MOERUN_PLAN_WIDTH_H

#include "runtime/base/status.h"
#include "runtime/plan/weight.h"

typedef struct moerun__width {
  int32_t most; /* most experts of a token, at least 1; K or more: no limit */
  double top_p; /* in (0, 1]: the fewest experts, first ones in gate order,
                   with this part of the sum of the token's gate weights; 1:
                   all. Where a bias takes part in the choice, the first ones
                   need not have the largest weights                       */
  moerun__weight_rule rule;
} moerun__width;

/* Most experts of a token in MoE layers first..last. */
typedef struct moerun__width_range {
  int32_t first;
  int32_t last;
  int32_t most;
} moerun__width_range;

enum { MOERUN_WIDTH_RANGES = 64 };

typedef struct moerun__width_limits {
  int32_t count;
  moerun__width_range range[MOERUN_WIDTH_RANGES]; /* do not overlap */
} moerun__width_limits;

/* "4": *most for all layers, no limits. "0-7:8,9:4": limits for these, *most
 * 0. ERR_INVALID for any other text. */
moerun_status moerun__width_parse(int32_t *most, moerun__width_limits *limits,
                                  const char *text);
/* ERR_INVALID if a range ends beyond the last of so many layers. */
moerun_status moerun__width_limits_check(const moerun__width_limits *limits,
                                         int32_t num_layers);
/* Of this layer; 0: no range has it. */
int32_t moerun__width_limit(const moerun__width_limits *limits, int32_t layer);

typedef struct moerun__width_counts {
  int64_t terms; /* (token, expert) pairs before */
  int64_t removed;
  double mass; /* sum of the gate weights before; NaN counts as 0 */
  double mass_lost;
} moerun__width_counts;

/* Experts that a token keeps of ids[K], which are in gate order: a leading
 * part, never none of them. 0 if all ids are -1. */
int32_t moerun__width_of(const moerun__width *width, const int32_t *ids,
                         const float *weight, int32_t K);

/* Of ids[T][stride] and weight[T][stride], the first K of each row filled,
 * what goes becomes -1 and 0; adds to *counts. scores[T][choices] is read by
 * MOERUN_WEIGHT_NONE only. T may be 0. */
typedef struct moerun__width_rows {
  int32_t T;
  int32_t K;
  int32_t stride;
  int32_t num_choices; /* scores of a row */
  int32_t *ids;
  float *weight;
  const float *scores;
} moerun__width_rows;

void moerun__width_cut(const moerun__width_rows *rows,
                       const moerun__width *width,
                       moerun__width_counts *counts);

#endif
