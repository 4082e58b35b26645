/* The same relaxation with windows of one layer more, begun where the narrower
 * one stands. Each of its windows lies in two of the wider ones, at the ends in
 * one, and their duals share its dual evenly: what all windows charge for a
 * pair stays as it is, so the bound does not fall. */
#include "placement/bound/relax.h"

#include "runtime/base/memory.h"

#include <string.h>

/* pair[l][l + d] = sum over k of pair[l][k] pair[k][l + d] / c for layer l +
 * 1's items k: what it is where all parts are known. */
static void guess_far_pairs(moerun__relax *wide) {
  const size_t n = (size_t)wide->num_items;
  const int32_t d = wide->width - 1;
  const double share = (double)wide->num_parts / wide->num_items;
  for (int32_t l = 0; l + d < wide->num_layers; l++) {
    const double *near = moerun__relax_pairs(wide, wide->pair, 1, l);
    const double *rest = moerun__relax_pairs(wide, wide->pair, d - 1, l + 1);
    double *far = moerun__relax_pairs(wide, wide->pair, d, l);
    memset(far, 0, n * n * sizeof *far);
    for (size_t i = 0; i < n; i++) {
      for (size_t k = 0; k < n; k++) {
        const double by = share * near[i * n + k];
        for (size_t j = 0; j < n; j++) {
          far[i * n + j] += by * rest[k * n + j];
        }
      }
    }
  }
}

/* Adds window b of `relax` to the wide window `to`, from its layer `shift`. */
static void add_window(moerun__relax *wide, const moerun__relax *relax,
                       int32_t to, int32_t shift, int32_t b) {
  const size_t D = (size_t)relax->side;
  const size_t side = (size_t)wide->side;
  const size_t skip = (size_t)shift * (size_t)relax->num_items;
  const int is_end = b == 0 || b + 1 == relax->num_blocks;
  const double share = is_end ? 1 : 0.5;
  const double *from = relax->block_dual + (size_t)b * D * D;
  double *dual = wide->block_dual + (size_t)to * side * side;
  for (size_t i = 0; i < D; i++) {
    for (size_t j = 0; j < D; j++) {
      dual[(skip + i) * side + skip + j] += share * from[i * D + j];
    }
  }
}

static void copy_state(moerun__relax *wide, const moerun__relax *relax) {
  const size_t n = (size_t)relax->num_items;
  const size_t layers = (size_t)relax->num_layers;
  const size_t pairs = relax->offset[relax->width];
  memcpy(wide->worth, relax->worth, pairs * sizeof(double));
  memcpy(wide->load, relax->load, layers * n * sizeof(double));
  memcpy(wide->cap, relax->cap, layers * sizeof(double));
  memcpy(wide->apart, relax->apart, pairs);
  memcpy(wide->pair, relax->pair, pairs * sizeof(double));
  memcpy(wide->row_dual, relax->row_dual, pairs * sizeof(double));
  memcpy(wide->column_dual, relax->column_dual, pairs * sizeof(double));
  wide->penalty = relax->penalty;
}

moerun_status moerun__relax_widen(moerun__relax **out, moerun__relax *relax) {
  moerun_status status = MOERUN_OK;
  moerun__relax *wide = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__relax_create(&wide, relax->num_layers, relax->num_items,
                                  relax->num_parts, relax->width + 1));
  copy_state(wide, relax);
  guess_far_pairs(wide);
  for (int32_t b = 0; b < wide->num_blocks; b++) {
    add_window(wide, relax, b, 0, b);
    add_window(wide, relax, b, 1, b + 1);
  }
  wide->star = relax->star;
  wide->num_stars = relax->num_stars;
  wide->star_room = relax->star_room;
  relax->star = NULL;
  relax->num_stars = 0;
  relax->star_room = 0;
  moerun__relax_weigh(wide);
  *out = wide;
  wide = NULL;
done:
  moerun__relax_destroy(wide);
  return status;
}
