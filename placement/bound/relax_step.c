/* One iteration of the alternating direction method of multipliers. Each
 * condition projects its own copy of the pairs that it is about; then every
 * pair becomes the weighted mean of its copies, drawn by its worth and kept
 * nonnegative; then the duals take up what is left between copies and mean.
 *
 * A window's copy is the nearest matrix J / P + (positive semidefinite, every
 * row of every layer adding up to 0): its rows have the right sums by
 * itself. */
#include "placement/bound/relax.h"

#include "placement/bound/eigen.h"

#include <math.h>
#include <string.h>

#define OVERSHOOT 1.6 /* over-relaxation; 1 is the plain method */

/* ---- Windows ------------------------------------------------------------- */

/* matrix = sum over the eigenvectors first .. last - 1 of |value| v v'. */
static void rebuild(double *matrix, const double *value, const double *vector,
                    int32_t first, int32_t last, size_t D) {
  memset(matrix, 0, D * D * sizeof *matrix);
  for (int32_t k = first; k < last; k++) {
    const double *v = vector + (size_t)k * D;
    const double scale = fabs(value[k]);
    for (size_t i = 0; i < D; i++) {
      double *row = matrix + i * D;
      const double by = scale * v[i];
      for (size_t j = 0; j <= i; j++) {
        row[j] += by * v[j];
      }
    }
  }
  for (size_t i = 0; i < D; i++) {
    for (size_t j = 0; j < i; j++) {
      matrix[j * D + i] = matrix[i * D + j];
    }
  }
}

/* `nearest` to `given`, both [D][D]; the smaller side of the spectrum is what
 * is computed. */
static moerun_status project_window(double *nearest, double *vector,
                                    const double *given, moerun__relax *relax) {
  moerun_status status = MOERUN_OK;
  const size_t D = (size_t)relax->side;
  const double even = 1.0 / relax->num_parts;
  double *value = relax->eigenvalue;
  int32_t negative = 0;
  memcpy(nearest, given, D * D * sizeof *nearest);
  moerun__relax_centre(nearest, relax);
  MOERUN_TRY(moerun__eigen(value, vector, nearest, relax->side, value + D));
  while (negative < relax->side && value[negative] < 0) {
    negative++;
  }
  if (2 * negative >= relax->side) {
    rebuild(nearest, value, vector, negative, relax->side, D);
    for (size_t i = 0; i < D * D; i++) {
      nearest[i] += even;
    }
  } else {
    rebuild(nearest, value, vector, 0, negative, D);
    memcpy(vector, given, D * D * sizeof *vector);
    moerun__relax_centre(vector, relax);
    for (size_t i = 0; i < D * D; i++) {
      nearest[i] += vector[i] + even;
    }
  }
done:
  return status;
}

/* sum += factor * what window b holds of each pair. */
static void gather(double *sum, const moerun__relax *relax,
                   const double *window, int32_t b) {
  const size_t n = (size_t)relax->num_items;
  const size_t D = (size_t)relax->side;
  for (int32_t d = 0; d < relax->width; d++) {
    const double factor = d == 0 ? 1 : 2;
    for (int32_t s = 0; s + d < relax->width; s++) {
      const double *from = window + (size_t)s * n * D + (size_t)(s + d) * n;
      double *to = moerun__relax_pairs(relax, sum, d, b + s);
      for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < n; j++) {
          to[i * n + j] += factor * from[i * D + j];
        }
      }
    }
  }
}

static moerun_status step_windows(moerun__relax *relax) {
  moerun_status status = MOERUN_OK;
  const size_t area = (size_t)relax->side * (size_t)relax->side;
  double *nearest = relax->window;
  double *vector = nearest + area;
  double *now = vector + area;
  double squares = 0;
  for (int32_t b = 0; b < relax->num_blocks; b++) {
    double *dual = relax->block_dual + (size_t)b * area;
    double *price = relax->block_price + (size_t)b * area;
    moerun__relax_assemble(now, relax, relax->pair, b);
    for (size_t i = 0; i < area; i++) {
      price[i] = now[i] - dual[i];
    }
    MOERUN_TRY(project_window(nearest, vector, price, relax));
    for (size_t i = 0; i < area; i++) {
      const double away = nearest[i] - now[i];
      price[i] = relax->penalty * (price[i] - nearest[i]);
      dual[i] += now[i] + OVERSHOOT * away;
      squares += away * away;
    }
    gather(relax->sum, relax, dual, b);
  }
  relax->primal_residual =
      sqrt(squares / ((double)relax->num_blocks * (double)area));
done:
  return status;
}

/* The dual became copy + dual above; less the new mean it is the new dual. */
static void settle_windows(moerun__relax *relax) {
  const size_t area = (size_t)relax->side * (size_t)relax->side;
  double *now = relax->window;
  for (int32_t b = 0; b < relax->num_blocks; b++) {
    double *dual = relax->block_dual + (size_t)b * area;
    moerun__relax_assemble(now, relax, relax->pair, b);
    for (size_t i = 0; i < area; i++) {
      dual[i] -= now[i];
    }
  }
}

/* ---- Loads --------------------------------------------------------------- */

/* Rows of link (d, l), weighted by the loads of layer l + d. */
static void step_rows(moerun__relax *relax, int32_t d, int32_t l) {
  const size_t n = (size_t)relax->num_items;
  const double *load = relax->load + (size_t)(l + d) * n;
  const double *pair = moerun__relax_pairs(relax, relax->pair, d, l);
  double *dual = moerun__relax_pairs(relax, relax->row_dual, d, l);
  double *sum = moerun__relax_pairs(relax, relax->sum, d, l);
  double *price = relax->row_price + (relax->link_offset[d] + (size_t)l) * n;
  for (size_t i = 0; i < n; i++) {
    double along = 0;
    for (size_t j = 0; j < n; j++) {
      along += (pair[i * n + j] - dual[i * n + j]) * load[j];
    }
    price[i] = fmax(along - relax->cap[l + d], 0);
    for (size_t j = 0; j < n; j++) {
      const size_t at = i * n + j;
      const double away = -dual[at] - price[i] * load[j];
      dual[at] += pair[at] + OVERSHOOT * away;
      sum[at] += dual[at];
    }
  }
}

/* Columns, weighted by the loads of layer l; along[n] is scratch. */
static void step_columns(moerun__relax *relax, int32_t d, int32_t l) {
  const size_t n = (size_t)relax->num_items;
  const double *load = relax->load + (size_t)l * n;
  const double *pair = moerun__relax_pairs(relax, relax->pair, d, l);
  double *dual = moerun__relax_pairs(relax, relax->column_dual, d, l);
  double *sum = moerun__relax_pairs(relax, relax->sum, d, l);
  double *price = relax->column_price + (relax->link_offset[d] + (size_t)l) * n;
  memset(price, 0, n * sizeof *price);
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j < n; j++) {
      price[j] += (pair[i * n + j] - dual[i * n + j]) * load[i];
    }
  }
  for (size_t j = 0; j < n; j++) {
    price[j] = fmax(price[j] - relax->cap[l], 0);
  }
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j < n; j++) {
      const size_t at = i * n + j;
      const double away = -dual[at] - price[j] * load[i];
      dual[at] += pair[at] + OVERSHOOT * away;
      sum[at] += dual[at];
    }
  }
}

static void step_loads(moerun__relax *relax) {
  for (int32_t d = 0; d < relax->width; d++) {
    for (int32_t l = 0; l + d < relax->num_layers; l++) {
      step_rows(relax, d, l);
      if (d > 0) step_columns(relax, d, l);
    }
  }
}

/* ---- Stars --------------------------------------------------------------- */

static void step_stars(moerun__relax *relax) {
  for (size_t t = 0; t < relax->num_stars; t++) {
    moerun__star *star = relax->star + t;
    const int32_t size = moerun__star_size(star);
    double excess = moerun__star_excess(star, relax->pair);
    for (int32_t k = 0; k < size; k++) {
      excess -= moerun__star_sign(star, k) * star->dual[k];
    }
    star->price = fmax(excess, 0) / size;
    for (int32_t k = 0; k < size; k++) {
      const double away =
          -star->dual[k] - moerun__star_sign(star, k) * star->price;
      star->dual[k] += relax->pair[star->at[k]] + OVERSHOOT * away;
      relax->sum[star->at[k]] += MOERUN_STAR_WEIGHT * star->dual[k];
    }
  }
}

/* ---- Means --------------------------------------------------------------- */

static double mean_within(moerun__relax *relax, int32_t l) {
  const size_t n = (size_t)relax->num_items;
  const size_t at = relax->offset[0] + (size_t)l * n * n;
  double squares = 0;
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j < i; j++) {
      const size_t a = at + j * n + i;
      const size_t b = at + i * n + j;
      const double drawn = relax->sum[a] + relax->sum[b] +
                           (relax->worth[a] + relax->worth[b]) / relax->penalty;
      const double before = relax->pair[a];
      const double now =
          relax->apart[a]
              ? 0
              : fmax(drawn / (relax->weight[a] + relax->weight[b]), 0);
      relax->pair[a] = now;
      relax->pair[b] = now;
      squares += 2 * (now - before) * (now - before);
    }
  }
  return squares;
}

static double mean_between(moerun__relax *relax, size_t begin, size_t end) {
  double squares = 0;
  for (size_t i = begin; i < end; i++) {
    const double drawn = relax->sum[i] + relax->worth[i] / relax->penalty;
    const double before = relax->pair[i];
    const double now = relax->apart[i] ? 0 : fmax(drawn / relax->weight[i], 0);
    relax->pair[i] = now;
    squares += (now - before) * (now - before);
  }
  return squares;
}

moerun_status moerun__relax_step(moerun__relax *relax) {
  moerun_status status = MOERUN_OK;
  const size_t pairs = relax->offset[relax->width];
  double squares = 0;
  memset(relax->sum, 0, pairs * sizeof *relax->sum);
  MOERUN_TRY(step_windows(relax));
  step_loads(relax);
  step_stars(relax);
  for (int32_t l = 0; l < relax->num_layers; l++) {
    squares += mean_within(relax, l);
  }
  squares += mean_between(relax, relax->offset[1], pairs);
  relax->dual_residual = relax->penalty * sqrt(squares / (double)pairs);
  settle_windows(relax);
  for (size_t i = 0; i < pairs; i++) {
    relax->row_dual[i] -= relax->pair[i];
  }
  for (size_t i = relax->offset[1]; i < pairs; i++) {
    relax->column_dual[i] -= relax->pair[i];
  }
  for (size_t t = 0; t < relax->num_stars; t++) {
    moerun__star *star = relax->star + t;
    for (int32_t k = 0; k < moerun__star_size(star); k++) {
      star->dual[k] -= relax->pair[star->at[k]];
    }
  }
done:
  return status;
}
