/* A made-up transport over MPI: a row goes once to each pair of ranks (0 and 1,
 * 2 and 3, ...) whatever of them it names, and the rank that gets it hands it
 * on to the other. With a plan of rows, who packs and which way rows take is
 * the transport's affair: this one shows that nothing above it knows.
 *
 * exchange_begin does both hops and waits for them, so all ranks begin their
 * exchanges in the same order; rows then lie here until the waves ask for
 * them. It knows the memory that it gave, and counts which rows lie there. All
 * else is MPI's. */
#ifndef MOERUN_TESTS_PAIR_COMM_H
#define MOERUN_TESTS_PAIR_COMM_H

#include "comm/comm.h"
#include "runtime/base/memory.h"

#include <moerun/moerun_mpi.h>
#include <stdlib.h>
#include <string.h>

enum { PAIR_TAG = MOERUN_TAG_END - 1 }; /* of both hops */

/* In front of memory that this transport gave. */
typedef struct pair_buffer {
  struct pair_buffer *next;
  size_t bytes;
} pair_buffer;

enum { PAIR_BUFFER_HEAD = MOERUN_ALIGNMENT };

typedef struct pair_comm {
  moerun_comm base; /* first */
  moerun_comm *mpi;
  pair_buffer *buffers;
  int64_t lists_in_buffers; /* rows and results, by begun list or plan */
  int64_t lists_elsewhere;  /* in memory that is not of this transport */
  int64_t rows_between;     /* that left this pair */
  int64_t rows_within;      /* that this rank gave to the other of its pair */
} pair_comm;

struct moerun__transfer {
  pair_comm *comm;
  moerun__transfer *mpi; /* all but plans; of its own kind */
  size_t plan_bytes;
  size_t wire_bytes;
  char *here;           /* rows that have come, by sender; NULL: none wait */
  int32_t *here_offset; /* [R + 1] */
};

/* In front of a row that travels: who sends it, and which of the pair want it.
 * Behind the row are two tails. */
typedef struct pair_head {
  int32_t from;
  int32_t wanted[2];
} pair_head;

/* The rank of a pair that gets the rows of `from`: both of it have their
 * turn. */
static inline int32_t pair_relay(const moerun_comm *comm, int32_t from,
                                 int32_t pair) {
  const int32_t relay = 2 * pair + from % 2;
  return relay < comm->size ? relay : 2 * pair;
}

static inline void *pair_memory(size_t bytes) {
  void *memory = calloc(bytes + 1, 1);
  if (memory == NULL) abort();
  return memory;
}

/* Rows out[out_offset[R]] to others and *in[in_offset[R]] from them, `bytes`
 * each; own ones are copied. */
static inline moerun_status pair_pass(moerun__transfer *x, char **in,
                                      int32_t *in_offset, const char *out,
                                      const int32_t *out_offset, size_t bytes) {
  moerun_status status = MOERUN_OK;
  moerun_comm *mpi = x->comm->mpi;
  const size_t R = (size_t)mpi->size;
  int32_t *counts = pair_memory(2 * R * sizeof *counts);
  moerun__news news = {
      .count_width = 1, .count_out = counts, .count_in = counts + R};
  news.scratch = pair_memory(moerun__news_scratch(mpi->size, &news) *
                             sizeof *news.scratch);
  *in = NULL;
  for (size_t r = 0; r < R; r++) {
    counts[r] = out_offset[r + 1] - out_offset[r];
  }
  MOERUN_TRY(mpi->ops->tell(mpi, &news));
  in_offset[0] = 0;
  for (size_t r = 0; r < R; r++) {
    in_offset[r + 1] = in_offset[r] + counts[R + r];
  }
  *in = pair_memory((size_t)in_offset[R] * bytes);
  const int32_t own = mpi->rank;
  memcpy(*in + (size_t)in_offset[own] * bytes,
         out + (size_t)out_offset[own] * bytes, (size_t)counts[own] * bytes);
  const moerun__row_list to = {(void *)out, bytes,     out_offset,
                               0,           mpi->size, MOERUN_MEMORY_HOST};
  const moerun__row_list from = {*in, bytes,     in_offset,
                                 0,   mpi->size, MOERUN_MEMORY_HOST};
  MOERUN_TRY(mpi->ops->receive_begin(x->mpi, PAIR_TAG, &from));
  MOERUN_TRY(mpi->ops->send_begin(x->mpi, PAIR_TAG, &to));
  MOERUN_TRY(mpi->ops->wait(x->mpi));
done:
  free(counts);
  free(news.scratch);
  return status;
}

/* ---- First hop: once to each pair ---------------------------------------- */

static inline size_t pair_row_bytes(const moerun__row_plan *of) {
  return sizeof(pair_head) + of->row_bytes + 2 * of->tail_bytes;
}

/* Writes the row for the pair of its copy *e, and leaves *e behind the pair. */
static inline void pair_write(char *out, const moerun__row_plan *of,
                              int32_t from, int32_t row, int32_t *e) {
  pair_head head = {.from = from};
  const int32_t pair = of->to[*e] / 2;
  char *tails = out + sizeof head + of->row_bytes;
  memcpy(out + sizeof head,
         (const char *)of->rows + (size_t)row * of->stride_bytes,
         of->row_bytes);
  for (; *e < of->to_offset[row + 1] && of->to[*e] / 2 == pair; ++*e) {
    const int which = of->to[*e] % 2;
    if (of->to[*e] == from) continue; /* own rows stay */
    head.wanted[which] = 1;
    if (of->tail_bytes == 0) continue;
    memcpy(tails + (size_t)which * of->tail_bytes,
           (const char *)of->tails + (size_t)*e * of->tail_bytes,
           of->tail_bytes);
  }
  memcpy(out, &head, sizeof head);
}

/* A list by relay; out of `room` rows, of which this rank may use its own as
 * relay too. */
static inline char *pair_first_hop(const pair_comm *c,
                                   const moerun__row_plan *of,
                                   int32_t *offset) {
  const size_t bytes = pair_row_bytes(of);
  const int32_t own = c->base.rank;
  const size_t most = (size_t)of->to_offset[of->num_rows];
  char *out = pair_memory((most + 1) * bytes); /* one is only tried */
  int32_t n = 0;
  for (int32_t r = 0; r < c->base.size; r++) {
    offset[r] = n;
    for (int32_t i = 0; i < of->num_rows; i++) {
      for (int32_t e = of->to_offset[i]; e < of->to_offset[i + 1];) {
        char *place = out + (size_t)n * bytes;
        const int32_t pair = of->to[e] / 2;
        const int is_here = pair_relay(&c->base, own, pair) == r;
        pair_head head;
        pair_write(place, of, own, i, &e);
        memcpy(&head, place, sizeof head);
        n += is_here && (head.wanted[0] || head.wanted[1]);
      }
    }
  }
  offset[c->base.size] = n;
  return out;
}

/* ---- Second hop: to the other of the pair -------------------------------- */

/* Of came[count], those that rank `to` of the pair wants, as sender,
 * row and its tail. */
static inline int32_t pair_pick(char *out, const char *came, int32_t count,
                                const moerun__row_plan *of, int32_t to) {
  const size_t from_bytes = pair_row_bytes(of);
  const size_t to_bytes = sizeof(int32_t) + of->wire_bytes;
  int32_t n = 0;
  for (int32_t i = 0; i < count; i++) {
    const char *row = came + (size_t)i * from_bytes;
    char *place = out + (size_t)n * to_bytes;
    pair_head head;
    memcpy(&head, row, sizeof head);
    if (!head.wanted[to % 2]) continue;
    memcpy(place, &head.from, sizeof head.from);
    place += sizeof head.from;
    row += sizeof head;
    memcpy(place, row, of->row_bytes);
    memcpy(place + of->row_bytes,
           row + of->row_bytes + (size_t)(to % 2) * of->tail_bytes,
           of->tail_bytes);
    n++;
  }
  return n;
}

/* Adds came with their sender to those that are here. */
static inline void pair_sort(moerun__transfer *x, const char *a, int32_t num_a,
                             const char *b, int32_t num_b) {
  const int32_t R = x->comm->base.size;
  const size_t bytes = sizeof(int32_t) + x->wire_bytes;
  int32_t n = 0;
  x->here = pair_memory((size_t)(num_a + num_b) * x->wire_bytes);
  for (int32_t r = 0; r < R; r++) {
    x->here_offset[r] = n;
    for (int32_t i = 0; i < num_a + num_b; i++) {
      const char *row =
          i < num_a ? a + (size_t)i * bytes : b + (size_t)(i - num_a) * bytes;
      int32_t from = 0;
      memcpy(&from, row, sizeof from);
      if (from != r) continue;
      memcpy(x->here + (size_t)n++ * x->wire_bytes, row + sizeof from,
             x->wire_bytes);
    }
  }
  x->here_offset[R] = n;
}

/* The rows that have come to this rank by way of either of its pair. */
static inline moerun_status pair_exchange(moerun__transfer *x,
                                          const moerun__row_plan *of) {
  moerun_status status = MOERUN_OK;
  pair_comm *c = x->comm;
  const int32_t R = c->base.size;
  const int32_t own = c->base.rank;
  const int32_t other = own % 2 == 0 && own + 1 < R ? own + 1
                        : own % 2 == 1              ? own - 1
                                                    : own;
  const size_t bytes = sizeof(int32_t) + of->wire_bytes;
  int32_t *to = pair_memory(((size_t)R + 1) * sizeof *to);
  int32_t *from = pair_memory(((size_t)R + 1) * sizeof *from);
  char *out = pair_first_hop(c, of, to);
  char *came = NULL;
  char *mine = NULL;
  char *on = NULL;
  char *handed = NULL;
  MOERUN_TRY(pair_pass(x, &came, from, out, to, pair_row_bytes(of)));
  for (int32_t r = 0; r < R; r++) {
    const int32_t sent = to[r + 1] - to[r];
    if (r / 2 != own / 2) c->rows_between += sent;
    if (r == other && r != own) c->rows_within += sent;
  }
  mine = pair_memory((size_t)from[R] * bytes);
  on = pair_memory((size_t)from[R] * bytes);
  const int32_t num_mine = pair_pick(mine, came, from[R], of, own);
  const int32_t num_on =
      other == own ? 0 : pair_pick(on, came, from[R], of, other);
  c->rows_within += num_on;
  for (int32_t r = 0; r <= R; r++) {
    to[r] = r > other ? num_on : 0;
  }
  MOERUN_TRY(pair_pass(x, &handed, from, on, to, bytes));
  x->wire_bytes = of->wire_bytes;
  pair_sort(x, mine, num_mine, handed, from[R]);
done:
  free(to);
  free(from);
  free(out);
  free(came);
  free(mine);
  free(on);
  free(handed);
  return status;
}

/* ---- Buffers ------------------------------------------------------------- */

static inline moerun_status pair_buffer_create(void **out, moerun_comm *comm,
                                               size_t bytes,
                                               moerun__memory memory) {
  moerun_status status = MOERUN_OK;
  pair_comm *c = (pair_comm *)comm;
  pair_buffer *buffer = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__memory_check(comm, memory));
  MOERUN_TRY(moerun__alloc_unset(&buffer, PAIR_BUFFER_HEAD + bytes, 1));
  *buffer = (pair_buffer){c->buffers, bytes};
  c->buffers = buffer;
  *out = (char *)buffer + PAIR_BUFFER_HEAD;
done:
  return status;
}

static inline size_t pair_buffer_bytes(const moerun_comm *comm, size_t bytes,
                                       moerun__memory memory) {
  (void)comm;
  (void)memory;
  return moerun__alloc_bytes(PAIR_BUFFER_HEAD + bytes, 1);
}

static inline void pair_buffer_destroy(moerun_comm *comm, void *bytes,
                                       moerun__memory memory) {
  (void)memory;
  if (bytes == NULL) return;
  pair_buffer *buffer = (void *)((char *)bytes - PAIR_BUFFER_HEAD);
  pair_buffer **at = &((pair_comm *)comm)->buffers;
  while (*at != buffer) {
    at = &(*at)->next;
  }
  *at = buffer->next;
  moerun__free(buffer);
}

/* Whether so many bytes of `memory` are in one buffer. */
static inline void pair_look(pair_comm *c, const void *memory, size_t bytes) {
  const uintptr_t first = (uintptr_t)memory;
  int found = bytes == 0;
  for (const pair_buffer *b = c->buffers; b != NULL && !found; b = b->next) {
    const uintptr_t begin = (uintptr_t)b + PAIR_BUFFER_HEAD;
    found = first >= begin && first + bytes <= begin + b->bytes;
  }
  c->lists_in_buffers += found && bytes > 0;
  c->lists_elsewhere += !found;
}

/* Of rows to experts and of results; weights are sent from where they lie. */
static inline void pair_look_at_list(pair_comm *c, int32_t tag,
                                     const moerun__row_list *list) {
  if (tag < MOERUN_TAG_DISPATCH) return;
  pair_look(c, list->rows,
            (size_t)list->offset[list->last_peer - list->first_peer] *
                list->row_bytes);
}

/* ---- Operations ---------------------------------------------------------- */

/* What MPI sent is what this transport sent. */
static inline moerun_status pair_counted(pair_comm *c, moerun_status status) {
  c->base.count = c->mpi->count;
  return status;
}

/* Rows that are here to where a wave wants them; after the last peer's none are
 * left. */
static inline moerun_status pair_deliver(moerun__transfer *x,
                                         const moerun__row_list *in) {
  moerun_status status = MOERUN_OK;
  for (int32_t p = in->first_peer; p < in->last_peer; p++) {
    const int32_t count = (int32_t)moerun__row_list_count(in, p);
    const int32_t found = x->here_offset[p + 1] - x->here_offset[p];
    if (p == x->comm->base.rank) continue;
    MOERUN_REQUIRE(count == found, MOERUN_ERR_COMM,
                   "rank %d: expected %d rows, found %d", p, count, found);
    memcpy(moerun__row_list_rows(in, p),
           x->here + (size_t)x->here_offset[p] * x->wire_bytes,
           (size_t)count * x->wire_bytes);
  }
  if (in->last_peer < x->comm->base.size) goto done;
  free(x->here);
  x->here = NULL;
done:
  return status;
}

static inline moerun_status pair_exchange_begin(moerun__transfer *x,
                                                int32_t tag,
                                                const moerun__row_plan *out,
                                                const moerun__row_list *in) {
  moerun_status status = MOERUN_OK;
  const size_t R = (size_t)x->comm->base.size;
  int32_t *offset = pair_memory((R + 1) * sizeof *offset);
  pair_look_at_list(x->comm, tag, in);
  pair_look(x->comm, out->rows, (size_t)out->num_rows * out->stride_bytes);
  MOERUN_TRY(moerun__row_list_check(&x->comm->base, tag, in));
  MOERUN_TRY(
      moerun__row_plan_count(offset, x->plan_bytes, &x->comm->base, out));
  MOERUN_TRY(pair_exchange(x, out));
  MOERUN_TRY(pair_deliver(x, in));
done:
  free(offset);
  return pair_counted(x->comm, status);
}

static inline moerun_status pair_send_begin(moerun__transfer *x, int32_t tag,
                                            const moerun__row_list *list) {
  pair_look_at_list(x->comm, tag, list);
  return pair_counted(x->comm,
                      x->comm->mpi->ops->send_begin(x->mpi, tag, list));
}

static inline moerun_status pair_receive_begin(moerun__transfer *x, int32_t tag,
                                               const moerun__row_list *list) {
  pair_look_at_list(x->comm, tag, list);
  if (x->here != NULL) return pair_deliver(x, list);
  return x->comm->mpi->ops->receive_begin(x->mpi, tag, list);
}

static inline moerun_status pair_test(moerun__transfer *x, int *done) {
  return x->comm->mpi->ops->test(x->mpi, done);
}

static inline moerun_status pair_test_received(moerun__transfer *x, int *done) {
  return x->comm->mpi->ops->test_received(x->mpi, done);
}

static inline moerun_status pair_wait(moerun__transfer *x) {
  return x->comm->mpi->ops->wait(x->mpi);
}

static inline moerun_status pair_wait_received(moerun__transfer *x) {
  return x->comm->mpi->ops->wait_received(x->mpi);
}

static inline moerun_status pair_wait_sent(moerun__transfer *x) {
  return x->comm->mpi->ops->wait_sent(x->mpi);
}

static inline moerun_status pair_wait_either(moerun__transfer *a,
                                             moerun__transfer *b) {
  return a->comm->mpi->ops->wait_either(a->mpi, b->mpi);
}

/* The collective `call` of MPI, and its bytes. */
#define PAIR_COLLECTIVE(comm, call)                                            \
  pair_comm *c = (pair_comm *)(comm);                                          \
  moerun_comm *mpi = c->mpi;                                                   \
  return pair_counted(c, mpi->ops->call)

static inline moerun_status pair_tell(moerun_comm *comm,
                                      const moerun__news *news) {
  PAIR_COLLECTIVE(comm, tell(mpi, news));
}

static inline moerun_status pair_share_rows(moerun_comm *comm,
                                            const moerun__row_list *list) {
  pair_look((pair_comm *)comm, list->rows,
            (size_t)list->offset[comm->size] * list->row_bytes);
  PAIR_COLLECTIVE(comm, share_rows(mpi, list));
}

static inline moerun_status pair_minimum(moerun_comm *comm, int64_t *value) {
  PAIR_COLLECTIVE(comm, minimum(mpi, value));
}

static inline moerun_status pair_gather(moerun_comm *comm, void *receive,
                                        const void *send, size_t bytes) {
  PAIR_COLLECTIVE(comm, gather(mpi, receive, send, bytes));
}

static inline moerun_status pair_scatter(moerun_comm *comm, void *receive,
                                         const void *send, size_t bytes) {
  PAIR_COLLECTIVE(comm, scatter(mpi, receive, send, bytes));
}

static inline moerun_status pair_broadcast(moerun_comm *comm, void *buffer,
                                           size_t bytes) {
  PAIR_COLLECTIVE(comm, broadcast(mpi, buffer, bytes));
}

static inline moerun_status pair_wait_for_root(moerun_comm *comm) {
  PAIR_COLLECTIVE(comm, wait_for_root(mpi));
}

/* Of MPI alone: what belongs together there has no pairs. */
static inline moerun_status pair_split(moerun_comm **out, moerun_comm *comm,
                                       moerun__comm_level level) {
  moerun_comm *mpi = ((pair_comm *)comm)->mpi;
  return mpi->ops->split(out, mpi, level);
}

static inline void pair_transfer_destroy(moerun__transfer *x) {
  if (x == NULL) return;
  x->comm->mpi->ops->transfer_destroy(x->mpi);
  moerun__free(x->here_offset);
  free(x->here);
  moerun__free(x);
}

static inline moerun_status pair_transfer_create(moerun__transfer **out,
                                                 moerun_comm *comm,
                                                 size_t plan_bytes,
                                                 moerun__memory memory) {
  moerun_status status = MOERUN_OK;
  moerun__transfer *x = NULL;
  pair_comm *c = (pair_comm *)comm;
  *out = NULL;
  MOERUN_TRY(moerun__memory_check(comm, memory));
  MOERUN_TRY(moerun__alloc(&x, 1, sizeof *x));
  x->comm = c;
  x->plan_bytes = plan_bytes;
  MOERUN_TRY(moerun__alloc(&x->here_offset, (size_t)comm->size + 1,
                           sizeof *x->here_offset));
  MOERUN_TRY(
      c->mpi->ops->transfer_create(&x->mpi, c->mpi, 0, MOERUN_MEMORY_HOST));
  *out = x;
  x = NULL;
done:
  pair_transfer_destroy(x);
  return status;
}

static inline size_t pair_transfer_bytes(const moerun_comm *comm,
                                         size_t plan_bytes,
                                         moerun__memory memory) {
  (void)plan_bytes; /* what travels is of this test alone, not counted */
  return moerun__alloc_bytes(1, sizeof(moerun__transfer)) +
         moerun__alloc_bytes((size_t)comm->size + 1, sizeof(int32_t)) +
         moerun__mpi_ops.transfer_bytes(comm, 0, memory);
}

static inline void pair_destroy(moerun_comm *comm) {
  moerun_comm_destroy(((pair_comm *)comm)->mpi);
  moerun__free(comm);
}

static const moerun__comm_ops pair_ops = {
    .name = "pair",
    .max_ranks = INT32_MAX,
    .exchange_begin = pair_exchange_begin,
    .send_begin = pair_send_begin,
    .receive_begin = pair_receive_begin,
    .test = pair_test,
    .test_received = pair_test_received,
    .wait = pair_wait,
    .wait_received = pair_wait_received,
    .wait_sent = pair_wait_sent,
    .wait_either = pair_wait_either,
    .tell = pair_tell,
    .share_rows = pair_share_rows,
    .minimum = pair_minimum,
    .gather = pair_gather,
    .scatter = pair_scatter,
    .broadcast = pair_broadcast,
    .wait_for_root = pair_wait_for_root,
    .split = pair_split,
    .transfer_create = pair_transfer_create,
    .transfer_bytes = pair_transfer_bytes,
    .transfer_destroy = pair_transfer_destroy,
    .buffer_create = pair_buffer_create,
    .buffer_bytes = pair_buffer_bytes,
    .buffer_destroy = pair_buffer_destroy,
    .destroy = pair_destroy,
};

/* [collective] */
static inline moerun_status pair_comm_create(moerun_comm **out,
                                             MPI_Comm members) {
  moerun_status status = MOERUN_OK;
  pair_comm *c = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&c, 1, sizeof *c));
  MOERUN_TRY(moerun_comm_create_mpi(&c->mpi, members, NULL));
  c->base.ops = &pair_ops;
  c->base.rank = c->mpi->rank;
  c->base.size = c->mpi->size;
  *out = &c->base;
  c = NULL;
done:
  moerun__free(c);
  return status;
}

#endif
