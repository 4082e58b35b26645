/* A made-up transport over MPI that begins an exchange as a whole, as libraries
 * for devices have to: its sends and its receives stand in one group, and a
 * group begins when the one before it is over. Receives are held back until the
 * rows of their transfer are sent. With each group every rank tells each other
 * one what it sends there; where two ranks are not in the same exchange, or one
 * sends what the other does not expect yet, such a library would wait for ever.
 * This one fails, and so it does after a time limit, or where somebody waits
 * for receives that are held back.
 *
 * It carries the memory of made_device.h as a network would that knows it, and
 * counts whose memory rows lie in. Weights and control go on by themselves, by
 * MPI; collectives are MPI's. */
#ifndef MOERUN_TESTS_GROUP_COMM_H
#define MOERUN_TESTS_GROUP_COMM_H

#include "comm/comm.h"
#include "support/made_device.h"

#include <moerun/moerun_mpi.h>
#include <sched.h>

enum { GROUP_WAITING = 64, GROUP_LIMIT_S = 20 };

typedef struct group_comm {
  moerun_comm base; /* first */
  moerun_comm *mpi;
  MPI_Comm heads;                           /* of groups */
  moerun__transfer *waiting[GROUP_WAITING]; /* the first may have begun */
  int num_waiting;
  moerun_status failed;
  int32_t groups;      /* begun */
  int64_t held;        /* receives given before their sends */
  int64_t single;      /* messages of one direction begun */
  int64_t device_rows; /* lists and plans of exchanges, by memory */
  int64_t host_rows;
} group_comm;

/* What a rank says to another of a group. */
typedef struct group_head {
  int32_t number;
  int32_t tag;
  int32_t rows; /* that it sends there */
} group_head;

typedef enum group_state {
  GROUP_IDLE,
  GROUP_HELD,   /* there are receives */
  GROUP_WAITS,  /* both directions are there */
  GROUP_CALLED, /* ranks tell each other of it */
  GROUP_BEGUN,
} group_state;

struct moerun__transfer {
  group_comm *comm;
  moerun__transfer *mpi;
  size_t plan_bytes;
  moerun__memory memory; /* of plans */
  group_state state;
  int32_t number;
  int32_t tag;
  moerun__row_list in; /* as given */
  moerun__row_list out;
  char *leaving;    /* rows of a plan, or of the device, as MPI sends them */
  char *landing;    /* rows for the device, as MPI receives them */
  int32_t *offset;  /* [R + 1] of a plan */
  group_head *head; /* [R out | R in] */
  MPI_Request *request; /* [2 R] of them */
};

static inline void *group_memory(size_t bytes) {
  void *memory = calloc(bytes + 1, 1);
  if (memory == NULL) abort();
  return memory;
}

/* Rows to or from a peer. */
static inline int32_t group_rows(const moerun__row_list *list, int32_t peer) {
  if (peer < list->first_peer || peer >= list->last_peer) return 0;
  return (int32_t)moerun__row_list_count(list, peer);
}

/* Up to the last of its rows. */
static inline size_t group_list_bytes(const moerun__row_list *list) {
  return (size_t)list->offset[list->last_peer - list->first_peer] *
         list->row_bytes;
}

/* What MPI sent is what this transport sent; a failure is final. */
static inline moerun_status group_result(group_comm *c, moerun_status status) {
  c->base.count = c->mpi->count;
  if (c->failed == MOERUN_OK) c->failed = status;
  return status;
}

/* ---- Groups -------------------------------------------------------------- */

/* Tells all others what they get, and hears what they send here. */
static inline void group_call(moerun__transfer *x) {
  group_comm *c = x->comm;
  const int32_t R = c->base.size;
  x->state = GROUP_CALLED;
  x->number = c->groups++;
  for (int32_t p = 0; p < R; p++) {
    x->head[p] = (group_head){x->number, x->tag, group_rows(&x->out, p)};
    (void)MPI_Irecv(&x->head[R + p], 3, MPI_INT32_T, p, 0, c->heads,
                    &x->request[R + p]);
    (void)MPI_Isend(&x->head[p], 3, MPI_INT32_T, p, 0, c->heads,
                    &x->request[p]);
  }
}

/* All ranks are in this group; what each of them sends here is what this one
 * receives in it. */
static inline moerun_status group_check(const moerun__transfer *x) {
  moerun_status status = MOERUN_OK;
  const moerun_comm *comm = &x->comm->base;
  for (int32_t p = 0; p < comm->size; p++) {
    const group_head *head = &x->head[comm->size + p];
    const int32_t rows = group_rows(&x->in, p);
    if (p == comm->rank) continue;
    MOERUN_REQUIRE(
        head->number == x->number && head->tag == x->tag && head->rows == rows,
        MOERUN_ERR_COMM,
        "group %d: expected %d rows of tag %d from rank %d, found "
        "%d of tag %d in its group %d",
        x->number, rows, x->tag, p, head->rows, head->tag, head->number);
  }
done:
  return status;
}

static inline moerun_status group_begin(moerun__transfer *x) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = x->comm->mpi->ops;
  moerun__row_list in = x->in;
  x->state = GROUP_BEGUN;
  if (in.memory == MOERUN_MEMORY_DEVICE) {
    x->landing = group_memory(group_list_bytes(&in));
    in.rows = x->landing;
    in.memory = MOERUN_MEMORY_HOST;
  }
  MOERUN_TRY(ops->receive_begin(x->mpi, x->tag, &in));
  MOERUN_TRY(ops->send_begin(x->mpi, x->tag, &x->out));
done:
  return status;
}

/* Rows that have come for the device; own ones are there. */
static inline void group_land(moerun__transfer *x) {
  const moerun__row_list *in = &x->in;
  for (int32_t p = 0; x->landing != NULL && p < x->comm->base.size; p++) {
    if (p == x->comm->base.rank || group_rows(in, p) == 0) continue;
    char *to = moerun__row_list_rows(in, p);
    made_carry(to, x->landing + (to - (char *)in->rows),
               (size_t)group_rows(in, p) * in->row_bytes);
  }
  free(x->leaving);
  free(x->landing);
  x->leaving = NULL;
  x->landing = NULL;
  x->state = GROUP_IDLE;
}

/* The group that is begun or can be; *over: it has ended. */
static inline moerun_status group_advance(moerun__transfer *x, int *over) {
  moerun_status status = MOERUN_OK;
  group_comm *c = x->comm;
  *over = 0;
  if (x->state == GROUP_WAITS) group_call(x);
  if (x->state == GROUP_CALLED) {
    (void)MPI_Testall(2 * c->base.size, x->request, over, MPI_STATUSES_IGNORE);
    if (!*over) goto done;
    MOERUN_TRY(group_check(x));
    MOERUN_TRY(group_begin(x));
  }
  MOERUN_TRY(c->mpi->ops->test(x->mpi, over));
  if (*over) group_land(x);
done:
  return status;
}

/* As far as can be without waiting. */
static inline moerun_status group_progress(group_comm *c) {
  moerun_status status = c->failed;
  int over = 1;
  while (status == MOERUN_OK && over && c->num_waiting > 0) {
    status = group_result(c, group_advance(c->waiting[0], &over));
    if (!over) break;
    c->num_waiting--;
    memmove(c->waiting, c->waiting + 1,
            (size_t)c->num_waiting * sizeof(c->waiting[0]));
  }
  return status;
}

/* Both directions are there: the group has its turn. */
static inline moerun_status group_join(moerun__transfer *x, int32_t tag,
                                       const moerun__row_list *out) {
  moerun_status status = MOERUN_OK;
  group_comm *c = x->comm;
  MOERUN_REQUIRE(c->num_waiting < GROUP_WAITING, MOERUN_ERR_INVALID,
                 "group: too many");
  MOERUN_REQUIRE(x->state == GROUP_HELD && x->tag == tag, MOERUN_ERR_INVALID,
                 "group: rows of tag %d are sent without receives", tag);
  x->out = *out;
  x->state = GROUP_WAITS;
  c->waiting[c->num_waiting++] = x;
  MOERUN_TRY(group_progress(c));
done:
  return group_result(c, status);
}

/* ---- Memory -------------------------------------------------------------- */

/* Counts, and refuses rows that lie elsewhere than is said. */
static inline moerun_status group_look(group_comm *c, moerun__memory memory,
                                       const void *rows, size_t bytes) {
  moerun_status status = MOERUN_OK;
  const int is_device = memory == MOERUN_MEMORY_DEVICE;
  MOERUN_REQUIRE(bytes == 0 || made_is_mine(rows) == is_device,
                 MOERUN_ERR_INVALID, "group: rows do not lie where it is said");
  c->device_rows += is_device;
  c->host_rows += !is_device;
done:
  return status;
}

static inline moerun_status group_look_at_list(group_comm *c, int32_t tag,
                                               const moerun__row_list *list) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__row_list_check(&c->base, tag, list));
  MOERUN_TRY(group_look(c, list->memory, list->rows, group_list_bytes(list)));
done:
  return status;
}

/* The host's copy of bytes of the device. */
static inline char *group_fetch(const void *from, size_t bytes) {
  char *to = group_memory(bytes);
  made_carry(to, from, bytes);
  return to;
}

static inline moerun_status group_buffer_create(void **out, moerun_comm *comm,
                                                size_t bytes,
                                                moerun__memory memory) {
  if (memory == MOERUN_MEMORY_DEVICE) {
    return comm->ops->device->memory_create(out, bytes);
  }
  return moerun__host_buffer_create(out, comm, bytes, memory);
}

static inline size_t group_buffer_bytes(const moerun_comm *comm, size_t bytes,
                                        moerun__memory memory) {
  if (memory == MOERUN_MEMORY_DEVICE) {
    return comm->ops->device->memory_bytes(bytes);
  }
  return moerun__host_buffer_bytes(comm, bytes, memory);
}

static inline void group_buffer_destroy(moerun_comm *comm, void *buffer,
                                        moerun__memory memory) {
  if (memory == MOERUN_MEMORY_DEVICE) {
    comm->ops->device->memory_destroy(buffer);
  } else {
    moerun__host_buffer_destroy(comm, buffer, memory);
  }
}

/* ---- Messages ------------------------------------------------------------ */

static inline int group_is_single(int32_t tag) {
  return tag < MOERUN_TAG_DISPATCH;
}

static inline moerun_status group_hold(moerun__transfer *x, int32_t tag,
                                       const moerun__row_list *in) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(x->state == GROUP_IDLE, MOERUN_ERR_INVALID,
                 "rows: the transfer is still in flight");
  MOERUN_TRY(group_look_at_list(x->comm, tag, in));
  x->in = *in;
  x->tag = tag;
  x->state = GROUP_HELD;
done:
  return status;
}

static inline moerun_status group_exchange_begin(moerun__transfer *x,
                                                 int32_t tag,
                                                 const moerun__row_plan *plan,
                                                 const moerun__row_list *in) {
  moerun_status status = MOERUN_OK;
  group_comm *c = x->comm;
  moerun__row_plan out = *plan;
  const size_t bytes = (size_t)plan->num_rows * plan->stride_bytes;
  char *fetched = NULL;
  MOERUN_TRY(moerun__row_plan_count(x->offset, x->plan_bytes, &c->base, plan));
  MOERUN_REQUIRE(plan->memory == x->memory, MOERUN_ERR_INVALID,
                 "group: a plan of rows in memory that its transfer is not "
                 "for");
  MOERUN_TRY(group_look(c, plan->memory, plan->rows, bytes));
  MOERUN_TRY(group_hold(x, tag, in));
  if (plan->memory == MOERUN_MEMORY_DEVICE) {
    fetched = group_fetch(plan->rows, bytes);
    out.rows = fetched;
  }
  x->leaving = group_memory(x->plan_bytes);
  moerun__row_plan_pack(x->leaving, x->offset, &c->base, &out);
  const moerun__row_list list = {x->leaving,   plan->wire_bytes,  x->offset, 0,
                                 c->base.size, MOERUN_MEMORY_HOST};
  MOERUN_TRY(group_join(x, tag, &list));
done:
  free(fetched);
  return status;
}

static inline moerun_status group_send_begin(moerun__transfer *x, int32_t tag,
                                             const moerun__row_list *list) {
  moerun_status status = MOERUN_OK;
  group_comm *c = x->comm;
  moerun__row_list out = *list;
  if (group_is_single(tag)) {
    c->single++;
    return group_result(c, c->mpi->ops->send_begin(x->mpi, tag, list));
  }
  MOERUN_TRY(group_look_at_list(c, tag, list));
  if (list->memory == MOERUN_MEMORY_DEVICE) {
    x->leaving = group_fetch(list->rows, group_list_bytes(list));
    out.rows = x->leaving;
    out.memory = MOERUN_MEMORY_HOST;
  }
  MOERUN_TRY(group_join(x, tag, &out));
done:
  return status;
}

static inline moerun_status group_receive_begin(moerun__transfer *x,
                                                int32_t tag,
                                                const moerun__row_list *list) {
  group_comm *c = x->comm;
  if (group_is_single(tag)) {
    c->single++;
    return group_result(c, c->mpi->ops->receive_begin(x->mpi, tag, list));
  }
  c->held++;
  return group_hold(x, tag, list);
}

/* ---- Waiting ------------------------------------------------------------- */

static inline moerun_status group_test(moerun__transfer *x, int *done) {
  moerun_status status = group_progress(x->comm);
  *done = 0;
  if (status != MOERUN_OK || x->state != GROUP_IDLE) return status;
  return group_result(x->comm, x->comm->mpi->ops->test(x->mpi, done));
}

/* Until one of them is over; b may be NULL. */
static inline moerun_status group_wait_for(moerun__transfer *a,
                                           moerun__transfer *b) {
  moerun_status status = MOERUN_OK;
  const double limit = MPI_Wtime() + GROUP_LIMIT_S;
  int done = 0;
  MOERUN_REQUIRE(
      a->state != GROUP_HELD && (b == NULL || b->state != GROUP_HELD),
      MOERUN_ERR_COMM,
      "group: rows of tag %d are waited for, and none are sent", a->tag);
  for (;;) {
    MOERUN_TRY(group_test(a, &done));
    if (!done && b != NULL) MOERUN_TRY(group_test(b, &done));
    if (done) break;
    MOERUN_REQUIRE(MPI_Wtime() < limit, MOERUN_ERR_TIMEOUT,
                   "group: not over within %d s", GROUP_LIMIT_S);
    (void)sched_yield();
  }
done:
  return group_result(a->comm, status);
}

static inline moerun_status group_wait(moerun__transfer *x) {
  return group_wait_for(x, NULL);
}

static inline moerun_status group_wait_sent(moerun__transfer *x) {
  return x->state == GROUP_HELD ? MOERUN_OK : group_wait_for(x, NULL);
}

/* The collective `call` of MPI, and its bytes. */
#define GROUP_COLLECTIVE(comm, call)                                           \
  group_comm *c = (group_comm *)(comm);                                        \
  moerun_comm *mpi = c->mpi;                                                   \
  return group_result(c, mpi->ops->call)

static inline moerun_status group_tell(moerun_comm *comm,
                                       const moerun__news *news) {
  GROUP_COLLECTIVE(comm, tell(mpi, news));
}

static inline moerun_status group_share_rows(moerun_comm *comm,
                                             const moerun__row_list *list) {
  moerun_status status = MOERUN_OK;
  group_comm *c = (group_comm *)comm;
  moerun__row_list shared = *list;
  char *fetched = NULL;
  const size_t bytes = group_list_bytes(list);
  MOERUN_TRY(group_look(c, list->memory, list->rows, bytes));
  if (list->memory == MOERUN_MEMORY_DEVICE) {
    fetched = group_fetch(list->rows, bytes);
    shared.rows = fetched;
    shared.memory = MOERUN_MEMORY_HOST;
  }
  MOERUN_TRY(c->mpi->ops->share_rows(c->mpi, &shared));
  if (fetched != NULL) made_carry(list->rows, fetched, bytes);
done:
  free(fetched);
  return group_result(c, status);
}

static inline moerun_status group_minimum(moerun_comm *comm, int64_t *value) {
  GROUP_COLLECTIVE(comm, minimum(mpi, value));
}

static inline moerun_status group_gather(moerun_comm *comm, void *receive,
                                         const void *send, size_t bytes) {
  GROUP_COLLECTIVE(comm, gather(mpi, receive, send, bytes));
}

static inline moerun_status group_scatter(moerun_comm *comm, void *receive,
                                          const void *send, size_t bytes) {
  GROUP_COLLECTIVE(comm, scatter(mpi, receive, send, bytes));
}

static inline moerun_status group_broadcast(moerun_comm *comm, void *buffer,
                                            size_t bytes) {
  GROUP_COLLECTIVE(comm, broadcast(mpi, buffer, bytes));
}

static inline moerun_status group_wait_for_root(moerun_comm *comm) {
  GROUP_COLLECTIVE(comm, wait_for_root(mpi));
}

static inline moerun_status group_split(moerun_comm **out, moerun_comm *comm,
                                        moerun__comm_level level) {
  moerun_comm *mpi = ((group_comm *)comm)->mpi;
  return mpi->ops->split(out, mpi, level);
}

/* ---- Create and destroy -------------------------------------------------- */

static inline void group_transfer_destroy(moerun__transfer *x) {
  if (x == NULL) return;
  if (x->state >= GROUP_WAITS) x->comm->num_waiting = 0; /* it has failed */
  x->comm->mpi->ops->transfer_destroy(x->mpi);
  free(x->leaving);
  free(x->offset);
  free(x->head);
  free(x->request);
  moerun__free(x);
}

static inline moerun_status group_transfer_create(moerun__transfer **out,
                                                  moerun_comm *comm,
                                                  size_t plan_bytes,
                                                  moerun__memory memory) {
  moerun_status status = MOERUN_OK;
  group_comm *c = (group_comm *)comm;
  const size_t R = (size_t)comm->size;
  moerun__transfer *x = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&x, 1, sizeof *x));
  x->comm = c;
  x->plan_bytes = plan_bytes;
  x->memory = memory;
  x->offset = group_memory((R + 1) * sizeof *x->offset);
  x->head = group_memory(2 * R * sizeof *x->head);
  x->request = group_memory(2 * R * sizeof(MPI_Request));
  MOERUN_TRY(
      c->mpi->ops->transfer_create(&x->mpi, c->mpi, 0, MOERUN_MEMORY_HOST));
  *out = x;
  x = NULL;
done:
  group_transfer_destroy(x);
  return status;
}

/* What this test alone takes is not counted. */
static inline size_t group_transfer_bytes(const moerun_comm *comm,
                                          size_t plan_bytes,
                                          moerun__memory memory) {
  (void)plan_bytes;
  (void)memory;
  return moerun__alloc_bytes(1, sizeof(moerun__transfer)) +
         moerun__mpi_ops.transfer_bytes(comm, 0, MOERUN_MEMORY_HOST);
}

static inline void group_destroy(moerun_comm *comm) {
  group_comm *c = (group_comm *)comm;
  (void)MPI_Comm_free(&c->heads);
  moerun_comm_destroy(c->mpi);
  moerun__free(c);
}

static const moerun__comm_ops group_ops = {
    .name = "group",
    .max_ranks = INT32_MAX,
    .device = &made_device,
    .begins_at_once = 1,
    .exchange_begin = group_exchange_begin,
    .send_begin = group_send_begin,
    .receive_begin = group_receive_begin,
    .test = group_test,
    .test_received = group_test,
    .wait = group_wait,
    .wait_received = group_wait,
    .wait_sent = group_wait_sent,
    .wait_either = group_wait_for,
    .tell = group_tell,
    .share_rows = group_share_rows,
    .minimum = group_minimum,
    .gather = group_gather,
    .scatter = group_scatter,
    .broadcast = group_broadcast,
    .wait_for_root = group_wait_for_root,
    .split = group_split,
    .transfer_create = group_transfer_create,
    .transfer_bytes = group_transfer_bytes,
    .transfer_destroy = group_transfer_destroy,
    .buffer_create = group_buffer_create,
    .buffer_bytes = group_buffer_bytes,
    .buffer_destroy = group_buffer_destroy,
    .destroy = group_destroy,
};

/* [collective] */
static inline moerun_status group_comm_create(moerun_comm **out) {
  moerun_status status = MOERUN_OK;
  group_comm *c = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&c, 1, sizeof *c));
  MOERUN_TRY(moerun_comm_create_mpi(&c->mpi, MPI_COMM_WORLD, NULL));
  (void)MPI_Comm_dup(MPI_COMM_WORLD, &c->heads);
  c->base.ops = &group_ops;
  c->base.rank = c->mpi->rank;
  c->base.size = c->mpi->size;
  *out = &c->base;
  c = NULL;
done:
  moerun__free(c);
  return status;
}

#endif
