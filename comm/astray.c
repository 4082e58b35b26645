/* A rank that decides otherwise of the same words may pass by the news that the
 * others then tell each other: it waits for their rows, and they wait for its
 * words. Nobody would get further, and after the limit each would name others.
 * So a rank whose bound news last asks all others once to come, and a rank that
 * waits long for anything else listens. If it should have told those news before,
 * it never will: it tells all others so, and all end with the same line.
 *
 * Collectives have the same numbers on all ranks. Nothing is sent, and nobody
 * listens, before a good part of the limit has passed. */
#include "comm/mpi_comm.h"

enum {
  LISTEN_PART = 8, /* of the limit: before that nobody asks or listens */
  PASSED_BY = -1,  /* in place of a number */
};

static const char what[] = "call of the ranks that are awaited";

/* NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker): nobody waits for these:
 * older questions are passed over. */
static moerun_status tell_all(moerun__mpi_comm *self, int64_t word) {
  moerun_status status = MOERUN_OK;
  int64_t *own = &self->astray_word[word == PASSED_BY];
  *own = word;
  for (int32_t peer = 0; peer < self->base.size; peer++) {
    MPI_Request request = MPI_REQUEST_NULL;
    if (peer == self->base.rank) continue;
    MOERUN_TRY(
        moerun__mpi_result(self,
                           MPI_Isend(own, 1, MPI_INT64_T, peer,
                                     MOERUN_TAG_ASTRAY, self->comm, &request),
                           what));
    MOERUN_TRY(moerun__mpi_result(self, MPI_Request_free(&request), what));
  }
done:
  return status;
}

/* NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker) */

static moerun_status fail(moerun__mpi_comm *self, int32_t rank) {
  moerun_status status = MOERUN_OK;
  const char *doubt =
      self->doubt != NULL
          ? self->doubt
          : "has decided otherwise: are all ranks of one build?";
  self->broken = MOERUN_ERR_COMM;
  MOERUN_REQUIRE(0, MOERUN_ERR_COMM, "rank %d %s", rank, doubt);
done:
  return status;
}

/* Takes what has come; questions that this rank has answered, by taking part, do
 * not count. */
static moerun_status listen(moerun__mpi_comm *self) {
  moerun_status status = MOERUN_OK;
  for (;;) {
    MPI_Status from;
    int64_t word = 0;
    int has = 0;
    MOERUN_TRY(moerun__mpi_result(
        self,
        MPI_Iprobe(MPI_ANY_SOURCE, MOERUN_TAG_ASTRAY, self->comm, &has, &from),
        what));
    if (!has) break;
    MOERUN_TRY(moerun__mpi_result(self,
                                  MPI_Recv(&word, 1, MPI_INT64_T,
                                           from.MPI_SOURCE, MOERUN_TAG_ASTRAY,
                                           self->comm, MPI_STATUS_IGNORE),
                                  what));
    if (word == PASSED_BY) return fail(self, from.MPI_SOURCE);
    if (word <= self->asked_to) continue;
    self->asked_to = word;
    self->asked_by = from.MPI_SOURCE;
  }
done:
  return status;
}

moerun_status moerun__mpi_look_astray(moerun__mpi_comm *self,
                                      const moerun__patience *waited,
                                      int is_collective) {
  moerun_status status = MOERUN_OK;
  if (waited->waited_s * LISTEN_PART <= self->timeout_s) goto done;
  if (is_collective && self->bound == self->collectives &&
      self->asked_for != self->bound) {
    self->asked_for = self->bound;
    MOERUN_TRY(tell_all(self, self->bound));
  }
  MOERUN_TRY(listen(self));
  /* Who waits in an earlier collective may still come to it. */
  if (self->asked_to <= self->bound ||
      (is_collective && self->collectives < self->asked_to)) {
    goto done;
  }
  MOERUN_TRY(tell_all(self, PASSED_BY));
  MOERUN_TRY(fail(self, self->asked_by));
done:
  return status;
}
