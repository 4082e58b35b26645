/* The problem behind the objectives cut and weighted: layers in a row, and
 * pairs of items in neighbouring layers that like to be in the same part. */
#ifndef MOERUN_SEARCH_CHAIN_H
#define MOERUN_SEARCH_CHAIN_H

#include "placement/search/split.h"

/* Letters and the first fields as in moerun__split. */
typedef struct moerun__chain {
  int32_t num_layers;  /* L */
  int32_t num_items;   /* n */
  int32_t num_parts;   /* P */
  int32_t per_part;    /* n / P */
  int32_t most_blanks; /* in one part of one layer; 0: there are none */
  int32_t even_caps;   /* all parts of a layer have the same cap */
  /* A pair in one part is worth part_worth, one in a group of
   * parts group_worth on top of that. */
  const int32_t *group_of; /* [P] borrowed; NULL: groups are not looked at */
  int32_t num_groups;
  double part_worth;
  double group_worth; /* 0: groups are not looked at, group_gain is NULL */
  int32_t *expert_of; /* [L][n] expert or -1: blank */
  int32_t *follow;    /* [L - 1][n][n] pairs (item, item of the next layer) */
  int32_t *precede;   /* [L - 1][n][n] its transpose */
  int64_t *load;      /* [L][n] blanks: 0 */
  int64_t *cap;       /* [L][P] */
  /* The state; all derived from part_of. */
  int32_t *part_of;     /* [L][n] */
  int32_t *gain;        /* [L][P][n] pairs of the item with both neighbouring
                           layers' items in the part                         */
  int32_t *group_gain;  /* [L][num_groups][n] the same with groups */
  int64_t *part_load;   /* [L][P] */
  int32_t *part_blanks; /* [L][P] */
} moerun__chain;

/* Items, caps and the first state from the split. Counts are halved as often as
 * 32 bits need; in a trace of less than 10^7 tokens that is never. */
moerun_status moerun__chain_create(moerun__chain **out,
                                   const moerun__problem *problem,
                                   const moerun__split *split);
void moerun__chain_destroy(moerun__chain *chain);
/* The chain's state into the split that it was created from. */
void moerun__chain_keep(moerun__split *split, const moerun__chain *chain);
/* Worth of pairs by distance, for the objective weighted. */
moerun_status moerun__chain_set_groups(moerun__chain *chain,
                                       const int32_t *group_of,
                                       int32_t num_groups, double part_worth,
                                       double group_worth);

/* After part_of was written from outside. */
void moerun__chain_derive(moerun__chain *chain);

/* Worth of all pairs kept together, by the gains. */
double moerun__chain_kept(const moerun__chain *chain);

/* Caps and blanks after items i and k of one layer, in different parts, change
 * places. */
static inline int moerun__chain_swap_allowed(const moerun__chain *chain,
                                             int32_t layer, int32_t i,
                                             int32_t k) {
  const size_t row = (size_t)layer * (size_t)chain->num_items;
  const size_t parts = (size_t)layer * (size_t)chain->num_parts;
  const size_t a = parts + (size_t)chain->part_of[row + (size_t)i];
  const size_t b = parts + (size_t)chain->part_of[row + (size_t)k];
  const int64_t moved =
      chain->load[row + (size_t)i] - chain->load[row + (size_t)k];
  if (moved > 0 && chain->part_load[b] + moved > chain->cap[b]) return 0;
  if (moved < 0 && chain->part_load[a] - moved > chain->cap[a]) return 0;
  const int blank_i = chain->expert_of[row + (size_t)i] < 0;
  const int blank_k = chain->expert_of[row + (size_t)k] < 0;
  if (blank_i && !blank_k) return chain->part_blanks[b] < chain->most_blanks;
  if (blank_k && !blank_i) return chain->part_blanks[a] < chain->most_blanks;
  return 1;
}

/* Change of moerun__chain_kept by that. */
static inline double moerun__chain_swap_worth(const moerun__chain *chain,
                                              int32_t layer, int32_t i,
                                              int32_t k) {
  const size_t n = (size_t)chain->num_items;
  const size_t at = (size_t)layer;
  const int32_t *part_of = chain->part_of + at * n;
  const int32_t a = part_of[i];
  const int32_t b = part_of[k];
  const int32_t *of_a =
      chain->gain + (at * (size_t)chain->num_parts + (size_t)a) * n;
  const int32_t *of_b =
      chain->gain + (at * (size_t)chain->num_parts + (size_t)b) * n;
  const double worth =
      chain->part_worth * (of_b[i] - of_a[i] + of_a[k] - of_b[k]);
  if (chain->group_gain == NULL) return worth;
  const size_t groups = at * (size_t)chain->num_groups;
  of_a = chain->group_gain + (groups + (size_t)chain->group_of[a]) * n;
  of_b = chain->group_gain + (groups + (size_t)chain->group_of[b]) * n;
  return worth + chain->group_worth * (of_b[i] - of_a[i] + of_a[k] - of_b[k]);
}

void moerun__chain_swap(moerun__chain *chain, int32_t layer, int32_t i,
                        int32_t k);

/* part_of[n] of one layer replaced. */
void moerun__chain_set_layer(moerun__chain *chain, int32_t layer,
                             const int32_t *part_of);

/* ---- Searches; each leaves a state within the caps if it began in one ---- */

/* From a state within the caps: each later layer by its pairs with the one
 * before; expert by expert, heaviest first, in the greedy form. Layers that the
 * deadline leaves no time for stay as they are. */
moerun_status moerun__chain_forward(moerun__chain *chain,
                                    const moerun__deadline *deadline);
moerun_status moerun__chain_greedy(moerun__chain *chain);
/* Relabelling of all later layers on each boundary, until the deadline. */
moerun_status moerun__chain_relabel(moerun__chain *chain,
                                    const moerun__deadline *deadline);
/* Relabelling, and exact steps of one layer, until neither helps. */
moerun_status moerun__chain_sweep(moerun__chain *chain,
                                  const moerun__deadline *deadline);
/* Annealing by swaps, `steps` proposals; ends with the best state seen. */
moerun_status moerun__chain_anneal(moerun__chain *chain, uint64_t seed,
                                   int64_t steps, double heat,
                                   const moerun__deadline *deadline);
/* Exact re-splits of two parts over all layers. */
moerun_status moerun__chain_resplit(moerun__chain *chain, uint64_t seed,
                                    const moerun__deadline *deadline);

#endif
