/* The whole problem of the objective cut as one integer program for GLPK, with
 * x[l][e][r] = 1 where expert e of layer l is on rank r. A product of two x
 * counts a pair; it is made linear in one of two ways:
 *
 * - cut, as in ExFlow (Yao et al. 2024, arXiv 2401.08383) but one column for a
 *   pair of experts in place of one for a token: z >= x[l][i][r] -
 *   x[l+1][j][r]. Without integers all z can be 0, so this bounds nothing.
 * - rlt (Sherali and Adams 1990): y[l][i][j][r] <= both of its x, and the rows
 *   of counts and loads of either layer multiplied by the x of the other.
 *   Larger, and with a bound that is of use.
 *
 * Neither gets beyond some hundreds of columns. The use is a proof that does
 * not share a line with the other exact methods; cd's solution is the start, so
 * that nothing worse is ever returned. */
#include "placement/methods/ilp.h"
#include "placement/methods/methods.h"
#include "placement/methods/program.h"

#include "runtime/base/memory.h"
#include "runtime/base/number.h"

#include <math.h>
#include <string.h>

enum { MOST_COLUMNS = 20000 };

typedef struct model {
  const moerun__problem *problem;
  moerun__program *program;
  moerun__ilp_form form;
  int32_t num_columns;
  int32_t first_pair; /* columns before it: x */
  double *start;      /* [columns]; NULL: none */
} model;

static int32_t x_of(const model *m, int32_t layer, int32_t e, int32_t rank) {
  const moerun__problem *p = m->problem;
  return (layer * p->num_experts + e) * p->num_ranks + rank;
}

/* Of pair (i, j) over the boundary after `layer`; rlt: and of the rank. */
static int32_t pair_of(const model *m, int32_t layer, int32_t i, int32_t j,
                       int32_t rank) {
  const int32_t E = m->problem->num_experts;
  const int32_t pair = (layer * E + i) * E + j;
  return m->first_pair + (m->form == MOERUN_ILP_RLT
                              ? pair * m->problem->num_ranks + rank
                              : pair);
}

static int64_t follow_of(const moerun__problem *p, int32_t layer, int32_t i,
                         int32_t j) {
  const size_t E = (size_t)p->num_experts;
  return p->follow[((size_t)layer * E + (size_t)i) * E + (size_t)j];
}

static int64_t load_of(const moerun__problem *p, int32_t layer, int32_t e) {
  return p->load[(size_t)layer * (size_t)p->num_experts + (size_t)e];
}

static int64_t cap_of(const moerun__problem *p, int32_t layer, int32_t rank) {
  return p->cap[(size_t)layer * (size_t)p->num_ranks + (size_t)rank];
}

/* Any two ranks may change names. */
static int ranks_are_alike(const moerun__problem *p) {
  for (int32_t l = 0; l < p->num_layers; l++) {
    for (int32_t r = 1; r < p->num_ranks; r++) {
      if (cap_of(p, l, r) != cap_of(p, l, 0)) return 0;
    }
  }
  return 1;
}

/* ---- Rows ---------------------------------------------------------------- */

static moerun_status add_expert_rows(const model *m, int32_t layer) {
  moerun_status status = MOERUN_OK;
  for (int32_t e = 0; e < m->problem->num_experts; e++) {
    MOERUN_TRY(moerun__program_add_row(m->program, 1, 1));
    for (int32_t r = 0; r < m->problem->num_ranks; r++) {
      MOERUN_TRY(moerun__program_add_term(m->program, x_of(m, layer, e, r), 1));
    }
  }
done:
  return status;
}

static moerun_status add_rank_rows(const model *m, int32_t layer) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *p = m->problem;
  for (int32_t r = 0; r < p->num_ranks; r++) {
    MOERUN_TRY(
        moerun__program_add_row(m->program, p->fewest_slots, p->most_slots));
    for (int32_t e = 0; e < p->num_experts; e++) {
      MOERUN_TRY(moerun__program_add_term(m->program, x_of(m, layer, e, r), 1));
    }
    MOERUN_TRY(moerun__program_add_row(m->program, -INFINITY,
                                       (double)cap_of(p, layer, r)));
    for (int32_t e = 0; e < p->num_experts; e++) {
      MOERUN_TRY(moerun__program_add_term(m->program, x_of(m, layer, e, r),
                                          (double)load_of(p, layer, e)));
    }
  }
done:
  return status;
}

/* z + x[l+1][j][r] - x[l][i][r] >= 0 */
static moerun_status add_cut_rows(const model *m, int32_t layer) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *p = m->problem;
  const int32_t E = p->num_experts;
  for (int32_t ij = 0; ij < E * E; ij++) {
    const int32_t i = ij / E;
    const int32_t j = ij % E;
    const int64_t pairs = follow_of(p, layer, i, j);
    if (pairs == 0) continue;
    const int32_t z = pair_of(m, layer, i, j, 0);
    moerun__program_set_cost(m->program, z, (double)pairs);
    for (int32_t r = 0; r < p->num_ranks; r++) {
      MOERUN_TRY(moerun__program_add_row(m->program, 0, INFINITY));
      MOERUN_TRY(moerun__program_add_term(m->program, z, 1));
      MOERUN_TRY(
          moerun__program_add_term(m->program, x_of(m, layer + 1, j, r), 1));
      MOERUN_TRY(
          moerun__program_add_term(m->program, x_of(m, layer, i, r), -1));
    }
  }
done:
  return status;
}

/* y <= x for both ends of a pair. */
static moerun_status add_end_rows(const model *m, int32_t layer, int32_t i,
                                  int32_t j, int32_t rank) {
  moerun_status status = MOERUN_OK;
  const int32_t y = pair_of(m, layer, i, j, rank);
  const int32_t ends[2] = {x_of(m, layer, i, rank),
                           x_of(m, layer + 1, j, rank)};
  moerun__program_set_cost(m->program, y,
                           -(double)follow_of(m->problem, layer, i, j));
  for (int end = 0; end < 2; end++) {
    MOERUN_TRY(moerun__program_add_row(m->program, -INFINITY, 0));
    MOERUN_TRY(moerun__program_add_term(m->program, y, 1));
    MOERUN_TRY(moerun__program_add_term(m->program, ends[end], -1));
  }
done:
  return status;
}

/* The sum of y over the partners of one expert on one rank, each weighted by 1
 * or its load: `low` x <= sum <= `high` x. forward: the partners are in the
 * next layer. */
static moerun_status add_product_row(const model *m, int32_t layer, int32_t e,
                                     int32_t rank, int forward, int by_load) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *p = m->problem;
  const int32_t there = forward ? layer + 1 : layer;
  const int32_t x = x_of(m, forward ? layer : layer + 1, e, rank);
  const double high =
      by_load ? (double)cap_of(p, there, rank) : (double)p->most_slots;
  const int sides = !by_load && p->fewest_slots != p->most_slots ? 2 : 1;
  for (int side = 0; side < sides; side++) {
    const int exact = !by_load && sides == 1;
    MOERUN_TRY(moerun__program_add_row(m->program,
                                       exact || side == 1 ? 0 : -INFINITY,
                                       side == 1 ? INFINITY : 0));
    for (int32_t o = 0; o < p->num_experts; o++) {
      const int32_t y = forward ? pair_of(m, layer, e, o, rank)
                                : pair_of(m, layer, o, e, rank);
      MOERUN_TRY(moerun__program_add_term(
          m->program, y, by_load ? (double)load_of(p, there, o) : 1));
    }
    MOERUN_TRY(moerun__program_add_term(
        m->program, x, side == 1 ? -(double)p->fewest_slots : -high));
  }
done:
  return status;
}

static moerun_status add_rlt_rows(const model *m, int32_t layer) {
  moerun_status status = MOERUN_OK;
  const int32_t E = m->problem->num_experts;
  const int32_t R = m->problem->num_ranks;
  for (int32_t r = 0; r < R; r++) {
    for (int32_t ij = 0; ij < E * E; ij++) {
      MOERUN_TRY(add_end_rows(m, layer, ij / E, ij % E, r));
    }
    for (int32_t e = 0; e < E; e++) {
      for (int kind = 0; kind < 4; kind++) {
        MOERUN_TRY(add_product_row(m, layer, e, r, kind / 2, kind % 2));
      }
    }
  }
done:
  return status;
}

/* ---- The model ----------------------------------------------------------- */

static int64_t columns_needed(const moerun__problem *p, moerun__ilp_form form) {
  const int64_t E = p->num_experts;
  const int64_t R = p->num_ranks;
  const int64_t each = form == MOERUN_ILP_RLT ? R : 1;
  return p->num_layers * E * R + (p->num_layers - 1) * E * E * each;
}

static moerun_status build(model *m) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *p = m->problem;
  int32_t first = 0;
  MOERUN_TRY(moerun__program_create(&m->program));
  m->first_pair = p->num_layers * p->num_experts * p->num_ranks;
  MOERUN_TRY(
      moerun__program_add_columns(&first, m->program, m->first_pair, 0, 1, 1));
  MOERUN_TRY(moerun__program_add_columns(
      &first, m->program, m->num_columns - m->first_pair, 0, 1, 0));
  for (int32_t l = 0; l < p->num_layers; l++) {
    MOERUN_TRY(add_expert_rows(m, l));
    MOERUN_TRY(add_rank_rows(m, l));
    if (l + 1 == p->num_layers) break;
    if (m->form == MOERUN_ILP_RLT) {
      MOERUN_TRY(add_rlt_rows(m, l));
    } else {
      MOERUN_TRY(add_cut_rows(m, l));
    }
  }
  if (ranks_are_alike(p)) { /* of the R! names one is as good as the others */
    moerun__program_set_bounds(m->program, x_of(m, 0, 0, 0), 1, 1);
  }
done:
  return status;
}

/* The columns of rank_of[L][E], where expert 0 of layer 0 is on rank 0 if names
 * of ranks are free. */
static moerun_status set_start(model *m, const int32_t *rank_of) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *p = m->problem;
  const int32_t E = p->num_experts;
  const int32_t other = ranks_are_alike(p) ? rank_of[0] : 0;
  int32_t *named = NULL;
  const int32_t entries = p->num_layers * E;
  MOERUN_TRY(
      moerun__alloc(&m->start, (size_t)m->num_columns, sizeof *m->start));
  MOERUN_TRY(moerun__alloc(&named, (size_t)entries, sizeof *named));
  for (int32_t n = 0; n < entries; n++) {
    named[n] = rank_of[n] == other ? 0 : rank_of[n] == 0 ? other : rank_of[n];
    m->start[x_of(m, n / E, n % E, named[n])] = 1;
  }
  for (int32_t n = 0; n + E < entries; n++) {
    for (int32_t j = 0; j < E; j++) {
      const int32_t next = named[(n / E + 1) * E + j];
      const int32_t column = pair_of(m, n / E, n % E, j, next);
      if ((named[n] == next) == (m->form == MOERUN_ILP_RLT)) {
        m->start[column] = 1;
      }
    }
  }
done:
  moerun__free(named);
  return status;
}

static void read_ranks(int32_t *rank_of, const model *m) {
  const int32_t R = m->problem->num_ranks;
  const int32_t entries = m->problem->num_layers * m->problem->num_experts;
  for (int32_t n = 0; n < entries; n++) {
    for (int32_t r = 0; r < R; r++) {
      if (moerun__program_value(m->program, n * R + r) > 0.5) rank_of[n] = r;
    }
  }
}

/* A cost of whole pairs as a share of all; rlt counts from all pairs down. */
static double share_of(const moerun__problem *p, moerun__ilp_form form,
                       double cost) {
  const size_t E = (size_t)p->num_experts;
  double total = 0;
  for (size_t i = 0; i < (size_t)(p->num_layers - 1) * E * E; i++) {
    total += (double)p->follow[i];
  }
  if (!(total > 0)) return 0;
  const double pairs = ceil(cost - 1e-6 * (1 + fabs(cost)));
  return fmax(0, form == MOERUN_ILP_RLT ? total + pairs : pairs) / total;
}

moerun_status moerun__ilp(moerun__solution *solution,
                          const moerun__problem *problem, moerun__ilp_form form,
                          const int32_t *start,
                          const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  model m = {.problem = problem, .form = form};
  moerun__program_result result = {0};
  const int64_t columns = columns_needed(problem, form);
  MOERUN_REQUIRE(columns <= MOST_COLUMNS, MOERUN_ERR_UNSUPPORTED,
                 "placement: method ilp: expected a program of at most %d "
                 "columns, found %lld: solve fewer layers, experts or ranks, "
                 "or by another method",
                 MOST_COLUMNS, (long long)columns);
  m.num_columns = moerun__to_int(columns);
  MOERUN_TRY(build(&m));
  if (start != NULL) MOERUN_TRY(set_start(&m, start));
  const moerun__program_options options = {
      .time_limit_s = moerun__deadline_left(deadline), .start = m.start};
  MOERUN_TRY(moerun__program_solve(&result, m.program, &options));
  MOERUN_REQUIRE(result.outcome != MOERUN_OUTCOME_INFEASIBLE,
                 MOERUN_ERR_INFEASIBLE,
                 "placement: no placement is within the load caps");
  MOERUN_REQUIRE(result.outcome != MOERUN_OUTCOME_NONE || start != NULL,
                 MOERUN_ERR_UNSUPPORTED,
                 "placement: ilp: nothing was found within the time limit");
  if (result.outcome == MOERUN_OUTCOME_NONE) {
    memmove(solution->rank_of, start,
            (size_t)problem->num_layers * (size_t)problem->num_experts *
                sizeof *start);
  } else {
    read_ranks(solution->rank_of, &m);
  }
  solution->proven = result.outcome == MOERUN_OUTCOME_OPTIMAL;
  solution->bound =
      isinf(result.bound) ? -1 : share_of(problem, form, result.bound);
done:
  moerun__program_destroy(m.program);
  moerun__free(m.start);
  return status;
}

moerun_status moerun__solve_ilp(moerun__solution *solution,
                                const moerun__problem *problem,
                                const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  const moerun__deadline deadline =
      moerun__deadline_after(options->clock, options->time_limit_s);
  MOERUN_REQUIRE(problem->objective == MOERUN_OBJECTIVE_CUT,
                 MOERUN_ERR_UNSUPPORTED,
                 "placement: method ilp: expected the objective cut, the only "
                 "one that it minimizes, found %s",
                 moerun__objective_name(problem->objective));
  MOERUN_TRY(moerun__solve_cd(solution, problem, options));
  MOERUN_TRY(moerun__ilp(solution, problem, MOERUN_ILP_RLT, solution->rank_of,
                         &deadline));
done:
  return status;
}
