/* Tokens of hot experts over their replicas, as in MicroMoE (2025, arXiv
 * 2511.16947): minimise M with sum over replicas of y = load for each expert
 * and sum of y <= M * speed for each rank. The optimum has fractions, often
 * halves. Whole tokens come from a second program with the ranks' limits
 * rounded up: it is a transport problem with whole sides, whose vertices are
 * whole. */
#include "placement/methods/replica_split.h"

#include "placement/methods/program.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

typedef struct split {
  const moerun_placement *placement;
  const int64_t *load;
  const double *speed;
  int32_t first; /* replica of the layer */
  int32_t count; /* of replicas */
  int32_t layer;
} split;

static int32_t replica_end(const split *s, int32_t e) {
  const moerun_placement *p = s->placement;
  return p->replica_offset[s->layer * p->num_experts + e + 1] - s->first;
}

static int32_t replica_begin(const split *s, int32_t e) {
  const moerun_placement *p = s->placement;
  return p->replica_offset[s->layer * p->num_experts + e] - s->first;
}

/* Columns 0 .. count-1: tokens of a replica. */
static moerun_status add_experts(moerun__program *program, const split *s) {
  moerun_status status = MOERUN_OK;
  int32_t first = 0;
  MOERUN_TRY(
      moerun__program_add_columns(&first, program, s->count, 0, INFINITY, 0));
  for (int32_t e = 0; e < s->placement->num_experts; e++) {
    const double load = (double)s->load[e];
    MOERUN_TRY(moerun__program_add_row(program, load, load));
    for (int32_t i = replica_begin(s, e); i < replica_end(s, e); i++) {
      MOERUN_TRY(moerun__program_add_term(program, i, 1));
    }
  }
done:
  return status;
}

/* Replicas on `rank`, in the row added last. */
static moerun_status add_rank_terms(moerun__program *program, const split *s,
                                    int32_t rank) {
  moerun_status status = MOERUN_OK;
  for (int32_t i = 0; i < s->count; i++) {
    if (s->placement->rank_of[s->first + i] != rank) continue;
    MOERUN_TRY(moerun__program_add_term(program, i, 1));
  }
done:
  return status;
}

static moerun_status solve(moerun__program *program) {
  moerun_status status = MOERUN_OK;
  moerun__program_result result = {0};
  MOERUN_TRY(moerun__program_solve(&result, program, NULL));
  MOERUN_REQUIRE(result.outcome == MOERUN_OUTCOME_OPTIMAL,
                 MOERUN_ERR_INFEASIBLE,
                 "placement: no split of the tokens over the replicas");
done:
  return status;
}

static moerun_status find_level(double *level, const split *s) {
  moerun_status status = MOERUN_OK;
  moerun__program *program = NULL;
  int32_t most = 0;
  MOERUN_TRY(moerun__program_create(&program));
  MOERUN_TRY(add_experts(program, s));
  MOERUN_TRY(moerun__program_add_columns(&most, program, 1, 0, INFINITY, 0));
  moerun__program_set_cost(program, most, 1);
  for (int32_t r = 0; r < s->placement->num_ranks; r++) {
    MOERUN_TRY(moerun__program_add_row(program, -INFINITY, 0));
    MOERUN_TRY(add_rank_terms(program, s, r));
    MOERUN_TRY(moerun__program_add_term(program, most, -s->speed[r]));
  }
  MOERUN_TRY(solve(program));
  *level = moerun__program_value(program, most);
done:
  moerun__program_destroy(program);
  return status;
}

/* Rounding hides in the level: it must not cost a token where it is whole, nor
 * make the limits too small. */
static double whole_limit(double level, double speed) {
  const double limit = level * speed;
  return ceil(limit - 1e-7 * (1 + limit));
}

static moerun_status find_tokens(int64_t *tokens, const split *s,
                                 double level) {
  moerun_status status = MOERUN_OK;
  moerun__program *program = NULL;
  MOERUN_TRY(moerun__program_create(&program));
  MOERUN_TRY(add_experts(program, s));
  for (int32_t r = 0; r < s->placement->num_ranks; r++) {
    MOERUN_TRY(moerun__program_add_row(program, -INFINITY,
                                       whole_limit(level, s->speed[r])));
    MOERUN_TRY(add_rank_terms(program, s, r));
  }
  MOERUN_TRY(solve(program));
  for (int32_t i = 0; i < s->count; i++) {
    tokens[i] = llround(moerun__program_value(program, i));
  }
done:
  moerun__program_destroy(program);
  return status;
}

moerun_status moerun__replica_split(int64_t *tokens, double *even,
                                    const moerun_placement *placement,
                                    int32_t layer, const int64_t *load,
                                    const double *speed) {
  moerun_status status = MOERUN_OK;
  split s = {placement, load, speed, 0, 0, layer};
  const int32_t E = placement->num_experts;
  const int32_t *offset = placement->replica_offset + (size_t)layer * (size_t)E;
  s.first = offset[0];
  s.count = offset[E] - s.first;
  MOERUN_TRY(find_level(even, &s));
  MOERUN_TRY(find_tokens(tokens, &s, *even));
  for (int32_t e = 0; e < E; e++) {
    int64_t sum = 0;
    for (int32_t i = replica_begin(&s, e); i < replica_end(&s, e); i++) {
      sum += tokens[i];
    }
    MOERUN_REQUIRE(sum == load[e], MOERUN_ERR_INVALID,
                   "placement: layer %d, expert %d: expected %lld tokens over "
                   "its replicas, found %lld",
                   layer, e, (long long)load[e], (long long)sum);
  }
done:
  return status;
}

/* load[E] of one layer. */
static void count_loads(int64_t *load, const moerun__trace *trace,
                        int32_t layer) {
  const size_t K = (size_t)trace->num_terms;
  memset(load, 0, (size_t)trace->num_experts * sizeof *load);
  for (int64_t t = 0; t < trace->num_tokens; t++) {
    const int16_t *ids =
        trace->ids + (size_t)(t * trace->num_layers + layer) * K;
    for (size_t k = 0; k < K; k++) {
      if (ids[k] >= 0) load[ids[k]]++;
    }
  }
}

/* Largest over mean of rank load per unit of speed in one layer. rank_load[R]
 * is scratch. */
static double balance_of(double *rank_load, const moerun_placement *placement,
                         int32_t layer, const int64_t *tokens,
                         const double *speed) {
  const int32_t R = placement->num_ranks;
  const int32_t *offset = placement->replica_offset +
                          (size_t)layer * (size_t)placement->num_experts;
  double total = 0;
  double most = 0;
  memset(rank_load, 0, (size_t)R * sizeof *rank_load);
  for (int32_t i = offset[0]; i < offset[placement->num_experts]; i++) {
    const double count = (double)tokens[i - offset[0]];
    rank_load[placement->rank_of[i]] += count;
    total += count;
  }
  for (int32_t r = 0; r < R; r++) {
    most = fmax(most, rank_load[r] / speed[r]);
  }
  return total > 0 ? most * R / total : 1;
}

moerun_status moerun__replica_balance(double *mean, double *worst,
                                      const moerun_placement *placement,
                                      const moerun__trace *trace,
                                      const moerun__topology *topology) {
  moerun_status status = MOERUN_OK;
  int64_t *load = NULL;
  int64_t *tokens = NULL;
  double *rank_load = NULL;
  const int32_t L = placement->num_layers;
  const size_t E = (size_t)placement->num_experts;
  const size_t R = (size_t)placement->num_ranks;
  *mean = 0;
  *worst = 0;
  MOERUN_TRY(moerun__alloc(&load, E, sizeof *load));
  MOERUN_TRY(moerun__alloc(&tokens, E * R, sizeof *tokens));
  MOERUN_TRY(moerun__alloc(&rank_load, R, sizeof *rank_load));
  for (int32_t l = 0; l < L; l++) {
    double even = 0;
    count_loads(load, trace, l);
    MOERUN_TRY(moerun__replica_split(tokens, &even, placement, l, load,
                                     topology->speed));
    const double balance =
        balance_of(rank_load, placement, l, tokens, topology->speed);
    *mean += balance / L;
    *worst = fmax(*worst, balance);
  }
done:
  moerun__free(load);
  moerun__free(tokens);
  moerun__free(rank_load);
  return status;
}
