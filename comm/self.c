/* One rank without MPI: there is no peer to send to, so a transfer carries
 * nothing and a collective hands a rank its own part. It keeps the contract of
 * the other transports, so that a mistake shows here too. */
#include "comm/comm.h"
#include "runtime/base/memory.h"

#include <string.h>

struct moerun__transfer {
  const moerun_comm *comm;
  int in_flight;
};

static moerun_status begin(moerun__transfer *transfer, int32_t tag,
                           const moerun__row_list *list) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__row_list_check(transfer->comm, tag, list));
  MOERUN_REQUIRE(!transfer->in_flight, MOERUN_ERR_INVALID,
                 "rows: the transfer is still in flight");
  transfer->in_flight = 1;
done:
  return status;
}

static moerun_status test(moerun__transfer *transfer, int *done) {
  transfer->in_flight = 0;
  *done = 1;
  return MOERUN_OK;
}

static moerun_status wait(moerun__transfer *transfer) {
  transfer->in_flight = 0;
  return MOERUN_OK;
}

static moerun_status wait_either(moerun__transfer *a, moerun__transfer *b) {
  (void)b;
  return wait(a);
}

static moerun_status tell(moerun_comm *comm, const moerun__news *news) {
  (void)comm;
  if (news->before != NULL) {
    memset(news->before, 0, (size_t)news->num_sums * sizeof *news->before);
  }
  if (news->count_width > 0) {
    memcpy(news->count_in, news->count_out,
           (size_t)news->count_width * sizeof *news->count_in);
  }
  return MOERUN_OK;
}

static moerun_status minimum(moerun_comm *comm, int64_t *value) {
  (void)comm;
  (void)value;
  return MOERUN_OK;
}

static moerun_status share_rows(moerun_comm *comm, void *rows, size_t row_bytes,
                                const int32_t *offset) {
  (void)comm;
  (void)rows;
  (void)row_bytes;
  (void)offset;
  return MOERUN_OK;
}

/* gather and scatter alike: the only part is the own one. */
static moerun_status copy(moerun_comm *comm, void *receive, const void *send,
                          size_t bytes) {
  (void)comm;
  if (bytes > 0) memcpy(receive, send, bytes);
  return MOERUN_OK;
}

static moerun_status broadcast(moerun_comm *comm, void *buffer, size_t bytes) {
  (void)comm;
  (void)buffer;
  (void)bytes;
  return MOERUN_OK;
}

static moerun_status wait_for_root(moerun_comm *comm) {
  (void)comm;
  return MOERUN_OK;
}

static moerun_status sum_node(moerun_comm *comm, moerun__node *node,
                              int64_t value) {
  *node = (moerun__node){.ranks = 1, .first = comm->rank, .sum = value};
  return MOERUN_OK;
}

static moerun_status transfer_create(moerun__transfer **out,
                                     moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__alloc(out, 1, sizeof **out));
  (*out)->comm = comm;
done:
  return status;
}

static void transfer_destroy(moerun__transfer *transfer) {
  moerun__free(transfer);
}

static void destroy(moerun_comm *comm) {
  moerun__free(comm);
}

static const moerun__comm_ops self_ops = {
    .name = "self",
    .send_begin = begin,
    .receive_begin = begin,
    .test = test,
    .wait = wait,
    .wait_either = wait_either,
    .tell = tell,
    .share_rows = share_rows,
    .minimum = minimum,
    .gather = copy,
    .scatter = copy,
    .broadcast = broadcast,
    .wait_for_root = wait_for_root,
    .sum_node = sum_node,
    .transfer_create = transfer_create,
    .transfer_destroy = transfer_destroy,
    .destroy = destroy,
};

moerun_status moerun_comm_create_self(moerun_comm **out) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__alloc(out, 1, sizeof **out));
  (*out)->ops = &self_ops;
  (*out)->size = 1;
done:
  return status;
}
