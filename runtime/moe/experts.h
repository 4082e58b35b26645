/* The expert stage of a MoE layer: rows in, results out. */
#ifndef MOERUN_MOE_EXPERTS_H
#define MOERUN_MOE_EXPERTS_H

#include "runtime/moe/moe.h"

enum { MOERUN_MAX_GROUP = 16 };

/* Experts that compute together: those of some slots whose rows follow one
 * another in the lists of a wave by slot. Between two groups messages move on,
 * so a group ends with MOERUN_FFN_TILE rows, MOERUN_MAX_GROUP experts or
 * GROUP_BYTES of weights; one expert alone may have more of either. */
typedef struct moerun__expert_group {
  int32_t count;
  int32_t first; /* of their rows, in the lists */
  size_t weight_bytes;
  int32_t slot[MOERUN_MAX_GROUP];
  int32_t offset[MOERUN_MAX_GROUP + 1]; /* their rows, from `first` on */
  moerun__expert expert[MOERUN_MAX_GROUP];
} moerun__expert_group;

static inline int32_t moerun__group_rows(const moerun__expert_group *group) {
  return group->offset[group->count];
}

typedef moerun_status moerun__run_group(moerun__moe *moe,
                                        const moerun__layer *layer,
                                        const moerun__expert_group *group);

/* Runs those of the slots first .. first + count - 1 that have rows, in the
 * order in which weights are here. end[i]: where the rows of slot first + i
 * end, and those of the next begin. */
moerun_status moerun__experts_run(moerun__moe *moe, const moerun__layer *layer,
                                  int32_t first, int32_t count,
                                  const int32_t *end, moerun__run_group *run);

/* Whole experts, of whatever rows an exchange brings for slots. */
extern const moerun__expert_stage moerun__stage_whole;

/* `fraction` of the work of so many experts, with so many rows together, took
 * so long: for what this rank tells of its speed. */
void moerun__experts_note(moerun__moe *moe, int32_t experts, int32_t rows,
                          double fraction, double seconds);
/* Some rows of zeros through an expert of this rank, for a reading of its
 * speed. */
void moerun__experts_probe(moerun__moe *moe);
/* Time that the rank sleeps for on purpose counts as time at work. */
void moerun__experts_sleep(moerun__moe *moe);

#endif
