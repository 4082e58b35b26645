/* Layout of the relaxation's arrays, and what moves numbers between a window
 * and the pairs that windows share. */
#include "placement/bound/relax.h"

#include "runtime/base/memory.h"

#include <string.h>

#define FIRST_PENALTY 2.0

static void lay_out(moerun__relax *relax) {
  const size_t n = (size_t)relax->num_items;
  size_t pairs = 0;
  size_t links = 0;
  for (int32_t d = 0; d < relax->width; d++) {
    relax->offset[d] = pairs;
    relax->link_offset[d] = links;
    links += (size_t)(relax->num_layers - d);
    pairs += (size_t)(relax->num_layers - d) * n * n;
  }
  relax->offset[relax->width] = pairs;
  relax->link_offset[relax->width] = links;
}

static moerun_status allocate(moerun__relax *relax) {
  moerun_status status = MOERUN_OK;
  const size_t n = (size_t)relax->num_items;
  const size_t layers = (size_t)relax->num_layers;
  const size_t pairs = relax->offset[relax->width];
  const size_t links = relax->link_offset[relax->width];
  const size_t window = (size_t)relax->side * (size_t)relax->side;
  const size_t blocks = (size_t)relax->num_blocks * window;
  MOERUN_REQUIRE(layers * n < UINT16_MAX && relax->side <= INT16_MAX,
                 MOERUN_ERR_UNSUPPORTED,
                 "placement: bound: expected fewer than %d experts in all "
                 "layers, and up to %d in %d layers, found %zu and %d",
                 UINT16_MAX, INT16_MAX, relax->width, layers * n, relax->side);
  MOERUN_TRY(moerun__alloc(&relax->worth, pairs, sizeof *relax->worth));
  MOERUN_TRY(moerun__alloc(&relax->load, layers * n, sizeof *relax->load));
  MOERUN_TRY(moerun__alloc(&relax->cap, layers, sizeof *relax->cap));
  MOERUN_TRY(moerun__alloc(&relax->apart, pairs, sizeof *relax->apart));
  MOERUN_TRY(moerun__alloc(&relax->pair, pairs, sizeof *relax->pair));
  MOERUN_TRY(moerun__alloc(&relax->sum, pairs, sizeof *relax->sum));
  MOERUN_TRY(moerun__alloc(&relax->weight, pairs, sizeof *relax->weight));
  MOERUN_TRY(moerun__alloc(&relax->row_dual, pairs, sizeof(double)));
  MOERUN_TRY(moerun__alloc(&relax->column_dual, pairs, sizeof(double)));
  MOERUN_TRY(moerun__alloc(&relax->row_price, links * n, sizeof(double)));
  MOERUN_TRY(moerun__alloc(&relax->column_price, links * n, sizeof(double)));
  MOERUN_TRY(moerun__alloc(&relax->block_dual, blocks, sizeof(double)));
  MOERUN_TRY(moerun__alloc(&relax->block_price, blocks, sizeof(double)));
  MOERUN_TRY(moerun__alloc(&relax->window, 3 * window, sizeof(double)));
  MOERUN_TRY(moerun__alloc(&relax->eigenvalue, 5 * (size_t)relax->side,
                           sizeof(double)));
done:
  return status;
}

moerun_status moerun__relax_create(moerun__relax **out, int32_t num_layers,
                                   int32_t num_items, int32_t num_parts,
                                   int32_t width) {
  moerun_status status = MOERUN_OK;
  moerun__relax *relax = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&relax, 1, sizeof *relax));
  relax->num_layers = num_layers;
  relax->num_items = num_items;
  relax->num_parts = num_parts;
  relax->width = width;
  relax->num_blocks = num_layers - width + 1;
  relax->side = width * num_items;
  relax->penalty = FIRST_PENALTY;
  lay_out(relax);
  MOERUN_TRY(allocate(relax));
  *out = relax;
  relax = NULL;
done:
  moerun__relax_destroy(relax);
  return status;
}

void moerun__relax_destroy(moerun__relax *relax) {
  if (relax == NULL) return;
  moerun__free(relax->worth);
  moerun__free(relax->load);
  moerun__free(relax->cap);
  moerun__free(relax->apart);
  moerun__free(relax->pair);
  moerun__free(relax->sum);
  moerun__free(relax->weight);
  moerun__free(relax->row_dual);
  moerun__free(relax->column_dual);
  moerun__free(relax->row_price);
  moerun__free(relax->column_price);
  moerun__free(relax->block_dual);
  moerun__free(relax->block_price);
  moerun__free(relax->window);
  moerun__free(relax->eigenvalue);
  moerun__free(relax->star);
  moerun__free(relax);
}

/* Everybody with everybody else alike: the mean over all placements. */
void moerun__relax_start(moerun__relax *relax) {
  const int32_t n = relax->num_items;
  const double even = 1.0 / relax->num_parts;
  for (size_t i = 0; i < relax->offset[relax->width]; i++) {
    relax->pair[i] = relax->apart[i] ? 0 : even;
  }
  for (int32_t l = 0; l < relax->num_layers; l++) {
    double *pair = moerun__relax_pairs(relax, relax->pair, 0, l);
    for (int32_t i = 0; i < n; i++) {
      pair[(size_t)i * (size_t)n + (size_t)i] = 1;
    }
  }
  moerun__relax_weigh(relax);
}

/* Copies of a pair: one or, off the diagonal of a window, two in each window,
 * one in its row, one in its column, and those in stars. */
void moerun__relax_weigh(moerun__relax *relax) {
  const size_t n = (size_t)relax->num_items;
  for (int32_t d = 0; d < relax->width; d++) {
    for (int32_t l = 0; l + d < relax->num_layers; l++) {
      const int32_t windows = moerun__relax_windows(relax, d, l);
      double *weight = moerun__relax_pairs(relax, relax->weight, d, l);
      for (size_t i = 0; i < n * n; i++) {
        weight[i] = d == 0 ? windows + 1 : 2 * windows + 2;
      }
    }
  }
  for (size_t t = 0; t < relax->num_stars; t++) {
    const moerun__star *star = relax->star + t;
    for (int32_t k = 0; k < moerun__star_size(star); k++) {
      relax->weight[star->at[k]] += MOERUN_STAR_WEIGHT;
    }
  }
}

void moerun__relax_set_penalty(moerun__relax *relax, double penalty) {
  const double by = relax->penalty / penalty;
  const size_t pairs = relax->offset[relax->width];
  const size_t window = (size_t)relax->side * (size_t)relax->side;
  for (size_t i = 0; i < pairs; i++) {
    relax->row_dual[i] *= by;
    relax->column_dual[i] *= by;
  }
  for (size_t i = 0; i < (size_t)relax->num_blocks * window; i++) {
    relax->block_dual[i] *= by;
  }
  for (size_t t = 0; t < relax->num_stars; t++) {
    for (int32_t k = 0; k < MOERUN_STAR_MAX_PAIRS; k++) {
      relax->star[t].dual[k] *= by;
    }
  }
  relax->penalty = penalty;
}

int32_t moerun__relax_windows(const moerun__relax *relax, int32_t d,
                              int32_t l) {
  const int32_t first =
      l + d - relax->width + 1 > 0 ? l + d - relax->width + 1 : 0;
  const int32_t last = l < relax->num_blocks - 1 ? l : relax->num_blocks - 1;
  return last - first + 1;
}

void moerun__relax_assemble(double *window, const moerun__relax *relax,
                            const double *pair, int32_t b) {
  const size_t n = (size_t)relax->num_items;
  const size_t D = (size_t)relax->side;
  for (int32_t d = 0; d < relax->width; d++) {
    for (int32_t s = 0; s + d < relax->width; s++) {
      const double *from = pair + relax->offset[d] + (size_t)(b + s) * n * n;
      double *to = window + (size_t)s * n * D + (size_t)(s + d) * n;
      double *mirror = window + (size_t)(s + d) * n * D + (size_t)s * n;
      for (size_t i = 0; i < n; i++) {
        memcpy(to + i * D, from + i * n, n * sizeof *to);
      }
      for (size_t i = 0; d > 0 && i < n; i++) {
        for (size_t j = 0; j < n; j++) {
          mirror[i * D + j] = from[j * n + i];
        }
      }
    }
  }
}

/* mean[j] of the rows from..from + n of one window. */
static void subtract_column_means(double *rows, double *mean, size_t n,
                                  size_t D) {
  memset(mean, 0, D * sizeof *mean);
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j < D; j++) {
      mean[j] += rows[i * D + j];
    }
  }
  for (size_t j = 0; j < D; j++) {
    mean[j] /= (double)n;
  }
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j < D; j++) {
      rows[i * D + j] -= mean[j];
    }
  }
}

void moerun__relax_centre(double *window, const moerun__relax *relax) {
  const size_t n = (size_t)relax->num_items;
  const size_t D = (size_t)relax->side;
  for (size_t s = 0; s < (size_t)relax->width; s++) {
    subtract_column_means(window + s * n * D, relax->eigenvalue, n, D);
  }
  for (size_t i = 0; i < D * (size_t)relax->width; i++) {
    double *row = window + i * n;
    double sum = 0;
    for (size_t j = 0; j < n; j++) {
      sum += row[j];
    }
    for (size_t j = 0; j < n; j++) {
      row[j] -= sum / (double)n;
    }
  }
}
