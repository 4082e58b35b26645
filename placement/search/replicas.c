/* The placement under change is a real one but for its slots, so that the rule
 * itself chooses among replicas, and a change is counted by choosing anew for
 * the tokens that take the expert: the choices of all others are as before. */
#include "placement/search/replicas.h"

#include "runtime/base/memory.h"

#include <string.h>

enum {
  MOST_HOMES = 8,   /* while changes are counted */
  JUDGE_HOMES = 64, /* as in objective.c */
};

/* ---- Making -------------------------------------------------------------- */

/* For `given` replicas, or all slots full. */
static moerun_status allocate(moerun__replicas *replicas, size_t given) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *problem = replicas->problem;
  const size_t L = (size_t)problem->num_layers;
  const size_t E = (size_t)problem->num_experts;
  const size_t R = (size_t)problem->num_ranks;
  const size_t K = (size_t)problem->trace->num_terms;
  const size_t slots = L * R * (size_t)replicas->room;
  const size_t most = given > slots ? given : slots;
  MOERUN_REQUIRE(most <= MOERUN_PLACEMENT_MAX_REPLICAS, MOERUN_ERR_INVALID,
                 "placement: expected at most %d slots, found %zu",
                 MOERUN_PLACEMENT_MAX_REPLICAS, most);
  MOERUN_TRY(
      moerun__alloc(&replicas->map.replica_offset, L * E + 1, sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&replicas->map.rank_of, most, sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&replicas->slot_count, L * R, sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&replicas->token_offset, E + 1, sizeof(int64_t)));
  MOERUN_TRY(moerun__alloc(&replicas->token_of,
                           (size_t)problem->trace->num_tokens * K,
                           sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc(&replicas->load, R, sizeof(int64_t)));
  MOERUN_TRY(moerun__alloc(&replicas->ids, K, sizeof(int32_t)));
  for (int i = 0; i < 3; i++) {
    MOERUN_TRY(moerun__alloc(&replicas->ranks[i], K, sizeof(int32_t)));
  }
  MOERUN_TRY(moerun__alloc(&replicas->last_seen, R, sizeof(int64_t)));
  MOERUN_TRY(moerun__alloc(&replicas->last_mark, R, sizeof(int64_t)));
done:
  return status;
}

moerun_status moerun__replicas_create(moerun__replicas **out,
                                      const moerun__problem *problem,
                                      const int32_t *replica_offset,
                                      const int32_t *rank_of,
                                      int32_t spare_slots) {
  moerun_status status = MOERUN_OK;
  moerun__replicas *replicas = NULL;
  const int32_t R = problem->num_ranks;
  const int32_t entries = problem->num_layers * problem->num_experts;
  const int32_t given =
      replica_offset != NULL ? replica_offset[entries] : entries;
  *out = NULL;
  MOERUN_REQUIRE(problem->trace != NULL, MOERUN_ERR_UNSUPPORTED,
                 "placement: spare slots are filled by the routing of a trace, "
                 "found loads alone");
  MOERUN_REQUIRE(problem->trace->num_tokens <= INT32_MAX,
                 MOERUN_ERR_UNSUPPORTED,
                 "placement: spare slots: expected at most %d tokens, found "
                 "%lld",
                 INT32_MAX, (long long)problem->trace->num_tokens);
  MOERUN_TRY(moerun__alloc(&replicas, 1, sizeof *replicas));
  replicas->problem = problem;
  replicas->num_homes = R < MOST_HOMES ? R : MOST_HOMES;
  replicas->room = problem->even_slots + spare_slots;
  replicas->layer = -1;
  replicas->map.num_layers = problem->num_layers;
  replicas->map.num_experts = problem->num_experts;
  replicas->map.num_ranks = R;
  MOERUN_TRY(allocate(replicas, (size_t)given));
  for (int32_t n = 0; n < entries; n++) {
    int32_t *offset = replicas->map.replica_offset + n;
    offset[1] = replica_offset != NULL ? replica_offset[n + 1] : n + 1;
    for (int32_t i = offset[0]; i < offset[1]; i++) {
      replicas->map.rank_of[i] = rank_of[i];
      replicas->slot_count[n / problem->num_experts * R + rank_of[i]]++;
    }
  }
  *out = replicas;
  replicas = NULL;
done:
  moerun__replicas_destroy(replicas);
  return status;
}

void moerun__replicas_destroy(moerun__replicas *replicas) {
  if (replicas == NULL) return;
  moerun__free(replicas->map.replica_offset);
  moerun__free(replicas->map.rank_of);
  moerun__free(replicas->slot_count);
  moerun__free(replicas->token_offset);
  moerun__free(replicas->token_of);
  moerun__free(replicas->load);
  moerun__free(replicas->ids);
  for (int i = 0; i < 3; i++) {
    moerun__free(replicas->ranks[i]);
  }
  moerun__free(replicas->last_seen);
  moerun__free(replicas->last_mark);
  moerun__free(replicas);
}

/* ---- Counting ------------------------------------------------------------ */

static const int16_t *terms_of(const moerun__trace *trace, int64_t token,
                               int32_t layer) {
  const size_t row = (size_t)token * (size_t)trace->num_layers + (size_t)layer;
  return trace->ids + row * (size_t)trace->num_terms;
}

/* Number i of `homes`, as the judge tries them. */
static int32_t home_of(const moerun__replicas *replicas, int64_t token,
                       int32_t i, int32_t homes) {
  const int64_t R = replicas->map.num_ranks;
  return (int32_t)((token + i * R / homes) % R);
}

static void choose_ranks(moerun__replicas *replicas, int32_t *ranks,
                         int64_t token, int32_t layer, int32_t home) {
  const moerun__trace *trace = replicas->problem->trace;
  const int16_t *ids = terms_of(trace, token, layer);
  for (int32_t k = 0; k < trace->num_terms; k++) {
    replicas->ids[k] = ids[k];
  }
  moerun__placement_choose(ranks, &replicas->map, layer, home, replicas->ids,
                           trace->num_terms);
  for (int32_t k = 0; k < trace->num_terms; k++) {
    if (ranks[k] >= 0) ranks[k] = replicas->map.rank_of[ranks[k]];
  }
}

static int32_t distinct_count(moerun__replicas *replicas,
                              const int32_t *ranks) {
  int32_t count = 0;
  replicas->visit++;
  for (int32_t k = 0; k < replicas->problem->trace->num_terms; k++) {
    if (ranks[k] < 0) continue;
    count += replicas->last_seen[ranks[k]] != replicas->visit;
    replicas->last_seen[ranks[k]] = replicas->visit;
  }
  return count;
}

static double pairs_cost(const moerun__problem *problem, const int32_t *from,
                         const int32_t *to) {
  const int weighted = problem->objective == MOERUN_OBJECTIVE_WEIGHTED;
  const double near = weighted ? problem->node_weight : 1;
  const double far = weighted ? problem->far_weight : 1;
  double cost = 0;
  for (int32_t a = 0; a < problem->trace->num_terms; a++) {
    for (int32_t b = 0; from[a] >= 0 && b < problem->trace->num_terms; b++) {
      if (to[b] < 0 || to[b] == from[a]) continue;
      cost += moerun__topology_same_node(problem->topology, from[a], to[b])
                  ? near
                  : far;
    }
  }
  return cost;
}

/* Cost of the token, its home at `home`, in the layer; its loads are added to
 * load[R] `by` times. */
static double count_token(moerun__replicas *replicas, int64_t token,
                          int32_t home, int64_t *load, int by) {
  const moerun__problem *problem = replicas->problem;
  const int32_t layer = replicas->layer;
  int32_t *ranks = replicas->ranks[1];
  double cost = 0;
  choose_ranks(replicas, ranks, token, layer, home);
  for (int32_t k = 0; k < problem->trace->num_terms; k++) {
    if (ranks[k] >= 0) load[ranks[k]] += by;
  }
  if (problem->objective == MOERUN_OBJECTIVE_FANOUT) {
    return distinct_count(replicas, ranks);
  }
  if (layer > 0) {
    choose_ranks(replicas, replicas->ranks[0], token, layer - 1, home);
    cost += pairs_cost(problem, replicas->ranks[0], ranks);
  }
  if (layer + 1 < problem->num_layers) {
    choose_ranks(replicas, replicas->ranks[2], token, layer + 1, home);
    cost += pairs_cost(problem, ranks, replicas->ranks[2]);
  }
  return cost;
}

/* Of every `stride`-th of the tokens that take the expert. */
static double count_expert(moerun__replicas *replicas, int32_t expert,
                           int64_t stride, int64_t *load, int by) {
  double cost = 0;
  for (int64_t x = replicas->token_offset[expert];
       x < replicas->token_offset[expert + 1]; x += stride) {
    const int32_t token = replicas->token_of[x];
    for (int32_t i = 0; i < replicas->num_homes; i++) {
      const int32_t home = home_of(replicas, token, i, replicas->num_homes);
      cost += count_token(replicas, token, home, load, by);
    }
  }
  return cost;
}

/* Marks the ranks that hold one of several replicas of the token's experts.
 * Returns after how many homes, of those not marked, choices repeat: the least
 * common multiple of the numbers of replicas, or `most` if it is more. */
static int32_t mark_hosts(moerun__replicas *replicas, int64_t token,
                          int32_t most) {
  const moerun__trace *trace = replicas->problem->trace;
  const int16_t *ids = terms_of(trace, token, replicas->layer);
  int32_t period = 1;
  replicas->mark++;
  for (int32_t k = 0; k < trace->num_terms; k++) {
    int32_t count = 0;
    if (ids[k] < 0) continue;
    const int32_t *ranks = moerun__replicas_of(replicas, ids[k], &count);
    if (count == 1) continue;
    for (int32_t i = 0; i < count; i++) {
      replicas->last_mark[ranks[i]] = replicas->mark;
    }
    int32_t multiple = period;
    while (multiple < most && multiple % count != 0) {
      multiple += period;
    }
    period = multiple < most ? multiple : most;
  }
  return period;
}

/* Over all homes. For fan-out those that hold no replica to choose differ by
 * where among the replicas the choice begins alone: one of each kind is counted
 * for all. */
static double count_homes(moerun__replicas *replicas, int64_t token,
                          int64_t *load, int32_t homes) {
  int32_t alike[JUDGE_HOMES] = {0};
  int32_t last[JUDGE_HOMES] = {0};
  double cost = 0;
  const int fanout = replicas->problem->objective == MOERUN_OBJECTIVE_FANOUT;
  const int32_t period = fanout ? mark_hosts(replicas, token, homes) : homes;
  for (int32_t i = 0; i < homes; i++) {
    const int32_t home = home_of(replicas, token, i, homes);
    if (period == homes || replicas->last_mark[home] == replicas->mark) {
      cost += count_token(replicas, token, home, load, 1);
    } else {
      alike[home % period]++;
      last[home % period] = home;
    }
  }
  for (int32_t c = 0; c < period; c++) {
    if (alike[c] == 0) continue;
    cost += alike[c] * count_token(replicas, token, last[c], load, alike[c]);
  }
  return cost;
}

static double count_all(moerun__replicas *replicas, int64_t *load,
                        int32_t homes) {
  double cost = 0;
  memset(load, 0, (size_t)replicas->map.num_ranks * sizeof *load);
  for (int64_t t = 0; t < replicas->problem->trace->num_tokens; t++) {
    cost += count_homes(replicas, t, load, homes);
  }
  return cost;
}

int32_t moerun__replicas_count(moerun__replicas *replicas, double *cost,
                               int64_t *load) {
  const int32_t R = replicas->map.num_ranks;
  const int32_t homes = R < JUDGE_HOMES ? R : JUDGE_HOMES;
  *cost = count_all(replicas, load, homes);
  return homes;
}

/* Tokens by expert, as a prefix sum of their numbers. */
static void collect_tokens(moerun__replicas *replicas) {
  const moerun__trace *trace = replicas->problem->trace;
  const size_t E = (size_t)replicas->map.num_experts;
  int64_t *offset = replicas->token_offset;
  const int64_t *load = replicas->problem->load + (size_t)replicas->layer * E;
  offset[0] = 0;
  for (size_t e = 0; e < E; e++) {
    offset[e + 1] = offset[e] + load[e];
  }
  for (int64_t t = trace->num_tokens - 1; t >= 0; t--) {
    const int16_t *ids = terms_of(trace, t, replicas->layer);
    for (int32_t k = 0; k < trace->num_terms; k++) {
      if (ids[k] >= 0) replicas->token_of[--offset[ids[k] + 1]] = (int32_t)t;
    }
  }
  /* Each end has come down to its own start. */
  const int64_t terms = offset[E] + load[E - 1];
  memmove(offset, offset + 1, E * sizeof *offset);
  offset[E] = terms;
}

void moerun__replicas_enter(moerun__replicas *replicas, int32_t layer) {
  replicas->layer = layer;
  collect_tokens(replicas);
  (void)count_all(replicas, replicas->load, replicas->num_homes);
}

/* ---- Changes ------------------------------------------------------------- */

static size_t entry_of(const moerun__replicas *replicas, int32_t expert) {
  return (size_t)replicas->layer * (size_t)replicas->map.num_experts +
         (size_t)expert;
}

const int32_t *moerun__replicas_of(const moerun__replicas *replicas,
                                   int32_t expert, int32_t *count) {
  const int32_t *offset =
      replicas->map.replica_offset + entry_of(replicas, expert);
  *count = offset[1] - offset[0];
  return replicas->map.rank_of + offset[0];
}

int moerun__replicas_holds(const moerun__replicas *replicas, int32_t expert,
                           int32_t rank) {
  int32_t count = 0;
  const int32_t *ranks = moerun__replicas_of(replicas, expert, &count);
  for (int32_t i = 0; i < count; i++) {
    if (ranks[i] == rank) return 1;
  }
  return 0;
}

/* `by` is 1 or -1: one replica more or less. */
static void shift_offsets(moerun__replicas *replicas, int32_t expert,
                          int32_t rank, int32_t by) {
  const size_t entries =
      (size_t)replicas->map.num_layers * (size_t)replicas->map.num_experts;
  for (size_t n = entry_of(replicas, expert) + 1; n <= entries; n++) {
    replicas->map.replica_offset[n] += by;
  }
  replicas->slot_count[replicas->layer * replicas->map.num_ranks + rank] += by;
}

static void insert(moerun__replicas *replicas, int32_t expert, int32_t rank) {
  const size_t n = entry_of(replicas, expert);
  const int32_t *offset = replicas->map.replica_offset;
  const size_t all = (size_t)offset[(size_t)replicas->map.num_layers *
                                    (size_t)replicas->map.num_experts];
  int32_t *ranks = replicas->map.rank_of;
  size_t at = (size_t)offset[n];
  while (at < (size_t)offset[n + 1] && ranks[at] < rank) {
    at++;
  }
  memmove(ranks + at + 1, ranks + at, (all - at) * sizeof *ranks);
  ranks[at] = rank;
  shift_offsets(replicas, expert, rank, 1);
}

static void erase(moerun__replicas *replicas, int32_t expert, int32_t rank) {
  const size_t n = entry_of(replicas, expert);
  const int32_t *offset = replicas->map.replica_offset;
  const size_t all = (size_t)offset[(size_t)replicas->map.num_layers *
                                    (size_t)replicas->map.num_experts];
  int32_t *ranks = replicas->map.rank_of;
  size_t at = (size_t)offset[n];
  while (ranks[at] != rank) {
    at++;
  }
  memmove(ranks + at, ranks + at + 1, (all - at - 1) * sizeof *ranks);
  shift_offsets(replicas, expert, rank, -1);
}

void moerun__replicas_add(moerun__replicas *replicas,
                          const moerun__change *change, int32_t expert,
                          int32_t rank) {
  insert(replicas, expert, rank);
  for (int32_t r = 0; change != NULL && r < replicas->map.num_ranks; r++) {
    replicas->load[r] += change->load[r];
  }
}

void moerun__replicas_take(moerun__replicas *replicas, int32_t expert,
                           int32_t rank) {
  erase(replicas, expert, rank);
}

void moerun__replicas_estimate(moerun__replicas *replicas,
                               moerun__change *change, int32_t expert,
                               int32_t rank, int64_t tokens) {
  const int64_t *offset = replicas->token_offset + expert;
  const int64_t all = offset[1] - offset[0];
  const int64_t stride = all > tokens ? (all - 1) / tokens + 1 : 1;
  const size_t R = (size_t)replicas->map.num_ranks;
  memset(change->load, 0, R * sizeof *change->load);
  change->cost = -count_expert(replicas, expert, stride, change->load, -1);
  insert(replicas, expert, rank);
  change->cost += count_expert(replicas, expert, stride, change->load, 1);
  erase(replicas, expert, rank);
  change->cost *= (double)stride;
  for (size_t r = 0; r < R; r++) {
    change->load[r] *= stride;
  }
}

/* ---- Solutions ----------------------------------------------------------- */

moerun_status moerun__replicas_to_copies(moerun__solution *solution,
                                         const moerun__replicas *replicas) {
  moerun_status status = MOERUN_OK;
  const int32_t E = replicas->map.num_experts;
  const int32_t R = replicas->map.num_ranks;
  const size_t ranks = (size_t)replicas->map.num_layers * (size_t)R;
  const size_t width = (size_t)replicas->room;
  int32_t *held = NULL; /* [L][R] copies so far */
  MOERUN_TRY(moerun__alloc(&held, ranks, sizeof *held));
  MOERUN_TRY(moerun__alloc(&solution->copies, ranks * width,
                           sizeof *solution->copies));
  memset(solution->copies, 0xff, ranks * width * sizeof *solution->copies);
  solution->copies_per_rank = replicas->room;
  for (int32_t n = 0; n < replicas->map.num_layers * E; n++) {
    const int32_t *offset = replicas->map.replica_offset + n;
    const size_t first = (size_t)(n / E) * (size_t)R;
    solution->rank_of[n] = replicas->map.rank_of[offset[0]];
    for (int32_t i = offset[0] + 1; i < offset[1]; i++) {
      const size_t at = first + (size_t)replicas->map.rank_of[i];
      solution->copies[at * width + (size_t)held[at]++] = n % E;
    }
  }
done:
  moerun__free(held);
  return status;
}

moerun_status moerun__replicas_complete(moerun__solution *solution,
                                        const moerun__problem *problem,
                                        int32_t spare_slots,
                                        const moerun__deadline *deadline) {
  moerun_status status = MOERUN_OK;
  moerun__replicas *replicas = NULL;
  MOERUN_TRY(moerun__replicas_create(&replicas, problem, NULL,
                                     solution->rank_of, spare_slots));
  MOERUN_TRY(moerun__replicas_fill(replicas, solution->rank_of, deadline));
  MOERUN_TRY(moerun__replicas_to_copies(solution, replicas));
done:
  moerun__replicas_destroy(replicas);
  return status;
}

static moerun_status check_layer(moerun__replicas *replicas, int32_t layer,
                                 int64_t *load) {
  moerun_status status = MOERUN_OK;
  const int32_t R = replicas->map.num_ranks;
  const int64_t *cap = replicas->problem->cap + (size_t)layer * (size_t)R;
  const int32_t *held = replicas->slot_count + (size_t)layer * (size_t)R;
  double cost = 0;
  replicas->layer = layer;
  const int32_t homes = moerun__replicas_count(replicas, &cost, load);
  for (int32_t r = 0; r < R; r++) {
    MOERUN_REQUIRE(held[r] <= replicas->room, MOERUN_ERR_INFEASIBLE,
                   "placement: layer %d, rank %d: expected at most %d experts, "
                   "found %d",
                   layer, r, replicas->room, held[r]);
    MOERUN_REQUIRE(load[r] <= cap[r] * homes, MOERUN_ERR_INFEASIBLE,
                   "placement: layer %d, rank %d: expected a load of at most "
                   "%lld, found %.1f",
                   layer, r, (long long)cap[r], (double)load[r] / homes);
  }
done:
  return status;
}

moerun_status moerun__replicas_check(const moerun__problem *problem,
                                     const moerun_placement *placement,
                                     int32_t spare_slots) {
  moerun_status status = MOERUN_OK;
  moerun__replicas *replicas = NULL;
  int64_t *load = NULL;
  MOERUN_TRY(moerun__replicas_create(&replicas, problem,
                                     placement->replica_offset,
                                     placement->rank_of, spare_slots));
  MOERUN_TRY(moerun__alloc(&load, (size_t)problem->num_ranks, sizeof *load));
  for (int32_t l = 0; l < problem->num_layers; l++) {
    MOERUN_TRY(check_layer(replicas, l, load));
  }
done:
  moerun__replicas_destroy(replicas);
  moerun__free(load);
  return status;
}
