/* What ranks tell each other, by recursive doubling: in round k ranks whose
 * numbers differ in bit k exchange what their groups of 2^k ranks know, and
 * after log2(R) rounds all know everything. One message carries it all: the
 * least so far, sums so far, the words of the ranks of the group, and of each
 * rank how many peers of the group have counts for it. The last are scattered
 * and not spread: a round tells them only of those ranks that the partner's
 * half will answer for, so that they are R - 1 words and not R log2(R).
 *
 * Where R is no power of two, the first ranks go by twos: the odd one of a pair
 * acts for both, so that the ranks of a group always are neighbours. That is
 * also why sums over lower ranks cost nothing: a group that is told of by a
 * partner with a lower number is below this rank as a whole.
 *
 * Counts leave before the first round straight for the ranks that they are for,
 * and are taken after the last, when it is known how many come. A rank may be
 * one such exchange ahead of this one, and no more, since it needs this one's
 * words to get further: two tags by turns keep both apart.
 *
 * Most words are small: rows of an expert in a step, ranks that have counts. So
 * they travel in as many groups of 7 bits as they need, signs folded in, behind
 * their number: a byte in place of four.
 *
 * A rank that is told another number of words than it expects tells nothing
 * more than that, in empty messages. What a rank knows in the end comes from
 * all ranks, so all of them hear of it, and none waits for one that has given
 * up. */
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
  unsigned char *packed_out; /* as they travel */
  unsigned char *packed_in;
  int32_t *senders; /* [R] how many ranks known of have counts for each */
  int32_t *count;   /* [count_width] from one peer */
  int differs;      /* 1: ranks tell other numbers of words */
  int32_t found;    /* by rank `from` */
  int32_t expected;
  int32_t from;
} teller;

/* What a message tells beside what is the least and sums: senders to the ranks
 * of actors first_actor, first_actor + step, …, and words of ranks first_rank
 * .. last_rank - 1. */
typedef struct extent {
  int32_t first_actor;
  int32_t step;
  int32_t first_rank;
  int32_t last_rank;
} extent;

/* ---- Ranks --------------------------------------------------------------- */

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

/* ---- Messages ------------------------------------------------------------ */

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

static unsigned char *pack_number(unsigned char *at, uint32_t number) {
  while (number >= 1U << 7) {
    *at++ = (unsigned char)(number | 1U << 7);
    number >>= 7;
  }
  *at++ = (unsigned char)number;
  return at;
}

/* NULL: there is no number before `end`. */
static const unsigned char *unpack_number(const unsigned char *at,
                                          const unsigned char *end,
                                          uint32_t *number) {
  *number = 0;
  for (int bits = 0; at < end && bits < 32; bits += 7) {
    *number |= (*at & 127U) << bits;
    if (*at++ < 1U << 7) return at;
  }
  return NULL;
}

/* n words of t->out; returns the bytes that they take. */
static int32_t pack_words(const teller *t, int32_t n) {
  unsigned char *at = pack_number(t->packed_out, (uint32_t)n);
  for (int32_t i = 0; i < n; i++) {
    const int32_t word = t->out[i];
    at = pack_number(at, (uint32_t)word << 1 ^ (word < 0 ? UINT32_MAX : 0));
  }
  return moerun__to_int(at - t->packed_out);
}

/* To t->in; returns how many, or -1 if these are no words or there is no
 * room. */
static int32_t unpack_words(const teller *t, int32_t bytes) {
  const unsigned char *end = t->packed_in + bytes;
  uint32_t n = 0;
  const unsigned char *at = unpack_number(t->packed_in, end, &n);
  if (at == NULL || n > (uint32_t)t->room) return -1;
  for (uint32_t i = 0; i < n; i++) {
    uint32_t folded = 0;
    at = unpack_number(at, end, &folded);
    if (at == NULL) return -1;
    t->in[i] = (int32_t)(folded >> 1 ^ (0U - (folded & 1U)));
  }
  return at == end ? (int32_t)n : -1;
}

static void differ(teller *t, int32_t expected, int32_t found) {
  if (found == expected || t->differs) return;
  t->differs = 1;
  t->found = found;
  t->expected = expected;
  t->from = t->self->received.MPI_SOURCE;
}

static moerun_status length_received(int *length, const teller *t,
                                     MPI_Datatype type) {
  return moerun__mpi_result(
      t->self, MPI_Get_count(&t->self->received, type, length), t->what);
}

static moerun_status end_if_different(const teller *t) {
  moerun_status status = MOERUN_OK;
  const char *doubt = t->news->doubt;
  if (!t->differs) goto done;
  if (doubt == NULL) doubt = "are all ranks of one build?";
  MOERUN_REQUIRE(t->found == 0, MOERUN_ERR_COMM,
                 "%s: rank %d: expected %d words, found %d: %s", t->what,
                 t->from, t->expected, t->found, doubt);
  MOERUN_REQUIRE(0, MOERUN_ERR_COMM,
                 "%s: ranks differ in the number of words: %s", t->what, doubt);
done:
  if (status != MOERUN_OK) (void)moerun__mpi_break(t->self, status);
  return status;
}

/* `out` words to the peer and `in` from it; 0: no message. */
static moerun_status meet(teller *t, int32_t peer, int32_t out, int32_t in) {
  moerun_status status = MOERUN_OK;
  moerun__mpi_comm *self = t->self;
  const int32_t room =
      moerun__to_int((int64_t)sizeof(int32_t) *
                     (int64_t)moerun__packed_words((size_t)t->room));
  int bytes = 0;
  if (in > 0) {
    MOERUN_TRY(moerun__mpi_result(self,
                                  MPI_Irecv(t->packed_in, room, MPI_BYTE, peer,
                                            MOERUN_TAG_TELL, self->comm,
                                            &self->pending),
                                  t->what));
  }
  if (out > 0) {
    bytes = pack_words(t, t->differs ? 0 : out);
    MOERUN_TRY(moerun__mpi_result(self,
                                  MPI_Isend(t->packed_out, bytes, MPI_BYTE,
                                            peer, MOERUN_TAG_TELL, self->comm,
                                            &self->telling),
                                  t->what));
    self->base.count.count_bytes += bytes;
  }
  if (in > 0) {
    MOERUN_TRY(
        moerun__mpi_await(self, &self->pending, self->timeout_s, t->what));
    MOERUN_TRY(length_received(&bytes, t, MPI_BYTE));
    differ(t, in, unpack_words(t, bytes));
  }
  if (out > 0) {
    MOERUN_TRY(
        moerun__mpi_await(self, &self->telling, self->timeout_s, t->what));
  }
done:
  return status;
}

/* ---- Rounds -------------------------------------------------------------- */

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

/* ---- Counts -------------------------------------------------------------- */

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
    int found = 0;
    MOERUN_TRY(moerun__mpi_result(self,
                                  MPI_Irecv(t->count, width, MPI_INT32_T,
                                            MPI_ANY_SOURCE, tag, self->comm,
                                            &self->pending),
                                  t->what));
    MOERUN_TRY(
        moerun__mpi_await(self, &self->pending, self->timeout_s, t->what));
    MOERUN_TRY(length_received(&found, t, MPI_INT32_T));
    differ(t, width, found);
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

/* ---- The whole ----------------------------------------------------------- */

/* What this rank still waits for must not come into memory that is used for
 * something else by then. What it has sent stays where it is: scratch and
 * counts lie in memory of the transport. */
static void forget_receive(moerun__mpi_comm *self) {
  if (self->pending != MPI_REQUEST_NULL) {
    (void)MPI_Cancel(&self->pending);
    (void)MPI_Request_free(&self->pending);
  }
}

moerun_status moerun__mpi_tell(moerun_comm *comm, const moerun__news *news) {
  moerun_status status = MOERUN_OK;
  moerun__mpi_comm *self = (moerun__mpi_comm *)comm;
  const size_t room =
      news->room > 0 ? news->room : moerun__news_room(comm->size, news);
  const size_t packed = moerun__packed_words(room);
  int32_t *scratch = news->scratch;
  teller t = {.self = self,
              .news = news,
              .what = news->count_width > 0 ? "exchange of counts"
                                            : "exchange of words",
              .num_actors = 1,
              .room = moerun__to_int((int64_t)room),
              .out = scratch,
              .in = scratch + room,
              .packed_out = (unsigned char *)(scratch + 2 * room),
              .packed_in = (unsigned char *)(scratch + 2 * room + packed),
              .senders = scratch + 2 * (room + packed)};
  status = moerun__mpi_usable(self);
  if (status != MOERUN_OK) return status; /* what is pending is not this */
  while (t.num_actors <= comm->size / 2) {
    t.num_actors *= 2;
  }
  t.num_pairs = comm->size - t.num_actors;
  if (has_counts(&t)) t.count = t.senders + comm->size;
  self->collectives++;
  if (news->is_bound) self->bound = self->collectives;
  if (news->doubt != NULL) self->doubt = news->doubt;
  if (news->before != NULL) {
    memset(news->before, 0, (size_t)news->num_sums * sizeof *news->before);
  }
  if (has_counts(&t)) MOERUN_TRY(send_counts(&t));
  MOERUN_TRY(run_rounds(&t));
  MOERUN_TRY(end_if_different(&t));
  if (has_counts(&t)) MOERUN_TRY(take_counts(&t));
done:
  if (status != MOERUN_OK) forget_receive(self);
  return status;
}

/* NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker) */
