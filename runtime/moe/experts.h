/* The expert stage of a MoE layer: rows in, results out. */
#ifndef MOERUN_MOE_EXPERTS_H
#define MOERUN_MOE_EXPERTS_H

#include "runtime/moe/moe.h"

/* The rows that chunk c's first wave receives. The counts are known. */
moerun__row_list moerun__experts_first_wave(moerun__moe *moe, int32_t c);

/* All waves of chunk c: receive, compute, send the results home. */
moerun_status moerun__experts_work_off(moerun__moe *moe, int32_t c,
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
