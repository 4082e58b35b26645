/* In home mode the rows of a layer depend on that layer's placement alone, so
 * each layer is a decision of its own: change it if the bytes of rows that the
 * change saves until the next decision exceed the bytes of weights that it
 * moves. A solver knows parts, not ranks; a solution with its parts named by
 * chance would move nearly every expert. The parts of each layer are therefore
 * given to ranks by an assignment problem whose gains are exactly the two
 * things that depend on the names: weights that can stay where they are and
 * rows that stay at home. */
#include "placement/replan.h"

#include "placement/assignment.h"
#include "placement/method.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

typedef struct replan {
  const moerun_placement *current;
  const moerun__trace *train;
  const moerun__trace *judge;
  const moerun__replan_costs *costs;
  moerun__topology *topology;
  moerun__problem *problem;
  moerun_placement *solved;    /* parts of any name */
  moerun_placement *candidate; /* named by ranks */
  int32_t *rank_of;            /* [L][E] of the candidate */
  int64_t *gain;               /* [R parts][R ranks] */
  int32_t *label;              /* [R] rank of each part */
  int32_t *room;               /* [R] 1 each */
  int64_t *seen;               /* [R] last token that saw the part */
  int64_t *before;             /* [L] bytes of rows, once */
  int64_t *after;
  uint8_t *changes; /* [L] */
} replan;

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
  const size_t E = (size_t)p->current->num_experts;
  const size_t R = (size_t)p->current->num_ranks;
  MOERUN_TRY(moerun__alloc(&p->rank_of, L * E, sizeof *p->rank_of));
  MOERUN_TRY(moerun__alloc(&p->gain, R * R, sizeof *p->gain));
  MOERUN_TRY(moerun__alloc(&p->label, R, sizeof *p->label));
  MOERUN_TRY(moerun__alloc(&p->room, R, sizeof *p->room));
  MOERUN_TRY(moerun__alloc(&p->seen, R, sizeof *p->seen));
  MOERUN_TRY(moerun__alloc(&p->before, L, sizeof *p->before));
  MOERUN_TRY(moerun__alloc(&p->after, L, sizeof *p->after));
  MOERUN_TRY(moerun__alloc(&p->changes, L, sizeof *p->changes));
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
  moerun_placement_destroy(p->candidate);
  moerun__free(p->rank_of);
  moerun__free(p->gain);
  moerun__free(p->label);
  moerun__free(p->room);
  moerun__free(p->seen);
  moerun__free(p->before);
  moerun__free(p->after);
  moerun__free(p->changes);
}

static moerun_status make_topology(moerun__topology **out, int32_t num_ranks) {
  char line[32];
  (void)snprintf(line, sizeof line, "%d rank%s", num_ranks,
                 num_ranks == 1 ? "" : "s");
  return moerun__topology_parse(out, line);
}

/* ---- Parts to ranks ---------------------------------------------------------- */

/* Rows that stay at home if part p is rank r, in bytes. */
static void add_rows_at_home(replan *p, int32_t layer) {
  const moerun__trace *trace = p->train;
  const size_t R = (size_t)p->current->num_ranks;
  const double horizon = p->costs->horizon * (double)p->judge->num_tokens /
                         (double)trace->num_tokens;
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
        const size_t part = (size_t)p->solved->rank_of[offset[ids[j]]];
        int64_t *gain = &p->gain[part * R + (size_t)trace->home[s]];
        *gain += p->costs->result_bytes;
        if (p->seen[part] == t + 1) continue;
        *gain += p->costs->copy_bytes;
        p->seen[part] = t + 1;
      }
    }
  }
  for (size_t i = 0; i < R * R; i++) {
    p->gain[i] = llround((double)p->gain[i] * horizon);
  }
}

/* Weights that stay where they are. */
static void add_kept(replan *p, int32_t layer) {
  const int32_t E = p->current->num_experts;
  const size_t R = (size_t)p->current->num_ranks;
  for (int32_t n = layer * E; n < (layer + 1) * E; n++) {
    const size_t part =
        (size_t)p->solved->rank_of[p->solved->replica_offset[n]];
    for (int32_t i = p->current->replica_offset[n];
         i < p->current->replica_offset[n + 1]; i++) {
      p->gain[part * R + (size_t)p->current->rank_of[i]] +=
          p->costs->expert_bytes[layer];
    }
  }
}

static moerun_status name_parts(replan *p) {
  moerun_status status = MOERUN_OK;
  const moerun_placement *solved = p->solved;
  const int32_t E = solved->num_experts;
  const int32_t R = solved->num_ranks;
  for (int32_t l = 0; l < solved->num_layers; l++) {
    memset(p->gain, 0, (size_t)R * (size_t)R * sizeof *p->gain);
    add_rows_at_home(p, l);
    add_kept(p, l);
    MOERUN_TRY(moerun__transport(p->label, p->gain, R, R, p->room));
    for (int32_t n = l * E; n < (l + 1) * E; n++) {
      p->rank_of[n] = p->label[solved->rank_of[solved->replica_offset[n]]];
    }
  }
  MOERUN_TRY(moerun_placement_create(&p->candidate, solved->num_layers, E, R,
                                     p->rank_of));
done:
  return status;
}

/* ---- The decision -------------------------------------------------------------- */

static int is_on(const moerun_placement *placement, int32_t n, int32_t rank) {
  for (int32_t i = placement->replica_offset[n];
       i < placement->replica_offset[n + 1]; i++) {
    if (placement->rank_of[i] == rank) return 1;
  }
  return 0;
}

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

static int choose_layers(replan *p, moerun__replan_verdict *out) {
  const int32_t E = p->current->num_experts;
  int any = 0;
  for (int32_t l = 0; l < p->current->num_layers; l++) {
    int64_t lacking = 0;
    for (int32_t n = l * E; n < (l + 1) * E; n++) {
      lacking += !is_on(p->current, n, p->rank_of[n]);
    }
    const int64_t moved = lacking * p->costs->expert_bytes[l];
    const int64_t saved =
        llround((double)(p->before[l] - p->after[l]) * p->costs->horizon);
    if (saved <= moved) continue;
    p->changes[l] = 1;
    any = 1;
    out->experts_moved += lacking;
    out->bytes_moved += moved;
    out->bytes_saved += saved;
  }
  return any;
}

/* The candidate's layers where it repays, the current ones elsewhere. */
static moerun_status join(replan *p, moerun_placement **out) {
  moerun_status status = MOERUN_OK;
  int32_t *offset = NULL;
  int32_t *rank_of = NULL;
  const int32_t L = p->current->num_layers;
  const int32_t E = p->current->num_experts;
  const size_t entries = (size_t)L * (size_t)E;
  const size_t most = (size_t)p->current->replica_offset[entries];
  MOERUN_TRY(moerun__alloc(&offset, entries + 1, sizeof *offset));
  MOERUN_TRY(moerun__alloc(&rank_of, most, sizeof *rank_of));
  int32_t next = 0;
  for (int32_t n = 0; n < L * E; n++) {
    const moerun_placement *from =
        p->changes[n / E] ? p->candidate : p->current;
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
  const moerun__method_options seeded = {.seed = 0};
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
  MOERUN_TRY(moerun__place(&p.solved, NULL, NULL, p.problem,
                           moerun__method_find("cd"), &seeded));
  MOERUN_TRY(name_parts(&p));
  MOERUN_TRY(moerun__replan_bytes(p.after, p.candidate, judge, costs));
  if (choose_layers(&p, out)) MOERUN_TRY(join(&p, &out->placement));
done:
  clear(&p);
  return status;
}
