/* What a search is told and what it returns. */
#ifndef MOERUN_JUDGE_SOLUTION_H
#define MOERUN_JUDGE_SOLUTION_H

#include "placement/judge/deadline.h"
#include "placement/judge/problem.h"

typedef struct moerun__method_options {
  uint64_t seed;
  double time_limit_s;   /* 0: none; what is best by then is returned */
  moerun__clock clock;   /* NULL: time limits are off */
  int32_t spare_slots;   /* replicas that a (layer, rank) has room for beyond
                            ceil(E / R); 0: none                            */
  int32_t slots;         /* of all ranks in each layer, every rank as many, all
                            of them filled; only with fills_slots; 0: as many as
                            spare_slots says */
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

/* Within caps and counts; the message names layer, rank, found and allowed. */
moerun_status moerun__solution_check(const moerun__problem *problem,
                                     const int32_t *rank_of);
/* *allowed: 1 if it is so, 0 if not; other failures are returned. */
moerun_status moerun__solution_allowed(int *allowed,
                                       const moerun__problem *problem,
                                       const int32_t *rank_of);

#endif
