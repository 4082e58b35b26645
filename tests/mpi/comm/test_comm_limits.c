/* Waits for a rank that does not come: they end at the limit that was asked
 * for, and name it. */
#include "support/comm_rows.h"

#include "comm/mpi_comm.h"
#include "runtime/base/memory.h"

#include <moerun/moerun_mpi.h>

#include <math.h>
#include <sched.h>
#include <string.h>

static const double short_limit_s = 0.6;

/* The last rank is late; the others give up, say so, and finish when it comes
 * after all. Barriers of plain MPI keep the order, not the clock. The late
 * rank has the usual limit. */
static moerun_comm *impatient_comm(double limit_s) {
  moerun_comm *other = NULL;
  const int late = test_rank() == test_size() - 1;
  const moerun_mpi_options options = {.struct_size = sizeof options,
                                      .timeout_s = late ? 0 : limit_s};
  (void)MPI_Barrier(MPI_COMM_WORLD);
  assert_all_ok(moerun_comm_create_mpi(&other, MPI_COMM_WORLD, &options));
  return other;
}

static void a_late_peer_is_named(void **state) {
  (void)state;
  const int R = test_size();
  const int late = test_rank() == R - 1;
  moerun_comm *other = impatient_comm(short_limit_s);
  rows x;
  rows_create(&x, PLAN_EVEN, 24);
  const moerun__row_list to = send_list(&x);
  const moerun__row_list from = receive_list(&x);
  moerun__transfer *send = NULL;
  moerun__transfer *receive = NULL;
  assert_all_ok(
      other->ops->transfer_create(&send, other, 0, MOERUN_MEMORY_HOST));
  assert_all_ok(
      other->ops->transfer_create(&receive, other, 0, MOERUN_MEMORY_HOST));
  char line[96];
  (void)snprintf(line, sizeof line,
                 "receiving combine (chunk 2): no answer within 0.6 s from "
                 "rank %d",
                 R - 1);
  int ok = 1;
  if (!late) {
    const int32_t tag = MOERUN_TAG_COMBINE + 2;
    ok = other->ops->receive_begin(receive, tag, &from) == MOERUN_OK &&
         other->ops->send_begin(send, tag, &to) == MOERUN_OK &&
         says(other->ops->wait(receive), MOERUN_ERR_TIMEOUT, line) &&
         says(other->ops->wait_either(receive, receive), MOERUN_ERR_TIMEOUT,
              line) &&
         strcmp(moerun_last_error(), line) == 0 &&
         other->ops->receive_begin(receive, tag, &from) == MOERUN_ERR_TIMEOUT &&
         strcmp(moerun_last_error(), line) == 0;
  }
  assert_all_ranks(ok);
  if (late) {
    ok = other->ops->receive_begin(receive, MOERUN_TAG_COMBINE + 2, &from) ==
             MOERUN_OK &&
         other->ops->send_begin(send, MOERUN_TAG_COMBINE + 2, &to) == MOERUN_OK;
  }
  moerun_status status = MOERUN_ERR_TIMEOUT;
  for (int i = 0; i < 50 && status == MOERUN_ERR_TIMEOUT; i++) {
    status = other->ops->wait(receive);
    if (status == MOERUN_OK) status = other->ops->wait(send);
  }
  assert_all_ok(ok ? status : MOERUN_ERR_INVALID);
  assert_all_ranks(rows_arrived(&x, 0, R));
  other->ops->transfer_destroy(send);
  other->ops->transfer_destroy(receive);
  moerun_comm_destroy(other);
  rows_destroy(&x);
}

static void a_late_collective_is_named(void **state) {
  (void)state;
  const int late = test_rank() == test_size() - 1;
  moerun_comm *other = impatient_comm(1.5);
  static int32_t send[MAX_RANKS];    /* static: MPI may write to them */
  static int32_t receive[MAX_RANKS]; /* until the late rank has come  */
  static int32_t scratch[8 * MAX_RANKS];
  const moerun__news news = {.count_width = 1,
                             .count_out = send,
                             .count_in = receive,
                             .scratch = scratch};
  char line[96];
  for (int r = 0; r < test_size(); r++) {
    send[r] = 1;
  }
  (void)snprintf(line, sizeof line,
                 "exchange of counts: no answer within 1.5 s from rank %d",
                 test_size() - 1);
  int64_t value = 0;
  assert_all_ranks(
      late || (says(other->ops->tell(other, &news), MOERUN_ERR_TIMEOUT, line) &&
               other->ops->minimum(other, &value) == MOERUN_ERR_TIMEOUT &&
               moerun__comm_agree(other, MOERUN_OK) == MOERUN_ERR_TIMEOUT &&
               strcmp(moerun_last_error(), line) == 0));
  assert_all_ranks(!late || other->ops->tell(other, &news) == MOERUN_OK);
  moerun_comm_destroy(other);
}

/* Words of the late rank come when the others have given up, and find nobody:
 * what was memory to hear them in is somebody else's by then. */
static void late_words_touch_nothing(void **state) {
  (void)state;
  const int late = test_rank() == test_size() - 1;
  moerun_comm *other = impatient_comm(short_limit_s);
  static int32_t scratch[64 * MAX_RANKS];
  static int32_t untouched[64 * MAX_RANKS];
  int32_t words[MAX_RANKS] = {0};
  const moerun__news news = {.width = 1, .words = words, .scratch = scratch};
  assert_true(moerun__news_scratch(test_size(), &news) <= 64 * MAX_RANKS);
  memset(untouched, 0x5a, sizeof untouched);
  words[test_rank()] = INT32_MAX;
  assert_all_ranks(late ||
                   other->ops->tell(other, &news) == MOERUN_ERR_TIMEOUT);
  moerun_comm_destroy(late ? NULL : other);
  if (!late) memset(scratch, 0x5a, sizeof scratch);
  if (late) (void)other->ops->tell(other, &news);
  if (late) moerun_comm_destroy(other);
  for (int i = 0; i < 3; i++) {
    assert_all_ranks(late || memcmp(scratch, untouched, sizeof scratch) == 0);
  }
}

/* The last rank said long ago that it was there; now it is not. */
static void old_words_do_not_count(void **state) {
  (void)state;
  const int R = test_size();
  const int late = test_rank() == R - 1;
  moerun_comm *other = impatient_comm(short_limit_s);
  moerun__mpi_comm *self = (moerun__mpi_comm *)other;
  static int64_t value; /* static: MPI may write to it */
  char line[96];
  for (int i = 0; i < 3; i++) {
    assert_all_ok(other->ops->minimum(other, &value));
  }
  const int64_t word = self->collectives - 1; /* the others wait in the next */
  for (int r = 0; late && r + 1 < R; r++) {
    (void)MPI_Send(&word, 1, MPI_INT64_T, r, MOERUN_TAG_END, self->comm);
  }
  (void)snprintf(line, sizeof line,
                 "agreement of all ranks: no answer within 0.6 s from rank %d",
                 R - 1);
  assert_all_ranks(late || says(other->ops->minimum(other, &value),
                                MOERUN_ERR_TIMEOUT, line));
  assert_all_ranks(!late || other->ops->minimum(other, &value) == MOERUN_OK);
  moerun_comm_destroy(other);
}

static void a_few_ranks_are_named(void **state) {
  (void)state;
  moerun__peer_names names = {0};
  for (int32_t r = 0; r < 8; r++) {
    moerun__peer_names_add(&names, 1000000 + r);
  }
  moerun__peer_names_end(&names);
  assert_string_equal(names.text, "1000000, 1000001, 1000002, 1000003, "
                                  "1000004, 1000005, 1000006, 1000007");
  moerun__peer_names_add(&names, 5);
  moerun__peer_names_add(&names, 6);
  moerun__peer_names_end(&names);
  assert_non_null(strstr(names.text, "1000007 and 2 more"));
}

/* A clock that a look at it moves on by a tenth of a second. */
static int64_t looks;
static double counted_clock(void) {
  looks++;
  return 100 + 0.1 * (double)looks;
}

/* The time limit is the one that was asked for: 20 s are 200 looks, and the few
 * last ones. The last rank does not come before the others have given up. */
static void a_wait_ends_at_its_limit(void **state) {
  (void)state;
  enum { LEAST = 200, MOST = 200 + 2 + 200 + 210 }; /* and the roll call */
  const int late = test_rank() == test_size() - 1;
  moerun_comm *other = NULL;
  const moerun_mpi_options options = {.struct_size = sizeof options,
                                      .timeout_s = late ? 0 : 20};
  assert_all_ok(moerun_comm_create_mpi(&other, MPI_COMM_WORLD, &options));
  rows x;
  rows_create(&x, PLAN_EVEN, 24);
  const moerun__row_list from = receive_list(&x);
  moerun__transfer *receive = NULL;
  void *buffer = NULL;
  assert_all_ok(
      other->ops->transfer_create(&receive, other, 0, MOERUN_MEMORY_HOST));
  assert_all_ok(
      other->ops->buffer_create(&buffer, other, 24, MOERUN_MEMORY_HOST));
  if (!late) moerun__patience_set_clock(counted_clock);
  looks = 0;
  int ok = 1;
  if (!late) {
    ok = other->ops->receive_begin(receive, 7, &from) == MOERUN_OK &&
         other->ops->wait(receive) == MOERUN_ERR_TIMEOUT && looks >= LEAST &&
         looks <= MOST;
    looks = 0;
    ok = ok &&
         other->ops->wait_either(receive, receive) == MOERUN_ERR_TIMEOUT &&
         looks >= LEAST && looks <= MOST;
  }
  moerun__patience_set_clock(NULL);
  assert_all_ranks(ok);
  other->ops->transfer_destroy(receive);
  const size_t live = moerun__alloc_live();
  other->ops->buffer_destroy(other, buffer, MOERUN_MEMORY_HOST);
  assert_all_ranks(moerun__alloc_live() == live - (size_t)late);
  moerun_comm_destroy(other);
  rows_destroy(&x);
}

static void a_collective_ends_at_its_limit(void **state) {
  (void)state;
  enum { LEAST = 200, MOST = 200 + 2 + 200 + 60 + 210 };
  const int late = test_rank() == test_size() - 1;
  moerun_comm *other = NULL;
  const moerun_mpi_options options = {.struct_size = sizeof options,
                                      .timeout_s = late ? 0 : 20};
  static int64_t value;
  assert_all_ok(moerun_comm_create_mpi(&other, MPI_COMM_WORLD, &options));
  if (!late) moerun__patience_set_clock(counted_clock);
  looks = 0;
  const int ok =
      late || (other->ops->minimum(other, &value) == MOERUN_ERR_TIMEOUT &&
               looks >= LEAST && looks <= MOST);
  moerun__patience_set_clock(NULL);
  assert_all_ranks(ok);
  assert_all_ranks(!late || other->ops->minimum(other, &value) == MOERUN_OK);
  moerun_comm_destroy(other);
}

/* Tells rank 0 when this rank has looked far more often than its limit
 * allows. */
enum { LOOKS_OF_TWO_LIMITS = 2 * (200 + 200 + 200 + 210) };
static void tell_root(void) {
  (void)MPI_Send(NULL, 0, MPI_BYTE, 0, 0, MPI_COMM_WORLD);
}

static double telling_clock(void) {
  if (looks == LOOKS_OF_TWO_LIMITS) tell_root();
  return counted_clock();
}

/* Rank 0 comes when every other rank has waited for twice its limit. */
static void be_away(double seconds) {
  const double until = MPI_Wtime() + seconds;
  while (MPI_Wtime() < until) {
    (void)sched_yield();
  }
}

/* The last rank comes to bound news long after it was asked to, which counts
 * for nothing when it then waits as long for rows itself. */
static void who_comes_late_is_not_astray(void **state) {
  (void)state;
  const moerun_mpi_options options = {.struct_size = sizeof options,
                                      .timeout_s = 6};
  const int late = test_rank() == test_size() - 1;
  moerun_comm *other = NULL;
  moerun__transfer *transfer = NULL;
  rows x;
  int32_t sum = 1;
  int32_t scratch[64];
  const moerun__news news = {.num_sums = 1,
                             .sum = &sum,
                             .is_bound = 1,
                             .scratch = scratch,
                             .doubt = "is late"};
  rows_create(&x, PLAN_EVEN, 24);
  const moerun__row_list to = send_list(&x);
  const moerun__row_list from = receive_list(&x);
  assert_all_ok(moerun_comm_create_mpi(&other, MPI_COMM_WORLD, &options));
  assert_all_ok(
      other->ops->transfer_create(&transfer, other, 0, MOERUN_MEMORY_HOST));
  assert_true(moerun__news_scratch(test_size(), &news) <= 64);
  for (int turn = 0; turn < 2; turn++) {
    sum = 1;
    if (late) be_away(1.2);
    moerun_status status = other->ops->tell(other, &news);
    if (!late) be_away(1.2);
    if (status == MOERUN_OK) {
      status = other->ops->receive_begin(transfer, MOERUN_TAG_COMBINE, &from);
    }
    if (status == MOERUN_OK) {
      status = other->ops->send_begin(transfer, MOERUN_TAG_COMBINE, &to);
    }
    if (status == MOERUN_OK) status = other->ops->wait(transfer);
    assert_all_ok(status);
    assert_all_ranks(sum == test_size());
    assert_all_ranks(rows_arrived(&x, 0, test_size()));
  }
  other->ops->transfer_destroy(transfer);
  moerun_comm_destroy(other);
  rows_destroy(&x);
}

/* The last rank goes on to rows without them. */
static void who_passes_by_is_named(void **state) {
  (void)state;
  const moerun_mpi_options options = {.struct_size = sizeof options,
                                      .timeout_s = 4};
  const int astray = test_rank() == test_size() - 1;
  static rows x; /* MPI may still write to them, like the words */
  static int32_t words[256];
  moerun_comm *other = NULL;
  moerun__transfer *transfer = NULL;
  const moerun__news news = {.num_sums = 1,
                             .sum = words,
                             .is_bound = 1,
                             .scratch = words + 1,
                             .doubt = "has thought of something else"};
  rows_create(&x, PLAN_EVEN, 24);
  const moerun__row_list from = receive_list(&x);
  assert_all_ok(moerun_comm_create_mpi(&other, MPI_COMM_WORLD, &options));
  assert_all_ok(
      other->ops->transfer_create(&transfer, other, 0, MOERUN_MEMORY_HOST));
  assert_true(moerun__news_scratch(test_size(), &news) < 256);
  moerun_status status = MOERUN_OK;
  if (astray) {
    status = other->ops->receive_begin(transfer, MOERUN_TAG_COMBINE, &from);
    if (status == MOERUN_OK) status = other->ops->wait(transfer);
  } else {
    status = other->ops->tell(other, &news);
  }
  char line[96];
  (void)snprintf(line, sizeof line, "rank %d has thought of something else",
                 test_size() - 1);
  assert_all_ranks(says(status, MOERUN_ERR_COMM,
                        astray ? "are all ranks of one build?" : line));
  (void)MPI_Barrier(MPI_COMM_WORLD);
  other->ops->transfer_destroy(transfer);
  moerun_comm_destroy(other);
}

static void work_of_rank_0_alone_has_no_limit(void **state) {
  (void)state;
  moerun_comm *other = NULL;
  const int is_root = test_rank() == 0;
  const moerun_mpi_options options = {.struct_size = sizeof options,
                                      .timeout_s = is_root ? 0 : 20};
  assert_all_ok(moerun_comm_create_mpi(&other, MPI_COMM_WORLD, &options));
  looks = 0;
  for (int r = 1; is_root && r < test_size(); r++) {
    (void)MPI_Recv(NULL, 0, MPI_BYTE, r, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
  if (!is_root) moerun__patience_set_clock(telling_clock);
  const moerun_status waited = other->ops->wait_for_root(other);
  if (!is_root && looks <= LOOKS_OF_TWO_LIMITS) tell_root(); /* it gave up */
  moerun__patience_set_clock(NULL);
  assert_all_ok(waited);
  assert_all_ok(moerun__comm_agree_after_root(other, MOERUN_OK));
  const int fails = test_rank() == test_size() - 1;
  const moerun_status verdict =
      moerun__comm_agree_after_root(other, fails ? MOERUN_ERR_IO : MOERUN_OK);
  assert_all_ranks(verdict == (fails ? MOERUN_ERR_IO : MOERUN_ERR_PEER));
  moerun_comm_destroy(other);
}

/* Options that are refused on one rank are refused at once on all; the next
 * call is another one. */
static void bad_options_are_told_to_all(void **state) {
  (void)state;
  const int mine = test_rank() == test_size() - 1;
  const moerun_mpi_options good = {.struct_size = sizeof good, .timeout_s = -1};
  const moerun_mpi_options bad[] = {
      {.struct_size = sizeof good, .timeout_s = (double)NAN}, {.timeout_s = 1}};
  static const char *const words[] = {"timeout_s is not a number",
                                      "moerun_mpi_options: struct_size"};
  char heard[64];
  (void)snprintf(heard, sizeof heard,
                 "rank %d reported an error: invalid argument",
                 test_size() - 1);
  for (int i = 0; i < 2; i++) {
    moerun_comm *other = NULL;
    const moerun_status status =
        moerun_comm_create_mpi(&other, MPI_COMM_WORLD, mine ? &bad[i] : &good);
    assert_all_ranks(status == (mine ? MOERUN_ERR_INVALID : MOERUN_ERR_PEER));
    assert_all_ranks(strstr(moerun_last_error(), mine ? words[i] : heard) !=
                     NULL);
    assert_all_ranks(other == NULL);
    assert_all_ok(moerun_comm_create_mpi(&other, MPI_COMM_WORLD, &good));
    moerun_comm_destroy(other);
  }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_late_peer_is_named),
      cmocka_unit_test(a_late_collective_is_named),
      cmocka_unit_test(late_words_touch_nothing),
      cmocka_unit_test(old_words_do_not_count),
      cmocka_unit_test(a_few_ranks_are_named),
      cmocka_unit_test(a_wait_ends_at_its_limit),
      cmocka_unit_test(a_collective_ends_at_its_limit),
      cmocka_unit_test(work_of_rank_0_alone_has_no_limit),
      cmocka_unit_test(who_comes_late_is_not_astray),
      cmocka_unit_test(who_passes_by_is_named),
      cmocka_unit_test(bad_options_are_told_to_all),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)MPI_Finalize();
  return failed;
}
