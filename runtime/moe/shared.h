/* Shared experts: a feed-forward block that every row of a MoE layer goes
 * through. Its weights are on every rank, so rows go through it at home,
 * without dispatch, while those to other ranks travel. Several shared experts
 * are one of the sum of their widths, as checkpoints have them. */
#ifndef MOERUN_MOE_SHARED_H
#define MOERUN_MOE_SHARED_H

#include "runtime/base/arena.h"
#include "runtime/model/model.h"

typedef struct moerun__shared {
  const moerun__model_config *config; /* borrowed; shared_width 0: none */
  const moerun__kernels *kernels;
  moerun__queue *queue;
  float *gate_up; /* [tile][2 shared_width] */
  float *h;       /* [tile][shared_width] */
  float *y;       /* [T][H] */
  float *weight;  /* [T] factor of a row's y in the sum, where there is one */
} moerun__shared;

/* All three are borrowed. */
void moerun__shared_init(moerun__shared *shared,
                         const moerun__model_config *config,
                         const moerun__kernels *kernels, moerun__queue *queue);
/* Counts, or hands out, the buffers, all for kernels alone, for steps of up to
 * max_tokens rows; `tile`: most rows that are computed at once. */
void moerun__shared_lay_out(moerun__shared *shared, moerun__arena *arena,
                            int32_t max_tokens, int32_t tile);

/* Keeps the outputs of rows first .. first + count - 1 of x[T][H]; count is at
 * most the tile. */
void moerun__shared_compute(moerun__shared *shared, const moerun__layer *layer,
                            const float *x, int32_t first, int32_t count,
                            float *scratch);

/* y[t][H] += what was kept of row t, first <= t < first + count: one fused
 * multiply-add on what stands in y. */
void moerun__shared_add(const moerun__shared *shared, float *y, int32_t first,
                        int32_t count);

#endif
