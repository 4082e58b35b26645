/* Placement methods: one file each (method_NAME.c), one signature, one table
 * (methods.c). A method is a pure function of the problem and its options:
 * the same seed gives the same placement, unless the time limit cut it off. */
#ifndef MOERUN_PLACEMENT_METHOD_H
#define MOERUN_PLACEMENT_METHOD_H

#include "placement/problem.h"

/* Seconds since some start; placement has no clock of its own. */
typedef double (*moerun__clock)(void);

typedef struct moerun__method_options {
  uint64_t seed;
  double time_limit_s; /* 0: none; what is best by then is returned */
  moerun__clock clock; /* NULL: time limits are off */
  int32_t spare_slots; /* replicas per (layer, rank); 0: none */
} moerun__method_options;

typedef struct moerun__solution {
  int32_t *rank_of; /* [L][E], allocated by the caller */
  int32_t proven;   /* 1: no placement within the caps is better */
  double bound;     /* proven lower bound of the objective; < 0: none known */
} moerun__solution;

typedef struct moerun__method {
  const char *name;
  const char *summary;
  int needs_glpk;
  /* ERR_UNSUPPORTED: not for this problem (says why) or not in this build;
   * ERR_INFEASIBLE: the caps cannot be met: never silently relaxed. */
  moerun_status (*solve)(moerun__solution *solution,
                         const moerun__problem *problem,
                         const moerun__method_options *options);
} moerun__method;

/* By name, or NULL; number i of the table, or NULL beyond the last. */
const moerun__method *moerun__method_find(const char *name);
const moerun__method *moerun__method_at(int i);

/* Within caps and counts; the message names layer, rank, found and allowed. */
moerun_status moerun__solution_check(const moerun__problem *problem,
                                     const int32_t *rank_of);

#endif
