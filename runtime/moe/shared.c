#include "runtime/moe/shared.h"

void moerun__shared_init(moerun__shared *shared,
                         const moerun__model_config *config,
                         const moerun__kernels *kernels, moerun__queue *queue) {
  *shared =
      (moerun__shared){.config = config, .kernels = kernels, .queue = queue};
}

void moerun__shared_lay_out(moerun__shared *shared, moerun__arena *arena,
                            int32_t max_tokens, int32_t tile) {
  const size_t T = (size_t)max_tokens;
  const size_t H = (size_t)shared->config->hidden_width;
  const size_t width = (size_t)shared->config->shared_width;
  const size_t rows = (size_t)tile;
  if (width == 0) return;
  const size_t gate_up = (size_t)moerun__gate_up_outputs(
      shared->config, shared->config->shared_width);
  shared->gate_up = moerun__arena_take(arena, rows * gate_up, sizeof(float));
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
  const float *rows = x + (size_t)first * H;
  const int32_t offset[] = {0, count};
  const moerun__ffn ffn = {
      .y = shared->y + (size_t)first * H,
      .y_stride = H,
      .x = rows,
      .x_stride = H,
      .num_experts = 1,
      .expert = &layer->shared,
      .offset = offset,
      .room = {count, shared->gate_up, shared->h, scratch},
  };
  shared->kernels->ffn(shared->queue, &ffn);
  if (!shared->config->shared_is_weighted) return;
  float *weight = shared->weight + first;
  shared->kernels->linear(shared->queue, weight, 1, rows, H, count,
                          &layer->shared_weight, scratch);
  shared->kernels->sigmoid(shared->queue, weight, weight, (size_t)count);
}

void moerun__shared_add(const moerun__shared *shared, float *y, int32_t first,
                        int32_t count) {
  const size_t at = (size_t)first * (size_t)shared->config->hidden_width;
  const int weighted = shared->config->shared_is_weighted;
  shared->kernels->add_rows(shared->queue, y + at, shared->y + at,
                            weighted ? shared->weight + first : NULL, count,
                            shared->config->hidden_width);
}
