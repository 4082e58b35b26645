/* Sixteen floats in plain C. */
#ifndef MOERUN_KERNELS_LANES_PORTABLE_H
#define MOERUN_KERNELS_LANES_PORTABLE_H

typedef struct lanes {
  float v[LANES];
} lanes;

#define EACH_LANE(expression)                                                  \
  do {                                                                         \
    for (int l = 0; l < LANES; l++) {                                          \
      r.v[l] = (expression);                                                   \
    }                                                                          \
  } while (0)

static inline lanes lanes_set(float value) {
  lanes r;
  EACH_LANE(value);
  return r;
}

static inline lanes lanes_load(const float *p) {
  lanes r;
  EACH_LANE(p[l]);
  return r;
}

static inline lanes lanes_load_part(const float *p, int count) {
  lanes r;
  EACH_LANE(l < count ? p[l] : 0.0F);
  return r;
}

static inline void lanes_store(float *p, lanes a) {
  for (int l = 0; l < LANES; l++) {
    p[l] = a.v[l];
  }
}

static inline void lanes_store_part(float *p, lanes a, int count) {
  for (int l = 0; l < count; l++) {
    p[l] = a.v[l];
  }
}

static inline lanes lanes_load_bf16_part(const uint16_t *p, int count) {
  lanes r;
  EACH_LANE(l < count ? moerun__bf16_to_f32(p[l]) : 0.0F);
  return r;
}

static inline lanes lanes_load_bf16(const uint16_t *p) {
  return lanes_load_bf16_part(p, LANES);
}

static inline void lanes_store_bf16_part(uint16_t *p, lanes a, int count) {
  for (int l = 0; l < count; l++) {
    p[l] = moerun__f32_to_bf16(a.v[l]);
  }
}

static inline void lanes_store_bf16(uint16_t *p, lanes a) {
  lanes_store_bf16_part(p, a, LANES);
}

static inline lanes lanes_add(lanes a, lanes b) {
  lanes r;
  EACH_LANE(a.v[l] + b.v[l]);
  return r;
}

static inline lanes lanes_sub(lanes a, lanes b) {
  lanes r;
  EACH_LANE(a.v[l] - b.v[l]);
  return r;
}

static inline lanes lanes_mul(lanes a, lanes b) {
  lanes r;
  EACH_LANE(a.v[l] * b.v[l]);
  return r;
}

static inline lanes lanes_div(lanes a, lanes b) {
  lanes r;
  EACH_LANE(a.v[l] / b.v[l]);
  return r;
}

static inline lanes lanes_fma(lanes a, lanes b, lanes c) {
  lanes r;
  EACH_LANE(fmaf(a.v[l], b.v[l], c.v[l]));
  return r;
}

static inline lanes lanes_fms(lanes a, lanes b, lanes c) {
  lanes r;
  EACH_LANE(fmaf(a.v[l], b.v[l], -c.v[l]));
  return r;
}

static inline lanes lanes_max(lanes a, lanes b) {
  lanes r;
  EACH_LANE(a.v[l] > b.v[l] ? a.v[l] : b.v[l]);
  return r;
}

static inline lanes lanes_min(lanes a, lanes b) {
  lanes r;
  EACH_LANE(a.v[l] < b.v[l] ? a.v[l] : b.v[l]);
  return r;
}

static inline lanes lanes_keep(lanes a, int count, float rest) {
  lanes r;
  EACH_LANE(l < count ? a.v[l] : rest);
  return r;
}

static inline lanes lanes_exponent(lanes a) {
  lanes r;
  EACH_LANE(moerun__bits_to_f32(moerun__f32_to_bits(a.v[l]) << 23));
  return r;
}

static inline float lanes_sum(lanes a) {
  for (int w = LANES / 2; w > 0; w /= 2) {
    for (int l = 0; l < w; l++) {
      a.v[l] += a.v[l + w];
    }
  }
  return a.v[0];
}

static inline float lanes_highest(lanes a) {
  for (int w = LANES / 2; w > 0; w /= 2) {
    for (int l = 0; l < w; l++) {
      a.v[l] = a.v[l] > a.v[l + w] ? a.v[l] : a.v[l + w];
    }
  }
  return a.v[0];
}

#endif
