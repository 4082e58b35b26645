/* Proven optima, where they can be had without a solver.
 *
 * - One expert a rank and pairs that count the same on any two ranks: the
 *   labels of each layer are free, so every boundary is an assignment problem
 *   of its own.
 *   The busiest links are, too, by a rule of their own (relabel.c).
 * - Few experts: all balanced splits of a layer are the states of a chain, and
 *   Viterbi's recursion finds the best sequence of them, with any distances
 *   between ranks; caps rule states out of a layer.
 * - Fan-out: layers do not touch, so the best state of each is the optimum.
 *   Tokens are counted by the set of experts that they take. */
#include "placement/methods/methods.h"

#include "placement/judge/assignment.h"
#include "placement/judge/relabel.h"
#include "placement/search/split.h"
#include "placement/search/states.h"
#include "placement/search/tail.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

#define RULED_OUT 1e301

static int64_t total_pairs(const moerun__problem *problem) {
  const size_t E = (size_t)problem->num_experts;
  int64_t total = 0;
  for (size_t i = 0; i < (size_t)(problem->num_layers - 1) * E * E; i++) {
    total += problem->follow[i];
  }
  return total;
}

/* What a pair counts: on the busiest link in relation to an even spread. */
static double unit_of(const moerun__problem *problem) {
  const double R = problem->num_ranks;
  return problem->objective == MOERUN_OBJECTIVE_TAIL ? R * R : 1;
}

/* ---- One expert a rank --------------------------------------------------- */

/* Every rank may hold every expert. */
static int caps_are_loose(const moerun__problem *problem) {
  const int32_t E = problem->num_experts;
  const int32_t R = problem->num_ranks;
  for (int32_t l = 0; l < problem->num_layers; l++) {
    int64_t hottest = 0;
    for (int32_t e = 0; e < E; e++) {
      const int64_t load = problem->load[(size_t)l * (size_t)E + (size_t)e];
      if (load > hottest) hottest = load;
    }
    for (int32_t r = 0; r < R; r++) {
      if (problem->cap[(size_t)l * (size_t)R + (size_t)r] < hottest) return 0;
    }
  }
  return 1;
}

/* The next layer's experts join their partners' ranks; *kept: pairs. */
static moerun_status match_layers(moerun__solution *solution,
                                  const moerun__problem *problem,
                                  int64_t *kept) {
  moerun_status status = MOERUN_OK;
  int64_t *gain = NULL;
  int32_t *room = NULL;
  int32_t *partner = NULL;
  const size_t E = (size_t)problem->num_experts;
  *kept = 0;
  MOERUN_TRY(moerun__alloc(&gain, E * E, sizeof *gain));
  MOERUN_TRY(moerun__alloc(&room, E, sizeof *room));
  MOERUN_TRY(moerun__alloc(&partner, E, sizeof *partner));
  for (size_t e = 0; e < E; e++) {
    solution->rank_of[e] = (int32_t)e;
    room[e] = 1;
  }
  for (int32_t l = 0; l + 1 < problem->num_layers; l++) {
    const int64_t *follow = problem->follow + (size_t)l * E * E;
    const int32_t *before = solution->rank_of + (size_t)l * E;
    int32_t *rank_of = solution->rank_of + ((size_t)l + 1) * E;
    for (size_t i = 0; i < E * E; i++) {
      gain[i] = follow[i % E * E + i / E];
    }
    MOERUN_TRY(moerun__transport(partner, gain, problem->num_experts,
                                 problem->num_experts, room));
    for (size_t e = 0; e < E; e++) {
      rank_of[e] = before[partner[e]];
      *kept += gain[e * E + (size_t)partner[e]];
    }
  }
done:
  moerun__free(gain);
  moerun__free(room);
  moerun__free(partner);
  return status;
}

static moerun_status solve_by_matching(moerun__solution *solution,
                                       const moerun__problem *problem) {
  moerun_status status = MOERUN_OK;
  int64_t kept = 0;
  MOERUN_TRY(match_layers(solution, problem, &kept));
  const int64_t total = total_pairs(problem);
  solution->proven = 1;
  solution->bound = total > 0 ? (double)(total - kept) / (double)total : 0;
done:
  return status;
}

/* The same for the busiest links: see relabel.c. */
static moerun_status solve_by_renaming(moerun__solution *solution,
                                       const moerun__problem *problem) {
  moerun_status status = MOERUN_OK;
  int64_t pairs = 0;
  for (int32_t n = 0; n < problem->num_layers * problem->num_experts; n++) {
    solution->rank_of[n] = n % problem->num_experts;
  }
  MOERUN_TRY(moerun__relabel(solution->rank_of, problem));
  MOERUN_TRY(moerun__tail_count(&pairs, problem, solution->rank_of));
  const int64_t total = total_pairs(problem);
  solution->proven = 1;
  solution->bound =
      total > 0 ? (double)pairs * unit_of(problem) / (double)total : 0;
done:
  return status;
}

/* Fan-out: all placements are alike, a token visits as many ranks as it has
 * terms. */
static moerun_status solve_apart(moerun__solution *solution,
                                 const moerun__problem *problem) {
  moerun_status status = MOERUN_OK;
  const size_t entries =
      (size_t)problem->num_layers * (size_t)problem->num_experts;
  int64_t terms = 0;
  MOERUN_TRY(moerun__start_ranks(solution->rank_of, problem));
  for (size_t i = 0; i < entries; i++) {
    terms += problem->load[i];
  }
  solution->proven = 1;
  solution->bound = (double)terms / ((double)problem->trace->num_tokens *
                                     (double)problem->num_layers);
done:
  return status;
}

/* ---- Viterbi ------------------------------------------------------------- */

typedef struct viterbi {
  const moerun__problem *problem;
  const moerun__states *states;
  double *best;    /* [count] cost of the best prefix that ends in the state */
  double *next;    /* [count] */
  double *value;   /* [count] cost of a step from one state to all */
  double *gain;    /* [E][R] */
  double *link;    /* [R][R] scratch */
  double *table;   /* scratch of moerun__states_value */
  int32_t *before; /* [L][count] */
} viterbi;

static double distance(const moerun__problem *problem, int32_t a, int32_t b) {
  if (a == b) return 0;
  if (problem->objective == MOERUN_OBJECTIVE_CUT) return 1;
  return moerun__topology_same_node(problem->topology, a, b)
             ? problem->node_weight
             : problem->far_weight;
}

/* gain[j][q]: what expert j of the next layer costs on rank q after state s. */
static void set_costs(const viterbi *v, int32_t layer, int32_t s) {
  const moerun__problem *problem = v->problem;
  const int32_t E = problem->num_experts;
  const int32_t R = problem->num_ranks;
  const uint8_t *rank_of = v->states->rank_of + (size_t)s * (size_t)E;
  const int64_t *follow =
      problem->follow + (size_t)layer * (size_t)E * (size_t)E;
  memset(v->gain, 0, (size_t)E * (size_t)R * sizeof *v->gain);
  for (int32_t i = 0; i < E; i++) {
    for (int32_t q = 0; q < R; q++) {
      const double cost = distance(problem, rank_of[i], q);
      for (int32_t j = 0; cost > 0 && j < E; j++) {
        v->gain[j * R + q] += cost * (double)follow[i * E + j];
      }
    }
  }
}

/* Adds the busiest link from state s to each state of the next layer. */
static void add_tails(const viterbi *v, int32_t layer, int32_t s) {
  const int32_t E = v->problem->num_experts;
  const int32_t R = v->problem->num_ranks;
  const uint8_t *from = v->states->rank_of + (size_t)s * (size_t)E;
  const int64_t *follow =
      v->problem->follow + (size_t)layer * (size_t)E * (size_t)E;
  memset(v->gain, 0, (size_t)E * (size_t)R * sizeof *v->gain);
  for (int32_t n = 0; n < E * E; n++) {
    v->gain[n % E * R + from[n / E]] += (double)follow[n];
  }
  for (int32_t t = 0; t < v->states->count; t++) {
    const uint8_t *to = v->states->rank_of + (size_t)t * (size_t)E;
    double most = 0;
    memset(v->link, 0, (size_t)R * (size_t)R * sizeof *v->link);
    for (int32_t j = 0; j < E; j++) {
      for (int32_t r = 0; r < R; r++) {
        if (r == to[j]) continue;
        v->link[r * R + to[j]] += v->gain[j * R + r];
        most = fmax(most, v->link[r * R + to[j]]);
      }
    }
    v->value[t] += most;
  }
}

static void add_steps(const viterbi *v, int32_t layer, int32_t s) {
  if (v->problem->objective == MOERUN_OBJECTIVE_TAIL) {
    add_tails(v, layer, s);
    return;
  }
  set_costs(v, layer, s);
  moerun__states_value(v->value, v->states, v->gain, v->table);
}

static moerun_status first_layer(viterbi *v) {
  moerun_status status = MOERUN_OK;
  int32_t allowed = 0;
  for (int32_t s = 0; s < v->states->count; s++) {
    const int fits = moerun__states_allowed(v->states, v->problem, 0, s);
    v->best[s] = fits ? 0 : RULED_OUT;
    allowed += fits;
  }
  MOERUN_REQUIRE(allowed > 0, MOERUN_ERR_INFEASIBLE,
                 "placement: layer 0: no split of the experts is within the "
                 "load caps");
done:
  return status;
}

static moerun_status next_layer(viterbi *v, int32_t layer,
                                const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  const int32_t count = v->states->count;
  int32_t *before = v->before + (size_t)layer * (size_t)count;
  int32_t allowed = 0;
  for (int32_t t = 0; t < count; t++) {
    v->next[t] = RULED_OUT;
  }
  for (int32_t s = 0; s < count; s++) {
    if (v->best[s] >= RULED_OUT) continue;
    MOERUN_REQUIRE(!moerun__deadline_passed(deadline), MOERUN_ERR_UNSUPPORTED,
                   "placement: exact: %d states x %d layers were not finished "
                   "within the time limit",
                   count, v->problem->num_layers);
    for (int32_t t = 0; t < count; t++) {
      v->value[t] = v->best[s];
    }
    add_steps(v, layer - 1, s);
    for (int32_t t = 0; t < count; t++) {
      if (v->value[t] >= v->next[t]) continue;
      v->next[t] = v->value[t];
      before[t] = s;
    }
  }
  for (int32_t t = 0; t < count; t++) {
    if (moerun__states_allowed(v->states, v->problem, layer, t)) {
      allowed++;
    } else {
      v->next[t] = RULED_OUT;
    }
  }
  MOERUN_REQUIRE(allowed > 0, MOERUN_ERR_INFEASIBLE,
                 "placement: layer %d: no split of the experts is within the "
                 "load caps",
                 layer);
  double *moved = v->best;
  v->best = v->next;
  v->next = moved;
done:
  return status;
}

static void copy_state(int32_t *rank_of, const moerun__states *states,
                       int32_t s) {
  const size_t E = (size_t)states->num_experts;
  for (size_t e = 0; e < E; e++) {
    rank_of[e] = states->rank_of[(size_t)s * E + e];
  }
}

static moerun_status solve_by_viterbi(moerun__solution *solution,
                                      const moerun__problem *problem,
                                      const moerun__states *states,
                                      const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  viterbi v = {.problem = problem, .states = states};
  const size_t count = (size_t)states->count;
  const size_t E = (size_t)problem->num_experts;
  const size_t L = (size_t)problem->num_layers;
  const size_t tables = (size_t)states->num_left + (size_t)states->num_right;
  MOERUN_TRY(moerun__alloc(&v.best, count, sizeof *v.best));
  MOERUN_TRY(moerun__alloc(&v.next, count, sizeof *v.next));
  MOERUN_TRY(moerun__alloc(&v.value, count, sizeof *v.value));
  MOERUN_TRY(
      moerun__alloc(&v.gain, E * (size_t)problem->num_ranks, sizeof *v.gain));
  MOERUN_TRY(moerun__alloc(
      &v.link, (size_t)problem->num_ranks * (size_t)problem->num_ranks,
      sizeof *v.link));
  MOERUN_TRY(moerun__alloc(&v.table, tables, sizeof *v.table));
  MOERUN_TRY(moerun__alloc(&v.before, L * count, sizeof *v.before));
  MOERUN_TRY(first_layer(&v));
  for (int32_t l = 1; l < problem->num_layers; l++) {
    MOERUN_TRY(next_layer(&v, l, deadline));
  }
  int32_t s = 0;
  for (int32_t t = 1; t < states->count; t++) {
    if (v.best[t] < v.best[s]) s = t;
  }
  const int64_t total = total_pairs(problem);
  solution->proven = 1;
  solution->bound =
      total > 0 ? v.best[s] * unit_of(problem) / (double)total : 0;
  for (int32_t l = problem->num_layers - 1; l >= 0; l--) {
    copy_state(solution->rank_of + (size_t)l * E, states, s);
    s = v.before[(size_t)l * count + (size_t)s];
  }
done:
  moerun__free(v.best);
  moerun__free(v.next);
  moerun__free(v.value);
  moerun__free(v.gain);
  moerun__free(v.link);
  moerun__free(v.table);
  moerun__free(v.before);
  return status;
}

/* ---- Fan-out ------------------------------------------------------------- */

/* tokens[2^E] of one layer by the set of experts that they take. */
static void count_sets(int64_t *tokens, const moerun__trace *trace,
                       int32_t layer) {
  for (int64_t t = 0; t < trace->num_tokens; t++) {
    const size_t row = (size_t)t * (size_t)trace->num_layers + (size_t)layer;
    const int16_t *ids = trace->ids + row * (size_t)trace->num_terms;
    uint32_t set = 0;
    for (int32_t k = 0; k < trace->num_terms; k++) {
      if (ids[k] >= 0) set |= 1U << ids[k];
    }
    tokens[set]++;
  }
}

/* Distinct ranks summed over the tokens of one layer. */
static int64_t ranks_visited(const moerun__states *states, int32_t s,
                             const int64_t *tokens) {
  const int32_t E = states->num_experts;
  const uint8_t *rank_of = states->rank_of + (size_t)s * (size_t)E;
  uint32_t of_rank[INT8_MAX] = {0};
  for (int32_t e = 0; e < E; e++) {
    of_rank[rank_of[e]] |= 1U << e;
  }
  int64_t sum = 0;
  for (uint32_t set = 1; set < 1U << E; set++) {
    if (tokens[set] == 0) continue;
    int32_t ranks = 0;
    for (int32_t r = 0; r < states->num_ranks; r++) {
      ranks += (of_rank[r] & set) != 0;
    }
    sum += ranks * tokens[set];
  }
  return sum;
}

static moerun_status solve_fanout(moerun__solution *solution,
                                  const moerun__problem *problem,
                                  const moerun__states *states) {
  moerun_status status = MOERUN_OK;
  int64_t *tokens = NULL;
  const size_t sets = (size_t)1 << problem->num_experts;
  int64_t sum = 0;
  MOERUN_TRY(moerun__alloc(&tokens, sets, sizeof *tokens));
  for (int32_t l = 0; l < problem->num_layers; l++) {
    int32_t best = -1;
    int64_t least = 0;
    memset(tokens, 0, sets * sizeof *tokens);
    count_sets(tokens, problem->trace, l);
    for (int32_t s = 0; s < states->count; s++) {
      if (!moerun__states_allowed(states, problem, l, s)) continue;
      const int64_t ranks = ranks_visited(states, s, tokens);
      if (best >= 0 && ranks >= least) continue;
      best = s;
      least = ranks;
    }
    MOERUN_REQUIRE(best >= 0, MOERUN_ERR_INFEASIBLE,
                   "placement: layer %d: no split of the experts is within "
                   "the load caps",
                   l);
    copy_state(solution->rank_of + (size_t)l * (size_t)problem->num_experts,
               states, best);
    sum += least;
  }
  solution->proven = 1;
  solution->bound = (double)sum / ((double)problem->trace->num_tokens *
                                   (double)problem->num_layers);
done:
  moerun__free(tokens);
  return status;
}

moerun_status moerun__solve_exact(moerun__solution *solution,
                                  const moerun__problem *problem,
                                  const moerun__method_options *options) {
  moerun_status status = MOERUN_OK;
  moerun__states *states = NULL;
  const moerun__objective objective = problem->objective;
  const moerun__deadline deadline =
      moerun__deadline_after(options->clock, options->time_limit_s);
  if (objective == MOERUN_OBJECTIVE_CUT && problem->most_slots == 1 &&
      caps_are_loose(problem)) {
    return solve_by_matching(solution, problem);
  }
  if (objective == MOERUN_OBJECTIVE_TAIL && problem->most_slots == 1 &&
      caps_are_loose(problem)) {
    return solve_by_renaming(solution, problem);
  }
  if (objective == MOERUN_OBJECTIVE_FANOUT && problem->most_slots == 1) {
    return solve_apart(solution, problem);
  }
  MOERUN_TRY(moerun__states_create(&states, problem));
  if (objective != MOERUN_OBJECTIVE_FANOUT) {
    MOERUN_TRY(solve_by_viterbi(solution, problem, states, &deadline));
    goto done;
  }
  MOERUN_REQUIRE(problem->num_experts <= MOERUN_MOST_SET_BITS,
                 MOERUN_ERR_UNSUPPORTED,
                 "placement: exact: expected at most %d experts for the "
                 "objective fanout, found %d",
                 MOERUN_MOST_SET_BITS, problem->num_experts);
  MOERUN_TRY(solve_fanout(solution, problem, states));
done:
  moerun__states_destroy(states);
  return status;
}
