/* Sliced experts: of every expert of a layer each rank holds a slice, so that a
 * row's work is spread over all ranks whatever its experts are (MoEShard, arXiv
 * 2503.08467). Both products are cut by outputs, not the second by inputs as
 * there: an output's chain of sums stays whole, so the bits are those of the
 * whole expert. The price is that h, the inner activations, goes round once. */
#ifndef MOERUN_MOE_SLICES_H
#define MOERUN_MOE_SLICES_H

#include "runtime/moe/own.h"

/* Who computes which columns, by whole panels as in kernels.h. The same on all
 * ranks. */
typedef struct moerun__slice_shares {
  int32_t hidden_width; /* H */
  int32_t *speed;       /* [R] that shares follow, of MOERUN_SPEED_ONE */
  int32_t *h_panel;     /* [R + 1] first panel of each rank's share of h */
  int32_t *y_panel;     /* [R + 1] the same for an expert's outputs      */
} moerun__slice_shares;

/* Layers 0 .. num_layers - 1 of the MoE layers are held in slices, beside the
 * whole experts: from one step to the next either may be used and no weight
 * moves. */
typedef struct moerun__slices {
  const moerun_model *model;    /* borrowed */
  const moerun__device *device; /* that computes with them */
  int64_t room_bytes; /* for weights; 0: none; below 0: for all layers */
  int32_t num_layers; /* 0: nothing is sliced */
  moerun__slice_shares shares;
  moerun__expert_shape *shape; /* [num_moe_layers] of this rank's slices    */
  moerun__expert *expert;      /* [num_moe_layers][E] of them               */
  char *room;                  /* for these, allocated by open */
  int64_t *share;              /* [R] scratch */
  int32_t *words;              /* [R] what ranks tell of themselves */
  int32_t *scratch;            /* to tell it */
  int32_t offset[MOERUN_EXPERT_MOST_BANDS][2]; /* of what comes */
  moerun__transfer *out[MOERUN_EXPERT_MOST_BANDS];
  moerun__transfer *in[MOERUN_EXPERT_MOST_BANDS];
} moerun__slices;

/* open cuts the layers that have room everywhere and sends every rank its
 * slices, larger ones to faster ranks: they are here from then on. */
extern const moerun__tier_ops moerun__slices_ops;

/* The slot that a tier has this rank's slice of an expert in. */
static inline int32_t moerun__slice_slot(int32_t expert) {
  return MOERUN_FIRST_SLICE + expert;
}

/* ERR_UNSUPPORTED for a model whose experts cannot be cut. */
moerun_status moerun__slices_check(const moerun__model_config *config);

/* Bytes of the weights that open allocates on `rank` if all ranks are equally
 * fast and whole experts are of this shape. */
size_t moerun__slices_bytes(const moerun__model_config *config,
                            const moerun__expert_shape *whole,
                            int32_t num_ranks, int32_t rank,
                            int64_t room_bytes);
/* Most columns of a result that any rank computes, whatever the shares. */
int32_t moerun__slices_most_outputs(const moerun__model_config *config,
                                    int32_t num_ranks);

/* `room_bytes`: for weights, see moerun__slices. */
void moerun__slices_init(moerun__slices *slices, const moerun_model *model,
                         int64_t room_bytes);
/* Whether there may be slices. */
int moerun__slices_are_on(const moerun__slices *slices);

/* Columns of h, and of a result, that rank r computes. */
static inline int32_t moerun__slice_h(const moerun__slice_shares *shares,
                                      int32_t r) {
  return (shares->h_panel[r + 1] - shares->h_panel[r]) * MOERUN_PANEL;
}

static inline int32_t moerun__slice_y(const moerun__slice_shares *shares,
                                      int32_t r) {
  const int32_t first = shares->y_panel[r] * MOERUN_PANEL;
  const int32_t last = shares->y_panel[r + 1] * MOERUN_PANEL;
  const int32_t H = shares->hidden_width;
  return (last < H ? last : H) - (first < H ? first : H);
}

/* Whether rank r computes any columns of a result: then it sends some home. */
static inline int moerun__slice_holds_y(const moerun__slice_shares *shares,
                                        int32_t r) {
  return moerun__slice_y(shares, r) > 0;
}

#endif
