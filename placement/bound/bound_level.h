/* Upper bounds of what placements keep together: pairs of neighbouring layers
 * that share a rank or a node, or a layer's terms that find another one of
 * their token on their rank, which saves the token a visit. */
#ifndef MOERUN_BOUND_BOUND_LEVEL_H
#define MOERUN_BOUND_BOUND_LEVEL_H

#include "placement/bound/bound_prices.h"

/* kept <= base + scale * sum(worth * pair) of the relaxation. */
typedef struct moerun__bound_level {
  moerun__relax *relax;
  moerun__bound_prices *prices; /* of terms; NULL: pairs */
  double terms;                 /* of all tokens and layers */
  double base;
  double scale;
  double kept;        /* best bound so far: a whole number */
  double kept_lately; /* the same when growth was last looked at */
  int64_t step;
  int32_t most_width;
  int is_done; /* it hardly grows any more */
} moerun__bound_level;

/* Pairs; ranks_per_part neighbouring ranks are one part. */
moerun_status moerun__bound_level_create(moerun__bound_level *level,
                                         const moerun__problem *problem,
                                         int32_t ranks_per_part, int32_t width);
/* Terms. */
moerun_status moerun__bound_level_create_terms(moerun__bound_level *level,
                                               const moerun__problem *problem);
void moerun__bound_level_clear(moerun__bound_level *level);

/* One iteration and what is due after it; *is_valued: whether `kept` was
 * computed anew, which `value_now` asks for. */
moerun_status moerun__bound_level_step(moerun__bound_level *level,
                                       int *is_valued, int value_now);

#endif
