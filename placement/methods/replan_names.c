/* A solver knows parts, not ranks; a solution with its parts named by chance
 * would move nearly every expert. The parts of each layer are therefore given
 * to ranks by an assignment problem whose gains are exactly the two things that
 * depend on the names: weights that can stay where they are and rows that stay
 * at home. */
#include "placement/methods/replan_names.h"

#include "placement/judge/assignment.h"
#include "runtime/base/memory.h"

#include <math.h>
#include <string.h>

typedef struct names {
  const moerun__naming *by;
  int64_t *gain;  /* [R parts][R ranks] */
  int32_t *label; /* [L][R] rank of each part */
  int32_t *room;  /* [R] 1 each */
  int64_t *seen;  /* [R] last token that saw the part */
} names;

static moerun_status allocate(names *n) {
  moerun_status status = MOERUN_OK;
  const size_t L = (size_t)n->by->current->num_layers;
  const size_t R = (size_t)n->by->current->num_ranks;
  MOERUN_TRY(moerun__alloc(&n->gain, R * R, sizeof *n->gain));
  MOERUN_TRY(moerun__alloc(&n->label, L * R, sizeof *n->label));
  MOERUN_TRY(moerun__alloc(&n->room, R, sizeof *n->room));
  MOERUN_TRY(moerun__alloc(&n->seen, R, sizeof *n->seen));
  for (size_t r = 0; r < R; r++) {
    n->room[r] = 1;
  }
done:
  return status;
}

static void clear(names *n) {
  moerun__free(n->gain);
  moerun__free(n->label);
  moerun__free(n->room);
  moerun__free(n->seen);
}

/* Rows that stay at home if part p is rank r, in bytes; with replicas, those
 * that can. */
static void add_rows_at_home(names *n, int32_t layer) {
  const moerun__naming *by = n->by;
  const moerun__trace *trace = by->trace;
  const size_t R = (size_t)by->current->num_ranks;
  const int32_t *offset =
      by->solved->replica_offset + (size_t)layer * (size_t)trace->num_experts;
  memset(n->seen, 0, R * sizeof *n->seen);
  for (int64_t s = 0; s < trace->num_sequences; s++) {
    for (int64_t t = trace->sequence_offset[s];
         t < trace->sequence_offset[s + 1]; t++) {
      const int16_t *ids =
          trace->ids +
          (size_t)(t * trace->num_layers + layer) * (size_t)trace->num_terms;
      for (int32_t j = 0; j < trace->num_terms; j++) {
        if (ids[j] < 0) continue;
        for (int32_t i = offset[ids[j]]; i < offset[ids[j] + 1]; i++) {
          const size_t part = (size_t)by->solved->rank_of[i];
          int64_t *gain = &n->gain[part * R + (size_t)trace->home[s]];
          *gain += by->costs->result_bytes;
          if (n->seen[part] == t + 1) continue;
          *gain += by->costs->copy_bytes;
          n->seen[part] = t + 1;
        }
      }
    }
  }
  for (size_t i = 0; i < R * R; i++) {
    n->gain[i] = llround((double)n->gain[i] * by->horizon);
  }
}

/* Weights that stay where they are. */
static void add_kept(names *n, int32_t layer) {
  const moerun_placement *now = n->by->current;
  const moerun_placement *solved = n->by->solved;
  const int32_t E = now->num_experts;
  const size_t R = (size_t)now->num_ranks;
  for (int32_t e = layer * E; e < (layer + 1) * E; e++) {
    for (int32_t i = solved->replica_offset[e];
         i < solved->replica_offset[e + 1]; i++) {
      int64_t *gain = n->gain + (size_t)solved->rank_of[i] * R;
      for (int32_t k = now->replica_offset[e]; k < now->replica_offset[e + 1];
           k++) {
        gain[now->rank_of[k]] += n->by->costs->expert_bytes[layer];
      }
    }
  }
}

/* A part is made for the speed of its rank. */
static void keep_speeds_apart(names *n) {
  const double *speed = n->by->speed;
  const size_t R = (size_t)n->by->current->num_ranks;
  for (size_t i = 0; i < R * R; i++) {
    const double more = speed[i % R] - speed[i / R];
    if (more < 0 || more > 0) n->gain[i] = -MOERUN_FORBIDDEN;
  }
}

static moerun_status relabel(moerun_placement **out, const names *n) {
  moerun_status status = MOERUN_OK;
  const moerun_placement *solved = n->by->solved;
  const int32_t E = solved->num_experts;
  const int32_t R = solved->num_ranks;
  const int32_t entries = solved->num_layers * E;
  int32_t *rank_of = NULL;
  MOERUN_TRY(moerun__alloc(&rank_of, (size_t)solved->replica_offset[entries],
                           sizeof *rank_of));
  for (int32_t e = 0; e < entries; e++) {
    const int32_t *label = n->label + (size_t)(e / E) * (size_t)R;
    const int32_t first = solved->replica_offset[e];
    for (int32_t i = first; i < solved->replica_offset[e + 1]; i++) {
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

moerun_status moerun__replan_name(moerun_placement **out,
                                  const moerun__naming *naming) {
  moerun_status status = MOERUN_OK;
  names n = {.by = naming};
  const size_t R = (size_t)naming->current->num_ranks;
  *out = NULL;
  MOERUN_TRY(allocate(&n));
  for (int32_t l = 0; l < naming->current->num_layers; l++) {
    memset(n.gain, 0, R * R * sizeof *n.gain);
    add_rows_at_home(&n, l);
    add_kept(&n, l);
    keep_speeds_apart(&n);
    MOERUN_TRY(moerun__transport(n.label + (size_t)l * R, n.gain, (int32_t)R,
                                 (int32_t)R, n.room));
  }
  MOERUN_TRY(relabel(out, &n));
done:
  clear(&n);
  return status;
}
