/* Experts that are computed where the token is (arch_home.c): the gate chooses
 * them like any other, dispatch never hears of them. With w the gate's weight
 * and x the row that enters the layer, in the order of the gate's choices:
 *   null      nothing, and where the gate renormalises, the other weights of
 *             the token are scaled to the sum that they had with it
 *   zero      nothing
 *   copy      w x
 *   constant  w (a x + b v), (a, b) = softmax(M x) with the expert's M and v
 * The chain over the placed experts' results goes on with x, times the sum of
 * its weights in gate order, and then with the vectors in gate order: the same
 * on any number of ranks. */
#ifndef MOERUN_MOE_HOME_H
#define MOERUN_MOE_HOME_H

#include "runtime/base/arena.h"
#include "runtime/model/model.h"

/* Sums over layers and steps on this rank. */
typedef struct moerun__home_counts {
  int64_t rows;
  int64_t terms;                     /* choices of the gate: K for each row */
  int64_t chosen[MOERUN_HOME_KINDS]; /* of these terms, by kind */
  int64_t rows_alone;                /* rows that chose no placed expert */
} moerun__home_counts;

typedef struct moerun__home {
  const moerun__model_config *config; /* borrowed */
  const moerun__kernels *kernels;
  moerun__queue *queue;
  int32_t choices;      /* of the gate, placed experts among them */
  int32_t is_used;      /* 0: all of these are placed; then nothing is kept */
  int32_t *num_vectors; /* [T] constant experts that a row chose */
  int32_t *vector;      /* [T][K] their numbers, in gate order */
  float *vector_weight; /* [T][K] w b */
  float *own_weight;    /* [T] the factor of x: the sum of w (copy) and w a
                           (constant); 0: the row chose neither            */
  float *mix;           /* [T][constant experts][2] */
} moerun__home;

/* What the gate chose of x[T][H]. */
typedef struct moerun__home_choices {
  int32_t T;
  const float *x;
  int32_t *ids;        /* [T][K] */
  float *weight;       /* [T][K] */
  const float *scores; /* [T][choices] the weights are these scores; NULL:
                              they stay as they are given                   */
  const uint8_t
      *as_given; /* [T] 1: the row's weights stay as given even if there
                              are scores; NULL: no row's do                 */
} moerun__home_choices;

/* All three are borrowed. */
void moerun__home_init(moerun__home *home, const moerun__model_config *config,
                       const moerun__kernels *kernels, moerun__queue *queue);
/* Counts, or hands out, the buffers for steps of up to max_tokens rows. */
void moerun__home_lay_out(moerun__home *home, moerun__arena *arena,
                          int32_t max_tokens);

/* Where is_used: keeps what the rows chose of the experts at home, whose ids
 * become -1 and whose weights become 0. Adds to *counts. Fails where the device
 * does. */
moerun_status moerun__home_take(moerun__home *home, const moerun__layer *layer,
                                const moerun__home_choices *choices,
                                float *scratch, moerun__home_counts *counts);

/* Where is_used: y[t][H] += what was kept of x[t][H], first <= t < first +
 * count; y is not x. Given to the queue. */
void moerun__home_add(const moerun__home *home, const moerun__layer *layer,
                      float *y, const float *x, int32_t first, int32_t count);

#endif
