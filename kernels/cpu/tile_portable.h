/* A tile of `linear` in plain C: the panel is widened input by input. */
#ifndef MOERUN_KERNELS_TILE_PORTABLE_H
#define MOERUN_KERNELS_TILE_PORTABLE_H

enum { TILE_ROWS = 4, STREAM_ROWS = 4, HAS_PAIRS = 0 };

static int tile_panels(int rows) {
  (void)rows;
  return 1;
}

static inline float weight_at(const char *panel, moerun__dtype dtype,
                              size_t i) {
  const uint16_t *half = (const uint16_t *)(const void *)panel;
  if (dtype == MOERUN_DTYPE_F32) return ((const float *)(const void *)panel)[i];
  return dtype == MOERUN_DTYPE_BF16 ? moerun__bf16_to_f32(half[i])
                                    : moerun__f16_to_f32(half[i]);
}

static void run_tile(const linear_tile *job, moerun__dtype dtype, int rows,
                     int panels) {
  float sum[TILE_ROWS][MOERUN_PANEL] = {{0}};
  const size_t columns = (size_t)job->columns;
  const int by_hand = FLUSH_BY_HAND && job->rounded;
  (void)panels;
  for (int r = 0; r < rows && job->resume; r++) {
    memcpy(sum[r], job->y + (size_t)r * job->y_stride, columns * sizeof(float));
  }
  for (size_t k = 0; k < job->count; k++) {
    float w[MOERUN_PANEL];
    for (size_t n = 0; n < MOERUN_PANEL; n++) {
      w[n] = weight_at(job->panel, dtype, k * MOERUN_PANEL + n);
      if (by_hand) w[n] = flushed(w[n]);
    }
    for (int r = 0; r < rows; r++) {
      float x = job->x[k * (size_t)rows + (size_t)r];
      if (by_hand) x = flushed(x);
      for (size_t n = 0; n < MOERUN_PANEL; n++) {
        sum[r][n] = fmaf(x, w[n], sum[r][n]);
        if (by_hand) sum[r][n] = flushed(sum[r][n]);
      }
    }
  }
  for (int r = 0; r < rows; r++) {
    memcpy(job->y + (size_t)r * job->y_stride, sum[r], columns * sizeof(float));
  }
}

#endif
