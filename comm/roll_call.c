/* Who is missing in a collective that did not end: MPI does not say. Those that
 * wait in it give up at nearly the same time, and each then tells all others
 * that it was there. Who has not been heard of a little later is named. Nothing
 * is sent before a limit has passed, and the collective may still end
 * meanwhile. */
#include "comm/mpi_comm.h"

#include "runtime/base/number.h"

#include <stdio.h>
#include <string.h>

static const double longest_call_s = 5; /* or as long as the limit is */

void moerun__peer_names_add(moerun__peer_names *names, int32_t rank) {
  if (names->count < MOERUN_NAMED_PEERS) {
    const size_t used = strlen(names->text);
    (void)snprintf(names->text + used, sizeof names->text - used, "%s%d",
                   names->count > 0 ? ", " : "", rank);
  }
  names->count++;
}

void moerun__peer_names_end(moerun__peer_names *names) {
  const size_t used = strlen(names->text);
  if (names->count > MOERUN_NAMED_PEERS) {
    (void)snprintf(names->text + used, sizeof names->text - used,
                   " and %d more", names->count - MOERUN_NAMED_PEERS);
  }
}

/* Takes what has come. Who waits one collective behind this rank or further on
 * is there, and waits for somebody else; words of older calls do not count. */
static moerun_status hear(moerun__mpi_comm *self, int32_t *num_heard) {
  moerun_status status = MOERUN_OK;
  static const char what[] = "call of the ranks that answer";
  for (;;) {
    MPI_Status from;
    int64_t word = 0;
    int has = 0;
    MOERUN_TRY(
        moerun__mpi_result(self,
                           MPI_Iprobe(MPI_ANY_SOURCE, MOERUN_TAG_ROLL_CALL,
                                      self->comm, &has, &from),
                           what));
    if (!has) break;
    MOERUN_TRY(moerun__mpi_result(
        self,
        MPI_Recv(&word, 1, MPI_INT64_T, from.MPI_SOURCE, MOERUN_TAG_ROLL_CALL,
                 self->comm, MPI_STATUS_IGNORE),
        what));
    if (word + 1 < self->collectives || self->heard[from.MPI_SOURCE]) continue;
    self->heard[from.MPI_SOURCE] = 1;
    (*num_heard)++;
  }
done:
  return status;
}

/* NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker): nobody waits for
 * these: words of older calls are passed over. */
static moerun_status tell_all(moerun__mpi_comm *self) {
  moerun_status status = MOERUN_OK;
  self->call_word = self->collectives;
  for (int32_t peer = 0; peer < self->base.size; peer++) {
    MPI_Request request = MPI_REQUEST_NULL;
    if (peer == self->base.rank) continue;
    MOERUN_TRY(moerun__mpi_result(self,
                                  MPI_Isend(&self->call_word, 1, MPI_INT64_T,
                                            peer, MOERUN_TAG_ROLL_CALL,
                                            self->comm, &request),
                                  "call of the ranks that answer"));
    MOERUN_TRY(moerun__mpi_result(self, MPI_Request_free(&request),
                                  "call of the ranks that answer"));
  }
done:
  return status;
}

/* NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker) */

moerun_status moerun__mpi_call_roll(moerun__peer_names *missing,
                                    moerun__mpi_comm *self,
                                    MPI_Request *request, int *done) {
  moerun_status status = MOERUN_OK;
  moerun__patience waited = {0};
  int32_t num_heard = 0;
  const int32_t others = self->base.size - 1;
  const double limit_s =
      self->timeout_s < longest_call_s ? self->timeout_s : longest_call_s;
  *done = 0;
  memset(missing, 0, sizeof *missing);
  memset(self->heard, 0, (size_t)self->base.size * sizeof *self->heard);
  MOERUN_TRY(tell_all(self));
  while (num_heard + 1 < others) { /* one at least is missing */
    MOERUN_TRY(hear(self, &num_heard));
    MOERUN_TRY(moerun__mpi_result(self,
                                  MPI_Test(request, done, &self->received),
                                  "call of the ranks that answer"));
    if (*done || moerun__patience_is_over(&waited, limit_s)) break;
  }
  MOERUN_TRY(hear(self, &num_heard));
  for (int32_t peer = 0; peer < self->base.size; peer++) {
    if (peer == self->base.rank || self->heard[peer]) continue;
    moerun__peer_names_add(missing, peer);
  }
  moerun__peer_names_end(missing);
done:
  return status;
}
