/* A rank that decides otherwise of the same words may pass by the news that the
 * others then tell each other: it waits for their rows, and they wait for its
 * words. Nobody would get further, and after the limit each would name others.
 * So a rank whose bound news last asks all others once to come, and a rank that
 * waits long for anything else listens. If it should have told those news
 * before, it never will: it tells all others so, and all end with the same
 * line.
 *
 * Collectives have the same numbers on all ranks. Nothing is sent, and nobody
 * listens, before a good part of the limit has passed. */
#include "comm/mpi_comm.h"

#include "runtime/base/memory.h"

enum {
  LISTEN_PART = 8, /* of the limit: before that nobody asks or listens */
  PASSED_BY = -1,  /* in place of a number */
};

static const char what[] = "call of the ranks that are awaited";

/* NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker): nobody waits for these:
 * older questions are passed over. */

/* Asks those that have not been asked to these news yet. Who has not received
 * an earlier question is asked when it has, as long as this rank waits; a peer
 * that never receives is never asked again, and this rank's wait ends at its
 * limit as it would without questions. */
static moerun_status ask(moerun__mpi_comm *self) {
  moerun_status status = MOERUN_OK;
  for (int32_t peer = 0; peer < self->base.size; peer++) {
    moerun__question *to = &self->question[peer];
    int is_free = 0;
    if (peer == self->base.rank || to->word == self->bound) continue;
    MOERUN_TRY(moerun__mpi_result(
        self, MPI_Test(&to->request, &is_free, MPI_STATUS_IGNORE), what));
    if (!is_free) continue;
    to->word = self->bound;
    MOERUN_TRY(moerun__mpi_result(self,
                                  MPI_Isend(&to->word, 1, MPI_INT64_T, peer,
                                            MOERUN_TAG_ASTRAY, self->comm,
                                            &to->request),
                                  what));
  }
done:
  return status;
}

/* The last that this rank says; the word stays what it is for ever. */
static moerun_status say_passed_by(moerun__mpi_comm *self) {
  moerun_status status = MOERUN_OK;
  static const int64_t word = PASSED_BY;
  for (int32_t peer = 0; peer < self->base.size; peer++) {
    MPI_Request request = MPI_REQUEST_NULL;
    if (peer == self->base.rank) continue;
    MOERUN_TRY(
        moerun__mpi_result(self,
                           MPI_Isend(&word, 1, MPI_INT64_T, peer,
                                     MOERUN_TAG_ASTRAY, self->comm, &request),
                           what));
    MOERUN_TRY(moerun__mpi_result(self, MPI_Request_free(&request), what));
  }
done:
  return status;
}

moerun_status moerun__mpi_questions_create(moerun__question **out,
                                           int32_t num_ranks) {
  moerun_status status = MOERUN_OK;
  moerun__question *question = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&question, (size_t)num_ranks, sizeof *question));
  for (int32_t r = 0; r < num_ranks; r++) {
    question[r].request = MPI_REQUEST_NULL;
  }
  *out = question;
done:
  return status;
}

void moerun__mpi_questions_destroy(moerun__question *question,
                                   int32_t num_ranks) {
  int are_over = 1;
  for (int32_t r = 0; question != NULL && r < num_ranks; r++) {
    int is_over = 0;
    (void)MPI_Test(&question[r].request, &is_over, MPI_STATUS_IGNORE);
    if (question[r].request == MPI_REQUEST_NULL) continue;
    are_over = 0;
    (void)MPI_Request_free(&question[r].request);
  }
  if (are_over) moerun__free(question);
}

static moerun_status fail(moerun__mpi_comm *self, int32_t rank) {
  const char *doubt =
      self->doubt != NULL
          ? self->doubt
          : "has decided otherwise: are all ranks of one build?";
  return moerun__mpi_break(self,
                           moerun__fail(MOERUN_ERR_COMM, __FILE__, __LINE__,
                                        "rank %d %s", rank, doubt));
}

/* Takes what has come; questions that this rank has answered, by taking part,
 * do not count. */
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
  if (is_collective && self->bound == self->collectives) MOERUN_TRY(ask(self));
  MOERUN_TRY(listen(self));
  /* Who waits in an earlier collective may still come to it. */
  if (self->asked_to <= self->bound ||
      (is_collective && self->collectives < self->asked_to)) {
    goto done;
  }
  MOERUN_TRY(say_passed_by(self));
  MOERUN_TRY(fail(self, self->asked_by));
done:
  return status;
}

/* NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker) */
