/* What all transports share: their table, the public calls, buffers of those
 * that have no way of their own for them, the check of a row list, the sum over
 * a node, and the agreement that ends a set-up call. The agreement reduces the
 * status and the rank in one number, so that every rank can say who failed and
 * why without a second message. */
#include "comm/comm.h"

#include "runtime/base/memory.h"
#include "runtime/base/number.h"

#include <string.h>

#define ROW(name) &moerun__##name##_ops,
static const moerun__comm_ops *const transports[] = {MOERUN_TRANSPORT_MAP(ROW)
                                                         NULL};

const moerun__comm_ops *moerun__transport_for(const char *wanted,
                                              int32_t num_ranks) {
  const int is_auto = strcmp(wanted, "auto") == 0;
  for (int i = 0; transports[i] != NULL; i++) {
    if (is_auto ? num_ranks <= transports[i]->max_ranks
                : strcmp(transports[i]->name, wanted) == 0) {
      return transports[i];
    }
  }
  return NULL;
}

const char *moerun__transport_name_at(int i) {
  if (i == 0) return "auto";
  for (int t = 0; transports[t] != NULL; t++) {
    if (t == i - 1) return transports[t]->name;
  }
  return NULL;
}

int32_t moerun_comm_rank(const moerun_comm *comm) {
  return comm->rank;
}

int32_t moerun_comm_size(const moerun_comm *comm) {
  return comm->size;
}

void moerun_comm_destroy(moerun_comm *comm) {
  if (comm != NULL) comm->ops->destroy(comm);
}

moerun_status moerun__memory_check(const moerun_comm *comm,
                                   moerun__memory memory) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(
      memory == MOERUN_MEMORY_HOST ||
          (memory == MOERUN_MEMORY_DEVICE && comm->ops->device != NULL),
      MOERUN_ERR_INVALID,
      "rows: expected memory of the host, which is what transport "
      "%s carries, found that of a device",
      comm->ops->name);
done:
  return status;
}

moerun_status moerun__host_buffer_create(void **out, moerun_comm *comm,
                                         size_t bytes, moerun__memory memory) {
  moerun_status status = MOERUN_OK;
  *out = NULL;
  MOERUN_TRY(moerun__memory_check(comm, memory));
  MOERUN_TRY(moerun__alloc_unset(out, bytes, 1));
done:
  return status;
}

size_t moerun__host_buffer_bytes(const moerun_comm *comm, size_t bytes,
                                 moerun__memory memory) {
  (void)comm;
  (void)memory;
  return moerun__alloc_bytes(bytes, 1);
}

void moerun__host_buffer_destroy(moerun_comm *comm, void *buffer,
                                 moerun__memory memory) {
  (void)comm;
  (void)memory;
  moerun__free(buffer);
}

moerun__row_list moerun__one_row(const void *row, size_t row_bytes,
                                 int32_t peer, moerun__memory memory) {
  static const int32_t offset[] = {0, 1};
  return (moerun__row_list){(void *)row, row_bytes, offset,
                            peer,        peer + 1,  memory};
}

moerun_status moerun__row_list_check(const moerun_comm *comm, int32_t tag,
                                     const moerun__row_list *list) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(tag >= 0 && tag < MOERUN_TAG_END, MOERUN_ERR_INVALID,
                 "rows: tag: expected 0 to %d, found %d", MOERUN_TAG_END - 1,
                 tag);
  MOERUN_REQUIRE(list->row_bytes >= 1 && list->row_bytes <= INT32_MAX,
                 MOERUN_ERR_INVALID,
                 "rows: row_bytes: expected 1 to %d, found %zu", INT32_MAX,
                 list->row_bytes);
  MOERUN_REQUIRE(list->first_peer >= 0 && list->first_peer <= list->last_peer &&
                     list->last_peer <= comm->size,
                 MOERUN_ERR_INVALID,
                 "rows: expected peers within 0 to %d, found %d to %d",
                 comm->size, list->first_peer, list->last_peer);
  MOERUN_TRY(moerun__memory_check(comm, list->memory));
done:
  return status;
}

/* status * 2^32 + rank: the minimum is the gravest status and, among those,
 * the lowest rank; not negative when all are well. */
enum { RANK_BITS = 32 };

moerun_status moerun__comm_agree(moerun_comm *comm, moerun_status status) {
  int64_t verdict = (int64_t)status * ((int64_t)1 << RANK_BITS) + comm->rank;
  const moerun_status reduced = comm->ops->minimum(comm, &verdict);
  if (status != MOERUN_OK) return status;
  if (reduced != MOERUN_OK) return reduced;
  if (verdict >= 0) return MOERUN_OK;
  const int64_t rank = verdict & (((int64_t)1 << RANK_BITS) - 1);
  const int64_t code = (verdict - rank) / ((int64_t)1 << RANK_BITS);
  return moerun__fail(MOERUN_ERR_PEER, __FILE__, __LINE__,
                      "rank %d reported an error: %s", (int)rank,
                      moerun_status_string((moerun_status)code));
}

moerun_status moerun__comm_agree_after_root(moerun_comm *comm,
                                            moerun_status status) {
  /* What fails here breaks the comm, and so fails the agreement. */
  (void)comm->ops->wait_for_root(comm);
  return moerun__comm_agree(comm, status);
}

/* The sums twice, a word of each rank and what it tells. */
size_t moerun__news_room(int32_t num_ranks, const moerun__news *news) {
  const size_t R = (size_t)num_ranks;
  return (size_t)news->num_least + 2 * (size_t)news->num_sums +
         R * (size_t)news->width + (news->count_width > 0 ? R : 0);
}

/* One message goes out, one comes in: their words, and how they travel. */
size_t moerun__news_scratch(int32_t num_ranks, const moerun__news *news) {
  const size_t R = (size_t)num_ranks;
  const size_t room = moerun__news_room(num_ranks, news);
  return 2 * (room + moerun__packed_words(room)) +
         (news->count_width > 0 ? R + (size_t)news->count_width : 0);
}

moerun_status moerun__comm_share_words(moerun_comm *comm, int32_t *words,
                                       int32_t width, int32_t *scratch) {
  const moerun__news news = {
      .width = width, .words = words, .scratch = scratch};
  return comm->ops->tell(comm, &news);
}

moerun_status moerun__comm_sum(moerun_comm *comm, int32_t *sum, int32_t n,
                               int32_t *scratch) {
  const moerun__news news = {.num_sums = n, .sum = sum, .scratch = scratch};
  return comm->ops->tell(comm, &news);
}

/* What a rank of a node gives. */
typedef struct node_part {
  int64_t value;
  int64_t rank;
} node_part;

moerun_status moerun__comm_sum_node(moerun_comm *comm, moerun__node *node,
                                    int64_t value) {
  moerun_status status = MOERUN_OK;
  moerun_comm *local = NULL;
  node_part *parts = NULL;
  const node_part own = {value, comm->rank};
  MOERUN_TRY(comm->ops->split(&local, comm, MOERUN_LEVEL_NODE));
  MOERUN_TRY(moerun__comm_agree(
      local, moerun__alloc(&parts, (size_t)local->size, sizeof *parts)));
  MOERUN_TRY(local->ops->gather(local, parts, &own, sizeof own));
  *node = (moerun__node){.ranks = local->size,
                         .first = moerun__to_int(parts[0].rank)};
  for (int32_t r = 0; r < local->size; r++) {
    node->sum += parts[r].value; /* of rank 0 alone */
  }
  MOERUN_TRY(local->ops->broadcast(local, node, sizeof *node));
done:
  moerun__free(parts);
  moerun_comm_destroy(local);
  return status;
}
