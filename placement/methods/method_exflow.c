/* ExFlow (Yao et al. 2024, arXiv 2401.08383): the first expert of each token in
 * each layer, and ranks chosen so that it changes rank as seldom as possible
 * from layer to layer; equal counts of experts, loads are not looked at. By
 * bipartition: the ranks (the nodes first) are halved again and again, each
 * time by an integer program over the experts of the part, on the first 5000
 * tokens, then 10000 and so on, always from the solution before.
 *
 * Where we depart from it. One column for a pair of experts in place of one for
 * a token and layer: the same optimum. All experts of a token where the trace
 * does not say which is the first. And the solver: Gurobi is told to spend
 * all of its time on heuristics; GLPK has none that finds anything here, and
 * the program's relaxation is worth nothing (0 with all x = 1/2). So what
 * carries the search are the subprograms that such heuristics solve, all layers
 * but one fixed, until none improves; the whole program follows, with that as
 * its start, where it is small enough for GLPK to get beyond the first
 * relaxation. */
#include "placement/methods/methods.h"

#include "placement/methods/program.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

enum {
  TOKENS_A_STEP = 5000,
  MOST_PAIRS = 1500, /* of a whole program */
  MOST_NODES = 100,  /* of its search */
  MOST_SWEEPS = 50,
};

/* Experts of ranks first .. first + ranks - 1, to be halved. */
typedef struct part {
  const moerun__problem *problem;
  moerun__deadline deadline;
  int32_t first;
  int32_t ranks;
  int32_t left;   /* ranks of the left half */
  int64_t *pairs; /* [L - 1][E][E] tokens with these experts */
  int32_t *start; /* [L][E] first rank of the part that the expert is in, and
                     so its rank when all parts are single ranks           */
  int32_t *right; /* [L][E] 1: in the right half; -1: not in this part */
} part;

static size_t entry(const part *t, int32_t layer, int32_t e) {
  return (size_t)layer * (size_t)t->problem->num_experts + (size_t)e;
}

/* ---- Statistics ---------------------------------------------------------- */

/* One token over the boundary after `layer`, if it is in the part before and
 * after. Its first expert stands for it, or all of them if it is not known
 * which that is. */
static void count_token(const part *t, const int16_t *ids, int32_t layer) {
  const moerun__trace *trace = t->problem->trace;
  const int32_t K = trace->gate_order ? 1 : trace->num_terms;
  const int16_t *next = ids + trace->num_terms;
  for (int32_t a = 0; a < K; a++) {
    if (ids[a] < 0 || t->right[entry(t, layer, ids[a])] < 0) continue;
    const size_t row = entry(t, layer, ids[a]);
    for (int32_t b = 0; b < K; b++) {
      if (next[b] < 0 || t->right[entry(t, layer + 1, next[b])] < 0) continue;
      t->pairs[row * (size_t)t->problem->num_experts + (size_t)next[b]]++;
    }
  }
}

static void count_pairs(const part *t, int64_t tokens) {
  const moerun__trace *trace = t->problem->trace;
  const size_t E = (size_t)t->problem->num_experts;
  const size_t L = (size_t)t->problem->num_layers;
  const size_t K = (size_t)trace->num_terms;
  memset(t->pairs, 0, (L - 1) * E * E * sizeof *t->pairs);
  for (size_t n = 0; n < (size_t)tokens; n++) {
    for (size_t l = 0; l + 1 < L; l++) {
      count_token(t, trace->ids + (n * L + l) * K, (int32_t)l);
    }
  }
}

static int64_t pairs_of(const part *t, int32_t layer, int32_t i, int32_t j) {
  return t
      ->pairs[entry(t, layer, i) * (size_t)t->problem->num_experts + (size_t)j];
}

/* ---- One layer ----------------------------------------------------------- */

/* What expert e saves on the right, the neighbouring layers being fixed; the
 * next one does not count where it is still to be solved. */
static double worth(const part *t, int32_t layer, int32_t e, int forward) {
  const int32_t E = t->problem->num_experts;
  double sum = 0;
  for (int32_t o = 0; o < E; o++) {
    if (layer > 0 && t->right[entry(t, layer - 1, o)] >= 0) {
      const int32_t side = 2 * t->right[entry(t, layer - 1, o)] - 1;
      sum += (double)(side * pairs_of(t, layer - 1, o, e));
    }
    if (!forward && layer + 1 < t->problem->num_layers &&
        t->right[entry(t, layer + 1, o)] >= 0) {
      const int32_t side = 2 * t->right[entry(t, layer + 1, o)] - 1;
      sum += (double)(side * pairs_of(t, layer, e, o));
    }
  }
  return sum;
}

/* The best right half of one layer; *better: by how much. */
static moerun_status solve_layer(double *better, part *t, int32_t layer,
                                 int forward) {
  moerun_status status = MOERUN_OK;
  moerun__program *program = NULL;
  moerun__program_result result = {0};
  const int32_t E = t->problem->num_experts;
  int32_t first = 0;
  int32_t on_right = 0;
  double had = 0;
  *better = 0;
  MOERUN_TRY(moerun__program_create(&program));
  MOERUN_TRY(moerun__program_add_columns(&first, program, E, 0, 1, 1));
  for (int32_t e = 0; e < E; e++) {
    const int32_t side = t->right[entry(t, layer, e)];
    const double w = side < 0 ? 0 : worth(t, layer, e, forward);
    moerun__program_set_cost(program, e, -w);
    if (side < 0) moerun__program_set_bounds(program, e, 0, 0);
    if (side > 0) had += w;
    on_right += side > 0;
  }
  MOERUN_TRY(moerun__program_add_row(program, on_right, on_right));
  for (int32_t e = 0; e < E; e++) {
    MOERUN_TRY(moerun__program_add_term(program, e, 1));
  }
  MOERUN_TRY(moerun__program_solve(&result, program, NULL));
  if (result.outcome != MOERUN_OUTCOME_OPTIMAL) goto done;
  *better = -result.cost - had;
  if (*better < 0.5) goto done;
  for (int32_t e = 0; e < E; e++) {
    int32_t *side = &t->right[entry(t, layer, e)];
    if (*side >= 0) *side = moerun__program_value(program, e) > 0.5;
  }
done:
  moerun__program_destroy(program);
  return status;
}

/* is_new: from front to back first, because the layers behind mean nothing
 * yet. */
static moerun_status solve_layers(part *t, int is_new) {
  moerun_status status = MOERUN_OK;
  double gained = 1;
  for (int sweep = 0; gained > 0 && sweep < MOST_SWEEPS; sweep++) {
    gained = 0;
    for (int32_t l = 0; l < t->problem->num_layers; l++) {
      double better = 0;
      if (moerun__deadline_passed(&t->deadline)) goto done;
      MOERUN_TRY(solve_layer(&better, t, l, is_new && sweep == 0));
      if (better >= 0.5) gained += better;
    }
  }
done:
  return status;
}

/* ---- All layers ---------------------------------------------------------- */

static int32_t count_columns(const part *t) {
  const size_t E = (size_t)t->problem->num_experts;
  int32_t count = 0;
  for (size_t n = 0; n < (size_t)(t->problem->num_layers - 1) * E * E; n++) {
    count += t->pairs[n] > 0;
  }
  return count;
}

/* Columns: x[L][E], 1 on the right; then z of each pair that occurs, 1 where it
 * crosses: z >= x - x' and z >= x' - x. start[] is filled in, too. */
static moerun_status build(moerun__program *program, double *start,
                           const part *t) {
  moerun_status status = MOERUN_OK;
  const int32_t E = t->problem->num_experts;
  const int32_t L = t->problem->num_layers;
  int32_t z = 0;
  for (int32_t l = 0; l < L; l++) {
    double on_right = 0;
    for (int32_t e = 0; e < E; e++) {
      const int32_t side = t->right[entry(t, l, e)];
      if (side < 0) moerun__program_set_bounds(program, l * E + e, 0, 0);
      start[l * E + e] = side > 0;
      on_right += side > 0;
    }
    MOERUN_TRY(moerun__program_add_row(program, on_right, on_right));
    for (int32_t e = 0; e < E; e++) {
      MOERUN_TRY(moerun__program_add_term(program, l * E + e, 1));
    }
  }
  z = L * E;
  for (int32_t n = 0; n < (L - 1) * E * E; n++) {
    if (t->pairs[n] == 0) continue;
    const int32_t i = n / E;
    const int32_t j = (i / E + 1) * E + n % E;
    moerun__program_set_cost(program, z, (double)t->pairs[n]);
    start[z] = start[i] != start[j];
    for (int side = -1; side <= 1; side += 2) {
      MOERUN_TRY(moerun__program_add_row(program, 0, INFINITY));
      MOERUN_TRY(moerun__program_add_term(program, z, 1));
      MOERUN_TRY(moerun__program_add_term(program, i, side));
      MOERUN_TRY(moerun__program_add_term(program, j, -side));
    }
    z++;
  }
done:
  return status;
}

static moerun_status solve_whole(part *t) {
  moerun_status status = MOERUN_OK;
  moerun__program *program = NULL;
  moerun__program_result result = {0};
  double *start = NULL;
  int32_t first = 0;
  const int32_t entries = t->problem->num_layers * t->problem->num_experts;
  const int32_t pairs = count_columns(t);
  if (pairs > MOST_PAIRS || moerun__deadline_passed(&t->deadline)) goto done;
  MOERUN_TRY(moerun__program_create(&program));
  MOERUN_TRY(moerun__program_add_columns(&first, program, entries, 0, 1, 1));
  MOERUN_TRY(moerun__program_add_columns(&first, program, pairs, 0, 1, 0));
  MOERUN_TRY(
      moerun__alloc(&start, (size_t)entries + (size_t)pairs, sizeof *start));
  MOERUN_TRY(build(program, start, t));
  const moerun__program_options options = {
      .time_limit_s = moerun__deadline_left(&t->deadline),
      .node_limit = MOST_NODES,
      .start = start};
  MOERUN_TRY(moerun__program_solve(&result, program, &options));
  if (result.outcome != MOERUN_OUTCOME_OPTIMAL &&
      result.outcome != MOERUN_OUTCOME_FEASIBLE) {
    goto done;
  }
  for (int32_t n = 0; n < entries; n++) {
    if (t->right[n] < 0) continue;
    t->right[n] = moerun__program_value(program, n) > 0.5;
  }
done:
  moerun__program_destroy(program);
  moerun__free(start);
  return status;
}

/* ---- Halves -------------------------------------------------------------- */

/* Half of the nodes if there are several, else half of the ranks. */
static int32_t left_ranks(const part *t) {
  const moerun__topology *topology = t->problem->topology;
  const int32_t node = topology->node_of[t->first];
  const int32_t nodes = topology->node_of[t->first + t->ranks - 1] - node + 1;
  return nodes > 1 ? topology->first_rank[node + nodes / 2] - t->first
                   : t->ranks / 2;
}

/* Experts of a layer for the left half: its share, so that each rank can have
 * its own count in the end. */
static int32_t left_count(const part *t, int32_t count) {
  const moerun__problem *p = t->problem;
  const int32_t right = t->ranks - t->left;
  int32_t share = count * t->left / t->ranks;
  const int32_t least_left = t->left * p->fewest_slots;
  const int32_t least_for_right = count - right * p->most_slots;
  const int32_t most_left = t->left * p->most_slots;
  const int32_t most_for_right = count - right * p->fewest_slots;
  if (share < least_left) share = least_left;
  if (share < least_for_right) share = least_for_right;
  if (share > most_left) share = most_left;
  return share < most_for_right ? share : most_for_right;
}

/* Neighbouring experts stay together: what the search begins with. */
static void set_blocks(const part *t) {
  const int32_t E = t->problem->num_experts;
  for (int32_t l = 0; l < t->problem->num_layers; l++) {
    int32_t count = 0;
    int32_t seen = 0;
    for (int32_t e = 0; e < E; e++) {
      count += t->start[entry(t, l, e)] == t->first;
    }
    const int32_t to_left = left_count(t, count);
    for (int32_t e = 0; e < E; e++) {
      const size_t n = entry(t, l, e);
      t->right[n] = -1;
      if (t->start[n] != t->first) continue;
      t->right[n] = seen >= to_left;
      seen++;
    }
  }
}

static moerun_status halve(part *t) {
  moerun_status status = MOERUN_OK;
  const int64_t all = t->problem->trace->num_tokens;
  const int32_t entries = t->problem->num_layers * t->problem->num_experts;
  int is_new = 1;
  t->left = left_ranks(t);
  set_blocks(t);
  for (int64_t tokens = 0; tokens < all;) {
    tokens += TOKENS_A_STEP;
    if (tokens > all) tokens = all;
    count_pairs(t, tokens);
    MOERUN_TRY(solve_layers(t, is_new));
    is_new = 0;
    MOERUN_TRY(solve_whole(t));
  }
  for (int32_t n = 0; n < entries; n++) {
    if (t->right[n] == 1) t->start[n] = t->first + t->left;
  }
done:
  return status;
}

/* Each of the halvings that are left may take its share of the time left. */
static moerun_status halve_all(part *t, const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  int32_t *ranks_of = NULL; /* [R] of the part that begins with this rank */
  const int32_t R = t->problem->num_ranks;
  int32_t halvings = R - 1;
  MOERUN_TRY(moerun__alloc(&ranks_of, (size_t)R, sizeof *ranks_of));
  ranks_of[0] = R;
  while (t->first < R) {
    t->ranks = ranks_of[t->first];
    if (t->ranks == 1) {
      t->first++;
      continue;
    }
    t->deadline = moerun__deadline_after(
        deadline->clock, moerun__deadline_left(deadline) / halvings);
    MOERUN_TRY(halve(t));
    ranks_of[t->first] = t->left;
    ranks_of[t->first + t->left] = t->ranks - t->left;
    halvings--;
  }
done:
  moerun__free(ranks_of);
  return status;
}

moerun_status moerun__solve_exflow(moerun__solution *solution,
                                   const moerun__problem *problem,
                                   const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  const moerun__deadline deadline =
      moerun__deadline_after(options->clock, options->time_limit_s);
  part t = {.problem = problem, .start = solution->rank_of};
  const size_t E = (size_t)problem->num_experts;
  const size_t L = (size_t)problem->num_layers;
  MOERUN_TRY(moerun__alloc(&t.pairs, (L - 1) * E * E, sizeof *t.pairs));
  MOERUN_TRY(moerun__alloc(&t.right, L * E, sizeof *t.right));
  memset(solution->rank_of, 0, L * E * sizeof *solution->rank_of);
  MOERUN_TRY(halve_all(&t, &deadline));
done:
  moerun__free(t.pairs);
  moerun__free(t.right);
  return status;
}
