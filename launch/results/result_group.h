/* Requests that are finished and have one line with others that are not: what
 * they have generated stays in memory until the line is whole. Rank 0 only. */
#ifndef MOERUN_RESULTS_RESULT_GROUP_H
#define MOERUN_RESULTS_RESULT_GROUP_H

#include "launch/requests/prompts.h"

typedef struct moerun__result_groups moerun__result_groups;

/* prompts is borrowed. Where a result is a line of its own, nothing waits. */
moerun_status moerun__result_groups_create(moerun__result_groups **out,
                                           const moerun__prompts *prompts);
void moerun__result_groups_destroy(moerun__result_groups *groups);

/* Takes a copy of a completion. *all: those of its whole line, in order, until
 * it is dropped; NULL: others are missing. */
moerun_status moerun__result_groups_put(const moerun__completion **all,
                                        moerun__result_groups *groups,
                                        const moerun__completion *completion);
/* Forgets the line whose first request is `index`. */
void moerun__result_groups_drop(moerun__result_groups *groups, int64_t index);
/* Whether request `index` waits. */
int moerun__result_groups_has(const moerun__result_groups *groups,
                              int64_t index);

#endif
