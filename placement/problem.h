/* What a placement method is given and judged by: the routing statistics of a
 * trace, the cluster, the load caps and the objective. Every number that is
 * printed about a placement is defined and computed here or in objective.c,
 * from the raw trace, never from a method's own bookkeeping. */
#ifndef MOERUN_PLACEMENT_PROBLEM_H
#define MOERUN_PLACEMENT_PROBLEM_H

#include "placement/packing.h"
#include "placement/placement.h"
#include "placement/trace.h"

/* The ranks and the nodes that they are on, neighbours together. Written as one
 * line, e.g. "2 nodes x 4 ranks, intra 40 GB/s 2 us, inter 3 GB/s 8 us, speed 1 1
 * 1 0.5 1 1 1 1"; everything after the first part may be left out. Nodes of
 * different sizes are added up: "4 + 4 + 2 ranks". */
typedef struct moerun__topology {
  int32_t num_ranks; /* R */
  int32_t num_nodes;
  int32_t ranks_per_node;        /* 0: nodes differ */
  int32_t *node_of;              /* [R] ascending */
  int32_t *first_rank;           /* [num_nodes + 1], R at the end */
  double intra_bytes_per_second; /* 0: not said */
  double inter_bytes_per_second;
  double intra_seconds; /* latency */
  double inter_seconds;
  double *speed; /* [R] relative, mean 1 */
} moerun__topology;

moerun_status moerun__topology_parse(moerun__topology **out, const char *text);
void moerun__topology_destroy(moerun__topology *topology);
static inline int moerun__topology_same_node(const moerun__topology *topology,
                                             int32_t a, int32_t b) {
  return topology->node_of[a] == topology->node_of[b];
}
/* Whether any two ranks differ in speed. */
int moerun__topology_is_uneven(const moerun__topology *topology);

typedef enum moerun__objective {
  MOERUN_OBJECTIVE_FANOUT = 0, /* distinct ranks that a token's K experts are
                                  on, per layer: rows of home mode           */
  MOERUN_OBJECTIVE_CUT,        /* all K^2 pairs (term of layer l, term of layer
                                  l + 1) on different ranks: coherent mode   */
  MOERUN_OBJECTIVE_WEIGHTED,   /* the same pairs weighted by distance: 0 same
                                  rank, a same node, b other node            */
  MOERUN_OBJECTIVE_TAIL,       /* the same pairs, between two layers on the link
                                  of two ranks that has the most of them     */
} moerun__objective;

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

/* What a placement does to a trace (train or held out), replicas included. */
typedef struct moerun__judgement {
  double fanout;      /* distinct ranks per token and layer, mean            */
  double remote;      /* of them not the home rank: rows out                 */
  double returned;    /* terms served by another rank than the home: rows
                         back with the exact combine                         */
  double node_fanout; /* distinct nodes per token and layer                  */
  double cut;         /* share of pairs on different ranks                   */
  double node_cut;    /* share of pairs on different nodes                   */
  double weighted;    /* mean distance weight of a pair                      */
  double tail;        /* largest traffic of a (rank, other rank) link between
                         two layers, summed over the boundaries, relative to
                         an even spread of all pairs over R^2 links          */
  double load;        /* max/mean rank load per unit of speed, mean over
                         layers                                              */
  double worst_load;  /* max over layers                                     */
  double row_load;    /* the same two in rows, whatever the speeds           */
  double worst_row_load;
  int64_t rows_out;  /* with homes given: remote, summed                    */
  int64_t rows_back; /* with homes given: returned, summed                  */
} moerun__judgement;

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
 * replicas of an expert are taken to share its load evenly. */
moerun_status moerun__judge_loads(double *load, double *worst_load,
                                  const moerun_placement *placement,
                                  const moerun__problem *problem);

/* Judged value of the problem's objective. */
double moerun__judged(const moerun__problem *problem,
                      const moerun__judgement *judgement);

#endif
