/* Prices that turn a low fan-out into pairs to keep together. */
#ifndef MOERUN_BOUND_BOUND_PRICES_H
#define MOERUN_BOUND_BOUND_PRICES_H

#include "placement/bound/relax.h"
#include "placement/judge/problem.h"

/* A term of a token that shares its rank with y - 1 others of them counts as
 * 1 / y ranks, all of them together as the token's fan-out. With any price p,
 * 1 / y + p (y - 1) >= least(p) = min over y = 1 .. Y; summed over all terms,
 *
 *   ranks visited >= sum of least(p) - sum of p over pairs kept together,
 *
 * and what the last sum can be at most is what the relaxation says. */
typedef struct moerun__bound_prices {
  const moerun__problem *problem; /* borrowed */
  int32_t num_items;              /* n of the relaxation */
  int32_t most_together;          /* Y */
  float *price;                   /* [N][L][K] */
  double *pace;                   /* [L][E] how fast they may change */
  double least;                   /* sum of least(p), and of its roundings */
  double base; /* what sum(p over pairs) has beyond scale * sum(worth * pair) */
  double rounding;
} moerun__bound_prices;

moerun_status moerun__bound_prices_create(moerun__bound_prices **out,
                                          const moerun__problem *problem);
void moerun__bound_prices_destroy(moerun__bound_prices *prices);

/* A step of all prices against the relaxation's estimate of the pairs, then
 * worth = what they make of each pair / scale, centred. step: 0 leaves them
 * as they are. */
void moerun__bound_prices_step(moerun__bound_prices *prices,
                               moerun__relax *relax, double scale, double step);

/* worth[n][n] less its row and column means: with rows that add up to n / P
 * these count the same in every placement, which is what is returned. */
double moerun__centre_worth(double *worth, size_t n, int32_t num_parts);

#endif
