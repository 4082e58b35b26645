/* Operations on single rows: norms, rotary embedding, SwiGLU, softmax, gate,
 * and the rows of the wire. Whole lanes first, then one masked part. */
#ifndef MOERUN_KERNELS_ROWS_H
#define MOERUN_KERNELS_ROWS_H

#include "kernels/cpu/lanes.h"
#include "kernels/parts.h"

/* Lanes left from element i of count: LANES, or fewer in the last part. */
static inline int lanes_left(size_t count, size_t i) {
  return count - i < LANES ? (int)(count - i) : LANES;
}

/* The same loads and stores with the common case of whole lanes first. */
static inline lanes lanes_fetch(const float *p, int left) {
  return left == LANES ? lanes_load(p) : lanes_load_part(p, left);
}

static inline void lanes_put(float *p, lanes a, int left) {
  if (left == LANES) {
    lanes_store(p, a);
  } else {
    lanes_store_part(p, a, left);
  }
}

static inline lanes lanes_fetch_wire(const char *row, moerun__dtype dtype,
                                     size_t i, int left) {
  if (dtype == MOERUN_DTYPE_F32) {
    return lanes_fetch((const float *)(const void *)row + i, left);
  }
  if (dtype == MOERUN_DTYPE_BF16) {
    const uint16_t *p = (const uint16_t *)(const void *)row + i;
    return left == LANES ? lanes_load_bf16(p) : lanes_load_bf16_part(p, left);
  }
  float wide[LANES] = {0};
  moerun__widen(wide, dtype, row, i, (size_t)left);
  return lanes_load(wide);
}

static inline char *wire_row(const moerun__wire_rows *rows, int32_t index) {
  return (char *)rows->base + (size_t)index * rows->stride_bytes;
}

static void set_swiglu(moerun__queue *queue, float *h, const float *gate_up,
                       int32_t M, int32_t F) {
  (void)queue;
  const size_t width = (size_t)F;
  const lanes one = lanes_set(1.0F);
  for (size_t m = 0; m < (size_t)M; m++) {
    const float *gate = gate_up + m * 2 * width;
    const float *up = gate + width;
    for (size_t f = 0; f < width; f += LANES) {
      const int left = lanes_left(width, f);
      const lanes g = lanes_fetch(gate + f, left);
      const lanes e = lanes_exp(lanes_sub(lanes_set(0.0F), g));
      const lanes silu = lanes_div(g, lanes_add(one, e));
      lanes_put(h + m * width + f, lanes_mul(silu, lanes_fetch(up + f, left)),
                left);
    }
  }
}

static void set_rmsnorm(moerun__queue *queue, float *y, size_t y_stride,
                        const float *x, size_t x_stride, int32_t M,
                        const moerun__norm *norm) {
  const size_t width = (size_t)norm->width;
  (void)queue;
  for (size_t m = 0; m < (size_t)M; m++) {
    const float *row = x + m * x_stride;
    lanes squares = lanes_set(0.0F);
    for (size_t i = 0; i < width; i += LANES) {
      const int left = lanes_left(width, i);
      const lanes a = lanes_fetch(row + i, left);
      squares = lanes_fma(a, a, squares);
    }
    const float mean = lanes_sum(squares) / (float)norm->width;
    const lanes factor = lanes_set(1.0F / sqrtf(mean + norm->eps));
    for (size_t i = 0; i < width; i += LANES) {
      const int left = lanes_left(width, i);
      const lanes a = lanes_mul(lanes_fetch(row + i, left), factor);
      lanes_put(y + m * y_stride + i,
                lanes_mul(a, lanes_fetch(norm->scale + i, left)), left);
    }
  }
}

static inline void add_up(float *y, const float *x, size_t count) {
  for (size_t i = 0; i < count; i += LANES) {
    const int left = lanes_left(count, i);
    lanes_put(y + i,
              lanes_add(lanes_fetch(y + i, left), lanes_fetch(x + i, left)),
              left);
  }
}

static void set_add(moerun__queue *queue, float *y, const float *x,
                    size_t count) {
  (void)queue;
  add_up(y, x, count);
}

static void set_add_rows(moerun__queue *queue, float *y, const float *x,
                         const float *factor, int32_t M, int32_t H) {
  (void)queue;
  const size_t width = (size_t)H;
  for (size_t m = 0; m < (size_t)M; m++) {
    const lanes times = lanes_set(factor == NULL ? 1.0F : factor[m]);
    for (size_t i = 0; i < width; i += LANES) {
      const int left = lanes_left(width, i);
      const lanes sum = lanes_fma(times, lanes_fetch(x + m * width + i, left),
                                  lanes_fetch(y + m * width + i, left));
      lanes_put(y + m * width + i, sum, left);
    }
  }
}

static void rope_head(float *x, const float *cosine, const float *sine,
                      size_t half) {
  for (size_t i = 0; i < half; i += LANES) {
    const int left = lanes_left(half, i);
    const lanes c = lanes_fetch(cosine + i, left);
    const lanes s = lanes_fetch(sine + i, left);
    const lanes a = lanes_fetch(x + i, left);
    const lanes b = lanes_fetch(x + half + i, left);
    lanes_put(x + i, lanes_fms(a, c, lanes_mul(b, s)), left);
    lanes_put(x + half + i, lanes_fma(b, c, lanes_mul(a, s)), left);
  }
}

static void set_rope(moerun__queue *queue, float *x, size_t x_stride,
                     const float *cosine, const float *sine, int32_t M,
                     int32_t num_heads, int32_t head_dim) {
  (void)queue;
  const size_t half = (size_t)head_dim / 2;
  for (size_t m = 0; m < (size_t)M; m++) {
    for (size_t head = 0; head < (size_t)num_heads; head++) {
      rope_head(x + m * x_stride + head * 2 * half, cosine + m * half,
                sine + m * half, half);
    }
  }
}

/* p = exp(x * factor - max), returns the sum; p may be x. sink: one more of
 * those products, or NULL: it counts for both, and its exponential is added
 * last. */
static float exponentials(float *p, const float *x, size_t count, float factor,
                          const float *sink) {
  const lanes times = lanes_set(factor);
  lanes highest = lanes_set(sink != NULL ? *sink : -HUGE_VALF);
  for (size_t i = 0; i < count; i += LANES) {
    const int left = lanes_left(count, i);
    const lanes a = lanes_mul(lanes_fetch(x + i, left), times);
    highest = lanes_max(highest, lanes_keep(a, left, -HUGE_VALF));
  }
  const lanes top = lanes_set(lanes_highest(highest));
  lanes sum = lanes_set(0.0F);
  for (size_t i = 0; i < count; i += LANES) {
    const int left = lanes_left(count, i);
    const lanes a = lanes_mul(lanes_fetch(x + i, left), times);
    const lanes e = lanes_exp(lanes_sub(a, top));
    lanes_put(p + i, e, left);
    sum = lanes_add(sum, lanes_keep(e, left, 0.0F));
  }
  if (sink == NULL) return lanes_sum(sum);
  float last[LANES];
  lanes_store(last, lanes_exp(lanes_sub(lanes_set(*sink), top)));
  return lanes_sum(sum) + last[0];
}

static void set_softmax(float *p, const float *logits, int32_t n,
                        float inverse_temperature) {
  const size_t count = (size_t)n;
  const lanes sum =
      lanes_set(exponentials(p, logits, count, inverse_temperature, NULL));
  for (size_t i = 0; i < count; i += LANES) {
    const int left = lanes_left(count, i);
    lanes_put(p + i, lanes_div(lanes_fetch(p + i, left), sum), left);
  }
}

static void set_sigmoid(moerun__queue *queue, float *p, const float *x,
                        size_t count) {
  (void)queue;
  const lanes one = lanes_set(1.0F);
  for (size_t i = 0; i < count; i += LANES) {
    const int left = lanes_left(count, i);
    const lanes e =
        lanes_exp(lanes_sub(lanes_set(0.0F), lanes_fetch(x + i, left)));
    lanes_put(p + i, lanes_div(one, lanes_add(one, e)), left);
  }
}

/* Whether a score comes before one of a lower id: NaN is behind all others. */
static inline int ranks_above(float later, float earlier) {
  return later > earlier || (isnan(earlier) && !isnan(later));
}

/* What an expert is chosen by. */
static inline float rank_of(const float *score, const float *bias, int32_t e) {
  return bias == NULL ? score[e] : score[e] + bias[e];
}

/* Puts ids first .. last - 1 into id[K], the best so far and `found` of them;
 * returns how many there are then. By insertion, in ascending id: most fail the
 * first comparison, with the last of the list. */
static int32_t keep_best(int32_t *id, int32_t found, int32_t K,
                         const float *score, const float *bias, int32_t first,
                         int32_t last) {
  for (int32_t e = first; e < last; e++) {
    const float rank = rank_of(score, bias, e);
    if (found == K && !ranks_above(rank, rank_of(score, bias, id[K - 1]))) {
      continue;
    }
    int32_t j = found < K ? found++ : K - 1;
    for (; j > 0 && ranks_above(rank, rank_of(score, bias, id[j - 1])); j--) {
      id[j] = id[j - 1];
    }
    id[j] = e;
  }
  return found;
}

/* The K best of the best groups. */
static void keep_best_grouped(int32_t *id, int32_t K, const float *score,
                              const float *bias, int32_t E,
                              const moerun__gate_rule *rule) {
  const int32_t size = E / rule->num_groups;
  float sum[MOERUN_MAX_GROUPS] = {0};
  int32_t best[MOERUN_MAX_GROUPS];
  uint64_t open = 0; /* bit g: group g is among the best */
  for (int32_t g = 0; g < rule->num_groups; g++) {
    int32_t two[2];
    (void)keep_best(two, 0, 2, score, bias, g * size, (g + 1) * size);
    sum[g] = rank_of(score, bias, two[0]) + rank_of(score, bias, two[1]);
  }
  (void)keep_best(best, 0, rule->best_groups, sum, NULL, 0, rule->num_groups);
  for (int32_t i = 0; i < rule->best_groups; i++) {
    open |= (uint64_t)1 << best[i];
  }
  int32_t found = 0;
  for (int32_t g = 0; g < rule->num_groups; g++) {
    if ((open >> g & 1) == 0) continue;
    found = keep_best(id, found, K, score, bias, g * size, (g + 1) * size);
  }
}

static void gate_weights(float *w, const int32_t *id, const float *score,
                         int32_t K, const moerun__gate_rule *rule) {
  float sum = 0.0F;
  for (int32_t j = 0; j < K; j++) {
    w[j] = score[id[j]];
    sum += w[j];
  }
  sum += 1e-20F;
  for (int32_t j = 0; j < K; j++) {
    if (rule->renormalise) w[j] /= sum;
    w[j] *= rule->scale;
  }
}

static void set_gate(moerun__queue *queue, const moerun__choice *out,
                     float *logits, int32_t M, int32_t E,
                     const moerun__gate_rule *rule, const float *bias) {
  const int32_t K = out->K;
  const int grouped = rule->num_groups > 1;
  for (size_t m = 0; m < (size_t)M; m++) {
    float *row = logits + m * (size_t)E;
    int32_t *id = out->ids + m * (size_t)K;
    if (!grouped && bias == NULL) (void)keep_best(id, 0, K, row, NULL, 0, E);
    if (rule->score == MOERUN_SCORE_SIGMOID) {
      set_sigmoid(queue, row, row, (size_t)E);
    } else {
      set_softmax(row, row, E, 1.0F);
    }
    if (grouped) {
      keep_best_grouped(id, K, row, bias, E, rule);
    } else if (bias != NULL) {
      (void)keep_best(id, 0, K, row, bias, 0, E);
    }
    gate_weights(out->weight + m * (size_t)K, id, row, K, rule);
  }
}

static void set_gather(moerun__queue *queue, float *x,
                       const moerun__wire_rows *rows, const int32_t *index,
                       int32_t M, int32_t H) {
  (void)queue;
  const size_t width = (size_t)H;
  for (size_t m = 0; m < (size_t)M; m++) {
    const char *row = wire_row(rows, index[m]);
    for (size_t i = 0; i < width; i += LANES) {
      const int left = lanes_left(width, i);
      lanes_put(x + m * width + i, lanes_fetch_wire(row, rows->dtype, i, left),
                left);
    }
  }
}

static void set_scatter(moerun__queue *queue, const moerun__wire_rows *rows,
                        const int32_t *index, const float *x, int32_t M,
                        int32_t H) {
  (void)queue;
  const size_t width = (size_t)H;
  for (size_t m = 0; m < (size_t)M; m++) {
    void *row = wire_row(rows, index[m]);
    if (rows->dtype != MOERUN_DTYPE_F32 && rows->dtype != MOERUN_DTYPE_BF16) {
      moerun__narrow(row, rows->dtype, 0, x + m * width, width);
      continue;
    }
    for (size_t i = 0; i < width; i += LANES) {
      const int left = lanes_left(width, i);
      const lanes a = lanes_fetch(x + m * width + i, left);
      if (rows->dtype == MOERUN_DTYPE_F32) {
        lanes_put((float *)row + i, a, left);
      } else if (left == LANES) {
        lanes_store_bf16((uint16_t *)row + i, a);
      } else {
        lanes_store_bf16_part((uint16_t *)row + i, a, left);
      }
    }
  }
}

static void set_combine(moerun__queue *queue, float *y,
                        const moerun__wire_rows *rows, const int32_t *index,
                        const float *weight, int32_t T, int32_t K, int32_t H) {
  (void)queue;
  const size_t width = (size_t)H;
  for (size_t t = 0; t < (size_t)T; t++) {
    const int32_t *row = index + t * (size_t)K;
    const float *w = weight + t * (size_t)K;
    for (size_t i = 0; i < width; i += LANES) {
      const int left = lanes_left(width, i);
      lanes sum = lanes_set(0.0F);
      for (int32_t j = 0; j < K; j++) {
        if (row[j] < 0) continue;
        const lanes a =
            lanes_fetch_wire(wire_row(rows, row[j]), rows->dtype, i, left);
        sum = lanes_fma(lanes_set(w[j]), a, sum);
      }
      lanes_put(y + t * width + i, sum, left);
    }
  }
}

static void set_dispatch(moerun__queue *queue, const moerun__wire_rows *rows,
                         const moerun__dispatch *what) {
  moerun__dispatch_of_parts(set_scatter, queue, rows, what);
}

#endif
