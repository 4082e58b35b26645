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

/* Bytes of a panel's blocks of inputs; what its factors take follows. */
static size_t blocks_bytes(moerun__dtype dtype, size_t num_inputs) {
  return MOERUN_PANEL * moerun__dtype_bytes(dtype, num_inputs);
}

static size_t panel_bytes(moerun__dtype dtype, size_t num_inputs) {
  return blocks_bytes(dtype, num_inputs) +
         MOERUN_PANEL * moerun__dtype_scales(dtype, num_inputs) * sizeof(float);
}

size_t moerun__weight_bytes(moerun__dtype dtype, int32_t num_outputs,
                            int32_t num_inputs) {
  const size_t panels = ((size_t)num_outputs + MOERUN_PANEL - 1) / MOERUN_PANEL;
  return panels * panel_bytes(dtype, (size_t)num_inputs);
}

moerun__weight moerun__weight_at(const void *panels, moerun__dtype dtype,
                                 int32_t num_outputs, int32_t num_inputs) {
  return (moerun__weight){.panels = panels,
                          .dtype = dtype,
                          .num_outputs = num_outputs,
                          .num_inputs = num_inputs};
}

/* ---- Packing ------------------------------------------------------------- */

/* Where some rows go: lanes lane .. lane + count - 1 of a panel. */
typedef struct lane_run {
  size_t lane;
  size_t count;
  size_t row_blocks; /* of a row */
} lane_run;

/* `bytes`, those of a block, is a constant wherever a type has a case below. */
static inline __attribute__((always_inline)) void
pack_blocks(char *panel, const char *rows, const lane_run *run,
            const size_t bytes) {
  const size_t step = PACK_INPUTS;
  for (size_t begin = 0; begin < run->row_blocks; begin += step) {
    const size_t end =
        begin + step < run->row_blocks ? begin + step : run->row_blocks;
    for (size_t i = 0; i < run->count; i++) {
      for (size_t b = begin; b < end; b++) {
        memcpy(panel + (b * MOERUN_PANEL + run->lane + i) * bytes,
               rows + (i * run->row_blocks + b) * bytes, bytes);
      }
    }
  }
}

static void pack_run(char *panel, const char *rows, const lane_run *run,
                     size_t bytes) {
  switch (bytes) {
  case 1: pack_blocks(panel, rows, run, 1); break;
  case 2: pack_blocks(panel, rows, run, 2); break;
  case 4: pack_blocks(panel, rows, run, 4); break;
  default: pack_blocks(panel, rows, run, bytes); break;
  }
}

/* Rows of row_blocks blocks into panels, whose blocks begin `at` bytes behind
 * the start of each. */
static void pack_rows(char *panels, size_t stride, size_t at, size_t first,
                      size_t count, const char *rows, size_t row_blocks,
                      size_t bytes) {
  for (size_t output = first; output < first + count;) {
    lane_run run = {.lane = output % MOERUN_PANEL, .row_blocks = row_blocks};
    const size_t left = first + count - output;
    const size_t room = MOERUN_PANEL - run.lane;
    run.count = left < room ? left : room;
    pack_run(panels + output / MOERUN_PANEL * stride + at, rows, &run, bytes);
    rows += run.count * row_blocks * bytes;
    output += run.count;
  }
}

void moerun__weight_pack(void *panels, moerun__dtype dtype, int32_t num_inputs,
                         int32_t first_output, int32_t count,
                         const void *rows) {
  const size_t D = (size_t)num_inputs;
  const size_t bytes = (size_t)moerun__dtype_at(dtype)->block_bytes;
  pack_rows(panels, panel_bytes(dtype, D), 0, (size_t)first_output,
            (size_t)count, rows, moerun__dtype_bytes(dtype, D) / bytes, bytes);
}

void moerun__weight_pack_scales(void *panels, moerun__dtype dtype,
                                int32_t num_inputs, int32_t first_output,
                                int32_t count, const float *scales) {
  const size_t D = (size_t)num_inputs;
  pack_rows(panels, panel_bytes(dtype, D), blocks_bytes(dtype, D),
            (size_t)first_output, (size_t)count, (const char *)scales,
            moerun__dtype_scales(dtype, D), sizeof *scales);
}

/* ---- Widening ------------------------------------------------------------ */

static const char *panel_of(const moerun__weight *weight, size_t panel) {
  return (const char *)weight->panels +
         panel * panel_bytes(weight->dtype, (size_t)weight->num_inputs);
}

/* The factors of a panel; NULL: the type has none. */
static const float *scales_of(const moerun__weight *weight, size_t panel) {
  const size_t at = blocks_bytes(weight->dtype, (size_t)weight->num_inputs);
  if (moerun__dtype_at(weight->dtype)->scale_block == 0) return NULL;
  return (const float *)(const void *)(panel_of(weight, panel) + at);
}

static inline __attribute__((always_inline)) void
take_blocks(char *out, const char *from, size_t count, const size_t bytes) {
  for (size_t b = 0; b < count; b++) {
    memcpy(out + b * bytes, from + b * MOERUN_PANEL * bytes, bytes);
  }
}

/* The blocks of one lane, side by side. */
static void take_lane(char *out, const char *from, size_t count, size_t bytes) {
  switch (bytes) {
  case 1: take_blocks(out, from, count, 1); break;
  case 2: take_blocks(out, from, count, 2); break;
  case 4: take_blocks(out, from, count, 4); break;
  default: take_blocks(out, from, count, bytes); break;
  }
}

void moerun__weight_row(float *out, const moerun__weight *weight,
                        int32_t output) {
  const moerun__dtype_row *type = moerun__dtype_at(weight->dtype);
  const size_t D = (size_t)weight->num_inputs;
  const size_t lane = (size_t)output % MOERUN_PANEL;
  const size_t panel = (size_t)output / MOERUN_PANEL;
  const size_t block = (size_t)type->block;
  const size_t bytes = (size_t)type->block_bytes;
  const char *from = panel_of(weight, panel) + lane * bytes;
  _Alignas(float) char blocks[MOERUN_MAX_BLOCK_BYTES];
  const size_t at_once = sizeof blocks / bytes * block;
  for (size_t first = 0; first < D; first += at_once) {
    const size_t count = D - first < at_once ? D - first : at_once;
    const size_t num_blocks = (count + block - 1) / block;
    take_lane(blocks, from + first / block * MOERUN_PANEL * bytes, num_blocks,
              bytes);
    moerun__widen(out + first, weight->dtype, blocks, 0, count);
  }
  const float *scales = scales_of(weight, panel);
  for (size_t d = 0; scales != NULL && d < D; d++) {
    out[d] *= scales[d / (size_t)type->scale_block * MOERUN_PANEL + lane];
  }
}

/* Blocks of several inputs, which become one row of the panel each. */
static void widen_blocks(float *out, const moerun__dtype_row *type,
                         const char *from, size_t count) {
  const size_t block = (size_t)type->block;
  float wide[MOERUN_PANEL * MOERUN_MAX_BLOCK];
  for (size_t begin = 0; begin < count; begin += block) {
    const size_t end = begin + block < count ? begin + block : count;
    type->widen(wide, from, MOERUN_PANEL);
    from += MOERUN_PANEL * (size_t)type->block_bytes;
    for (size_t d = begin; d < end; d++) {
      for (size_t lane = 0; lane < MOERUN_PANEL; lane++) {
        out[d * MOERUN_PANEL + lane] = wide[lane * block + (d - begin)];
      }
    }
  }
}

void moerun__weight_panel(float *out, const moerun__weight *weight,
                          size_t panel, size_t first, size_t count) {
  const moerun__dtype_row *type = moerun__dtype_at(weight->dtype);
  const size_t block = (size_t)type->block;
  const size_t bytes = MOERUN_PANEL * (size_t)type->block_bytes;
  const float *scales = scales_of(weight, panel);
  const char *from = panel_of(weight, panel) + first / block * bytes;
  if (block == 1) {
    type->widen(out, from, count * MOERUN_PANEL);
  } else {
    widen_blocks(out, type, from, count);
  }
  for (size_t d = 0; scales != NULL && d < count; d++) {
    const float *scale =
        scales + (first + d) / (size_t)type->scale_block * MOERUN_PANEL;
    for (size_t lane = 0; lane < MOERUN_PANEL; lane++) {
      out[d * MOERUN_PANEL + lane] *= scale[lane];
    }
  }
}

/* ---- The cache, and scratch ---------------------------------------------- */

void moerun__kv_store(const moerun__kv_view *view,
                      const moerun__attention_shape *shape, int32_t position,
                      const float *key, const float *value) {
  const size_t page = (size_t)view->page[position / MOERUN_PAGE_POSITIONS];
  const size_t in_page = (size_t)(position % MOERUN_PAGE_POSITIONS);
  const size_t width = (size_t)shape->head_dim;
  for (size_t head = 0; head < (size_t)shape->num_kv_heads; head++) {
    const size_t start =
        page * view->page_stride + head * width * MOERUN_PAGE_POSITIONS;
    float *keys = view->keys + start + in_page;
    for (size_t d = 0; d < width; d++) {
      keys[d * MOERUN_PAGE_POSITIONS] = key[head * width + d];
    }
    memcpy(view->values + start + in_page * width, value + head * width,
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
