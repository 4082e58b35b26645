/* Rows with several destinations over every transport: what arrives does not
 * depend on how it went. */
#include "support/comm_plans.h"
#include "support/pair_comm.h"

#include "runtime/base/memory.h"

#include <moerun/moerun_mpi.h>

/* ---- The comm under test ------------------------------------------------- */

enum { TRANSFERS = 3 };

static const plan_shape shapes[] = {
    {0, 64, 64, 0, 64},    {1, 64, 48, 6, 64},     {2, 1, 1, 0, 1},
    {3, 100, 99, 1, 100},  {4, 4096, 16, 16, 512}, {5, 8, 8, 32, 48},
    {6, 300, 256, 16, 280}};
enum { SHAPES = sizeof shapes / sizeof *shapes };

static moerun_comm *comm;
static moerun__transfer *transfer[TRANSFERS];

static size_t most_room(void) {
  size_t most = 0;
  for (size_t s = 0; s < SHAPES; s++) {
    if (plan_room(&shapes[s]) > most) most = plan_room(&shapes[s]);
  }
  return most;
}

static int create_transfers(void) {
  for (int i = 0; i < TRANSFERS; i++) {
    if (comm->ops->transfer_create(&transfer[i], comm, most_room(),
                                   MOERUN_MEMORY_HOST) != MOERUN_OK) {
      return -1;
    }
  }
  return 0;
}

static int open_mpi(void **state) {
  (void)state;
  if (moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK)
    return -1;
  return create_transfers();
}

static int open_pair(void **state) {
  (void)state;
  if (pair_comm_create(&comm, MPI_COMM_WORLD) != MOERUN_OK) return -1;
  return create_transfers();
}

static int open_self(void **state) {
  (void)state;
  if (moerun_comm_create_self(&comm) != MOERUN_OK) return -1;
  return create_transfers();
}

static int close_comm(void **state) {
  (void)state;
  for (int i = 0; i < TRANSFERS; i++) {
    comm->ops->transfer_destroy(transfer[i]);
  }
  moerun_comm_destroy(comm);
  return 0;
}

static moerun_status begin(int i, const plan_rows *x, int last_peer) {
  const moerun__row_plan out = plan_out(x);
  const moerun__row_list in = plan_in(x, 0, last_peer);
  return comm->ops->exchange_begin(transfer[i], MOERUN_TAG_DISPATCH + i, &out,
                                   &in);
}

/* ---- Rows ---------------------------------------------------------------- */

static void rows_and_tails_arrive_bit_for_bit(void **state) {
  (void)state;
  for (size_t s = 0; s < SHAPES; s++) {
    plan_rows x;
    plan_rows_create(&x, &shapes[s]);
    assert_all_ok(begin(0, &x, test_size()));
    assert_all_ok(comm->ops->wait_received(transfer[0]));
    assert_all_ranks(plan_arrived(&x, 0, test_size()));
    assert_all_ok(comm->ops->wait(transfer[0]));
    plan_rows_destroy(&x);
  }
}

/* The sends of all peers are under way while two at a time are received. */
static void waves_follow_a_paired_begin(void **state) {
  (void)state;
  for (size_t s = 0; s < SHAPES; s++) {
    plan_rows x;
    plan_rows_create(&x, &shapes[s]);
    const int R = test_size();
    int last = R < 2 ? R : 2;
    assert_all_ok(begin(0, &x, last));
    for (int first = 0; first < R; first = last) {
      last = first + 2 < R ? first + 2 : R;
      const moerun__row_list in = plan_in(&x, first, last);
      if (first > 0) {
        assert_all_ok(
            comm->ops->receive_begin(transfer[0], MOERUN_TAG_DISPATCH, &in));
      }
      assert_all_ok(comm->ops->wait_received(transfer[0]));
      assert_all_ranks(plan_arrived(&x, first, last));
    }
    assert_all_ok(comm->ops->wait_sent(transfer[0]));
    plan_rows_destroy(&x);
  }
}

/* The last one begun is waited for first. */
static void exchanges_in_flight_do_not_mix(void **state) {
  (void)state;
  plan_rows x[TRANSFERS];
  for (int i = 0; i < TRANSFERS; i++) {
    plan_rows_create(&x[i], &shapes[i]);
    assert_all_ok(begin(i, &x[i], test_size()));
  }
  for (int i = TRANSFERS - 1; i >= 0; i--) {
    int done = 0;
    moerun_status status = MOERUN_OK;
    while (status == MOERUN_OK && !done) {
      status = comm->ops->test_received(transfer[i], &done);
    }
    assert_all_ok(status);
    assert_all_ranks(plan_arrived(&x[i], 0, test_size()));
    done = 0;
    while (status == MOERUN_OK && !done) {
      status = comm->ops->test(transfer[i], &done);
    }
    assert_all_ok(status);
    plan_rows_destroy(&x[i]);
  }
}

/* Results go home in the transfer that has long begun to receive them. */
static void answers_come_in_a_transfer_that_waits_for_them(void **state) {
  (void)state;
  rows x;
  rows_create(&x, PLAN_RAGGED, 40);
  const moerun__row_list home = receive_list(&x);
  moerun__row_list out = send_list(&x);
  const int R = test_size();
  assert_all_ok(
      comm->ops->receive_begin(transfer[0], MOERUN_TAG_COMBINE, &home));
  for (int first = 0; first < R; first += 2) {
    out.offset = x.send_offset + first;
    out.first_peer = first;
    out.last_peer = first + 2 < R ? first + 2 : R;
    assert_all_ok(comm->ops->send_begin(transfer[0], MOERUN_TAG_COMBINE, &out));
    assert_all_ok(comm->ops->wait_sent(transfer[0]));
  }
  assert_all_ok(comm->ops->wait(transfer[0]));
  assert_all_ranks(rows_arrived(&x, 0, R));
  rows_destroy(&x);
}

static void an_exchange_allocates_nothing(void **state) {
  (void)state;
  plan_rows x;
  plan_rows_create(&x, &shapes[1]);
  const size_t calls = moerun__alloc_calls();
  assert_all_ok(begin(0, &x, test_size()));
  assert_all_ok(comm->ops->wait(transfer[0]));
  assert_all_ranks(moerun__alloc_calls() == calls);
  plan_rows_destroy(&x);
}

/* ---- Counts -------------------------------------------------------------- */

/* A row counts once for each other rank that it goes to. */
static void copies_are_counted(void **state) {
  (void)state;
  plan_rows x;
  plan_rows_create(&x, &shapes[1]);
  const moerun__comm_count before = comm->count;
  int64_t copies = 0;
  int64_t messages = 0;
  for (int q = 0; q < test_size(); q++) {
    int64_t to = 0;
    for (int32_t e = 0; e < x.to_offset[plan_out(&x).num_rows]; e++) {
      to += q != test_rank() && x.to[e] == q;
    }
    copies += to;
    messages += to > 0;
  }
  assert_all_ok(begin(0, &x, test_size()));
  assert_all_ok(comm->ops->wait(transfer[0]));
  assert_all_ranks(comm->count.rows - before.rows == copies);
  assert_all_ranks(comm->count.messages - before.messages == messages);
  assert_all_ranks(comm->count.row_bytes - before.row_bytes == copies * 64);
  plan_rows_destroy(&x);
}

/* A row of this rank leaves its pair once for each other pair that it names. */
static void rows_leave_once_for_a_pair(void **state) {
  (void)state;
  const pair_comm *c = (const pair_comm *)comm;
  const int own_pair = test_rank() / 2;
  int64_t saved = 0;
  for (size_t s = 0; s < SHAPES; s++) {
    plan_rows x;
    plan_rows_create(&x, &shapes[s]);
    const int64_t before = c->rows_between;
    int64_t copies = 0; /* as many would leave if each rank got its own */
    int64_t pairs = 0;
    for (int32_t i = 0; i < plan_out(&x).num_rows; i++) {
      int last = -1;
      for (int32_t e = x.to_offset[i]; e < x.to_offset[i + 1]; e++) {
        const int pair = x.to[e] / 2;
        copies += pair != own_pair;
        pairs += pair != own_pair && pair != last;
        last = pair;
      }
    }
    assert_all_ok(begin(0, &x, test_size()));
    assert_all_ok(comm->ops->wait(transfer[0]));
    assert_all_ranks(c->rows_between - before == pairs);
    saved += copies - pairs;
    plan_rows_destroy(&x);
  }
  (void)MPI_Allreduce(MPI_IN_PLACE, &saved, 1, MPI_INT64_T, MPI_SUM,
                      MPI_COMM_WORLD);
  assert_all_ranks(test_size() < 3 || saved > 0);
}

/* ---- Plans that cannot be ------------------------------------------------ */

/* Nothing of it has begun: the rows from all ranks are not waited for. */
static moerun_status refuse(const moerun__row_plan *out, const char *text) {
  static char room[MAX_RANKS][64];
  int32_t one_each[MAX_RANKS + 1];
  for (int r = 0; r <= test_size(); r++) {
    one_each[r] = r;
  }
  const moerun__row_list in = {room, 64,          one_each,
                               0,    test_size(), MOERUN_MEMORY_HOST};
  const moerun_status status =
      comm->ops->exchange_begin(transfer[0], MOERUN_TAG_DISPATCH, out, &in);
  assert_all_ranks(says(status, MOERUN_ERR_INVALID, text));
  return comm->ops->wait(transfer[0]);
}

static void plans_that_cannot_be_are_refused(void **state) {
  (void)state;
  char row[64] = {0};
  const int32_t to_offset[] = {0, 2};
  int32_t to[] = {0, 0};
  moerun__row_plan bad = {.rows = row,
                          .stride_bytes = 64,
                          .row_bytes = 48,
                          .num_rows = 1,
                          .to_offset = to_offset,
                          .to = to,
                          .tails = row,
                          .tail_bytes = 16,
                          .wire_bytes = 64};
  assert_all_ok(refuse(&bad, "destinations of row 0: expected ascending "
                             "ranks below"));
  to[1] = test_size();
  assert_all_ok(refuse(&bad, "found "));
  to[0] = -1;
  to[1] = 0;
  assert_all_ok(refuse(&bad, "found -1 after -1"));
  bad.row_bytes = 49;
  assert_all_ok(refuse(&bad, "expected 49 bytes and 16 behind them within"));
  bad.row_bytes = 48;
  bad.memory = MOERUN_MEMORY_DEVICE;
  assert_all_ok(refuse(&bad, "found that of a device"));
}

/* A plan larger than the transfer was made for is not packed. */
static void plans_that_do_not_fit_are_refused(void **state) {
  (void)state;
  if (test_size() == 1) return;
  char row[64] = {0};
  static const int32_t none[MAX_RANKS + 1];
  const int32_t to_offset[] = {0, 1, 2};
  const int32_t to = test_rank() == 0 ? 1 : 0;
  const int32_t both[] = {to, to};
  const moerun__row_plan bad = {.rows = row,
                                .row_bytes = 64,
                                .num_rows = 2,
                                .to_offset = to_offset,
                                .to = both,
                                .wire_bytes = 64};
  const moerun__row_list in = {NULL, 64,          none,
                               0,    test_size(), MOERUN_MEMORY_HOST};
  moerun__transfer *small = NULL;
  assert_all_ok(
      comm->ops->transfer_create(&small, comm, 127, MOERUN_MEMORY_HOST));
  assert_all_ranks(says(
      comm->ops->exchange_begin(small, MOERUN_TAG_DISPATCH, &bad, &in),
      MOERUN_ERR_INVALID, "a plan of at most 127 bytes, found 2 rows of 64"));
  comm->ops->transfer_destroy(small);
}

static void rows_on_their_way_are_not_packed_over(void **state) {
  (void)state;
  enum { BIG = 1 << 20 };
  static char first[BIG];
  static char second[BIG];
  static char found[BIG];
  static const int32_t none[MAX_RANKS + 1];
  static const int32_t to_offset[] = {0, 1};
  static const int32_t to[] = {1};
  int32_t one[MAX_RANKS + 1] = {0};
  if (test_size() < 2) return;
  for (int r = 1; r <= test_size(); r++)
    one[r] = 1; /* rank 0's */
  memset(first, 1, BIG);
  memset(second, 2, BIG);
  moerun__transfer *big = NULL;
  assert_all_ok(
      comm->ops->transfer_create(&big, comm, BIG, MOERUN_MEMORY_HOST));
  moerun__row_plan out = {.rows = first,
                          .stride_bytes = BIG,
                          .row_bytes = BIG,
                          .num_rows = test_rank() == 0,
                          .to_offset = to_offset,
                          .to = to,
                          .wire_bytes = BIG};
  const moerun__row_list nothing = {NULL, BIG,         none,
                                    0,    test_size(), MOERUN_MEMORY_HOST};
  const moerun__row_list in = {found, BIG,         one,
                               0,     test_size(), MOERUN_MEMORY_HOST};
  int ok = 1;
  if (test_rank() == 0) {
    ok = comm->ops->exchange_begin(big, MOERUN_TAG_DISPATCH, &out, &nothing) ==
         MOERUN_OK;
    out.rows = second;
    ok = ok && says(comm->ops->exchange_begin(big, MOERUN_TAG_DISPATCH, &out,
                                              &nothing),
                    MOERUN_ERR_INVALID, "still in flight");
  }
  assert_all_ranks(ok);
  if (test_rank() == 1) {
    assert_int_equal(comm->ops->receive_begin(big, MOERUN_TAG_DISPATCH, &in),
                     MOERUN_OK);
  }
  assert_all_ok(comm->ops->wait(big));
  assert_all_ranks(test_rank() != 1 || (found[0] == 1 && found[BIG - 1] == 1));
  comm->ops->transfer_destroy(big);
}

static void rows_of_the_table_create_transports(void **state) {
  (void)state;
  const MPI_Comm world = MPI_COMM_WORLD;
  const moerun__comm_setting setting = {.mpi_comm = &world, .timeout_s = 60};
  const char *name = NULL;
  int created = 0;
  for (int i = 0; (name = moerun__transport_name_at(i)) != NULL; i++) {
    const moerun__comm_ops *ops = moerun__transport_for(name, test_size());
    moerun_comm *other = NULL;
    if (test_size() > ops->max_ranks) continue;
    assert_all_ok(ops->create(&other, &setting));
    assert_all_ranks(other->ops == ops && other->size == test_size() &&
                     other->rank == test_rank());
    moerun_comm_destroy(other);
    created++;
  }
  assert_all_ranks(created == (test_size() == 1 ? 3 : 2));
  assert_all_ranks(moerun__transport_for("auto", 1) == &moerun__self_ops &&
                   moerun__transport_for("auto", 2) == &moerun__mpi_ops &&
                   moerun__transport_for("none", 1) == NULL);
}

#define PLAN_TESTS                                                             \
  cmocka_unit_test(rows_and_tails_arrive_bit_for_bit),                         \
      cmocka_unit_test(waves_follow_a_paired_begin),                           \
      cmocka_unit_test(exchanges_in_flight_do_not_mix),                        \
      cmocka_unit_test(answers_come_in_a_transfer_that_waits_for_them),        \
      cmocka_unit_test(an_exchange_allocates_nothing),                         \
      cmocka_unit_test(plans_that_cannot_be_are_refused)

int main(int argc, char **argv) {
  const struct CMUnitTest self_tests[] = {PLAN_TESTS};
  const struct CMUnitTest mpi_tests[] = {
      PLAN_TESTS, cmocka_unit_test(rows_on_their_way_are_not_packed_over),
      cmocka_unit_test(rows_of_the_table_create_transports),
      cmocka_unit_test(copies_are_counted),
      cmocka_unit_test(plans_that_do_not_fit_are_refused)};
  const struct CMUnitTest pair_tests[] = {
      PLAN_TESTS, cmocka_unit_test(rows_leave_once_for_a_pair),
      cmocka_unit_test(plans_that_do_not_fit_are_refused)};
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  int failed = 0;
  if (test_rank() == 0) (void)printf("seed %d\n", SEED);
  if (test_size() == 1) {
    failed += cmocka_run_group_tests(self_tests, open_self, close_comm);
  }
  failed += cmocka_run_group_tests(mpi_tests, open_mpi, close_comm);
  failed += cmocka_run_group_tests(pair_tests, open_pair, close_comm);
  failed += moerun__alloc_live() != 0;
  (void)MPI_Finalize();
  return failed;
}
