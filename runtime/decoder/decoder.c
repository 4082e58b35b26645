/* One step of the decoder for this rank's rows: embedding, then in each layer
 * norm, attention, norm and feed-forward, then the head. The residual stream is
 * session->x; every block reads a normed copy and adds its output back. What
 * differs between architectures is in model->config, and how attention goes is
 * its kind's (attention.h); the facts are those of the Hugging Face
 * implementations (modeling_qwen3_moe.py and its like), computed in fp32
 * throughout. */
#include "runtime/decoder/decoder.h"

#include "runtime/decoder/attention.h"

#include <string.h>

/* ---- Numbers that are not sound ------------------------------------------ */

static moerun__broken_rows broken_at(moerun_session *session, int32_t stage) {
  return (moerun__broken_rows){session->kernels, &session->queue,
                               session->broken, stage};
}

/* What a layer gave, and what its gate (NULL: none) says of the rows. Of the
 * last layer only rows with logits matter: nothing else follows from the
 * others. */
static void note_layer(moerun_session *session, int32_t layer,
                       const moerun_batch *batch, const uint8_t *marked) {
  const size_t H = (size_t)session->model->config.hidden_width;
  const int is_last = layer + 1 == session->model->config.num_layers;
  const int32_t T = batch->num_tokens;
  const moerun__broken_rows rows =
      broken_at(session, MOERUN_BROKEN_LAYER + layer);
  for (int32_t i = 0; is_last && i < batch->num_logits; i++) {
    const int32_t t = batch->logit_row[i];
    if (marked != NULL && marked[t]) moerun__broken_mark(&rows, t);
    moerun__broken_note(&rows, t, session->x + (size_t)t * H, H);
  }
  if (is_last) return;
  for (int32_t t = 0; marked != NULL && t < T; t++) {
    if (marked[t]) moerun__broken_mark(&rows, t);
  }
  moerun__broken_note_rows(&rows, session->x, H, T);
}

/* ---- Embedding ----------------------------------------------------------- */

static void embed(moerun_session *session, const moerun_batch *batch) {
  const size_t H = (size_t)session->model->config.hidden_width;
  const int32_t T = batch->num_tokens;
  const moerun__broken_rows rows = broken_at(session, MOERUN_BROKEN_EMBEDDING);
  session->kernels->embed(&session->queue, session->x, H,
                          &session->model->embedding, batch->token, T);
  session->model->config.attention->ops->begin(session->attention, batch);
  moerun__stage_end(&session->stats, MOERUN_STAGE_EMBED);
  memset(session->broken, 0, (size_t)T * sizeof *session->broken);
  moerun__broken_note_rows(&rows, session->x, H, T);
}

/* ---- Attention ----------------------------------------------------------- */

/* h = norm(x), as the block that follows reads it. */
static void norm(moerun_session *session, const float *scale, int32_t T) {
  const moerun__model_config *config = &session->model->config;
  const size_t H = (size_t)config->hidden_width;
  session->kernels->rmsnorm(
      &session->queue, session->h, H, session->x, H, T,
      &(moerun__norm){scale, (int32_t)H, (float)config->norm_eps});
}

static void attention(moerun_session *session, int32_t layer_index,
                      const moerun_batch *batch) {
  const moerun__model_config *config = &session->model->config;
  const moerun__layer *layer = &session->model->layers[layer_index];
  const size_t H = (size_t)config->hidden_width;
  const int32_t T = batch->num_tokens;
  const moerun__attention_call call = {
      .batch = batch,
      .layer = layer_index,
      .weight = layer->attention,
      .cache = session->cache,
      .rows = session->h,
      .noted = broken_at(session, MOERUN_BROKEN_LAYER + layer_index),
      .scratch = session->scratch,
  };
  norm(session, layer->attention_norm, T);
  config->attention->ops->forward(session->attention, &call);
  session->kernels->add(&session->queue, session->x, session->h, (size_t)T * H);
  moerun__stage_end(&session->stats, MOERUN_STAGE_ATTENTION);
}

/* ---- Feed-forward -------------------------------------------------------- */

static void dense_ffn(moerun_session *session, const moerun__layer *layer,
                      int32_t T) {
  const moerun__kernels *kernels = session->kernels;
  const size_t H = (size_t)session->model->config.hidden_width;
  const moerun__model_config *config = &session->model->config;
  const size_t gate_up =
      (size_t)moerun__gate_up_outputs(config, config->dense_width);
  const int32_t offset[] = {0, T};
  const moerun__ffn ffn = {
      .y = session->h,
      .y_stride = H,
      .x = session->h,
      .x_stride = H,
      .num_experts = 1,
      .expert = &layer->dense,
      .offset = offset,
      .room = {MOERUN_FFN_TILE, session->dense,
               session->dense + (size_t)MOERUN_FFN_TILE * gate_up,
               session->scratch},
  };
  kernels->ffn(&session->queue, &ffn);
  kernels->add(&session->queue, session->x, session->h, (size_t)T * H);
  moerun__stage_end(&session->stats, MOERUN_STAGE_DENSE);
}

/* Placed experts in gate order, then -1. */
static void keep_trace(moerun_session *session, int32_t moe_layer, int32_t T) {
  const moerun__model_config *config = &session->model->config;
  const size_t K = (size_t)config->experts_per_token;
  const size_t terms = (size_t)moerun__config_terms(config);
  const size_t layers = (size_t)config->num_moe_layers;
  for (size_t t = 0; t < (size_t)T; t++) {
    int16_t *row = session->trace + (t * layers + (size_t)moe_layer) * terms;
    size_t n = 0;
    for (size_t j = 0; j < K; j++) {
      const int32_t expert = session->moe.gate.chosen[t * K + j];
      if (expert >= 0) row[n++] = (int16_t)expert;
    }
    for (; n < terms; n++) {
      row[n] = -1;
    }
  }
}

static moerun_status moe_block(moerun_session *session, int32_t layer_index,
                               const moerun_batch *batch,
                               moerun_status failed) {
  moerun_status status = MOERUN_OK;
  const int32_t T = batch->num_tokens;
  const moerun__model_config *config = &session->model->config;
  const moerun__layer *layer = &session->model->layers[layer_index];
  const size_t H = (size_t)config->hidden_width;
  if (failed == MOERUN_OK) norm(session, layer->ffn_norm, T);
  MOERUN_TRY(moerun__moe_forward(&session->moe, layer_index, T, session->h,
                                 NULL, session->y, failed));
  session->kernels->add(&session->queue, session->x, session->y, (size_t)T * H);
  note_layer(session, layer_index, batch, session->moe.gate.unsound);
  if (session->trace != NULL) keep_trace(session, layer->moe_layer, T);
  moerun__stage_end(&session->stats, MOERUN_STAGE_COMBINE);
  moerun__layer_end(&session->stats);
done:
  return status;
}

/* ---- Head ---------------------------------------------------------------- */

static moerun_status head(moerun_session *session, const moerun_batch *batch,
                          float *logits) {
  moerun_status status = MOERUN_OK;
  const moerun_model *model = session->model;
  const size_t H = (size_t)model->config.hidden_width;
  const size_t V = (size_t)model->config.vocab_size;
  const moerun__broken_rows rows = broken_at(session, MOERUN_BROKEN_HEAD);
  for (int32_t i = 0; i < batch->num_logits; i++) {
    session->kernels->rmsnorm(&session->queue, session->h + (size_t)i * H, H,
                              session->x + (size_t)batch->logit_row[i] * H, H,
                              1,
                              &(moerun__norm){model->final_norm, (int32_t)H,
                                              (float)model->config.norm_eps});
  }
  session->kernels->linear(&session->queue, logits, V, session->h, H,
                           batch->num_logits, &model->head, session->scratch);
  for (int32_t i = 0; i < batch->num_logits; i++) {
    moerun__broken_note(&rows, batch->logit_row[i], logits + (size_t)i * V, V);
  }
  MOERUN_TRY(session->queue.device->wait(&session->queue));
  moerun__stage_end(&session->stats, MOERUN_STAGE_HEAD);
done:
  return status;
}

moerun_status moerun__decoder_forward(moerun_session *session,
                                      const moerun_batch *batch, float *logits,
                                      moerun_status failed) {
  moerun_status status = MOERUN_OK;
  const moerun_model *model = session->model;
  moerun__stage_begin(&session->stats);
  moerun__moe_begin_step(&session->moe, session->stats.steps, 0);
  session->moe.gate.tags = session->tags;
  if (session->tags.request == NULL) {
    session->moe.gate.tags = (moerun__row_tags){.request = batch->sequence,
                                                .position = batch->position};
  }
  session->stats.steps++;
  if (failed == MOERUN_OK) failed = moerun__batch_extend(session->cache, batch);
  const int has_grown = failed == MOERUN_OK;
  if (failed == MOERUN_OK) embed(session, batch);
  for (int32_t l = 0; l < model->config.num_layers; l++) {
    const moerun__layer *layer = &model->layers[l];
    if (failed == MOERUN_OK) attention(session, l, batch);
    if (layer->moe_layer >= 0) {
      MOERUN_TRY(moe_block(session, l, batch, failed));
    } else if (failed == MOERUN_OK) {
      norm(session, layer->ffn_norm, batch->num_tokens);
      dense_ffn(session, layer, batch->num_tokens);
      note_layer(session, l, batch, NULL);
    }
  }
  MOERUN_TRY(head(session, batch, logits));
done:
  if (status != MOERUN_OK && has_grown) {
    moerun__batch_take_back(session->cache, batch);
  }
  return status;
}
