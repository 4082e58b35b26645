/* What ranks tell each other, by recursive doubling: in round k ranks whose
 * numbers differ in bit k exchange what their groups of 2^k ranks know, and after
 * log2(R) rounds all know everything. One message carries it all: the least so
 * far, sums so far, the words of the ranks of the group, and of each rank how
 * many peers of the group have counts for it. The last are scattered and not
 * spread: a round tells them only of those ranks that the partner's half will
 * answer for, so that they are R - 1 words and not R log2(R).
 *
 * Where R is no power of two, the first ranks go by twos: the odd one of a pair
 * acts for both, so that the ranks of a group always are neighbours. That is
 * also why sums over lower ranks cost nothing: a group that is told of by a
 * partner with a lower number is below this rank as a whole.
 *
 * Counts leave before the first round straight for the ranks that they are for,
 * and are taken after the last, when it is known how many come. A rank may be one
 * such exchange ahead of this one, and no more, since it needs this one's words
 * to get further: two tags by turns keep both apart.
 *
 * A rank that is told another number of words than it expects tells nothing more
 * than that, in empty messages. What a rank knows in the end comes from all ranks,
 * so all of them hear of it, and none waits for one that has given up. */
#include "comm/mpi_comm.h"

#include "runtime/base/number.h"

#include <string.h>

typedef struct teller {
  moerun__mpi_comm *self;
  const moerun__news *news;
  const char *what;
  int32_t num_actors; /* greatest power of two up to R */
  int32_t num_pairs;  /* of ranks of which one acts for both: R - num_actors */
  int32_t room;       /* words of a message */
  int32_t *out;       /* message */
  int32_t *in;
  int32_t *senders; /* [R] how many ranks known of have counts for each */
  int32_t *count;   /* [count_width] from one peer */
  int differs;      /* 1: ranks tell other numbers of words */
  int32_t found;    /* by rank `from` */
  int32_t expected;
  int32_t from;
} teller;

/* What a message tells beside what is the least and sums: senders to the ranks of
 * actors first_actor, first_actor + step, …, and words of ranks first_rank ..
 * last_rank - 1. */
typedef struct extent {
  int32_t first_actor;
  int32_t step;
  int32_t first_rank;
  int32_t last_rank;
} extent;

/* ---- Ranks ------------------------------------------------------------------- */

static int has_counts(const teller *t) {
  return t->news->count_width > 0;
}

/* The first of the ranks that an actor acts for; of the actor behind the last:
 * R. */
static int32_t first_rank(const teller *t, int32_t actor) {
  return actor < t->num_pairs ? 2 * actor : actor + t->num_pairs;
}

static int32_t rank_of(const teller *t, int32_t actor) {
  return first_rank(t, actor + 1) - 1;
}

static int32_t actor_of(const teller *t, int32_t rank) {
  return rank < 2 * t->num_pairs ? rank / 2 : rank - t->num_pairs;
}

static int32_t *words_of(const teller *t, int32_t rank) {
  return t->news->words + (size_t)rank * (size_t)t->news->width;
}

/* ---- Messages ---------------------------------------------------------------- */

static int32_t *put(int32_t *at, const int32_t *words, int32_t n) {
  if (n > 0) memcpy(at, words, (size_t)n * sizeof *at);
  return at + n;
}

static const int32_t *get(const int32_t *at, int32_t *words, int32_t n) {
  if (n > 0) memcpy(words, at, (size_t)n * sizeof *at);
  return at + n;
}

static const int32_t *get_least(const int32_t *at, const teller *t) {
  int32_t *least = t->news->least;
  for (int32_t i = 0; i < t->news->num_least; i++, at++) {
    if (*at < least[i]) least[i] = *at;
  }
  return at;
}

static void add(int32_t *sum, const int32_t *part, int32_t n) {
  for (int32_t i = 0; i < n; i++) {
    sum[i] += part[i];
  }
}

static int32_t pack(const teller *t, const extent *e) {
  const moerun__news *news = t->news;
  int32_t *at = put(t->out, news->least, news->num_least);
  at = put(at, news->sum, news->num_sums);
  for (int32_t a = e->first_actor; has_counts(t) && a < t->num_actors;
       a += e->step) {
    const int32_t first = first_rank(t, a);
    at = put(at, t->senders + first, first_rank(t, a + 1) - first);
  }
  if (news->width > 0) {
    at = put(at, words_of(t, e->first_rank),
             (e->last_rank - e->first_rank) * news->width);
  }
  return moerun__to_int(at - t->out);
}

static int32_t length_of(const teller *t, const extent *e) {
  const moerun__news *news = t->news;
  int32_t length = news->num_least + news->num_sums +
                   (e->last_rank - e->first_rank) * news->width;
  for (int32_t a = e->first_actor; has_counts(t) && a < t->num_actors;
       a += e->step) {
    length += first_rank(t, a + 1) - first_rank(t, a);
  }
  return length;
}

/* `is_below`: the ranks that the message tells of are below this one. */
static void merge(const teller *t, const extent *e, int is_below) {
  const moerun__news *news = t->news;
  if (t->differs) return;
  const int32_t *at = get_least(t->in, t);
  if (is_below && news->before != NULL) add(news->before, at, news->num_sums);
  add(news->sum, at, news->num_sums);
  at += news->num_sums;
  for (int32_t a = e->first_actor; has_counts(t) && a < t->num_actors;
       a += e->step) {
    const int32_t first = first_rank(t, a);
    const int32_t n = first_rank(t, a + 1) - first;
    add(t->senders + first, at, n);
    at += n;
  }
  if (news->width > 0) {
    (void)get(at, words_of(t, e->first_rank),
              (e->last_rank - e->first_rank) * news->width);
  }
}

/* NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker): the checker does not know
 * that MPI_Test in moerun__mpi_await() completes a request. */

/* The length of the message waited for last is checked; `expected` is not 0. */
static moerun_status compare_length(teller *t, int32_t expected) {
  moerun_status status = MOERUN_OK;
  int found = 0;
  MOERUN_TRY(moerun__mpi_result(
      t->self, MPI_Get_count(&t->self->received, MPI_INT32_T, &found),
      t->what));
  if (found == expected || t->differs) goto done;
  t->differs = 1;
  t->found = found;
  t->expected = expected;
  t->from = t->self->received.MPI_SOURCE;
done:
  return status;
}

static moerun_status end_if_different(const teller *t) {
  moerun_status status = MOERUN_OK;
  const char *doubt = t->news->doubt;
  if (!t->differs) goto done;
  t->self->broken = MOERUN_ERR_COMM;
  if (doubt == NULL) doubt = "are all ranks of one build?";
  MOERUN_REQUIRE(t->found == 0, MOERUN_ERR_COMM,
                 "%s: rank %d: expected %d words, found %d: %s", t->what,
                 t->from, t->expected, t->found, doubt);
  MOERUN_REQUIRE(0, MOERUN_ERR_COMM,
                 "%s: ranks differ in the number of words: %s", t->what, doubt);
done:
  return status;
}

/* `out` words to the peer and `in` from it; 0: no message. */
static moerun_status meet(teller *t, int32_t peer, int32_t out, int32_t in) {
  moerun_status status = MOERUN_OK;
  moerun__mpi_comm *self = t->self;
  const int32_t told = t->differs ? 0 : out;
  if (in > 0) {
    MOERUN_TRY(moerun__mpi_result(self,
                                  MPI_Irecv(t->in, t->room, MPI_INT32_T, peer,
                                            MOERUN_TAG_TELL, self->comm,
                                            &self->pending),
                                  t->what));
  }
  if (out > 0) {
    MOERUN_TRY(moerun__mpi_result(self,
                                  MPI_Isend(t->out, told, MPI_INT32_T, peer,
                                            MOERUN_TAG_TELL, self->comm,
                                            &self->telling),
                                  t->what));
    self->base.count.count_bytes += told * (int64_t)sizeof *t->out;
  }
  if (in > 0) {
    MOERUN_TRY(
        moerun__mpi_await(self, &self->pending, self->timeout_s, t->what));
    MOERUN_TRY(compare_length(t, in));
  }
  if (out > 0) {
    MOERUN_TRY(
        moerun__mpi_await(self, &self->telling, self->timeout_s, t->what));
  }
done:
  return status;
}

/* ---- Rounds ------------------------------------------------------------------- */

static moerun_status meet_partner(teller *t, int32_t actor, int32_t bit) {
  moerun_status status = MOERUN_OK;
  const int32_t partner = actor ^ bit;
  const int32_t own_group = actor & ~(bit - 1);
  const int32_t other_group = partner & ~(bit - 1);
  const extent out = {partner & (2 * bit - 1), 2 * bit,
                      first_rank(t, own_group), first_rank(t, own_group + bit)};
  const extent in = {actor & (2 * bit - 1), 2 * bit, first_rank(t, other_group),
                     first_rank(t, other_group + bit)};
  MOERUN_TRY(meet(t, rank_of(t, partner), pack(t, &out), length_of(t, &in)));
  merge(t, &in, partner < actor);
done:
  return status;
}

/* The lower rank of a pair tells the other all it has. */
static extent extent_of_lower(int32_t lower) {
  return (extent){0, 1, lower, lower + 1};
}

/* And gets everything back; what is before the two of them is before it. */
static moerun_status tell_lower(teller *t, int32_t lower) {
  const moerun__news *news = t->news;
  int32_t *at = put(t->out, news->least, news->num_least);
  at = put(at, news->sum, news->num_sums);
  if (news->before != NULL) at = put(at, news->before, news->num_sums);
  if (has_counts(t)) at = put(at, t->senders + lower, 1);
  at = put(at, news->words, t->self->base.size * news->width);
  return meet(t, lower, moerun__to_int(at - t->out), 0);
}

static moerun_status hear_higher(teller *t, int32_t higher) {
  moerun_status status = MOERUN_OK;
  const moerun__news *news = t->news;
  const int32_t n = news->num_sums;
  const int32_t length = news->num_least + n + (news->before != NULL ? n : 0) +
                         has_counts(t) + t->self->base.size * news->width;
  MOERUN_TRY(meet(t, higher, 0, length));
  if (t->differs) goto done;
  const int32_t *at = get(t->in, news->least, news->num_least);
  const int32_t *sum = at;
  at += n;
  for (int32_t i = 0; news->before != NULL && i < n; i++) {
    news->before[i] = *at++ - news->sum[i];
  }
  (void)get(sum, news->sum, n);
  if (has_counts(t)) at = get(at, t->senders + higher - 1, 1);
  (void)get(at, news->words, t->self->base.size * news->width);
done:
  return status;
}

static moerun_status run_rounds(teller *t) {
  moerun_status status = MOERUN_OK;
  const int32_t rank = t->self->base.rank;
  const int is_paired = rank < 2 * t->num_pairs;
  if (is_paired && rank % 2 == 0) {
    const extent own = extent_of_lower(rank);
    MOERUN_TRY(meet(t, rank + 1, pack(t, &own), 0));
    MOERUN_TRY(hear_higher(t, rank + 1));
    goto done;
  }
  if (is_paired) {
    const extent lower = extent_of_lower(rank - 1);
    MOERUN_TRY(meet(t, rank - 1, 0, length_of(t, &lower)));
    merge(t, &lower, 1);
  }
  for (int32_t bit = 1; bit < t->num_actors; bit *= 2) {
    MOERUN_TRY(meet_partner(t, actor_of(t, rank), bit));
  }
  if (is_paired) MOERUN_TRY(tell_lower(t, rank - 1));
done:
  return status;
}

/* ---- Counts ------------------------------------------------------------------- */

static int has_words(const int32_t *words, int32_t n) {
  for (int32_t i = 0; i < n; i++) {
    if (words[i] != 0) return 1;
  }
  return 0;
}

static moerun_status send_counts(const teller *t) {
  moerun_status status = MOERUN_OK;
  moerun__mpi_comm *self = t->self;
  const moerun__news *news = t->news;
  const int32_t tag = MOERUN_TAG_COUNTS + self->count_turn;
  for (int32_t r = 0; r < self->base.size; r++) {
    const int32_t *words =
        news->count_out + (size_t)r * (size_t)news->count_width;
    self->count_request[r] = MPI_REQUEST_NULL;
    t->senders[r] = r != self->base.rank && has_words(words, news->count_width);
    if (!t->senders[r]) continue;
    MOERUN_TRY(
        moerun__mpi_result(self,
                           MPI_Isend(words, news->count_width, MPI_INT32_T, r,
                                     tag, self->comm, &self->count_request[r]),
                           t->what));
    self->base.count.count_bytes += news->count_width * (int64_t)sizeof *words;
  }
done:
  return status;
}

static moerun_status take_counts(teller *t) {
  moerun_status status = MOERUN_OK;
  moerun__mpi_comm *self = t->self;
  const moerun__news *news = t->news;
  const int32_t width = news->count_width;
  const int32_t rank = self->base.rank;
  const int32_t tag = MOERUN_TAG_COUNTS + self->count_turn;
  memset(news->count_in, 0,
         (size_t)self->base.size * (size_t)width * sizeof *news->count_in);
  (void)put(news->count_in + (size_t)rank * (size_t)width,
            news->count_out + (size_t)rank * (size_t)width, width);
  for (int32_t i = 0; i < t->senders[rank]; i++) {
    MOERUN_TRY(moerun__mpi_result(self,
                                  MPI_Irecv(t->count, width, MPI_INT32_T,
                                            MPI_ANY_SOURCE, tag, self->comm,
                                            &self->pending),
                                  t->what));
    MOERUN_TRY(
        moerun__mpi_await(self, &self->pending, self->timeout_s, t->what));
    MOERUN_TRY(compare_length(t, width));
    MOERUN_TRY(end_if_different(t));
    (void)put(news->count_in +
                  (size_t)self->received.MPI_SOURCE * (size_t)width,
              t->count, width);
  }
  for (int32_t r = 0; r < self->base.size; r++) {
    MOERUN_TRY(moerun__mpi_await(self, &self->count_request[r], self->timeout_s,
                                 t->what));
  }
  self->count_turn = !self->count_turn;
done:
  return status;
}

/* NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker) */

/* ---- The whole ---------------------------------------------------------------- */

moerun_status moerun__mpi_tell(moerun_comm *comm, const moerun__news *news) {
  moerun_status status = MOERUN_OK;
  moerun__mpi_comm *self = (moerun__mpi_comm *)comm;
  const size_t room =
      news->room > 0 ? news->room : moerun__news_room(comm->size, news);
  teller t = {.self = self,
              .news = news,
              .what = news->count_width > 0 ? "exchange of counts"
                                            : "exchange of words",
              .num_actors = 1,
              .room = moerun__to_int((int64_t)room),
              .out = news->scratch,
              .in = news->scratch + room,
              .senders = news->scratch + 2 * room};
  if (self->broken != MOERUN_OK) return self->broken;
  while (t.num_actors <= comm->size / 2) {
    t.num_actors *= 2;
  }
  t.num_pairs = comm->size - t.num_actors;
  if (has_counts(&t)) t.count = t.senders + comm->size;
  self->collectives++;
  if (news->before != NULL) {
    memset(news->before, 0, (size_t)news->num_sums * sizeof *news->before);
  }
  if (has_counts(&t)) MOERUN_TRY(send_counts(&t));
  MOERUN_TRY(run_rounds(&t));
  MOERUN_TRY(end_if_different(&t));
  if (has_counts(&t)) MOERUN_TRY(take_counts(&t));
done:
  return status;
}
