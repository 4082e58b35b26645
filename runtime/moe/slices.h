/* Sliced experts: of every expert of a layer each rank holds a slice, so that a
 * row's work is spread over all ranks whatever its experts are (MoEShard, arXiv
 * 2503.08467). Both products are cut by outputs, not the second by inputs as
 * there: an output's chain of sums stays whole, so the bits are those of the
 * whole expert. The price is that h, the inner activations, goes round once. */
#ifndef MOERUN_MOE_SLICES_H
#define MOERUN_MOE_SLICES_H

#include "runtime/base/arena.h"
#include "runtime/model/model.h"

enum {
  MOERUN_SLICE_WEIGHTS = 3, /* of an expert: gate, up, down */
  MOERUN_SLICED_ROWS = 256, /* of all ranks together in one round */
};

/* Layers 0 .. num_layers - 1 of the MoE layers are held in slices, beside the
 * whole experts: from one step to the next either may be used and no weight
 * moves. Panels as in kernels.h. */
typedef struct moerun__slices {
  const moerun_model *model; /* borrowed */
  int64_t room_bytes;        /* for weights; 0: none; below 0: for all layers */
  int32_t num_layers;        /* 0: nothing is sliced */
  int32_t *speed;   /* [R] that the shares follow, of MOERUN_SPEED_ONE */
  int32_t *h_panel; /* [R + 1] first panel of each rank's share of h */
  int32_t *y_panel; /* [R + 1] the same for an expert's outputs      */
  int64_t *share;   /* [R] scratch */
  int32_t *words;   /* [R] what ranks tell of themselves */
  int32_t *scratch; /* to tell it */
  int32_t *offset;  /* [MOERUN_SLICE_WEIGHTS][R + 1] scratch */
  moerun__expert_shape *shape; /* [num_moe_layers] of this rank's slices    */
  moerun__expert *expert;      /* [num_moe_layers][E] of them               */
  char *room;                  /* own */
  moerun__transfer *out[MOERUN_SLICE_WEIGHTS];
  moerun__transfer *in[MOERUN_SLICE_WEIGHTS];

  /* Of a round. Its rows are a range of all ranks' tokens; a term is a row and
   * one of its experts, numbered as (row, place in gate order). */
  int32_t *tokens;        /* [R] of the step, filled by the caller */
  int64_t next_row;       /* of all tokens, where the next round begins */
  int32_t own_token;      /* this rank's first in the round */
  int32_t *row_offset;    /* [R + 1] the round's rows of each rank */
  int32_t *term_offset;   /* [R + 1] the round's terms of each rank */
  int32_t *expert_offset; /* [E + 1] terms by expert               */
  int32_t *row_of;        /* [terms] by expert: row */
  int32_t *term_of;       /* [terms] by expert: term */
  char *rows;             /* [MOERUN_SLICED_ROWS], as they are dispatched */
  float *h;               /* [R][terms][f of the rank], by expert */
  char *pieces;      /* [terms][piece_bytes] this rank's columns of results */
  char *home_pieces; /* [R][own terms][piece_bytes] the columns of
                         all ranks for the results of own terms        */
  size_t piece_bytes;
} moerun__slices;

/* ERR_INVALID for a model whose experts cannot be cut. */
moerun_status moerun__slices_check(const moerun__model_config *config);

/* Bytes of the weights that moerun__slices_open allocates on `rank` if all
 * ranks are equally fast and whole experts are of this shape. */
size_t moerun__slices_bytes(const moerun__model_config *config,
                            const moerun__expert_shape *whole,
                            int32_t num_ranks, int32_t rank,
                            int64_t room_bytes);

/* Rows take row_bytes with K = width ids behind each; results are of type
 * `wire`. */
void moerun__slices_lay_out(moerun__slices *slices, moerun__arena *arena,
                            const moerun_model *model, int64_t room_bytes,
                            size_t row_bytes, int32_t width,
                            moerun__dtype wire);
int32_t moerun__slices_transfers(const moerun__slices *slices);
moerun_status moerun__slices_create_transfers(moerun__slices *slices);

/* [collective] Cuts the layers that have room everywhere and sends every rank
 * its slices, larger ones to faster ranks. `seconds`: of one row through an
 * expert here; 0 on any rank: all are equally fast. */
moerun_status moerun__slices_open(moerun__slices *slices, double seconds);
/* Frees weights and transfers. */
void moerun__slices_close(moerun__slices *slices);

/* Columns of h, and of a result, that rank r computes. */
static inline int32_t moerun__slice_h(const moerun__slices *slices, int32_t r) {
  return (slices->h_panel[r + 1] - slices->h_panel[r]) * MOERUN_PANEL;
}

static inline int32_t moerun__slice_y(const moerun__slices *slices, int32_t r) {
  const int32_t first = slices->y_panel[r] * MOERUN_PANEL;
  const int32_t last = slices->y_panel[r + 1] * MOERUN_PANEL;
  const int32_t H = slices->model->config.hidden_width;
  return (last < H ? last : H) - (first < H ? first : H);
}

#endif
