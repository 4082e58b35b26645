/* What the requests need that are not finished: of the cache, and of steps. */
#ifndef MOERUN_RUN_WORK_LEFT_H
#define MOERUN_RUN_WORK_LEFT_H

#include "launch/results/unfinished.h"
#include "launch/run/cache_need.h"
#include "launch/run/estimate.h"

typedef struct moerun__work_left {
  moerun__work work;
  moerun__cache_need need;
} moerun__work_left;

/* Of `prompts` without those that are wrong or have a result. What they have
 * generated before is fed with their prompts; `kept` is NULL or says what. */
moerun_status moerun__work_left_of(moerun__work_left *out,
                                   const moerun__prompts *prompts,
                                   const moerun__results *results,
                                   const moerun__unfinished *kept,
                                   int32_t max_sequences, int32_t num_ranks);

#endif
