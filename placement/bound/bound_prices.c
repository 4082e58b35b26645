/* Prices go up where a term shares its rank with more terms than its price
 * stands for, and down where with fewer: the dual half of a primal-dual method
 * (Chambolle and Pock, 2011), whose primal half is the relaxation's own step.
 * Their pace follows Pock and Chambolle's diagonal preconditioning: an expert
 * that is in many tokens hears from all of them at once. */
#include "placement/bound/bound_prices.h"

#include "runtime/base/memory.h"

#include <float.h>
#include <math.h>
#include <string.h>

#define FIRST_PRICE (1.0F / 6)

moerun_status moerun__bound_prices_create(moerun__bound_prices **out,
                                          const moerun__problem *problem) {
  moerun_status status = MOERUN_OK;
  moerun__bound_prices *prices = NULL;
  const moerun__trace *trace = problem->trace;
  const size_t E = (size_t)problem->num_experts;
  const size_t entries = (size_t)problem->num_layers * E;
  const size_t terms = (size_t)trace->num_tokens * (size_t)trace->num_layers *
                       (size_t)trace->num_terms;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&prices, 1, sizeof *prices));
  prices->problem = problem;
  prices->num_items = problem->num_ranks * problem->most_slots;
  prices->most_together = trace->num_terms < problem->most_slots
                              ? trace->num_terms
                              : problem->most_slots;
  MOERUN_TRY(moerun__alloc(&prices->price, terms, sizeof *prices->price));
  MOERUN_TRY(moerun__alloc(&prices->pace, entries, sizeof *prices->pace));
  for (size_t i = 0; i < terms; i++) {
    prices->price[i] = FIRST_PRICE;
  }
  for (size_t i = 0; i < entries; i++) {
    int64_t most = 1;
    for (size_t j = 0; j < E; j++) {
      const int64_t count = problem->together[i * E + j];
      if (count > most) most = count;
    }
    prices->pace[i] = 1 / ((double)most * trace->num_terms);
  }
  *out = prices;
  prices = NULL;
done:
  moerun__bound_prices_destroy(prices);
  return status;
}

void moerun__bound_prices_destroy(moerun__bound_prices *prices) {
  if (prices == NULL) return;
  moerun__free(prices->price);
  moerun__free(prices->pace);
  moerun__free(prices);
}

/* Most of -p others + least(p) - (p - before)^2 / (2 step) over p >= 0. */
static double next_price(double before, double others, double step,
                         int32_t most_together) {
  double above = INFINITY;
  for (int32_t y = 1; y < most_together; y++) {
    const double below = 1.0 / y - 1.0 / (y + 1); /* where y and y + 1 meet */
    const double price = before + step * (y - 1 - others);
    if (price >= below) return fmin(price, above);
    above = below;
  }
  const double price = before + step * (most_together - 1 - others);
  return fmin(fmax(price, 0), above);
}

static double least_charge(double price, int32_t most_together) {
  double least = 1;
  for (int32_t y = 2; y <= most_together; y++) {
    least = fmin(least, 1.0 / y + price * (y - 1));
  }
  return least;
}

/* One token: prices, their sum of least(p), and what they add to the worth of
 * its pairs. ids[K] holds -1 where there is no expert. */
static double step_token(moerun__bound_prices *prices, double *worth,
                         float *price, const int16_t *ids, const double *pair,
                         const double *pace, double step) {
  const size_t n = (size_t)prices->num_items;
  const int32_t K = prices->problem->trace->num_terms;
  double least = 0;
  for (int32_t a = 0; a < K; a++) {
    if (ids[a] < 0) continue;
    const size_t row = (size_t)ids[a] * n;
    double others = -1; /* the term itself */
    for (int32_t b = 0; b < K; b++) {
      if (ids[b] >= 0) others += pair[row + (size_t)ids[b]];
    }
    const double before = (double)price[a];
    const float now = (float)next_price(before, others, step * pace[ids[a]],
                                        prices->most_together);
    const double ahead = fmax(2 * (double)now - before, 0);
    price[a] = now;
    least += least_charge(ahead, prices->most_together);
    for (int32_t b = 0; b < K; b++) {
      if (ids[b] >= 0 && b != a) worth[row + (size_t)ids[b]] += ahead;
    }
  }
  return least;
}

double moerun__centre_worth(double *worth, size_t n, int32_t num_parts) {
  double total = 0;
  for (size_t i = 0; i < n; i++) {
    double sum = 0;
    for (size_t j = 0; j < n; j++) {
      sum += worth[i * n + j];
    }
    total += sum;
    for (size_t j = 0; j < n; j++) {
      worth[i * n + j] -= sum / (double)n;
    }
  }
  for (size_t j = 0; j < n; j++) {
    double sum = 0;
    for (size_t i = 0; i < n; i++) {
      sum += worth[i * n + j];
    }
    for (size_t i = 0; i < n; i++) {
      worth[i * n + j] -= sum / (double)n;
    }
  }
  return total / num_parts;
}

void moerun__bound_prices_step(moerun__bound_prices *prices,
                               moerun__relax *relax, double scale,
                               double step) {
  const moerun__trace *trace = prices->problem->trace;
  const size_t n = (size_t)relax->num_items;
  const size_t E = (size_t)prices->problem->num_experts;
  const size_t K = (size_t)trace->num_terms;
  const size_t L = (size_t)trace->num_layers;
  const size_t N = (size_t)trace->num_tokens;
  prices->least = 0;
  prices->base = 0;
  for (size_t l = 0; l < L; l++) {
    double *worth = moerun__relax_pairs(relax, relax->worth, 0, (int32_t)l);
    const double *pair = moerun__relax_pairs(relax, relax->pair, 0, (int32_t)l);
    double least = 0;
    memset(worth, 0, n * n * sizeof *worth);
    for (size_t t = 0; t < N; t++) {
      const size_t row = (t * L + l) * K;
      least += step_token(prices, worth, prices->price + row, trace->ids + row,
                          pair, prices->pace + l * E, step);
    }
    prices->least += least;
    prices->base += moerun__centre_worth(worth, n, relax->num_parts);
    for (size_t i = 0; i < n * n; i++) {
      worth[i] /= scale;
    }
  }
  prices->rounding = (double)(N * K + L + n) * DBL_EPSILON *
                     (prices->least + relax->num_parts * prices->base);
}
