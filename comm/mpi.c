/* Rows over MPI 3.1, point to point: one MPI_Isend or MPI_Irecv per peer with
 * rows, counted in rows of a contiguous type so that `int` counts reach past
 * 2 GiB. Rank r starts with its neighbours (sends upward from r + 1, receives
 * downward from r - 1), so that no rank is everybody's first target.
 * A transfer is tested front to back, one request at a time: each test
 * drives all messages, and a wait costs O(messages), not O(messages * polls).
 *
 * After a time limit or an MPI error the comm is broken: it starts nothing
 * more and returns the same code at once, so that the job ends after one
 * limit, with the first message standing. */
#include "comm/mpi_comm.h"

#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/sized.h"

#include <stdio.h>

enum {
  DEFAULT_TIMEOUT_S = 120,
  TEXT_BYTES = 160,
};

typedef struct one_way {
  moerun__mpi_comm *comm;
  int receives;
  int32_t tag;
  moerun__row_list list;
  MPI_Datatype row;
  int32_t num_requests;
  int32_t num_done;     /* requests 0 .. num_done-1 are complete */
  MPI_Request *request; /* [R] */
  int32_t *peer;        /* [R] of each request */
} one_way;

struct moerun__transfer {
  one_way out;
  one_way in;
  char *packed; /* [plan_bytes] rows of a plan, by rank */
  size_t plan_bytes;
  int32_t *packed_offset; /* [R + 1] */
};

/* ---- Errors -------------------------------------------------------------- */

moerun_status moerun__mpi_break(moerun__mpi_comm *self, moerun_status status) {
  if (self->broken == MOERUN_OK) {
    self->broken = status;
    (void)snprintf(self->why, sizeof self->why, "%s", moerun_last_error());
  }
  return status;
}

moerun_status moerun__mpi_usable(const moerun__mpi_comm *self) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(self->broken == MOERUN_OK, self->broken, "%s", self->why);
done:
  return status;
}

moerun_status moerun__mpi_result(moerun__mpi_comm *self, int code,
                                 const char *what) {
  if (code == MPI_SUCCESS) return MOERUN_OK;
  char text[MPI_MAX_ERROR_STRING + 1] = "unknown error";
  int length = 0;
  (void)MPI_Error_string(code, text, &length);
  const moerun_status status =
      moerun__fail(MOERUN_ERR_COMM, __FILE__, __LINE__,
                   "MPI failed during %s: %s", what, text);
  return self != NULL ? moerun__mpi_break(self, status) : status;
}

/* ---- Rows ---------------------------------------------------------------- */

moerun_status moerun__mpi_row_type(MPI_Datatype *out, moerun__mpi_comm *self,
                                   size_t row_bytes) {
  moerun_status status = MOERUN_OK;
  for (int i = 0; i < MOERUN_ROW_TYPES; i++) {
    if (self->row_types[i].bytes == row_bytes) {
      *out = self->row_types[i].type;
      goto done;
    }
  }
  moerun__row_type *entry = &self->row_types[self->next_row_type];
  if (entry->bytes != 0) { /* messages in flight keep the type they use */
    entry->bytes = 0;
    MOERUN_TRY(moerun__mpi_result(self, MPI_Type_free(&entry->type),
                                  "set-up of rows"));
  }
  MOERUN_TRY(
      moerun__mpi_result(self,
                         MPI_Type_contiguous(moerun__to_int((int64_t)row_bytes),
                                             MPI_BYTE, &entry->type),
                         "set-up of rows"));
  MOERUN_TRY(moerun__mpi_result(self, MPI_Type_commit(&entry->type),
                                "set-up of rows"));
  entry->bytes = row_bytes;
  self->next_row_type = (self->next_row_type + 1) % MOERUN_ROW_TYPES;
  *out = entry->type;
done:
  return status;
}

static void describe(char out[TEXT_BYTES], const one_way *way) {
  static const char *const protocol[] = {"experts", "control rows", "dispatch",
                                         "combine"};
  (void)snprintf(out, TEXT_BYTES, "%s %s (chunk %d)",
                 way->receives ? "receiving" : "sending",
                 protocol[way->tag / MOERUN_TAG_CONTROL],
                 way->tag % MOERUN_TAG_CONTROL);
}

/* Peer number i of the n in the list, starting beside the own rank. */
static int32_t peer_at(const one_way *way, int32_t i) {
  const int64_t first = way->list.first_peer;
  const int64_t n = way->list.last_peer - first;
  const int64_t rank = way->comm->base.rank;
  const int64_t step = way->receives ? -1 - (int64_t)i : 1 + (int64_t)i;
  return moerun__to_int(first + (((rank - first + step) % n) + n) % n);
}

static moerun_status post(one_way *way, int32_t peer, int32_t rows) {
  moerun__mpi_comm *self = way->comm;
  const moerun__row_list *list = &way->list;
  MPI_Request *request = &way->request[way->num_requests];
  char *start = moerun__row_list_rows(list, peer);
  const int code = way->receives ? MPI_Irecv(start, rows, way->row, peer,
                                             way->tag, self->comm, request)
                                 : MPI_Isend(start, rows, way->row, peer,
                                             way->tag, self->comm, request);
  if (code != MPI_SUCCESS)
    return moerun__mpi_result(self, code, "start of rows");
  way->peer[way->num_requests++] = peer;
  const int64_t bytes = rows * (int64_t)list->row_bytes;
  if (!way->receives && way->tag < MOERUN_TAG_DISPATCH) {
    self->base.count.control_bytes += bytes;
  } else if (!way->receives) {
    self->base.count.messages++;
    self->base.count.rows += rows;
    self->base.count.row_bytes += bytes;
  }
  return MOERUN_OK;
}

static moerun_status check_free(const one_way *way) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(way->num_done == way->num_requests, MOERUN_ERR_INVALID,
                 "rows: the transfer is still in flight");
done:
  return status;
}

static moerun_status begin(one_way *way, int32_t tag,
                           const moerun__row_list *list) {
  moerun_status status = moerun__mpi_usable(way->comm);
  if (status != MOERUN_OK) goto done;
  MOERUN_TRY(moerun__row_list_check(&way->comm->base, tag, list));
  MOERUN_TRY(check_free(way));
  way->num_requests = 0;
  way->num_done = 0;
  way->tag = tag;
  way->list = *list;
  MOERUN_TRY(moerun__mpi_row_type(&way->row, way->comm, list->row_bytes));
  for (int32_t i = 0; i < list->last_peer - list->first_peer; i++) {
    const int32_t peer = peer_at(way, i);
    const int32_t *offset = list->offset + (peer - list->first_peer);
    const int64_t rows = moerun__row_list_count(list, peer);
    if (peer == way->comm->base.rank || rows == 0) continue;
    MOERUN_REQUIRE(rows > 0 && offset[0] >= 0, MOERUN_ERR_INVALID,
                   "rows: offsets of peer %d: expected 0 <= first <= last, "
                   "found %d and %d",
                   peer, offset[0], offset[1]);
    MOERUN_TRY(post(way, peer, moerun__to_int(rows)));
  }
done:
  return status;
}

static moerun_status send_begin(moerun__transfer *transfer, int32_t tag,
                                const moerun__row_list *list) {
  return begin(&transfer->out, tag, list);
}

static moerun_status receive_begin(moerun__transfer *transfer, int32_t tag,
                                   const moerun__row_list *list) {
  return begin(&transfer->in, tag, list);
}

static moerun_status exchange_begin(moerun__transfer *transfer, int32_t tag,
                                    const moerun__row_plan *out,
                                    const moerun__row_list *in) {
  moerun_status status = MOERUN_OK;
  const moerun_comm *comm = &transfer->out.comm->base;
  MOERUN_TRY(check_free(&transfer->out)); /* its rows are not packed over */
  MOERUN_TRY(moerun__row_plan_count(transfer->packed_offset,
                                    transfer->plan_bytes, comm, out));
  MOERUN_TRY(begin(&transfer->in, tag, in));
  moerun__row_plan_pack(transfer->packed, transfer->packed_offset, comm, out);
  const moerun__row_list list = {
      transfer->packed, out->wire_bytes,   transfer->packed_offset, 0,
      comm->size,       MOERUN_MEMORY_HOST};
  MOERUN_TRY(begin(&transfer->out, tag, &list));
done:
  return status;
}

/* Tests request i; a received message must hold the rows that were agreed. */
static moerun_status test_one(one_way *way, int32_t i, int *done) {
  moerun_status status = MOERUN_OK;
  MPI_Status received;
  int rows = 0;
  const int32_t peer = way->peer[i];
  const int64_t agreed = moerun__row_list_count(&way->list, peer);
  *done = way->request[i] == MPI_REQUEST_NULL; /* found complete before */
  if (*done) goto done;
  const int code = MPI_Test(&way->request[i], done, &received);
  if (code != MPI_SUCCESS) {
    char what[TEXT_BYTES];
    char place[TEXT_BYTES + 32];
    describe(what, way);
    (void)snprintf(place, sizeof place, "%s, rank %d", what, peer);
    MOERUN_TRY(moerun__mpi_result(way->comm, code, place));
  }
  if (!*done || !way->receives) goto done;
  MOERUN_TRY(moerun__mpi_result(way->comm,
                                MPI_Get_count(&received, way->row, &rows),
                                "counting of rows"));
  if (rows == agreed) goto done;
  status = moerun__mpi_break(
      way->comm, moerun__fail(MOERUN_ERR_COMM, __FILE__, __LINE__,
                              "rank %d: expected %d rows, found %d", peer,
                              (int)agreed, rows == MPI_UNDEFINED ? -1 : rows));
done:
  return status;
}

static moerun_status test_way(one_way *way, int *done) {
  moerun_status status = MOERUN_OK;
  *done = 1;
  while (way->num_done < way->num_requests) {
    MOERUN_TRY(test_one(way, way->num_done, done));
    if (!*done) break;
    way->num_done++;
  }
done:
  return status;
}

/* Asks all that are missing once more; what has come by now is no failure. */
static moerun_status fail_with_missing(one_way *way) {
  moerun_status status = MOERUN_OK;
  char what[TEXT_BYTES];
  moerun__peer_names missing = {0};
  int one_done = 0;
  for (int32_t i = way->num_done; i < way->num_requests; i++) {
    MOERUN_TRY(test_one(way, i, &one_done));
    if (!one_done) moerun__peer_names_add(&missing, way->peer[i]);
  }
  if (missing.count == 0) goto done;
  moerun__peer_names_end(&missing);
  describe(what, way);
  status = moerun__mpi_break(
      way->comm, moerun__fail(MOERUN_ERR_TIMEOUT, __FILE__, __LINE__,
                              "%s: no answer within %g s from rank %s", what,
                              way->comm->timeout_s, missing.text));
done:
  return status;
}

/* Between two looks at messages that have not come. */
static moerun_status rest(one_way *way, moerun__patience *waited) {
  moerun_status status = MOERUN_OK;
  const int is_over = moerun__patience_is_over(waited, way->comm->timeout_s);
  MOERUN_TRY(moerun__mpi_look_astray(way->comm, waited, 0));
  if (is_over) MOERUN_TRY(fail_with_missing(way));
done:
  return status;
}

static moerun_status wait_way(one_way *way) {
  moerun_status status = MOERUN_OK;
  moerun__patience waited = {0};
  int done = 0;
  for (;;) {
    MOERUN_TRY(test_way(way, &done));
    if (done) break;
    MOERUN_TRY(rest(way, &waited));
  }
done:
  return status;
}

static moerun_status test_received(moerun__transfer *transfer, int *done) {
  return test_way(&transfer->in, done);
}

static moerun_status test(moerun__transfer *transfer, int *done) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(test_way(&transfer->in, done));
  if (*done) MOERUN_TRY(test_way(&transfer->out, done));
done:
  return status;
}

static moerun_status wait_received(moerun__transfer *transfer) {
  return wait_way(&transfer->in);
}

static moerun_status wait_sent(moerun__transfer *transfer) {
  return wait_way(&transfer->out);
}

static moerun_status wait(moerun__transfer *transfer) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(wait_way(&transfer->in));
  MOERUN_TRY(wait_way(&transfer->out));
done:
  return status;
}

static moerun_status wait_either(moerun__transfer *a, moerun__transfer *b) {
  moerun_status status = MOERUN_OK;
  moerun__patience waited = {0};
  int done = 0;
  for (;;) {
    MOERUN_TRY(test_received(a, &done));
    if (!done) MOERUN_TRY(test(b, &done));
    if (done) break;
    MOERUN_TRY(rest(&a->in, &waited));
  }
done:
  return status;
}

static void give_up(one_way *way) {
  for (int32_t i = way->num_done; i < way->num_requests; i++) {
    if (way->request[i] == MPI_REQUEST_NULL) continue;
    if (way->receives) (void)MPI_Cancel(&way->request[i]);
    (void)MPI_Request_free(&way->request[i]);
  }
}

static void transfer_destroy(moerun__transfer *transfer) {
  if (transfer == NULL) return;
  give_up(&transfer->out);
  give_up(&transfer->in);
  moerun__free(transfer->out.request);
  moerun__free(transfer->out.peer);
  moerun__free(transfer->packed);
  moerun__free(transfer);
}

static moerun_status transfer_create(moerun__transfer **out, moerun_comm *comm,
                                     size_t plan_bytes, moerun__memory memory) {
  moerun_status status = MOERUN_OK;
  moerun__transfer *transfer = NULL;
  const size_t R = (size_t)comm->size;
  *out = NULL;
  MOERUN_TRY(moerun__memory_check(comm, memory));
  MOERUN_TRY(moerun__alloc(&transfer, 1, sizeof *transfer));
  transfer->plan_bytes = plan_bytes;
  transfer->out.comm = (moerun__mpi_comm *)comm;
  transfer->in.comm = (moerun__mpi_comm *)comm;
  transfer->in.receives = 1;
  MOERUN_TRY(moerun__alloc(&transfer->out.request, 2 * R, sizeof(MPI_Request)));
  MOERUN_TRY(moerun__alloc(&transfer->out.peer, 3 * R + 1, sizeof(int32_t)));
  MOERUN_TRY(moerun__alloc_unset(&transfer->packed, plan_bytes, 1));
  transfer->in.request = transfer->out.request + R;
  transfer->in.peer = transfer->out.peer + R;
  transfer->packed_offset = transfer->out.peer + 2 * R;
  *out = transfer;
  transfer = NULL;
done:
  transfer_destroy(transfer);
  return status;
}

static size_t transfer_bytes(const moerun_comm *comm, size_t plan_bytes,
                             moerun__memory memory) {
  (void)memory; /* the host's */
  const size_t R = (size_t)comm->size;
  return moerun__alloc_bytes(1, sizeof(moerun__transfer)) +
         moerun__alloc_bytes(2 * R, sizeof(MPI_Request)) +
         moerun__alloc_bytes(3 * R + 1, sizeof(int32_t)) +
         moerun__alloc_bytes(plan_bytes, 1);
}

/* ---- Create and destroy -------------------------------------------------- */

/* Messages of a broken comm may still be under way, to and from such memory. */
static void buffer_destroy(moerun_comm *comm, void *buffer,
                           moerun__memory memory) {
  const moerun__mpi_comm *self = (const moerun__mpi_comm *)comm;
  if (self->broken != MOERUN_OK) return;
  moerun__host_buffer_destroy(comm, buffer, memory);
}

static void destroy(moerun_comm *comm) {
  moerun__mpi_comm *self = (moerun__mpi_comm *)comm;
  int finalized = 0;
  (void)MPI_Finalized(&finalized);
  if (!finalized) {
    for (int i = 0; i < MOERUN_ROW_TYPES; i++) {
      if (self->row_types[i].bytes != 0) {
        (void)MPI_Type_free(&self->row_types[i].type);
      }
    }
    /* To free the comm is collective: after a failure the others may be
     * gone. */
    moerun__mpi_questions_destroy(self->question, comm->size);
    self->question = NULL;
    if (self->broken == MOERUN_OK) (void)MPI_Comm_free(&self->comm);
  }
  if (self->broken != MOERUN_OK && !finalized) return; /* see buffer_destroy */
  moerun__free(self->question);
  moerun__free(self->share_count);
  moerun__free(self->count_request);
  moerun__free(self);
}

static moerun_status create(moerun_comm **out,
                            const moerun__comm_setting *setting) {
  const moerun_mpi_options options = {.struct_size = sizeof options,
                                      .timeout_s = setting->timeout_s};
  return moerun_comm_create_mpi(out, *(const MPI_Comm *)setting->mpi_comm,
                                &options);
}

const moerun__comm_ops moerun__mpi_ops = {
    .name = "mpi",
    .max_ranks = INT32_MAX,
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
    .tell = moerun__mpi_tell,
    .share_rows = moerun__mpi_share_rows,
    .minimum = moerun__mpi_minimum,
    .gather = moerun__mpi_gather,
    .scatter = moerun__mpi_scatter,
    .broadcast = moerun__mpi_broadcast,
    .wait_for_root = moerun__mpi_wait_for_root,
    .split = moerun__mpi_split,
    .transfer_create = transfer_create,
    .transfer_bytes = transfer_bytes,
    .transfer_destroy = transfer_destroy,
    .buffer_create = moerun__host_buffer_create,
    .buffer_bytes = moerun__host_buffer_bytes,
    .buffer_destroy = buffer_destroy,
    .destroy = destroy,
};

/* Where it fails there is nothing to tell other ranks by. */
static moerun_status check_comm(MPI_Comm comm) {
  moerun_status status = MOERUN_OK;
  int initialized = 0;
  int finalized = 0;
  int between_groups = 0;
  (void)MPI_Initialized(&initialized);
  (void)MPI_Finalized(&finalized);
  MOERUN_REQUIRE(initialized && !finalized, MOERUN_ERR_INVALID,
                 "moerun_comm_create_mpi: expected to be called between "
                 "MPI_Init and MPI_Finalize");
  MOERUN_REQUIRE(comm != MPI_COMM_NULL, MOERUN_ERR_INVALID,
                 "moerun_comm_create_mpi: the communicator is MPI_COMM_NULL");
  MOERUN_TRY(moerun__mpi_result(NULL,
                                MPI_Comm_test_inter(comm, &between_groups),
                                "set-up of the communicator"));
  MOERUN_REQUIRE(!between_groups, MOERUN_ERR_INVALID,
                 "moerun_comm_create_mpi: expected an intracommunicator, "
                 "found an intercommunicator");
done:
  return status;
}

/* *timeout_s: the default where the options are refused, until others know. */
static moerun_status read_limit(double *timeout_s,
                                const moerun_mpi_options *options) {
  moerun_status status = MOERUN_OK;
  moerun_mpi_options own = {0};
  *timeout_s = DEFAULT_TIMEOUT_S;
  if (options != NULL) {
    MOERUN_TRY(
        moerun__sized_read(&own, sizeof own, options, "moerun_mpi_options"));
  }
  const double asked = own.timeout_s;
  MOERUN_REQUIRE(asked == asked, MOERUN_ERR_INVALID,
                 "moerun_comm_create_mpi: timeout_s is not a number");
  if (asked != 0) *timeout_s = asked;
done:
  return status;
}

moerun_status moerun_comm_create_mpi(moerun_comm **out, MPI_Comm comm,
                                     const moerun_mpi_options *options) {
  moerun_status status = MOERUN_OK;
  static const char what[] = "set-up of the communicator";
  moerun__mpi_comm *self = NULL;
  MPI_Comm own = MPI_COMM_NULL;
  MPI_Request request = MPI_REQUEST_NULL;
  double timeout_s = 0;
  int rank = 0;
  int size = 0;
  int *share_count = NULL;
  MPI_Request *count_request = NULL;
  moerun__question *question = NULL;
  *out = NULL;
  MOERUN_TRY(check_comm(comm));
  const moerun_status asked = read_limit(&timeout_s, options);
  MOERUN_TRY(
      moerun__mpi_result(NULL, MPI_Comm_idup(comm, &own, &request), what));
  MOERUN_TRY(moerun__mpi_finish(NULL, &request, timeout_s, what));
  MOERUN_TRY(moerun__mpi_result(
      NULL, MPI_Comm_set_errhandler(own, MPI_ERRORS_RETURN), what));
  MOERUN_TRY(moerun__mpi_result(NULL, MPI_Comm_rank(own, &rank), what));
  MOERUN_TRY(moerun__mpi_result(NULL, MPI_Comm_size(own, &size), what));
  /* A rank short of memory, or whose options are refused, still takes part in
   * the agreement: with a comm on its own stack. */
  moerun__mpi_comm spare = {
      .base = {.ops = &moerun__mpi_ops, .rank = rank, .size = size},
      .comm = own,
      .timeout_s = timeout_s,
      .pending = MPI_REQUEST_NULL,
      .telling = MPI_REQUEST_NULL};
  status = moerun__alloc(&spare.share_count, 2 * (size_t)size, sizeof(int));
  if (status == MOERUN_OK) {
    spare.heard = spare.share_count + size;
    status =
        moerun__alloc(&spare.count_request, (size_t)size, sizeof(MPI_Request));
  }
  if (status == MOERUN_OK) {
    status = moerun__mpi_questions_create(&spare.question, size);
  }
  if (status == MOERUN_OK) status = moerun__alloc(&self, 1, sizeof *self);
  if (self != NULL) *self = spare;
  share_count = spare.share_count;
  count_request = spare.count_request;
  question = spare.question;
  if (asked != MOERUN_OK) status = asked;
  MOERUN_TRY(moerun__comm_agree(&spare.base, status));
  share_count = NULL;
  count_request = NULL;
  question = NULL;
  *out = &self->base;
  self = NULL;
  own = MPI_COMM_NULL;
done:
  if (own != MPI_COMM_NULL && request == MPI_REQUEST_NULL &&
      status != MOERUN_ERR_TIMEOUT && status != MOERUN_ERR_COMM) {
    (void)MPI_Comm_free(&own);
  }
  moerun__free(share_count);
  moerun__free(count_request);
  moerun__free(question);
  moerun__free(self);
  return status;
}
