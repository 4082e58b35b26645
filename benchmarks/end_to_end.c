/* The whole decoder, step by step, without files, tokenizer or sampling:
 * prefill of 512 tokens (as one sequence and as four) and decode of 1 and 16
 * sequences with 64 tokens of context. Sequences are dealt to the ranks in
 * turn. A step's time is that of the slowest rank; every case has a warm-up.
 * The fraction of the bandwidth limit counts the weight bytes a rank must read
 * in a decode step (dense weights once if it has a row, each expert hit once)
 * against the read bandwidth measured in the same run, on all ranks at once.
 *
 *   mpirun -n 2 moerun_bench_end_to_end MODEL_DIR [--json FILE] [--steps N]
 *          [--compute fp32|bf16] */
#include "comm/comm.h"
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/base/timer.h"
#include "runtime/decoder/session.h"

#include <moerun/moerun_mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_STEPS = 200, MAX_ROWS = 512, MAX_SEQUENCES = 16, CONTEXT = 64 };

typedef struct bench {
  moerun_comm *comm;
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *session;
  float *logits;
  int32_t steps;
  moerun_compute compute;
  double read_bytes_per_second; /* slowest rank, all ranks at once */
} bench;

typedef struct bench_case {
  const char *name;
  int32_t sequences;
  int32_t tokens;  /* per sequence and step */
  int32_t context; /* cached before */
} bench_case;

typedef struct bench_result {
  double median_s;
  double minimum_s;
  double
      read_bytes; /* weights read per step by the busiest rank; decode only */
  double stage_s[MOERUN_NUM_STAGES]; /* rank 0, last step */
} bench_result;

static const bench_case cases[] = {
    {"prefill 1 x 512", 1, 512, 0},
    {"prefill 4 x 128", 4, 128, 0},
    {"decode 1", 1, 1, CONTEXT},
    {"decode 16", 16, 1, CONTEXT},
};
enum { NUM_CASES = sizeof cases / sizeof *cases };

/* ---- A step -------------------------------------------------------------- */

/* This rank's rows of `count` tokens per sequence from position `first` on. */
static moerun_status step(bench *b, int32_t sequences, int32_t count,
                          int32_t first) {
  static int32_t token[MAX_ROWS];
  static int32_t sequence[MAX_ROWS];
  static int32_t position[MAX_ROWS];
  static int32_t logit_row[MAX_SEQUENCES];
  const int32_t R = b->comm->size;
  moerun_batch batch = {0, token, sequence, position, 0, logit_row};
  for (int32_t s = b->comm->rank; s < sequences; s += R) {
    for (int32_t t = 0; t < count; t++) {
      const int32_t row = batch.num_tokens++;
      token[row] = (int32_t)(moerun__uniform(7, (uint64_t)s,
                                             (uint64_t)first + (uint64_t)t) *
                             b->model->config.vocab_size);
      sequence[row] = s / R;
      position[row] = first + t;
    }
    logit_row[batch.num_logits++] = batch.num_tokens - 1;
  }
  return moerun_forward(b->session, &batch, b->logits);
}

/* Seconds of the slowest rank. */
static moerun_status slowest(bench *b, double *seconds) {
  int64_t nanoseconds = -(int64_t)(*seconds * 1e9);
  const moerun_status status = b->comm->ops->minimum(b->comm, &nanoseconds);
  *seconds = -1e-9 * (double)nanoseconds;
  return status;
}

static int by_value(const void *a, const void *b) {
  const double x = *(const double *)a;
  const double y = *(const double *)b;
  return (x > y) - (x < y);
}

/* Bytes of weights that this rank reads in the steps since the last reset. */
static double weight_bytes(const bench *b, int32_t rows, int64_t hits) {
  const moerun_model *model = b->model;
  const double experts =
      (double)model->expert_bytes /
      (double)(model->config.num_moe_layers * b->session->moe.shape.max_slots);
  const size_t embedding =
      moerun__weight_bytes(model->embedding.dtype, model->config.vocab_size,
                           model->config.hidden_width);
  const double dense = (double)(model->weight_bytes - model->expert_bytes) -
                       (double)(model->config.tied_head ? 0 : embedding);
  return (rows > 0 ? dense : 0) + experts * (double)hits;
}

/* Experts of this rank with any row in the last step. */
static int64_t experts_hit(const bench *b) {
  const moerun__stats *stats = moerun__session_stats(b->session);
  const int64_t n =
      (int64_t)b->model->config.num_moe_layers * b->model->config.num_experts;
  int64_t hits = 0;
  for (int64_t i = 0; i < n; i++) {
    hits += stats->expert_rows[i] > 0;
  }
  return hits;
}

static moerun_status run_case(bench *b, const bench_case *c,
                              bench_result *result) {
  moerun_status status = MOERUN_OK;
  static double seconds[MAX_STEPS];
  const int32_t R = b->comm->size;
  int32_t position = c->context;
  double read = 0;
  if (c->context > 0) MOERUN_TRY(step(b, c->sequences, c->context / 2, 0));
  if (c->context > 0) {
    MOERUN_TRY(step(b, c->sequences, c->context / 2, c->context / 2));
  }
  for (int32_t i = -2; i < b->steps; i++) {
    int64_t together = 0;
    moerun__session_stats_reset(b->session);
    MOERUN_TRY(b->comm->ops->minimum(b->comm, &together));
    double elapsed = -moerun__now();
    MOERUN_TRY(step(b, c->sequences, c->tokens, position));
    elapsed += moerun__now();
    MOERUN_TRY(slowest(b, &elapsed));
    if (c->context > 0) position++;
    if (i < 0) continue;
    seconds[i] = elapsed;
    const int32_t rows = (c->sequences - b->comm->rank + R - 1) / R;
    read += weight_bytes(b, rows, experts_hit(b)) / b->steps;
  }
  qsort(seconds, (size_t)b->steps, sizeof *seconds, by_value);
  result->median_s = seconds[b->steps / 2];
  result->minimum_s = seconds[0];
  result->read_bytes = read;
  memcpy(result->stage_s, moerun__session_stats(b->session)->seconds,
         sizeof result->stage_s);
  MOERUN_TRY(slowest(b, &result->read_bytes));
done:
  return status;
}

/* ---- The machine --------------------------------------------------------- */

/* All ranks sum a buffer larger than any cache at once, best of five. */
static moerun_status measure_bandwidth(bench *b) {
  moerun_status status = MOERUN_OK;
  enum { WORDS = 1 << 25 }; /* 256 MiB */
  uint64_t *buffer = NULL;
  double best = 0;
  volatile uint64_t sink = 0;
  MOERUN_TRY(moerun__alloc(&buffer, WORDS, sizeof *buffer));
  for (int round = 0; round < 5; round++) {
    uint64_t sum[16] = {0};
    int64_t together = 0;
    MOERUN_TRY(b->comm->ops->minimum(b->comm, &together));
    double elapsed = -moerun__now();
    for (size_t i = 0; i < WORDS; i += 16) {
      for (size_t j = 0; j < 16; j++) {
        sum[j] += buffer[i + j];
      }
    }
    elapsed += moerun__now();
    for (size_t j = 0; j < 16; j++) {
      sink = sink ^ sum[j];
    }
    MOERUN_TRY(slowest(b, &elapsed));
    const double rate = (double)WORDS * sizeof *buffer / elapsed;
    if (rate > best) best = rate;
  }
  b->read_bytes_per_second = best;
done:
  moerun__free(buffer);
  return status;
}

/* ---- Report -------------------------------------------------------------- */

static const char *compute_name(const bench *b) {
  return b->compute == MOERUN_COMPUTE_BF16 ? "bf16" : "fp32";
}

static void print_text(const bench *b, const bench_result *results) {
  (void)printf("# %d ranks, kernels %s, compute %s, read bandwidth %.1f GB/s "
               "per rank (all at once), median of %d steps\n",
               b->comm->size, b->session->kernels->name, compute_name(b),
               b->read_bytes_per_second / 1e9, b->steps);
  (void)printf("%-16s %12s %12s %12s %18s\n", "case", "median ms", "min ms",
               "tokens/s", "of bandwidth limit");
  for (int i = 0; i < NUM_CASES; i++) {
    const double tokens = (double)cases[i].sequences * cases[i].tokens;
    (void)printf("%-16s %12.2f %12.2f %12.1f", cases[i].name,
                 results[i].median_s * 1e3, results[i].minimum_s * 1e3,
                 tokens / results[i].median_s);
    if (cases[i].context > 0) {
      (void)printf(" %16.0f %%", 100 * results[i].read_bytes /
                                     b->read_bytes_per_second /
                                     results[i].median_s);
    }
    (void)printf("\n");
  }
}

static void print_stages(const bench_result *results) {
  (void)printf("# rank 0, last step, ms by stage\n%-16s", "case");
  for (int s = 0; s < MOERUN_NUM_STAGES; s++) {
    (void)printf(" %s", moerun_stage_name(s));
  }
  (void)printf("\n");
  for (int i = 0; i < NUM_CASES; i++) {
    (void)printf("%-16s", cases[i].name);
    for (int s = 0; s < MOERUN_NUM_STAGES; s++) {
      (void)printf(" %*.2f", (int)strlen(moerun_stage_name(s)),
                   results[i].stage_s[s] * 1e3);
    }
    (void)printf("\n");
  }
}

static moerun_status write_json(const bench *b, const bench_result *results,
                                const char *model, const char *path) {
  moerun_status status = MOERUN_OK;
  FILE *file = fopen(path, "w");
  MOERUN_REQUIRE(file != NULL, MOERUN_ERR_IO, "%s: cannot be created", path);
  (void)fprintf(file,
                "{\"benchmark\": \"end_to_end\", \"version\": 1, \"model\": "
                "\"%s\", \"ranks\": %d, \"kernels\": \"%s\", \"compute\": "
                "\"%s\", \"steps\": %d, "
                "\"read_bytes_per_second\": %.4g, \"cases\": [\n",
                model, b->comm->size, b->session->kernels->name,
                compute_name(b), b->steps, b->read_bytes_per_second);
  for (int i = 0; i < NUM_CASES; i++) {
    (void)fprintf(file,
                  "  {\"name\": \"%s\", \"median_ms\": %.3f, \"min_ms\": %.3f, "
                  "\"read_bytes\": %.0f}%s\n",
                  cases[i].name, results[i].median_s * 1e3,
                  results[i].minimum_s * 1e3, results[i].read_bytes,
                  i + 1 < NUM_CASES ? "," : "");
  }
  (void)fprintf(file, "]}\n");
  MOERUN_REQUIRE(fclose(file) == 0, MOERUN_ERR_IO, "%s: cannot be written",
                 path);
done:
  return status;
}

/* ---- Main ---------------------------------------------------------------- */

static moerun_status set_up(bench *b, const char *path) {
  moerun_status status = MOERUN_OK;
  moerun_model_shape shape = {.struct_size = sizeof shape};
  const moerun_session_options options = {
      .struct_size = sizeof options,
      .max_tokens = MAX_ROWS,
      .max_sequences = MAX_SEQUENCES,
      .compute = b->compute,
      .kv_tokens = MAX_SEQUENCES * (CONTEXT + MAX_STEPS + 16) + MAX_ROWS};
  MOERUN_TRY(moerun_comm_create_mpi(&b->comm, MPI_COMM_WORLD, NULL));
  MOERUN_TRY(moerun_model_shape_load(&shape, path));
  MOERUN_TRY(moerun_placement_create_block(&b->placement, shape.num_moe_layers,
                                           shape.num_experts, b->comm->size));
  MOERUN_TRY(moerun_model_load(&b->model, b->comm, b->placement, path, NULL));
  MOERUN_TRY(moerun_session_create(&b->session, b->model, &options));
  MOERUN_TRY(moerun__alloc(&b->logits,
                           (size_t)MAX_SEQUENCES * (size_t)shape.vocab_size,
                           sizeof *b->logits));
  MOERUN_TRY(measure_bandwidth(b));
done:
  return status;
}

static void tear_down(bench *b) {
  moerun__free(b->logits);
  moerun_session_destroy(b->session);
  moerun_model_destroy(b->model);
  moerun_placement_destroy(b->placement);
  moerun_comm_destroy(b->comm);
}

int main(int argc, char **argv) {
  moerun_status status = MOERUN_OK;
  const char *json = NULL;
  bench_result results[NUM_CASES];
  bench b;
  memset(&b, 0, sizeof b);
  b.steps = 15;
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return 1;
  int is_known = argc >= 2 && argc % 2 == 0;
  for (int i = 2; i + 1 < argc; i += 2) {
    const char *value = argv[i + 1];
    const int is_bf16 = strcmp(value, "bf16") == 0;
    if (strcmp(argv[i], "--json") == 0) {
      json = value;
    } else if (strcmp(argv[i], "--steps") == 0) {
      b.steps = (int32_t)strtol(value, NULL, 10);
    } else if (strcmp(argv[i], "--compute") == 0 &&
               (is_bf16 || strcmp(value, "fp32") == 0)) {
      b.compute = is_bf16 ? MOERUN_COMPUTE_BF16 : MOERUN_COMPUTE_FP32;
    } else {
      is_known = 0;
    }
  }
  MOERUN_REQUIRE(is_known && b.steps >= 1 && b.steps <= MAX_STEPS,
                 MOERUN_ERR_INVALID,
                 "usage: moerun_bench_end_to_end MODEL_DIR [--json FILE] "
                 "[--steps 1..%d] [--compute fp32|bf16]",
                 MAX_STEPS);
  MOERUN_TRY(set_up(&b, argv[1]));
  for (int i = 0; i < NUM_CASES; i++) {
    MOERUN_TRY(run_case(&b, &cases[i], &results[i]));
  }
  if (b.comm->rank == 0) {
    print_text(&b, results);
    print_stages(results);
    if (json != NULL) MOERUN_TRY(write_json(&b, results, argv[1], json));
  }
done:
  if (status != MOERUN_OK && status != MOERUN_ERR_PEER) {
    (void)fprintf(stderr, "moerun_bench_end_to_end: %s\n", moerun_last_error());
  }
  tear_down(&b);
  (void)MPI_Finalize();
  return status == MOERUN_OK ? 0 : 1;
}
