/* A set of another device needs its own, because the numbers lie in its memory;
 * for the processor no instruction set does better than the compiler. */
#include "kernels/plain.h"

#include "runtime/base/finite.h"

void moerun__plain_embed(moerun__queue *queue, float *x, size_t x_stride,
                         const moerun__weight *weight, const int32_t *output,
                         int32_t M) {
  (void)queue;
  for (size_t m = 0; m < (size_t)M; m++) {
    moerun__weight_row(x + m * x_stride, weight, output[m]);
  }
}

void moerun__plain_kv_store(moerun__queue *queue, const moerun__kv_rows *rows,
                            const moerun__kv_view *view,
                            const moerun__attention_shape *shape) {
  (void)queue;
  for (int32_t i = 0; i < rows->num_rows; i++) {
    const size_t at = (size_t)i * rows->stride;
    moerun__kv_store(view, shape, rows->first_position + i, rows->key + at,
                     rows->value + at);
  }
}

void moerun__plain_clip(moerun__queue *queue, float *x, size_t count,
                        float limit) {
  (void)queue;
  for (size_t i = 0; i < count; i++) {
    if (x[i] > limit) x[i] = limit;
    if (x[i] < -limit) x[i] = -limit;
  }
}

void moerun__plain_note_unsound(moerun__queue *queue, int32_t *note,
                                int32_t mark, const float *x, size_t x_stride,
                                int32_t M, int32_t width) {
  (void)queue;
  for (size_t m = 0; m < (size_t)M; m++) {
    if (note[m] != 0) continue;
    if (!moerun__all_sound(x + m * x_stride, (size_t)width)) note[m] = mark;
  }
}
