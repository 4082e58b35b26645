/* Grouped-query attention with rotary positions, as modeling_qwen3_moe.py and
 * its like have it (arch_rows.c names them): q, k and v are one product; a
 * bias, norms of heads and a clamp follow where the model has them; then q and
 * k are rotated, and k and v go to the cache.
 *
 * A page of the cache has the keys of its positions, then their values, each as
 * the kernels want them (kernels.h). */
#include "runtime/decoder/attention.h"

#include "runtime/base/exact_math.h"
#include "runtime/model/rope_kinds.h"

#include <string.h>

/* ---- What it reads ------------------------------------------------------- */

enum { QKV = 0, OUT, Q_NORM, K_NORM, QKV_BIAS, NUM_PARTS };

static const moerun__attention_tensor tensors[] = {
    {MOERUN_ROLE_Q, "self_attn.q_proj.weight"},
    {MOERUN_ROLE_K, "self_attn.k_proj.weight"},
    {MOERUN_ROLE_V, "self_attn.v_proj.weight"},
    {MOERUN_ROLE_O, "self_attn.o_proj.weight"},
    {MOERUN_ROLE_Q_NORM, "self_attn.q_norm.weight"},
    {MOERUN_ROLE_K_NORM, "self_attn.k_norm.weight"},
    {MOERUN_ROLE_Q_BIAS, "self_attn.q_proj.bias"},
    {MOERUN_ROLE_K_BIAS, "self_attn.k_proj.bias"},
    {MOERUN_ROLE_V_BIAS, "self_attn.v_proj.bias"},
};

static const moerun__attention_part parts[NUM_PARTS] = {
    [QKV] = {MOERUN_ATTENTION_MATRIX, 0, 3, MOERUN_ROLE_QKV},
    [OUT] = {MOERUN_ATTENTION_MATRIX, 3, 1, MOERUN_ROLE_EMBEDDING},
    [Q_NORM] = {MOERUN_ATTENTION_NORM, 4, 1, MOERUN_ROLE_EMBEDDING},
    [K_NORM] = {MOERUN_ATTENTION_NORM, 5, 1, MOERUN_ROLE_EMBEDDING},
    [QKV_BIAS] = {MOERUN_ATTENTION_BIAS, 6, 3, MOERUN_ROLE_QKV_BIAS},
};

static int has(const moerun__model_config *config, int32_t part) {
  switch (part) {
  case Q_NORM:
  case K_NORM: return config->qk_norm != MOERUN_QK_NORM_NONE;
  case QKV_BIAS: return config->has_qkv_bias;
  default: return 1;
  }
}

/* Floats of a row of q heads and of one of k (or v) heads. */
static size_t q_width(const moerun__model_config *config) {
  return (size_t)config->num_heads * (size_t)config->head_dim;
}

static size_t kv_width(const moerun__model_config *config) {
  return (size_t)config->num_kv_heads * (size_t)config->head_dim;
}

static int shape_of(int64_t *shape, const moerun__model_config *config,
                    moerun__role role) {
  const int64_t H = config->hidden_width;
  const int64_t q = (int64_t)q_width(config);
  const int64_t kv = (int64_t)kv_width(config);
  const int whole = config->qk_norm == MOERUN_QK_NORM_WHOLE;
  shape[0] = 0;
  shape[1] = 0;
  shape[2] = 0;
  switch (role) {
  case MOERUN_ROLE_Q: shape[0] = q; break;
  case MOERUN_ROLE_O: shape[0] = H; break;
  case MOERUN_ROLE_Q_NORM: shape[0] = whole ? q : config->head_dim; return 1;
  case MOERUN_ROLE_K_NORM: shape[0] = whole ? kv : config->head_dim; return 1;
  case MOERUN_ROLE_Q_BIAS: shape[0] = q; return 1;
  case MOERUN_ROLE_K_BIAS:
  case MOERUN_ROLE_V_BIAS: shape[0] = kv; return 1;
  case MOERUN_ROLE_QKV: shape[0] = q + 2 * kv; break;
  case MOERUN_ROLE_QKV_BIAS: shape[0] = q + 2 * kv; return 1;
  default: shape[0] = kv; break; /* k, v */
  }
  shape[1] = role == MOERUN_ROLE_O ? q : H;
  return 2;
}

static size_t position_floats(const moerun__model_config *config) {
  return 2 * kv_width(config);
}

/* ---- What it works in ---------------------------------------------------- */

/* One of the model's rotary positions. */
typedef struct rotation {
  size_t half;     /* pairs of a head that are rotated  */
  float *cosine;   /* [T][half] of the step's positions */
  float *sine;     /* [T][half]                         */
  double *inverse; /* [half] frequencies                */
} rotation;

typedef struct gqa {
  moerun__attention_setting setting;
  moerun__attention_shape shape;
  size_t width; /* floats of a row: q heads, k heads, v heads */
  size_t k;     /* where k starts, which is how wide q is */
  size_t v;     /* where v starts */
  float *qkv;   /* [T][width] */
  float *mixed; /* [T][k] attention's output before the product with OUT */
  rotation rotation[MOERUN_MAX_ROPES]; /* those that the model has */
} gqa;

static moerun__attention_shape
kernel_shape(const moerun__model_config *config) {
  return (moerun__attention_shape){
      config->num_heads, config->num_kv_heads, config->head_dim,
      config->attention_scale > 0.0
          ? (float)config->attention_scale
          : (float)moerun__exact_pow((double)config->head_dim, -0.5)};
}

static void *lay_out(const moerun__attention_setting *setting,
                     moerun__arenas *arenas) {
  const moerun__model_config *config = setting->config;
  const size_t T = (size_t)setting->max_tokens;
  const size_t q = q_width(config);
  const size_t kv = kv_width(config);
  const size_t width = q + 2 * kv;
  moerun__arena *host = &arenas->host;
  moerun__arena *device = &arenas->device;
  gqa *work = moerun__arena_take(host, 1, sizeof *work);
  float *qkv = moerun__arena_take(device, T * width, sizeof(float));
  float *mixed = moerun__arena_take(device, T * q, sizeof(float));
  rotation taken[MOERUN_MAX_ROPES] = {{0}};
  for (int32_t i = 0; i < config->num_ropes; i++) {
    const size_t half = (size_t)config->rope[i].width / 2;
    taken[i].half = half;
    taken[i].cosine = moerun__arena_take(host, T * half, sizeof(float));
    taken[i].sine = moerun__arena_take(host, T * half, sizeof(float));
    taken[i].inverse = moerun__arena_take(host, half, sizeof(double));
  }
  if (work == NULL) return NULL;
  *work = (gqa){.setting = *setting,
                .shape = kernel_shape(config),
                .width = width,
                .k = q,
                .v = q + kv,
                .qkv = qkv,
                .mixed = mixed};
  memcpy(work->rotation, taken, sizeof taken);
  for (int32_t r = 0; r < config->num_ropes; r++) {
    for (size_t i = 0; i < taken[r].half; i++) {
      taken[r].inverse[i] =
          moerun__rope_frequency(&config->rope[r], (int32_t)i);
    }
  }
  return work;
}

static size_t scratch_floats(const moerun__attention_setting *setting) {
  const moerun__model_config *config = setting->config;
  const moerun__attention_shape shape = kernel_shape(config);
  const size_t q = q_width(config);
  const size_t H = (size_t)config->hidden_width;
  const size_t linear = moerun__linear_scratch((int32_t)(q > H ? q : H));
  const size_t scores =
      moerun__attention_scratch(&shape, setting->max_positions);
  return linear > scores ? linear : scores;
}

/* ---- A step -------------------------------------------------------------- */

/* The angles of the batch's positions. */
static void turn(const rotation *by, double amplitude,
                 const moerun_batch *batch) {
  const size_t half = by->half;
  for (size_t t = 0; t < (size_t)batch->num_tokens; t++) {
    for (size_t i = 0; i < half; i++) {
      double s = 0;
      double c = 0;
      moerun__exact_sincos((double)batch->position[t] * by->inverse[i], &s, &c);
      by->sine[t * half + i] = (float)(s * amplitude);
      by->cosine[t * half + i] = (float)(c * amplitude);
    }
  }
}

static void begin(void *context, const moerun_batch *batch) {
  gqa *work = context;
  const moerun__model_config *config = work->setting.config;
  for (int32_t i = 0; i < config->num_ropes; i++) {
    turn(&work->rotation[i], config->rope[i].amplitude, batch);
  }
}

/* Each head's norm sees head_dim values of a row: rows of heads, head by
 * head. */
static void norm_heads(const gqa *work, float *first_head, int32_t num_heads,
                       const float *scale, int32_t T) {
  const moerun__model_config *config = work->setting.config;
  for (int32_t head = 0; head < num_heads; head++) {
    float *x = first_head + (size_t)head * (size_t)config->head_dim;
    work->setting.kernels->rmsnorm(
        work->setting.queue, x, work->width, x, work->width, T,
        &(moerun__norm){scale, config->head_dim, (float)config->norm_eps});
  }
}

static void norm_qk(const gqa *work, const moerun__attention_weight *weight,
                    int32_t T) {
  const moerun__model_config *config = work->setting.config;
  const moerun__kernels *kernels = work->setting.kernels;
  const float *q_norm = weight[Q_NORM].vector;
  const float *k_norm = weight[K_NORM].vector;
  float *q = work->qkv;
  float *k = work->qkv + work->k;
  const float eps = (float)config->norm_eps;
  switch (config->qk_norm) {
  case MOERUN_QK_NORM_NONE: break;
  case MOERUN_QK_NORM_HEAD:
    norm_heads(work, q, config->num_heads, q_norm, T);
    norm_heads(work, k, config->num_kv_heads, k_norm, T);
    break;
  case MOERUN_QK_NORM_WHOLE:
    kernels->rmsnorm(work->setting.queue, q, work->width, q, work->width, T,
                     &(moerun__norm){q_norm, (int32_t)work->k, eps});
    kernels->rmsnorm(
        work->setting.queue, k, work->width, k, work->width, T,
        &(moerun__norm){k_norm, (int32_t)(work->v - work->k), eps});
    break;
  }
}

/* A row of whole heads at once, or the first part of each head. */
static void rotate_heads(const gqa *work, const rotation *by, float *first_head,
                         int32_t num_heads, int32_t T) {
  const int32_t width = work->setting.config->head_dim;
  const int32_t rotated = 2 * (int32_t)by->half;
  const int whole = rotated == width;
  const int32_t at_once = whole ? num_heads : 1;
  for (int32_t head = 0; head < num_heads; head += at_once) {
    work->setting.kernels->rope(
        work->setting.queue, first_head + (size_t)head * (size_t)width,
        work->width, by->cosine, by->sine, T, at_once, rotated);
  }
}

/* `count` rows of one sequence, from row t of the batch on. */
static void attend(const gqa *work, const moerun__attention_call *call,
                   int32_t window, int32_t t, int32_t count) {
  const moerun_batch *batch = call->batch;
  const moerun__kv_place place =
      moerun__kv_place_of(call->cache, call->layer, batch->sequence[t]);
  const moerun__kv_view view = {
      place.floats, place.floats + (work->v - work->k) * MOERUN_PAGE_POSITIONS,
      place.page_floats, place.page};
  const moerun__attention_rows rows = {
      .out = work->mixed + (size_t)t * work->k,
      .q = work->qkv + (size_t)t * work->width,
      .q_stride = work->width,
      .num_rows = count,
      .first_position = batch->position[t],
      .window = window,
  };
  const moerun__kv_rows kept = {
      .key = rows.q + work->k,
      .value = rows.q + work->v,
      .stride = work->width,
      .num_rows = count,
      .first_position = batch->position[t],
  };
  const moerun__kernels *kernels = work->setting.kernels;
  kernels->kv_store(work->setting.queue, &kept, &view, &work->shape);
  kernels->attention(work->setting.queue, &rows, &view, &work->shape,
                     call->scratch);
}

static void forward(void *context, const moerun__attention_call *call) {
  gqa *work = context;
  const moerun__model_config *config = work->setting.config;
  const moerun__attention_weight *weight = call->weight;
  const moerun__attention_layer layer =
      moerun__config_attention_layer(config, call->layer);
  const size_t H = (size_t)config->hidden_width;
  const int32_t T = call->batch->num_tokens;
  moerun__weight qkv = weight[QKV].matrix;
  qkv.bias = weight[QKV_BIAS].vector;
  work->setting.kernels->linear(work->setting.queue, work->qkv, work->width,
                                call->rows, H, T, &qkv, call->scratch);
  moerun__broken_note_rows(&call->noted, work->qkv, work->width, T);
  norm_qk(work, weight, T);
  if (config->clip_qkv > 0) { /* after the norms, as OLMoE has it */
    work->setting.kernels->clip(work->setting.queue, work->qkv,
                                (size_t)T * work->width,
                                (float)config->clip_qkv);
  }
  if (layer.rope >= 0) {
    const rotation *by = &work->rotation[layer.rope];
    rotate_heads(work, by, work->qkv, config->num_heads, T);
    rotate_heads(work, by, work->qkv + work->k, config->num_kv_heads, T);
  }
  for (int32_t t = 0; t < T;) {
    const int32_t count = moerun__batch_run(call->batch, t);
    attend(work, call, layer.window, t, count);
    t += count;
  }
  work->setting.kernels->linear(work->setting.queue, call->rows, H, work->mixed,
                                work->k, T, &weight[OUT].matrix, call->scratch);
}

static const moerun__attention_ops ops = {
    .lay_out = lay_out,
    .scratch_floats = scratch_floats,
    .begin = begin,
    .forward = forward,
};

const moerun__attention_kind moerun__attention_gqa = {
    .name = "gqa",
    .tensors = tensors,
    .num_parts = NUM_PARTS,
    .parts = parts,
    .read = moerun__arch_read_attention,
    .has = has,
    .shape = shape_of,
    .position_floats = position_floats,
    .ops = &ops,
};
