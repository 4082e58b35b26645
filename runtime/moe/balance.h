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
} moerun__balance;

#endif
