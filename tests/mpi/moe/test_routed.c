/* A layer with the caller's own choice of experts: the bits of the model's gate
 * where it chose the same, those of one rank alone for any choice, and one
 * verdict of all ranks on a choice that is none. */
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/decoder/session.h"
#include "support/mpi_test.h"
#include "support/queues.h"

#include <moerun/moerun_mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_TOKENS = 70 };

static moerun_comm *comm;
static const char *const models[] = {"hf/qwen3_moe", "hf/mixtral_bf16",
                                     "hf/dots1", "home/plain",
                                     "home/renormalised"};

typedef struct rig {
  moerun_comm *self;
  moerun_placement *placement[2]; /* over all ranks, on one */
  moerun_model *model[2];
  moerun_session *session[2];
  int32_t layer; /* the last, with experts in all models */
  int32_t K;
  int32_t choices;
  size_t H;
  float *x;
  float *y;
  float *want;
  int32_t *ids;
  float *weight;
} rig;

/* Blocks, and with replicas each expert of the last layer on all ranks. */
static moerun_status place(moerun_placement **out,
                           const moerun_model_shape *shape, int32_t ranks,
                           int has_replicas) {
  const int32_t E = shape->num_experts;
  const int32_t terms = shape->num_moe_layers * E;
  int32_t *offset = calloc((size_t)terms + 1, sizeof *offset);
  int32_t *rank_of = calloc((size_t)terms * (size_t)ranks, sizeof *rank_of);
  for (int32_t i = 0; i < terms; i++) {
    const int is_everywhere = has_replicas && i >= terms - E;
    const int32_t count = is_everywhere ? ranks : 1;
    for (int32_t r = 0; r < count; r++) {
      rank_of[offset[i] + r] = is_everywhere ? r : i % E * ranks / E;
    }
    offset[i + 1] = offset[i] + count;
  }
  const moerun_status status = moerun__placement_create(
      out, shape->num_moe_layers, E, ranks, offset, rank_of, "test");
  free(offset);
  free(rank_of);
  return status;
}

static void set_up_with(rig *r, const char *name,
                        const moerun_session_options *options,
                        int has_replicas) {
  char path[512];
  const moerun_model_options layers_only = {.struct_size = sizeof layers_only,
                                            .moe_only = 1};
  moerun_model_shape shape = {.struct_size = sizeof shape};
  memset(r, 0, sizeof *r);
  (void)snprintf(path, sizeof path, "%s/%s", MOERUN_TEST_DATA, name);
  assert_all_ok(moerun_model_shape_load(&shape, path));
  assert_all_ok(moerun_comm_create_self(&r->self));
  for (int i = 0; i < 2; i++) {
    moerun_comm *ranks = i == 0 ? comm : r->self;
    assert_all_ok(
        place(&r->placement[i], &shape, moerun_comm_size(ranks), has_replicas));
    assert_all_ok(moerun_model_load(&r->model[i], ranks, r->placement[i], path,
                                    &layers_only));
    assert_all_ok(moerun_session_create(&r->session[i], r->model[i], options));
  }
  r->layer = shape.num_layers - 1;
  r->K = shape.experts_per_token;
  r->choices = moerun__config_choices(&r->model[0]->config);
  r->H = (size_t)shape.hidden_width;
  const size_t terms = MAX_TOKENS * (size_t)r->K;
  r->x = calloc(MAX_TOKENS * r->H, sizeof *r->x);
  r->y = calloc(MAX_TOKENS * r->H, sizeof *r->y);
  r->want = calloc(MAX_TOKENS * r->H, sizeof *r->want);
  r->ids = calloc(terms, sizeof *r->ids);
  r->weight = calloc(terms, sizeof *r->weight);
  for (size_t i = 0; i < MAX_TOKENS * r->H; i++) {
    r->x[i] = (float)(4 * moerun__uniform(23, (uint64_t)test_rank(), i) - 2);
  }
}

static void set_up(rig *r, const char *name,
                   const moerun_session_options *options) {
  set_up_with(r, name, options, 0);
}

static void tear_down(rig *r) {
  for (int i = 0; i < 2; i++) {
    moerun_session_destroy(r->session[i]);
    moerun_model_destroy(r->model[i]);
    moerun_placement_destroy(r->placement[i]);
  }
  moerun_comm_destroy(r->self);
  free(r->x);
  free(r->y);
  free(r->want);
  free(r->ids);
  free(r->weight);
}

/* r->ids and r->weight: what the model's gate chooses, as a caller would. */
static void ask_gate(rig *r, int32_t T) {
  const moerun__kernels *k = NULL;
  const moerun__layer *layer = &r->model[0]->layers[r->layer];
  float *scratch = NULL;
  float *logits = calloc(MAX_TOKENS * (size_t)r->choices, sizeof *logits);
  assert_int_equal(moerun__kernels_find(&k, "portable"), MOERUN_OK);
  assert_int_equal(moerun__alloc(&scratch,
                                 moerun__linear_scratch((int32_t)r->H),
                                 sizeof *scratch),
                   MOERUN_OK);
  k->linear(plain_queue(), logits, (size_t)r->choices, r->x, r->H, T,
            &layer->gate, scratch);
  k->gate(plain_queue(), &(moerun__choice){r->ids, r->weight, r->K}, logits, T,
          r->choices, &r->model[0]->config.gate_rule, layer->choice_bias);
  moerun__free(scratch);
  free(logits);
}

/* Any distinct choice, every seventh id missing, weights of either sign. */
static void draw_choice(rig *r, int32_t T, uint64_t seed) {
  for (int32_t t = 0; t < T; t++) {
    const uint64_t row = (uint64_t)(t + MAX_TOKENS * test_rank());
    const int32_t first = (int32_t)(moerun__uniform(seed, row, 0) * r->choices);
    for (int32_t i = 0; i < r->K; i++) {
      const int32_t at = t * r->K + i;
      r->ids[at] = at % 7 == 3 ? -1 : (first + i) % r->choices;
      r->weight[at] =
          (float)(2 * moerun__uniform(seed, row, 1 + (uint64_t)i) - 1);
    }
  }
}

static int same_rows(const rig *r, int32_t T) {
  return memcmp(r->want, r->y, (size_t)T * r->H * sizeof *r->y) == 0;
}

static const moerun_session_options kinds[] = {
    {.struct_size = sizeof(moerun_session_options),
     .max_tokens = MAX_TOKENS,
     .balance = MOERUN_BALANCE_OFF},
    {.struct_size = sizeof(moerun_session_options),
     .max_tokens = MAX_TOKENS,
     .chunks = 3},
    {.struct_size = sizeof(moerun_session_options),
     .max_tokens = MAX_TOKENS,
     .wire = MOERUN_WIRE_BF16},
    {.struct_size = sizeof(moerun_session_options),
     .max_tokens = MAX_TOKENS,
     .compute = MOERUN_COMPUTE_BF16}};

static void gives_the_bits_of_the_gate(void **state) {
  (void)state;
  static const int32_t rows[] = {MAX_TOKENS, 0, 1, 33};
  for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
    for (size_t o = 0; o < sizeof kinds / sizeof *kinds; o++) {
      rig r;
      set_up(&r, models[m], &kinds[o]);
      const int32_t T = rows[(size_t)(test_rank() + (int)o) % 4];
      moerun_session *s = r.session[0];
      /* The gate of a session that rounds activations is given rounded ones. */
      if (kinds[o].compute == MOERUN_COMPUTE_BF16) {
        for (size_t i = 0; i < MAX_TOKENS * r.H; i++) {
          r.x[i] = moerun__bf16_to_f32(moerun__f32_to_bf16(r.x[i]));
        }
      }
      assert_all_ok(moerun_moe_forward(s, r.layer, T, r.x, r.want));
      ask_gate(&r, T);
      const size_t calls = moerun__alloc_calls();
      assert_all_ok(
          moerun_moe_forward_routed(s, r.layer, T, r.x, r.ids, r.weight, r.y));
      assert_all_ranks(moerun__alloc_calls() == calls);
      assert_all_ranks(same_rows(&r, T));
      tear_down(&r);
    }
  }
}

static void any_choice_has_the_bits_of_one_rank(void **state) {
  (void)state;
  for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
    rig r;
    set_up(&r, models[m], &kinds[m % 3]);
    for (int32_t step = 0; step < 3; step++) {
      const int32_t T = (MAX_TOKENS - 9 * step) / (1 + test_rank() % 3);
      draw_choice(&r, T, (uint64_t)step);
      assert_all_ok(moerun_moe_forward_routed(r.session[0], r.layer, T, r.x,
                                              r.ids, r.weight, r.y));
      assert_all_ok(moerun_moe_forward_routed(r.session[1], r.layer, T, r.x,
                                              r.ids, r.weight, r.want));
      assert_all_ranks(same_rows(&r, T));
    }
    tear_down(&r);
  }
}

/* One expert of weight 1 and nothing else: its output; of weight -1, minus it;
 * no expert at all: zeros. What stands beside -1 is not read, also where
 * experts at home and null experts are looked for. */
static void missing_ids_are_nothing(void **state) {
  (void)state;
  static const float not_a_number = 0.0F;
  static const char *const without_shared[] = {"hf/qwen3_moe", "home/plain",
                                               "home/renormalised"};
  for (size_t m = 0; m < 3; m++) {
    rig r;
    int ok = 1;
    set_up(&r, without_shared[m], &kinds[0]);
    for (int32_t i = 0; i < 3 * r.K; i++) {
      r.ids[i] = -1;
      r.weight[i] = not_a_number / not_a_number;
    }
    memcpy(r.x + r.H, r.x, r.H * sizeof *r.x);
    r.ids[0] = r.ids[r.K + 1] = 2;
    r.weight[0] = 1;
    r.weight[r.K + 1] = -1;
    assert_all_ok(moerun_moe_forward_routed(r.session[0], r.layer, 3, r.x,
                                            r.ids, r.weight, r.y));
    for (size_t i = 0; i < r.H; i++) {
      ok = ok && r.y[i] == -r.y[r.H + i] && r.y[2 * r.H + i] == 0.0F;
    }
    assert_all_ranks(ok && r.y[0] != 0.0F);
    tear_down(&r);
  }
}

/* ---- What is no choice --------------------------------------------------- */

typedef enum fault {
  TWICE,
  TOO_HIGH,
  BELOW_NONE,
  NOT_FINITE,
  NO_IDS,
  NO_WEIGHTS,
  TOO_MANY_ROWS,
  NO_LAYER,
  NUM_FAULTS,
} fault;

static moerun_status call_with(rig *r, fault kind) {
  const int32_t at = r->K * 4;
  const float zero = 0.0F;
  const int32_t *ids = kind == NO_IDS ? NULL : r->ids;
  const float *weight = kind == NO_WEIGHTS ? NULL : r->weight;
  r->ids[at] = 1;
  if (kind == TWICE) r->ids[at + 1] = 1;
  if (kind == TOO_HIGH) r->ids[at] = r->choices;
  if (kind == BELOW_NONE) r->ids[at] = -2;
  if (kind == NOT_FINITE) r->weight[at] = 1.0F / zero;
  return moerun_moe_forward_routed(
      r->session[0], kind == NO_LAYER ? 99 : r->layer,
      kind == TOO_MANY_ROWS ? MAX_TOKENS + 1 : 8, r->x, ids, weight, r->y);
}

static const char *const found[] = {
    "row 4: expected distinct experts, found 1 twice",
    "row 4: expected experts -1 to ",
    "row 4: expected experts -1 to ",
    "row 4: expected a finite weight of expert 1, found inf",
    "ids or weights is NULL",
    "ids or weights is NULL",
    "expected 0 to 70 rows, found 71",
    "layer 99 is not one of the MoE layers"};

static void a_bad_choice_fails_everywhere(void **state) {
  (void)state;
  rig r;
  set_up(&r, models[0], &kinds[1]);
  ask_gate(&r, 8);
  assert_all_ok(moerun_moe_forward(r.session[0], r.layer, 8, r.x, r.want));
  for (int kind = 0; kind < NUM_FAULTS; kind++) {
    const int at_fault = kind % test_size();
    moerun_status status = MOERUN_OK;
    if (test_rank() == at_fault) {
      const moerun_status expected =
          kind == TOO_MANY_ROWS ? MOERUN_ERR_OVERFLOW : MOERUN_ERR_INVALID;
      status = call_with(&r, (fault)kind);
      assert_all_ranks(status == expected &&
                       strstr(moerun_last_error(), found[kind]) != NULL);
    } else {
      status = moerun_moe_forward_routed(r.session[0], r.layer, 8, r.x, r.ids,
                                         r.weight, r.y);
      assert_all_ranks(status == MOERUN_ERR_PEER);
    }
    /* And the session goes on. */
    ask_gate(&r, 8);
    assert_all_ok(moerun_moe_forward_routed(r.session[0], r.layer, 8, r.x,
                                            r.ids, r.weight, r.y));
    assert_all_ranks(same_rows(&r, 8));
  }
  tear_down(&r);
}

/* Each rank's call is right by itself; rows of one layer must not come to
 * experts of another, whether they have as many replicas or not. */
static void layers_that_differ_are_refused(void **state) {
  (void)state;
  for (size_t k = 0; k < 4; k++) {
    rig r;
    set_up_with(&r, models[0], &kinds[k % 2], k / 2 > 0);
    ask_gate(&r, 8);
    assert_all_ok(moerun_moe_forward(r.session[0], r.layer, 8, r.x, r.want));
    for (int other = 0; test_size() > 1 && other < test_size(); other++) {
      const int32_t layer = r.layer - (test_rank() == other);
      char words[80];
      const moerun_status status = moerun_moe_forward_routed(
          r.session[0], layer, 8, r.x, r.ids, r.weight, r.y);
      (void)snprintf(words, sizeof words,
                     "layer %d: expected the same layer on all ranks, found %d",
                     layer, 2 * r.layer - 1 - layer);
      assert_all_ranks(status == MOERUN_ERR_INVALID &&
                       strstr(moerun_last_error(), words) != NULL);
      assert_all_ok(moerun_moe_forward_routed(r.session[0], r.layer, 8, r.x,
                                              r.ids, r.weight, r.y));
      assert_all_ranks(same_rows(&r, 8));
    }
    tear_down(&r);
  }
}

/* Where a rule takes experts away, it would have to know their scores. Ranks
 * that cut together refuse together. */
static void lossy_sessions_refuse(void **state) {
  (void)state;
  rig r;
  static const moerun__gate_options lossy[] = {
      {.width = {.most = 1}},
      {.capacity = {.gamma = 1000}},
      {.capacity = {.gamma = 1000, .scope = MOERUN_SCOPE_GLOBAL}}};
  set_up(&r, models[0], &kinds[0]);
  ask_gate(&r, 8);
  for (size_t i = 0; i < sizeof lossy / sizeof *lossy; i++) {
    moerun_session *session = NULL;
    const moerun__session_extra extra = {.gate = lossy[i]};
    assert_all_ok(
        moerun__session_create_with(&session, r.model[0], &kinds[0], &extra));
    assert_all_ranks(moerun_moe_forward_routed(session, r.layer, 8, r.x, r.ids,
                                               r.weight,
                                               r.y) == MOERUN_ERR_UNSUPPORTED);
    moerun_session_destroy(session);
  }
  assert_all_ranks(moerun_moe_forward_routed(r.session[0], 99, 8, r.x, r.ids,
                                             r.weight,
                                             r.y) == MOERUN_ERR_INVALID);
  tear_down(&r);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(gives_the_bits_of_the_gate),
      cmocka_unit_test(any_choice_has_the_bits_of_one_rank),
      cmocka_unit_test(missing_ids_are_nothing),
      cmocka_unit_test(a_bad_choice_fails_everywhere),
      cmocka_unit_test(layers_that_differ_are_refused),
      cmocka_unit_test(lossy_sessions_refuse),
  };
  (void)MPI_Init(&argc, &argv);
  if (moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK) {
    return 1;
  }
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return failed;
}
