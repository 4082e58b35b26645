/* Whether a step of a layer is over sooner if every expert is computed in
 * slices by all ranks, or whole where it lives or the plan has moved its rows:
 * a pure function of integers that all ranks know. The idea of choosing the
 * parallelism step by step, without moving weights, is Tutel's (arXiv
 * 2206.03382). */
#ifndef MOERUN_PLAN_SLICE_COSTS_H
#define MOERUN_PLAN_SLICE_COSTS_H

#include "runtime/plan/plan.h"

enum { MOERUN_COST_POINTS = 9 }; /* 1, 2, 4, … 256 rows */

/* Measured at the start, the same on all ranks; nanoseconds. */
typedef struct moerun__slice_costs {
  int64_t whole[MOERUN_COST_POINTS]; /* that so many rows take through a whole
                                        expert, on the fastest rank          */
  int64_t slice[MOERUN_COST_POINTS]; /* that they take through all ranks' slices
                                        of one, until the last rank is done  */
  int64_t weights;    /* that sending an expert's weights takes */
  int64_t spread;     /* that it takes until all ranks have all ranks' rows,
                         however few they are */
  int64_t spread_kib; /* and beside that for each KiB of all rows */
} moerun__slice_costs;

/* What a layer with slices has to offer for a step. */
typedef struct moerun__slice_offer {
  const moerun__slice_costs *costs;
  int32_t always;       /* 1: take it, whatever it costs */
  const int32_t *speed; /* [R] that the slices follow, of MOERUN_SPEED_ONE */
  int64_t rows;         /* of the step, on all ranks together */
  int64_t rounds;       /* in which these rows are computed */
  int64_t row_bytes;    /* of a row as it travels */
  int64_t h_bytes;      /* of a row of h */
  int64_t result_bytes; /* of a result */
  int64_t *time;        /* [R] scratch */
} moerun__slice_offer;

/* Nanoseconds of `rows` rows, between and beyond the points in proportion. */
int64_t moerun__slice_cost(const int64_t points[MOERUN_COST_POINTS],
                           int64_t rows);

/* Nanoseconds of the step as planned so far, and in slices. */
int64_t moerun__whole_time(const moerun__slice_offer *offer, moerun__plan *plan,
                           const moerun__demand *demand);
int64_t moerun__sliced_time(const moerun__slice_offer *offer,
                            const moerun__plan *plan,
                            const moerun__demand *demand);

/* How much sooner slices are beyond what measurements err, as
 * moerun__way_offer has it; `offer`: a moerun__slice_offer. */
int64_t moerun__slices_gain(const void *offer, moerun__plan *plan,
                            const moerun__demand *demand);

#endif
