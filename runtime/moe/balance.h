/* What balancing knows and decides: who computes what. */
#ifndef MOERUN_MOE_BALANCE_H
#define MOERUN_MOE_BALANCE_H

#include "runtime/plan/ledger.h"
#include "runtime/plan/slice_costs.h"
#include "runtime/plan/speed.h"

enum { MOERUN_BALANCE_MOST_RANKS = 1 << 15 }; /* by halves of sums: agree.c */

/* When moving rows pays, see moe/calibrate.h. */
typedef struct moerun__calibration {
  double tile_seconds; /* of MOERUN_FFN_TILE rows through an expert */
  int32_t min_rows;    /* asked for; 0: as measured */
  int32_t repeats;     /* 1: measured again where weights seem too dear */
  int32_t too_dear;    /* layers since then in which they did */
  int32_t again;       /* times so far */
} moerun__calibration;

/* What ranks tell each other of a layer, so that all make the same plan of it;
 * written by moe/agree.c. */
typedef struct moerun__balance_news {
  int32_t *told;   /* [R][MOERUN_TOLD_WORDS] of each rank by itself */
  int32_t *sum;    /* [P and a few] of all ranks together */
  int32_t *before; /* [P and a few] of the ranks below this one together */
  int32_t *own;    /* [P] rows of this rank for each replica, as routed */
  int32_t *speed;  /* [R] as in moerun__demand */
  int64_t tokens;  /* of all ranks together, in the layer agreed on last */
} moerun__balance_news;

typedef struct moerun__balance {
  int32_t is_on; /* 1: rows may move to other ranks */
  moerun__plan_options options;
  moerun__calibration calibration;
  moerun__plan plan;
  moerun__ledger ledger;
  moerun__slice_costs slice_costs;
  int32_t always_slices; /* 1: wherever there are slices */
  moerun__speed speed;   /* of this rank */
  int32_t timed;         /* experts looked at by calibration */
  moerun__balance_news news;
} moerun__balance;

/* The T of rank r in the layer that has been agreed on last. */
static inline int32_t moerun__balance_tokens(const moerun__balance *balance,
                                             int32_t r) {
  return balance->news.told[(size_t)r * MOERUN_TOLD_WORDS + MOERUN_TOLD_TOKENS];
}

#endif
