/* Replicas in spare slots: a placement that copies are added to and taken from,
 * with what each change does to the problem's objective and to the loads of the
 * ranks, by the rule that the runtime routes by (moerun__placement_choose). */
#ifndef MOERUN_SEARCH_REPLICAS_H
#define MOERUN_SEARCH_REPLICAS_H

#include "placement/judge/solution.h"

/* Letters as in moerun__problem. Costs and loads are sums over tokens and over
 * num_homes homes of each, the judge's own unless there are more than 8. */
typedef struct moerun__replicas {
  const moerun__problem *problem; /* borrowed */
  int32_t num_homes;
  int32_t room;          /* slots of a (layer, rank) */
  moerun_placement map;  /* replica_offset and rank_of of all layers: slots are
                           not kept                                         */
  int32_t *slot_count;   /* [L][R] replicas held */
  int32_t layer;         /* the one that changes are made in */
  int64_t *token_offset; /* [E + 1] of that layer: tokens that take an expert */
  int32_t *token_of;
  int64_t *load; /* [R] of that layer */
  /* Scratch, for one token. */
  int32_t *ids;       /* [K] */
  int32_t *ranks[3];  /* [K] of the layer before, the layer, the layer after */
  int64_t *last_seen; /* [R] */
  int64_t visit;
  int64_t *last_mark; /* [R] */
  int64_t mark;
} moerun__replicas;

/* What a copy changes. */
typedef struct moerun__change {
  double cost;
  int64_t *load; /* [R] */
} moerun__change;

/* rank_of as in a placement, replica_offset[L * E + 1] too, or NULL: one of
 * each; room for `spare_slots` more on each rank than there are without. */
moerun_status moerun__replicas_create(moerun__replicas **out,
                                      const moerun__problem *problem,
                                      const int32_t *replica_offset,
                                      const int32_t *rank_of,
                                      int32_t spare_slots);
void moerun__replicas_destroy(moerun__replicas *replicas);

/* Changes are made in this layer from now on. */
void moerun__replicas_enter(moerun__replicas *replicas, int32_t layer);

/* Replicas of an expert of that layer: ranks [count], ascending. */
const int32_t *moerun__replicas_of(const moerun__replicas *replicas,
                                   int32_t expert, int32_t *count);
int moerun__replicas_holds(const moerun__replicas *replicas, int32_t expert,
                           int32_t rank);

/* Adds a copy where there is none, or takes one away; of the state's load, a
 * `change` that was counted for it is added or NULL. */
void moerun__replicas_add(moerun__replicas *replicas,
                          const moerun__change *change, int32_t expert,
                          int32_t rank);
void moerun__replicas_take(moerun__replicas *replicas, int32_t expert,
                           int32_t rank);

/* What adding a copy would change: exactly if the expert has no more than so
 * many tokens, else estimated from as many. */
void moerun__replicas_estimate(moerun__replicas *replicas,
                               moerun__change *change, int32_t expert,
                               int32_t rank, int64_t tokens);

/* Cost and load[R] of the layer's tokens with all the judge's homes: their
 * number is returned. */
int32_t moerun__replicas_count(moerun__replicas *replicas, double *cost,
                               int64_t *load);

/* Fills spare slots of a placement without copies, rank_of[L][E]: the copy that
 * saves the most first, within the caps; experts beyond a rank's fair share
 * before all. */
moerun_status moerun__replicas_fill(moerun__replicas *replicas,
                                    const int32_t *rank_of,
                                    const moerun__deadline *deadline);

/* As a method returns it; solution->copies is allocated. */
moerun_status moerun__replicas_to_copies(moerun__solution *solution,
                                         const moerun__replicas *replicas);

/* A solution without copies gets them by moerun__replicas_fill. */
moerun_status moerun__replicas_complete(moerun__solution *solution,
                                        const moerun__problem *problem,
                                        int32_t spare_slots,
                                        const moerun__deadline *deadline);

/* Slots and, by the rule with all the judge's homes, caps of a placement with
 * replicas; the message names layer, rank, found and allowed. */
moerun_status moerun__replicas_check(const moerun__problem *problem,
                                     const moerun_placement *placement,
                                     int32_t spare_slots);

#endif
