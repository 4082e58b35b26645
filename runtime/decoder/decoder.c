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

/* ---- Rows ---------------------------------------------------------------- */

/* The factors of rows, or NULL: 1. */
static const float *scales_of(const moerun_session *session,
                              moerun__row_scale scale) {
  if (session->scales == NULL) return NULL;
  return session->scales + (size_t)scale * (size_t)session->options.max_tokens;
}

/* to[T][H] = from times the scale, once rounded. */
static void scale_rows(moerun_session *session, float *to, const float *from,
                       moerun__row_scale scale, int32_t T) {
  const size_t H = (size_t)session->model->config.hidden_width;
  moerun__queue *queue = &session->queue;
  queue->device->clear(queue, to, (size_t)T * H * sizeof *to);
  session->kernels->add_rows(queue, to, from, scales_of(session, scale), T,
                             (int32_t)H);
}

static moerun__norm norm_by(const moerun_session *session, const float *scale) {
  const moerun__model_config *config = &session->model->config;
  return (moerun__norm){scale, config->hidden_width, (float)config->norm_eps};
}

/* h = norm(x), or x, as the block that follows reads it. */
static void norm(moerun_session *session, const float *scale, int32_t T) {
  const size_t H = (size_t)session->model->config.hidden_width;
  const moerun__norm by = norm_by(session, scale);
  moerun__queue *queue = &session->queue;
  if (scale == NULL) {
    queue->device->copy(queue, session->h, session->x,
                        (size_t)T * H * sizeof *session->h);
  } else {
    session->kernels->rmsnorm(queue, session->h, H, session->x, H, T, &by);
  }
}

/* Adds to x what a block gave, rows[T][H], which may change here; after: the
 * norm of it, or NULL. */
static void add_block(moerun_session *session, float *rows, const float *after,
                      int32_t T) {
  const size_t H = (size_t)session->model->config.hidden_width;
  const moerun__kernels *kernels = session->kernels;
  moerun__queue *queue = &session->queue;
  const float *scales = scales_of(session, MOERUN_SCALE_RESIDUAL);
  if (after != NULL) {
    const moerun__norm by = norm_by(session, after);
    kernels->rmsnorm(queue, rows, H, rows, H, T, &by);
  }
  if (scales != NULL) {
    kernels->add_rows(queue, session->x, rows, scales, T, (int32_t)H);
  } else {
    kernels->add(queue, session->x, rows, (size_t)T * H);
  }
}

/* ---- Embedding ----------------------------------------------------------- */

static void embed(moerun_session *session, const moerun_batch *batch) {
  const size_t H = (size_t)session->model->config.hidden_width;
  const int32_t T = batch->num_tokens;
  const moerun__broken_rows rows = broken_at(session, MOERUN_BROKEN_EMBEDDING);
  const int scaled = session->scales != NULL;
  session->kernels->embed(&session->queue, scaled ? session->h : session->x, H,
                          &session->model->embedding, batch->token, T);
  if (scaled) {
    scale_rows(session, session->x, session->h, MOERUN_SCALE_EMBEDDING, T);
  }
  session->model->config.attention->ops->begin(session->attention, batch);
  moerun__stage_end(&session->stats, MOERUN_STAGE_EMBED);
  memset(session->broken, 0, (size_t)T * sizeof *session->broken);
  moerun__broken_note_rows(&rows, session->x, H, T);
}

/* ---- Attention ----------------------------------------------------------- */

static void attention(moerun_session *session, int32_t layer_index,
                      const moerun_batch *batch) {
  const moerun__model_config *config = &session->model->config;
  const moerun__layer *layer = &session->model->layers[layer_index];
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
  add_block(session, session->h, layer->attention_after, T);
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
  add_block(session, session->h, layer->ffn_after, T);
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
                               const moerun__layer_call *call) {
  moerun_status status = MOERUN_OK;
  const int32_t T = batch->num_tokens;
  const moerun__layer *layer = call->layer;
  if (call->failed == MOERUN_OK) norm(session, layer->ffn_norm, T);
  MOERUN_TRY(moerun__moe_forward(session->y, &session->moe, call));
  add_block(session, session->y, layer->ffn_after, T);
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
  const moerun__norm by = norm_by(session, model->final_norm);
  float *normed = session->h;
  for (int32_t i = 0; i < batch->num_logits; i++) {
    session->kernels->rmsnorm(&session->queue, normed + (size_t)i * H, H,
                              session->x + (size_t)batch->logit_row[i] * H, H,
                              1, &by);
  }
  if (session->scales != NULL) {
    normed = session->y;
    scale_rows(session, normed, session->h, MOERUN_SCALE_HEAD,
               batch->num_logits);
  }
  session->kernels->linear(&session->queue, logits, V, normed, H,
                           batch->num_logits, &model->head, session->scratch);
  for (int32_t i = 0; i < batch->num_logits; i++) {
    moerun__broken_note(&rows, batch->logit_row[i], logits + (size_t)i * V, V);
  }
  MOERUN_TRY(session->queue.device->wait(&session->queue));
  moerun__stage_end(&session->stats, MOERUN_STAGE_HEAD);
done:
  return status;
}

/* Sequences are requests. */
static moerun__row_tags tags_of(const moerun_batch *batch) {
  return (moerun__row_tags){.request = batch->sequence,
                            .position = batch->position};
}

moerun_status moerun__decoder_forward(moerun_session *session,
                                      const moerun_batch *batch,
                                      const moerun__row_tags *tags,
                                      float *logits, moerun_status failed) {
  moerun_status status = MOERUN_OK;
  const moerun_model *model = session->model;
  moerun__stage_begin(&session->stats);
  moerun__moe_begin_step(&session->moe, session->stats.steps);
  session->stats.steps++;
  if (failed == MOERUN_OK) failed = moerun__batch_extend(session->cache, batch);
  const int has_grown = failed == MOERUN_OK;
  if (failed == MOERUN_OK) embed(session, batch);
  moerun__layer_call call = {.T = batch->num_tokens,
                             .x = session->h,
                             .tags = tags != NULL ? *tags : tags_of(batch),
                             .failed = failed};
  for (int32_t l = 0; l < model->config.num_layers; l++) {
    const moerun__layer *layer = &model->layers[l];
    if (failed == MOERUN_OK) attention(session, l, batch);
    if (layer->moe_layer >= 0) {
      call.layer = layer;
      MOERUN_TRY(moe_block(session, l, batch, &call));
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
