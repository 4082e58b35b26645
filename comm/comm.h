/* Moves rows between ranks by plain integers; knows neither experts nor
 * models. A transport is one file, or the few of MPI, behind one ops table.
 *
 * Every wait but wait_for_root has the transport's time limit and then fails
 * with MOERUN_ERR_TIMEOUT naming the peers still missing: nothing hangs.
 * Whatever fails here is fatal to the job; only launch/ may abort it. After a
 * failure the comm starts nothing more (each call returns the first code at
 * once), and MPI may still write to the buffers of the call that failed.
 *
 * Whose memory rows lie in, each list and plan says. Every transport carries
 * rows of the host's memory: any of it, pinned memory and what buffer_create
 * gives among it. One that names a device carries rows of that device's memory
 * too, and may have them read and written by the device or by the network. The
 * host follows no pointer into that memory (kernels/device.h). Tails, offsets
 * and words are the host's everywhere.
 *
 * A transport knows no queue of others: whoever has rows written or read by a
 * device waits for its queue before they are sent, and before it gives them up
 * to a receive. What a transport itself needs of its device it takes from
 * there, by `device` of its table and kernels/device.h, the one header of
 * kernels/ that this folder may include: buffers by memory_create, room for
 * rows on their way by memory_create or pinned_create, and copies by a queue
 * of its own, which it waits for before it says that rows have come. */
#ifndef MOERUN_COMM_H
#define MOERUN_COMM_H

#include "kernels/device.h"

/* All message tags, so that no two protocols collide. A chunk adds its number
 * (0..7), and so does a part of an expert. */
enum {
  MOERUN_TAG_EXPERTS = 0,   /* weights of experts that move              */
  MOERUN_TAG_CONTROL = 8,   /* requests and completions, root <-> rank   */
  MOERUN_TAG_DISPATCH = 16, /* + chunk: rows to experts                  */
  MOERUN_TAG_COMBINE = 24,  /* + chunk: result rows home                 */
  MOERUN_TAG_END = 32,
};

/* Whose memory rows lie in. */
typedef enum moerun__memory {
  MOERUN_MEMORY_HOST = 0,
  MOERUN_MEMORY_DEVICE, /* of the device that the transport names */
} moerun__memory;

/* The messages of one exchange, both directions: to each peer one at most, and
 * from each. Created once, begun and ended many times. */
typedef struct moerun__transfer moerun__transfer;

/* Rows to or from the peers first_peer..last_peer-1: with i = p - first_peer,
 * peer p's are rows offset[i] .. offset[i + 1] - 1 of `rows`, row_bytes each.
 * Own rows are never sent: the caller has them already, and they are skipped.
 * No message for zero rows: both sides know the counts. */
typedef struct moerun__row_list {
  void *rows;
  size_t row_bytes;
  const int32_t *offset; /* [last_peer - first_peer + 1] */
  int32_t first_peer;
  int32_t last_peer;
  moerun__memory memory; /* of `rows` */
} moerun__row_list;

/* Rows of the list to or from peer p, one of its peers. */
static inline int64_t moerun__row_list_count(const moerun__row_list *list,
                                             int32_t p) {
  const int32_t *at = list->offset + (p - list->first_peer);
  return (int64_t)at[1] - at[0];
}

/* Where the first of them lies. */
static inline char *moerun__row_list_rows(const moerun__row_list *list,
                                          int32_t p) {
  return (char *)list->rows +
         (size_t)list->offset[p - list->first_peer] * list->row_bytes;
}

/* One row to or from one peer; its offsets are a constant. */
moerun__row_list moerun__one_row(const void *row, size_t row_bytes,
                                 int32_t peer, moerun__memory memory);

/* Rows that may go to several ranks each, and what each of these gets behind
 * the row: its tail. Integers and borrowed memory, for the transport packs: it
 * may as well send a row once to a node, or write it straight into the
 * receiver's memory. Whatever its way, a peer receives the rows that name it,
 * in their order, as wire_bytes each: row, tail, and then bytes of any value.
 * The own rank may be named and gets nothing: its rows are here already. */
typedef struct moerun__row_plan {
  const void *rows;
  size_t stride_bytes; /* from one row to the next */
  size_t row_bytes;
  int32_t num_rows;
  const int32_t *to_offset; /* [num_rows + 1] */
  const int32_t *to; /* [to_offset[num_rows]] ranks, ascending in a row */
  const void *tails; /* [to_offset[num_rows]][tail_bytes] */
  size_t tail_bytes;
  size_t wire_bytes;
  moerun__memory memory; /* of `rows` */
} moerun__row_plan;

/* Sent to other ranks since the comm was created: rows, bytes and messages of
 * dispatch and combine (what a placement is judged by), share_rows among them
 * as one message for each peer, and beside them the bytes of what ranks tell
 * each other and of all other messages. */
typedef struct moerun__comm_count {
  int64_t rows;
  int64_t row_bytes;
  int64_t messages;
  int64_t count_bytes;
  int64_t control_bytes;
} moerun__comm_count;

/* Of what was sent by `now` what was not by `before`. */
static inline moerun__comm_count
moerun__comm_count_since(const moerun__comm_count *now,
                         const moerun__comm_count *before) {
  return (moerun__comm_count){
      now->rows - before->rows, now->row_bytes - before->row_bytes,
      now->messages - before->messages, now->count_bytes - before->count_bytes,
      now->control_bytes - before->control_bytes};
}

/* Ranks that belong together. */
typedef enum moerun__comm_level {
  MOERUN_LEVEL_NODE,    /* those that share this rank's memory */
  MOERUN_LEVEL_LEADERS, /* the first of each node; the others are in none.
                           Tested with every transport, for an exchange in
                           two levels, which there is none of yet         */
} moerun__comm_level;

/* The ranks that share this rank's memory. */
typedef struct moerun__node {
  int32_t ranks; /* how many */
  int32_t first; /* the lowest of them */
  int64_t sum;   /* of what each of them gave */
} moerun__node;

/* What ranks tell each other in one go. How many words each part has is the
 * same on all ranks, and may be 0; else all of them fail with MOERUN_ERR_COMM,
 * if no message is longer than the room. Sums must fit 32 bits. */
typedef struct moerun__news {
  int32_t num_least;
  int32_t
      *least; /* [num_least] this rank's; afterwards the least of all ranks */
  int32_t num_sums;
  int32_t *sum; /* [num_sums] this rank's; afterwards of all ranks together */
  int32_t
      *before; /* [num_sums] afterwards of the ranks below this one together;
                      NULL on all ranks: not wanted                           */
  int32_t width;
  int32_t
      *words; /* [R][width] this rank's at its place; afterwards each rank's */
  int32_t count_width;
  const int32_t *count_out; /* [R][count_width] for each rank */
  int32_t *count_in; /* [R][count_width] afterwards from each rank. A peer gets
                        no message if all words for it are 0                  */
  int32_t *scratch;  /* [moerun__news_scratch()] */
  size_t room; /* words of a message that scratch is for; 0: as many as these
                        news take                                             */
  int32_t is_bound; /* 1: told between the counting of rows and the rows. A rank
                       that goes on without these news fails, and so do all
                       others, with ERR_COMM and a line "rank %d DOUBT"       */
  const char *doubt; /* what it means if ranks tell other numbers of words, or
                        some pass by what is bound, from now on; a constant.
                        NULL: nothing that the caller could say               */
} moerun__news;

/* What a launcher gives a transport, which takes of it what it needs. */
typedef struct moerun__comm_setting {
  /* The MPI_Comm of all ranks, by its address, because this header is read
   * where there is no mpi.h; until the comm is created. */
  const void *mpi_comm;
  double timeout_s; /* of a wait; negative: there is no limit */
} moerun__comm_setting;

/* After a time limit, or when messages were not what was agreed, all that can
 * fail does, at once and with the status and the line of that failure; only
 * destroys follow then. Memory that messages may still be under way to or from
 * is not given back. */
typedef struct moerun__comm_ops {
  const char *name;  /* "self", "mpi" */
  int32_t max_ranks; /* INT32_MAX: any number */
  /* The device (kernels/device.h) whose memory rows may lie in; NULL: in the
   * host's alone. */
  const moerun__device *device;

  /* 1: it begins both directions of an exchange together and in full, and one
   * exchange behind the other: what that asks for stands below. */
  int32_t begins_at_once;

  /* [collective] A comm of all ranks, at most max_ranks. Every transport of
   * MOERUN_TRANSPORT_MAP has it; NULL for one that no launcher offers. */
  moerun_status (*create)(moerun_comm **out,
                          const moerun__comm_setting *setting);

  /* Split phase. Rows, plans and offsets stay untouched until the wait for
   * their direction has returned. A send completes without the peer having
   * asked only for small messages, so begin to receive before waiting on
   * sends.
   *
   * By their tags there are two sorts of messages. Those of an exchange
   * (MOERUN_TAG_DISPATCH, _COMBINE) belong together: every rank begins both
   * directions, in one transfer, even where it has no rows for one, and all
   * ranks begin their exchanges in the same order. All others are single, for
   * only their two ends know of them, and begin them at different points: they
   * go on by themselves, whatever has been begun before. Messages of one tag
   * from one rank to another come in the order in which they were begun: the
   * pieces of a weight, and one layer's chunks behind those of the last.
   *
   * Collectives are called by all ranks in the same order, and stand by
   * themselves: they may be called while exchanges and single messages are in
   * flight, and neither wait for these nor hold up their order. A rank that
   * waits in one need not move on what it has in flight; so no rank waits for
   * an exchange before a collective that another reaches without waiting.
   *
   * Where begins_at_once is 1, the receives of an exchange are held back until
   * its sends are given. Each direction is given once, with all of its peers,
   * and nobody waits for the receives before. Single messages then take a way
   * on which no exchange is before them. Where it is 0, receives begin when
   * they are given, and peers may have their turn in waves.
   *
   * So such a transport keeps, for each transfer, a list given to receive_begin
   * until send_begin brings its other half of the same tag (exchange_begin
   * brings both), lines the pairs up in that order, and begins each with what
   * ends the one before: from every test and wait, of any transfer. A wait for
   * the sends alone of what is still held back returns at once. */

  /* Both directions of an exchange: `out` packed and sent, and the rows of all
   * peers, or of the first, received. Neither begins where `out` cannot be. */
  moerun_status (*exchange_begin)(moerun__transfer *transfer, int32_t tag,
                                  const moerun__row_plan *out,
                                  const moerun__row_list *in);
  /* One direction: a single message to each of some peers or from them; an
   * exchange whose rows leave from where they lie, receives first, even long
   * before there is something to send; and the next peers of a wave, when the
   * rows from (or to) those before have been waited for. */
  moerun_status (*send_begin)(moerun__transfer *transfer, int32_t tag,
                              const moerun__row_list *list);
  moerun_status (*receive_begin)(moerun__transfer *transfer, int32_t tag,
                                 const moerun__row_list *list);
  /* *done = 1 when all messages of the transfer are complete, or all that it
   * receives; drives progress. */
  moerun_status (*test)(moerun__transfer *transfer, int *done);
  moerun_status (*test_received)(moerun__transfer *transfer, int *done);
  /* Until all of its messages are complete, or those of one direction; at once
   * if nothing is in flight. After MOERUN_ERR_TIMEOUT it may be called again
   * for the messages that are still missing. */
  moerun_status (*wait)(moerun__transfer *transfer);
  moerun_status (*wait_received)(moerun__transfer *transfer);
  moerun_status (*wait_sent)(moerun__transfer *transfer);
  /* Until `a` has received all or `b`, of the same comm, is complete; the tests
   * say which. */
  moerun_status (*wait_either)(moerun__transfer *a, moerun__transfer *b);

  /* [collective] Only what a rank counts for another goes straight to it; all
   * else is merged on the way, in messages to some log2(R) ranks, and small
   * words are small there. Arrays do not overlap. */
  moerun_status (*tell)(moerun_comm *comm, const moerun__news *news);
  /* [collective] The list is of all ranks: every one has filled its own rows,
   * offset[rank] .. offset[rank + 1] - 1, and gets all others'. The offsets are
   * the same everywhere. */
  moerun_status (*share_rows)(moerun_comm *comm, const moerun__row_list *list);
  /* [collective] *value = the minimum over ranks. */
  moerun_status (*minimum)(moerun_comm *comm, int64_t *value);
  /* [collective] receive[R][bytes] on rank 0 (NULL elsewhere). */
  moerun_status (*gather)(moerun_comm *comm, void *receive, const void *send,
                          size_t bytes);
  /* [collective] receive[bytes] = rank 0's send[rank][bytes]. */
  moerun_status (*scatter)(moerun_comm *comm, void *receive, const void *send,
                           size_t bytes);
  /* [collective] rank 0's buffer[bytes] everywhere. */
  moerun_status (*broadcast)(moerun_comm *comm, void *buffer, size_t bytes);

  /* [collective] Returns on rank 0 at once, and on the others when it has come,
   * however long it works alone until then. */
  moerun_status (*wait_for_root)(moerun_comm *comm);

  /* [collective] A comm of the ranks that are together with this one at this
   * level, in their order, with the same time limit; NULL where it is in none.
   * For set-up, not for steps. Destroyed before `comm`. */
  moerun_status (*split)(moerun_comm **out, moerun_comm *comm,
                         moerun__comm_level level);

  /* `plan_bytes`: the most that a plan given to exchange_begin takes on the
   * wire, rows to other ranks times wire_bytes; 0 where none is given.
   * `memory`: that of the rows of all these plans, so that nobody packs in
   * another; lists may be of either. ERR_INVALID: it is not carried. Destroyed
   * before its comm; accepts NULL. */
  moerun_status (*transfer_create)(moerun__transfer **out, moerun_comm *comm,
                                   size_t plan_bytes, moerun__memory memory);
  /* Bytes that such a transfer takes, for memory predictions: of the comm no
   * more is read than its size. */
  size_t (*transfer_bytes)(const moerun_comm *comm, size_t plan_bytes,
                           moerun__memory memory);
  void (*transfer_destroy)(moerun__transfer *transfer);

  /* Memory for what is sent and received again and again: 64-byte aligned, not
   * cleared. A transport may have a shorter way for rows that lie here, such as
   * memory that its peers see or that its network knows; any other rows of this
   * memory it takes as well. Whoever has kernels of a device work in the host's
   * locks it for them (kernels/device.h). Local, like a transfer. Destroyed
   * when no transfer uses it any more, and before its comm; accepts NULL. */
  moerun_status (*buffer_create)(void **out, moerun_comm *comm, size_t bytes,
                                 moerun__memory memory);
  /* Bytes that it takes, for memory predictions: of the comm no more is read
   * than its size. */
  size_t (*buffer_bytes)(const moerun_comm *comm, size_t bytes,
                         moerun__memory memory);
  /* `memory`: as it was created. */
  void (*buffer_destroy)(moerun_comm *comm, void *buffer,
                         moerun__memory memory);

  void (*destroy)(moerun_comm *comm);
} moerun__comm_ops;

/* First member of every transport's own struct. */
struct moerun_comm {
  const moerun__comm_ops *ops;
  int32_t rank;
  int32_t size; /* R */
  moerun__comm_count count;
};

/* [collective] Ends a set-up call: if `status` is OK on all ranks returns OK;
 * else a failed rank returns its own code and the others MOERUN_ERR_PEER with
 * a line that names the lowest of the ranks with the gravest code. */
moerun_status moerun__comm_agree(moerun_comm *comm, moerun_status status);

/* [collective] The same after work that rank 0 alone does and that may take any
 * time, such as reading all of the input: the limit counts from its end on. */
moerun_status moerun__comm_agree_after_root(moerun_comm *comm,
                                            moerun_status status);

/* Words of the longest message of such news, and of the scratch memory that
 * telling them takes: by the sizes of the parts alone. */
size_t moerun__news_room(int32_t num_ranks, const moerun__news *news);
size_t moerun__news_scratch(int32_t num_ranks, const moerun__news *news);

/* For transports: words of memory for a message of `room` words, each of which
 * may take 5 bytes, as may their number. */
static inline size_t moerun__packed_words(size_t room) {
  return (5 * (room + 1) + sizeof(int32_t) - 1) / sizeof(int32_t);
}

/* [collective] words[R][width]: each rank has filled its own and gets all
 * others'. */
moerun_status moerun__comm_share_words(moerun_comm *comm, int32_t *words,
                                       int32_t width, int32_t *scratch);
/* [collective] sum[n]: what each rank has there is added up over all ranks. */
moerun_status moerun__comm_sum(moerun_comm *comm, int32_t *sum, int32_t n,
                               int32_t *scratch);

/* [collective] The node of this rank, with the sum of `value` over it; for
 * set-up, not for steps. */
moerun_status moerun__comm_sum_node(moerun_comm *comm, moerun__node *node,
                                    int64_t value);

/* The transport of this name, or "auto": the first of the table that carries so
 * many ranks. It may be asked without a comm, for memory predictions; NULL if
 * there is none. */
const moerun__comm_ops *moerun__transport_for(const char *wanted,
                                              int32_t num_ranks);
/* What may be wanted, the i-th: "auto", then all names; NULL after the last. */
const char *moerun__transport_name_at(int i);

/* ---- For transports ---- */

/* The transports, one row each, in the order in which "auto" looks at them:
 * each file NAME.c defines moerun__NAME_ops, whose name is NAME. */
#define MOERUN_TRANSPORT_MAP(X) X(self) X(mpi)

#define MOERUN_TRANSPORT_DECLARE(name)                                         \
  extern const moerun__comm_ops moerun__##name##_ops;
MOERUN_TRANSPORT_MAP(MOERUN_TRANSPORT_DECLARE)

/* Buffers of a transport that has no way of its own for them: memory of the
 * host like any other. */
moerun_status moerun__host_buffer_create(void **out, moerun_comm *comm,
                                         size_t bytes, moerun__memory memory);
size_t moerun__host_buffer_bytes(const moerun_comm *comm, size_t bytes,
                                 moerun__memory memory);
void moerun__host_buffer_destroy(moerun_comm *comm, void *buffer,
                                 moerun__memory memory);

/* ERR_INVALID: this transport carries no rows of this memory. The checks of a
 * list and of a plan ask this too, and so comes before anything begins. */
moerun_status moerun__memory_check(const moerun_comm *comm,
                                   moerun__memory memory);

/* Tag, row size and peers within their ranges, memory that is carried. */
moerun_status moerun__row_list_check(const moerun_comm *comm, int32_t tag,
                                     const moerun__row_list *list);

/* Counts the rows to other ranks into offset[R + 1], for the packing.
 * ERR_INVALID: a plan that cannot be, or that takes more than room_bytes; so
 * this comes before anything begins. */
moerun_status moerun__row_plan_count(int32_t *offset, size_t room_bytes,
                                     const moerun_comm *comm,
                                     const moerun__row_plan *plan);
/* Packs the rows to other ranks, which are counted, by rank as they go over the
 * wire: packed[offset[R]][wire_bytes], those to rank r at offset[r] ..
 * offset[r + 1] - 1. */
void moerun__row_plan_pack(char *packed, int32_t *offset,
                           const moerun_comm *comm,
                           const moerun__row_plan *plan);

#endif
