/* Who stays of a group with more candidates than it may take: the first by the
 * total order that capacity.h states. */
#ifndef MOERUN_PLAN_CAPACITY_SELECT_H
#define MOERUN_PLAN_CAPACITY_SELECT_H

#include "runtime/plan/capacity.h"

/* Bit of moerun__capacity_record.standing; the low 8 are the priority class. */
enum { MOERUN_NOT_PINNED = 1 << 16 };

/* Ascending with the score; -0 is 0, and NaN comes before all numbers. */
uint32_t moerun__score_order(float score);

/* Sets record->metric by its expert, request and position. `value`: the score,
 * or the weight with MOERUN_METRIC_WEIGHT. */
void moerun__capacity_rate(moerun__capacity_record *record,
                           const moerun__capacity_options *options,
                           int32_t layer, float value);

/* Marks in capacity->kept the own ones, first_own and on, of the best records
 * of every group, as many as capacity->limit says, and all that are pinned. */
void moerun__capacity_select(moerun__capacity *capacity,
                             const moerun__capacity_record *records, int32_t n,
                             int32_t first_own);

/* Leaves of the own records of every group those that stay if no other rank
 * has any: the others stay in no case. */
void moerun__capacity_prune(moerun__capacity *capacity);

/* Whether item a comes before item b of what `context` points to. */
typedef int moerun__before(const void *context, int32_t a, int32_t b);

/* Last first. Without memory of its own, unlike qsort may have. */
void moerun__capacity_sort(int32_t *items, int32_t n, moerun__before *before,
                           const void *context);

#endif
