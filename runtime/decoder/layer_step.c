/* The public steps of one MoE layer, for programs that have a model of their
 * own around it. What is wrong with a call is found before any row travels, and
 * is told to the other ranks in the exchange of counts that they enter anyway:
 * a check that returned early would leave them waiting. */
#include "runtime/decoder/session.h"

#include <stdio.h>

static int overlap(const float *x, const float *y, size_t count) {
  const uintptr_t a = (uintptr_t)x;
  const uintptr_t b = (uintptr_t)y;
  return (a > b ? a - b : b - a) < count * sizeof *x;
}

static moerun_status check_rows(const moerun_session *session,
                                int32_t num_tokens, const float *x,
                                const float *y) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(num_tokens >= 0 && num_tokens <= session->options.max_tokens,
                 MOERUN_ERR_OVERFLOW, "expected 0 to %d rows, found %d",
                 session->options.max_tokens, num_tokens);
  MOERUN_REQUIRE(num_tokens == 0 || (x != NULL && y != NULL),
                 MOERUN_ERR_INVALID, "x or y is NULL");
  MOERUN_REQUIRE(!overlap(x, y,
                          (size_t)num_tokens *
                              (size_t)session->model->config.hidden_width),
                 MOERUN_ERR_INVALID, "x and y overlap");
done:
  return status;
}

static moerun_status check_call(const moerun_session *session, int32_t layer,
                                int32_t num_tokens, const float *x,
                                const moerun__given_choice *given,
                                const float *y) {
  moerun_status status = MOERUN_OK;
  char where[32];
  MOERUN_TRY(check_rows(session, num_tokens, x, y));
  if (given != NULL) {
    MOERUN_TRY(
        moerun__given_choice_check(&session->moe.gate, num_tokens, given));
  }
done:
  if (status != MOERUN_OK) {
    (void)snprintf(where, sizeof where, "layer %d", layer);
    status = moerun__say_where(status, where);
  }
  return status;
}

/* -1: there is none, on any rank. */
static int32_t first_moe_layer(const moerun_model *model) {
  for (int32_t l = 0; l < model->config.num_layers; l++) {
    if (model->layers[l].moe_layer >= 0) return l;
  }
  return -1;
}

static int32_t last_moe_layer(const moerun_model *model) {
  int32_t l = model->config.num_layers - 1;
  while (l >= 0 && model->layers[l].moe_layer < 0) {
    l--;
  }
  return l;
}

static moerun_status check_layer(const moerun_session *session, int32_t layer,
                                 const moerun__given_choice *given) {
  moerun_status status = MOERUN_OK;
  const moerun_model *model = session->model;
  MOERUN_REQUIRE(layer >= 0 && layer < model->config.num_layers &&
                     model->layers[layer].moe_layer >= 0,
                 MOERUN_ERR_INVALID,
                 "layer %d is not one of the MoE layers, of which there are "
                 "%d from %d to %d",
                 layer, model->config.num_moe_layers, first_moe_layer(model),
                 last_moe_layer(model));
  MOERUN_REQUIRE(given != NULL || model->layers[layer].gate.panels != NULL,
                 MOERUN_ERR_INVALID,
                 "layer %d has no gate: expected moerun_moe_forward_routed",
                 layer);
done:
  return status;
}

/* given: NULL: the model's gate chooses. */
static moerun_status forward(moerun_session *session, int32_t layer,
                             int32_t num_tokens, const float *x,
                             const moerun__given_choice *given, float *y) {
  moerun_status failed = check_layer(session, layer, given);
  if (failed == MOERUN_OK) {
    failed = check_call(session, layer, num_tokens, x, given, y);
  } else {
    layer = first_moe_layer(session->model); /* to tell the others there */
    if (layer < 0) return failed;
  }
  moerun_status status = MOERUN_OK;
  moerun__stage_begin(&session->stats);
  moerun__moe_begin_step(&session->moe, session->stats.steps);
  session->stats.steps++;
  const moerun__layer_call call = {.layer = &session->model->layers[layer],
                                   .T = num_tokens,
                                   .x = x,
                                   .given = given,
                                   .names_layer = 1,
                                   .failed = failed};
  MOERUN_TRY(moerun__moe_forward(y, &session->moe, &call));
  moerun__layer_end(&session->stats);
done:
  return status;
}

moerun_status moerun_moe_forward(moerun_session *session, int32_t layer,
                                 int32_t num_tokens, const float *x, float *y) {
  return forward(session, layer, num_tokens, x, NULL, y);
}

moerun_status moerun_moe_forward_routed(moerun_session *session, int32_t layer,
                                        int32_t num_tokens, const float *x,
                                        const int32_t *ids,
                                        const float *weights, float *y) {
  const moerun__given_choice given = {ids, weights};
  return forward(session, layer, num_tokens, x, &given, y);
}
