/* Placement methods: one file each (method_NAME.c), one signature, one table
 * (methods.c). A method is a pure function of the problem and its options:
 * the same seed gives the same placement, unless the time limit cut it off. */
#ifndef MOERUN_PLACEMENT_METHOD_H
#define MOERUN_PLACEMENT_METHOD_H

#include "placement/deadline.h"
#include "placement/problem.h"

typedef struct moerun__method_options {
  uint64_t seed;
  double time_limit_s;   /* 0: none; what is best by then is returned */
  moerun__clock clock;   /* NULL: time limits are off */
  int32_t spare_slots;   /* replicas that a (layer, rank) has room for beyond
                            ceil(E / R); 0: none                            */
  int32_t slots;         /* of all ranks in each layer, every rank as many, all
                            of them filled; only with fills_slots; 0: as many as
                            spare_slots says                                   */
  int32_t expert_groups; /* eplb: of neighbouring experts that one node should
                            hold; 0: 1, so that nodes count for nothing       */
  int32_t polish;        /* rounds of annealing beyond the method's own; one is
                          about as long as the method itself; 0: none         */
} moerun__method_options;

typedef struct moerun__solution {
  int32_t *rank_of; /* [L][E], allocated by the caller of solve */
  int32_t *copies;  /* NULL, or [L][R][copies_per_rank] expert or -1: further
                       replicas; allocated by the method if it has replicates */
  int32_t copies_per_rank; /* 0: spare_slots */
  int32_t proven;          /* 1: no placement within the caps is better */
  double bound; /* proven lower bound of the objective; < 0: none known */
} moerun__solution;

typedef struct moerun__method {
  const char *name;
  const char *summary;
  int needs_glpk;
  int ignores_speed; /* 1: refused where ranks differ in speed */
  int keeps_caps;    /* 0: a baseline that may exceed the load caps */
  int replicates;    /* 1: fills the spare slots itself */
  int fills_slots; /* 1: places any number of replicas, as many on each rank */
  int by_loads;    /* 1: looks at loads alone, if at anything: needs no trace */
  int draws;       /* 1: another seed may give another placement */
  int polishes;    /* 1: has rounds of annealing, and more if asked for */
  /* ERR_UNSUPPORTED: not for this problem (says why) or not in this build;
   * ERR_INFEASIBLE: the caps cannot be met: never silently relaxed. */
  moerun_status (*solve)(moerun__solution *solution,
                         const moerun__problem *problem,
                         const moerun__method_options *options);
} moerun__method;

/* By name, or NULL; number i of the table, or NULL beyond the last. */
const moerun__method *moerun__method_find(const char *name);
const moerun__method *moerun__method_at(int i);

/* What `moerun place` does: solves, checks what came out, fills the spare
 * slots by the problem's objective if the method does not. `proven` (may be
 * NULL) and `bound` as in moerun__solution. */
moerun_status moerun__place(moerun_placement **out, int32_t *proven,
                            double *bound, const moerun__problem *problem,
                            const moerun__method *method,
                            const moerun__method_options *options);

/* Within caps and counts; the message names layer, rank, found and allowed. */
moerun_status moerun__solution_check(const moerun__problem *problem,
                                     const int32_t *rank_of);
/* *allowed: 1 if it is so, 0 if not; other failures are returned. */
moerun_status moerun__solution_allowed(int *allowed,
                                       const moerun__problem *problem,
                                       const int32_t *rank_of);

#endif
