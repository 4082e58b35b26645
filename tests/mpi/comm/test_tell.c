/* What ranks tell each other: every rank can compute what all others say, so
 * each checks what it hears without asking. On one rank the same tests run over
 * `self` and `mpi`. */
#include "support/comm_rows.h"

#include "comm/mpi_comm.h"
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
  return 0;
}

/* ---- What is said -------------------------------------------------------- */

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

/* ---- Tests --------------------------------------------------------------- */

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

/* Bytes of a number in groups of 7 bits, and of a word: its sign takes a
 * bit. */
static int64_t number_bytes(int64_t number) {
  int64_t bytes = 1;
  for (; number >= 128; number /= 128) {
    bytes++;
  }
  return bytes;
}

static int64_t word_bytes(int64_t word) {
  return number_bytes(word < 0 ? -2 * word - 1 : 2 * word);
}

/* What a message of this rank tells: the least and sums of the ranks first ..
 * last - 1 and their words, and how many of them have counts for each rank
 * whose actor is `answers` in the bits of `mask`. */
typedef struct message {
  int first;
  int last;
  int32_t answers;
  int32_t mask;
} message;

static int32_t actor_of(int rank, int32_t pairs) {
  return rank < 2 * pairs ? rank / 2 : rank - pairs;
}

static int64_t message_bytes(const moerun__news *news, int turn, int32_t pairs,
                             const message *m) {
  int64_t bytes = 0;
  int64_t words = news->num_least + news->num_sums +
                  (m->last - m->first) * (int64_t)news->width;
  for (int32_t i = 0; i < news->num_least + news->num_sums; i++) {
    const int is_least = i < news->num_least;
    int64_t all = is_least ? INT32_MAX : 0;
    for (int r = m->first; r < m->last; r++) {
      const int32_t w =
          word(turn, r, is_least ? i : MOST + i - news->num_least);
      all = is_least ? (w < all ? w : all) : all + w;
    }
    bytes += word_bytes(all);
  }
  for (int q = 0; news->count_width > 0 && q < test_size(); q++) {
    int64_t senders = 0;
    if ((actor_of(q, pairs) & m->mask) != m->answers) continue;
    for (int r = m->first; r < m->last; r++) {
      senders += r != q && is_counted(turn, r, q, news->count_width);
    }
    bytes += word_bytes(senders);
    words++;
  }
  for (int r = m->first; r < m->last; r++) {
    for (int32_t i = 0; i < news->width; i++) {
      bytes += word_bytes(word(turn, r, 2 * MOST + i));
    }
  }
  return words > 0 ? number_bytes(words) + bytes : 0;
}

/* Beside what a last message of everything has: sums over lower ranks. */
static int64_t before_bytes(const moerun__news *news, int turn, int rank) {
  int64_t bytes = 0;
  for (int32_t i = 0; news->before != NULL && i < news->num_sums; i++) {
    int64_t sum = 0;
    for (int r = 0; r < rank; r++) {
      sum += word(turn, r, MOST + i);
    }
    bytes += word_bytes(sum);
  }
  return bytes;
}

/* Bytes that this rank sends, by what the header says of them. */
static int64_t bytes_sent(const moerun__news *news, int turn) {
  const int R = test_size();
  const int me = test_rank();
  int32_t actors = 1;
  int64_t sent = 0;
  while (actors * 2 <= R) {
    actors *= 2;
  }
  const int32_t pairs = R - actors;
  const int32_t own = actor_of(me, pairs);
  for (int q = 0; q < R; q++) {
    if (q == me || !is_counted(turn, me, q, news->count_width)) continue;
    sent += news->count_width * (int64_t)sizeof(int32_t);
  }
  if (me < 2 * pairs && me % 2 == 0) {
    return sent +
           message_bytes(news, turn, pairs, &(message){me, me + 1, 0, 0});
  }
  for (int32_t bit = 1; bit < actors; bit *= 2) {
    message m = {R, 0, (own ^ bit) & (2 * bit - 1), 2 * bit - 1};
    for (int r = R - 1; r >= 0; r--) {
      if (actor_of(r, pairs) / bit != own / bit) continue;
      m.first = r;
      if (m.last == 0) m.last = r + 1;
    }
    sent += message_bytes(news, turn, pairs, &m);
  }
  if (me < 2 * pairs) {
    /* all that there is, but of senders only the lower rank's */
    moerun__news rest = *news;
    rest.count_width = 0;
    const message all = {0, R, 0, 0};
    const int64_t words =
        news->num_least + news->num_sums + R * (int64_t)news->width;
    const int64_t more =
        (news->before != NULL ? news->num_sums : 0) + (news->count_width > 0);
    sent += message_bytes(&rest, turn, pairs, &all) +
            before_bytes(news, turn, me) + (news->count_width > 0) +
            number_bytes(words + more) - number_bytes(words);
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
    ok = ok && bytes == bytes_sent(&x.news, turn) &&
         comm->count.messages == was.messages &&
         comm->count.control_bytes == was.control_bytes;
  }
  assert_all_ranks(ok);
}

/* Small words take a byte each: of a power of two ranks each tells its sums
 * log2(R) times, and words and senders R - 1 times, in log2(R) messages that
 * begin with their number. */
static void small_words_are_small(void **state) {
  (void)state;
  static rig x;
  const int R = test_size();
  int32_t rounds = 0;
  while (1 << rounds < R) {
    rounds++;
  }
  if (1 << rounds != R || strcmp(comm->ops->name, "self") == 0) skip();
  say(&x, 46);
  x.news.num_least = 2;
  x.news.num_sums = 5;
  x.news.width = 3;
  memset(x.least, 0xFF, sizeof x.least); /* -1 */
  for (int i = 0; i < MOST; i++) {
    x.sum[i] = i % 2 == 0 ? 63 / R : 0;
    x.words[test_rank() * 3 + i % 3] = 63;
  }
  memset(x.count_out, 0, sizeof x.count_out); /* nobody is sent counts */
  const int64_t was = comm->count.count_bytes;
  assert_all_ok(comm->ops->tell(comm, &x.news));
  assert_all_ranks(comm->count.count_bytes - was ==
                   (1 + 2 + 5) * rounds + (3 + 1) * (R - 1));
}

/* The largest words come as they are. */
static void large_words_arrive(void **state) {
  (void)state;
  static rig x;
  int ok = 1;
  say(&x, 46);
  x.news.num_least = 3;
  x.news.num_sums = 2;
  x.least[0] = INT32_MIN;
  x.least[1] = INT32_MAX;
  x.least[2] = -test_rank();
  x.sum[0] = test_rank() == 0 ? INT32_MAX : 0;
  x.sum[1] = test_rank() == 0 ? INT32_MIN : 0;
  for (int32_t i = 0; i < x.news.width; i++) {
    x.words[test_rank() * x.news.width + i] = INT32_MIN + i;
  }
  assert_all_ok(comm->ops->tell(comm, &x.news));
  for (int32_t i = 0; i < test_size() * x.news.width; i++) {
    ok = ok && x.words[i] == INT32_MIN + i % x.news.width;
  }
  assert_all_ranks(ok && x.least[0] == INT32_MIN && x.least[1] == INT32_MAX &&
                   x.least[2] == 1 - test_size() && x.sum[0] == INT32_MAX &&
                   x.sum[1] == INT32_MIN);
}

static void short_forms_tell_the_same(void **state) {
  (void)state;
  const int R = test_size();
  const int me = test_rank();
  int32_t words[MAX_RANKS * 2];
  int32_t sum[2] = {me, 1};
  int32_t scratch[16 * MAX_RANKS];
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

/* Rank 1 says these bytes where rank 0 expects three words in room for four. */
static void refuse_bytes(const unsigned char *bytes, int count) {
  const moerun_mpi_options limits = {.struct_size = sizeof limits,
                                     .timeout_s = 1};
  moerun_comm *other = NULL;
  static rig x;
  const int hears = test_rank() == 0;
  assert_all_ok(moerun_comm_create_mpi(&other, MPI_COMM_WORLD, &limits));
  moerun__mpi_comm *mpi = (moerun__mpi_comm *)other;
  say(&x, 0);
  x.news = (moerun__news){
      .num_least = 3, .least = x.least, .scratch = x.scratch, .room = 4};
  moerun_status found = MOERUN_ERR_COMM;
  if (hears) found = other->ops->tell(other, &x.news);
  if (test_rank() == 1) {
    assert_int_equal(
        MPI_Send(bytes, count, MPI_BYTE, 0, MOERUN_TAG_TELL, mpi->comm),
        MPI_SUCCESS);
  }
  assert_all_ranks(found == MOERUN_ERR_COMM);
  assert_all_ranks(!hears || strstr(moerun_last_error(),
                                    "rank 1: expected 3 words, found -1: are "
                                    "all ranks of one build?") != NULL);
  /* At once: waiting would end in a time limit. */
  if (hears) found = other->ops->tell(other, &x.news);
  assert_all_ranks(found == MOERUN_ERR_COMM);
  if (test_rank() == 1) {
    unsigned char heard[64];
    assert_int_equal(MPI_Recv(heard, sizeof heard, MPI_BYTE, 0, MOERUN_TAG_TELL,
                              mpi->comm, MPI_STATUS_IGNORE),
                     MPI_SUCCESS);
  }
  (void)MPI_Barrier(MPI_COMM_WORLD);
  moerun_comm_destroy(other);
}

/* Numbers are in groups of seven bits, the lowest first; the first of them says
 * how many words follow. */
static void what_is_no_words_is_refused(void **state) {
  (void)state;
  if (test_size() != 2) skip();
  static const unsigned char beyond_room[] = {5, 2, 2, 2, 2, 2};
  static const unsigned char trailing[] = {3, 2, 2, 2, 0};
  static const unsigned char missing[] = {3, 2, 2};
  static const unsigned char unended[] = {3, 2, 2, 0x80};
  static const unsigned char too_long[] = {3,    2,    2,    0xff, 0xff,
                                           0xff, 0xff, 0xff, 0};
  refuse_bytes(beyond_room, sizeof beyond_room);
  refuse_bytes(trailing, sizeof trailing);
  refuse_bytes(missing, sizeof missing);
  refuse_bytes(unended, sizeof unended);
  refuse_bytes(too_long, sizeof too_long);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(all_is_heard_turn_after_turn),
      cmocka_unit_test(bytes_are_exact),
      cmocka_unit_test(small_words_are_small),
      cmocka_unit_test(large_words_arrive),
      cmocka_unit_test(short_forms_tell_the_same),
  };
  /* A broken comm keeps what MPI may still write to. */
  const struct CMUnitTest breaking[] = {
      cmocka_unit_test(other_lengths_are_refused),
      cmocka_unit_test(any_other_length_is_heard_of),
      cmocka_unit_test(other_counts_are_refused),
      cmocka_unit_test(what_is_no_words_is_refused),
  };
  const struct CMUnitTest alone[] = {
      cmocka_unit_test(all_is_heard_turn_after_turn),
      cmocka_unit_test(bytes_are_exact),
      cmocka_unit_test(small_words_are_small),
      cmocka_unit_test(large_words_arrive),
      cmocka_unit_test(short_forms_tell_the_same),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  (void)printf("seed %d\n", SEED);
  int failed = cmocka_run_group_tests_name("mpi", tests, open_mpi, close_comm);
  if (test_size() == 1) {
    failed += cmocka_run_group_tests_name("self", alone, open_self, close_comm);
  }
  failed += moerun__alloc_live() != 0;
  failed +=
      cmocka_run_group_tests_name("breaking", breaking, open_mpi, close_comm);
  (void)MPI_Finalize();
  return failed;
}
