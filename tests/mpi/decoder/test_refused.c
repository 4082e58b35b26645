/* What a caller forgets on one rank is refused there by a line that names it,
 * the other ranks hear of it, and the session goes on. */
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>
#include <string.h>

enum { ROWS = 4 };

static const char path[] = MOERUN_TEST_DATA "/hf/qwen3_moe";
static moerun_comm *comm;
static moerun_placement *placement;
static moerun_model *model;
static moerun_model_shape shape = {.struct_size = sizeof shape};

static int is_mine(void) {
  return test_rank() == test_size() - 1;
}

/* Of the last rank's mistake. */
static void expect_refusal(moerun_status found, moerun_status code,
                           const char *words) {
  assert_all_ranks(found == (is_mine() ? code : MOERUN_ERR_PEER));
  assert_all_ranks(!is_mine() || strstr(moerun_last_error(), words) != NULL);
}

static int set_up(void **state) {
  (void)state;
  assert_all_ok(moerun_model_shape_load(&shape, path));
  assert_all_ok(moerun_placement_create_block(&placement, shape.num_moe_layers,
                                              shape.num_experts, test_size()));
  assert_all_ok(moerun_model_load(&model, comm, placement, path, NULL));
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  moerun_model_destroy(model);
  moerun_placement_destroy(placement);
  return 0;
}

/* ---- Models -------------------------------------------------------------- */

static void models_want_a_path_and_a_placement(void **state) {
  (void)state;
  moerun_model *found = NULL;
  const int mine = is_mine();
  expect_refusal(
      moerun_model_load(&found, comm, mine ? NULL : placement, path, NULL),
      MOERUN_ERR_INVALID, "the placement is NULL");
  assert_null(found);
  expect_refusal(
      moerun_model_load(&found, comm, placement, mine ? NULL : path, NULL),
      MOERUN_ERR_INVALID, "moerun_model_load: expected a path, found NULL");
  assert_null(found);
  expect_refusal(
      moerun_model_load(&found, comm, placement, mine ? "" : path, NULL),
      MOERUN_ERR_INVALID,
      "moerun_model_load: expected a path, found an empty one");
  assert_null(found);
  moerun_model_shape none = {.struct_size = sizeof none};
  assert_all_ranks(moerun_model_shape_load(&none, NULL) == MOERUN_ERR_INVALID);
  assert_all_ranks(moerun_model_shape_load(&none, "") == MOERUN_ERR_INVALID);
  assert_all_ranks(strstr(moerun_last_error(), "found an empty one") != NULL);
}

static moerun_status no_expert(void *context, int32_t layer, int32_t expert,
                               moerun_expert_arrays *arrays) {
  (void)context;
  (void)layer;
  (void)expert;
  (void)arrays;
  return MOERUN_ERR_UNSUPPORTED;
}

static void sources_and_their_placements_are_there(void **state) {
  (void)state;
  moerun_model *found = NULL;
  const moerun_model_source source = {.struct_size = sizeof source,
                                      .num_moe_layers = shape.num_moe_layers,
                                      .num_experts = shape.num_experts,
                                      .experts_per_token = 2,
                                      .hidden_width = 8,
                                      .expert_width = 8,
                                      .load_expert = no_expert};
  moerun_model_source nameless = source;
  nameless.load_expert = NULL;
  expect_refusal(
      moerun_model_create(&found, comm, placement, is_mine() ? NULL : &source),
      MOERUN_ERR_INVALID, "moerun_model_source is NULL");
  assert_null(found);
  expect_refusal(
      moerun_model_create(&found, comm, is_mine() ? NULL : placement, &source),
      MOERUN_ERR_INVALID, "the placement is NULL");
  assert_null(found);
  expect_refusal(moerun_model_create(&found, comm, placement,
                                     is_mine() ? &nameless : &source),
                 MOERUN_ERR_INVALID, "load_expert is NULL");
  assert_null(found);
}

/* ---- Sessions ------------------------------------------------------------ */

static void sessions_want_options(void **state) {
  (void)state;
  moerun_session *found = NULL;
  const moerun_session_options good = {.struct_size = sizeof good,
                                       .max_tokens = ROWS};
  assert_all_ranks(moerun_session_bytes(model, NULL) == 0);
  assert_all_ranks(
      strstr(moerun_last_error(), "moerun_session_options is NULL") != NULL);
  expect_refusal(moerun_session_create(&found, model, is_mine() ? NULL : &good),
                 MOERUN_ERR_INVALID, "moerun_session_options is NULL");
  assert_null(found);
  assert_all_ok(moerun_session_create(&found, model, &good));
  assert_all_ranks(moerun_session_counters(found, NULL) == MOERUN_ERR_INVALID);
  assert_all_ranks(strstr(moerun_last_error(), "moerun_counters is NULL") !=
                   NULL);
  assert_all_ranks(moerun_sequence_reset(found, 0) == MOERUN_ERR_INVALID);
  assert_all_ranks(strstr(moerun_last_error(), "max_sequences is 0") != NULL);
  moerun_session_destroy(found);
}

/* Options of a decoder, where there is none or no sequence. */
static void sizes_without_effect_are_refused(void **state) {
  (void)state;
  moerun_session *found = NULL;
  moerun_model *layers = NULL;
  const moerun_model_options layers_only = {.struct_size = sizeof layers_only,
                                            .moe_only = 1};
  assert_all_ok(
      moerun_model_load(&layers, comm, placement, path, &layers_only));
  const moerun_session_options sequences = {
      .struct_size = sizeof sequences, .max_tokens = ROWS, .max_sequences = 1};
  const moerun_session_options positions = {
      .struct_size = sizeof positions, .max_tokens = ROWS, .kv_tokens = 16};
  assert_all_ranks(moerun_session_create(&found, layers, &sequences) ==
                   MOERUN_ERR_INVALID);
  assert_all_ranks(strstr(moerun_last_error(), "there is no decoder") != NULL);
  assert_all_ranks(moerun_session_create(&found, layers, &positions) ==
                   MOERUN_ERR_INVALID);
  assert_all_ranks(moerun_session_create(&found, model, &positions) ==
                   MOERUN_ERR_INVALID);
  assert_all_ranks(strstr(moerun_last_error(), "max_sequences is 0") != NULL);
  const moerun_session_options good = {.struct_size = sizeof good,
                                       .max_tokens = ROWS};
  assert_all_ok(moerun_session_create(&found, layers, &good));
  assert_all_ranks(moerun_sequence_reset(found, 0) == MOERUN_ERR_INVALID);
  assert_all_ranks(strstr(moerun_last_error(), "there is no decoder") != NULL);
  const moerun_batch none = {0};
  assert_all_ranks(moerun_forward(found, &none, NULL) == MOERUN_ERR_INVALID);
  assert_all_ranks(strstr(moerun_last_error(), "there is no decoder") != NULL);
  moerun_session_destroy(found);
  moerun_model_destroy(layers);
}

/* ---- Steps --------------------------------------------------------------- */

static void arrays_of_a_batch_are_there(void **state) {
  (void)state;
  static const int32_t zero[ROWS] = {0};
  static const int32_t rising[ROWS] = {0, 1, 2, 3};
  moerun_session *session = NULL;
  float *logits =
      calloc((size_t)ROWS * (size_t)shape.vocab_size, sizeof *logits);
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = ROWS,
                                          .max_sequences = 1,
                                          .kv_tokens = 16};
  const moerun_batch good = {ROWS, zero, zero, rising, 1, rising};
  const struct {
    moerun_batch batch;
    const char *words;
    int leaves_logits; /* out */
  } bad[] = {
      {{ROWS, NULL, zero, rising, 1, rising}, "token, sequence or position", 0},
      {{ROWS, zero, NULL, rising, 1, rising}, "token, sequence or position", 0},
      {{ROWS, zero, zero, NULL, 1, rising}, "token, sequence or position", 0},
      {{ROWS, zero, zero, rising, 1, NULL}, "logit_row is NULL", 0},
      {{ROWS, zero, zero, rising, 1, rising}, "logits is NULL", 1},
      {{ROWS, zero, zero, rising, -1, rising},
       "num_logits: expected 0 to 4",
       0},
      {{0, NULL, NULL, NULL, 1, rising}, "num_logits: expected 0 to 0", 0},
  };
  assert_all_ok(moerun_session_create(&session, model, &options));
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    const int mine = is_mine();
    expect_refusal(moerun_forward(session, mine ? &bad[i].batch : &good,
                                  mine && bad[i].leaves_logits ? NULL : logits),
                   MOERUN_ERR_INVALID, bad[i].words);
    assert_all_ok(moerun_forward(session, &good, logits));
  }
  expect_refusal(moerun_forward(session, is_mine() ? NULL : &good, logits),
                 MOERUN_ERR_INVALID, "the batch is NULL");
  assert_all_ok(moerun_forward(session, &good, logits));
  free(logits);
  moerun_session_destroy(session);
}

static int32_t first_moe_layer(moerun_session *session) {
  int32_t layer = 0;
  while (moerun_moe_forward(session, layer, 0, NULL, NULL) != MOERUN_OK) {
    layer++;
  }
  return layer;
}

static void rows_of_a_layer_are_there(void **state) {
  (void)state;
  moerun_session *session = NULL;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = ROWS};
  const size_t count = (size_t)ROWS * (size_t)shape.hidden_width;
  const size_t terms = (size_t)ROWS * (size_t)shape.experts_per_token;
  float *x = calloc(count, sizeof *x);
  float *y = calloc(count, sizeof *y);
  float *weights = calloc(terms, sizeof *weights);
  int32_t *ids = calloc(terms, sizeof *ids);
  for (size_t i = 0; i < terms; i++) {
    ids[i] = (int32_t)i % shape.experts_per_token;
  }
  assert_all_ok(moerun_session_create(&session, model, &options));
  const int32_t layer = first_moe_layer(session);
  char where[64];
  (void)snprintf(where, sizeof where, "layer %d: ids or weights is NULL",
                 layer);
  const int mine = is_mine();
  expect_refusal(moerun_moe_forward_routed(session, layer, ROWS, x,
                                           mine ? NULL : ids, weights, y),
                 MOERUN_ERR_INVALID, where);
  expect_refusal(moerun_moe_forward_routed(session, layer, ROWS, x, ids,
                                           mine ? NULL : weights, y),
                 MOERUN_ERR_INVALID, where);
  (void)snprintf(where, sizeof where, "layer %d: x or y is NULL", layer);
  expect_refusal(moerun_moe_forward(session, layer, ROWS, mine ? NULL : x, y),
                 MOERUN_ERR_INVALID, where);
  (void)snprintf(where, sizeof where, "layer %d: expected 0 to 4 rows, found 5",
                 layer);
  expect_refusal(moerun_moe_forward(session, layer, ROWS + mine, x, y),
                 MOERUN_ERR_OVERFLOW, where);
  ids[0] = mine ? shape.num_experts : 0;
  (void)snprintf(where, sizeof where, "layer %d: row 0: expected experts -1 to",
                 layer);
  expect_refusal(
      moerun_moe_forward_routed(session, layer, ROWS, x, ids, weights, y),
      MOERUN_ERR_INVALID, where);
  ids[0] = 0;
  assert_all_ok(
      moerun_moe_forward_routed(session, layer, ROWS, x, ids, weights, y));
  free(x);
  free(y);
  free(weights);
  free(ids);
  moerun_session_destroy(session);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(models_want_a_path_and_a_placement),
      cmocka_unit_test(sources_and_their_placements_are_there),
      cmocka_unit_test(sessions_want_options),
      cmocka_unit_test(sizes_without_effect_are_refused),
      cmocka_unit_test(arrays_of_a_batch_are_there),
      cmocka_unit_test(rows_of_a_layer_are_there),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  if (moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK) {
    return EXIT_FAILURE;
  }
  const int failed = cmocka_run_group_tests(tests, set_up, tear_down);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return failed;
}
