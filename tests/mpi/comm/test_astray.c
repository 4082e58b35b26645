/* Questions to ranks that do not receive them: a message that asks is not
 * written to again before it has gone, whoever is asked meanwhile, and who has
 * passed by bound news is found all the same. Every question is sent here as
 * one that stays under way until its receiver takes it, which an MPI may do
 * with any message. */
#include "support/comm_rows.h"

#include "comm/mpi_comm.h"
#include "runtime/base/memory.h"

#include <moerun/moerun_mpi.h>

#include <sched.h>
#include <string.h>

enum { LIMIT_S = 4, TURNS = 3 };

static int questions; /* that this rank has sent to the last one */

/* Instead of MPI's own, which calls this by its other name. */
int MPI_Isend(const void *buffer, int count, MPI_Datatype type, int to, int tag,
              MPI_Comm comm, MPI_Request *request) {
  if (tag != MOERUN_TAG_ASTRAY) {
    return PMPI_Isend(buffer, count, type, to, tag, comm, request);
  }
  questions += to == test_size() - 1;
  return PMPI_Issend(buffer, count, type, to, tag, comm, request);
}

static void be_away(double seconds) {
  const double until = MPI_Wtime() + seconds;
  while (MPI_Wtime() < until) {
    (void)sched_yield();
  }
}

typedef struct rig {
  moerun_comm *comm;
  moerun__transfer *transfer;
} rig;

static void set_up(rig *r) {
  const moerun_mpi_options options = {.struct_size = sizeof options,
                                      .timeout_s = LIMIT_S};
  assert_all_ok(moerun_comm_create_mpi(&r->comm, MPI_COMM_WORLD, &options));
  assert_all_ok(r->comm->ops->transfer_create(&r->transfer, r->comm, 0,
                                              MOERUN_MEMORY_HOST));
}

static void tear_down(rig *r) {
  (void)MPI_Barrier(MPI_COMM_WORLD);
  r->comm->ops->transfer_destroy(r->transfer);
  moerun_comm_destroy(r->comm);
}

/* MPI may write to these after a failure. */
static int32_t words[256];

static moerun__news bound_news(void) {
  words[0] = 1;
  return (moerun__news){.num_sums = 1,
                        .sum = words,
                        .is_bound = 1,
                        .scratch = words + 1,
                        .doubt = "has thought of something else"};
}

/* The last rank is late again and again and hears nothing: it is asked once.
 * Then it goes on to rows without the news: it hears the old question, is asked
 * again, and is named. */
static void who_does_not_hear_is_asked_once(void **state) {
  (void)state;
  const int late = test_rank() == test_size() - 1;
  static rows x;
  rig r;
  char line[96];
  rows_create(&x, PLAN_EVEN, 24);
  const moerun__row_list from = receive_list(&x);
  set_up(&r);
  questions = 0;
  for (int turn = 0; turn < TURNS; turn++) {
    const moerun__news news = bound_news();
    assert_true(moerun__news_scratch(test_size(), &news) < 256);
    if (late) be_away(LIMIT_S / 4.0);
    assert_all_ok(r.comm->ops->tell(r.comm, &news));
    assert_all_ranks(words[0] == test_size());
    assert_all_ranks(questions <= 1);
  }
  int sum = 0;
  (void)MPI_Allreduce(&questions, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  assert_true(sum >= 1);
  const moerun__news news = bound_news();
  moerun_status status = MOERUN_OK;
  if (late) {
    status = r.comm->ops->receive_begin(r.transfer, MOERUN_TAG_COMBINE, &from);
    if (status == MOERUN_OK) status = r.comm->ops->wait(r.transfer);
  } else {
    status = r.comm->ops->tell(r.comm, &news);
  }
  (void)snprintf(line, sizeof line, "rank %d has thought of something else",
                 test_size() - 1);
  assert_all_ranks(status == MOERUN_ERR_COMM);
  assert_all_ranks(late || strcmp(moerun_last_error(), line) == 0);
  assert_all_ranks(questions <= 2);
  tear_down(&r);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(who_does_not_hear_is_asked_once),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)MPI_Finalize();
  return failed;
}
