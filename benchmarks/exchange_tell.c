/* What ranks tell each other before the rows of a layer travel, by comm's
 * `tell` (recursive doubling: log2(R) messages, one after another), and beside
 * it by one MPI_Ialltoall of the same words, R - 1 messages at once, which
 * every rank then adds up itself. */
#include "benchmarks/exchange.h"

#include "runtime/base/memory.h"

#include <stdio.h>
#include <string.h>

/* As a layer tells it: one word of which the least counts, sums over ranks with
 * those over lower ranks, words of each rank by itself, and a count for
 * each. */
typedef struct telling {
  const char *name;
  int32_t sums;
  int32_t words;
} telling;

static const telling tellings[] = {
    {"unbalanced", 0, 0}, {"64 experts", 64, 4}, {"256 experts", 256, 4}};

typedef struct teller {
  const bench *bench;
  const telling *what;
  int32_t *memory;
  moerun__news news;
  int32_t width; /* words of a rank for another if all go straight there */
  int32_t *to;   /* [R][width] */
  int32_t *from; /* [R][width] */
} teller;

static moerun_status create(teller *t, const bench *b, const telling *what) {
  moerun_status status = MOERUN_OK;
  const size_t R = (size_t)b->R;
  *t = (teller){.bench = b,
                .what = what,
                .news = {.num_least = 1,
                         .num_sums = what->sums,
                         .width = what->words,
                         .count_width = 1},
                .width = 1 + what->sums + what->words + 1};
  const size_t pairs = R * (size_t)t->width;
  const size_t sums = (size_t)what->sums;
  const size_t words = R * (size_t)what->words;
  MOERUN_TRY(moerun__alloc(&t->memory,
                           1 + 2 * sums + words + 2 * R + 2 * pairs +
                               moerun__news_scratch(b->R, &t->news),
                           sizeof *t->memory));
  t->news.least = t->memory;
  t->news.sum = t->news.least + 1;
  t->news.before = t->news.sum + sums;
  t->news.words = t->news.before + sums;
  t->news.count_in = t->news.words + words;
  int32_t *count_out = t->news.count_in + R;
  for (int32_t p = 0; p < b->R; p++) {
    count_out[p] = 1 + p;
  }
  t->news.count_out = count_out;
  t->to = count_out + R;
  t->from = t->to + pairs;
  t->news.scratch = t->from + pairs;
done:
  return status;
}

/* Small, as rows of an expert in a step are. */
static int32_t word_of(int rank, int32_t i) {
  return (rank * 7 + i * 5) % 50;
}

/* This rank's words where either way looks for them. */
static void write_words(const teller *t) {
  const int rank = t->bench->rank;
  const moerun__news *news = &t->news;
  int32_t *to = t->to;
  int32_t *words = news->words + (ptrdiff_t)rank * news->width;
  news->least[0] = rank;
  for (int32_t i = 0; i < news->num_sums; i++) {
    news->sum[i] = word_of(rank, i);
  }
  for (int32_t i = 0; i < news->width; i++) {
    words[i] = word_of(rank, i);
  }
  for (int p = 0; p < t->bench->R; p++, to += t->width) {
    to[0] = rank;
    memcpy(to + 1, news->sum, (size_t)news->num_sums * sizeof *to);
    memcpy(to + 1 + news->num_sums, words, (size_t)news->width * sizeof *to);
    to[t->width - 1] = news->count_out[p];
  }
}

static void add(int32_t *sum, const int32_t *part, int32_t n) {
  for (int32_t i = 0; i < n; i++) {
    sum[i] += part[i];
  }
}

static void tell_straight(const teller *t) {
  const moerun__news *news = &t->news;
  const int32_t n = news->num_sums;
  const int32_t *from = t->from;
  MPI_Request request = MPI_REQUEST_NULL;
  (void)MPI_Ialltoall(t->to, t->width, MPI_INT32_T, t->from, t->width,
                      MPI_INT32_T, MPI_COMM_WORLD, &request);
  (void)MPI_Wait(&request, MPI_STATUS_IGNORE);
  memset(news->sum, 0, (size_t)n * sizeof *news->sum);
  for (int p = 0; p < t->bench->R; p++, from += t->width) {
    if (from[0] < news->least[0]) news->least[0] = from[0];
    if (p == t->bench->rank) {
      memcpy(news->before, news->sum, (size_t)n * sizeof *news->before);
    }
    add(news->sum, from + 1, n);
    memcpy(news->words + (ptrdiff_t)p * news->width, from + 1 + n,
           (size_t)news->width * sizeof *from);
    news->count_in[p] = from[t->width - 1];
  }
}

static moerun_status tell_once(const teller *t, int way) {
  moerun_comm *comm = t->bench->comm;
  if (way == EXCHANGE) return comm->ops->tell(comm, &t->news);
  tell_straight(t);
  return MOERUN_OK;
}

static int is_sound(const teller *t) {
  const int rank = t->bench->rank;
  const moerun__news *news = &t->news;
  int ok = news->least[0] == 0;
  for (int32_t i = 0; i < news->num_sums; i++) {
    int32_t sum = 0;
    for (int p = 0; p < t->bench->R; sum += word_of(p++, i)) {
      ok = ok && (p != rank || news->before[i] == sum);
    }
    ok = ok && news->sum[i] == sum;
  }
  for (int p = 0; p < t->bench->R; p++) {
    ok = ok && news->count_in[p] == 1 + rank;
    for (int32_t i = 0; i < news->width; i++) {
      ok = ok && news->words[p * news->width + i] == word_of(p, i);
    }
  }
  return ok;
}

/* times[WAYS] on rank 0; every word is checked once before. */
static moerun_status time_ways(summary *times, bench *b, const options *o,
                               const teller *t) {
  moerun_status status = MOERUN_OK;
  for (int64_t i = -o->warmup - 1; i < o->iterations; i++) {
    for (int way = 0; way < WAYS; way++) {
      write_words(t);
      (void)MPI_Barrier(MPI_COMM_WORLD);
      const double start = MPI_Wtime();
      MOERUN_TRY(tell_once(t, way));
      const double end = MPI_Wtime();
      if (i >= 0) b->seconds[way * o->iterations + i] = end - start;
      MOERUN_REQUIRE(i >= -o->warmup || is_sound(t), MOERUN_ERR_COMM,
                     "%s, %s: what ranks told is wrong", t->what->name,
                     way == EXCHANGE ? "tell" : "ialltoall");
    }
  }
  bench_summarise(times, b, o);
done:
  return status;
}

/* ---- Report -------------------------------------------------------------- */

static void print_head(void) {
  (void)printf("# %12s %8s | %9s %9s %9s | %9s %9s %9s | %6s\n", "told",
               "words", "tell", "", "", "ialltoall", "", "", "ratio");
  (void)printf("# %12s %8s | %9s %9s %9s | %9s %9s %9s | %6s\n", "", "", "min",
               "median", "p99", "min", "median", "p99", "");
}

static void print_times(const teller *t, const summary *times) {
  (void)printf("  %12s %8d |", t->what->name, t->width);
  for (int way = 0; way < WAYS; way++) {
    (void)printf(" %9.1f %9.1f %9.1f |", times[way].min, times[way].median,
                 times[way].p99);
  }
  (void)printf(" %6.2f\n", times[ALLTOALLV].median / times[EXCHANGE].median);
}

static moerun_status json_element(moerun__text *json, const teller *t,
                                  const summary *times) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(
      json, "%s\n    {\"told\": \"%s\", \"words\": %d, ",
      t->what == tellings ? "" : ",", t->what->name, t->width));
  MOERUN_TRY(bench_json_times(json, "tell", &times[EXCHANGE]));
  MOERUN_TRY(moerun__text_print(json, ", "));
  MOERUN_TRY(bench_json_times(json, "ialltoall", &times[ALLTOALLV]));
  MOERUN_TRY(moerun__text_print(json, "}"));
done:
  return status;
}

moerun_status bench_tellings(bench *b, const options *o, moerun__text *json) {
  moerun_status status = MOERUN_OK;
  summary times[WAYS] = {{0}};
  teller t = {0};
  if (b->rank == 0) print_head();
  for (size_t i = 0; i < sizeof tellings / sizeof *tellings; i++) {
    status = create(&t, b, &tellings[i]);
    MOERUN_TRY(moerun__comm_agree(b->comm, status));
    MOERUN_TRY(time_ways(times, b, o, &t));
    if (b->rank == 0) {
      print_times(&t, times);
      MOERUN_TRY(json_element(json, &t, times));
    }
    moerun__free(t.memory);
    t.memory = NULL;
  }
done:
  moerun__free(t.memory);
  return status;
}
