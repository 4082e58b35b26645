/* The oracle: the formulas as they are written in kernels.h, one loop per sum,
 * double accumulation, the C library's functions. Its bits may differ between
 * machines; the other sets are held to it within the tolerances of the tests.
 * Nothing here is tuned, and nothing here may be. */
#include "kernels/sets.h"

#include <math.h>

static void products(float *y, size_t y_stride, const float *x, size_t x_stride,
                     int32_t M, const moerun__weight *weight, int rounded) {
  const int32_t D = weight->num_inputs;
  for (int32_t m = 0; m < M; m++) {
    const float *row = x + (size_t)m * x_stride;
    for (int32_t n = 0; n < weight->num_outputs; n++) {
      const size_t lane = (size_t)n % MOERUN_PANEL;
      const size_t start = ((size_t)n - lane) * (size_t)D + lane;
      double sum = 0;
      for (int32_t d = 0; d < D; d++) {
        const float in =
            rounded ? moerun__bf16_to_f32(moerun__f32_to_bf16(row[d])) : row[d];
        sum += (double)in * moerun__element(weight->panels, weight->dtype,
                                            start + (size_t)d * MOERUN_PANEL);
      }
      y[(size_t)m * y_stride + (size_t)n] = (float)sum;
    }
  }
}

static void ref_linear(float *y, size_t y_stride, const float *x,
                       size_t x_stride, int32_t M, const moerun__weight *weight,
                       float *scratch) {
  (void)scratch;
  products(y, y_stride, x, x_stride, M, weight, 0);
}

static void ref_linear_bf16(float *y, size_t y_stride, const float *x,
                            size_t x_stride, int32_t M,
                            const moerun__weight *weight, float *scratch) {
  (void)scratch;
  products(y, y_stride, x, x_stride, M, weight, 1);
}

static void ref_swiglu(float *h, const float *gate_up, int32_t M, int32_t F) {
  for (size_t m = 0; m < (size_t)M; m++) {
    for (size_t f = 0; f < (size_t)F; f++) {
      const double g = gate_up[m * 2 * (size_t)F + f];
      const double u = gate_up[m * 2 * (size_t)F + (size_t)F + f];
      h[m * (size_t)F + f] = (float)(g / (1 + exp(-g)) * u);
    }
  }
}

static void ref_rmsnorm(float *y, size_t y_stride, const float *x,
                        size_t x_stride, const float *scale, int32_t M,
                        int32_t width, float eps) {
  for (size_t m = 0; m < (size_t)M; m++) {
    double sum = 0;
    for (size_t i = 0; i < (size_t)width; i++) {
      sum += (double)x[m * x_stride + i] * x[m * x_stride + i];
    }
    const double factor = 1 / sqrt(sum / width + eps);
    for (size_t i = 0; i < (size_t)width; i++) {
      y[m * y_stride + i] = (float)(x[m * x_stride + i] * factor * scale[i]);
    }
  }
}

static void ref_add(float *y, const float *x, size_t count) {
  for (size_t i = 0; i < count; i++) {
    y[i] += x[i];
  }
}

static void ref_rope(float *x, size_t x_stride, const float *cosine,
                     const float *sine, int32_t M, int32_t num_heads,
                     int32_t head_dim) {
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

/* One head of one row: softmax(q.k * scale) v over positions 0 .. last. The
 * scratch of 12 floats a position holds a double each. */
static void attend(float *out, const float *q, int32_t last, int32_t kv_head,
                   const moerun__kv_view *view,
                   const moerun__attention_shape *shape, double *score) {
  const size_t width = (size_t)shape->head_dim;
  const size_t block = (size_t)kv_head * width * MOERUN_PAGE_POSITIONS;
  double highest = -HUGE_VAL;
  double sum = 0;
  for (int32_t t = 0; t <= last; t++) {
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
  for (int32_t t = 0; t <= last; t++) {
    score[t] = exp(score[t] - highest);
    sum += score[t];
  }
  for (size_t d = 0; d < width; d++) {
    double mixed = 0;
    for (int32_t t = 0; t <= last; t++) {
      const size_t page = (size_t)view->page[t / MOERUN_PAGE_POSITIONS];
      const size_t slot = (size_t)(t % MOERUN_PAGE_POSITIONS);
      mixed +=
          score[t] *
          view->values[page * view->page_stride + block + slot * width + d];
    }
    out[d] = (float)(mixed / sum);
  }
}

static void ref_attention(float *out, const float *q, size_t q_stride,
                          int32_t M, int32_t first_position,
                          const moerun__kv_view *view,
                          const moerun__attention_shape *shape,
                          float *scratch) {
  const int32_t group = shape->num_heads / shape->num_kv_heads;
  const size_t width = (size_t)shape->head_dim;
  for (int32_t m = 0; m < M; m++) {
    for (int32_t head = 0; head < shape->num_heads; head++) {
      attend(out, q + (size_t)m * q_stride + (size_t)head * width,
             first_position + m, head / group, view, shape,
             (double *)(void *)scratch);
      out += width;
    }
  }
}

/* Whether logit a of the lower id stays ahead of logit b. */
static int stays_ahead(float a, float b) {
  return isnan(b) || a >= b;
}

/* The id of the largest score among those not yet in id[0 .. found - 1]. */
static int32_t next_best(const float *row, int32_t E, const int32_t *id,
                         int32_t found) {
  int32_t best = -1;
  for (int32_t e = 0; e < E; e++) {
    int taken = 0;
    for (int32_t j = 0; j < found; j++) {
      taken |= id[j] == e;
    }
    if (!taken && (best < 0 || !stays_ahead(row[best], row[e]))) best = e;
  }
  return best;
}

static void ref_gate(int32_t *ids, float *weight, float *logits, int32_t M,
                     int32_t E, int32_t K, moerun__gate_rule rule) {
  for (int32_t m = 0; m < M; m++) {
    float *row = logits + (size_t)m * (size_t)E;
    int32_t *id = ids + (size_t)m * (size_t)K;
    float *w = weight + (size_t)m * (size_t)K;
    for (int32_t j = 0; j < K; j++) {
      id[j] = next_best(row, E, id, j);
    }
    ref_softmax(row, row, E, 1.0F);
    double sum = 0;
    for (int32_t j = 0; j < K; j++) {
      w[j] = row[id[j]];
      sum += w[j];
    }
    for (int32_t j = 0; j < K && rule == MOERUN_GATE_RENORMALISE; j++) {
      w[j] = (float)(w[j] / sum);
    }
  }
}

static char *wire_row(const moerun__wire_rows *rows, int32_t index) {
  return (char *)rows->base + (size_t)index * rows->stride_bytes;
}

static void ref_gather(float *x, const moerun__wire_rows *rows,
                       const int32_t *index, int32_t M, int32_t H) {
  for (size_t m = 0; m < (size_t)M; m++) {
    const char *row = wire_row(rows, index[m]);
    for (size_t i = 0; i < (size_t)H; i++) {
      x[m * (size_t)H + i] = moerun__element(row, rows->dtype, i);
    }
  }
}

static void ref_scatter(const moerun__wire_rows *rows, const int32_t *index,
                        const float *x, int32_t M, int32_t H) {
  for (size_t m = 0; m < (size_t)M; m++) {
    char *row = wire_row(rows, index[m]);
    for (size_t i = 0; i < (size_t)H; i++) {
      const float value = x[m * (size_t)H + i];
      if (rows->dtype == MOERUN_DTYPE_F32) {
        memcpy(row + 4 * i, &value, sizeof value);
      } else {
        const uint16_t half = moerun__f32_to_bf16(value);
        memcpy(row + 2 * i, &half, sizeof half);
      }
    }
  }
}

static void ref_combine(float *y, const moerun__wire_rows *rows,
                        const int32_t *index, const float *weight, int32_t T,
                        int32_t K, int32_t H) {
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
    .linear_bf16 = ref_linear_bf16,
    .swiglu = ref_swiglu,
    .rmsnorm = ref_rmsnorm,
    .add = ref_add,
    .rope = ref_rope,
    .attention = ref_attention,
    .gate = ref_gate,
    .softmax = ref_softmax,
    .gather = ref_gather,
    .scatter = ref_scatter,
    .combine = ref_combine,
};
