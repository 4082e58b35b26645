/* moerun_bench_exchange: rows from every rank to every other rank, the way
 * dispatch and combine move them, for a range of sizes; in the same run
 * MPI_Alltoallv with the same rows is the baseline. Flags and table after the
 * OSU and NCCL tests. The two take turns iteration by iteration, so that a
 * busy machine hurts both alike. A pass that checks every byte comes first.
 * Formulas: README.md. */
#include "benchmarks/exchange.h"

#include "runtime/base/file.h"
#include "runtime/base/memory.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const way_name[WAYS] = {"exchange", "alltoallv"};

static const char usage[] =
    "usage: mpirun -n R moerun_bench_exchange [options]\n"
    "  -b BYTES  smallest message to each other rank   (1K)\n"
    "  -e BYTES  largest one                           (4M)\n"
    "  -f N      factor between sizes, at least 2      (4)\n"
    "  -n N      timed iterations of each size         (200)\n"
    "  -w N      iterations before those               (20)\n"
    "  --row BYTES  bytes of a row, at most            (4K)\n"
    "  --json FILE  the same numbers as JSON\n"
    "BYTES may end in K, M or G.\n";

/* ---- Options ------------------------------------------------------------- */

static moerun_status parse_number(int64_t *out, const char *flag,
                                  const char *text, int64_t low, int64_t high) {
  moerun_status status = MOERUN_OK;
  static const char units[] = "KMG";
  char *end = NULL;
  int64_t value = text == NULL ? -1 : strtoll(text, &end, 10);
  MOERUN_REQUIRE(text != NULL && end != text && value >= 0 &&
                     value <= INT32_MAX,
                 MOERUN_ERR_INVALID, "%s: expected a number, found \"%s\"",
                 flag, text == NULL ? "" : text);
  const char *unit = *end == '\0' ? NULL : strchr(units, *end);
  if (unit != NULL) {
    value <<= 10 * (unit - units + 1);
    end++;
  }
  MOERUN_REQUIRE(*end == '\0', MOERUN_ERR_INVALID,
                 "%s: expected a number, found \"%s\"", flag, text);
  MOERUN_REQUIRE(value >= low && value <= high, MOERUN_ERR_INVALID,
                 "%s: expected %lld to %lld, found %lld", flag, (long long)low,
                 (long long)high, (long long)value);
  *out = value;
done:
  return status;
}

static moerun_status parse_options(options *o, int argc, char **argv) {
  moerun_status status = MOERUN_OK;
  *o = (options){.first_bytes = 1 << 10,
                 .last_bytes = 1 << 22,
                 .factor = 4,
                 .iterations = 200,
                 .warmup = 20,
                 .row_bytes = 1 << 12};
  const struct {
    const char *name;
    int64_t *value;
    int64_t low, high;
  } numbers[] = {
      {"-b", &o->first_bytes, 1, (int64_t)1 << 36},
      {"-e", &o->last_bytes, 1, (int64_t)1 << 36},
      {"-f", &o->factor, 2, 1 << 20},
      {"-n", &o->iterations, 1, 1 << 20},
      {"-w", &o->warmup, 0, 1 << 20},
      {"--row", &o->row_bytes, 1, 1 << 30},
  };
  const size_t n = sizeof numbers / sizeof *numbers;
  for (int i = 1; i < argc; i += 2) {
    size_t k = 0;
    while (k < n && strcmp(argv[i], numbers[k].name) != 0) {
      k++;
    }
    const char *value = argv[i + 1]; /* argv ends in NULL */
    if (k < n) {
      MOERUN_TRY(parse_number(numbers[k].value, argv[i], value, numbers[k].low,
                              numbers[k].high));
      continue;
    }
    if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
      o->help = 1;
      goto done;
    }
    MOERUN_REQUIRE(strcmp(argv[i], "--json") == 0 && value != NULL,
                   MOERUN_ERR_INVALID, "unknown or incomplete option %s",
                   argv[i]);
    o->json = value;
  }
  MOERUN_REQUIRE(o->first_bytes <= o->last_bytes, MOERUN_ERR_INVALID,
                 "-b: expected at most -e (%lld), found %lld",
                 (long long)o->last_bytes, (long long)o->first_bytes);
done:
  return status;
}

/* ---- One size ------------------------------------------------------------ */

/* What `bytes` means in rows: at least one, none longer than asked for. */
typedef struct shape {
  int32_t rows; /* to each other rank */
  size_t row_bytes;
} shape;

static shape shape_of(const options *o, int64_t bytes) {
  const int64_t row = bytes < o->row_bytes ? bytes : o->row_bytes;
  return (shape){.rows = (int32_t)(bytes / row), .row_bytes = (size_t)row};
}

static moerun_status run_exchange(bench *b, const shape *s) {
  moerun_status status = MOERUN_OK;
  moerun__row_list list = {.rows = b->receive,
                           .row_bytes = s->row_bytes,
                           .offset = b->offset,
                           .last_peer = b->R};
  MOERUN_TRY(b->comm->ops->receive_begin(b->both, MOERUN_TAG_DISPATCH, &list));
  list.rows = b->send;
  MOERUN_TRY(b->comm->ops->send_begin(b->both, MOERUN_TAG_DISPATCH, &list));
  MOERUN_TRY(b->comm->ops->wait(b->both));
done:
  return status;
}

static moerun_status run_once(bench *b, int way, const shape *s,
                              MPI_Datatype row) {
  if (way == EXCHANGE) return run_exchange(b, s);
  (void)MPI_Alltoallv(b->send, b->count, b->offset, row, b->receive, b->count,
                      b->offset, row, MPI_COMM_WORLD);
  return MOERUN_OK;
}

static unsigned char content(int from, int to, size_t i) {
  return (unsigned char)((size_t)from * 37 + (size_t)to * 101 + i * 7 +
                         (i >> 12));
}

static moerun_status check_once(bench *b, int way, const shape *s,
                                MPI_Datatype row) {
  moerun_status status = MOERUN_OK;
  const size_t bytes = (size_t)s->rows * s->row_bytes;
  memset(b->receive, 0, bytes * (size_t)b->R);
  for (int p = 0; p < b->R; p++) {
    for (size_t i = 0; i < bytes; i++) {
      b->send[(size_t)p * bytes + i] = content(b->rank, p, i);
    }
  }
  MOERUN_TRY(run_once(b, way, s, row));
  for (int p = 0; p < b->R; p++) {
    size_t good = 0;
    const unsigned char *part = b->receive + (size_t)p * bytes;
    while (good < bytes &&
           part[good] == (p == b->rank ? 0 : content(p, b->rank, good))) {
      good++;
    }
    MOERUN_REQUIRE(good == bytes, MOERUN_ERR_COMM,
                   "%s: byte %zu from rank %d is wrong", way_name[way], good,
                   p);
  }
done:
  return status;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a;
  const double y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Sorts seconds[n]. */
static summary summarise(double *seconds, int64_t n) {
  qsort(seconds, (size_t)n, sizeof *seconds, ascending);
  const int64_t middle = n / 2;
  const int64_t high = (99 * n + 99) / 100 - 1;
  const double median = n % 2 == 1
                            ? seconds[middle]
                            : 0.5 * (seconds[middle - 1] + seconds[middle]);
  return (summary){.min = 1e6 * seconds[0],
                   .median = 1e6 * median,
                   .p99 = 1e6 * seconds[high]};
}

void bench_summarise(summary *times, bench *b, const options *o) {
  (void)MPI_Reduce(b->seconds, b->slowest, (int)(WAYS * o->iterations),
                   MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
  for (int way = 0; way < WAYS && b->rank == 0; way++) {
    times[way] = summarise(b->slowest + way * o->iterations, o->iterations);
  }
}

/* times[WAYS] on rank 0. */
static moerun_status time_shape(summary *times, bench *b, const options *o,
                                const shape *s) {
  moerun_status status = MOERUN_OK;
  MPI_Datatype row = MPI_DATATYPE_NULL;
  (void)MPI_Type_contiguous((int)s->row_bytes, MPI_BYTE, &row);
  (void)MPI_Type_commit(&row);
  for (int p = 0; p <= b->R; p++) {
    b->offset[p] = p * s->rows;
  }
  for (int p = 0; p < b->R; p++) {
    b->count[p] = p == b->rank ? 0 : s->rows;
  }
  for (int way = 0; way < WAYS; way++) {
    MOERUN_TRY(moerun__comm_agree(b->comm, check_once(b, way, s, row)));
  }
  for (int64_t i = -o->warmup; i < o->iterations; i++) {
    for (int way = 0; way < WAYS; way++) {
      (void)MPI_Barrier(MPI_COMM_WORLD);
      const double start = MPI_Wtime();
      MOERUN_TRY(run_once(b, way, s, row));
      const double end = MPI_Wtime();
      if (i >= 0) b->seconds[way * o->iterations + i] = end - start;
    }
  }
  bench_summarise(times, b, o);
done:
  (void)MPI_Type_free(&row);
  return status;
}

/* ---- Report -------------------------------------------------------------- */

/* Bytes that one rank sends to others, over the median time. */
static double bandwidth(const bench *b, const shape *s, const summary *time) {
  const double bytes =
      (double)(b->R - 1) * (double)s->rows * (double)s->row_bytes;
  return bytes / (time->median * 1e3);
}

static void print_head(const bench *b, const options *o) {
  (void)printf("# moerun %d.%d.%d, exchange of rows, %d ranks, %lld iterations "
               "after %lld, microseconds of the slowest rank\n",
               MOERUN_VERSION_MAJOR, MOERUN_VERSION_MINOR, MOERUN_VERSION_PATCH,
               b->R, (long long)o->iterations, (long long)o->warmup);
}

static void print_shapes_head(void) {
  (void)printf("# %10s %8s %8s | %9s %9s %9s %7s | %9s %9s %9s %7s | %6s\n",
               "bytes/peer", "rows", "row", "exchange", "", "", "", "alltoallv",
               "", "", "", "ratio");
  (void)printf("# %10s %8s %8s | %9s %9s %9s %7s | %9s %9s %9s %7s | %6s\n", "",
               "", "bytes", "min", "median", "p99", "GB/s", "min", "median",
               "p99", "GB/s", "");
}

static void print_shape(const bench *b, const shape *s, const summary *times) {
  (void)printf("  %10zu %8d %8zu |", (size_t)s->rows * s->row_bytes, s->rows,
               s->row_bytes);
  for (int way = 0; way < WAYS; way++) {
    (void)printf(" %9.1f %9.1f %9.1f %7.3f |", times[way].min,
                 times[way].median, times[way].p99,
                 bandwidth(b, s, &times[way]));
  }
  (void)printf(" %6.2f\n", times[ALLTOALLV].median / times[EXCHANGE].median);
  (void)fflush(stdout);
}

moerun_status bench_json_times(moerun__text *text, const char *name,
                               const summary *time) {
  return moerun__text_print(
      text, "\"%s\": {\"min_us\": %.3f, \"median_us\": %.3f, \"p99_us\": %.3f}",
      name, time->min, time->median, time->p99);
}

static moerun_status json_head(moerun__text *text, const bench *b,
                               const options *o) {
  moerun_status status = MOERUN_OK;
  char host[256] = "";
  char library[MPI_MAX_LIBRARY_VERSION_STRING + 1] = "";
  int length = 0;
  (void)gethostname(host, sizeof host - 1);
  (void)MPI_Get_library_version(library, &length);
  MOERUN_TRY(moerun__text_print(
      text,
      "{\n  \"benchmark\": \"exchange\",\n  \"schema\": 2,\n"
      "  \"version\": \"%d.%d.%d\",\n  \"host\": ",
      MOERUN_VERSION_MAJOR, MOERUN_VERSION_MINOR, MOERUN_VERSION_PATCH));
  MOERUN_TRY(moerun__text_json(text, host, strlen(host)));
  MOERUN_TRY(moerun__text_print(text, ",\n  \"mpi\": "));
  MOERUN_TRY(moerun__text_json(text, library, strcspn(library, ",\n")));
  MOERUN_TRY(moerun__text_print(
      text,
      ",\n  \"cores\": %ld,\n  \"ranks\": %d,\n  \"iterations\": %lld,\n"
      "  \"warmup\": %lld,\n  \"told\": [",
      sysconf(_SC_NPROCESSORS_ONLN), b->R, (long long)o->iterations,
      (long long)o->warmup));
done:
  return status;
}

static moerun_status json_shape(moerun__text *text, const bench *b,
                                const shape *s, const summary *times,
                                int first) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(
      text,
      "%s\n    {\"bytes_per_peer\": %zu, \"rows\": %d, \"row_bytes\": %zu",
      first ? "" : ",", (size_t)s->rows * s->row_bytes, s->rows, s->row_bytes));
  for (int way = 0; way < WAYS; way++) {
    MOERUN_TRY(moerun__text_print(text, ", "));
    MOERUN_TRY(bench_json_times(text, way_name[way], &times[way]));
    MOERUN_TRY(moerun__text_print(text, ", \"%s_gb_per_s\": %.6f",
                                  way_name[way], bandwidth(b, s, &times[way])));
  }
  MOERUN_TRY(moerun__text_print(text, "}"));
done:
  return status;
}

/* ---- Main ---------------------------------------------------------------- */

static moerun_status create(bench *b, const options *o) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun_comm_create_mpi(&b->comm, MPI_COMM_WORLD, NULL));
  b->rank = moerun_comm_rank(b->comm);
  b->R = moerun_comm_size(b->comm);
  const size_t R = (size_t)b->R;
  MOERUN_REQUIRE(b->R >= 2, MOERUN_ERR_INVALID,
                 "expected at least 2 ranks, found %d", b->R);
  const size_t samples = WAYS * (size_t)o->iterations;
  MOERUN_REQUIRE(o->last_bytes / o->row_bytes < INT32_MAX / b->R,
                 MOERUN_ERR_INVALID,
                 "--row: %lld bytes are too few for -e %lld: more than %d rows",
                 (long long)o->row_bytes, (long long)o->last_bytes, INT32_MAX);
  MOERUN_TRY(
      b->comm->ops->transfer_create(&b->both, b->comm, 0, MOERUN_MEMORY_HOST));
  MOERUN_TRY(moerun__alloc(&b->send, R, (size_t)o->last_bytes));
  MOERUN_TRY(moerun__alloc(&b->receive, R, (size_t)o->last_bytes));
  MOERUN_TRY(moerun__alloc(&b->offset, R + 1, sizeof *b->offset));
  MOERUN_TRY(moerun__alloc(&b->count, R, sizeof *b->count));
  MOERUN_TRY(moerun__alloc(&b->seconds, samples, sizeof *b->seconds));
  MOERUN_TRY(moerun__alloc(&b->slowest, samples, sizeof *b->slowest));
done:
  return status;
}

static void destroy(bench *b) {
  if (b->comm == NULL) return;
  b->comm->ops->transfer_destroy(b->both);
  moerun__free(b->send);
  moerun__free(b->receive);
  moerun__free(b->offset);
  moerun__free(b->count);
  moerun__free(b->seconds);
  moerun__free(b->slowest);
  moerun_comm_destroy(b->comm);
}

static moerun_status run_sizes(bench *b, const options *o) {
  moerun_status status = MOERUN_OK;
  moerun__text json = {0};
  summary times[WAYS] = {{0}};
  if (b->rank == 0) {
    print_head(b, o);
    MOERUN_TRY(json_head(&json, b, o));
  }
  MOERUN_TRY(bench_tellings(b, o, &json));
  if (b->rank == 0) {
    print_shapes_head();
    MOERUN_TRY(moerun__text_print(&json, "],\n  \"sizes\": ["));
  }
  for (int64_t bytes = o->first_bytes; bytes <= o->last_bytes;
       bytes *= o->factor) {
    const shape s = shape_of(o, bytes);
    MOERUN_TRY(time_shape(times, b, o, &s));
    if (b->rank != 0) continue;
    print_shape(b, &s, times);
    MOERUN_TRY(json_shape(&json, b, &s, times, bytes == o->first_bytes));
  }
  if (b->rank != 0 || o->json == NULL) goto done;
  MOERUN_TRY(moerun__text_print(&json, "\n  ]\n}\n"));
  MOERUN_TRY(moerun__file_write(o->json, json.bytes, json.count));
done:
  moerun__text_clear(&json);
  return status;
}

int main(int argc, char **argv) {
  options o;
  bench b = {0};
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  (void)MPI_Comm_rank(MPI_COMM_WORLD, &b.rank);
  moerun_status status = parse_options(&o, argc, argv);
  if (status == MOERUN_OK && o.help) {
    if (b.rank == 0) (void)fputs(usage, stdout);
    (void)MPI_Finalize();
    return EXIT_SUCCESS;
  }
  if (status != MOERUN_OK) { /* the same on all ranks */
    if (b.rank == 0) {
      (void)fprintf(stderr, "moerun_bench_exchange: %s\n%s",
                    moerun_last_error(), usage);
    }
    (void)MPI_Finalize();
    return EXIT_FAILURE;
  }
  status = create(&b, &o);
  if (b.comm != NULL) {
    status = moerun__comm_agree(b.comm, status);
    if (status == MOERUN_OK) status = run_sizes(&b, &o);
  }
  if (status != MOERUN_OK && status != MOERUN_ERR_PEER) {
    (void)fprintf(stderr, "moerun_bench_exchange: rank %d: %s\n", b.rank,
                  moerun_last_error());
    (void)MPI_Abort(MPI_COMM_WORLD, EXIT_FAILURE); /* others may wait for us */
  }
  destroy(&b);
  (void)MPI_Finalize();
  return status == MOERUN_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
