/* Upper bounds of the pairs that share a part: ranks, or nodes as a whole. */
#ifndef MOERUN_PLACEMENT_BOUND_LEVEL_H
#define MOERUN_PLACEMENT_BOUND_LEVEL_H

#include "placement/problem.h"
#include "placement/relax.h"

/* Pairs kept <= base + scale * sum(worth * pair) of the relaxation. */
typedef struct moerun__bound_level {
  moerun__relax *relax;
  double base;
  double scale;
  double kept;        /* best bound so far: a whole number */
  double kept_lately; /* the same when growth was last looked at */
  int64_t step;
  int32_t most_width;
  int is_done; /* it hardly grows any more */
} moerun__bound_level;

/* ranks_per_part neighbouring ranks are one part. within: pairs of a layer
 * (`together`, each counted once), else those of neighbouring layers. */
moerun_status moerun__bound_level_create(moerun__bound_level *level,
                                         const moerun__problem *problem,
                                         int32_t ranks_per_part, int within,
                                         int32_t width);
void moerun__bound_level_clear(moerun__bound_level *level);

/* One iteration and what is due after it; *is_valued: whether `kept` was
 * computed anew, which `value_now` asks for. */
moerun_status moerun__bound_level_step(moerun__bound_level *level,
                                       int *is_valued, int value_now);

#endif
