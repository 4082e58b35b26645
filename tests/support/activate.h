/* The activation of an expert by itself. Sets offer it in `ffn` only; so each
 * row of gate_up becomes the weights of an expert with one input, which is
 * 1. */
#ifndef MOERUN_TESTS_ACTIVATE_H
#define MOERUN_TESTS_ACTIVATE_H

#include "kernels/kernels.h"
#include "runtime/base/memory.h"
#include "support/cmocka.h"
#include "support/queues.h"

#include <string.h>

/* h[M][F] = silu(g) * u where gate_up[M][2F] holds g then u per row. */
static inline void activate(const moerun__kernels *set, float *h,
                            const float *gate_up, int32_t M, int32_t F) {
  static const int32_t offset[] = {0, 1};
  static const float one = 1.0F;
  const size_t bytes = moerun__weight_bytes(MOERUN_DTYPE_F32, 2 * F, 1);
  const size_t outputs = 2 * (size_t)F;
  void *panels = NULL;
  float *products = NULL;
  float *scratch = NULL;
  assert_int_equal(moerun__alloc(&panels, bytes, 1), MOERUN_OK);
  assert_int_equal(moerun__alloc(&products, outputs, sizeof *products),
                   MOERUN_OK);
  assert_int_equal(
      moerun__alloc(&scratch, moerun__linear_scratch(1) + 1, sizeof *scratch),
      MOERUN_OK);
  for (size_t m = 0; m < (size_t)M; m++) {
    memset(panels, 0, bytes);
    moerun__weight_pack(panels, MOERUN_DTYPE_F32, 1, 0, 2 * F,
                        gate_up + m * outputs);
    const moerun__expert expert = {
        .kind = MOERUN_EXPERT_SWIGLU,
        .columns = F,
        .gate_up = moerun__weight_at(panels, MOERUN_DTYPE_F32, 2 * F, 1)};
    const moerun__ffn ffn = {.x = &one,
                             .x_stride = 1,
                             .num_experts = 1,
                             .expert = &expert,
                             .offset = offset,
                             .room = {1, products, h + m * (size_t)F, scratch}};
    set->ffn(plain_queue(), &ffn);
  }
  moerun__free(panels);
  moerun__free(products);
  moerun__free(scratch);
}

#endif
