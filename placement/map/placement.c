/* The map replica -> (rank, slot). All ways to make one end in
 * moerun__placement_create, which copies the ranks of every replica and derives
 * the slots: on each (layer, rank) they are given out in ascending expert
 * order. So the ranks alone describe a placement, and two programs that agree
 * on them agree on the slots. */
#include "placement/map/placement.h"

#include "placement/map/certificate.h"
#include "runtime/base/blocks.h"
#include "runtime/base/memory.h"

#include <string.h>

static moerun_status check_sizes(int32_t num_layers, int32_t num_experts,
                                 int32_t num_ranks) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(num_layers >= 1 && num_layers <= MOERUN_PLACEMENT_MAX_LAYERS,
                 MOERUN_ERR_INVALID,
                 "placement: layers: expected 1 to %d, found %d",
                 MOERUN_PLACEMENT_MAX_LAYERS, num_layers);
  MOERUN_REQUIRE(
      num_experts >= 1 && num_experts <= MOERUN_PLACEMENT_MAX_EXPERTS,
      MOERUN_ERR_INVALID, "placement: experts: expected 1 to %d, found %d",
      MOERUN_PLACEMENT_MAX_EXPERTS, num_experts);
  MOERUN_REQUIRE(num_ranks >= 1 && num_ranks <= MOERUN_PLACEMENT_MAX_RANKS,
                 MOERUN_ERR_INVALID,
                 "placement: ranks: expected 1 to %d, found %d",
                 MOERUN_PLACEMENT_MAX_RANKS, num_ranks);
  MOERUN_REQUIRE(
      (int64_t)num_layers * num_experts <= MOERUN_PLACEMENT_MAX_ENTRIES &&
          (int64_t)num_layers * num_ranks <= MOERUN_PLACEMENT_MAX_ENTRIES,
      MOERUN_ERR_INVALID,
      "placement: expected layers x experts and layers x ranks of "
      "at most %d, found %lld and %lld",
      MOERUN_PLACEMENT_MAX_ENTRIES, (long long)num_layers * num_experts,
      (long long)num_layers * num_ranks);
done:
  return status;
}

/* Replicas first .. end-1 of entry n = layer * E + expert. */
static moerun_status check_entry(int32_t n, int32_t num_experts,
                                 int32_t num_ranks, int32_t first, int32_t end,
                                 const int32_t *rank_of) {
  moerun_status status = MOERUN_OK;
  const int32_t layer = n / num_experts;
  const int32_t expert = n % num_experts;
  MOERUN_REQUIRE(end > first, MOERUN_ERR_INVALID,
                 "placement: layer %d, expert %d: expected at least one "
                 "replica, found %lld",
                 layer, expert, (long long)end - first);
  MOERUN_REQUIRE(end <= MOERUN_PLACEMENT_MAX_REPLICAS, MOERUN_ERR_INVALID,
                 "placement: layer %d, expert %d: expected at most %d replicas "
                 "in all, found %d",
                 layer, expert, MOERUN_PLACEMENT_MAX_REPLICAS, end);
  for (int32_t i = first; i < end; i++) {
    MOERUN_REQUIRE(rank_of[i] >= 0 && rank_of[i] < num_ranks,
                   MOERUN_ERR_INVALID,
                   "placement: layer %d, expert %d: expected a rank from 0 to "
                   "%d, found %d",
                   layer, expert, num_ranks - 1, rank_of[i]);
    MOERUN_REQUIRE(i == first || rank_of[i] > rank_of[i - 1],
                   MOERUN_ERR_INVALID,
                   "placement: layer %d, expert %d: expected ascending ranks, "
                   "found %d after %d",
                   layer, expert, rank_of[i], rank_of[i - 1]);
  }
done:
  return status;
}

/* At least one replica per expert, ranks ascending within 0 .. R-1. */
static moerun_status check_replicas(int32_t num_layers, int32_t num_experts,
                                    int32_t num_ranks,
                                    const int32_t *replica_offset,
                                    const int32_t *rank_of) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(replica_offset[0] == 0, MOERUN_ERR_INVALID,
                 "placement: the first replica offset: expected 0, found %d",
                 replica_offset[0]);
  for (int32_t n = 0; n < num_layers * num_experts; n++) {
    MOERUN_TRY(check_entry(n, num_experts, num_ranks, replica_offset[n],
                           replica_offset[n + 1], rank_of));
  }
done:
  return status;
}

/* Replica offsets [E + 1] of the experts of one layer. */
static const int32_t *layer_offset(const moerun_placement *placement,
                                   int32_t layer) {
  return placement->replica_offset +
         (size_t)layer * (size_t)placement->num_experts;
}

/* Slots used [R] on the ranks in one layer. */
static int32_t *layer_slots(const moerun_placement *placement, int32_t layer) {
  return placement->slot_count + (size_t)layer * (size_t)placement->num_ranks;
}

/* The next free slot on each replica's rank, experts ascending; slot_count and
 * most_slots must be zero. */
static void derive_slots(moerun_placement *placement) {
  for (int32_t l = 0; l < placement->num_layers; l++) {
    const int32_t *offset = layer_offset(placement, l);
    int32_t *used = layer_slots(placement, l);
    for (int32_t i = offset[0]; i < offset[placement->num_experts]; i++) {
      placement->slot_of[i] = used[placement->rank_of[i]]++;
      if (placement->slot_of[i] >= placement->most_slots) {
        placement->most_slots = placement->slot_of[i] + 1;
      }
    }
  }
}

moerun_status moerun__placement_create(moerun_placement **out,
                                       int32_t num_layers, int32_t num_experts,
                                       int32_t num_ranks,
                                       const int32_t *replica_offset,
                                       const int32_t *rank_of,
                                       const char *method) {
  moerun_status status = MOERUN_OK;
  moerun_placement *placement = NULL;
  *out = NULL;
  MOERUN_TRY(check_sizes(num_layers, num_experts, num_ranks));
  MOERUN_TRY(check_replicas(num_layers, num_experts, num_ranks, replica_offset,
                            rank_of));
  const size_t entries = (size_t)num_layers * (size_t)num_experts;
  const size_t replicas = (size_t)replica_offset[entries];
  MOERUN_TRY(moerun__alloc(&placement, 1, sizeof *placement));
  placement->num_layers = num_layers;
  placement->num_experts = num_experts;
  placement->num_ranks = num_ranks;
  MOERUN_TRY(moerun__alloc(&placement->replica_offset, entries + 1,
                           sizeof *placement->replica_offset));
  MOERUN_TRY(
      moerun__alloc(&placement->rank_of, replicas, sizeof *placement->rank_of));
  MOERUN_TRY(
      moerun__alloc(&placement->slot_of, replicas, sizeof *placement->slot_of));
  MOERUN_TRY(moerun__alloc(&placement->slot_count,
                           (size_t)num_layers * (size_t)num_ranks,
                           sizeof *placement->slot_count));
  MOERUN_TRY(moerun__copy_text(&placement->model, ""));
  MOERUN_TRY(moerun__copy_text(&placement->method, method));
  memcpy(placement->replica_offset, replica_offset,
         (entries + 1) * sizeof *replica_offset);
  memcpy(placement->rank_of, rank_of, replicas * sizeof *rank_of);
  derive_slots(placement);
  *out = placement;
  placement = NULL;
done:
  moerun_placement_destroy(placement);
  return status;
}

/* One replica per expert: entry n's is replica n. */
static moerun_status create_single(moerun_placement **out, int32_t num_layers,
                                   int32_t num_experts, int32_t num_ranks,
                                   const int32_t *rank_of_expert,
                                   const char *method) {
  moerun_status status = MOERUN_OK;
  int32_t *replica_offset = NULL;
  *out = NULL;
  MOERUN_TRY(check_sizes(num_layers, num_experts, num_ranks));
  const int32_t entries = num_layers * num_experts;
  MOERUN_TRY(moerun__alloc(&replica_offset, (size_t)entries + 1,
                           sizeof *replica_offset));
  for (int32_t n = 0; n <= entries; n++) {
    replica_offset[n] = n;
  }
  MOERUN_TRY(moerun__placement_create(out, num_layers, num_experts, num_ranks,
                                      replica_offset, rank_of_expert, method));
done:
  moerun__free(replica_offset);
  return status;
}

moerun_status moerun_placement_create(moerun_placement **out,
                                      int32_t num_layers, int32_t num_experts,
                                      int32_t num_ranks,
                                      const int32_t *rank_of_expert) {
  moerun_status status = MOERUN_OK;
  *out = NULL;
  MOERUN_REQUIRE(rank_of_expert != NULL, MOERUN_ERR_INVALID,
                 "moerun_placement_create: rank_of_expert is NULL");
  MOERUN_TRY(create_single(out, num_layers, num_experts, num_ranks,
                           rank_of_expert, "given"));
done:
  return status;
}

moerun_status moerun_placement_create_block(moerun_placement **out,
                                            int32_t num_layers,
                                            int32_t num_experts,
                                            int32_t num_ranks) {
  moerun_status status = MOERUN_OK;
  int32_t *rank_of_expert = NULL;
  *out = NULL;
  MOERUN_TRY(check_sizes(num_layers, num_experts, num_ranks));
  const int32_t entries = num_layers * num_experts;
  MOERUN_TRY(
      moerun__alloc(&rank_of_expert, (size_t)entries, sizeof *rank_of_expert));
  for (int32_t n = 0; n < entries; n++) {
    rank_of_expert[n] =
        moerun__block_rank(n % num_experts, num_experts, num_ranks);
  }
  MOERUN_TRY(create_single(out, num_layers, num_experts, num_ranks,
                           rank_of_expert, "block"));
done:
  moerun__free(rank_of_expert);
  return status;
}

moerun_status moerun__placement_name_model(moerun_placement *placement,
                                           const char *name) {
  moerun__free(placement->model);
  placement->model = NULL;
  return moerun__copy_text(&placement->model, name);
}

void moerun_placement_destroy(moerun_placement *placement) {
  if (placement == NULL) return;
  moerun__free(placement->replica_offset);
  moerun__free(placement->rank_of);
  moerun__free(placement->slot_of);
  moerun__free(placement->slot_count);
  moerun__free(placement->model);
  moerun__free(placement->method);
  moerun__certificate_destroy(placement->certificate);
  moerun__free(placement);
}

moerun_status moerun__placement_join(moerun_placement **out, int32_t num_layers,
                                     const moerun_placement *const *from,
                                     const int32_t *of_layer,
                                     const char *method) {
  moerun_status status = MOERUN_OK;
  int32_t *offset = NULL;
  int32_t *rank_of = NULL;
  const int32_t E = from[0]->num_experts;
  const size_t entries = (size_t)num_layers * (size_t)E;
  size_t replicas = 0;
  for (int32_t l = 0; l < num_layers; l++) {
    const int32_t first = (of_layer != NULL ? of_layer[l] : l) * E;
    replicas += (size_t)(from[l]->replica_offset[first + E] -
                         from[l]->replica_offset[first]);
  }
  MOERUN_TRY(moerun__alloc(&offset, entries + 1, sizeof *offset));
  MOERUN_TRY(moerun__alloc(&rank_of, replicas, sizeof *rank_of));
  int32_t next = 0;
  for (int32_t n = 0; n < num_layers * E; n++) {
    const moerun_placement *p = from[n / E];
    const int32_t at = of_layer != NULL ? of_layer[n / E] * E + n % E : n;
    offset[n] = next;
    for (int32_t i = p->replica_offset[at]; i < p->replica_offset[at + 1];
         i++) {
      rank_of[next++] = p->rank_of[i];
    }
  }
  offset[entries] = next;
  MOERUN_TRY(moerun__placement_create(out, num_layers, E, from[0]->num_ranks,
                                      offset, rank_of, method));
done:
  moerun__free(offset);
  moerun__free(rank_of);
  return status;
}

int32_t moerun_placement_num_layers(const moerun_placement *of) {
  return of->num_layers;
}

int32_t moerun_placement_num_experts(const moerun_placement *of) {
  return of->num_experts;
}

int32_t moerun_placement_num_ranks(const moerun_placement *of) {
  return of->num_ranks;
}

int32_t moerun_placement_slot(const moerun_placement *of, int32_t layer,
                              int32_t expert, int32_t rank) {
  if (layer < 0 || layer >= of->num_layers || expert < 0 ||
      expert >= of->num_experts) {
    return -1;
  }
  const int32_t *offset = layer_offset(of, layer) + expert;
  for (int32_t i = offset[0]; i < offset[1]; i++) {
    if (of->rank_of[i] == rank) return of->slot_of[i];
  }
  return -1;
}

int32_t moerun__placement_experts(const moerun_placement *placement,
                                  int32_t layer, int32_t rank,
                                  int32_t *experts) {
  const int32_t *offset = layer_offset(placement, layer);
  for (int32_t e = 0; experts != NULL && e < placement->num_experts; e++) {
    for (int32_t i = offset[e]; i < offset[e + 1]; i++) {
      if (placement->rank_of[i] == rank) experts[placement->slot_of[i]] = e;
    }
  }
  return layer_slots(placement, layer)[rank];
}

int32_t moerun__placement_max_slots(const moerun_placement *placement,
                                    int32_t rank) {
  int32_t most = 0;
  for (int32_t l = 0; l < placement->num_layers; l++) {
    const int32_t L = layer_slots(placement, l)[rank];
    if (L > most) most = L;
  }
  return most;
}

/* ---- Choice between replicas --------------------------------------------- */

/* What one token's choice is made from; replica_of[K] is filled as it goes. */
typedef struct choice {
  const moerun_placement *placement;
  const int32_t *offset; /* [E + 1] of the layer */
  const int32_t *ids;    /* [K] */
  int32_t *replica_of;   /* [K] */
  int32_t K;
  int32_t home;
} choice;

enum { NONE = -1, OPEN = -2 };

/* The replica of `expert` on `rank`, or NONE. */
static int32_t replica_on(const choice *from, int32_t expert, int32_t rank) {
  for (int32_t i = from->offset[expert]; i < from->offset[expert + 1]; i++) {
    if (from->placement->rank_of[i] == rank) return i;
  }
  return NONE;
}

/* A token already goes to the rank. */
static int is_visited(const choice *from, int32_t rank) {
  for (int32_t j = 0; j < from->K; j++) {
    const int32_t replica = from->replica_of[j];
    if (replica >= 0 && from->placement->rank_of[replica] == rank) return 1;
  }
  return 0;
}

/* Terms still open that the rank could serve. */
static int32_t open_count(const choice *from, int32_t rank) {
  int32_t count = 0;
  for (int32_t j = 0; j < from->K; j++) {
    if (from->replica_of[j] != OPEN) continue;
    count += replica_on(from, from->ids[j], rank) != NONE;
  }
  return count;
}

/* Several replicas, none at home. */
static int32_t choose_one(const choice *from, int32_t expert) {
  const int32_t first = from->offset[expert];
  const int32_t n = from->offset[expert + 1] - first;
  int32_t best = NONE;
  int32_t most = 0;
  for (int32_t i = 0; i < n; i++) {
    const int32_t replica = first + (from->home + i) % n;
    const int32_t rank = from->placement->rank_of[replica];
    const int32_t served =
        is_visited(from, rank) ? from->K + 1 : open_count(from, rank);
    if (served <= most) continue;
    best = replica;
    most = served;
  }
  return best;
}

void moerun__placement_choose(int32_t *replica_of_term,
                              const moerun_placement *placement, int32_t layer,
                              int32_t home, const int32_t *ids, int32_t K) {
  const choice from = {
      placement, layer_offset(placement, layer), ids, replica_of_term, K, home};
  int32_t open = 0;
  for (int32_t j = 0; j < K; j++) {
    replica_of_term[j] = NONE;
    if (ids[j] < 0) continue;
    replica_of_term[j] = from.offset[ids[j]];
    if (from.offset[ids[j] + 1] - from.offset[ids[j]] == 1) continue;
    replica_of_term[j] = replica_on(&from, ids[j], home);
    if (replica_of_term[j] != NONE) continue;
    replica_of_term[j] = OPEN;
    open++;
  }
  for (; open > 0; open--) { /* in expert order, whatever order they stand in */
    int32_t next = NONE;
    for (int32_t j = 0; j < K; j++) {
      if (replica_of_term[j] != OPEN) continue;
      if (next == NONE || ids[j] < ids[next]) next = j;
    }
    replica_of_term[next] = choose_one(&from, ids[next]);
  }
}

/* ---- Invariants ---------------------------------------------------------- */

/* used[R] is scratch. */
static moerun_status check_slots(const moerun_placement *placement, int32_t l,
                                 int32_t *used) {
  moerun_status status = MOERUN_OK;
  const int32_t R = placement->num_ranks;
  const int32_t *offset = layer_offset(placement, l);
  const int32_t *slot_count = layer_slots(placement, l);
  memset(used, 0, (size_t)R * sizeof *used);
  for (int32_t i = offset[0]; i < offset[placement->num_experts]; i++) {
    const int32_t rank = placement->rank_of[i];
    MOERUN_REQUIRE(placement->slot_of[i] == used[rank], MOERUN_ERR_INVALID,
                   "placement: layer %d, rank %d: expected slot %d next in "
                   "expert order, found %d",
                   l, rank, used[rank], placement->slot_of[i]);
    used[rank]++;
  }
  for (int32_t r = 0; r < R; r++) {
    MOERUN_REQUIRE(slot_count[r] == used[r], MOERUN_ERR_INVALID,
                   "placement: layer %d, rank %d: expected %d slots, found %d",
                   l, r, used[r], slot_count[r]);
  }
done:
  return status;
}

moerun_status moerun__placement_check(const moerun_placement *placement) {
  moerun_status status = MOERUN_OK;
  const int32_t E = placement->num_experts;
  const int32_t R = placement->num_ranks;
  int32_t *used = NULL;
  MOERUN_TRY(check_sizes(placement->num_layers, E, R));
  MOERUN_TRY(check_replicas(placement->num_layers, E, R,
                            placement->replica_offset, placement->rank_of));
  MOERUN_TRY(moerun__alloc(&used, (size_t)R, sizeof *used));
  for (int32_t l = 0; l < placement->num_layers; l++) {
    MOERUN_TRY(check_slots(placement, l, used));
  }
done:
  moerun__free(used);
  return status;
}
