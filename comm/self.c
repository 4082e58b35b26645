/* One rank without MPI: there is no peer to send to, so a transfer carries
 * nothing and a collective hands a rank its own part. It keeps the contract of
 * the other transports, so that a mistake shows here too. */
#include "comm/comm.h"
#include "runtime/base/memory.h"

#include <string.h>

struct moerun__transfer {
  const moerun_comm *comm;
  int sends;
  int receives;
};

static moerun_status begin(const moerun__transfer *transfer, int *in_flight,
                           int32_t tag, const moerun__row_list *list) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__row_list_check(transfer->comm, tag, list));
  MOERUN_REQUIRE(!*in_flight, MOERUN_ERR_INVALID,
                 "rows: the transfer is still in flight");
  *in_flight = 1;
done:
  return status;
}

static moerun_status send_begin(moerun__transfer *transfer, int32_t tag,
                                const moerun__row_list *list) {
  return begin(transfer, &transfer->sends, tag, list);
}

static moerun_status receive_begin(moerun__transfer *transfer, int32_t tag,
                                   const moerun__row_list *list) {
  return begin(transfer, &transfer->receives, tag, list);
}

static moerun_status exchange_begin(moerun__transfer *transfer, int32_t tag,
                                    const moerun__row_plan *out,
                                    const moerun__row_list *in) {
  moerun_status status = MOERUN_OK;
  int32_t offset[2];
  MOERUN_TRY(moerun__row_plan_count(offset, 0, transfer->comm, out));
  MOERUN_TRY(receive_begin(transfer, tag, in));
  const moerun__row_list none = {NULL, out->wire_bytes,   offset, 0,
                                 1,    MOERUN_MEMORY_HOST};
  MOERUN_TRY(send_begin(transfer, tag, &none));
done:
  return status;
}

static moerun_status wait_sent(moerun__transfer *transfer) {
  transfer->sends = 0;
  return MOERUN_OK;
}

static moerun_status wait_received(moerun__transfer *transfer) {
  transfer->receives = 0;
  return MOERUN_OK;
}

static moerun_status wait(moerun__transfer *transfer) {
  (void)wait_sent(transfer);
  return wait_received(transfer);
}

static moerun_status test(moerun__transfer *transfer, int *done) {
  *done = 1;
  return wait(transfer);
}

static moerun_status test_received(moerun__transfer *transfer, int *done) {
  *done = 1;
  return wait_received(transfer);
}

static moerun_status wait_either(moerun__transfer *a, moerun__transfer *b) {
  (void)b;
  return wait_received(a);
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

static moerun_status share_rows(moerun_comm *comm,
                                const moerun__row_list *list) {
  return moerun__memory_check(comm, list->memory);
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

static moerun_status split(moerun_comm **out, moerun_comm *comm,
                           moerun__comm_level level) {
  (void)comm;
  (void)level;
  return moerun_comm_create_self(out);
}

static moerun_status transfer_create(moerun__transfer **out, moerun_comm *comm,
                                     size_t plan_bytes, moerun__memory memory) {
  moerun_status status = MOERUN_OK;
  (void)plan_bytes; /* no row leaves */
  *out = NULL;
  MOERUN_TRY(moerun__memory_check(comm, memory));
  MOERUN_TRY(moerun__alloc(out, 1, sizeof **out));
  (*out)->comm = comm;
done:
  return status;
}

static size_t transfer_bytes(const moerun_comm *comm, size_t plan_bytes,
                             moerun__memory memory) {
  (void)comm;
  (void)plan_bytes;
  (void)memory;
  return moerun__alloc_bytes(1, sizeof(moerun__transfer));
}

static void transfer_destroy(moerun__transfer *transfer) {
  moerun__free(transfer);
}

static void destroy(moerun_comm *comm) {
  moerun__free(comm);
}

static moerun_status create(moerun_comm **out,
                            const moerun__comm_setting *setting) {
  (void)setting;
  return moerun_comm_create_self(out);
}

const moerun__comm_ops moerun__self_ops = {
    .name = "self",
    .max_ranks = 1,
    .create = create,
    .exchange_begin = exchange_begin,
    .send_begin = send_begin,
    .receive_begin = receive_begin,
    .test = test,
    .test_received = test_received,
    .wait = wait,
    .wait_received = wait_received,
    .wait_sent = wait_sent,
    .wait_either = wait_either,
    .tell = tell,
    .share_rows = share_rows,
    .minimum = minimum,
    .gather = copy,
    .scatter = copy,
    .broadcast = broadcast,
    .wait_for_root = wait_for_root,
    .split = split,
    .transfer_create = transfer_create,
    .transfer_bytes = transfer_bytes,
    .transfer_destroy = transfer_destroy,
    .buffer_create = moerun__host_buffer_create,
    .buffer_bytes = moerun__host_buffer_bytes,
    .buffer_destroy = moerun__host_buffer_destroy,
    .destroy = destroy,
};

moerun_status moerun_comm_create_self(moerun_comm **out) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__alloc(out, 1, sizeof **out));
  (*out)->ops = &moerun__self_ops;
  (*out)->size = 1;
done:
  return status;
}
