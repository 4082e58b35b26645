/* What a placement method is given and judged by: the routing statistics of a
 * trace, the cluster, the load caps and the objective. Every number that is
 * printed about a placement is defined and computed here or in objective.c,
 * from the raw trace, never from a method's own bookkeeping. */
#ifndef MOERUN_PLACEMENT_PROBLEM_H
#define MOERUN_PLACEMENT_PROBLEM_H

#include "placement/placement.h"
#include "placement/trace.h"

/* The ranks: rank r is on node r / ranks_per_node. Written as one line, e.g.
 * "2 nodes x 4 ranks, intra 40 GB/s 2 us, inter 3 GB/s 8 us, speed 1 1 1 0.5 1
 * 1 1 1"; everything after the first part may be left out. */
typedef struct moerun__topology {
  int32_t num_ranks; /* R */
  int32_t ranks_per_node;
  double intra_bytes_per_second; /* 0: not said */
  double inter_bytes_per_second;
  double intra_seconds; /* latency */
  double inter_seconds;
  double *speed; /* [R] relative, mean 1 */
} moerun__topology;

moerun_status moerun__topology_parse(moerun__topology **out, const char *text);
void moerun__topology_destroy(moerun__topology *topology);

typedef enum moerun__objective {
  MOERUN_OBJECTIVE_FANOUT = 0, /* distinct ranks that a token's K experts are
                                  on, per layer: rows of home mode           */
  MOERUN_OBJECTIVE_CUT,        /* all K^2 pairs (term of layer l, term of layer
                                  l + 1) on different ranks: coherent mode   */
  MOERUN_OBJECTIVE_WEIGHTED,   /* the same pairs weighted by distance: 0 same
                                  rank, a same node, b other node            */
} moerun__objective;

typedef struct moerun__problem {
  const moerun__trace *trace;       /* borrowed: what is trained on */
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
  int32_t most_slots; /* experts per (layer, rank) at most, before spares:
                          ceil(E / R)                                       */
  int32_t fewest_slots; /* floor(E / R) */
  double *cap;          /* [L][R] most load of a rank: speed share of the mean
                          times (1 + slack), and never below what the hottest
                          expert or an LPT packing forces                   */
} moerun__problem;

typedef struct moerun__problem_options {
  moerun__objective objective;
  double slack;       /* load may exceed a rank's share by this; 0: 0.05 */
  double node_weight; /* 0: from the topology's bandwidths, else 1 and 1 */
  double far_weight;
} moerun__problem_options;

moerun_status moerun__problem_create(moerun__problem **out,
                                     const moerun__trace *trace,
                                     const moerun__topology *topology,
                                     const moerun__problem_options *options);
void moerun__problem_destroy(moerun__problem *problem);

/* What a placement does to a trace (train or held out), replicas included. */
typedef struct moerun__judgement {
  double fanout;      /* distinct ranks per token and layer, mean            */
  double remote;      /* of them not the home rank, mean over all R homes    */
  double node_fanout; /* distinct nodes per token and layer                  */
  double cut;         /* share of pairs on different ranks                   */
  double node_cut;    /* share of pairs on different nodes                   */
  double weighted;    /* mean distance weight of a pair                      */
  double tail;        /* sum over boundaries of the largest pair traffic over
                          (rank, rank) links, relative to an even spread      */
  double load;        /* max/mean rank load over layers, mean over layers;
                          per unit of speed                                   */
  double worst_load;  /* max over layers                                     */
} moerun__judgement;

moerun_status moerun__judge(moerun__judgement *out,
                            const moerun_placement *placement,
                            const moerun__trace *trace,
                            const moerun__topology *topology,
                            double node_weight, double far_weight);

/* Judged value of the problem's objective. */
double moerun__judged(const moerun__problem *problem,
                      const moerun__judgement *judgement);

#endif
