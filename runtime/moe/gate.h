/* Which experts each row takes: the model's gate, and after it what was asked
 * for beyond: fewer experts for tokens that need fewer, and at most so many
 * rows for an expert. Both change outputs, are off unless chosen, and know of
 * placed experts only: what is computed at home costs next to nothing. */
#ifndef MOERUN_MOE_GATE_H
#define MOERUN_MOE_GATE_H

#include "runtime/moe/call.h"
#include "runtime/moe/home.h"
#include "runtime/plan/capacity.h"
#include "runtime/plan/width.h"

typedef struct moerun__gate_options {
  moerun__capacity_options capacity; /* gamma 0: no limit */
  moerun__width width;               /* most 0 and top_p 0: all K */
  moerun__width_limits limits;       /* in place of width.most, by layer */
} moerun__gate_options;

/* Sums over layers and steps on this rank. */
typedef struct moerun__gate_counts {
  moerun__capacity_counts capacity;
  moerun__width_counts width;
  moerun__home_counts home;
} moerun__gate_counts;

typedef struct moerun__gate {
  const moerun_model *model; /* borrowed */
  const moerun__kernels *kernels;
  moerun__queue *queue;
  moerun__gate_options options;
  moerun__gate_counts counts;
  moerun__gate_counts now;       /* of the layer under way */
  moerun__gate_counts *of_layer; /* [num_moe_layers] */
  int32_t max_tokens;
  int32_t choices; /* placed experts and those at home */
  int32_t width;   /* W: entries of a row from here on, and most experts that
                      it has: K, the model's, unless a capacity adds some    */
  int32_t *ids;    /* [T][W] placed experts that are computed; -1: none */
  float *weight;   /* [T][W] */
  int32_t *chosen; /* [T][K] experts that the gate chose, for traces */
  moerun__home home;
  float *logits;    /* [T][choices] */
  uint8_t *unsound; /* [T] 1: the row has a logit that is no sound number */
  float *scores;    /* [T][choices]; only where a rule asks for them */
  /* All that follows is there only with a capacity. */
  int32_t *row;            /* [T] 0, 1, … */
  int32_t *zero;           /* [T] */
  int32_t *extra;          /* [max_slots] experts that an expansion may add */
  int32_t *rank_of_expert; /* [E] */
  int32_t *words;          /* [max(E + 1, R)] told by all ranks */
  int32_t *scratch;        /* to tell them */
  int64_t *total;          /* [E + 1] */
  moerun__capacity capacity;
  moerun__capacity_record *records; /* [R * T * W] of all ranks */
} moerun__gate;

/* W: most experts of a token, those that a capacity adds among them.
 * `max_slots`: most experts of a layer on any rank. */
int32_t moerun__gate_width(const moerun__gate_options *options,
                           const moerun_model *model, int32_t max_slots);

/* ERR_INVALID for options that mean nothing together or for this model. */
moerun_status moerun__gate_check(const moerun__gate_options *options,
                                 const moerun_model *model, int32_t max_slots);

/* Whether the options change any output. */
int moerun__gate_is_lossy(const moerun__gate_options *options);

/* Positions that a prompt must not be cut between, because they are decided
 * together: 1 unless a capacity of the scope request is on. */
int32_t moerun__gate_window(const moerun__gate_options *options);

/* For steps of up to max_tokens rows. model, kernels and queue are borrowed,
 * the options are copied. */
void moerun__gate_init(moerun__gate *gate, const moerun_model *model,
                       const moerun__kernels *kernels, moerun__queue *queue,
                       const moerun__gate_options *options, int32_t max_tokens);
/* Counts, or hands out, the buffers; max_slots: most experts that any rank has
 * of a layer. */
void moerun__gate_lay_out(moerun__gate *gate, moerun__arena *arena,
                          int32_t max_slots);

/* Adds every count of a part to a sum, capacity.over among them. */
void moerun__gate_counts_add(moerun__gate_counts *sum,
                             const moerun__gate_counts *part);
/* Sets all counts of the gate to 0. */
void moerun__gate_counts_clear(moerun__gate *gate);

/* That the ids of a row are there and distinct and their weights finite;
 * ERR_INVALID names the first row that is not so. ERR_UNSUPPORTED where the
 * options change what is chosen. Local. */
moerun_status moerun__given_choice_check(const moerun__gate *gate, int32_t T,
                                         const moerun__given_choice *given);

/* Fills gate->ids, weight, chosen and unsound for the rows of the call. Local,
 * but [collective] with a capacity of the scope global; ranks that have failed
 * take part with no rows then. */
moerun_status moerun__gate_choose(moerun__gate *gate,
                                  const moerun__layer_call *call,
                                  float *scratch);

#endif
