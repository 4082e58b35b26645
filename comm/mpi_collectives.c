/* Collectives in their nonblocking forms, so that every wait is the same loop
 * with a time limit: MPI itself would wait for a lost rank for ever. */
#include "comm/mpi_comm.h"

#include "runtime/base/number.h"

enum { PIECE_BYTES = 1 << 22 }; /* most bytes per rank in one collective */

/* ---- Waiting ------------------------------------------------------------- */

static moerun_status fail_collective(moerun__mpi_comm *comm,
                                     MPI_Request *request, double timeout_s,
                                     const char *what, int *done) {
  moerun_status status = MOERUN_OK;
  moerun__peer_names missing;
  *done = 0;
  MOERUN_REQUIRE(comm != NULL, MOERUN_ERR_TIMEOUT,
                 "%s: not all ranks answered within %g s", what, timeout_s);
  MOERUN_TRY(moerun__mpi_call_roll(&missing, comm, request, done));
  if (*done) goto done;
  MOERUN_REQUIRE(missing.count == 0, MOERUN_ERR_TIMEOUT,
                 "%s: no answer within %g s from rank %s", what, timeout_s,
                 missing.text);
  MOERUN_REQUIRE(0, MOERUN_ERR_TIMEOUT,
                 "%s: not over within %g s, though all ranks take part", what,
                 timeout_s);
done:
  if (status == MOERUN_ERR_TIMEOUT && comm != NULL) {
    (void)moerun__mpi_break(comm, status);
  }
  return status;
}

moerun_status moerun__mpi_await(moerun__mpi_comm *comm, MPI_Request *request,
                                double timeout_s, const char *what) {
  moerun_status status = MOERUN_OK;
  moerun__patience waited = {0};
  MPI_Status received;
  int done = 0;
  while (!done) {
    const int code =
        MPI_Test(request, &done, comm != NULL ? &comm->received : &received);
    if (code != MPI_SUCCESS) MOERUN_TRY(moerun__mpi_result(comm, code, what));
    if (done) break;
    const int is_over = moerun__patience_is_over(&waited, timeout_s);
    if (comm != NULL && timeout_s >= 0) {
      MOERUN_TRY(moerun__mpi_look_astray(comm, &waited, 1));
    }
    if (!is_over) continue;
    MOERUN_TRY(fail_collective(comm, request, timeout_s, what, &done));
  }
done:
  return status;
}

moerun_status moerun__mpi_finish(moerun__mpi_comm *comm, MPI_Request *request,
                                 double timeout_s, const char *what) {
  if (comm != NULL) comm->collectives++;
  return moerun__mpi_await(comm, request, timeout_s, what);
}

/* ---- Collectives --------------------------------------------------------- */

/* NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker): the checker does not know
 * that MPI_Test in moerun__mpi_finish() completes a request. */

/* `code` is the result of starting the operation on self->pending. */
static moerun_status collective(moerun__mpi_comm *self, int code,
                                const char *what) {
  if (code != MPI_SUCCESS) return moerun__mpi_result(self, code, what);
  return moerun__mpi_finish(self, &self->pending, self->timeout_s, what);
}

moerun_status moerun__mpi_share_rows(moerun_comm *comm,
                                     const moerun__row_list *list) {
  moerun__mpi_comm *self = (moerun__mpi_comm *)comm;
  moerun_status status = moerun__mpi_usable(self);
  const int32_t *offset = list->offset;
  MPI_Datatype row = MPI_DATATYPE_NULL;
  if (status != MOERUN_OK) goto done;
  MOERUN_TRY(moerun__memory_check(comm, list->memory));
  if (offset[comm->size] == 0) goto done;
  for (int32_t r = 0; r < comm->size; r++) {
    self->share_count[r] = offset[r + 1] - offset[r];
  }
  if (self->share_count[comm->rank] > 0) {
    const int64_t sent =
        (int64_t)(comm->size - 1) * self->share_count[comm->rank];
    comm->count.messages += comm->size - 1;
    comm->count.rows += sent;
    comm->count.row_bytes += sent * (int64_t)list->row_bytes;
  }
  MOERUN_TRY(moerun__mpi_row_type(&row, self, list->row_bytes));
  MOERUN_TRY(collective(self,
                        MPI_Iallgatherv(MPI_IN_PLACE, 0, row, list->rows,
                                        self->share_count, offset, row,
                                        self->comm, &self->pending),
                        "sharing of rows"));
done:
  return status;
}

moerun_status moerun__mpi_minimum(moerun_comm *comm, int64_t *value) {
  moerun_status status = MOERUN_OK;
  moerun__mpi_comm *self = (moerun__mpi_comm *)comm;
  MOERUN_TRY(moerun__mpi_usable(self));
  self->reduced[0] = *value;
  MOERUN_TRY(collective(self,
                        MPI_Iallreduce(&self->reduced[0], &self->reduced[1], 1,
                                       MPI_INT64_T, MPI_MIN, self->comm,
                                       &self->pending),
                        "agreement of all ranks"));
  *value = self->reduced[1];
done:
  return status;
}

static size_t piece_at(size_t start, size_t bytes) {
  return bytes - start < PIECE_BYTES ? bytes - start : PIECE_BYTES;
}

/* One element is `piece` bytes, the next one begins `stride` bytes later. */
static moerun_status strided_type(MPI_Datatype *out, moerun__mpi_comm *self,
                                  size_t piece, size_t stride) {
  moerun_status status = MOERUN_OK;
  static const char what[] = "set-up of a large collective";
  MPI_Datatype block = MPI_DATATYPE_NULL;
  MOERUN_TRY(moerun__mpi_result(
      self, MPI_Type_contiguous((int)piece, MPI_BYTE, &block), what));
  MOERUN_TRY(moerun__mpi_result(
      self, MPI_Type_create_resized(block, 0, (MPI_Aint)stride, out), what));
  MOERUN_TRY(moerun__mpi_result(self, MPI_Type_commit(out), what));
done:
  if (block != MPI_DATATYPE_NULL) (void)MPI_Type_free(&block);
  return status;
}

typedef enum direction { TO_ROOT, FROM_ROOT } direction;

/* Gather (parts[R][bytes] on rank 0 from every rank's own[bytes]) or scatter
 * (the reverse), in pieces that an int can count. */
static moerun_status gather_or_scatter(moerun__mpi_comm *self, direction way,
                                       void *parts, void *own, size_t bytes) {
  moerun_status status = moerun__mpi_usable(self);
  MPI_Datatype strided = MPI_DATATYPE_NULL;
  const char *what = way == TO_ROOT ? "gather" : "scatter";
  if (status != MOERUN_OK) goto done;
  for (size_t start = 0; start < bytes; start += PIECE_BYTES) {
    const size_t piece = piece_at(start, bytes);
    MPI_Datatype type = MPI_BYTE;
    int count = (int)piece;
    if (bytes > PIECE_BYTES) {
      MOERUN_TRY(strided_type(&strided, self, piece, bytes));
      type = strided;
      count = 1;
    }
    char *root_part = parts == NULL ? NULL : (char *)parts + start;
    char *own_part = (char *)own + start;
    const int code =
        way == TO_ROOT
            ? MPI_Igather(own_part, (int)piece, MPI_BYTE, root_part, count,
                          type, 0, self->comm, &self->pending)
            : MPI_Iscatter(root_part, count, type, own_part, (int)piece,
                           MPI_BYTE, 0, self->comm, &self->pending);
    MOERUN_TRY(collective(self, code, what));
    if (strided != MPI_DATATYPE_NULL) (void)MPI_Type_free(&strided);
  }
done:
  if (strided != MPI_DATATYPE_NULL) (void)MPI_Type_free(&strided);
  return status;
}

moerun_status moerun__mpi_gather(moerun_comm *comm, void *receive,
                                 const void *send, size_t bytes) {
  return gather_or_scatter((moerun__mpi_comm *)comm, TO_ROOT, receive,
                           (void *)send, bytes);
}

moerun_status moerun__mpi_scatter(moerun_comm *comm, void *receive,
                                  const void *send, size_t bytes) {
  return gather_or_scatter((moerun__mpi_comm *)comm, FROM_ROOT, (void *)send,
                           receive, bytes);
}

moerun_status moerun__mpi_broadcast(moerun_comm *comm, void *buffer,
                                    size_t bytes) {
  moerun__mpi_comm *self = (moerun__mpi_comm *)comm;
  moerun_status status = moerun__mpi_usable(self);
  if (status != MOERUN_OK) goto done;
  for (size_t start = 0; start < bytes; start += PIECE_BYTES) {
    MOERUN_TRY(collective(self,
                          MPI_Ibcast((char *)buffer + start,
                                     (int)piece_at(start, bytes), MPI_BYTE, 0,
                                     self->comm, &self->pending),
                          "broadcast"));
  }
done:
  return status;
}

/* A broadcast and no reduction: no rank waits for any but rank 0, and who is
 * lost besides is found, and named, by what rank 0 does next. */
moerun_status moerun__mpi_wait_for_root(moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  moerun__mpi_comm *self = (moerun__mpi_comm *)comm;
  static const char what[] = "wait for rank 0";
  const double limit_s = comm->rank == 0 ? self->timeout_s : -1;
  MOERUN_TRY(moerun__mpi_usable(self));
  MOERUN_TRY(moerun__mpi_result(
      self,
      MPI_Ibcast(&self->root_word, 1, MPI_BYTE, 0, self->comm, &self->pending),
      what));
  MOERUN_TRY(moerun__mpi_finish(self, &self->pending, limit_s, what));
done:
  return status;
}

/* MPI_COMM_NULL where this rank is in none. */
static moerun_status find_level(MPI_Comm *out, moerun__mpi_comm *self,
                                moerun__comm_level level) {
  moerun_status status = MOERUN_OK;
  static const char what[] = "search for the ranks of a node";
  MPI_Comm node = MPI_COMM_NULL;
  int rank = 0;
  MOERUN_TRY(moerun__mpi_result(
      self,
      MPI_Comm_split_type(self->comm, MPI_COMM_TYPE_SHARED, self->base.rank,
                          MPI_INFO_NULL, &node),
      what));
  if (level == MOERUN_LEVEL_NODE) {
    *out = node;
    node = MPI_COMM_NULL;
    goto done;
  }
  MOERUN_TRY(moerun__mpi_result(self, MPI_Comm_rank(node, &rank), what));
  MOERUN_TRY(moerun__mpi_result(self,
                                MPI_Comm_split(self->comm,
                                               rank == 0 ? 0 : MPI_UNDEFINED,
                                               self->base.rank, out),
                                what));
done:
  if (node != MPI_COMM_NULL && self->broken == MOERUN_OK) {
    (void)MPI_Comm_free(&node);
  }
  return status;
}

/* The search blocks without a limit, so it begins when all ranks are there. */
moerun_status moerun__mpi_split(moerun_comm **out, moerun_comm *comm,
                                moerun__comm_level level) {
  moerun_status status = MOERUN_OK;
  moerun__mpi_comm *self = (moerun__mpi_comm *)comm;
  const moerun_mpi_options options = {.struct_size = sizeof options,
                                      .timeout_s = self->timeout_s};
  MPI_Comm members = MPI_COMM_NULL;
  int64_t present = 0;
  *out = NULL;
  MOERUN_TRY(moerun__mpi_minimum(comm, &present));
  MOERUN_TRY(find_level(&members, self, level));
  if (members == MPI_COMM_NULL) goto done;
  status = moerun_comm_create_mpi(out, members, &options);
  if (status != MOERUN_OK) {
    (void)moerun__mpi_break(self, status); /* others may be gone */
  }
done:
  if (members != MPI_COMM_NULL && self->broken == MOERUN_OK) {
    (void)MPI_Comm_free(&members);
  }
  return status;
}

/* NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker) */
