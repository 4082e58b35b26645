/* All balanced splits of the experts of one layer, for exact solutions of small
 * problems. */
#ifndef MOERUN_SEARCH_STATES_H
#define MOERUN_SEARCH_STATES_H

#include "placement/judge/problem.h"

enum { MOERUN_MOST_STATES = 20000 };

/* For fan-out a token's experts are the bits of an index: at most so many. */
enum { MOERUN_MOST_SET_BITS = 20 };

typedef struct moerun__states {
  int32_t num_experts;
  int32_t num_ranks;
  int32_t count;
  int32_t half;     /* experts 0 .. half-1 are the first half */
  int32_t num_left; /* R^half: splits of the first half */
  int32_t num_right;
  uint8_t *rank_of; /* [count][E] */
  int32_t *left;    /* [count] number of the first half's split */
  int32_t *right;   /* [count] */
} moerun__states;

/* Their number, or MOERUN_MOST_STATES + 1 if there are more than that. */
int32_t moerun__states_count(const moerun__problem *problem);

/* Splits with fewest_slots to most_slots experts a rank. ERR_UNSUPPORTED if
 * there are more than MOERUN_MOST_STATES. */
moerun_status moerun__states_create(moerun__states **out,
                                    const moerun__problem *problem);
void moerun__states_destroy(moerun__states *states);

/* value[count] += the sum over experts of gain[E][R] at their ranks; table
 * [num_left + num_right] is scratch. */
void moerun__states_value(double *value, const moerun__states *states,
                          const double *gain, double *table);

/* 1 if the loads of state s in a layer are within the caps. */
int moerun__states_allowed(const moerun__states *states,
                           const moerun__problem *problem, int32_t layer,
                           int32_t s);

#endif
