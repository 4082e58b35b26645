/* In home mode the rows of a layer depend on that layer's placement alone, so
 * each layer is a decision of its own: change it if the bytes of rows that the
 * change saves until the next decision exceed the bytes of weights that it
 * moves. A solver knows parts, not ranks; a solution with its parts named by
 * chance would move nearly every expert. The parts of each layer are therefore
 * given to ranks by an assignment problem whose gains are exactly the two
 * things that depend on the names: weights that can stay where they are and
 * rows that stay at home. After that, and a second time from the placement that
 * is there, single swaps go on with the cost of moves counted in: most of what a
 * new solution saves can often be had for a few experts. */
#include "placement/replan.h"

#include "placement/assignment.h"
#include "placement/visits.h"
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
  int64_t *gain;            /* [R parts][R ranks] */
  int32_t *label;           /* [L][R] rank of each part */
  int32_t *room;            /* [R] 1 each */
  int64_t *seen;            /* [R] last token that saw the part */
  moerun_placement *candidate[NUM_CANDIDATES]; /* NULL: none */
  int64_t *before;                             /* [L] bytes of rows, once */
  int64_t *after[NUM_CANDIDATES];
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
  }
  MOERUN_TRY(moerun__alloc(&p->gain, R * R, sizeof *p->gain));
  MOERUN_TRY(moerun__alloc(&p->label, L * R, sizeof *p->label));
  MOERUN_TRY(moerun__alloc(&p->room, R, sizeof *p->room));
  MOERUN_TRY(moerun__alloc(&p->seen, R, sizeof *p->seen));
  MOERUN_TRY(moerun__alloc(&p->before, L, sizeof *p->before));
  MOERUN_TRY(moerun__alloc(&p->choice, L, sizeof *p->choice));
  for (size_t r = 0; r < R; r++) {
    p->room[r] = 1;
  }
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
  }
  moerun__free(p->gain);
  moerun__free(p->label);
  moerun__free(p->room);
  moerun__free(p->seen);
  moerun__free(p->before);
  moerun__free(p->choice);
}

static moerun_status make_topology(moerun__topology **out, int32_t num_ranks) {
  char line[32];
  (void)snprintf(line, sizeof line, "%d rank%s", num_ranks,
                 num_ranks == 1 ? "" : "s");
  return moerun__topology_parse(out, line);
}

/* ---- Parts to ranks ---------------------------------------------------------- */

/* Rows that stay at home if part p is rank r, in bytes; with replicas, those that
 * can. */
static void add_rows_at_home(replan *p, int32_t layer) {
  const moerun__trace *trace = p->train;
  const size_t R = (size_t)p->current->num_ranks;
  const double horizon = horizon_of_train(p);
  const int32_t *offset =
      p->solved->replica_offset + (size_t)layer * (size_t)trace->num_experts;
  memset(p->seen, 0, R * sizeof *p->seen);
  for (int64_t s = 0; s < trace->num_sequences; s++) {
    for (int64_t t = trace->sequence_offset[s];
         t < trace->sequence_offset[s + 1]; t++) {
      const int16_t *ids =
          trace->ids +
          (size_t)(t * trace->num_layers + layer) * (size_t)trace->num_terms;
      for (int32_t j = 0; j < trace->num_terms; j++) {
        if (ids[j] < 0) continue;
        for (int32_t i = offset[ids[j]]; i < offset[ids[j] + 1]; i++) {
          const size_t part = (size_t)p->solved->rank_of[i];
          int64_t *gain = &p->gain[part * R + (size_t)trace->home[s]];
          *gain += p->costs->result_bytes;
          if (p->seen[part] == t + 1) continue;
          *gain += p->costs->copy_bytes;
          p->seen[part] = t + 1;
        }
      }
    }
  }
  for (size_t i = 0; i < R * R; i++) {
    p->gain[i] = llround((double)p->gain[i] * horizon);
  }
}

/* Weights that stay where they are. */
static void add_kept(replan *p, int32_t layer) {
  const moerun_placement *now = p->current;
  const moerun_placement *solved = p->solved;
  const int32_t E = now->num_experts;
  const size_t R = (size_t)now->num_ranks;
  for (int32_t n = layer * E; n < (layer + 1) * E; n++) {
    for (int32_t i = solved->replica_offset[n];
         i < solved->replica_offset[n + 1]; i++) {
      int64_t *gain = p->gain + (size_t)solved->rank_of[i] * R;
      for (int32_t k = now->replica_offset[n]; k < now->replica_offset[n + 1];
           k++) {
        gain[now->rank_of[k]] += p->costs->expert_bytes[layer];
      }
    }
  }
}

static moerun_status name_parts(replan *p) {
  moerun_status status = MOERUN_OK;
  const size_t R = (size_t)p->current->num_ranks;
  for (int32_t l = 0; l < p->current->num_layers; l++) {
    memset(p->gain, 0, R * R * sizeof *p->gain);
    add_rows_at_home(p, l);
    add_kept(p, l);
    MOERUN_TRY(moerun__transport(p->label + (size_t)l * R, p->gain, (int32_t)R,
                                 (int32_t)R, p->room));
  }
done:
  return status;
}

/* What was solved, on the ranks that its parts were given. */
static moerun_status relabel(moerun_placement **out, const replan *p) {
  moerun_status status = MOERUN_OK;
  const moerun_placement *solved = p->solved;
  const int32_t E = solved->num_experts;
  const int32_t R = solved->num_ranks;
  const int32_t entries = solved->num_layers * E;
  int32_t *rank_of = NULL;
  MOERUN_TRY(moerun__alloc(&rank_of, (size_t)solved->replica_offset[entries],
                           sizeof *rank_of));
  for (int32_t n = 0; n < entries; n++) {
    const int32_t *label = p->label + (size_t)(n / E) * (size_t)R;
    const int32_t first = solved->replica_offset[n];
    for (int32_t i = first; i < solved->replica_offset[n + 1]; i++) {
      const int32_t rank = label[solved->rank_of[i]];
      int32_t at = i; /* ascending */
      for (; at > first && rank_of[at - 1] > rank; at--) {
        rank_of[at] = rank_of[at - 1];
      }
      rank_of[at] = rank;
    }
  }
  MOERUN_TRY(moerun__placement_create(out, solved->num_layers, E, R,
                                      solved->replica_offset, rank_of,
                                      "replaced"));
done:
  moerun__free(rank_of);
  return status;
}

/* ---- Swaps with the cost of moves ---------------------------------------------- */

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

/* *out: `from`, which is_plain, after all swaps that repay. */
static moerun_status take_swaps(moerun_placement **out, const replan *p,
                                const moerun_placement *from) {
  moerun_status status = MOERUN_OK;
  moerun__split *split = NULL;
  moerun__visits *visits = NULL;
  int32_t *rank_of = NULL;
  const size_t entries = (size_t)from->num_layers * (size_t)from->num_experts;
  MOERUN_TRY(moerun__alloc(&rank_of, entries, sizeof *rank_of));
  MOERUN_TRY(moerun__split_of_ranks(&split, p->problem, from->rank_of));
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

/* Whether swaps can start from a placement: no replicas, and counts that differ
 * by one at most. */
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

static moerun_status solve(replan *p) {
  moerun_status status = MOERUN_OK;
  const moerun__method_options options = {.spare_slots = p->costs->spare_slots};
  const moerun_status found = moerun__place(
      &p->solved, NULL, NULL, p->problem, moerun__method_find("cd"), &options);
  if (found == MOERUN_ERR_INFEASIBLE) goto done; /* a reason to stay */
  MOERUN_TRY(found);
done:
  return status;
}

/* Both candidates, and their bytes. */
static moerun_status make_candidates(replan *p) {
  moerun_status status = MOERUN_OK;
  moerun_placement *named = NULL;
  MOERUN_TRY(solve(p));
  if (p->solved != NULL) {
    MOERUN_TRY(name_parts(p));
    MOERUN_TRY(relabel(&named, p));
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
  }
done:
  moerun_placement_destroy(named);
  return status;
}

/* ---- The decision -------------------------------------------------------------- */

/* Whether any layer sends more than the weights of one expert: if not, nothing
 * that a solver can find repays a move. */
static int can_repay(const replan *p) {
  for (int32_t l = 0; l < p->current->num_layers; l++) {
    if ((double)p->before[l] * p->costs->horizon >
        (double)p->costs->expert_bytes[l]) {
      return 1;
    }
  }
  return 0;
}

/* Replicas of a layer that ranks lack now. */
static int64_t count_lacking(const moerun_placement *now,
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
  for (int c = 0; c < NUM_CANDIDATES; c++) {
    if (p->candidate[c] == NULL) continue;
    const int64_t lacking = count_lacking(p->current, p->candidate[c], l);
    const int64_t gained =
        llround((double)(p->before[l] - p->after[c][l]) * p->costs->horizon);
    const int64_t net = gained - lacking * p->costs->expert_bytes[l];
    if (net <= best) continue;
    best = net;
    experts = lacking;
    saved = gained;
    p->choice[l] = c + 1;
  }
  out->experts_moved += experts;
  out->bytes_moved += experts * p->costs->expert_bytes[l];
  out->bytes_saved += saved;
}

/* The layers chosen, the current ones elsewhere; NULL if there are none. */
static moerun_status join(replan *p, moerun_placement **out) {
  moerun_status status = MOERUN_OK;
  int32_t *offset = NULL;
  int32_t *rank_of = NULL;
  const int32_t L = p->current->num_layers;
  const int32_t E = p->current->num_experts;
  const size_t entries = (size_t)L * (size_t)E;
  size_t most = (size_t)p->current->replica_offset[entries];
  int32_t changes = 0;
  for (int32_t l = 0; l < L; l++) {
    changes += p->choice[l] > 0;
  }
  for (int c = 0; c < NUM_CANDIDATES; c++) {
    if (p->candidate[c] == NULL) continue;
    most += (size_t)p->candidate[c]->replica_offset[entries];
  }
  if (changes == 0) return MOERUN_OK;
  MOERUN_TRY(moerun__alloc(&offset, entries + 1, sizeof *offset));
  MOERUN_TRY(moerun__alloc(&rank_of, most, sizeof *rank_of));
  int32_t next = 0;
  for (int32_t n = 0; n < L * E; n++) {
    const int32_t choice = p->choice[n / E];
    const moerun_placement *from =
        choice > 0 ? p->candidate[choice - 1] : p->current;
    offset[n] = next;
    for (int32_t i = from->replica_offset[n]; i < from->replica_offset[n + 1];
         i++) {
      rank_of[next++] = from->rank_of[i];
    }
  }
  offset[entries] = next;
  MOERUN_TRY(moerun__placement_create(out, L, E, p->current->num_ranks, offset,
                                      rank_of, "replaced"));
done:
  moerun__free(offset);
  moerun__free(rank_of);
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
  const moerun__problem_options home = {.objective = MOERUN_OBJECTIVE_FANOUT};
  replan p = {
      .current = current, .train = train, .judge = judge, .costs = costs};
  memset(out, 0, sizeof *out);
  MOERUN_TRY(check(current, train));
  MOERUN_TRY(check(current, judge));
  MOERUN_TRY(allocate(&p));
  MOERUN_TRY(moerun__replan_bytes(p.before, current, judge, costs));
  if (!can_repay(&p)) goto done;
  MOERUN_TRY(make_topology(&p.topology, current->num_ranks));
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
