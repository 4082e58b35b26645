/* Where a row first held a number that is infinite or NaN. Weights that are
 * broken, or that overflow, are the cause: no such row may become a token. */
#ifndef MOERUN_DECODER_BROKEN_H
#define MOERUN_DECODER_BROKEN_H

#include "kernels/kernels.h"

/* Numbers from MOERUN_BROKEN_LAYER on are decoder layers. */
enum {
  MOERUN_BROKEN_NOT = 0,
  MOERUN_BROKEN_EMBEDDING,
  MOERUN_BROKEN_HEAD, /* the final norm and the head */
  MOERUN_BROKEN_LAYER,
};

/* Where the rows of a step first broke, and the stage under way. */
typedef struct moerun__broken_rows {
  const moerun__kernels *kernels;
  moerun__queue *queue;
  int32_t *stage_of; /* [T] MOERUN_BROKEN_… */
  int32_t stage;
} moerun__broken_rows;

/* Notes the stage for row t unless an earlier one is there, if one of x[width]
 * is no sound number. Given to the queue, as the next is. */
void moerun__broken_note(const moerun__broken_rows *rows, int32_t t,
                         const float *x, size_t width);
/* The same for rows 0 .. T - 1 of x[T][width]. */
void moerun__broken_note_rows(const moerun__broken_rows *rows, const float *x,
                              size_t width, int32_t T);
/* Notes the stage for row t unless an earlier one is there; at once, so that
 * the queue has been waited for. */
void moerun__broken_mark(const moerun__broken_rows *rows, int32_t t);

#endif
