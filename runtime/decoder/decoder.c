/* One step of the decoder for this rank's rows. The residual stream is
 * session->x; every block reads a normed copy and adds its output back. What
 * differs between architectures is in model->config; the facts are those of
 * the Hugging Face implementations (modeling_qwen3_moe.py and its like),
 * computed in fp32 throughout. */
#include "runtime/decoder/decoder.h"

#include "runtime/base/exact_math.h"
#include "runtime/base/finite.h"
#include "runtime/decoder/broken.h"

#include <string.h>

void moerun__rotary_prepare(double *inverse_frequency, int32_t head_dim,
                            double theta) {
  for (int32_t i = 0; i < head_dim / 2; i++) {
    inverse_frequency[i] =
        moerun__exact_pow(theta, -2.0 * (double)i / (double)head_dim);
  }
}

/* ---- The batch ------------------------------------------------------------ */

/* Rows from first on that belong to the same sequence. */
static int32_t run_length(const moerun_batch *batch, int32_t first) {
  int32_t t = first + 1;
  while (t < batch->num_tokens &&
         batch->sequence[t] == batch->sequence[first]) {
    t++;
  }
  return t - first;
}

static moerun_status check_run(moerun_session *session,
                               const moerun_batch *batch, int32_t first,
                               int32_t count) {
  moerun_status status = MOERUN_OK;
  const int32_t V = session->model->config.vocab_size;
  const int32_t sequence = batch->sequence[first];
  MOERUN_REQUIRE(sequence >= 0 && sequence < session->kv.max_sequences,
                 MOERUN_ERR_INVALID,
                 "row %d: expected a sequence of 0 to %d, found %d", first,
                 session->kv.max_sequences - 1, sequence);
  const int32_t start = batch->position[first];
  MOERUN_REQUIRE(start == 0 || start == session->kv.length[sequence],
                 MOERUN_ERR_INVALID,
                 "row %d: expected position 0 or %d, found %d", first,
                 session->kv.length[sequence], start);
  for (int32_t t = first; t < first + count; t++) {
    MOERUN_REQUIRE(batch->position[t] == start + (t - first),
                   MOERUN_ERR_INVALID, "row %d: expected position %d, found %d",
                   t, start + (t - first), batch->position[t]);
    MOERUN_REQUIRE(batch->token[t] >= 0 && batch->token[t] < V,
                   MOERUN_ERR_INVALID,
                   "row %d: expected a token of 0 to %d, found %d", t, V - 1,
                   batch->token[t]);
  }
  MOERUN_REQUIRE(!session->seen[sequence], MOERUN_ERR_INVALID,
                 "row %d: the rows of sequence %d do not stand together", first,
                 sequence);
  session->seen[sequence] = 1;
done:
  return status;
}

moerun_status moerun__batch_check(moerun_session *session,
                                  const moerun_batch *batch) {
  moerun_status status = MOERUN_OK;
  const int32_t T = batch->num_tokens;
  MOERUN_REQUIRE(!session->model->moe_only, MOERUN_ERR_INVALID,
                 "the model was loaded with moe_only: there is no decoder");
  MOERUN_REQUIRE(T >= 0 && T <= session->options.max_tokens,
                 MOERUN_ERR_OVERFLOW, "expected 0 to %d rows, found %d",
                 session->options.max_tokens, T);
  memset(session->seen, 0, (size_t)session->kv.max_sequences);
  for (int32_t t = 0; t < T; t += run_length(batch, t)) {
    MOERUN_TRY(check_run(session, batch, t, run_length(batch, t)));
  }
  for (int32_t i = 0; i < batch->num_logits; i++) {
    const int32_t low = i > 0 ? batch->logit_row[i - 1] + 1 : 0;
    MOERUN_REQUIRE(batch->logit_row[i] >= low && batch->logit_row[i] < T,
                   MOERUN_ERR_INVALID,
                   "logit row %d: expected %d to %d, found %d", i, low, T - 1,
                   batch->logit_row[i]);
  }
done:
  return status;
}

/* Takes cache pages for the rows of the batch. */
static moerun_status extend_cache(moerun_session *session,
                                  const moerun_batch *batch) {
  moerun_status status = MOERUN_OK;
  for (int32_t t = 0; t < batch->num_tokens; t += run_length(batch, t)) {
    const int32_t sequence = batch->sequence[t];
    if (batch->position[t] == 0) moerun__kv_reset(&session->kv, sequence);
    MOERUN_TRY(moerun__kv_extend(&session->kv, sequence, run_length(batch, t)));
  }
done:
  return status;
}

/* ---- Numbers that are not sound ------------------------------------------------------ */

/* Row t holds x[width]: are these numbers sound? Where a row first met one that is
 * not counts. */
static void note_row(moerun_session *session, int32_t stage, int32_t t,
                     const float *x, size_t width, int is_marked) {
  if (session->broken[t] != MOERUN_BROKEN_NOT) return;
  if (is_marked || !moerun__all_sound(x, width)) session->broken[t] = stage;
}

static void note_rows(moerun_session *session, int32_t stage, const float *x,
                      size_t width, int32_t T) {
  for (int32_t t = 0; t < T; t++) {
    note_row(session, stage, t, x + (size_t)t * width, width, 0);
  }
}

/* What a layer gave, and what its gate (NULL: none) says of the rows. Of the last
 * layer only rows with logits matter: nothing else follows from the others. */
static void note_layer(moerun_session *session, int32_t layer,
                       const moerun_batch *batch, const uint8_t *marked) {
  const size_t H = (size_t)session->model->config.hidden_width;
  const int is_last = layer + 1 == session->model->config.num_layers;
  const int32_t count = is_last ? batch->num_logits : batch->num_tokens;
  for (int32_t i = 0; i < count; i++) {
    const int32_t t = is_last ? batch->logit_row[i] : i;
    note_row(session, MOERUN_BROKEN_LAYER + layer, t,
             session->x + (size_t)t * H, H, marked != NULL && marked[t]);
  }
}

/* ---- Embedding and rotary angles -------------------------------------------- */

static void embed(moerun_session *session, const moerun_batch *batch) {
  const size_t H = (size_t)session->model->config.hidden_width;
  const size_t half = (size_t)session->model->config.head_dim / 2;
  for (size_t t = 0; t < (size_t)batch->num_tokens; t++) {
    moerun__weight_row(session->x + t * H, &session->model->embedding,
                       batch->token[t]);
    for (size_t i = 0; i < half; i++) {
      double s = 0;
      double c = 0;
      moerun__exact_sincos(
          (double)batch->position[t] * session->inverse_frequency[i], &s, &c);
      session->sine[t * half + i] = (float)s;
      session->cosine[t * half + i] = (float)c;
    }
  }
  moerun__stage_end(&session->stats, MOERUN_STAGE_EMBED);
}

/* ---- Attention -------------------------------------------------------------- */

typedef struct qkv_layout {
  size_t width; /* floats of a row: q heads, k heads, v heads */
  size_t k;     /* where k starts */
  size_t v;
} qkv_layout;

static qkv_layout layout_of(const moerun__model_config *config) {
  const size_t q = (size_t)config->num_heads * (size_t)config->head_dim;
  const size_t kv = (size_t)config->num_kv_heads * (size_t)config->head_dim;
  return (qkv_layout){q + 2 * kv, q, q + kv};
}

/* Each head's norm sees head_dim values of a row: rows of heads, head by head. */
static void norm_heads(const moerun_session *session, float *first_head,
                       size_t row_stride, int32_t num_heads, const float *scale,
                       int32_t T) {
  const moerun__model_config *config = &session->model->config;
  for (int32_t head = 0; head < num_heads; head++) {
    float *x = first_head + (size_t)head * (size_t)config->head_dim;
    session->kernels->rmsnorm(x, row_stride, x, row_stride, scale, T,
                              config->head_dim, (float)config->norm_eps);
  }
}

static void norm_qk(const moerun_session *session, const moerun__layer *layer,
                    int32_t T) {
  const moerun__model_config *config = &session->model->config;
  const qkv_layout at = layout_of(config);
  float *q = session->qkv;
  float *k = session->qkv + at.k;
  const float eps = (float)config->norm_eps;
  switch (config->qk_norm) {
  case MOERUN_QK_NORM_NONE: break;
  case MOERUN_QK_NORM_HEAD:
    norm_heads(session, q, at.width, config->num_heads, layer->q_norm, T);
    norm_heads(session, k, at.width, config->num_kv_heads, layer->k_norm, T);
    break;
  case MOERUN_QK_NORM_WHOLE:
    session->kernels->rmsnorm(q, at.width, q, at.width, layer->q_norm, T,
                              (int32_t)at.k, eps);
    session->kernels->rmsnorm(k, at.width, k, at.width, layer->k_norm, T,
                              (int32_t)(at.v - at.k), eps);
    break;
  }
}

static void clip(float *x, size_t count, float limit) {
  for (size_t i = 0; i < count; i++) {
    if (x[i] > limit) x[i] = limit;
    if (x[i] < -limit) x[i] = -limit;
  }
}

static void add_bias(const moerun_session *session, const float *bias,
                     size_t width, int32_t T) {
  if (bias == NULL) return;
  for (size_t t = 0; t < (size_t)T; t++) {
    session->kernels->add(session->qkv + t * width, bias, width);
  }
}

static void attention(moerun_session *session, int32_t layer_index,
                      const moerun_batch *batch) {
  const moerun__kernels *kernels = session->kernels;
  const moerun__model_config *config = &session->model->config;
  const moerun__layer *layer = &session->model->layers[layer_index];
  const qkv_layout at = layout_of(config);
  const size_t H = (size_t)config->hidden_width;
  const int32_t T = batch->num_tokens;
  kernels->rmsnorm(session->h, H, session->x, H, layer->attention_norm, T,
                   (int32_t)H, (float)config->norm_eps);
  session->linear(session->qkv, at.width, session->h, H, T, &layer->qkv,
                  session->scratch);
  add_bias(session, layer->qkv_bias, at.width, T);
  note_rows(session, MOERUN_BROKEN_LAYER + layer_index, session->qkv, at.width,
            T);
  norm_qk(session, layer, T);
  if (config->clip_qkv > 0) { /* after the norms, as OLMoE has it */
    clip(session->qkv, (size_t)T * at.width, (float)config->clip_qkv);
  }
  kernels->rope(session->qkv, at.width, session->cosine, session->sine, T,
                config->num_heads, config->head_dim);
  kernels->rope(session->qkv + at.k, at.width, session->cosine, session->sine,
                T, config->num_kv_heads, config->head_dim);
  for (int32_t t = 0; t < T;) {
    const int32_t count = run_length(batch, t);
    const moerun__kv_view view =
        moerun__kv_view_of(&session->kv, layer_index, batch->sequence[t]);
    float *rows = session->qkv + (size_t)t * at.width;
    for (int32_t i = 0; i < count; i++) {
      const float *row = rows + (size_t)i * at.width;
      moerun__kv_store(&view, &session->kv.shape, batch->position[t + i],
                       row + at.k, row + at.v);
    }
    kernels->attention(session->mixed + (size_t)t * at.k, rows, at.width, count,
                       batch->position[t], &view, &session->kv.shape,
                       session->scratch);
    t += count;
  }
  session->linear(session->h, H, session->mixed, at.k, T, &layer->attention_out,
                  session->scratch);
  kernels->add(session->x, session->h, (size_t)T * H);
  moerun__stage_end(&session->stats, MOERUN_STAGE_ATTENTION);
}

/* ---- Feed-forward ------------------------------------------------------------- */

static void dense_ffn(moerun_session *session, const moerun__layer *layer,
                      int32_t T) {
  const moerun__kernels *kernels = session->kernels;
  const size_t H = (size_t)session->model->config.hidden_width;
  const size_t F = (size_t)session->model->config.dense_width;
  float *gate_up = session->dense;
  float *h = session->dense + 2 * (size_t)MOERUN_FFN_TILE * F;
  for (int32_t t = 0; t < T; t += MOERUN_FFN_TILE) {
    const int32_t M = T - t < MOERUN_FFN_TILE ? T - t : MOERUN_FFN_TILE;
    float *rows = session->h + (size_t)t * H;
    session->linear(gate_up, 2 * F, rows, H, M, layer->gate_up,
                    session->scratch);
    kernels->swiglu(h, gate_up, M, (int32_t)F);
    session->linear(rows, H, h, F, M, layer->down, session->scratch);
  }
  kernels->add(session->x, session->h, (size_t)T * H);
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
  if (failed == MOERUN_OK) {
    session->kernels->rmsnorm(session->h, H, session->x, H, layer->ffn_norm, T,
                              (int32_t)H, (float)config->norm_eps);
  }
  MOERUN_TRY(moerun__moe_forward(&session->moe, layer_index, T, session->h,
                                 NULL, session->y, failed));
  session->kernels->add(session->x, session->y, (size_t)T * H);
  note_layer(session, layer_index, batch, session->moe.gate.unsound);
  if (session->trace != NULL) keep_trace(session, layer->moe_layer, T);
  moerun__stage_end(&session->stats, MOERUN_STAGE_COMBINE);
  moerun__layer_end(&session->stats);
done:
  return status;
}

/* ---- Head ------------------------------------------------------------------------ */

static void head(moerun_session *session, const moerun_batch *batch,
                 float *logits) {
  const moerun_model *model = session->model;
  const size_t H = (size_t)model->config.hidden_width;
  const size_t V = (size_t)model->config.vocab_size;
  for (int32_t i = 0; i < batch->num_logits; i++) {
    session->kernels->rmsnorm(session->h + (size_t)i * H, H,
                              session->x + (size_t)batch->logit_row[i] * H, H,
                              model->final_norm, 1, (int32_t)H,
                              (float)model->config.norm_eps);
  }
  session->linear(logits, V, session->h, H, batch->num_logits, &model->head,
                  session->scratch);
  for (int32_t i = 0; i < batch->num_logits; i++) {
    int32_t *broken = &session->broken[batch->logit_row[i]];
    if (*broken == MOERUN_BROKEN_NOT &&
        !moerun__all_sound(logits + (size_t)i * V, V)) {
      *broken = MOERUN_BROKEN_HEAD;
    }
  }
  moerun__stage_end(&session->stats, MOERUN_STAGE_HEAD);
}

moerun_status moerun__decoder_forward(moerun_session *session,
                                      const moerun_batch *batch, float *logits,
                                      moerun_status failed) {
  moerun_status status = MOERUN_OK;
  const moerun_model *model = session->model;
  const size_t H = (size_t)model->config.hidden_width;
  moerun__stage_begin(&session->stats);
  moerun__moe_begin_step(&session->moe, session->stats.steps);
  session->moe.gate.tags = session->tags;
  if (session->tags.request == NULL) {
    session->moe.gate.tags = (moerun__row_tags){.request = batch->sequence,
                                                .position = batch->position};
  }
  session->stats.steps++;
  if (failed == MOERUN_OK) failed = extend_cache(session, batch);
  if (failed == MOERUN_OK) {
    embed(session, batch);
    memset(session->broken, 0,
           (size_t)batch->num_tokens * sizeof *session->broken);
    note_rows(session, MOERUN_BROKEN_EMBEDDING, session->x, H,
              batch->num_tokens);
  }
  for (int32_t l = 0; l < model->config.num_layers; l++) {
    const moerun__layer *layer = &model->layers[l];
    if (failed == MOERUN_OK) attention(session, l, batch);
    if (layer->moe_layer >= 0) {
      MOERUN_TRY(moe_block(session, l, batch, failed));
    } else if (failed == MOERUN_OK) {
      session->kernels->rmsnorm(session->h, H, session->x, H, layer->ffn_norm,
                                batch->num_tokens, (int32_t)H,
                                (float)model->config.norm_eps);
      dense_ffn(session, layer, batch->num_tokens);
      note_layer(session, l, batch, NULL);
    }
  }
  head(session, batch, logits);
done:
  return status;
}
