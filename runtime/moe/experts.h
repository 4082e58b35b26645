/* The expert stage of a MoE layer: rows in, results out. */
#ifndef MOERUN_MOE_EXPERTS_H
#define MOERUN_MOE_EXPERTS_H

#include "runtime/moe/moe.h"

/* The rows of one slot, from first on and before last in the lists of a wave by
 * slot, and their expert. */
typedef struct moerun__slot_rows {
  const moerun__expert *expert;
  int32_t slot;
  int32_t first;
  int32_t last;
} moerun__slot_rows;

typedef moerun_status moerun__run_rows(moerun__moe *moe,
                                       const moerun__layer *layer,
                                       const moerun__slot_rows *rows);

/* Runs those of the slots first .. first + count - 1 that have rows, in the order
 * in which weights are here. end[i]: where the rows of slot first + i end, and
 * those of the next begin. */
moerun_status moerun__experts_run(moerun__moe *moe, const moerun__layer *layer,
                                  int32_t first, int32_t count,
                                  const int32_t *end, moerun__run_rows *run);

/* The rows of the wave through their experts: results and reply_offset of its
 * chunk. */
moerun_status moerun__experts_compute(moerun__moe *moe,
                                      const moerun__layer *layer);

/* `part` of the work of an expert with so many rows took so long: for what this
 * rank tells of its speed. */
void moerun__experts_note(moerun__moe *moe, int32_t rows, double part,
                          double seconds);
/* Some rows of zeros through an expert of this rank, for a reading of its
 * speed. */
void moerun__experts_probe(moerun__moe *moe);
/* Time that the rank sleeps for on purpose counts as time at work. */
void moerun__experts_sleep(moerun__moe *moe);

#endif
