/* How the decisions of all ranks become one placement: rank 0 puts the layers
 * together and tells the others, so that all do the same whatever each of them
 * has computed. */
#include "runtime/serve/replacer.h"

#include "runtime/base/memory.h"

#include <string.h>

/* Rank 0's verdict. */
typedef struct verdict {
  int32_t status;
  int32_t moves;
  int64_t num_replicas; /* of the new placement */
  moerun__replace_count count;
} verdict;

/* ---- On rank 0 ----------------------------------------------------------- */

/* The first status that is not OK, and the sums. */
static moerun_status add_parts(const moerun__replacer *r,
                               moerun__replace_count *count) {
  moerun_status first = MOERUN_OK;
  for (int32_t rank = 0; rank < r->model->comm->size; rank++) {
    moerun__part_head head;
    memcpy(&head, r->parts + (size_t)rank * r->part_bytes, sizeof head);
    if (first == MOERUN_OK) first = (moerun_status)head.status;
    count->experts_moved += head.count.experts_moved;
    count->bytes_moved += head.count.bytes_moved;
    count->bytes_predicted += head.count.bytes_predicted;
    count->bytes_counted += head.count.bytes_counted;
    count->rows_predicted += head.count.rows_predicted;
  }
  return first;
}

/* hosted[R][slots] of a layer, of the rank that has decided for it. */
static const int32_t *hosted_of(const moerun__replacer *r, int32_t layer) {
  const int32_t R = r->model->comm->size;
  return moerun__replacer_hosted(
      r, r->parts + (size_t)(layer % R) * r->part_bytes, layer);
}

/* Ranks of an expert in a layer that changes: ascending; returns how many. */
static int32_t ranks_of(const moerun__replacer *r, const int32_t *hosted,
                        int32_t expert, int32_t *ranks) {
  int32_t count = 0;
  for (int32_t rank = 0; rank < r->model->comm->size; rank++) {
    for (int32_t s = 0; s < r->slots; s++) {
      if (hosted[rank * r->slots + s] == expert) ranks[count++] = rank;
    }
  }
  return count;
}

/* *next: all layers together; NULL if none changes. */
static moerun_status assemble(moerun_placement **next,
                              const moerun__replacer *r) {
  moerun_status status = MOERUN_OK;
  const moerun_placement *now = r->model->placement;
  const int32_t E = now->num_experts;
  const int32_t entries = now->num_layers * E;
  int32_t *offset = NULL;
  int32_t *rank_of = NULL;
  size_t most = (size_t)now->replica_offset[entries];
  int changes = 0;
  for (int32_t l = 0; l < now->num_layers; l++) {
    if (hosted_of(r, l)[-1] == 0) continue;
    changes = 1;
    most += r->layer_ints;
  }
  if (!changes) return MOERUN_OK;
  MOERUN_TRY(moerun__alloc(&offset, (size_t)entries + 1, sizeof *offset));
  MOERUN_TRY(moerun__alloc(&rank_of, most, sizeof *rank_of));
  int32_t count = 0;
  for (int32_t n = 0; n < entries; n++) {
    const int32_t *hosted = hosted_of(r, n / E);
    const int32_t first = now->replica_offset[n];
    offset[n] = count;
    if (hosted[-1] != 0) {
      count += ranks_of(r, hosted, n % E, rank_of + count);
      continue;
    }
    for (int32_t i = first; i < now->replica_offset[n + 1]; i++) {
      rank_of[count++] = now->rank_of[i];
    }
  }
  offset[entries] = count;
  MOERUN_TRY(moerun__placement_create(next, now->num_layers, E, now->num_ranks,
                                      offset, rank_of, "replaced"));
done:
  moerun__free(offset);
  moerun__free(rank_of);
  return status;
}

/* ---- On all ranks -------------------------------------------------------- */

/* Rank 0's `next` everywhere. */
static moerun_status receive_all(moerun__replacer *r, moerun_placement **next,
                                 int64_t num_replicas) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = r->model->comm;
  const moerun_placement *now = r->model->placement;
  const size_t entries = (size_t)now->num_layers * (size_t)now->num_experts + 1;
  const size_t replicas = (size_t)num_replicas;
  int32_t *offset = NULL;
  int32_t *rank_of = NULL;
  status = moerun__alloc(&offset, entries, sizeof *offset);
  if (status == MOERUN_OK) {
    status = moerun__alloc(&rank_of, replicas, sizeof *rank_of);
  }
  MOERUN_TRY(moerun__comm_agree(comm, status));
  if (*next != NULL) {
    memcpy(offset, (*next)->replica_offset, entries * sizeof *offset);
    memcpy(rank_of, (*next)->rank_of, replicas * sizeof *rank_of);
  }
  MOERUN_TRY(comm->ops->broadcast(comm, offset, entries * sizeof *offset));
  MOERUN_TRY(comm->ops->broadcast(comm, rank_of, replicas * sizeof *rank_of));
  if (*next == NULL) {
    status =
        moerun__placement_create(next, now->num_layers, now->num_experts,
                                 now->num_ranks, offset, rank_of, "replaced");
  }
  MOERUN_TRY(moerun__comm_agree(comm, status));
done:
  moerun__free(offset);
  moerun__free(rank_of);
  return status;
}

/* Own part to rank 0, its verdict to all; *next on rank 0. */
static moerun_status collect(moerun__replacer *r, moerun_placement **next,
                             verdict *word) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = r->model->comm;
  const moerun__part_head head = {(int64_t)r->solver.status, r->solver.count};
  memcpy(r->part, &head, sizeof head);
  MOERUN_TRY(comm->ops->gather(comm, r->parts, r->part, r->part_bytes));
  if (comm->rank == 0) {
    moerun_status found = add_parts(r, &word->count);
    if (found == MOERUN_OK) found = assemble(next, r);
    word->status = (int32_t)found;
    word->moves = *next != NULL;
    word->count.looks += r->decides;
    word->count.moves += word->moves;
    if (word->moves) {
      const int32_t entries = (*next)->num_layers * (*next)->num_experts;
      word->num_replicas = (*next)->replica_offset[entries];
    }
  }
  MOERUN_TRY(comm->ops->broadcast(comm, word, sizeof *word));
done:
  return status;
}

moerun_status moerun__replacer_agree(moerun__replacer *r,
                                     moerun_placement **next) {
  moerun_status status = MOERUN_OK;
  moerun_placement *found = NULL;
  verdict word = {.count = r->count};
  *next = NULL;
  MOERUN_TRY(collect(r, &found, &word));
  MOERUN_REQUIRE(r->solver.status == MOERUN_OK, r->solver.status, "%s",
                 r->solver.error);
  MOERUN_REQUIRE(word.status == MOERUN_OK, MOERUN_ERR_PEER,
                 "a look at the routing failed on another rank: %s",
                 moerun_status_string((moerun_status)word.status));
  r->count = word.count;
  if (word.moves) MOERUN_TRY(receive_all(r, &found, word.num_replicas));
  *next = found;
  found = NULL;
done:
  moerun_placement_destroy(found);
  return status;
}
