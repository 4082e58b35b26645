/* The map replica -> (rank, slot), its invariants and its file. Pure: no MPI,
 * no threads, no clock. */
#ifndef MOERUN_MAP_PLACEMENT_H
#define MOERUN_MAP_PLACEMENT_H

#include "runtime/base/limits.h"
#include "runtime/base/output.h"
#include "runtime/base/status.h"

/* For MoE layer l and expert e the replicas are
 * replica_offset[l * E + e] .. replica_offset[l * E + e + 1] - 1, at least one,
 * no two on one rank, in ascending rank order; replica i is slot slot_of[i] of
 * rank rank_of[i]. On each (layer, rank) the slots are 0 .. L-1 without gaps:
 * slot_count[l * R + r] = L, experts ascending by slot. */
struct moerun_placement {
  int32_t num_layers;      /* MoE layers */
  int32_t num_experts;     /* E */
  int32_t num_ranks;       /* R */
  int32_t *replica_offset; /* [num_layers * E + 1] */
  int32_t *rank_of;
  int32_t *slot_of;
  int32_t *slot_count; /* [num_layers * R] */
  int32_t most_slots;  /* of any rank and layer */
  char *model;         /* name the file was made for; "" if unknown */
  char *method;        /* "block", …                                */
  struct moerun__certificate *certificate; /* certificate.h; NULL: none */
};

/* Ranks of replicas per expert, CSR like above; slots are derived. */
moerun_status moerun__placement_create(moerun_placement **out,
                                       int32_t num_layers, int32_t num_experts,
                                       int32_t num_ranks,
                                       const int32_t *replica_offset,
                                       const int32_t *rank_of,
                                       const char *method);

/* A placement of num_layers layers, of the same experts and ranks as those that
 * they are taken from: layer l is layer number of_layer[l] of from[l], with
 * of_layer NULL number l. */
moerun_status moerun__placement_join(moerun_placement **out, int32_t num_layers,
                                     const moerun_placement *const *from,
                                     const int32_t *of_layer,
                                     const char *method);

/* experts[L] hosted by `rank` in `layer`, ascending (= by slot); returns L.
 * experts may be NULL. */
int32_t moerun__placement_experts(const moerun_placement *placement,
                                  int32_t layer, int32_t rank,
                                  int32_t *experts);

/* Largest L over layers of one rank. */
int32_t moerun__placement_max_slots(const moerun_placement *placement,
                                    int32_t rank);

/* Which replica serves each term of one token: replica_of_term[K] for the
 * token's distinct experts ids[K] (-1, for which replica -1: none). In this
 * order: the home rank's own replica; one on a rank that the token goes to
 * anyway; one whose rank serves the most of the terms still open, beginning
 * the search at number (home mod replicas), so that homes spread over equals.
 * Does not depend on the order of the terms. The runtime routes and
 * moerun__judge predicts by this one function, so both count the same rows. */
void moerun__placement_choose(int32_t *replica_of_term,
                              const moerun_placement *placement, int32_t layer,
                              int32_t home, const int32_t *ids, int32_t K);

/* What the placement was made for; the name is copied. */
moerun_status moerun__placement_name_model(moerun_placement *placement,
                                           const char *name);

/* Invariants above; MOERUN_ERR_INVALID names the first one broken. */
moerun_status moerun__placement_check(const moerun_placement *placement);

/* From and to JSON text; origin names the text in messages. */
moerun_status moerun__placement_parse(moerun_placement **out, const char *text,
                                      size_t bytes, const char *origin);
/* One of the outputs, as moerun_placement_save writes it. */
moerun_status moerun__placement_put(const moerun_placement *placement,
                                    moerun__outputs *outputs, const char *path);

#endif
