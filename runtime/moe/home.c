/* Zero, copy and constant experts are those of MoE++ (arXiv 2410.07348, section
 * 3.2), null experts those of AdaMoE (arXiv 2406.13233, section 3.2). MoE++
 * also adds the gate's logits of the layer before to this one's (its gating
 * residual): that is left out here.
 *
 * Only operations of the kernel table and single float operations touch the
 * numbers, so that every set gives the same bits. */
#include "runtime/moe/home.h"

#include "runtime/plan/weight.h"

#include <math.h>

void moerun__home_init(moerun__home *home, const moerun__model_config *config,
                       const moerun__kernels *kernels, moerun__queue *queue) {
  const int32_t choices = moerun__config_choices(config);
  *home = (moerun__home){.config = config,
                         .kernels = kernels,
                         .queue = queue,
                         .choices = choices,
                         .is_used = choices > config->num_experts};
}

void moerun__home_lay_out(moerun__home *home, moerun__arena *arena,
                          int32_t max_tokens) {
  const moerun__model_config *config = home->config;
  if (!home->is_used) return;
  const size_t T = (size_t)max_tokens;
  const size_t constants = (size_t)config->num_home[MOERUN_HOME_CONSTANT];
  const size_t pairs =
      constants > 0 ? T * (size_t)config->experts_per_token : 0;
  home->num_vectors = moerun__arena_take(arena, T, sizeof *home->num_vectors);
  home->vector = moerun__arena_take(arena, pairs, sizeof *home->vector);
  home->vector_weight =
      moerun__arena_take(arena, pairs, sizeof *home->vector_weight);
  home->own_weight = moerun__arena_take(arena, T, sizeof *home->own_weight);
  home->mix = moerun__arena_take(arena, T * constants * 2, sizeof *home->mix);
}

/* The kind of a choice, and its number within it; MOERUN_HOME_KINDS: placed. */
static int kind_of(const moerun__model_config *config, int32_t id,
                   int32_t *number) {
  *number = id - config->num_experts;
  if (*number < 0) return MOERUN_HOME_KINDS;
  int kind = 0;
  while (*number >= config->num_home[kind]) {
    *number -= config->num_home[kind++];
  }
  return kind;
}

/* Null experts of one row: out, and their weight to the others. */
static void leave_out_null(const moerun__model_config *config, int32_t *ids,
                           float *weight, moerun__home_counts *counts) {
  const int32_t K = config->experts_per_token;
  const double sum = moerun__weight_sum(ids, weight, K);
  int32_t found = 0;
  for (int32_t j = 0; j < K; j++) {
    int32_t number = 0;
    if (kind_of(config, ids[j], &number) != MOERUN_HOME_NULL) continue;
    ids[j] = -1;
    weight[j] = 0;
    found++;
  }
  counts->chosen[MOERUN_HOME_NULL] += found;
  if (found > 0 && config->gate_rule.renormalise) {
    moerun__weight_apply(weight, ids, K, NULL, MOERUN_WEIGHT_POST, sum);
  }
}

/* A constant expert's shares of the row and of its vector. */
static void keep_constant(moerun__home *home, size_t t, int32_t number,
                          float weight) {
  const size_t K = (size_t)home->config->experts_per_token;
  const size_t constants = (size_t)home->config->num_home[MOERUN_HOME_CONSTANT];
  const size_t at = t * K + (size_t)home->num_vectors[t]++;
  float share[2];
  home->kernels->softmax(
      share, home->mix + 2 * (t * constants + (size_t)number), 2, 1.0F);
  home->own_weight[t] = fmaf(weight, share[0], home->own_weight[t]);
  home->vector[at] = number;
  home->vector_weight[at] = weight * share[1];
}

static void take_row(moerun__home *home, const moerun__home_choices *choices,
                     size_t t, moerun__home_counts *counts) {
  const moerun__model_config *config = home->config;
  const size_t K = (size_t)config->experts_per_token;
  int32_t *ids = choices->ids + t * K;
  float *weight = choices->weight + t * K;
  const int raw = choices->scores != NULL &&
                  (choices->as_given == NULL || !choices->as_given[t]);
  const float *scores =
      raw ? choices->scores + t * (size_t)home->choices : NULL;
  int32_t placed = 0;
  home->num_vectors[t] = 0;
  home->own_weight[t] = 0;
  leave_out_null(config, ids, weight, counts);
  for (size_t j = 0; j < K; j++) {
    int32_t number = 0;
    if (ids[j] < 0) continue;
    const int kind = kind_of(config, ids[j], &number);
    if (kind == MOERUN_HOME_KINDS) {
      placed++;
      continue;
    }
    const float w = scores != NULL ? scores[ids[j]] : weight[j];
    if (kind == MOERUN_HOME_COPY) home->own_weight[t] += w;
    if (kind == MOERUN_HOME_CONSTANT) keep_constant(home, t, number, w);
    counts->chosen[kind]++;
    ids[j] = -1;
    weight[j] = 0;
  }
  counts->rows++;
  counts->terms += (int64_t)K;
  counts->rows_alone += placed == 0;
}

moerun_status moerun__home_take(moerun__home *home, const moerun__layer *layer,
                                const moerun__home_choices *choices,
                                float *scratch, moerun__home_counts *counts) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = home->config;
  const size_t constants = (size_t)config->num_home[MOERUN_HOME_CONSTANT];
  if (constants > 0) {
    home->kernels->linear(home->queue, home->mix, 2 * constants, choices->x,
                          (size_t)config->hidden_width, choices->T, &layer->mix,
                          scratch);
    MOERUN_TRY(home->queue->device->wait(home->queue));
  }
  for (size_t t = 0; t < (size_t)choices->T; t++) {
    take_row(home, choices, t, counts);
  }
done:
  return status;
}

void moerun__home_add(const moerun__home *home, const moerun__layer *layer,
                      float *y, const float *x, int32_t first, int32_t count) {
  const moerun__kernels *kernels = home->kernels;
  const int32_t H = home->config->hidden_width;
  const size_t width = (size_t)H;
  const size_t K = (size_t)home->config->experts_per_token;
  for (size_t t = (size_t)first; t < (size_t)first + (size_t)count; t++) {
    float *sum = y + t * width;
    if (home->own_weight[t] != 0.0F) {
      kernels->add_rows(home->queue, sum, x + t * width, &home->own_weight[t],
                        1, H);
    }
    for (int32_t i = 0; i < home->num_vectors[t]; i++) {
      const size_t at = t * K + (size_t)i;
      kernels->add_rows(home->queue, sum,
                        layer->constant + (size_t)home->vector[at] * width,
                        &home->vector_weight[at], 1, H);
    }
  }
}
