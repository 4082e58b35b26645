/* The problem behind the objective fanout with replicas: one layer, ranks with
 * slots, each for a replica of an expert or empty. What a token visits is
 * estimated from sets of tokens: ranks that it visits for experts of one
 * replica are its base; an expert of several is served on one of these if it
 * has a replica there, else costs a visit more; and on its home, if that has
 * one. What two such experts of one token could share beyond the base is left
 * out. */
#ifndef MOERUN_SEARCH_SHARING_H
#define MOERUN_SEARCH_SHARING_H

#include "placement/search/replicas.h"
#include "placement/search/visits.h"

/* Visits that a token beyond a rank's cap costs: so many that changes that mend
 * it win in the end. */
#define MOERUN_SHARING_PENALTY 3.0

/* Letters as in moerun__problem. Counts are of the tokens that `visits` looks
 * at, of which there are 64 * visits->words; loads are of all. */
typedef struct moerun__sharing {
  const moerun__problem *problem;
  moerun__visits *visits; /* borrowed: token sets of the items */
  int32_t room;           /* slots of a rank */
  int32_t *item_of;       /* [E] item of the expert */
  int32_t *taken;         /* [E] tokens looked at that take the expert */
  double *cap;            /* [R] */
  /* The state. */
  int32_t *slot;       /* [R][room] expert or -1 */
  int32_t *host_count; /* [E] replicas */
  int32_t *host;       /* [E][R] their ranks, in any order */
  /* Derived. */
  uint64_t *base;      /* [R][stride] tokens with the rank in their base */
  int32_t *base_count; /* [R] */
  double *cost;        /* [E] visits added by experts of several replicas */
  double *share;       /* [E][R] load of the expert's replica on the rank */
  double *load;        /* [R] */
  struct moerun__sharing_trial *trial;
} moerun__sharing;

/* What stands in a slot of rank a and in one of rank b changes places; b < 0:
 * `expert` (-1: none) comes in place of what stands in the slot of a. */
typedef struct moerun__slot_change {
  int32_t a;
  int32_t slot_a;
  int32_t b;
  int32_t slot_b;
  int32_t expert;
} moerun__slot_change;

moerun_status moerun__sharing_create(moerun__sharing **out,
                                     const moerun__problem *problem,
                                     moerun__visits *visits,
                                     int32_t spare_slots);
void moerun__sharing_destroy(moerun__sharing *sharing);

/* The layer that `visits` has loaded, with the slots of the placement; caps of
 * the problem. */
void moerun__sharing_start(moerun__sharing *sharing,
                           const moerun__replicas *replicas);
/* After the visits look at other tokens, or caps or slots were written. */
void moerun__sharing_derive(moerun__sharing *sharing);

/* Every expert keeps a replica, and has at most one on a rank; something
 * changes. */
int moerun__sharing_allowed(const moerun__sharing *sharing,
                            const moerun__slot_change *change);
/* Makes the change for a trial and returns the cost it adds, in visits and
 * penalties; the trial ends in the one way or the other. */
double moerun__sharing_try(moerun__sharing *sharing,
                           const moerun__slot_change *change);
void moerun__sharing_keep(moerun__sharing *sharing);
void moerun__sharing_revert(moerun__sharing *sharing);

/* Searches for slots with few visits from what the replicas hold: one of each
 * expert, by rank_of[L][E], as a rule. Counted by moerun__placement_choose, the
 * loads are within the caps then, or a layer is as it was. */
moerun_status moerun__sharing_search(moerun__replicas *replicas,
                                     const int32_t *rank_of,
                                     const moerun__method_options *options,
                                     const moerun__deadline *deadline);

#endif
