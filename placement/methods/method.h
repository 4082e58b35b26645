/* Placement methods: one file each (method_NAME.c), one signature, one table
 * (methods.h). A method is a pure function of the problem and its options:
 * the same seed gives the same placement, unless the time limit cut it off. */
#ifndef MOERUN_METHODS_METHOD_H
#define MOERUN_METHODS_METHOD_H

#include "placement/judge/solution.h"

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
/* *out = the method of this name; ERR_INVALID with a line that begins with
 * `what` and has all names. */
moerun_status moerun__method_named(const moerun__method **out, const char *name,
                                   const char *what);

/* What `moerun place` does: solves, checks what came out, fills the spare
 * slots by the problem's objective if the method does not. `proven` (may be
 * NULL) and `bound` as in moerun__solution. */
moerun_status moerun__place(moerun_placement **out, int32_t *proven,
                            double *bound, const moerun__problem *problem,
                            const moerun__method *method,
                            const moerun__method_options *options);

#endif
