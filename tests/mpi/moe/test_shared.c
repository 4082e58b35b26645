/* Layers with shared experts, and a gate with sigmoid scores and a bias: what a
 * layer gives against its parts, bit for bit, on any number of ranks. */
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/decoder/session.h"
#include "support/activate.h"
#include "support/mpi_test.h"
#include "support/queues.h"

#include <moerun/moerun_mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 300 }; /* more than a tile */

static moerun_comm *comm;
static const char *const models[] = {"qwen2_moe", "dots1", "dots1_fused"};

typedef struct rig {
  moerun_placement *placement;
  moerun_model *model;
  int32_t layer; /* the last, with experts in all models */
  size_t H;
  float *x;
  float *y;
} rig;

static void set_up(rig *r, const char *name) {
  char path[512];
  moerun_model_shape shape = {.struct_size = sizeof shape};
  memset(r, 0, sizeof *r);
  (void)snprintf(path, sizeof path, "%s/hf/%s", MOERUN_TEST_DATA, name);
  assert_all_ok(moerun_model_shape_load(&shape, path));
  assert_all_ok(moerun_placement_create_block(
      &r->placement, shape.num_moe_layers, shape.num_experts, test_size()));
  assert_all_ok(moerun_model_load(&r->model, comm, r->placement, path, NULL));
  r->layer = shape.num_layers - 1;
  r->H = (size_t)shape.hidden_width;
  r->x = calloc(MAX_TOKENS * r->H, sizeof *r->x);
  r->y = calloc(MAX_TOKENS * r->H, sizeof *r->y);
  for (size_t i = 0; i < MAX_TOKENS * r->H; i++) {
    r->x[i] = (float)(4 * moerun__uniform(11, (uint64_t)test_rank(), i) - 2);
  }
}

static void tear_down(rig *r) {
  moerun_model_destroy(r->model);
  moerun_placement_destroy(r->placement);
  free(r->x);
  free(r->y);
}

/* ---- The sum ------------------------------------------------------------- */

/* y[T][H] += the shared experts' share, all rows at once. */
static void add_shared(const rig *r, int32_t T, float *y) {
  const moerun__kernels *k = NULL;
  const moerun__layer *layer = &r->model->layers[r->layer];
  const moerun__model_config *config = &r->model->config;
  const int32_t F = layer->shared.down.num_inputs;
  assert_int_equal(moerun__kernels_find(&k, "portable"), MOERUN_OK);
  float *gate_up = calloc(MAX_TOKENS * 2 * (size_t)F, sizeof *gate_up);
  float *h = calloc(MAX_TOKENS * (size_t)F, sizeof *h);
  float *out = calloc(MAX_TOKENS * r->H, sizeof *out);
  float weight[MAX_TOKENS];
  float *scratch = NULL;
  assert_int_equal(
      moerun__alloc(&scratch,
                    moerun__linear_scratch(F + (int32_t)r->H), /* of either */
                    sizeof *scratch),
      MOERUN_OK);
  k->linear(plain_queue(), gate_up, 2 * (size_t)F, r->x, r->H, T,
            &layer->shared.gate_up, scratch);
  activate(k, h, gate_up, T, F);
  k->linear(plain_queue(), out, r->H, h, (size_t)F, T, &layer->shared.down,
            scratch);
  if (config->shared_is_weighted) {
    k->linear(plain_queue(), weight, 1, r->x, r->H, T, &layer->shared_weight,
              scratch);
    k->sigmoid(plain_queue(), weight, weight, (size_t)T);
  }
  k->add_rows(plain_queue(), y, out, config->shared_is_weighted ? weight : NULL,
              T, (int32_t)r->H);
  moerun__free(scratch);
  free(gate_up);
  free(h);
  free(out);
}

/* The layer with its shared experts is the layer without them, and then they;
 * whatever the chunks and however few rows a rank has. */
static void shared_output_is_added_last(void **state) {
  (void)state;
  static const int32_t rows[] = {MAX_TOKENS, 0, 1, 257};
  for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
    rig r;
    set_up(&r, models[m]);
    float *want = calloc(MAX_TOKENS * r.H, sizeof *want);
    const int32_t width = r.model->config.shared_width;
    for (int32_t chunks = 1; chunks <= 3; chunks++) {
      const moerun_session_options options = {.struct_size = sizeof options,
                                              .max_tokens = MAX_TOKENS,
                                              .chunks = chunks};
      const int32_t T = rows[(test_rank() + chunks) % 4];
      moerun_session *whole = NULL;
      moerun_session *routed = NULL;
      assert_all_ok(moerun_session_create(&whole, r.model, &options));
      assert_all_ok(moerun_moe_forward(whole, r.layer, T, r.x, r.y));
      r.model->config.shared_width = 0;
      assert_all_ok(moerun_session_create(&routed, r.model, &options));
      assert_all_ok(moerun_moe_forward(routed, r.layer, T, r.x, want));
      r.model->config.shared_width = width;
      assert_all_ranks(T == 0 ||
                       memcmp(want, r.y, (size_t)T * r.H * sizeof *want) != 0);
      add_shared(&r, T, want);
      assert_all_ranks(memcmp(want, r.y, (size_t)T * r.H * sizeof *want) == 0);
      moerun_session_destroy(whole);
      moerun_session_destroy(routed);
    }
    free(want);
    tear_down(&r);
  }
}

/* What is predicted is taken, and a step takes no more. */
static void memory_is_known(void **state) {
  (void)state;
  for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
    rig r;
    const moerun_session_options options = {
        .struct_size = sizeof options, .max_tokens = 40, .chunks = 2};
    moerun_session *session = NULL;
    set_up(&r, models[m]);
    const size_t before = moerun__alloc_live_bytes();
    assert_all_ok(moerun_session_create(&session, r.model, &options));
    assert_all_ranks(moerun__alloc_live_bytes() - before ==
                     moerun_session_bytes(r.model, &options));
    const size_t calls = moerun__alloc_calls();
    assert_all_ok(moerun_moe_forward(session, r.layer, 40, r.x, r.y));
    assert_all_ranks(moerun__alloc_calls() == calls);
    moerun_session_destroy(session);
    tear_down(&r);
  }
}

/* ---- Drops under a gate with sigmoid scores ------------------------------ */

/* Sigmoid of the gate's logits. */
static void score_rows(const rig *r, int32_t T, float *scores) {
  const moerun__kernels *k = NULL;
  const moerun__weight *gate = &r->model->layers[r->layer].gate;
  float *scratch = NULL;
  assert_int_equal(moerun__kernels_find(&k, "portable"), MOERUN_OK);
  assert_int_equal(moerun__alloc(&scratch,
                                 moerun__linear_scratch(gate->num_inputs),
                                 sizeof *scratch),
                   MOERUN_OK);
  k->linear(plain_queue(), scores, (size_t)gate->num_outputs, r->x, r->H, T,
            gate, scratch);
  k->sigmoid(plain_queue(), scores, scores,
             (size_t)T * (size_t)gate->num_outputs);
  moerun__free(scratch);
}

static int is_kept(const moerun__gate *gate, size_t t, int32_t expert) {
  for (size_t j = 0; j < (size_t)gate->width; j++) {
    if (gate->ids[t * (size_t)gate->width + j] == expert) return 1;
  }
  return 0;
}

/* Every weight is its score, and of an expert's rows those with the highest
 * scores stayed, bias or not. Returns how many went. */
static int32_t count_drops(const rig *r, const moerun__gate *gate, int32_t T,
                           const float *scores) {
  const size_t E = (size_t)r->model->config.num_experts;
  const size_t K = (size_t)r->model->config.experts_per_token;
  float lowest_kept[64];
  float highest_gone[64];
  int32_t gone = 0;
  for (size_t e = 0; e < E; e++) {
    lowest_kept[e] = 2;
    highest_gone[e] = -1;
  }
  for (size_t i = 0; i < (size_t)T * K; i++) {
    const size_t t = i / K;
    const int32_t e = gate->chosen[i];
    const float score = scores[t * E + (size_t)e];
    const int kept = is_kept(gate, t, e);
    if (kept && score < lowest_kept[e]) lowest_kept[e] = score;
    if (!kept && score > highest_gone[e]) highest_gone[e] = score;
    gone += !kept;
  }
  for (size_t e = 0; e < E; e++) {
    if (lowest_kept[e] < highest_gone[e]) return -1;
  }
  for (size_t i = 0; i < (size_t)T * (size_t)gate->width; i++) {
    const int32_t e = gate->ids[i];
    if (e < 0) continue;
    const float score = scores[i / (size_t)gate->width * E + (size_t)e];
    if (memcmp(&gate->weight[i], &score, sizeof score) != 0) return -1;
  }
  return gone;
}

static void capacity_goes_by_sigmoid_scores(void **state) {
  (void)state;
  enum { T = 60 };
  for (size_t m = 1; m < sizeof models / sizeof *models; m++) {
    rig r;
    set_up(&r, models[m]);
    float *scores =
        calloc(T * (size_t)r.model->config.num_experts, sizeof *scores);
    score_rows(&r, T, scores);
    for (int32_t gamma = 700; gamma <= 700000; gamma *= 1000) {
      const moerun_session_options options = {.struct_size = sizeof options,
                                              .max_tokens = T};
      const moerun__session_extra extra = {
          .gate = {.capacity = {.gamma = gamma, .rule = MOERUN_WEIGHT_NONE}}};
      moerun_session *session = NULL;
      assert_all_ok(
          moerun__session_create_with(&session, r.model, &options, &extra));
      assert_all_ok(moerun_moe_forward(session, r.layer, T, r.x, r.y));
      const int32_t gone = count_drops(&r, &session->moe.gate, T, scores);
      assert_all_ranks(gamma == 700 ? gone > 0 : gone == 0);
      moerun_session_destroy(session);
    }
    free(scores);
    tear_down(&r);
  }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(shared_output_is_added_last),
      cmocka_unit_test(memory_is_known),
      cmocka_unit_test(capacity_goes_by_sigmoid_scores),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  if (moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK) {
    return EXIT_FAILURE;
  }
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return failed;
}
