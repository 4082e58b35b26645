/* The decoder against Hugging Face transformers, frozen in tests/data/hf, and
 * against numpy where they have no such model, in tests/data/home (README.md in
 * tests/data): identical expert ids in gate order, logits within 1e-4 of
 * the largest logit, greedy continuations, where there are some, token by
 * token. The sequences of a fixture are dealt to the ranks; a rank may have
 * none. */
#include "runtime/base/npy.h"
#include "runtime/decoder/session.h"
#include "support/mpi_test.h"

#include <math.h>
#include <moerun/moerun_mpi.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MAX_TOKENS = 128 };
#define TOLERANCE 1e-4

static moerun_comm *comm;

typedef struct fixture {
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *session;
  int64_t S;
  int64_t T;
  int32_t V;
  int64_t ids_per_token; /* MoE layers * terms */
  int64_t *tokens;       /* [S][T], -1 behind the end */
  float *logits;         /* [S][T][V] */
  int64_t *experts;      /* [S][T][ids_per_token] */
} fixture;

static int64_t *load_integers(const char *dir, const char *name,
                              moerun__npy_shape *shape) {
  char path[512];
  moerun__npy_reader *reader = NULL;
  (void)snprintf(path, sizeof path, "%s/%s", dir, name);
  assert_int_equal(moerun__npy_open(&reader, shape, path, MOERUN_NPY_NUMBERS),
                   MOERUN_OK);
  const int64_t count = moerun__npy_count(shape);
  int64_t *values = calloc((size_t)count, sizeof *values);
  assert_int_equal(moerun__npy_read_integers(reader, values, 0, count),
                   MOERUN_OK);
  moerun__npy_close(reader);
  return values;
}

static float *load_floats(const char *dir, const char *name,
                          moerun__npy_shape *shape) {
  char path[512];
  moerun__npy_reader *reader = NULL;
  (void)snprintf(path, sizeof path, "%s/%s", dir, name);
  assert_int_equal(moerun__npy_open(&reader, shape, path, MOERUN_NPY_NUMBERS),
                   MOERUN_OK);
  assert_int_equal(shape->type, MOERUN_NPY_F32);
  float *values = calloc((size_t)moerun__npy_count(shape), sizeof *values);
  assert_int_equal(
      moerun__npy_read(reader, values, 0, moerun__npy_count(shape)), MOERUN_OK);
  moerun__npy_close(reader);
  return values;
}

/* The model at model_path, what is expected of it at data_path. */
static void load(fixture *f, const char *model_path, const char *data_path) {
  moerun_model_shape shape = {.struct_size = sizeof shape};
  moerun__npy_shape array;
  const moerun_session_options options = {
      .max_tokens = MAX_TOKENS, .max_sequences = 1, .kv_tokens = 256};
  const moerun__session_extra extra = {.record_trace = 1};
  memset(f, 0, sizeof *f);
  assert_all_ok(moerun_model_shape_load(&shape, model_path));
  assert_all_ok(moerun_placement_create_block(
      &f->placement, shape.num_moe_layers, shape.num_experts, test_size()));
  assert_all_ok(
      moerun_model_load(&f->model, comm, f->placement, model_path, NULL));
  assert_all_ok(
      moerun__session_create_with(&f->session, f->model, &options, &extra));
  f->V = shape.vocab_size;
  f->ids_per_token =
      shape.num_moe_layers * (int64_t)moerun__config_terms(&f->model->config);
  f->tokens = load_integers(data_path, "tokens.npy", &array);
  f->S = array.dim[0];
  f->T = array.dim[1];
  assert_true(f->T <= MAX_TOKENS);
  f->logits = load_floats(data_path, "logits.npy", &array);
  assert_int_equal(moerun__npy_count(&array), f->S * f->T * f->V);
  f->experts = load_integers(data_path, "experts.npy", &array);
  assert_int_equal(moerun__npy_count(&array), f->S * f->T * f->ids_per_token);
}

static void unload(fixture *f) {
  moerun_session_destroy(f->session);
  moerun_model_destroy(f->model);
  moerun_placement_destroy(f->placement);
  free(f->tokens);
  free(f->logits);
  free(f->experts);
}

/* ---- One sequence in one step -------------------------------------------- */

static int compare_sequence(const fixture *f, int64_t s, int32_t T,
                            const float *logits) {
  const int64_t first = s * f->T;
  double largest = 0;
  double worst = 0;
  for (int64_t i = 0; i < T * (int64_t)f->V; i++) {
    const double want = (double)f->logits[first * f->V + i];
    largest = fmax(largest, fabs(want));
    worst = fmax(worst, fabs(want - (double)logits[i]));
  }
  for (int64_t i = 0; i < T * f->ids_per_token; i++) {
    const int64_t want = f->experts[first * f->ids_per_token + i];
    if (f->session->trace[i] != want) {
      print_error("sequence %d: expert id %d: expected %d, found %d\n", (int)s,
                  (int)i, (int)want, f->session->trace[i]);
      return 0;
    }
  }
  if (!(worst <= TOLERANCE * largest)) {
    print_error("sequence %d: logits differ by %g of %g\n", (int)s, worst,
                largest);
    return 0;
  }
  return 1;
}

/* Rank r takes sequence round * R + r, or none. */
static int check_round(const fixture *f, int64_t round) {
  const int64_t s = round * test_size() + test_rank();
  int32_t token[MAX_TOKENS];
  int32_t position[MAX_TOKENS];
  const int32_t sequence[MAX_TOKENS] = {0};
  int32_t T = 0;
  while (s < f->S && T < f->T && f->tokens[s * f->T + T] >= 0) {
    token[T] = (int32_t)f->tokens[s * f->T + T];
    position[T] = T;
    T++;
  }
  const moerun_batch batch = {T, token, sequence, position, T, position};
  float *logits = calloc((size_t)(T + 1) * (size_t)f->V, sizeof *logits);
  int ok = moerun_forward(f->session, &batch, logits) == MOERUN_OK;
  if (ok && T > 0) ok = compare_sequence(f, s, T, logits);
  free(logits);
  return ok;
}

static int32_t largest(const float *logits, int32_t V) {
  int32_t best = 0;
  for (int32_t i = 1; i < V; i++) {
    if (logits[i] > logits[best]) best = i;
  }
  return best;
}

/* All ranks work on the sequence of rank 0; the others have no rows. */
static int continues_like(fixture *f, int64_t s, const int64_t *greedy,
                          int64_t count) {
  int32_t token[MAX_TOKENS];
  int32_t position[MAX_TOKENS];
  const int32_t sequence[MAX_TOKENS] = {0};
  float *logits = calloc((size_t)f->V, sizeof *logits);
  int32_t rows = 0;
  int32_t fed = 0;
  int ok = 1;
  while (rows < f->T && f->tokens[s * f->T + rows] >= 0) {
    token[rows] = (int32_t)f->tokens[s * f->T + rows];
    rows++;
  }
  for (int64_t i = 0; i < count; i++) {
    for (int32_t t = 0; t < rows; t++) {
      position[t] = fed + t;
    }
    const int32_t last = rows - 1;
    moerun_batch batch = {rows, token, sequence, position, 1, &last};
    if (test_rank() != 0) batch.num_tokens = batch.num_logits = 0;
    if (moerun_forward(f->session, &batch, logits) != MOERUN_OK) ok = 0;
    fed += rows;
    rows = 1;
    token[0] = (int32_t)greedy[i]; /* the oracle's, so that ranks agree */
    if (test_rank() == 0 && largest(logits, f->V) != greedy[i]) {
      print_error("sequence %d: token %d: expected %d, found %d\n", (int)s,
                  (int)i, (int)greedy[i], largest(logits, f->V));
      ok = 0;
    }
  }
  free(logits);
  return ok;
}

/* What the fixture has of continuations, if it has any. */
static void check_continuations(fixture *f, const char *data_path) {
  char path[600];
  moerun__npy_shape shape;
  (void)snprintf(path, sizeof path, "%s/greedy.npy", data_path);
  if (access(path, R_OK) != 0) return;
  int64_t *greedy = load_integers(data_path, "greedy.npy", &shape);
  assert_true(shape.dim[0] <= f->S);
  for (int64_t s = 0; s < shape.dim[0]; s++) {
    assert_all_ranks(
        continues_like(f, s, greedy + s * shape.dim[1], shape.dim[1]));
  }
  free(greedy);
}

static void matches_transformers(void **state) {
  char path[512];
  fixture f;
  (void)snprintf(path, sizeof path, "%s/hf/%s", MOERUN_TEST_DATA,
                 (const char *)*state);
  load(&f, path, path);
  for (int64_t round = 0; round * test_size() < f.S; round++) {
    assert_all_ranks(check_round(&f, round));
  }
  check_continuations(&f, path);
  unload(&f);
}

/* What the ranks counted of the experts that were not dispatched. */
static int same_counts(const fixture *f, const int64_t *expected) {
  const moerun__home_counts *c = &f->session->moe.gate.counts.home;
  int64_t sum[MOERUN_HOME_KINDS + 3] = {c->chosen[MOERUN_HOME_NULL],
                                        c->chosen[MOERUN_HOME_ZERO],
                                        c->chosen[MOERUN_HOME_COPY],
                                        c->chosen[MOERUN_HOME_CONSTANT],
                                        c->rows,
                                        c->rows_alone,
                                        c->terms};
  MPI_Allreduce(MPI_IN_PLACE, sum, MOERUN_HOME_KINDS + 3, MPI_INT64_T, MPI_SUM,
                MPI_COMM_WORLD);
  return memcmp(sum, expected, (MOERUN_HOME_KINDS + 2) * sizeof *sum) == 0 &&
         sum[MOERUN_HOME_KINDS + 2] ==
             sum[MOERUN_HOME_KINDS] * f->model->config.experts_per_token;
}

/* Null, zero, copy and constant experts, in the formulas of their papers. */
static void matches_formulas(void **state) {
  char path[512];
  fixture f;
  moerun__npy_shape shape;
  (void)snprintf(path, sizeof path, "%s/home/%s", MOERUN_TEST_DATA,
                 (const char *)*state);
  load(&f, path, path);
  for (int64_t round = 0; round * test_size() < f.S; round++) {
    assert_all_ranks(check_round(&f, round));
  }
  int64_t *counts = load_integers(path, "counts.npy", &shape);
  assert_int_equal(moerun__npy_count(&shape), MOERUN_HOME_KINDS + 2);
  assert_all_ranks(same_counts(&f, counts));
  free(counts);
  unload(&f);
}

static void demo_model_matches_transformers(void **state) {
  (void)state;
  fixture f;
  load(&f, MOERUN_DEMO_MODEL, MOERUN_TEST_DATA "/hf/demo");
  for (int64_t round = 0; round * test_size() < f.S; round++) {
    assert_all_ranks(check_round(&f, round));
  }
  check_continuations(&f, MOERUN_TEST_DATA "/hf/demo");
  unload(&f);
}

int main(int argc, char **argv) {
#define FIXTURE(name)                                                          \
  { (name), matches_transformers, NULL, NULL, (void *)(uintptr_t)(name) }
  const struct CMUnitTest tests[] = {
      FIXTURE("qwen3_moe"),
      FIXTURE("qwen3_moe_dense"),
      FIXTURE("qwen3_moe_bf16"),
      FIXTURE("qwen3_moe_fused"),
      FIXTURE("mixtral"),
      FIXTURE("mixtral_bf16"),
      FIXTURE("mixtral_fused"),
      FIXTURE("olmoe"),
      FIXTURE("olmoe_gqa_f16"),
      FIXTURE("qwen2_moe"),
      FIXTURE("qwen2_moe_fused"),
      FIXTURE("dots1"),
      FIXTURE("dots1_fused"),
      FIXTURE("solar_open"),
      FIXTURE("solar_open_fused"),
      FIXTURE("hy_v3"),
      FIXTURE("hy_v3_fused"),
      FIXTURE("glm4_moe"),
      FIXTURE("glm4_moe_fused"),
      FIXTURE("minimax_m2"),
      FIXTURE("minimax_m2_fused"),
      FIXTURE("granitemoe"),
      FIXTURE("granitemoe_fused"),
      FIXTURE("granitemoeshared"),
      FIXTURE("granitemoeshared_fused"),
      FIXTURE("sarvam_moe"),
      FIXTURE("sarvam_moe_fused"),
      FIXTURE("aria_text"),
      FIXTURE("aria_text_fused"),
      FIXTURE("flex_olmo"),
      FIXTURE("flex_olmo_fused"),
      FIXTURE("ernie4_5_moe"),
      FIXTURE("ernie4_5_moe_fused"),
      {"renormalised", matches_formulas, NULL, NULL, "renormalised"},
      {"plain", matches_formulas, NULL, NULL, "plain"},
      cmocka_unit_test(demo_model_matches_transformers),
  };
#undef FIXTURE
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  if (moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK) {
    return EXIT_FAILURE;
  }
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return failed;
}
