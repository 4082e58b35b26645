/* From a problem to its relaxation, and when to do what to it.
 *
 * Where E is not a multiple of R, blanks fill every part up to the same number
 * of items: they have no load and no pairs, and where counts differ by one no
 * two of one layer share a rank, so that they are met exactly. */
#include "placement/bound/bound_level.h"

#include <math.h>

enum {
  STEPS_A_VALUE = 25,
  STEPS_AT_FIRST = 10, /* until step STEPS_A_LOOK */
  STEPS_A_PRICE = 3,
  STEPS_A_LOOK = 50,      /* at stars and residuals */
  FIRST_LARGE_STAR = 150, /* they are many while the estimate is rough */
  STEPS_A_STAGE = 100,    /* growth is measured over these */
  LAST_PENALTY_STEP = 600,
  PAIRS_A_STAR = 16,
  FEWEST_STARS = 100,
};

#define LEAST_EXCESS       0.005 /* of a triangle to be taken up */
#define LEAST_LARGE_EXCESS 0.02  /* of a larger star */
#define PRICE_PACE         2.0
#define RESIDUAL_RATIO     3.0 /* beyond which the penalty is changed */
#define PENALTY_FACTOR     1.5
#define GROWTH_TO_WIDEN    5e-4 /* of the pairs kept, over a stage */
#define GROWTH_TO_GO_ON    2e-5

/* ---- Fill in ------------------------------------------------------------- */

/* Least scale that the shares of several ranks are compared in. */
static int64_t part_cap(const moerun__problem *problem, int32_t layer,
                        int32_t ranks_per_part) {
  const int64_t *cap =
      problem->cap + (size_t)layer * (size_t)problem->num_ranks;
  int64_t most = 0;
  for (int32_t r = 0; r < problem->num_ranks; r += ranks_per_part) {
    int64_t sum = 0;
    for (int32_t i = r; i < r + ranks_per_part; i++) {
      sum += cap[i];
    }
    if (sum > most) most = sum;
  }
  return most;
}

static void fill_layer(moerun__relax *relax, const moerun__problem *problem,
                       int32_t layer, int32_t ranks_per_part) {
  const size_t E = (size_t)problem->num_experts;
  const size_t n = (size_t)relax->num_items;
  const int64_t *load = problem->load + (size_t)layer * E;
  const int64_t cap = part_cap(problem, layer, ranks_per_part);
  double *share = relax->load + (size_t)layer * n;
  uint8_t *apart = relax->apart + (size_t)layer * n * n;
  double squares = 0;
  for (size_t i = 0; i < E; i++) {
    squares += (double)load[i] * (double)load[i];
  }
  const double length = squares > 0 ? sqrt(squares) : 1;
  for (size_t i = 0; i < E; i++) {
    share[i] = (double)load[i] / length;
  }
  relax->cap[layer] = (double)cap / length;
  for (size_t i = 0; i < n; i++) {
    for (size_t j = 0; j < n; j++) {
      if (i == j) continue;
      const int both_blank = i >= E && j >= E && ranks_per_part == 1 &&
                             problem->most_slots - problem->fewest_slots == 1;
      const int too_heavy = i < E && j < E && load[i] + load[j] > cap;
      apart[i * n + j] =
          both_blank || too_heavy || relax->num_items == relax->num_parts;
    }
  }
}

/* The root mean square of all worths, or 1 where they are 0. */
static double spread(const moerun__relax *relax) {
  const size_t pairs = relax->offset[relax->width];
  size_t count = 0;
  double squares = 0;
  for (size_t i = 0; i < pairs; i++) {
    const double worth = relax->worth[i];
    count += worth > 0 || worth < 0;
    squares += worth * worth;
  }
  return count > 0 ? sqrt(squares / (double)count) : 1;
}

static moerun_status create_relax(moerun__bound_level *level,
                                  const moerun__problem *problem,
                                  int32_t ranks_per_part, int32_t width) {
  moerun_status status = MOERUN_OK;
  const int32_t L = problem->num_layers;
  MOERUN_TRY(moerun__relax_create(&level->relax, L,
                                  problem->num_ranks * problem->most_slots,
                                  problem->num_ranks / ranks_per_part, width));
  for (int32_t l = 0; l < L; l++) {
    fill_layer(level->relax, problem, l, ranks_per_part);
  }
  level->kept = INFINITY;
  level->kept_lately = INFINITY;
  moerun__relax_start(level->relax);
done:
  return status;
}

moerun_status moerun__bound_level_create(moerun__bound_level *level,
                                         const moerun__problem *problem,
                                         int32_t ranks_per_part,
                                         int32_t width) {
  moerun_status status = MOERUN_OK;
  const int32_t L = problem->num_layers;
  const size_t E = (size_t)problem->num_experts;
  *level = (moerun__bound_level){.most_width = width < L ? width : L};
  MOERUN_TRY(create_relax(level, problem, ranks_per_part, 2));
  moerun__relax *relax = level->relax;
  const size_t n = (size_t)relax->num_items;
  for (int32_t l = 0; l + 1 < L; l++) {
    const int64_t *count = problem->follow + (size_t)l * E * E;
    double *worth = moerun__relax_pairs(relax, relax->worth, 1, l);
    for (size_t i = 0; i < E * E; i++) {
      worth[i / E * n + i % E] = (double)count[i];
    }
    level->base += moerun__centre_worth(worth, n, relax->num_parts);
  }
  level->scale = spread(relax);
  for (size_t i = 0; i < relax->offset[2]; i++) {
    relax->worth[i] /= level->scale;
  }
done:
  return status;
}

moerun_status moerun__bound_level_create_terms(moerun__bound_level *level,
                                               const moerun__problem *problem) {
  moerun_status status = MOERUN_OK;
  const size_t entries =
      (size_t)problem->num_layers * (size_t)problem->num_experts;
  *level = (moerun__bound_level){.most_width = 1};
  MOERUN_TRY(create_relax(level, problem, 1, 1));
  MOERUN_TRY(moerun__bound_prices_create(&level->prices, problem));
  for (size_t i = 0; i < entries; i++) {
    level->terms += (double)problem->load[i];
  }
  moerun__bound_prices_step(level->prices, level->relax, 1, 0);
  level->scale = spread(level->relax);
done:
  return status;
}

void moerun__bound_level_clear(moerun__bound_level *level) {
  moerun__relax_destroy(level->relax);
  moerun__bound_prices_destroy(level->prices);
  level->relax = NULL;
  level->prices = NULL;
}

/* ---- Step ---------------------------------------------------------------- */

/* What placements keep is a whole number, so is its bound. */
static moerun_status value(moerun__bound_level *level) {
  moerun_status status = MOERUN_OK;
  double most = 0;
  double kept = level->base;
  double total = level->base * level->relax->num_parts; /* all that there is */
  double rounding = 0;
  MOERUN_TRY(moerun__relax_value(&most, level->relax));
  if (level->prices != NULL) {
    kept = level->terms - level->prices->least + level->prices->base;
    total = level->prices->base * level->relax->num_parts;
    rounding = level->prices->rounding;
  }
  rounding += 1e-12 * (fabs(kept) + fabs(level->scale * most) + total);
  kept += level->scale * most + rounding;
  if (isfinite(kept)) level->kept = fmin(level->kept, floor(fmax(kept, 0)));
done:
  return status;
}

static moerun_status look(moerun__bound_level *level) {
  moerun_status status = MOERUN_OK;
  moerun__relax *relax = level->relax;
  const double primal = relax->primal_residual;
  const double dual = relax->dual_residual;
  const size_t most = relax->offset[relax->width] / PAIRS_A_STAR + FEWEST_STARS;
  if (level->step <= LAST_PENALTY_STEP) {
    if (primal > RESIDUAL_RATIO * dual) {
      moerun__relax_set_penalty(relax, relax->penalty * PENALTY_FACTOR);
    } else if (dual > RESIDUAL_RATIO * primal) {
      moerun__relax_set_penalty(relax, relax->penalty / PENALTY_FACTOR);
    }
  }
  MOERUN_TRY(moerun__relax_separate(relax, 2, most, LEAST_EXCESS));
  if (level->step >= FIRST_LARGE_STAR) {
    MOERUN_TRY(moerun__relax_separate(relax, 3, most, LEAST_LARGE_EXCESS));
  }
done:
  return status;
}

/* Wider windows once these hardly gain, the end once those do. Their first
 * stage does not count: new conditions take a while to find their prices. */
static moerun_status end_stage(moerun__bound_level *level) {
  moerun_status status = MOERUN_OK;
  moerun__relax *wider = NULL;
  const double growth = level->kept_lately - level->kept;
  const int can_widen = level->relax->width < level->most_width;
  level->kept_lately = level->kept;
  if (growth > (can_widen ? GROWTH_TO_WIDEN : GROWTH_TO_GO_ON) * level->kept) {
    goto done;
  }
  if (can_widen) {
    MOERUN_TRY(moerun__relax_widen(&wider, level->relax));
    moerun__relax_destroy(level->relax);
    level->relax = wider;
    level->kept_lately = INFINITY;
  } else {
    level->is_done = 1;
  }
done:
  return status;
}

moerun_status moerun__bound_level_step(moerun__bound_level *level,
                                       int *is_valued, int value_now) {
  moerun_status status = MOERUN_OK;
  if (level->prices != NULL && level->step % STEPS_A_PRICE == 0) {
    moerun__bound_prices_step(level->prices, level->relax, level->scale,
                              PRICE_PACE * level->relax->penalty *
                                  level->scale);
  }
  MOERUN_TRY(moerun__relax_step(level->relax));
  const int64_t step = ++level->step;
  const int64_t each = step < STEPS_A_LOOK ? STEPS_AT_FIRST : STEPS_A_VALUE;
  *is_valued = value_now || step % each == 0;
  if (*is_valued) MOERUN_TRY(value(level));
  if (step % STEPS_A_LOOK == 0) MOERUN_TRY(look(level));
  if (step % STEPS_A_STAGE == 0) MOERUN_TRY(end_stage(level));
done:
  return status;
}
