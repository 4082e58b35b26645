/* Where more is promised than there is, Linux kills some process minutes later,
 * in the middle of loading, without a word. So the sum over the ranks of a node
 * is compared with what the node has before the first weight is read; and
 * guests and spare slots get what the rest of the prediction leaves. */
#include "launch/run/node_memory.h"

#include "launch/run/memory_left.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"

#include <stdio.h>
#include <string.h>

static const double gib = 1073741824.0;

/* ---- What is left -------------------------------------------------------- */

/* Of rank `rank`'s node, for each of its ranks. */
static int64_t share_of_node(const moerun__prediction *ranks,
                             const uint64_t *node, const int64_t *left,
                             int32_t num_ranks, int32_t rank) {
  int64_t least = INT64_MAX;
  size_t taken = 0;
  int64_t count = 0;
  for (int32_t r = 0; r < num_ranks; r++) {
    if (node[r] != node[rank]) continue;
    taken += moerun__prediction_total(&ranks[r]);
    if (left[r] < least) least = left[r];
    count++;
  }
  if (least == INT64_MAX) return least;
  return (size_t)least > taken ? (least - (int64_t)taken) / (2 * count) : 0;
}

int64_t moerun__bytes_that_fit(int64_t wanted, const moerun__prediction *ranks,
                               const uint64_t *node, const int64_t *left,
                               int32_t num_ranks) {
  int64_t least = wanted;
  for (int32_t r = 0; r < num_ranks; r++) {
    /* Ranks of a node are neighbours as a rule; else it is computed again. */
    if (r > 0 && node[r] == node[r - 1]) continue;
    const int64_t share = share_of_node(ranks, node, left, num_ranks, r);
    if (share < least) least = share;
  }
  return least;
}

moerun_status moerun__node_memory_left(moerun__memory_left *left,
                                       const moerun__config *config) {
  const int64_t given = moerun__config_int(config, "node_memory");
  if (given == 0) return moerun__memory_left_read(left, "");
  left->bytes = given << 20;
  (void)snprintf(left->source, sizeof left->source, "--node-memory");
  return MOERUN_OK;
}

/* A rank's node, by the lowest rank on it, and what is left there. */
typedef struct place {
  uint64_t node;
  int64_t left;
} place;

typedef struct places {
  place *of_rank; /* [R], on rank 0 like the others */
  uint64_t *node;
  int64_t *left;
} places;

static moerun_status make_places(places *p, const moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  const size_t R =
      moerun_comm_rank(comm) == 0 ? (size_t)moerun_comm_size(comm) : 0;
  MOERUN_TRY(moerun__alloc(&p->of_rank, R, sizeof *p->of_rank));
  MOERUN_TRY(moerun__alloc(&p->node, R, sizeof *p->node));
  MOERUN_TRY(moerun__alloc(&p->left, R, sizeof *p->left));
done:
  return status;
}

/* [collective] *bytes, of rank 0: what is wanted; everywhere: what fits beside
 * the predictions, which are rank 0's. */
static moerun_status fit(int64_t *bytes, const moerun__prediction *predicted,
                         const moerun__config *config, moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  moerun__memory_left left = {0};
  moerun__node node = {0};
  place own = {0};
  places all = {0};
  status = moerun__node_memory_left(&left, config);
  if (status == MOERUN_OK) status = make_places(&all, comm);
  MOERUN_TRY(moerun__comm_agree(comm, status));
  MOERUN_TRY(moerun__comm_sum_node(comm, &node, 0));
  own = (place){(uint64_t)node.first, left.bytes};
  MOERUN_TRY(comm->ops->gather(comm, all.of_rank, &own, sizeof own));
  if (moerun_comm_rank(comm) == 0) {
    for (int32_t r = 0; r < moerun_comm_size(comm); r++) {
      all.node[r] = all.of_rank[r].node;
      all.left[r] = all.of_rank[r].left;
    }
    *bytes = moerun__bytes_that_fit(*bytes, predicted, all.node, all.left,
                                    moerun_comm_size(comm));
  }
  MOERUN_TRY(comm->ops->broadcast(comm, bytes, sizeof *bytes));
done:
  moerun__free(all.of_rank);
  moerun__free(all.node);
  moerun__free(all.left);
  return status;
}

/* [collective] Sets guest_bytes of the predictions, which are rank 0's (NULL
 * elsewhere), to what fits, and *bytes, everywhere, to the guest_bytes of a
 * session. */
static moerun_status agree_guests(int64_t *bytes, moerun__prediction *predicted,
                                  const moerun__config *config,
                                  moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  const int32_t R = moerun_comm_rank(comm) == 0 ? moerun_comm_size(comm) : 0;
  *bytes = moerun__config_int(config, "guest_memory") * (INT64_C(1) << 20);
  if (*bytes != 0 || moerun_comm_size(comm) == 1) goto done;
  if (moerun_comm_rank(comm) == 0) *bytes = (int64_t)predicted[0].guest_bytes;
  for (int32_t r = 0; r < R; r++) {
    predicted[r].guest_bytes = 0;
  }
  MOERUN_TRY(fit(bytes, predicted, config, comm));
  for (int32_t r = 0; r < R; r++) {
    predicted[r].guest_bytes = (size_t)*bytes;
  }
  if (*bytes == 0) *bytes = -1; /* none: 0 would be the default */
done:
  return status;
}

/* [collective] After the guests: sets spare_bytes of the predictions to what
 * fits, and *slots, everywhere, to how many spare slots that is. */
static moerun_status agree_spare(int32_t *slots, moerun__prediction *predicted,
                                 const moerun__config *config,
                                 const moerun_placement *placement,
                                 moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  const int32_t R = moerun_comm_rank(comm) == 0 ? moerun_comm_size(comm) : 0;
  const int32_t wanted =
      moerun__replace_options_of(config, placement).spare_slots;
  size_t most = 0;
  int64_t bytes = 0;
  *slots = wanted;
  if (moerun__config_int(config, "spare_slots") >= 0 || wanted == 0 ||
      !moerun__replaces(config, moerun_comm_size(comm))) {
    goto done;
  }
  for (int32_t r = 0; r < R; r++) {
    if (predicted[r].spare_bytes > most) most = predicted[r].spare_bytes;
    predicted[r].spare_bytes = 0;
  }
  bytes = (int64_t)most;
  MOERUN_TRY(fit(&bytes, predicted, config, comm));
  if (moerun_comm_rank(comm) == 0 && most > 0) {
    *slots = (int32_t)((double)wanted * (double)bytes / (double)most);
  }
  MOERUN_TRY(comm->ops->broadcast(comm, slots, sizeof *slots));
  for (int32_t r = 0; r < R; r++) {
    predicted[r].spare_bytes = most / (size_t)wanted * (size_t)*slots;
  }
done:
  return status;
}

/* [collective] Whether all ranks fit their nodes. */
static moerun_status agree_fits(int *fits, const moerun__prediction *predicted,
                                const moerun__config *config,
                                moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  int64_t byte = 1;
  MOERUN_TRY(fit(&byte, predicted, config, comm));
  *fits = byte > 0;
done:
  return status;
}

moerun_status moerun__memory_settle(moerun__settled *out,
                                    moerun__prediction **predicted,
                                    const moerun__config *config,
                                    const moerun_placement *placement,
                                    const moerun__cache_need *need,
                                    unsigned how, moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  int fits = 1;
  out->how = how;
  MOERUN_TRY(agree_guests(&out->guest_bytes, *predicted, config, comm));
  MOERUN_TRY(
      agree_spare(&out->spare_slots, *predicted, config, placement, comm));
  out->replaces = moerun__replaces(config, moerun_comm_size(comm));
  if (out->replaces && moerun__config_int(config, "replace_every") < 0 &&
      moerun__config_int(config, "spare_slots") < 0) {
    MOERUN_TRY(agree_fits(&fits, *predicted, config, comm));
  }
  if (fits) goto done;
  LOG_ROOT(MOERUN_LOG_INFO,
           "experts stay where they are, also those of slow ranks: a node has "
           "no memory left for moving them (--replace-every 0 keeps them there "
           "without this line)");
  out->replaces = 0;
  out->how |= MOERUN_RUN_STAYS;
  if (moerun_comm_rank(comm) == 0) {
    moerun__free(*predicted);
    *predicted = NULL;
    status = moerun__predict(predicted, config, placement, need, out->how);
  }
  MOERUN_TRY(moerun__comm_agree(comm, status));
  MOERUN_TRY(agree_guests(&out->guest_bytes, *predicted, config, comm));
done:
  return status;
}

/* ---- The comparison ------------------------------------------------------ */

moerun_status moerun__node_memory_compare(const moerun__node *node,
                                          const moerun__prediction *largest,
                                          const moerun__memory_left *left) {
  moerun_status status = MOERUN_OK;
  const size_t rest = moerun__prediction_total(largest) -
                      largest->weight_bytes - largest->expert_bytes -
                      largest->cache_bytes;
  MOERUN_REQUIRE(
      node->sum <= left->bytes, MOERUN_ERR_NOMEM,
      "out of memory before it starts: the %d rank%s of this node would take "
      "%.2f GiB together (each at most: weights %.2f, experts %.2f, KV cache "
      "%.2f, buffers %.2f), found %.2f left (%s); what needs less: more nodes, "
      "or smaller --max-sequences, --kv-tokens, --max-tokens, --guest-memory, "
      "--slice-memory%s; --memory-check off goes on all the same",
      node->ranks, node->ranks == 1 ? "" : "s", (double)node->sum / gib,
      (double)largest->weight_bytes / gib, (double)largest->expert_bytes / gib,
      (double)largest->cache_bytes / gib, (double)rest / gib,
      (double)left->bytes / gib, left->source,
      largest->spare_bytes > 0 ? ", --spare-slots" : "");
done:
  return status;
}

void moerun__largest_of_nodes(moerun__prediction *out,
                              const moerun__prediction *ranks,
                              const int32_t *node, int32_t num_ranks) {
  for (int32_t r = 0; r < num_ranks; r++) {
    moerun__prediction *largest = &out[node[r]]; /* node[r] <= r */
    if (node[r] == r || moerun__prediction_total(&ranks[r]) >
                            moerun__prediction_total(largest)) {
      *largest = ranks[r];
    }
  }
  for (int32_t r = 0; r < num_ranks; r++) {
    out[r] = out[node[r]];
  }
}

/* [collective] predicted[R] on rank 0. */
static moerun_status find_largest(moerun__prediction *largest,
                                  moerun_comm *comm, const moerun__node *node,
                                  const moerun__prediction *predicted) {
  moerun_status status = MOERUN_OK;
  moerun__prediction *all = NULL;
  int32_t *first = NULL;
  const size_t R =
      moerun_comm_rank(comm) == 0 ? (size_t)moerun_comm_size(comm) : 0;
  status = moerun__alloc(&all, R, sizeof *all);
  if (status == MOERUN_OK) status = moerun__alloc(&first, R, sizeof *first);
  MOERUN_TRY(moerun__comm_agree(comm, status));
  MOERUN_TRY(comm->ops->gather(comm, first, &node->first, sizeof *first));
  if (moerun_comm_rank(comm) == 0) {
    moerun__largest_of_nodes(all, predicted, first, moerun_comm_size(comm));
  }
  MOERUN_TRY(comm->ops->scatter(comm, largest, all, sizeof *all));
done:
  moerun__free(all);
  moerun__free(first);
  return status;
}

static moerun_status compare_own(const moerun__node *node,
                                 const moerun__prediction *largest,
                                 const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  moerun__memory_left left = {0};
  MOERUN_TRY(moerun__node_memory_left(&left, config));
  MOERUN_TRY(moerun__node_memory_compare(node, largest, &left));
done:
  return status;
}

moerun_status moerun__node_memory_check(moerun_comm *comm,
                                        const moerun__config *config,
                                        const moerun__prediction *predicted) {
  moerun_status status = MOERUN_OK;
  moerun__prediction own = {0};
  moerun__prediction largest = {0};
  moerun__node node = {0};
  const int is_on =
      strcmp(moerun__config_text(config, "memory_check"), "on") == 0;
  MOERUN_TRY(comm->ops->scatter(comm, &own, predicted, sizeof own));
  MOERUN_TRY(moerun__comm_sum_node(comm, &node,
                                   (int64_t)moerun__prediction_total(&own)));
  MOERUN_TRY(find_largest(&largest, comm, &node, predicted));
  if (node.first == moerun_comm_rank(comm))
    status = compare_own(&node, &largest, config);
  if (status == MOERUN_ERR_NOMEM && !is_on) {
    LOG_RANK(MOERUN_LOG_WARN, "%s", moerun_last_error());
    status = MOERUN_OK;
  }
  status = moerun__comm_agree(comm, status);
done:
  return status;
}

moerun_status moerun__memory_advise(moerun_status status, const char *options) {
  if (status != MOERUN_ERR_NOMEM) return status;
  return moerun__say_more(status, "; %s", options);
}
