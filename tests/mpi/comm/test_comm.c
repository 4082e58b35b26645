/* Transports with made-up plans. Every rank can compute every other rank's
 * counts and bytes, so each checks what it received without asking. On one
 * rank the same tests run over `self` and `mpi`. */
#include "support/comm_rows.h"

#include "runtime/base/memory.h"

#include <moerun/moerun_mpi.h>

#include <string.h>

/* ---- The comm under test ------------------------------------------------- */

static moerun_comm *comm;
static moerun__transfer *out[3];
static moerun__transfer *in[3];

static moerun_status open_comm(int mpi) {
  moerun_status status =
      mpi ? moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL)
          : moerun_comm_create_self(&comm);
  for (int i = 0; i < 3 && status == MOERUN_OK; i++) {
    status = comm->ops->transfer_create(&out[i], comm, 0, MOERUN_MEMORY_HOST);
    if (status == MOERUN_OK)
      status = comm->ops->transfer_create(&in[i], comm, 0, MOERUN_MEMORY_HOST);
  }
  return status;
}

static int open_mpi(void **state) {
  (void)state;
  return open_comm(1) == MOERUN_OK ? 0 : -1;
}

static int open_self(void **state) {
  (void)state;
  return open_comm(0) == MOERUN_OK ? 0 : -1;
}

static int close_comm(void **state) {
  (void)state;
  for (int i = 0; i < 3; i++) {
    comm->ops->transfer_destroy(out[i]);
    comm->ops->transfer_destroy(in[i]);
  }
  moerun_comm_destroy(comm);
  comm = NULL;
  return 0;
}

/* ---- Rows ---------------------------------------------------------------- */

static void rank_and_size_are_those_of_mpi(void **state) {
  (void)state;
  assert_all_ranks(moerun_comm_rank(comm) == test_rank());
  assert_all_ranks(moerun_comm_size(comm) == test_size());
  moerun_comm_destroy(NULL);
  comm->ops->transfer_destroy(NULL);
}

/* Receives begin in transfer i. */
static void expect_rows(rows *x, int i, plan of, size_t row_bytes) {
  rows_create(x, of, row_bytes);
  const moerun__row_list from = receive_list(x);
  assert_all_ok(
      comm->ops->receive_begin(in[i], MOERUN_TAG_DISPATCH + i, &from));
}

static void every_plan_arrives_bit_for_bit(void **state) {
  (void)state;
  static const size_t sizes[] = {1, 3, 64, 257, MAX_ROW};
  for (int p = 0; p < PLAN_COUNT; p++) {
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
      rows x;
      expect_rows(&x, 0, (plan)p, sizes[s]);
      const moerun__row_list to = send_list(&x);
      assert_all_ok(comm->ops->send_begin(out[0], MOERUN_TAG_DISPATCH, &to));
      assert_all_ok(comm->ops->wait(in[0]));
      assert_all_ok(comm->ops->wait(out[0]));
      assert_all_ranks(rows_arrived(&x, 0, test_size()));
      rows_destroy(&x);
    }
  }
}

static void more_row_sizes_than_are_kept_at_once(void **state) {
  (void)state;
  for (size_t bytes = 1; bytes <= 40; bytes++) {
    rows x;
    rows_create(&x, PLAN_EVEN, bytes);
    const moerun__row_list to = send_list(&x);
    const moerun__row_list from = receive_list(&x);
    moerun_status status = comm->ops->receive_begin(in[0], 0, &from);
    if (status == MOERUN_OK) status = comm->ops->send_begin(out[0], 0, &to);
    if (status == MOERUN_OK) status = comm->ops->wait(in[0]);
    if (status == MOERUN_OK) status = comm->ops->wait(out[0]);
    assert_all_ok(status);
    assert_all_ranks(rows_arrived(&x, 0, test_size()));
    rows_destroy(&x);
  }
}

/* Sends to all at once, receives two peers at a time. */
static void waves_of_peers(void **state) {
  (void)state;
  rows x;
  rows_create(&x, PLAN_RAGGED, 33);
  const moerun__row_list to = send_list(&x);
  moerun__row_list from = receive_list(&x);
  assert_all_ok(comm->ops->send_begin(out[0], MOERUN_TAG_COMBINE, &to));
  for (int first = 0; first < test_size(); first += 2) {
    from.offset = x.receive_offset + first;
    from.first_peer = first;
    from.last_peer = first + 2 < test_size() ? first + 2 : test_size();
    assert_all_ok(comm->ops->receive_begin(in[0], MOERUN_TAG_COMBINE, &from));
    assert_all_ok(comm->ops->wait(in[0]));
    assert_all_ranks(rows_arrived(&x, first, from.last_peer));
  }
  assert_all_ok(comm->ops->wait(out[0]));
  rows_destroy(&x);
}

/* Three exchanges with different tags; the last one begun is awaited first. */
static void transfers_in_flight_do_not_mix(void **state) {
  (void)state;
  static const plan plans[] = {PLAN_RAGGED, PLAN_EVEN, PLAN_TO_ONE};
  rows x[3];
  for (int i = 0; i < 3; i++) {
    expect_rows(&x[i], i, plans[i], 100 + (size_t)i);
  }
  for (int i = 2; i >= 0; i--) {
    const moerun__row_list to = send_list(&x[i]);
    assert_all_ok(comm->ops->send_begin(out[i], MOERUN_TAG_DISPATCH + i, &to));
  }
  for (int i = 2; i >= 0; i--) {
    assert_all_ok(comm->ops->wait(in[i]));
    assert_all_ranks(rows_arrived(&x[i], 0, test_size()));
    assert_all_ok(comm->ops->wait(out[i]));
    rows_destroy(&x[i]);
  }
}

static void test_drives_a_transfer_to_its_end(void **state) {
  (void)state;
  rows x;
  rows_create(&x, PLAN_RAGGED, 4096);
  const moerun__row_list to = send_list(&x);
  const moerun__row_list from = receive_list(&x);
  assert_all_ok(comm->ops->receive_begin(in[0], MOERUN_TAG_CONTROL, &from));
  assert_all_ok(comm->ops->send_begin(out[0], MOERUN_TAG_CONTROL, &to));
  int received = 0;
  int sent = 0;
  moerun_status status = MOERUN_OK;
  while (status == MOERUN_OK && !(received && sent)) {
    status = comm->ops->test(in[0], &received);
    if (status == MOERUN_OK) status = comm->ops->test(out[0], &sent);
  }
  assert_all_ok(status);
  assert_all_ranks(rows_arrived(&x, 0, test_size()));
  rows_destroy(&x);
}

static void either_of_two_is_waited_for(void **state) {
  (void)state;
  rows x[2];
  int over = 0;
  expect_rows(&x[0], 0, PLAN_EVEN, 4096);
  expect_rows(&x[1], 1, PLAN_EVEN, 4096);
  for (int i = 1; i >= 0; i--) { /* the first leaves when the second is there */
    const moerun__row_list to = send_list(&x[i]);
    assert_all_ok(comm->ops->send_begin(out[i], MOERUN_TAG_DISPATCH + i, &to));
    assert_all_ok(comm->ops->wait_either(in[0], in[i]));
    assert_all_ranks(comm->ops->test(in[i], &over) == MOERUN_OK && over);
    assert_all_ok(comm->ops->wait(out[i]));
    rows_destroy(&x[i]);
  }
}

static void exchanges_allocate_nothing(void **state) {
  (void)state;
  rows x;
  rows_create(&x, PLAN_EVEN, 64);
  const moerun__row_list to = send_list(&x);
  const moerun__row_list from = receive_list(&x);
  int64_t value = 1;
  const size_t calls = moerun__alloc_calls();
  moerun_status status = comm->ops->receive_begin(in[0], 0, &from);
  if (status == MOERUN_OK) status = comm->ops->send_begin(out[0], 0, &to);
  if (status == MOERUN_OK) status = comm->ops->wait(in[0]);
  if (status == MOERUN_OK) status = comm->ops->wait(out[0]);
  if (status == MOERUN_OK) status = comm->ops->minimum(comm, &value);
  assert_all_ok(status);
  assert_all_ranks(moerun__alloc_calls() == calls);
  rows_destroy(&x);
}

static void counts_are_exact(void **state) {
  (void)state;
  const moerun__comm_count before = comm->count;
  rows x;
  rows_create(&x, PLAN_RAGGED, 17);
  const moerun__row_list to = send_list(&x);
  const moerun__row_list from = receive_list(&x);
  static const int32_t tags[] = {MOERUN_TAG_DISPATCH, MOERUN_TAG_CONTROL};
  for (int i = 0; i < 2; i++) {
    assert_all_ok(comm->ops->receive_begin(in[0], tags[i], &from));
    assert_all_ok(comm->ops->send_begin(out[0], tags[i], &to));
    assert_all_ok(comm->ops->wait(in[0]));
    assert_all_ok(comm->ops->wait(out[0]));
  }
  int64_t expected_rows = 0;
  int64_t expected_messages = 0;
  for (int q = 0; q < test_size(); q++) {
    if (q == test_rank()) continue;
    const int32_t n = rows_from_to(PLAN_RAGGED, test_rank(), q);
    expected_rows += n;
    expected_messages += n > 0;
  }
  assert_all_ranks(comm->count.rows - before.rows == expected_rows);
  assert_all_ranks(comm->count.messages - before.messages == expected_messages);
  assert_all_ranks(comm->count.row_bytes - before.row_bytes ==
                   expected_rows * 17);
  assert_all_ranks(comm->count.control_bytes - before.control_bytes ==
                   expected_rows * 17);
  assert_all_ranks(comm->count.count_bytes == before.count_bytes);
  rows_destroy(&x);
}

static void lists_out_of_range_are_refused(void **state) {
  (void)state;
  rows x;
  rows_create(&x, PLAN_NONE, 8);
  const moerun__row_list good = send_list(&x);
  assert_all_ranks(says(comm->ops->send_begin(out[0], MOERUN_TAG_END, &good),
                        MOERUN_ERR_INVALID, "tag: expected 0 to 31, found 32"));
  moerun__row_list bad = good;
  bad.row_bytes = 0;
  assert_all_ranks(says(comm->ops->send_begin(out[0], 0, &bad),
                        MOERUN_ERR_INVALID, "row_bytes: expected 1 to"));
  bad = good;
  bad.row_bytes = (size_t)INT32_MAX + 1;
  assert_all_ranks(says(comm->ops->send_begin(out[0], 0, &bad),
                        MOERUN_ERR_INVALID, "found 2147483648"));
  bad = good;
  bad.first_peer = 1;
  bad.last_peer = 0;
  assert_all_ranks(says(comm->ops->send_begin(out[0], 0, &bad),
                        MOERUN_ERR_INVALID, "found 1 to 0"));
  assert_all_ranks(says(comm->ops->receive_begin(in[0], 0, &bad),
                        MOERUN_ERR_INVALID, "found 1 to 0"));
  bad = good;
  bad.last_peer = test_size() + 1;
  assert_all_ranks(says(comm->ops->receive_begin(in[0], 0, &bad),
                        MOERUN_ERR_INVALID, "expected peers within 0 to"));
  bad = good;
  bad.memory = MOERUN_MEMORY_DEVICE;
  assert_all_ranks(says(comm->ops->send_begin(out[0], 0, &bad),
                        MOERUN_ERR_INVALID, "found that of a device"));
  assert_all_ranks(says(comm->ops->receive_begin(in[0], 0, &bad),
                        MOERUN_ERR_INVALID, "expected memory of the host"));
  assert_all_ok(comm->ops->send_begin(out[0], 0, &good));
  assert_all_ok(comm->ops->wait(out[0]));
  assert_all_ok(comm->ops->wait(out[0])); /* nothing in flight */
  rows_destroy(&x);
}

/* ---- Collectives --------------------------------------------------------- */

/* More than one piece in the end; that size only where memory is not
 * multiplied. */
static void gather_scatter_broadcast(void **state) {
  (void)state;
  const int R = test_size();
  const int root = test_rank() == 0;
  const size_t sizes[] = {0, 1, 1000, R <= 2 ? ((size_t)1 << 22) + 3 : 100000};
  for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
    const size_t bytes = sizes[s];
    unsigned char *own = malloc(bytes + 1);
    unsigned char *all = root ? malloc(bytes * (size_t)R + 1) : NULL;
    assert_all_ranks(own != NULL && (all != NULL || !root));
    for (size_t i = 0; i < bytes; i++) {
      own[i] = letter(test_rank(), i);
    }
    assert_all_ok(comm->ops->gather(comm, all, own, bytes));
    int ok = 1;
    for (int p = 0; root && p < R; p++) {
      ok = ok && holds(all + (size_t)p * bytes, bytes, p);
    }
    assert_all_ranks(ok);
    memset(own, GUARD, bytes + 1);
    assert_all_ok(comm->ops->scatter(comm, own, all, bytes));
    assert_all_ranks(holds(own, bytes, test_rank()) && own[bytes] == GUARD);
    assert_all_ok(comm->ops->broadcast(comm, own, bytes));
    assert_all_ranks(holds(own, bytes, 0) && own[bytes] == GUARD);
    free(own);
    free(all);
  }
}

static void minimum_is_that_of_all(void **state) {
  (void)state;
  int64_t value = ((int64_t)1 << 40) - test_rank();
  assert_all_ok(comm->ops->minimum(comm, &value));
  assert_all_ranks(value == ((int64_t)1 << 40) - (test_size() - 1));
  value = INT64_MIN + test_rank();
  assert_all_ok(comm->ops->minimum(comm, &value));
  assert_all_ranks(value == INT64_MIN);
}

static void agreement_names_who_failed(void **state) {
  (void)state;
  const int R = test_size();
  assert_all_ok(moerun__comm_agree(comm, MOERUN_OK));
  for (int bad = 0; bad < R; bad++) {
    const moerun_status mine = test_rank() == bad ? MOERUN_ERR_IO : MOERUN_OK;
    const moerun_status status = moerun__comm_agree(comm, mine);
    char line[64];
    (void)snprintf(line, sizeof line, "rank %d reported an error: file could",
                   bad);
    assert_all_ranks(test_rank() == bad ? status == MOERUN_ERR_IO
                                        : says(status, MOERUN_ERR_PEER, line));
  }
  /* Two codes: each keeps its own, the others hear of the graver one. */
  const moerun_status mine = test_rank() == R - 1 ? MOERUN_ERR_FORMAT
                             : test_rank() == 0   ? MOERUN_ERR_INVALID
                                                  : MOERUN_OK;
  const moerun_status status = moerun__comm_agree(comm, mine);
  assert_all_ranks(mine != MOERUN_OK ? status == mine
                                     : says(status, MOERUN_ERR_PEER,
                                            "file contents are not valid"));
}

static void transfer_bytes_are_those_taken(void **state) {
  (void)state;
  for (size_t plan_bytes = 0; plan_bytes < 1000; plan_bytes += 333) {
    moerun__transfer *transfer = NULL;
    const size_t before = moerun__alloc_live_bytes();
    assert_all_ok(comm->ops->transfer_create(&transfer, comm, plan_bytes,
                                             MOERUN_MEMORY_HOST));
    assert_all_ranks(
        moerun__alloc_live_bytes() - before ==
        comm->ops->transfer_bytes(comm, plan_bytes, MOERUN_MEMORY_HOST));
    comm->ops->transfer_destroy(transfer);
  }
}

/* Rows leave a buffer and come into it; and it takes what it says. */
static void rows_lie_in_buffers(void **state) {
  (void)state;
  enum { ROW = 48 };
  char expected[MAX_RANKS * ROW];
  int32_t offset[MAX_RANKS + 1];
  for (int r = 0; r < test_size(); r++) {
    memset(expected + (size_t)r * ROW, 'a' + r, ROW);
    offset[r] = r;
  }
  offset[test_size()] = test_size();
  const size_t bytes = (size_t)test_size() * ROW;
  const size_t before = moerun__alloc_live_bytes();
  void *made = NULL;
  void *other = NULL;
  assert_all_ok(
      comm->ops->buffer_create(&made, comm, bytes, MOERUN_MEMORY_HOST));
  assert_all_ranks(moerun__alloc_live_bytes() - before ==
                   comm->ops->buffer_bytes(comm, bytes, MOERUN_MEMORY_HOST));
  assert_all_ok(comm->ops->buffer_create(&other, comm, 0, MOERUN_MEMORY_HOST));
  assert_all_ranks(moerun__alloc_live_bytes() - before ==
                   comm->ops->buffer_bytes(comm, bytes, MOERUN_MEMORY_HOST) +
                       comm->ops->buffer_bytes(comm, 0, MOERUN_MEMORY_HOST));
  assert_all_ranks(made != other && (uintptr_t)made % MOERUN_ALIGNMENT == 0);
  memset((char *)made + test_rank() * ROW, 'a' + test_rank(), ROW);
  moerun__row_list list = {made, ROW,         offset,
                           0,    test_size(), MOERUN_MEMORY_HOST};
  assert_all_ok(comm->ops->share_rows(comm, &list));
  list.memory = MOERUN_MEMORY_DEVICE;
  assert_all_ranks(says(comm->ops->share_rows(comm, &list), MOERUN_ERR_INVALID,
                        "found that of a device"));
  assert_all_ranks(memcmp(made, expected, bytes) == 0);
  comm->ops->buffer_destroy(comm, made, MOERUN_MEMORY_HOST);
  comm->ops->buffer_destroy(comm, other, MOERUN_MEMORY_HOST);
  comm->ops->buffer_destroy(comm, NULL, MOERUN_MEMORY_HOST);
  assert_all_ranks(
      says(comm->ops->buffer_create(&made, comm, bytes, MOERUN_MEMORY_DEVICE),
           MOERUN_ERR_INVALID, comm->ops->name));
  assert_all_ranks(made == NULL);
  assert_all_ranks(moerun__alloc_live_bytes() == before);
}

/* ---- What only MPI can get wrong ----------------------------------------- */

static void set_up_calls_survive_a_failed_allocation(void **state) {
  (void)state;
  moerun_comm *other = NULL;
  moerun__transfer *transfer = NULL;
  const size_t live = moerun__alloc_live();
  const int last = test_rank() == test_size() - 1;
  if (last) moerun__alloc_fail_nth(0);
  const moerun_status status =
      moerun_comm_create_mpi(&other, MPI_COMM_WORLD, NULL);
  moerun__alloc_fail_nth(-1);
  assert_all_ranks(status == (last ? MOERUN_ERR_NOMEM : MOERUN_ERR_PEER));
  assert_all_ranks(other == NULL && moerun__alloc_live() == live);
  long nth = 0;
  for (;; nth++) {
    moerun__alloc_fail_nth(nth);
    const moerun_status got =
        comm->ops->transfer_create(&transfer, comm, 0, MOERUN_MEMORY_HOST);
    moerun__alloc_fail_nth(-1);
    if (got == MOERUN_OK) break;
    assert_true(got == MOERUN_ERR_NOMEM && transfer == NULL);
    assert_int_equal(moerun__alloc_live(), live);
  }
  assert_all_ranks(nth > 0);
  comm->ops->transfer_destroy(transfer);
}

static void arguments_of_create_are_checked(void **state) {
  (void)state;
  moerun_comm *other = NULL;
  const double zero = 0;
  const moerun_mpi_options options = {.struct_size = sizeof options,
                                      .timeout_s = zero / zero};
  assert_all_ranks(says(moerun_comm_create_mpi(&other, MPI_COMM_NULL, NULL),
                        MOERUN_ERR_INVALID, "is MPI_COMM_NULL"));
  assert_all_ranks(
      says(moerun_comm_create_mpi(&other, MPI_COMM_WORLD, &options),
           MOERUN_ERR_INVALID, "timeout_s is not a number"));
  assert_all_ranks(other == NULL);
}

static void offsets_that_fall_are_refused(void **state) {
  (void)state;
  if (test_size() == 1) return;
  const int32_t neighbour = test_rank() == 0 ? 1 : 0;
  static const int32_t offset[] = {0, -4};
  char row = 0;
  const moerun__row_list list = {.rows = &row,
                                 .row_bytes = 1,
                                 .offset = offset,
                                 .first_peer = neighbour,
                                 .last_peer = neighbour + 1};
  assert_all_ranks(says(comm->ops->send_begin(out[0], 0, &list),
                        MOERUN_ERR_INVALID,
                        "expected 0 <= first <= last, found 0 and -4"));
}

/* Rank 0 sends `sent` rows, rank 1 expects `expected`. */
static void disagree(int32_t sent, int32_t expected, const char *text) {
  if (test_size() == 1) return;
  moerun_comm *other = NULL;
  moerun__transfer *transfer = NULL;
  int32_t offset[2] = {0};
  char bytes[64] = {0};
  moerun_status status = MOERUN_OK;
  assert_all_ok(moerun_comm_create_mpi(&other, MPI_COMM_WORLD, NULL));
  assert_all_ok(
      other->ops->transfer_create(&transfer, other, 0, MOERUN_MEMORY_HOST));
  moerun__row_list list = {.rows = bytes, .row_bytes = 8, .offset = offset};
  if (test_rank() == 0) {
    offset[1] = sent;
    list.first_peer = 1;
    list.last_peer = 2;
    status = other->ops->send_begin(transfer, 0, &list);
  } else if (test_rank() == 1) {
    offset[1] = expected;
    list.last_peer = 1;
    status = other->ops->receive_begin(transfer, 0, &list);
  }
  assert_all_ok(status);
  status = other->ops->wait(transfer);
  assert_all_ranks(test_rank() == 1 ? says(status, MOERUN_ERR_COMM, text)
                                    : status == MOERUN_OK);
  /* The comm of the rank that failed starts nothing more. */
  int64_t value = 0;
  assert_all_ranks(test_rank() != 1 ||
                   other->ops->minimum(other, &value) == MOERUN_ERR_COMM);
  other->ops->transfer_destroy(transfer);
  moerun_comm_destroy(other);
}

static void fewer_rows_than_agreed_are_found(void **state) {
  (void)state;
  disagree(2, 5, "rank 0: expected 5 rows, found 2");
}

static void more_rows_than_agreed_are_found(void **state) {
  (void)state;
  disagree(5, 2, "receiving experts (chunk 0), rank 0");
}

/* All ranks of a test are on one machine. */
static void ranks_of_a_node_are_summed(void **state) {
  (void)state;
  const int R = test_size();
  moerun__node node = {0};
  assert_all_ok(
      moerun__comm_sum_node(comm, &node, ((int64_t)1 << 40) + test_rank()));
  assert_all_ranks(node.ranks == R && node.first == 0);
  assert_all_ranks(node.sum == R * ((int64_t)1 << 40) + R * (R - 1) / 2);
}

/* The ranks of a node pass rows among themselves; of one node there is one
 * leader. */
static void levels_are_comms_of_their_own(void **state) {
  (void)state;
  moerun_comm *node = NULL;
  moerun_comm *leaders = NULL;
  rows x;
  assert_all_ok(comm->ops->split(&node, comm, MOERUN_LEVEL_NODE));
  assert_all_ranks(node->size == test_size() && node->rank == test_rank());
  moerun__transfer *transfer = NULL;
  assert_all_ok(
      node->ops->transfer_create(&transfer, node, 0, MOERUN_MEMORY_HOST));
  rows_create(&x, PLAN_RAGGED, 40);
  const moerun__row_list to = send_list(&x);
  const moerun__row_list from = receive_list(&x);
  assert_all_ok(node->ops->receive_begin(transfer, 0, &from));
  assert_all_ok(node->ops->send_begin(transfer, 0, &to));
  assert_all_ok(node->ops->wait(transfer));
  assert_all_ranks(rows_arrived(&x, 0, test_size()));
  rows_destroy(&x);
  node->ops->transfer_destroy(transfer);
  moerun_comm_destroy(node);
  assert_all_ok(comm->ops->split(&leaders, comm, MOERUN_LEVEL_LEADERS));
  assert_all_ranks(test_rank() == 0 ? leaders != NULL && leaders->size == 1
                                    : leaders == NULL);
  moerun_comm_destroy(leaders);
}

/* A transfer given up with messages missing can be destroyed. */
static void unfinished_transfers_can_be_destroyed(void **state) {
  (void)state;
  rows x;
  rows_create(&x, PLAN_EVEN, 24);
  const moerun__row_list from = receive_list(&x);
  moerun__transfer *receive = NULL;
  assert_all_ok(
      comm->ops->transfer_create(&receive, comm, 0, MOERUN_MEMORY_HOST));
  assert_all_ok(comm->ops->receive_begin(receive, 7, &from));
  assert_all_ranks(test_size() == 1 ||
                   says(comm->ops->receive_begin(receive, 7, &from),
                        MOERUN_ERR_INVALID, "still in flight"));
  comm->ops->transfer_destroy(receive);
  rows_destroy(&x);
}

#define ROW_AND_COLLECTIVE_TESTS                                               \
  cmocka_unit_test(rank_and_size_are_those_of_mpi),                            \
      cmocka_unit_test(every_plan_arrives_bit_for_bit),                        \
      cmocka_unit_test(more_row_sizes_than_are_kept_at_once),                  \
      cmocka_unit_test(waves_of_peers),                                        \
      cmocka_unit_test(transfers_in_flight_do_not_mix),                        \
      cmocka_unit_test(test_drives_a_transfer_to_its_end),                     \
      cmocka_unit_test(either_of_two_is_waited_for),                           \
      cmocka_unit_test(exchanges_allocate_nothing),                            \
      cmocka_unit_test(counts_are_exact),                                      \
      cmocka_unit_test(transfer_bytes_are_those_taken),                        \
      cmocka_unit_test(rows_lie_in_buffers),                                   \
      cmocka_unit_test(lists_out_of_range_are_refused),                        \
      cmocka_unit_test(gather_scatter_broadcast),                              \
      cmocka_unit_test(minimum_is_that_of_all),                                \
      cmocka_unit_test(ranks_of_a_node_are_summed),                            \
      cmocka_unit_test(levels_are_comms_of_their_own),                         \
      cmocka_unit_test(agreement_names_who_failed)

int main(int argc, char **argv) {
  const struct CMUnitTest self_tests[] = {ROW_AND_COLLECTIVE_TESTS};
  const struct CMUnitTest mpi_tests[] = {
      ROW_AND_COLLECTIVE_TESTS,
      cmocka_unit_test(set_up_calls_survive_a_failed_allocation),
      cmocka_unit_test(arguments_of_create_are_checked),
      cmocka_unit_test(offsets_that_fall_are_refused),
  };
  /* A broken comm keeps what MPI may still write to. */
  const struct CMUnitTest breaking_tests[] = {
      cmocka_unit_test(fewer_rows_than_agreed_are_found),
      cmocka_unit_test(more_rows_than_agreed_are_found),
      cmocka_unit_test(unfinished_transfers_can_be_destroyed),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  int failed = 0;
  if (test_rank() == 0) (void)printf("seed %d\n", SEED);
  if (test_size() == 1) {
    failed += cmocka_run_group_tests(self_tests, open_self, close_comm);
  }
  failed += cmocka_run_group_tests(mpi_tests, open_mpi, close_comm);
  failed += moerun__alloc_live() != 0;
  failed += cmocka_run_group_tests(breaking_tests, open_mpi, close_comm);
  (void)MPI_Finalize();
  return failed;
}
