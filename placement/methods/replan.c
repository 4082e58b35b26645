/* In home mode the rows of a layer depend on that layer's placement alone, so
 * each layer is a decision of its own: change it if the bytes of rows that the
 * change saves until the next decision exceed the bytes of weights that it
 * moves. What was solved is given the names that move the least
 * (replan_names.c). After that, and a second time from the placement that is
 * there, single swaps go on with the cost of moves counted in: most of what a
 * new solution saves can often be had for a few experts.
 *
 * Speeds are load caps to the solver, and to the placement that is there:
 * before its swaps, experts leave ranks that exceed them. And time counts: a
 * layer ends with the rank that is busy for longest, so what a change takes off
 * that is worth the bytes that could be sent meanwhile. */
#include "placement/methods/replan.h"

#include "placement/methods/method.h"
#include "placement/methods/replan_names.h"
#include "placement/search/visits.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { SOLVED, NEAR, NUM_CANDIDATES };

typedef struct replan {
  const moerun_placement *current;
  const moerun__trace *train;
  const moerun__trace *judge;
  const moerun__replan_costs *costs;
  moerun__topology *topology;
  moerun__problem *problem;
  moerun_placement *solved; /* parts of any name; NULL: none within the caps */
  moerun_placement *candidate[NUM_CANDIDATES]; /* NULL: none */
  int64_t *before;                             /* [L] bytes of rows, once */
  int64_t *after[NUM_CANDIDATES];
  double *busy_before; /* [L] rows of the rank that ends last, once, as rows of
                          the fastest; without speeds 0                      */
  double *busy_after[NUM_CANDIDATES];
  int64_t *load;   /* [L][R] scratch */
  int32_t *choice; /* [L] the candidate that is moved to + 1; 0: none */
} replan;

/* How often the rows that are solved for come again until the next decision. */
static double horizon_of_train(const replan *p) {
  return p->costs->horizon * (double)p->judge->num_tokens /
         (double)p->train->num_tokens;
}

static int is_on(const moerun_placement *placement, int32_t n, int32_t rank) {
  for (int32_t i = placement->replica_offset[n];
       i < placement->replica_offset[n + 1]; i++) {
    if (placement->rank_of[i] == rank) return 1;
  }
  return 0;
}

static moerun_status check(const moerun_placement *current,
                           const moerun__trace *trace) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(trace->home != NULL && trace->num_ranks == current->num_ranks,
                 MOERUN_ERR_INVALID,
                 "placement: expected a trace with homes on %d ranks, found %d",
                 current->num_ranks, trace->num_ranks);
done:
  return status;
}

static moerun_status allocate(replan *p) {
  moerun_status status = MOERUN_OK;
  const size_t L = (size_t)p->current->num_layers;
  const size_t R = (size_t)p->current->num_ranks;
  for (int c = 0; c < NUM_CANDIDATES; c++) {
    MOERUN_TRY(moerun__alloc(&p->after[c], L, sizeof *p->after[c]));
    MOERUN_TRY(moerun__alloc(&p->busy_after[c], L, sizeof *p->busy_after[c]));
  }
  MOERUN_TRY(moerun__alloc(&p->busy_before, L, sizeof *p->busy_before));
  MOERUN_TRY(moerun__alloc(&p->load, L * R, sizeof *p->load));
  MOERUN_TRY(moerun__alloc(&p->before, L, sizeof *p->before));
  MOERUN_TRY(moerun__alloc(&p->choice, L, sizeof *p->choice));
done:
  return status;
}

static void clear(replan *p) {
  moerun__topology_destroy(p->topology);
  moerun__problem_destroy(p->problem);
  moerun_placement_destroy(p->solved);
  for (int c = 0; c < NUM_CANDIDATES; c++) {
    moerun_placement_destroy(p->candidate[c]);
    moerun__free(p->after[c]);
    moerun__free(p->busy_after[c]);
  }
  moerun__free(p->busy_before);
  moerun__free(p->load);
  moerun__free(p->before);
  moerun__free(p->choice);
}

static moerun_status make_topology(moerun__topology **out, int32_t num_ranks) {
  char line[32];
  (void)snprintf(line, sizeof line, "%d rank%s", num_ranks,
                 num_ranks == 1 ? "" : "s");
  return moerun__topology_parse(out, line);
}

static void set_speeds(moerun__topology *topology, const double *speed) {
  const int32_t R = topology->num_ranks;
  double sum = 0;
  for (int32_t r = 0; r < R; r++) {
    sum += speed[r];
  }
  for (int32_t r = 0; r < R; r++) {
    topology->speed[r] = speed[r] * R / sum;
  }
}

/* ---- Swaps with the cost of moves ---------------------------------------- */

/* Bytes of weights that a swap makes come, less those that it lets stay. */
static double toll_of(const replan *p, const moerun__visits *v, int32_t i,
                      int32_t k) {
  const int32_t a = v->part_of[i];
  const int32_t b = v->part_of[k];
  const int32_t first = v->layer * p->current->num_experts;
  int32_t moves = 0;
  if (v->expert_of[i] >= 0) {
    moves += is_on(p->current, first + v->expert_of[i], a);
    moves -= is_on(p->current, first + v->expert_of[i], b);
  }
  if (v->expert_of[k] >= 0) {
    moves += is_on(p->current, first + v->expert_of[k], b);
    moves -= is_on(p->current, first + v->expert_of[k], a);
  }
  return (double)moves * (double)p->costs->expert_bytes[v->layer];
}

/* The best swap of the layer; 0: none repays. A visit saved is a copy saved,
 * unless it was at home. */
static int find_swap(const replan *p, const moerun__visits *v, int32_t *out_i,
                     int32_t *out_k) {
  const double value = horizon_of_train(p) * (double)p->costs->copy_bytes *
                       (1 - 1.0 / v->num_parts);
  double most = 1;
  int found = 0;
  for (int32_t i = 0; i < v->num_items; i++) {
    for (int32_t k = i + 1; k < v->num_items; k++) {
      if (v->part_of[i] == v->part_of[k]) continue;
      const double toll = toll_of(p, v, i, k);
      if (-moerun__visits_least_loss(v, i, k) * value - toll <= most) continue;
      if (!moerun__visits_swap_allowed(v, i, k)) continue;
      const double net = -moerun__visits_loss(v, i, k) * value - toll;
      if (net <= most) continue;
      most = net;
      found = 1;
      *out_i = i;
      *out_k = k;
    }
  }
  return found;
}

/* With speeds: experts leave the ranks that exceed their caps. */
static moerun_status relieve(int32_t *rank_of, const replan *p) {
  moerun_status status = MOERUN_OK;
  const moerun__problem *problem = p->problem;
  const size_t E = (size_t)problem->num_experts;
  int32_t overfull = -1; /* what is left of it is judged like all else */
  if (p->costs->speed == NULL) goto done;
  for (int32_t l = 0; l < problem->num_layers; l++) {
    const moerun__bins bins = moerun__problem_bins(problem, l);
    MOERUN_TRY(moerun__pack_repair(
        rank_of + (size_t)l * E, &overfull, problem->load + (size_t)l * E,
        problem->num_experts, &bins, problem->num_ranks));
  }
done:
  return status;
}

/* *out: `from`, which is_plain, relieved and after all swaps that repay. */
static moerun_status take_swaps(moerun_placement **out, const replan *p,
                                const moerun_placement *from) {
  moerun_status status = MOERUN_OK;
  moerun__split *split = NULL;
  moerun__visits *visits = NULL;
  int32_t *rank_of = NULL;
  const size_t entries = (size_t)from->num_layers * (size_t)from->num_experts;
  MOERUN_TRY(moerun__alloc(&rank_of, entries, sizeof *rank_of));
  memcpy(rank_of, from->rank_of, entries * sizeof *rank_of);
  MOERUN_TRY(relieve(rank_of, p));
  MOERUN_TRY(moerun__split_of_ranks(&split, p->problem, rank_of));
  MOERUN_TRY(moerun__visits_create(&visits, p->problem, split));
  for (int32_t l = 0; l < split->num_layers; l++) {
    int32_t i = 0;
    int32_t k = 0;
    moerun__visits_load(visits, l);
    while (find_swap(p, visits, &i, &k)) {
      moerun__visits_swap(visits, i, k);
    }
    memcpy(split->part_of + (size_t)l * (size_t)split->num_items,
           visits->part_of, (size_t)split->num_items * sizeof *visits->part_of);
  }
  moerun__split_to_ranks(rank_of, split, p->problem->num_experts);
  MOERUN_TRY(moerun_placement_create(out, from->num_layers, from->num_experts,
                                     from->num_ranks, rank_of));
done:
  moerun__visits_destroy(visits);
  moerun__split_destroy(split);
  moerun__free(rank_of);
  return status;
}

/* Whether swaps can start from a placement: no replicas, and the counts of the
 * problem. */
static int is_plain(const moerun_placement *from,
                    const moerun__problem *problem) {
  const int32_t entries = from->num_layers * from->num_experts;
  if (from->replica_offset[entries] != entries) return 0;
  for (int32_t i = 0; i < from->num_layers * from->num_ranks; i++) {
    if (from->slot_count[i] < problem->fewest_slots ||
        from->slot_count[i] > problem->most_slots) {
      return 0;
    }
  }
  return 1;
}

/* A quick look leaves them out, unless there are some to lose. */
static int looks_for_replicas(const replan *p) {
  const int32_t entries = p->current->num_layers * p->current->num_experts;
  return !p->costs->is_quick || p->current->replica_offset[entries] != entries;
}

static moerun_status solve(replan *p) {
  moerun_status status = MOERUN_OK;
  const moerun__method_options options = {
      .spare_slots = looks_for_replicas(p) ? p->costs->spare_slots : 0};
  const moerun_status found = moerun__place(
      &p->solved, NULL, NULL, p->problem, moerun__method_find("cd"), &options);
  if (found == MOERUN_ERR_INFEASIBLE) goto done; /* a reason to stay */
  MOERUN_TRY(found);
done:
  return status;
}

/* rows[L] that keep the last rank of each layer busy, as rows of the
 * fastest. */
static moerun_status count_busy(double *rows, replan *p,
                                const moerun_placement *placement) {
  moerun_status status = MOERUN_OK;
  const size_t R = (size_t)placement->num_ranks;
  const double *speed = p->topology->speed;
  double fastest = 0;
  if (p->costs->speed == NULL) goto done;
  for (size_t r = 0; r < R; r++) {
    fastest = fmax(fastest, speed[r]);
  }
  MOERUN_TRY(moerun__count_loads(p->load, placement, p->judge, p->topology,
                                 p->judge->home));
  for (int32_t l = 0; l < placement->num_layers; l++) {
    const int64_t *load = p->load + (size_t)l * R;
    rows[l] = 0;
    for (size_t r = 0; r < R; r++) {
      rows[l] = fmax(rows[l], (double)load[r] * fastest / speed[r]);
    }
  }
done:
  return status;
}

/* Both candidates, their bytes and their times. */
static moerun_status make_candidates(replan *p) {
  moerun_status status = MOERUN_OK;
  moerun_placement *named = NULL;
  MOERUN_TRY(solve(p));
  if (p->solved != NULL) {
    const moerun__naming naming = {.solved = p->solved,
                                   .current = p->current,
                                   .trace = p->train,
                                   .costs = p->costs,
                                   .speed = p->topology->speed,
                                   .horizon = horizon_of_train(p)};
    MOERUN_TRY(moerun__replan_name(&named, &naming));
    if (is_plain(named, p->problem)) {
      MOERUN_TRY(take_swaps(&p->candidate[SOLVED], p, named));
    } else {
      p->candidate[SOLVED] = named;
      named = NULL;
    }
  }
  if (is_plain(p->current, p->problem)) {
    MOERUN_TRY(take_swaps(&p->candidate[NEAR], p, p->current));
  }
  for (int c = 0; c < NUM_CANDIDATES; c++) {
    if (p->candidate[c] == NULL) continue;
    MOERUN_TRY(
        moerun__replan_bytes(p->after[c], p->candidate[c], p->judge, p->costs));
    MOERUN_TRY(count_busy(p->busy_after[c], p, p->candidate[c]));
  }
done:
  moerun_placement_destroy(named);
  return status;
}

/* ---- The decision -------------------------------------------------------- */

/* Bytes that rows of the fastest rank are worth in time. */
static double worth_of(const replan *p, int32_t layer, double rows) {
  return p->costs->speed == NULL
             ? 0
             : rows * (double)p->costs->expert_bytes[layer] /
                   p->costs->rows_per_expert;
}

/* Whether any layer sends and waits for more than the weights of one expert: if
 * not, nothing that a solver can find repays a move. */
static int can_repay(const replan *p) {
  for (int32_t l = 0; l < p->current->num_layers; l++) {
    const double most =
        (double)p->before[l] + worth_of(p, l, p->busy_before[l]);
    if (most * p->costs->horizon > (double)p->costs->expert_bytes[l]) return 1;
  }
  return 0;
}

int64_t moerun__replan_lacking(const moerun_placement *now,
                               const moerun_placement *to, int32_t layer) {
  const int32_t E = now->num_experts;
  int64_t lacking = 0;
  for (int32_t n = layer * E; n < (layer + 1) * E; n++) {
    for (int32_t i = to->replica_offset[n]; i < to->replica_offset[n + 1];
         i++) {
      lacking += !is_on(now, n, to->rank_of[i]);
    }
  }
  return lacking;
}

/* The best of staying and the candidates. */
static void choose_layer(replan *p, moerun__replan_verdict *out, int32_t l) {
  int64_t best = 0;
  int64_t experts = 0;
  int64_t saved = 0;
  int64_t rows = 0;
  for (int c = 0; c < NUM_CANDIDATES; c++) {
    if (p->candidate[c] == NULL) continue;
    const int64_t lacking =
        moerun__replan_lacking(p->current, p->candidate[c], l);
    const int64_t gained =
        llround((double)(p->before[l] - p->after[c][l]) * p->costs->horizon);
    const int64_t earlier =
        llround((p->busy_before[l] - p->busy_after[c][l]) * p->costs->horizon);
    const int64_t net = gained + llround(worth_of(p, l, (double)earlier)) -
                        lacking * p->costs->expert_bytes[l];
    if (net <= best) continue;
    best = net;
    experts = lacking;
    saved = gained;
    rows = earlier;
    p->choice[l] = c + 1;
  }
  out->experts_moved += experts;
  out->bytes_moved += experts * p->costs->expert_bytes[l];
  out->bytes_saved += saved;
  out->rows_saved += rows;
}

/* The layers chosen, the current ones elsewhere; NULL if there are none. */
static moerun_status join(const replan *p, moerun_placement **out) {
  moerun_status status = MOERUN_OK;
  const moerun_placement **from = NULL;
  const int32_t L = p->current->num_layers;
  int32_t changes = 0;
  MOERUN_TRY(moerun__alloc(&from, (size_t)L, sizeof(moerun_placement *)));
  for (int32_t l = 0; l < L; l++) {
    const int32_t choice = p->choice[l];
    changes += choice > 0;
    from[l] = choice > 0 ? p->candidate[choice - 1] : p->current;
  }
  if (changes > 0) {
    MOERUN_TRY(moerun__placement_join(out, L, from, NULL, "replaced"));
  }
done:
  moerun__free((void *)from);
  return status;
}

int moerun__replan_same(const moerun_placement *a, const moerun_placement *b,
                        int32_t layer) {
  const int32_t E = a->num_experts;
  for (int32_t n = layer * E; n < (layer + 1) * E; n++) {
    const int32_t count = a->replica_offset[n + 1] - a->replica_offset[n];
    if (b->replica_offset[n + 1] - b->replica_offset[n] != count) return 0;
    if (memcmp(a->rank_of + a->replica_offset[n],
               b->rank_of + b->replica_offset[n],
               (size_t)count * sizeof *a->rank_of) != 0) {
      return 0;
    }
  }
  return 1;
}

moerun_status moerun__replan_bytes(int64_t *bytes,
                                   const moerun_placement *placement,
                                   const moerun__trace *trace,
                                   const moerun__replan_costs *costs) {
  moerun_status status = MOERUN_OK;
  moerun__topology *topology = NULL;
  int64_t *back = NULL;
  MOERUN_TRY(make_topology(&topology, placement->num_ranks));
  MOERUN_TRY(moerun__alloc(&back, (size_t)placement->num_layers, sizeof *back));
  MOERUN_TRY(
      moerun__count_rows(bytes, back, placement, trace, topology, trace->home));
  for (int32_t l = 0; l < placement->num_layers; l++) {
    bytes[l] = bytes[l] * costs->copy_bytes + back[l] * costs->result_bytes;
  }
done:
  moerun__topology_destroy(topology);
  moerun__free(back);
  return status;
}

moerun_status moerun__replan(moerun__replan_verdict *out,
                             const moerun_placement *current,
                             const moerun__trace *train,
                             const moerun__trace *judge,
                             const moerun__replan_costs *costs) {
  moerun_status status = MOERUN_OK;
  const moerun__problem_options home = {.objective = MOERUN_OBJECTIVE_FANOUT,
                                        .spare_slots = costs->spare_slots};
  replan p = {
      .current = current, .train = train, .judge = judge, .costs = costs};
  memset(out, 0, sizeof *out);
  MOERUN_TRY(check(current, train));
  MOERUN_TRY(check(current, judge));
  MOERUN_TRY(allocate(&p));
  MOERUN_TRY(make_topology(&p.topology, current->num_ranks));
  if (costs->speed != NULL) set_speeds(p.topology, costs->speed);
  MOERUN_TRY(moerun__replan_bytes(p.before, current, judge, costs));
  MOERUN_TRY(count_busy(p.busy_before, &p, current));
  if (!can_repay(&p)) goto done;
  MOERUN_TRY(moerun__problem_create(&p.problem, train, p.topology, &home));
  MOERUN_TRY(make_candidates(&p));
  for (int32_t l = 0; l < current->num_layers; l++) {
    choose_layer(&p, out, l);
  }
  MOERUN_TRY(join(&p, &out->placement));
done:
  clear(&p);
  return status;
}
