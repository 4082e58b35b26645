/* Operations that move numbers or look at them, and compute none: all sets of
 * the processor have them alike. kernels.h says what they do. */
#ifndef MOERUN_KERNELS_PLAIN_H
#define MOERUN_KERNELS_PLAIN_H

#include "kernels/kernels.h"

void moerun__plain_embed(moerun__queue *queue, float *x, size_t x_stride,
                         const moerun__weight *weight, const int32_t *output,
                         int32_t M);
void moerun__plain_kv_store(moerun__queue *queue, const moerun__kv_rows *rows,
                            const moerun__kv_view *view,
                            const moerun__attention_shape *shape);
void moerun__plain_clip(moerun__queue *queue, float *x, size_t count,
                        float limit);
void moerun__plain_note_unsound(moerun__queue *queue, int32_t *note,
                                int32_t mark, const float *x, size_t x_stride,
                                int32_t M, int32_t width);

#endif
