#include "runtime/moe/shared.h"

void moerun__shared_lay_out(moerun__shared *shared, moerun__arena *arena,
                            int32_t max_tokens, int32_t tile) {
  const size_t T = (size_t)max_tokens;
  const size_t H = (size_t)shared->config->hidden_width;
  const size_t width = (size_t)shared->config->shared_width;
  const size_t rows = (size_t)tile;
  if (width == 0) return;
  shared->gate_up = moerun__arena_take(arena, rows * 2 * width, sizeof(float));
  shared->h = moerun__arena_take(arena, rows * width, sizeof(float));
  shared->y = moerun__arena_take(arena, T * H, sizeof(float));
  if (shared->config->shared_is_weighted) {
    shared->weight = moerun__arena_take(arena, T, sizeof(float));
  }
}

void moerun__shared_compute(moerun__shared *shared, const moerun__layer *layer,
                            const float *x, int32_t first, int32_t count,
                            float *scratch) {
  const size_t H = (size_t)shared->config->hidden_width;
  const int32_t width = shared->config->shared_width;
  const size_t F = (size_t)width;
  const float *rows = x + (size_t)first * H;
  shared->linear(shared->gate_up, 2 * F, rows, H, count, &layer->shared.gate_up,
                 scratch);
  shared->kernels->swiglu(shared->h, shared->gate_up, count, width);
  shared->linear(shared->y + (size_t)first * H, H, shared->h, F, count,
                 &layer->shared.down, scratch);
  if (!shared->config->shared_is_weighted) return;
  float *weight = shared->weight + first;
  shared->linear(weight, 1, rows, H, count, &layer->shared_weight, scratch);
  shared->kernels->sigmoid(weight, weight, (size_t)count);
}

void moerun__shared_add(const moerun__shared *shared, float *y, int32_t first,
                        int32_t count) {
  const size_t at = (size_t)first * (size_t)shared->config->hidden_width;
  const int weighted = shared->config->shared_is_weighted;
  if (shared->config->shared_width == 0) return;
  shared->kernels->add_rows(y + at, shared->y + at,
                            weighted ? shared->weight + first : NULL, count,
                            shared->config->hidden_width);
}
