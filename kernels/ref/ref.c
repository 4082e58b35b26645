/* The oracle: the formulas as they are written in kernels.h, one loop per sum,
 * double accumulation, the C library's functions. Its bits may differ between
 * machines; the other sets are held to it within the tolerances of the tests.
 * Nothing here is tuned, and nothing here may be. */
#include "kernels/parts.h"
#include "kernels/plain.h"
#include "kernels/sets.h"

#include <math.h>

/* An output's weights, widened, are in scratch[D]. */
static void products(float *y, size_t y_stride, const float *x, size_t x_stride,
                     int32_t M, const moerun__weight *weight, float *scratch,
                     int rounded) {
  const int32_t D = weight->num_inputs;
  for (int32_t n = 0; n < weight->num_outputs; n++) {
    moerun__weight_row(scratch, weight, n);
    for (int32_t m = 0; m < M; m++) {
      const float *row = x + (size_t)m * x_stride;
      float *out = y + (size_t)m * y_stride + (size_t)n;
      double sum = 0;
      for (int32_t d = 0; d < D; d++) {
        const float in =
            rounded ? moerun__bf16_to_f32(moerun__f32_to_bf16(row[d])) : row[d];
        sum += (double)in * scratch[d];
      }
      *out = (float)sum;
      if (weight->bias != NULL) *out += weight->bias[n];
    }
  }
}

static void ref_swiglu(moerun__queue *queue, float *h, const float *gate_up,
                       int32_t M, int32_t F) {
  (void)queue;
  for (size_t m = 0; m < (size_t)M; m++) {
    for (size_t f = 0; f < (size_t)F; f++) {
      const double g = gate_up[m * 2 * (size_t)F + f];
      const double u = gate_up[m * 2 * (size_t)F + (size_t)F + f];
      h[m * (size_t)F + f] = (float)(g / (1 + exp(-g)) * u);
    }
  }
}

static void ref_linear(moerun__queue *queue, float *y, size_t y_stride,
                       const float *x, size_t x_stride, int32_t M,
                       const moerun__weight *weight, float *scratch) {
  products(y, y_stride, x, x_stride, M, weight, scratch, queue->rounds);
}

static void ref_ffn(moerun__queue *queue, const moerun__ffn *ffn) {
  static moerun__activate *const activate[] = {[MOERUN_EXPERT_SWIGLU] =
                                                   ref_swiglu};
  moerun__ffn_of_parts(ref_linear, activate, queue, ffn);
}

static void ref_rmsnorm(moerun__queue *queue, float *y, size_t y_stride,
                        const float *x, size_t x_stride, int32_t M,
                        const moerun__norm *norm) {
  const size_t width = (size_t)norm->width;
  (void)queue;
  for (size_t m = 0; m < (size_t)M; m++) {
    double sum = 0;
    for (size_t i = 0; i < width; i++) {
      sum += (double)x[m * x_stride + i] * x[m * x_stride + i];
    }
    const double factor = 1 / sqrt(sum / norm->width + norm->eps);
    for (size_t i = 0; i < width; i++) {
      y[m * y_stride + i] =
          (float)(x[m * x_stride + i] * factor * norm->scale[i]);
    }
  }
}

static void ref_add(moerun__queue *queue, float *y, const float *x,
                    size_t count) {
  (void)queue;
  for (size_t i = 0; i < count; i++) {
    y[i] += x[i];
  }
}

static void ref_add_rows(moerun__queue *queue, float *y, const float *x,
                         const float *factor, int32_t M, int32_t H) {
  (void)queue;
  for (size_t m = 0; m < (size_t)M; m++) {
    const double times = factor == NULL ? 1.0 : (double)factor[m];
    for (size_t i = m * (size_t)H; i < (m + 1) * (size_t)H; i++) {
      y[i] = (float)(y[i] + times * x[i]);
    }
  }
}

static void ref_rope(moerun__queue *queue, float *x, size_t x_stride,
                     const float *cosine, const float *sine, int32_t M,
                     int32_t num_heads, int32_t head_dim) {
  (void)queue;
  const size_t half = (size_t)head_dim / 2;
  for (size_t m = 0; m < (size_t)M; m++) {
    for (size_t head = 0; head < (size_t)num_heads; head++) {
      float *row = x + m * x_stride + head * (size_t)head_dim;
      for (size_t i = 0; i < half; i++) {
        const double c = cosine[m * half + i];
        const double s = sine[m * half + i];
        const double a = row[i];
        const double b = row[half + i];
        row[i] = (float)(a * c - b * s);
        row[half + i] = (float)(b * c + a * s);
      }
    }
  }
}

static void ref_softmax(float *p, const float *logits, int32_t n,
                        float inverse_temperature) {
  double highest = -HUGE_VAL;
  double sum = 0;
  for (int32_t i = 0; i < n; i++) {
    highest = fmax(highest, (double)logits[i] * inverse_temperature);
  }
  for (int32_t i = 0; i < n; i++) {
    sum += exp((double)logits[i] * inverse_temperature - highest);
  }
  for (int32_t i = 0; i < n; i++) {
    p[i] =
        (float)(exp((double)logits[i] * inverse_temperature - highest) / sum);
  }
}

/* What a head of a row attends to. */
typedef struct seen {
  int32_t first;
  int32_t last;
  int32_t kv_head;
  const float *sink; /* or NULL */
} seen;

/* softmax(q.k * scale) v. The scratch of 12 floats a position holds a double
 * each. */
static void attend(float *out, const float *q, const seen *of,
                   const moerun__kv_view *view,
                   const moerun__attention_shape *shape, double *score) {
  const size_t width = (size_t)shape->head_dim;
  const size_t block = (size_t)of->kv_head * width * MOERUN_PAGE_POSITIONS;
  double highest = of->sink != NULL ? (double)*of->sink : -HUGE_VAL;
  for (int32_t t = of->first; t <= of->last; t++) {
    const size_t page = (size_t)view->page[t / MOERUN_PAGE_POSITIONS];
    const float *key = view->keys + page * view->page_stride + block +
                       t % MOERUN_PAGE_POSITIONS;
    score[t] = 0;
    for (size_t d = 0; d < width; d++) {
      score[t] += (double)q[d] * key[d * MOERUN_PAGE_POSITIONS];
    }
    score[t] *= shape->scale;
    highest = fmax(highest, score[t]);
  }
  double sum = of->sink != NULL ? exp(*of->sink - highest) : 0;
  for (int32_t t = of->first; t <= of->last; t++) {
    score[t] = exp(score[t] - highest);
    sum += score[t];
  }
  for (size_t d = 0; d < width; d++) {
    double mixed = 0;
    for (int32_t t = of->first; t <= of->last; t++) {
      const size_t page = (size_t)view->page[t / MOERUN_PAGE_POSITIONS];
      const size_t slot = (size_t)(t % MOERUN_PAGE_POSITIONS);
      mixed +=
          score[t] *
          view->values[page * view->page_stride + block + slot * width + d];
    }
    out[d] = (float)(mixed / sum);
  }
}

static void ref_attention(moerun__queue *queue,
                          const moerun__attention_rows *rows,
                          const moerun__kv_view *view,
                          const moerun__attention_shape *shape,
                          float *scratch) {
  const int32_t group = shape->num_heads / shape->num_kv_heads;
  const size_t width = (size_t)shape->head_dim;
  float *out = rows->out;
  (void)queue;
  for (int32_t m = 0; m < rows->num_rows; m++) {
    const int32_t last = rows->first_position + m;
    const int32_t first = moerun__first_seen(last, rows->window);
    for (int32_t head = 0; head < shape->num_heads; head++) {
      const float *sink = rows->sinks != NULL ? rows->sinks + head : NULL;
      attend(out, rows->q + (size_t)m * rows->q_stride + (size_t)head * width,
             &(seen){first, last, head / group, sink}, view, shape,
             (double *)(void *)scratch);
      out += width;
    }
  }
}

static void ref_sigmoid(moerun__queue *queue, float *p, const float *x,
                        size_t count) {
  (void)queue;
  for (size_t i = 0; i < count; i++) {
    p[i] = (float)(1 / (1 + exp(-(double)x[i])));
  }
}

/* What experts are chosen by. */
typedef struct choice {
  const float *score;
  const float *bias;  /* or NULL */
  int32_t group_size; /* 0: no groups */
  uint64_t open;      /* bit g: those of group g may be chosen */
} choice;

static double rank_of(const choice *by, int32_t e) {
  const double bias = by->bias == NULL ? 0.0 : (double)by->bias[e];
  return (float)(by->score[e] + bias);
}

/* Whether rank a of the lower id stays ahead of rank b. */
static int stays_ahead(double a, double b) {
  return isnan(b) || a >= b;
}

/* The best of first .. last - 1 that is not yet in id[0 .. found - 1]. */
static int32_t next_best(const choice *by, int32_t first, int32_t last,
                         const int32_t *id, int32_t found) {
  int32_t best = -1;
  for (int32_t e = first; e < last; e++) {
    int taken = by->group_size > 0 && !(by->open >> e / by->group_size & 1);
    for (int32_t j = 0; j < found; j++) {
      taken |= id[j] == e;
    }
    if (taken) continue;
    if (best < 0 || !stays_ahead(rank_of(by, best), rank_of(by, e))) best = e;
  }
  return best;
}

static uint64_t best_groups(const choice *by, int32_t E,
                            const moerun__gate_rule *rule) {
  const int32_t size = E / rule->num_groups;
  float sum[MOERUN_MAX_GROUPS] = {0};
  const choice by_sum = {.score = sum};
  int32_t best[MOERUN_MAX_GROUPS];
  uint64_t open = 0;
  for (int32_t g = 0; g < rule->num_groups; g++) {
    int32_t two[2];
    two[0] = next_best(by, g * size, (g + 1) * size, two, 0);
    two[1] = next_best(by, g * size, (g + 1) * size, two, 1);
    sum[g] = (float)(rank_of(by, two[0]) + rank_of(by, two[1]));
  }
  for (int32_t i = 0; i < rule->best_groups; i++) {
    best[i] = next_best(&by_sum, 0, rule->num_groups, best, i);
    open |= (uint64_t)1 << best[i];
  }
  return open;
}

static void ref_gate(moerun__queue *queue, const moerun__choice *out,
                     float *logits, int32_t M, int32_t E,
                     const moerun__gate_rule *rule, const float *bias) {
  const int32_t K = out->K;
  const int grouped = rule->num_groups > 1;
  const int by_logits = !grouped && bias == NULL;
  for (int32_t m = 0; m < M; m++) {
    float *row = logits + (size_t)m * (size_t)E;
    int32_t *id = out->ids + (size_t)m * (size_t)K;
    float *w = out->weight + (size_t)m * (size_t)K;
    choice by = {.score = row, .bias = bias};
    for (int32_t j = 0; by_logits && j < K; j++) {
      id[j] = next_best(&by, 0, E, id, j);
    }
    if (rule->score == MOERUN_SCORE_SIGMOID) {
      ref_sigmoid(queue, row, row, (size_t)E);
    } else {
      ref_softmax(row, row, E, 1.0F);
    }
    if (grouped) {
      by.open = best_groups(&by, E, rule);
      by.group_size = E / rule->num_groups;
    }
    for (int32_t j = 0; !by_logits && j < K; j++) {
      id[j] = next_best(&by, 0, E, id, j);
    }
    double sum = 0;
    for (int32_t j = 0; j < K; j++) {
      sum += row[id[j]];
    }
    for (int32_t j = 0; j < K; j++) {
      const double part = rule->renormalise ? sum + 1e-20 : 1.0;
      w[j] = (float)(row[id[j]] / part * rule->scale);
    }
  }
}

static char *wire_row(const moerun__wire_rows *rows, int32_t index) {
  return (char *)rows->base + (size_t)index * rows->stride_bytes;
}

static void ref_gather(moerun__queue *queue, float *x,
                       const moerun__wire_rows *rows, const int32_t *index,
                       int32_t M, int32_t H) {
  (void)queue;
  for (size_t m = 0; m < (size_t)M; m++) {
    moerun__widen(x + m * (size_t)H, rows->dtype, wire_row(rows, index[m]), 0,
                  (size_t)H);
  }
}

static void ref_scatter(moerun__queue *queue, const moerun__wire_rows *rows,
                        const int32_t *index, const float *x, int32_t M,
                        int32_t H) {
  (void)queue;
  for (size_t m = 0; m < (size_t)M; m++) {
    moerun__narrow(wire_row(rows, index[m]), rows->dtype, 0, x + m * (size_t)H,
                   (size_t)H);
  }
}

static void ref_dispatch(moerun__queue *queue, const moerun__wire_rows *rows,
                         const moerun__dispatch *what) {
  moerun__dispatch_of_parts(ref_scatter, queue, rows, what);
}

static void ref_combine(moerun__queue *queue, float *y,
                        const moerun__wire_rows *rows, const int32_t *index,
                        const float *weight, int32_t T, int32_t K, int32_t H) {
  (void)queue;
  for (size_t t = 0; t < (size_t)T; t++) {
    for (size_t i = 0; i < (size_t)H; i++) {
      double sum = 0;
      for (size_t j = 0; j < (size_t)K; j++) {
        const int32_t row = index[t * (size_t)K + j];
        if (row < 0) continue;
        sum += (double)weight[t * (size_t)K + j] *
               moerun__element(wire_row(rows, row), rows->dtype, i);
      }
      y[t * (size_t)H + i] = (float)sum;
    }
  }
}

const moerun__kernels moerun__kernels_ref = {
    .name = "ref",
    .linear = ref_linear,
    .ffn = ref_ffn,
    .rmsnorm = ref_rmsnorm,
    .add = ref_add,
    .add_rows = ref_add_rows,
    .rope = ref_rope,
    .attention = ref_attention,
    .gate = ref_gate,
    .softmax = ref_softmax,
    .sigmoid = ref_sigmoid,
    .gather = ref_gather,
    .scatter = ref_scatter,
    .dispatch = ref_dispatch,
    .combine = ref_combine,
    .embed = moerun__plain_embed,
    .kv_store = moerun__plain_kv_store,
    .clip = moerun__plain_clip,
    .note_unsound = moerun__plain_note_unsound,
};
