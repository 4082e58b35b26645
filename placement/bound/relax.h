/* A semidefinite relaxation of "who shares a rank with whom", and a first-order
 * method that yields proven upper bounds of the pairs kept together.
 *
 * X[l] (n x P, 0 or 1) says which part each item of layer l is in. The matrix
 * S = X X' over all layers holds, for every two items, 1 if they share a part.
 * It is positive semidefinite, nonnegative, has ones on its diagonal, and rows
 * that add up to c = n / P in each layer; a row weighted by a layer's loads is
 * at most that layer's cap (the part of the row's item holds no more); and
 * together[i][j] + together[j][k] - together[i][k] <= 1. What these imply for
 * the kept pairs holds for every placement.
 *
 * Only layers at most width - 1 apart are looked at: a matrix with a band of
 * blocks can be completed to a positive semidefinite one if each window of
 * `width` layers is (Grone et al., 1984), so one large condition becomes B
 * small ones that share entries. The alternating direction method of
 * multipliers solves that: each window is projected by its eigenvalues, each
 * row by a formula, and their averages meet in `pair`. */
#ifndef MOERUN_BOUND_RELAX_H
#define MOERUN_BOUND_RELAX_H

#include "runtime/base/status.h"

enum { MOERUN_RELAX_MAX_WIDTH = 3 };

enum { MOERUN_STAR_MAX_LEAVES = 3, MOERUN_STAR_MAX_PAIRS = 6 };

/* The pairs of a centre with t leaves add up to at most 1 more than the pairs
 * of leaves do, of which t (t - 1) / 2 stand behind them. */
typedef struct moerun__star {
  uint64_t key; /* tells stars apart */
  int32_t num_leaves;
  uint32_t at[MOERUN_STAR_MAX_PAIRS]; /* in moerun__relax.pair */
  double dual[MOERUN_STAR_MAX_PAIRS]; /* scaled */
  double price; /* by how much the last projection had to move */
} moerun__star;

static inline int32_t moerun__star_size(const moerun__star *star) {
  return star->num_leaves * (star->num_leaves + 1) / 2;
}

static inline double moerun__star_sign(const moerun__star *star, int32_t i) {
  return i < star->num_leaves ? 1 : -1;
}

/* Arrays of pairs hold, for each distance d < m, the [L - d][n][n] pairs (item
 * of layer l, item of layer l + d), those of distance d from offset[d]; at d =
 * 0 both (i, j) and (j, i). A link is such a pair of layers: link_offset[d] +
 * l. */
typedef struct moerun__relax {
  int32_t num_layers; /* L */
  int32_t num_items;  /* n, of each layer */
  int32_t num_parts;  /* P */
  int32_t width;      /* m */
  int32_t num_blocks; /* B = L - m + 1 windows */
  int32_t side;       /* D = m n, rows of a window */
  size_t offset[MOERUN_RELAX_MAX_WIDTH + 1];
  size_t link_offset[MOERUN_RELAX_MAX_WIDTH + 1];
  /* What is asked: most of sum(worth * pair) over the windows' pairs. */
  double *worth;
  double *load;   /* [L][n] of length 1, or all 0 */
  double *cap;    /* [L] in the same unit */
  uint8_t *apart; /* [pairs] 1: these are never in one part */
  /* The state. Duals are scaled by 1 / penalty. */
  double penalty;
  double *pair;         /* [pairs] the estimate of S */
  double *sum;          /* [pairs] scratch */
  double *weight;       /* [pairs] of all copies of a pair */
  double *block_dual;   /* [B][D][D] */
  double *row_dual;     /* [pairs] */
  double *column_dual;  /* [pairs], of d > 0 */
  double *row_price;    /* [links][n] as moerun__star.price */
  double *column_price; /* [links][n] */
  moerun__star *star;
  size_t num_stars;
  size_t star_room;
  double *block_price; /* [B][D][D] of the last step, not scaled */
  double *window;      /* [3][D][D] scratch of one window */
  double *eigenvalue;  /* [5 D] with scratch */
  double primal_residual;
  double dual_residual;
} moerun__relax;

/* All arrays; worth, load, cap and apart are 0 and to be filled in, then
 * moerun__relax_start. width is at most L. */
moerun_status moerun__relax_create(moerun__relax **out, int32_t num_layers,
                                   int32_t num_items, int32_t num_parts,
                                   int32_t width);
void moerun__relax_destroy(moerun__relax *relax);
void moerun__relax_start(moerun__relax *relax);

/* One iteration. */
moerun_status moerun__relax_step(moerun__relax *relax);

/* Another penalty, with the multipliers as they are. */
void moerun__relax_set_penalty(moerun__relax *relax, double penalty);

/* An upper bound of sum(worth * pair) over all placements, rounding included,
 * by the multipliers of the last step. */
moerun_status moerun__relax_value(double *value, moerun__relax *relax);

/* Takes up at most `most` stars of this many leaves that the estimate breaks
 * the most, by more than `least`; forgets all that have no price. */
moerun_status moerun__relax_separate(moerun__relax *relax, int32_t num_leaves,
                                     size_t most, double least);

/* A relaxation with wider windows that goes on from here; this one loses its
 * stars and is only to be destroyed. width > 1. */
moerun_status moerun__relax_widen(moerun__relax **out, moerun__relax *relax);

/* ---- For these files alone ----------------------------------------------- */

/* What a copy of a pair in a star counts, where one in a row counts 1. */
#define MOERUN_STAR_WEIGHT 0.5

/* After the stars have changed. */
void moerun__relax_weigh(moerun__relax *relax);

/* By how much these pairs break it. */
double moerun__star_excess(const moerun__star *star, const double *pair);

/* Windows that hold layers l and l + d. */
int32_t moerun__relax_windows(const moerun__relax *relax, int32_t d, int32_t l);

/* window[D][D] of layers b ... from an array of pairs. */
void moerun__relax_assemble(double *window, const moerun__relax *relax,
                            const double *pair, int32_t b);

/* Subtracts row and column means within each pair of layers. */
void moerun__relax_centre(double *window, const moerun__relax *relax);

static inline double *moerun__relax_pairs(const moerun__relax *relax,
                                          double *array, int32_t d, int32_t l) {
  const size_t n = (size_t)relax->num_items;
  return array + relax->offset[d] + (size_t)l * n * n;
}

#endif
