/* moerun_bench_ffn: the two matrix products of an expert, for the shapes of
 * real models and a range of rows. In the same run: OpenBLAS's sgemm (sgemv
 * for one row) on fp32 weights, one thread, and a plain sum over the bytes of
 * the packed weights, which is what memory can deliver. The three take turns
 * within each iteration, so that a busy machine hurts all alike, and go round
 * so many experts that none is in cache when its turn comes. A pass that
 * checks results comes first. Formulas: README.md. */
#include "kernels/kernels.h"
#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/base/text.h"

#include <cblas.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { WAYS = 3, OURS = 0, BLAS = 1, READ = 2, MAX_ROWS = 16 };

static const char *const way_name[WAYS] = {"moerun", "openblas", "read"};

typedef struct shape {
  const char *model;
  const char *matrix;
  int32_t N;
  int32_t D;
} shape;

static const shape shapes[] = {
    {"mixtral", "gate_up", 28672, 4096}, {"mixtral", "down", 4096, 14336},
    {"olmoe", "gate_up", 2048, 2048},    {"olmoe", "down", 2048, 1024},
    {"qwen3", "gate_up", 1536, 2048},    {"qwen3", "down", 2048, 768},
};

typedef struct options {
  const char *set;
  const char *model; /* NULL: all */
  const char *dtype;
  const char *compute;
  const char *rows;
  const char *json; /* NULL: none */
  long iterations;
  long warmup;
  long mebibytes; /* of packed weights to go round in */
  int help;
} options;

static const char usage[] =
    "usage: moerun_bench_ffn [options]\n"
    "  --set NAME    kernel set                                 (auto)\n"
    "  --model NAME  mixtral, olmoe or qwen3                    (all)\n"
    "  --dtype NAME  BF16, F16 or F32: the set's weights        (BF16)\n"
    "  --compute NAME  fp32, or bf16: rows rounded beforehand   (fp32)\n"
    "  --rows LIST   rows, at most 16 numbers     (1,2,4,8,16,64,128,256)\n"
    "  -n N          timed iterations                           (20)\n"
    "  -w N          iterations before those                    (3)\n"
    "  --cycle MIB   packed weights to go round in, at least    (256)\n"
    "  --json FILE   the same numbers as JSON\n";

/* One shape's weights and rows, and the times of one number of rows. */
typedef struct bench {
  const moerun__kernels *set;
  const shape *shape;
  moerun__dtype dtype;
  moerun__queue queue;
  int32_t M;
  size_t num_experts;
  moerun__weight *weight; /* [num_experts] */
  float **wide;           /* [num_experts] [N][D] */
  float *x;               /* [largest M][D] */
  float *y[2];            /* [largest M][N], ours and OpenBLAS's */
  float *scratch;
  double *seconds[WAYS]; /* [iterations] */
  uint64_t sum;          /* keeps the reading loop alive */
} bench;

typedef struct summary {
  double min, median; /* seconds */
} summary;

/* ---- Options ------------------------------------------------------------- */

static moerun_status parse_number(long *out, const char *flag, const char *text,
                                  long low, long high) {
  moerun_status status = MOERUN_OK;
  char *end = NULL;
  const long value = strtol(text, &end, 10);
  MOERUN_REQUIRE(end != text && *end == '\0' && value >= low && value <= high,
                 MOERUN_ERR_INVALID,
                 "%s: expected a number from %ld to %ld, found \"%s\"", flag,
                 low, high, text);
  *out = value;
done:
  return status;
}

static moerun_status parse_options(options *o, int argc, char **argv) {
  moerun_status status = MOERUN_OK;
  *o = (options){.set = "auto",
                 .dtype = "BF16",
                 .compute = "fp32",
                 .rows = "1,2,4,8,16,64,128,256",
                 .iterations = 20,
                 .warmup = 3,
                 .mebibytes = 256};
  const struct {
    const char *name;
    const char **text;
    long *number;
    long low, high;
  } flags[] = {
      {"--set", &o->set, NULL, 0, 0},
      {"--model", &o->model, NULL, 0, 0},
      {"--dtype", &o->dtype, NULL, 0, 0},
      {"--compute", &o->compute, NULL, 0, 0},
      {"--rows", &o->rows, NULL, 0, 0},
      {"--json", &o->json, NULL, 0, 0},
      {"-n", NULL, &o->iterations, 1, 100000},
      {"-w", NULL, &o->warmup, 0, 100000},
      {"--cycle", NULL, &o->mebibytes, 1, 1 << 20},
  };
  const size_t n = sizeof flags / sizeof *flags;
  for (int i = 1; i < argc; i += 2) {
    size_t k = 0;
    while (k < n && strcmp(argv[i], flags[k].name) != 0) {
      k++;
    }
    o->help |= strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
    if (o->help) goto done;
    MOERUN_REQUIRE(k < n && i + 1 < argc, MOERUN_ERR_INVALID,
                   "unknown or incomplete option %s", argv[i]);
    if (flags[k].text != NULL) {
      *flags[k].text = argv[i + 1];
    } else {
      MOERUN_TRY(parse_number(flags[k].number, argv[i], argv[i + 1],
                              flags[k].low, flags[k].high));
    }
  }
done:
  return status;
}

static moerun_status parse_rows(int32_t *rows, int *count, const char *text) {
  moerun_status status = MOERUN_OK;
  *count = 0;
  for (const char *at = text; *at != '\0';) {
    char *end = NULL;
    const long value = strtol(at, &end, 10);
    MOERUN_REQUIRE(end != at && (*end == ',' || *end == '\0') && value >= 1 &&
                       value <= 4096 && *count < MAX_ROWS,
                   MOERUN_ERR_INVALID,
                   "--rows: expected up to %d numbers from 1 to 4096 with "
                   "commas between, found \"%s\"",
                   MAX_ROWS, text);
    rows[(*count)++] = (int32_t)value;
    at = *end == ',' ? end + 1 : end;
  }
  MOERUN_REQUIRE(*count > 0, MOERUN_ERR_INVALID, "--rows: no number given");
done:
  return status;
}

static moerun_status parse_dtype(moerun__dtype *out, const char *text) {
  moerun_status status = MOERUN_OK;
  char names[MOERUN_DTYPE_NAMES];
  moerun__dtype_names(names);
  MOERUN_REQUIRE(moerun__dtype_find(out, text), MOERUN_ERR_INVALID,
                 "--dtype: expected %s, found \"%s\"", names, text);
done:
  return status;
}

/* ---- The matrices of a shape --------------------------------------------- */

/* Multiples of 1/64 within -1 .. 1, which every dtype holds exactly. */
static void fill(float *out, size_t count, uint64_t seed) {
  for (size_t i = 0; i < count; i += 4) {
    uint32_t r[4];
    moerun__philox(r, seed, 0, i);
    for (size_t j = 0; j < 4 && i + j < count; j++) {
      out[i + j] = ((float)(r[j] >> 25) - 64.0F) / 64.0F;
    }
  }
}

/* Packs W[N][D] in the bench's dtype a panel at a time; narrow holds one. */
static void pack(void *panels, const bench *b, const float *wide,
                 void *narrow) {
  const size_t count = MOERUN_PANEL * (size_t)b->shape->D;
  for (int32_t n = 0; n < b->shape->N; n += MOERUN_PANEL) {
    const float *rows = wide + (size_t)n * (size_t)b->shape->D;
    moerun__narrow(narrow, b->dtype, 0, rows, count);
    moerun__weight_pack(panels, b->dtype, b->shape->D, n, MOERUN_PANEL, narrow);
  }
}

static void destroy(bench *b) {
  for (size_t e = 0; e < b->num_experts; e++) {
    if (b->weight != NULL) moerun__free((void *)b->weight[e].panels);
    if (b->wide != NULL) moerun__free(b->wide[e]);
  }
  for (int way = 0; way < WAYS; way++) {
    moerun__free(b->seconds[way]);
  }
  moerun__free(b->weight);
  moerun__free(b->wide);
  moerun__free(b->x);
  moerun__free(b->y[OURS]);
  moerun__free(b->y[BLAS]);
  moerun__free(b->scratch);
}

/* Experts are copies of the first: what is in them does not change times. */
static moerun_status create(bench *b, const options *o, int32_t most_rows) {
  moerun_status status = MOERUN_OK;
  const size_t N = (size_t)b->shape->N;
  const size_t D = (size_t)b->shape->D;
  const size_t M = (size_t)most_rows;
  const size_t bytes = moerun__weight_bytes(b->dtype, b->shape->N, b->shape->D);
  void *narrow = NULL;
  b->num_experts = ((size_t)o->mebibytes << 20) / bytes + 1;
  MOERUN_TRY(moerun__alloc(&b->weight, b->num_experts, sizeof *b->weight));
  MOERUN_TRY(moerun__alloc(&b->wide, b->num_experts, sizeof *b->wide));
  MOERUN_TRY(moerun__alloc(&narrow, MOERUN_PANEL * D, sizeof(float)));
  for (size_t e = 0; e < b->num_experts; e++) {
    void *panels = NULL;
    MOERUN_TRY(moerun__alloc(&panels, bytes, 1));
    b->weight[e] =
        moerun__weight_at(panels, b->dtype, b->shape->N, b->shape->D);
    MOERUN_TRY(moerun__alloc_unset(&b->wide[e], N * D, sizeof(float)));
    if (e == 0) {
      fill(b->wide[0], N * D, 1);
      pack(panels, b, b->wide[0], narrow);
    } else {
      memcpy(b->wide[e], b->wide[0], N * D * sizeof(float));
      memcpy(panels, b->weight[0].panels, bytes);
    }
  }
  MOERUN_TRY(moerun__alloc(&b->x, M * D, sizeof(float)));
  fill(b->x, M * D, 2);
  MOERUN_TRY(moerun__alloc(&b->y[OURS], M * N, sizeof(float)));
  MOERUN_TRY(moerun__alloc(&b->y[BLAS], M * N, sizeof(float)));
  MOERUN_TRY(moerun__alloc(&b->scratch, moerun__linear_scratch(b->shape->D),
                           sizeof(float)));
  for (int way = 0; way < WAYS; way++) {
    MOERUN_TRY(
        moerun__alloc(&b->seconds[way], (size_t)o->iterations, sizeof(double)));
  }
done:
  moerun__free(narrow);
  return status;
}

/* ---- One number of rows -------------------------------------------------- */

static uint64_t sum_bytes(const void *memory, size_t bytes) {
  const uint64_t *p = memory;
  uint64_t sum = 0;
  for (size_t i = 0; i < bytes / sizeof *p; i++) {
    sum += p[i];
  }
  return sum;
}

static void run_once(bench *b, int way, size_t expert) {
  const int N = b->shape->N;
  const int D = b->shape->D;
  if (way == OURS) {
    b->set->linear(&b->queue, b->y[OURS], (size_t)N, b->x, (size_t)D, b->M,
                   &b->weight[expert], b->scratch);
  } else if (way == READ) {
    b->sum += sum_bytes(b->weight[expert].panels,
                        moerun__weight_bytes(b->dtype, N, D));
  } else if (b->M == 1) {
    cblas_sgemv(CblasRowMajor, CblasNoTrans, N, D, 1.0F, b->wide[expert], D,
                b->x, 1, 0.0F, b->y[BLAS], 1);
  } else {
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, b->M, N, D, 1.0F, b->x,
                D, b->wide[expert], D, 0.0F, b->y[BLAS], N);
  }
}

/* Time of this thread on a core: what other programs take does not count. */
static double now(void) {
  struct timespec t;
  (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Both products agree to what fp32 sums of D terms of size 1 allow. */
static moerun_status check_once(bench *b) {
  moerun_status status = MOERUN_OK;
  run_once(b, OURS, 0);
  run_once(b, BLAS, 0);
  const size_t count = (size_t)b->M * (size_t)b->shape->N;
  const double limit = 1e-6 * b->shape->D;
  for (size_t i = 0; i < count; i++) {
    const double ours = b->y[OURS][i];
    const double theirs = b->y[BLAS][i];
    MOERUN_REQUIRE(fabs(ours - theirs) <= limit, MOERUN_ERR_INVALID,
                   "%s %s, %d rows: element %zu is %.9g, OpenBLAS has %.9g",
                   b->shape->model, b->shape->matrix, b->M, i, ours, theirs);
  }
done:
  return status;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a;
  const double y = *(const double *)b;
  return (x > y) - (x < y);
}

static void time_rows(summary *times, bench *b, const options *o) {
  size_t expert = 0;
  for (long i = -o->warmup; i < o->iterations; i++) {
    for (int way = 0; way < WAYS; way++) {
      expert = (expert + 1) % b->num_experts;
      const double start = now();
      run_once(b, way, expert);
      if (i >= 0) b->seconds[way][i] = now() - start;
    }
  }
  for (int way = 0; way < WAYS; way++) {
    double *t = b->seconds[way];
    const long n = o->iterations;
    qsort(t, (size_t)n, sizeof *t, ascending);
    times[way] = (summary){t[0], 0.5 * (t[(n - 1) / 2] + t[n / 2])};
  }
}

/* ---- Report -------------------------------------------------------------- */

static double gigaflops(const bench *b, const summary *time) {
  return 2e-9 * b->M * b->shape->N * b->shape->D / time->median;
}

/* Bytes of the packed weights over the time: what a product read at least. */
static double gigabytes(const bench *b, const summary *time) {
  const size_t bytes = moerun__weight_bytes(b->dtype, b->shape->N, b->shape->D);
  return 1e-9 * (double)bytes / time->median;
}

static void print_head(const bench *b, const options *o) {
  (void)printf("# moerun %d.%d.%d, one thread: set %s on %s weights, %s rows; "
               "OpenBLAS kernels for %s on F32\n"
               "# %ld iterations after %ld, times in microseconds\n",
               MOERUN_VERSION_MAJOR, MOERUN_VERSION_MINOR, MOERUN_VERSION_PATCH,
               b->set->name, moerun__dtype_name(b->dtype), o->compute,
               openblas_get_corename(), o->iterations, o->warmup);
  (void)printf("# %-7s %-7s %5s | %9s %9s %6s %6s | %9s %9s %6s | %6s | %6s "
               "%6s\n",
               "model", "matrix", "rows", "min", "median", "GF/s", "GB/s",
               "blas min", "median", "GF/s", "ratio", "read", "share");
}

static void print_rows(const bench *b, const summary *times) {
  (void)printf(
      "  %-7s %-7s %5d | %9.1f %9.1f %6.1f %6.2f | %9.1f %9.1f %6.1f | %6.2f | "
      "%6.2f %6.2f\n",
      b->shape->model, b->shape->matrix, b->M, 1e6 * times[OURS].min,
      1e6 * times[OURS].median, gigaflops(b, &times[OURS]),
      gigabytes(b, &times[OURS]), 1e6 * times[BLAS].min,
      1e6 * times[BLAS].median, gigaflops(b, &times[BLAS]),
      times[BLAS].median / times[OURS].median, gigabytes(b, &times[READ]),
      times[READ].median / times[OURS].median);
  (void)fflush(stdout);
}

static moerun_status json_head(moerun__text *text, const bench *b,
                               const options *o) {
  moerun_status status = MOERUN_OK;
  char host[256] = "";
  (void)gethostname(host, sizeof host - 1);
  MOERUN_TRY(moerun__text_print(
      text,
      "{\n  \"benchmark\": \"ffn\",\n  \"schema\": 1,\n"
      "  \"version\": \"%d.%d.%d\",\n  \"host\": ",
      MOERUN_VERSION_MAJOR, MOERUN_VERSION_MINOR, MOERUN_VERSION_PATCH));
  MOERUN_TRY(moerun__text_json(text, host, strlen(host)));
  MOERUN_TRY(moerun__text_print(
      text,
      ",\n  \"cores\": %ld,\n  \"set\": \"%s\",\n  \"dtype\": \"%s\",\n"
      "  \"compute\": \"%s\",\n"
      "  \"openblas_core\": \"%s\",\n  \"iterations\": %ld,\n"
      "  \"warmup\": %ld,\n  \"cycle_mib\": %ld,\n  \"products\": [",
      sysconf(_SC_NPROCESSORS_ONLN), b->set->name, moerun__dtype_name(b->dtype),
      o->compute, openblas_get_corename(), o->iterations, o->warmup,
      o->mebibytes));
done:
  return status;
}

static moerun_status json_rows(moerun__text *text, const bench *b,
                               const summary *times, int first) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(
      text,
      "%s\n    {\"model\": \"%s\", \"matrix\": \"%s\", \"outputs\": %d, "
      "\"inputs\": %d, \"rows\": %d",
      first ? "" : ",", b->shape->model, b->shape->matrix, b->shape->N,
      b->shape->D, b->M));
  for (int way = 0; way < WAYS; way++) {
    MOERUN_TRY(moerun__text_print(
        text, ", \"%s\": {\"min_us\": %.3f, \"median_us\": %.3f}",
        way_name[way], 1e6 * times[way].min, 1e6 * times[way].median));
  }
  MOERUN_TRY(moerun__text_print(
      text, ", \"gflop_per_s\": %.3f, \"gb_per_s\": %.3f, \"ratio\": %.4f}",
      gigaflops(b, &times[OURS]), gigabytes(b, &times[OURS]),
      times[BLAS].median / times[OURS].median));
done:
  return status;
}

/* ---- Main ---------------------------------------------------------------- */

/* All numbers of rows with one shape; *count: products reported so far. */
static moerun_status run_shape(const bench *common, const options *o,
                               const int32_t *rows, int num_rows,
                               moerun__text *json, int *count) {
  moerun_status status = MOERUN_OK;
  bench b = *common;
  int32_t most = 0;
  for (int i = 0; i < num_rows; i++) {
    if (rows[i] > most) most = rows[i];
  }
  MOERUN_TRY(create(&b, o, most));
  for (int i = 0; i < num_rows; i++) {
    summary times[WAYS] = {{0}};
    b.M = rows[i];
    MOERUN_TRY(check_once(&b));
    time_rows(times, &b, o);
    print_rows(&b, times);
    MOERUN_TRY(json_rows(json, &b, times, (*count)++ == 0));
  }
done:
  destroy(&b);
  return status;
}

static moerun_status run(const options *o) {
  moerun_status status = MOERUN_OK;
  moerun__text json = {0};
  bench b = {0};
  int32_t rows[MAX_ROWS];
  int num_rows = 0;
  int count = 0;
  MOERUN_TRY(moerun__kernels_find(&b.set, o->set));
  MOERUN_TRY(parse_dtype(&b.dtype, o->dtype));
  b.queue = (moerun__queue){.device = &moerun__host,
                            .rounds = strcmp(o->compute, "bf16") == 0};
  MOERUN_REQUIRE(b.queue.rounds || strcmp(o->compute, "fp32") == 0,
                 MOERUN_ERR_INVALID,
                 "--compute: expected fp32 or bf16, found \"%s\"", o->compute);
  MOERUN_TRY(parse_rows(rows, &num_rows, o->rows));
  openblas_set_num_threads(1);
  print_head(&b, o);
  MOERUN_TRY(json_head(&json, &b, o));
  for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++) {
    b.shape = &shapes[i];
    if (o->model != NULL && strcmp(o->model, b.shape->model) != 0) continue;
    MOERUN_TRY(run_shape(&b, o, rows, num_rows, &json, &count));
  }
  MOERUN_REQUIRE(count > 0, MOERUN_ERR_INVALID,
                 "--model: expected mixtral, olmoe or qwen3, found \"%s\"",
                 o->model);
  MOERUN_TRY(moerun__text_print(&json, "\n  ]\n}\n"));
  if (o->json != NULL) {
    MOERUN_TRY(moerun__file_write(o->json, json.bytes, json.count));
  }
done:
  moerun__text_clear(&json);
  return status;
}

int main(int argc, char **argv) {
  options o;
  moerun_status status = parse_options(&o, argc, argv);
  if (status == MOERUN_OK && o.help) {
    (void)fputs(usage, stdout);
    return EXIT_SUCCESS;
  }
  if (status == MOERUN_OK) status = run(&o);
  if (status != MOERUN_OK) {
    (void)fprintf(stderr, "moerun_bench_ffn: %s\n", moerun_last_error());
    return EXIT_FAILURE;
  }
  return EXIT_SUCCESS;
}
