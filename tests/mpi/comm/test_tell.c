/* What ranks tell each other: every rank can compute what all others say, so
 * each checks what it hears without asking. On one rank the same tests run over
 * `self` and `mpi`. */
#include "support/comm_rows.h"

#include "runtime/base/memory.h"

#include <moerun/moerun_mpi.h>

#include <string.h>

enum {
  MOST = 17, /* words of a part */
  SCRATCH = 4096,
};

static moerun_comm *comm;

static int open_mpi(void **state) {
  (void)state;
  return moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) == MOERUN_OK ? 0
                                                                          : -1;
}

static int open_self(void **state) {
  (void)state;
  return moerun_comm_create_self(&comm) == MOERUN_OK ? 0 : -1;
}

static int close_comm(void **state) {
  (void)state;
  moerun_comm_destroy(comm);
  comm = NULL;
  return moerun__alloc_live() == 0 ? 0 : -1;
}

/* ---- What is said ---------------------------------------------------------- */

/* One rank's news and their memory. */
typedef struct rig {
  moerun__news news;
  int32_t least[MOST];
  int32_t sum[MOST];
  int32_t before[MOST];
  int32_t words[MAX_RANKS * MOST];
  int32_t count_out[MAX_RANKS * MOST];
  int32_t count_in[MAX_RANKS * MOST];
  int32_t scratch[SCRATCH];
} rig;

/* Word i of what rank r says the turn-th time. */
static int32_t word(int turn, int r, int32_t i) {
  return (int32_t)(draw((uint64_t)(turn * 100 + r), (uint64_t)i) % 20001) -
         10000;
}

/* Word i of what rank r counts for rank q; about half of the ranks get none. */
static int32_t count(int turn, int r, int q, int32_t i) {
  const uint64_t pair = (uint64_t)(r * MAX_RANKS + q);
  if (draw(pair, (uint64_t)turn + 500) % 2 == 0) return 0;
  return i % 2 == 0 ? 0 : (int32_t)draw(pair, (uint64_t)(turn + i)) % 1000;
}

static int is_counted(int turn, int r, int q, int32_t width) {
  for (int32_t i = 0; i < width; i++) {
    if (count(turn, r, q, i) != 0) return 1;
  }
  return 0;
}

/* Parts of other sizes in every turn; some are not there. */
static void say(rig *x, int turn) {
  static const int32_t sizes[] = {0, 1, 3, MOST};
  const int R = test_size();
  const int me = test_rank();
  memset(x, 0x5A, sizeof *x);
  x->news = (moerun__news){.num_least = sizes[turn % 4],
                           .least = x->least,
                           .num_sums = sizes[turn / 4 % 4],
                           .sum = x->sum,
                           .before = turn % 3 == 0 ? NULL : x->before,
                           .width = sizes[turn / 16 % 4],
                           .words = x->words,
                           .count_width = sizes[(turn + turn / 8) % 4],
                           .count_out = x->count_out,
                           .count_in = x->count_in,
                           .scratch = x->scratch};
  assert_true(moerun__news_scratch(R, &x->news) < SCRATCH);
  for (int32_t i = 0; i < MOST; i++) {
    x->least[i] = word(turn, me, i);
    x->sum[i] = word(turn, me, MOST + i);
  }
  for (int32_t i = 0; i < x->news.width; i++) {
    x->words[me * x->news.width + i] = word(turn, me, 2 * MOST + i);
  }
  for (int32_t i = 0; i < R * x->news.count_width; i++) {
    x->count_out[i] =
        count(turn, me, i / x->news.count_width, i % x->news.count_width);
  }
}

static int is_heard(const rig *x, int turn) {
  const moerun__news *news = &x->news;
  const int R = test_size();
  int ok = 1;
  for (int32_t i = 0; i < news->num_least; i++) {
    int32_t least = INT32_MAX;
    for (int r = 0; r < R; r++) {
      if (word(turn, r, i) < least) least = word(turn, r, i);
    }
    ok = ok && x->least[i] == least;
  }
  for (int32_t i = 0; i < news->num_sums; i++) {
    int32_t sum = 0;
    for (int r = 0; r < R; r++) {
      if (r == test_rank() && news->before != NULL) {
        ok = ok && x->before[i] == sum;
      }
      sum += word(turn, r, MOST + i);
    }
    ok = ok && x->sum[i] == sum;
  }
  for (int32_t i = 0; i < R * news->width; i++) {
    ok = ok &&
         x->words[i] == word(turn, i / news->width, 2 * MOST + i % news->width);
  }
  for (int32_t i = 0; i < R * news->count_width; i++) {
    ok = ok && x->count_in[i] == count(turn, i / news->count_width, test_rank(),
                                       i % news->count_width);
  }
  return ok;
}

static int nothing_is_written_beyond(const rig *x) {
  const int32_t untouched = 0x5A5A5A5A;
  const moerun__news *news = &x->news;
  const size_t R = (size_t)test_size();
  return x->scratch[moerun__news_scratch(test_size(), news)] == untouched &&
         x->words[R * (size_t)news->width] == untouched &&
         x->count_in[R * (size_t)news->count_width] == untouched;
}

/* ---- Tests ----------------------------------------------------------------- */

/* No rank waits for others between turns: fast ones are a turn ahead. */
static void all_is_heard_turn_after_turn(void **state) {
  (void)state;
  enum { TURNS = 256 };
  static rig x;
  int ok = 1;
  const size_t calls = moerun__alloc_calls();
  for (int turn = 0; turn < TURNS; turn++) {
    say(&x, turn);
    ok = ok && comm->ops->tell(comm, &x.news) == MOERUN_OK &&
         is_heard(&x, turn) && nothing_is_written_beyond(&x);
  }
  assert_all_ranks(ok);
  assert_all_ranks(moerun__alloc_calls() == calls);
}

/* The number of ranks below `rank` that its group of `bit` actors has before it
 * is told more; of R ranks the first 2 * pairs go by twos. */
static int32_t ranks_of_group(int rank, int32_t bit, int32_t pairs) {
  int32_t ranks = 0;
  const int32_t own = (rank < 2 * pairs ? rank / 2 : rank - pairs) / bit;
  for (int r = 0; r < test_size(); r++) {
    const int32_t actor = r < 2 * pairs ? r / 2 : r - pairs;
    ranks += actor / bit == own;
  }
  return ranks;
}

/* And the ranks that a message of that round says the number of senders of. */
static int32_t ranks_answered_for(int rank, int32_t bit, int32_t pairs) {
  int32_t ranks = 0;
  const int32_t own = rank < 2 * pairs ? rank / 2 : rank - pairs;
  for (int r = 0; r < test_size(); r++) {
    const int32_t actor = r < 2 * pairs ? r / 2 : r - pairs;
    ranks += actor % (2 * bit) == (own ^ bit) % (2 * bit);
  }
  return ranks;
}

/* Words that this rank sends, by what the header says of them. */
static int64_t words_sent(const moerun__news *news, int turn) {
  const int R = test_size();
  const int me = test_rank();
  const int has_counts = news->count_width > 0;
  const int32_t merged = news->num_least + news->num_sums;
  int32_t actors = 1;
  int64_t sent = 0;
  while (actors * 2 <= R) {
    actors *= 2;
  }
  const int32_t pairs = R - actors;
  for (int q = 0; q < R; q++) {
    if (q == me || !is_counted(turn, me, q, news->count_width)) continue;
    sent += news->count_width;
  }
  if (me < 2 * pairs && me % 2 == 0) {
    return sent + merged + news->width + (has_counts ? R : 0);
  }
  for (int32_t bit = 1; bit < actors; bit *= 2) {
    sent += merged + news->width * ranks_of_group(me, bit, pairs) +
            (has_counts ? ranks_answered_for(me, bit, pairs) : 0);
  }
  if (me < 2 * pairs) {
    sent += merged + (news->before != NULL ? news->num_sums : 0) + has_counts +
            R * news->width;
  }
  return sent;
}

static void bytes_are_exact(void **state) {
  (void)state;
  static rig x;
  int ok = 1;
  for (int turn = 0; turn < 64; turn++) {
    const moerun__comm_count was = comm->count;
    say(&x, turn);
    assert_all_ok(comm->ops->tell(comm, &x.news));
    const int64_t bytes = comm->count.count_bytes - was.count_bytes;
    ok = ok && bytes == 4 * words_sent(&x.news, turn) &&
         comm->count.messages == was.messages &&
         comm->count.control_bytes == was.control_bytes;
  }
  assert_all_ranks(ok);
}

/* The same in the words of the header, where R is a power of two. */
static void a_power_of_two_tells_in_few_words(void **state) {
  (void)state;
  static rig x;
  const int R = test_size();
  int32_t rounds = 0;
  while (1 << rounds < R) {
    rounds++;
  }
  if (1 << rounds != R) skip();
  const int64_t was = comm->count.count_bytes;
  say(&x, 46);
  memset(x.count_out, 0, sizeof x.count_out); /* nobody is sent counts */
  assert_all_ok(comm->ops->tell(comm, &x.news));
  const int64_t words = (x.news.num_least + x.news.num_sums) * (int64_t)rounds +
                        (R - 1) * (int64_t)(x.news.width + 1);
  assert_true(x.news.width > 0 && x.news.count_width > 0);
  assert_all_ranks(comm->count.count_bytes - was == 4 * words);
}

static void short_forms_tell_the_same(void **state) {
  (void)state;
  const int R = test_size();
  const int me = test_rank();
  int32_t words[MAX_RANKS * 2];
  int32_t sum[2] = {me, 1};
  int32_t scratch[4 * MAX_RANKS + 8];
  int ok = 1;
  words[2 * me] = 10 * me;
  words[2 * me + 1] = 7;
  assert_all_ok(moerun__comm_share_words(comm, words, 2, scratch));
  assert_all_ok(moerun__comm_sum(comm, sum, 2, scratch));
  for (int r = 0; r < R; r++) {
    ok = ok && words[2 * r] == 10 * r && words[2 * r + 1] == 7;
  }
  assert_all_ranks(ok && sum[0] == R * (R - 1) / 2 && sum[1] == R);
}

/* Rank 1 has a word less than the others: all ranks hear of it, and those that
 * are told of it by rank 1 itself name it. */
static void other_lengths_are_refused(void **state) {
  (void)state;
  if (test_size() == 1) skip();
  moerun_comm *other = NULL;
  static rig x;
  assert_all_ok(moerun_comm_create_mpi(&other, MPI_COMM_WORLD, NULL));
  say(&x, 1);
  x.news.num_least = test_rank() == 1 ? 4 : 5;
  x.news.num_sums = 0;
  x.news.width = 0;
  x.news.count_width = 0;
  x.news.room = 8;
  const moerun_status found = other->ops->tell(other, &x.news);
  assert_all_ranks(found == MOERUN_ERR_COMM);
  const int by_itself =
      test_rank() == 0 && (test_size() & (test_size() - 1)) == 0;
  assert_all_ranks(strstr(moerun_last_error(),
                          by_itself ? "exchange of words: rank 1: expected 5 "
                                      "words, found 4: are all ranks of one"
                                    : "exchange of words: ") != NULL);
  assert_all_ranks(other->ops->tell(other, &x.news) == found);
  moerun_comm_destroy(other);
}

/* Whoever it is. */
static void any_other_length_is_heard_of(void **state) {
  (void)state;
  static rig x;
  for (int r = 0; r < test_size() && test_size() > 1; r++) {
    moerun_comm *other = NULL;
    assert_all_ok(moerun_comm_create_mpi(&other, MPI_COMM_WORLD, NULL));
    say(&x, 2);
    x.news.num_sums = test_rank() == r ? 3 : 2;
    x.news.count_width = 0;
    x.news.room = 8 + MAX_RANKS * MOST;
    x.news.doubt = "somebody is out of his mind";
    assert_all_ranks(other->ops->tell(other, &x.news) == MOERUN_ERR_COMM);
    assert_all_ranks(strstr(moerun_last_error(), x.news.doubt) != NULL);
    (void)MPI_Barrier(MPI_COMM_WORLD);
    moerun_comm_destroy(other);
  }
}

/* The same of counts, which rank 1 alone has for rank 0. */
static void other_counts_are_refused(void **state) {
  (void)state;
  if (test_size() == 1) skip();
  const moerun_mpi_options limits = {.struct_size = sizeof limits,
                                     .timeout_s = 1};
  moerun_comm *other = NULL;
  static rig x;
  assert_all_ok(moerun_comm_create_mpi(&other, MPI_COMM_WORLD, &limits));
  say(&x, 0);
  x.news.count_width = test_rank() == 1 ? 2 : 3;
  memset(x.count_out, 0, sizeof x.count_out);
  x.count_out[0] = test_rank() == 1;
  const moerun_status found = other->ops->tell(other, &x.news);
  assert_all_ranks((found == MOERUN_ERR_COMM) == (test_rank() == 0));
  if (test_rank() == 0) {
    assert_non_null(strstr(moerun_last_error(),
                           "exchange of counts: rank 1: expected 3 words, "
                           "found 2"));
  }
  (void)MPI_Barrier(MPI_COMM_WORLD);
  moerun_comm_destroy(other);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_is_heard_turn_after_turn),
      cmocka_unit_test(bytes_are_exact),
      cmocka_unit_test(a_power_of_two_tells_in_few_words),
      cmocka_unit_test(short_forms_tell_the_same),
      cmocka_unit_test(other_lengths_are_refused),
      cmocka_unit_test(any_other_length_is_heard_of),
      cmocka_unit_test(other_counts_are_refused),
  };
  const struct CMUnitTest alone[] = {
      cmocka_unit_test(all_is_heard_turn_after_turn),
      cmocka_unit_test(bytes_are_exact),
      cmocka_unit_test(a_power_of_two_tells_in_few_words),
      cmocka_unit_test(short_forms_tell_the_same),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  (void)printf("seed %d\n", SEED);
  int failed = cmocka_run_group_tests_name("mpi", tests, open_mpi, close_comm);
  if (test_size() == 1) {
    failed += cmocka_run_group_tests_name("self", alone, open_self, close_comm);
  }
  (void)MPI_Finalize();
  return failed;
}
