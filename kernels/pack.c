/* Layouts that all sets share: weight panels, KV pages, scratch sizes.
 *
 * Panels put the 32 outputs of one input side by side, so that vector lanes
 * run over outputs and one 16-bit panel row is one cache line. Packing is a
 * transposition; it goes in squares small enough to stay in the first-level
 * cache, because a model's whole weight passes through here at load. */
#include "kernels/cpu/sizes.h"
#include "kernels/kernels.h"
#include "runtime/base/number.h"

#include <assert.h>

enum { PACK_INPUTS = 64 };

static size_t num_panels(int32_t num_outputs) {
  return ((size_t)num_outputs + MOERUN_PANEL - 1) / MOERUN_PANEL;
}

size_t moerun__weight_bytes(moerun__dtype dtype, int32_t num_outputs,
                            int32_t num_inputs) {
  return num_panels(num_outputs) * MOERUN_PANEL * (size_t)num_inputs *
         moerun__dtype_bytes(dtype);
}

/* Inputs begin .. end - 1 of `lanes` rows into the lanes from `lane` on. */
static void pack_16(uint16_t *panel, const uint16_t *rows, size_t num_inputs,
                    size_t lane, size_t lanes) {
  for (size_t begin = 0; begin < num_inputs; begin += PACK_INPUTS) {
    const size_t end =
        begin + PACK_INPUTS < num_inputs ? begin + PACK_INPUTS : num_inputs;
    for (size_t i = 0; i < lanes; i++) {
      for (size_t d = begin; d < end; d++) {
        panel[d * MOERUN_PANEL + lane + i] = rows[i * num_inputs + d];
      }
    }
  }
}

static void pack_32(uint32_t *panel, const uint32_t *rows, size_t num_inputs,
                    size_t lane, size_t lanes) {
  for (size_t begin = 0; begin < num_inputs; begin += PACK_INPUTS) {
    const size_t end =
        begin + PACK_INPUTS < num_inputs ? begin + PACK_INPUTS : num_inputs;
    for (size_t i = 0; i < lanes; i++) {
      for (size_t d = begin; d < end; d++) {
        panel[d * MOERUN_PANEL + lane + i] = rows[i * num_inputs + d];
      }
    }
  }
}

void moerun__weight_pack(void *panels, moerun__dtype dtype, int32_t num_inputs,
                         int32_t first_output, int32_t count,
                         const void *rows) {
  const size_t D = (size_t)num_inputs;
  const size_t end = (size_t)first_output + (size_t)count;
  const char *from = rows;
  for (size_t output = (size_t)first_output; output < end;) {
    const size_t lane = output % MOERUN_PANEL;
    const size_t left = end - output;
    const size_t lanes =
        left < MOERUN_PANEL - lane ? left : MOERUN_PANEL - lane;
    const size_t start = (output - lane) * D;
    if (dtype == MOERUN_DTYPE_F32) {
      pack_32((uint32_t *)panels + start, (const uint32_t *)(const void *)from,
              D, lane, lanes);
    } else {
      pack_16((uint16_t *)panels + start, (const uint16_t *)(const void *)from,
              D, lane, lanes);
    }
    from += lanes * D * moerun__dtype_bytes(dtype);
    output += lanes;
  }
}

void moerun__weight_row(float *out, const moerun__weight *weight,
                        int32_t output) {
  const size_t D = (size_t)weight->num_inputs;
  const size_t lane = (size_t)output % MOERUN_PANEL;
  const size_t start = ((size_t)output - lane) * D + lane;
  for (size_t d = 0; d < D; d++) {
    out[d] = moerun__element(weight->panels, weight->dtype,
                             start + d * MOERUN_PANEL);
  }
}

void moerun__kv_store(const moerun__kv_view *view,
                      const moerun__attention_shape *shape, int32_t position,
                      const float *key, const float *value) {
  const size_t page = (size_t)view->page[position / MOERUN_PAGE_POSITIONS];
  const size_t slot = (size_t)(position % MOERUN_PAGE_POSITIONS);
  const size_t width = (size_t)shape->head_dim;
  for (size_t head = 0; head < (size_t)shape->num_kv_heads; head++) {
    const size_t start =
        page * view->page_stride + head * width * MOERUN_PAGE_POSITIONS;
    float *keys = view->keys + start + slot;
    for (size_t d = 0; d < width; d++) {
      keys[d * MOERUN_PAGE_POSITIONS] = key[head * width + d];
    }
    memcpy(view->values + start + slot * width, value + head * width,
           width * sizeof *value);
  }
}

/* Scores of the queries that share a page load, each row a cache line longer
 * than a multiple of 16 (rows a power of two apart would share cache sets),
 * and those queries transposed. */
size_t moerun__attention_scratch(const moerun__attention_shape *shape,
                                 int32_t positions) {
  const size_t row =
      (size_t)moerun__round_up(positions, MOERUN_PAGE_POSITIONS) +
      MOERUN_PAGE_POSITIONS;
  return MOERUN_ATTENTION_QUERIES * (row + (size_t)shape->head_dim);
}

size_t moerun__linear_scratch(int32_t max_inputs) {
  return (size_t)MOERUN_LINEAR_ROWS * (size_t)max_inputs;
}
