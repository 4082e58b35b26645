/* What a placement method is given and judged by: the routing statistics of a
 * trace, the cluster, the load caps and the objective. Every number that is
 * printed about a placement is defined and computed here or in objective.c,
 * from the raw trace, never from a method's own bookkeeping. */
#ifndef MOERUN_JUDGE_PROBLEM_H
#define MOERUN_JUDGE_PROBLEM_H

#include "placement/judge/packing.h"
#include "placement/map/certificate.h"
#include "placement/map/placement.h"
#include "placement/trace/trace.h"
#include "runtime/base/topology.h"

typedef struct moerun__problem {
  const moerun__trace *trace;       /* borrowed: what is trained on; NULL: loads
                                       alone are known, and of all statistics
                                       below only load and cap are there      */
  const moerun__topology *topology; /* borrowed */
  int32_t num_layers;               /* L */
  int32_t num_experts;              /* E */
  int32_t num_ranks;                /* R */
  moerun__objective objective;
  double node_weight; /* a: cost of a pair on one node (weighted only) */
  double far_weight;  /* b */
  int64_t *load;      /* [L][E] tokens of each expert: w */
  int64_t *follow;    /* [L - 1][E][E] tokens times terms with i in layer l and
                          j in layer l + 1: W                               */
  int64_t *together;  /* [L][E][E] tokens with i and j in one layer: A;
                          symmetric, diagonal 0                             */
  int32_t even_slots; /* ceil(E / R) */
  int32_t most_slots; /* experts per (layer, rank) at most, their copies not
                           counted: ceil(E / R); where speeds differ, the spare
                           slots too                                        */
  int32_t fewest_slots; /* floor(E / R); there: one at most, so that a slow rank
                           still shows when it is faster                    */
  double slack;         /* as in the options, the default filled in */
  int64_t *cap;         /* [L][R] most load of a rank: its share of the mean by
                           speed times (1 + slack), or what an LPT packing
                           (and so the hottest expert) forces if that is more;
                           a slow rank that an LPT packing leaves over its share
                           with the fewest experts has that, and the others
                           share the rest                                     */
} moerun__problem;

typedef struct moerun__problem_options {
  moerun__objective objective;
  double slack;        /* load may exceed a rank's share by this; 0: 0.05 */
  int32_t spare_slots; /* where speeds differ a rank may hold so many experts
                          more than ceil(E / R)                           */
  double node_weight;  /* 0: from the topology's bandwidths, else 1 and 1 */
  double far_weight;
} moerun__problem_options;

moerun_status moerun__problem_create(moerun__problem **out,
                                     const moerun__trace *trace,
                                     const moerun__topology *topology,
                                     const moerun__problem_options *options);
/* Of loads alone, load[num_layers][num_experts]. slack: 0: 0.05. */
moerun_status
moerun__problem_create_loads(moerun__problem **out, const int64_t *load,
                             int32_t num_layers, int32_t num_experts,
                             const moerun__topology *topology, double slack);
void moerun__problem_destroy(moerun__problem *problem);

/* The ranks of a layer as bins for its experts. */
moerun__bins moerun__problem_bins(const moerun__problem *problem,
                                  int32_t layer);

/* home_of_sequence[num_sequences]: the rank that each sequence lives on, for
 * which rows_out and rows_back are the very counts of a run; NULL: the mean
 * over all R homes (with replicas and R > 64: over 64 homes, others for each
 * token). */
moerun_status moerun__judge(moerun__judgement *out,
                            const moerun_placement *placement,
                            const moerun__trace *trace,
                            const moerun__topology *topology,
                            double node_weight, double far_weight,
                            const int32_t *home_of_sequence);

/* rows_out[L] and rows_back[L]: those of a judgement, layer by layer. */
moerun_status moerun__count_rows(int64_t *rows_out, int64_t *rows_back,
                                 const moerun_placement *placement,
                                 const moerun__trace *trace,
                                 const moerun__topology *topology,
                                 const int32_t *home_of_sequence);

/* load[L][R]: rows that each rank computes. */
moerun_status moerun__count_loads(int64_t *load,
                                  const moerun_placement *placement,
                                  const moerun__trace *trace,
                                  const moerun__topology *topology,
                                  const int32_t *home_of_sequence);

/* `load` and `worst_load` of a judgement from the problem's loads alone: the
 * slots of an expert are taken to share its load evenly. copies: how many slots
 * each entry of rank_of stands for (map/import.h); NULL: one each. */
moerun_status moerun__judge_loads(double *load, double *worst_load,
                                  const moerun_placement *placement,
                                  const int32_t *copies,
                                  const moerun__problem *problem);

/* Judged value of the problem's objective. */
double moerun__judged(const moerun__problem *problem,
                      const moerun__judgement *judgement);

/* What the objective costs when nothing is avoided. */
double moerun__worst_cost(const moerun__problem *problem);

#endif
