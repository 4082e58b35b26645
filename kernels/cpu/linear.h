/* y = x W^T by blocks around the tile of the set (tile_*.h).
 *
 * One tile is a few rows by one or more panels of 32 outputs, kept in
 * registers over a run of inputs. For few rows the run is the whole row and
 * the weights stream through once. For many rows a panel is taken in blocks of
 * inputs, ascending, and y carries the chains from one to the next (a float
 * stored and loaded is the same float); a block's slice of the panel then
 * serves all tiles of up to MOERUN_LINEAR_ROWS rows from a near cache. x is
 * packed by tiles, inputs outermost, so that a tile reads one stream. How rows
 * are cut into tiles changes nothing for a row.
 *
 * Tiles load F32, BF16 and F16. Of any other type a block of a panel is widened
 * to F32 first, and the tiles of up to MOERUN_LINEAR_ROWS rows go over that:
 * the same chain. */
#ifndef MOERUN_KERNELS_LINEAR_H
#define MOERUN_KERNELS_LINEAR_H

#include "kernels/cpu/flush.h"
#include "kernels/cpu/rows.h"
#include "kernels/cpu/sizes.h"

typedef struct linear_tile {
  float *y;
  size_t y_stride;
  const float *x;     /* [count][rows] */
  const char *panel;  /* the first panel at the first input of the run */
  size_t panel_bytes; /* from one panel to the next */
  size_t count;       /* inputs */
  int columns;        /* outputs of the last panel that exist: 1 .. 32 */
  int resume;         /* chains go on from y instead of 0 */
  int rounded;        /* x was rounded to BF16: subnormals count as zero */
  int pairs;          /* x is [ceil(count / 2)][rows] pairs of BF16 */
} linear_tile;

#if defined(SET_AVX512)
#include "kernels/cpu/tile_avx512.h"
#elif defined(SET_AVX2)
#include "kernels/cpu/tile_avx2.h"
#else
#include "kernels/cpu/tile_portable.h"
#endif

/* A panel's slice of 16-bit weights (64 KiB) and a tile of x then fit in the
 * second-level cache together. */
enum { BLOCK_INPUTS = 1024 };

/* Inputs that are widened at a time. */
enum { WIDENED_INPUTS = MOERUN_MAX_BLOCK };

/* The rows of one call that are packed together. */
typedef struct linear_block {
  float *y;
  size_t y_stride;
  const float *packed;
  const moerun__weight *weight;
  size_t rows;
  size_t tiles;
  size_t block_inputs;
  int rounded; /* x is rounded to BF16 */
  int pairs;   /* and packed in pairs of inputs */
  int widened; /* the weight's type has no tile of its own */
} linear_block;

/* Bytes of one input of a panel, of a type that has a tile. */
static size_t input_bytes(moerun__dtype dtype) {
  return MOERUN_PANEL * (dtype == MOERUN_DTYPE_F32 ? 4UL : 2UL);
}

static int has_tile(moerun__dtype dtype) {
  return dtype == MOERUN_DTYPE_F32 || dtype == MOERUN_DTYPE_BF16 ||
         dtype == MOERUN_DTYPE_F16;
}

static size_t least(size_t a, size_t b) {
  return a < b ? a : b;
}

/* x[rows][count] to [ceil(count / 2)][rows] pairs of BF16, the first input of a
 * pair in the upper half, where the instruction looks first. */
NEVER_INLINE void pack_pairs(float *packed, const float *x, size_t x_stride,
                             size_t rows, size_t count) {
  for (size_t k = 0; k < count; k += 2) {
    for (size_t r = 0; r < rows; r++) {
      const float *at = x + r * x_stride + k;
      const uint32_t second = k + 1 < count ? moerun__f32_to_bf16(at[1]) : 0;
      const uint32_t pair = (uint32_t)moerun__f32_to_bf16(at[0]) << 16 | second;
      memcpy(packed + k / 2 * rows + r, &pair, sizeof pair);
    }
  }
}

/* x[rows][count] to [count][rows]. */
NEVER_INLINE void pack_tile(float *packed, const float *x, size_t x_stride,
                            size_t rows, size_t count) {
  for (size_t begin = 0; begin < count; begin += LANES) {
    const size_t end = least(begin + LANES, count);
    for (size_t r = 0; r < rows; r++) {
      for (size_t k = begin; k < end; k++) {
        packed[k * rows + r] = x[r * x_stride + k];
      }
    }
  }
}

static size_t tile_begin(const linear_block *block, size_t tile) {
  return block->rows * tile / block->tiles;
}

static void pack_block(float *packed, const float *x, size_t x_stride,
                       const linear_block *block) {
  const size_t D = (size_t)block->weight->num_inputs;
  for (size_t k = 0; k < D; k += block->block_inputs) {
    const size_t count = least(block->block_inputs, D - k);
    for (size_t tile = 0; tile < block->tiles; tile++) {
      const size_t begin = tile_begin(block, tile);
      float *out = packed + k * block->rows + begin * count;
      const float *in = x + begin * x_stride + k;
      const size_t rows = tile_begin(block, tile + 1) - begin;
      if (block->pairs) {
        pack_pairs(out, in, x_stride, rows, count);
        continue;
      }
      pack_tile(out, in, x_stride, rows, count);
      for (size_t i = 0; block->rounded && i < rows * count; i++) {
        out[i] = moerun__bf16_to_f32(moerun__f32_to_bf16(out[i]));
      }
    }
  }
}

/* All tiles of the block against `panels` panels from `panel` on, which begin
 * at `weights` with input k and are of a type that has a tile. */
static void run_panels(const linear_block *block, const void *weights,
                       moerun__dtype dtype, size_t panel, size_t panels,
                       size_t k) {
  const moerun__weight *weight = block->weight;
  const size_t D = (size_t)weight->num_inputs;
  const size_t column = panel * MOERUN_PANEL;
  const size_t outputs = (size_t)weight->num_outputs - column;
  linear_tile job = {
      .y_stride = block->y_stride,
      .panel = weights,
      .panel_bytes = D * input_bytes(dtype),
      .count = least(block->block_inputs, D - k),
      .columns =
          (int)least(outputs - (panels - 1) * MOERUN_PANEL, MOERUN_PANEL),
      .resume = k > 0,
      .rounded = block->rounded,
      .pairs = block->pairs,
  };
  for (size_t tile = 0; tile < block->tiles; tile++) {
    const size_t begin = tile_begin(block, tile);
    job.y = block->y + begin * block->y_stride + column;
    job.x = block->packed + k * block->rows + begin * job.count;
    run_tile(&job, dtype, (int)(tile_begin(block, tile + 1) - begin),
             (int)panels);
  }
}

/* One panel, a block of inputs after the other widened. Numbers are widened as
 * they are: subnormals are taken as zero where they are multiplied. */
static void run_widened(const linear_block *block, size_t panel) {
  _Alignas(64) float wide[WIDENED_INPUTS * MOERUN_PANEL];
  const size_t D = (size_t)block->weight->num_inputs;
  for (size_t k = 0; k < D; k += WIDENED_INPUTS) {
    const unsigned before = flush_pause();
    moerun__weight_panel(wide, block->weight, panel, k,
                         least(WIDENED_INPUTS, D - k));
    flush_end(before);
    run_panels(block, wide, MOERUN_DTYPE_F32, panel, 1, k);
  }
}

static void run_block(const linear_block *block) {
  const moerun__weight *weight = block->weight;
  const size_t D = (size_t)weight->num_inputs;
  const size_t step = input_bytes(weight->dtype);
  const size_t num_panels =
      ((size_t)weight->num_outputs + MOERUN_PANEL - 1) / MOERUN_PANEL;
  const size_t at_once =
      block->tiles > 1 ? 1 : (size_t)tile_panels((int)block->rows);
  for (size_t panel = 0; block->widened && panel < num_panels; panel++) {
    run_widened(block, panel);
  }
  for (size_t panel = 0; !block->widened && panel < num_panels;) {
    const size_t panels = panel + at_once <= num_panels ? at_once : 1;
    for (size_t k = 0; k < D; k += block->block_inputs) {
      run_panels(block, (const char *)weight->panels + (panel * D + k) * step,
                 weight->dtype, panel, panels, k);
    }
    panel += panels;
  }
}

static void run_linear(float *y, size_t y_stride, const float *x,
                       size_t x_stride, int32_t M, const moerun__weight *weight,
                       float *scratch, int rounded) {
  const size_t blocks =
      ((size_t)M + MOERUN_LINEAR_ROWS - 1) / MOERUN_LINEAR_ROWS;
  for (size_t b = 0; b < blocks; b++) {
    const size_t m = (size_t)M * b / blocks;
    const size_t rows = (size_t)M * (b + 1) / blocks - m;
    const size_t tiles = (rows + TILE_ROWS - 1) / TILE_ROWS;
    const int as_it_is = rows == 1 && !rounded;
    const int widened = !has_tile(weight->dtype);
    const size_t whole = (size_t)weight->num_inputs;
    const linear_block block = {
        .y = y + m * y_stride,
        .y_stride = y_stride,
        .packed = as_it_is ? x + m * x_stride : scratch,
        .weight = weight,
        .rows = rows,
        .tiles = tiles,
        .block_inputs = widened               ? WIDENED_INPUTS
                        : rows <= STREAM_ROWS ? whole
                                              : BLOCK_INPUTS,
        .rounded = rounded,
        .pairs = rounded && HAS_PAIRS && weight->dtype == MOERUN_DTYPE_BF16,
        .widened = widened,
    };
    if (!as_it_is) pack_block(scratch, x + m * x_stride, x_stride, &block);
    run_block(&block);
  }
}

static void add_bias(float *y, size_t y_stride, int32_t M,
                     const moerun__weight *weight) {
  if (weight->bias == NULL) return;
  for (size_t m = 0; m < (size_t)M; m++) {
    add_up(y + m * y_stride, weight->bias, (size_t)weight->num_outputs);
  }
}

/* What pairs of BF16 leave as a last pair of an odd row: 0 * 0 makes -0 to
 * +0. */
static void end_odd_rows(float *y, size_t y_stride, int32_t M,
                         const moerun__weight *weight) {
  const size_t odd = (size_t)weight->num_inputs % 2;
  for (size_t m = 0; m < (size_t)M * odd; m++) {
    for (size_t n = 0; n < (size_t)weight->num_outputs; n++) {
      y[m * y_stride + n] += 0.0F;
    }
  }
}

/* What few products have: rounded rows, a bias. Apart, so that the usual
 * product only passes its arguments on, which counts where one row meets many
 * experts. */
NEVER_INLINE void linear_with_more(const moerun__queue *queue, float *y,
                                   size_t y_stride, const float *x,
                                   size_t x_stride, int32_t M,
                                   const moerun__weight *weight,
                                   float *scratch) {
  if (queue->rounds) {
    const unsigned before = flush_begin();
    run_linear(y, y_stride, x, x_stride, M, weight, scratch, 1);
    end_odd_rows(y, y_stride, M, weight);
    flush_end(before);
  } else {
    run_linear(y, y_stride, x, x_stride, M, weight, scratch, 0);
  }
  add_bias(y, y_stride, M, weight);
}

static void set_linear(moerun__queue *queue, float *y, size_t y_stride,
                       const float *x, size_t x_stride, int32_t M,
                       const moerun__weight *weight, float *scratch) {
  if (queue->rounds || weight->bias != NULL) {
    linear_with_more(queue, y, y_stride, x, x_stride, M, weight, scratch);
  } else {
    run_linear(y, y_stride, x, x_stride, M, weight, scratch, 0);
  }
}

static void set_ffn(moerun__queue *queue, const moerun__ffn *ffn) {
  static moerun__activate *const activate[] = {[MOERUN_EXPERT_SWIGLU] =
                                                   set_swiglu};
  moerun__ffn_of_parts(set_linear, activate, queue, ffn);
}

#endif
