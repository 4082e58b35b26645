/* The value of the dual at the multipliers at hand, as an upper bound that
 * rounding cannot break. With a price matrix A for each window, prices >= 0 of
 * rows, columns and stars, and free ones on the diagonal, every placement
 * has
 *
 *   sum(worth * pair) <= sum over windows <A, S> + cap . row prices
 *                        + cap . column prices + star prices + diagonal,
 *
 * if what A and the prices charge for each pair is no less than its worth:
 * where it is, A is raised. In a window S = J / P + T, T having eigenvalues
 * from 0 to m c, at most P - 1 of them not 0 and m c (P - 1) as their sum, so
 * <A, T> is at most m c times the P - 1 largest eigenvalues of A between
 * centred vectors (Fan, 1949). */
#include "placement/bound/relax.h"

#include "placement/bound/eigen.h"

#include <float.h>
#include <math.h>
#include <string.h>

typedef struct tally {
  double value;
  double size; /* sum of the magnitudes that went into it */
} tally;

static void add(tally *t, double term) {
  t->value += term;
  t->size += fabs(term);
}

/* sum = what all windows and stars charge for each pair: half of it for
 * pairs of two layers, which a window holds twice; stars within a layer
 * have one of (i, j) and (j, i) pay for both. */
static void charge(tally *t, moerun__relax *relax) {
  const size_t n = (size_t)relax->num_items;
  const size_t D = (size_t)relax->side;
  memset(relax->sum, 0, relax->offset[relax->width] * sizeof *relax->sum);
  for (int32_t b = 0; b < relax->num_blocks; b++) {
    const double *window = relax->block_price + (size_t)b * D * D;
    for (int32_t d = 0; d < relax->width; d++) {
      for (int32_t s = 0; s + d < relax->width; s++) {
        const double *from = window + (size_t)s * n * D + (size_t)(s + d) * n;
        double *to = moerun__relax_pairs(relax, relax->sum, d, b + s);
        for (size_t i = 0; i < n * n; i++) {
          to[i] += from[i / n * D + i % n];
        }
      }
    }
  }
  for (size_t k = 0; k < relax->num_stars; k++) {
    const moerun__star *star = relax->star + k;
    const double price = relax->penalty * MOERUN_STAR_WEIGHT * star->price;
    for (int32_t i = 0; i < moerun__star_size(star); i++) {
      const double share = star->at[i] < relax->offset[1] ? price : price / 2;
      relax->sum[star->at[i]] += moerun__star_sign(star, i) * share;
      t->size += share;
    }
    add(t, price);
  }
}

/* sum = what A has to be raised by, in each window, for pairs of layer l; the
 * diagonal, which is 1 whatever the placement, pays or takes the difference. */
static void raise_within(tally *t, moerun__relax *relax, int32_t l) {
  const size_t n = (size_t)relax->num_items;
  const double *load = relax->load + (size_t)l * n;
  const double *price = relax->row_price + (size_t)l * n;
  const double *worth = moerun__relax_pairs(relax, relax->worth, 0, l);
  const uint8_t *apart = relax->apart + (size_t)l * n * n;
  const int32_t windows = moerun__relax_windows(relax, 0, l);
  double *sum = moerun__relax_pairs(relax, relax->sum, 0, l);
  const double rho = relax->penalty;
  for (size_t i = 0; i < n; i++) {
    const size_t on = i * n + i;
    add(t, worth[on] - rho * price[i] * load[i] - sum[on]);
    sum[on] = 0;
    add(t, rho * price[i] * relax->cap[l]);
    for (size_t j = 0; j < i; j++) {
      const size_t a = j * n + i;
      const size_t b = i * n + j;
      const double short_of = worth[a] + worth[b] -
                              rho * (price[i] * load[j] + price[j] * load[i]) -
                              (sum[a] + sum[b]);
      sum[a] = apart[a] ? 0 : fmax(short_of, 0) / (2 * windows);
      sum[b] = sum[a];
    }
  }
}

/* The same for pairs of layers l and l + d. */
static void raise_between(tally *t, moerun__relax *relax, int32_t d,
                          int32_t l) {
  const size_t n = (size_t)relax->num_items;
  const size_t link = (relax->link_offset[d] + (size_t)l) * n;
  const double *row_load = relax->load + (size_t)(l + d) * n;
  const double *column_load = relax->load + (size_t)l * n;
  const double *row_price = relax->row_price + link;
  const double *column_price = relax->column_price + link;
  const double *worth = moerun__relax_pairs(relax, relax->worth, d, l);
  double *sum = moerun__relax_pairs(relax, relax->sum, d, l);
  const uint8_t *apart = relax->apart + relax->offset[d] + (size_t)l * n * n;
  const int32_t windows = moerun__relax_windows(relax, d, l);
  const double rho = relax->penalty;
  for (size_t i = 0; i < n; i++) {
    add(t, rho * row_price[i] * relax->cap[l + d]);
    add(t, rho * column_price[i] * relax->cap[l]);
    for (size_t j = 0; j < n; j++) {
      const size_t at = i * n + j;
      const double charged =
          row_price[i] * row_load[j] + column_price[j] * column_load[i];
      const double short_of = (worth[at] - rho * charged) / 2 - sum[at];
      sum[at] = apart[at] ? 0 : fmax(short_of, 0) / windows;
    }
  }
}

/* Most of <A, S> over one window. */
static moerun_status add_window(tally *t, moerun__relax *relax, int32_t b) {
  moerun_status status = MOERUN_OK;
  const size_t D = (size_t)relax->side;
  const double *price = relax->block_price + (size_t)b * D * D;
  const double most = (double)relax->side / relax->num_parts; /* m c */
  double *matrix = relax->window;
  double *value = relax->eigenvalue;
  double squares = 0;
  double sum = 0;
  double size = 0;
  moerun__relax_assemble(matrix, relax, relax->sum, b);
  for (size_t i = 0; i < D * D; i++) {
    matrix[i] += price[i];
    sum += matrix[i];
    size += fabs(matrix[i]) + fabs(price[i]);
    squares += matrix[i] * matrix[i];
  }
  add(t, sum / relax->num_parts);
  t->size += size;
  moerun__relax_centre(matrix, relax);
  MOERUN_TRY(moerun__eigen(value, NULL, matrix, relax->side, value + D));
  for (int32_t k = 1; k < relax->num_parts; k++) {
    add(t, most * value[relax->side - k]);
  }
  t->size += most * (relax->num_parts - 1) * sqrt(squares);
done:
  return status;
}

/* Each rounding error is at most DBL_EPSILON / 2 of a magnitude that `size`
 * holds, sums and eigenvalues of D rows gather less than D^2 of them, and sums
 * over pairs no more than there are layers times as many. */
moerun_status moerun__relax_value(double *value, moerun__relax *relax) {
  moerun_status status = MOERUN_OK;
  tally t = {0};
  const double roundings = (double)relax->side * (double)relax->side +
                           (double)relax->num_layers * relax->side + 64;
  charge(&t, relax);
  for (int32_t d = 0; d < relax->width; d++) {
    for (int32_t l = 0; l + d < relax->num_layers; l++) {
      if (d == 0) {
        raise_within(&t, relax, l);
      } else {
        raise_between(&t, relax, d, l);
      }
    }
  }
  for (int32_t b = 0; b < relax->num_blocks; b++) {
    MOERUN_TRY(add_window(&t, relax, b));
  }
  *value = t.value + roundings * DBL_EPSILON * t.size;
done:
  return status;
}
