/* Tokens with scores, the gate's choices, and a capacity to put on them. */
#ifndef MOERUN_TESTS_CAPACITY_WORLD_H
#define MOERUN_TESTS_CAPACITY_WORLD_H

#include "runtime/plan/capacity.h"
#include "support/cmocka.h"

#include <string.h>

#include "support/draw.h"

enum { WORLD_T = 1024, WORLD_E = 16, WORLD_W = 24 };

typedef struct world {
  int32_t T;
  int32_t E;
  int32_t K;
  int normalise; /* whether the gate does */
  float scores[WORLD_T * WORLD_E];
  int32_t request[WORLD_T];
  int32_t position[WORLD_T];
  uint8_t priority[WORLD_T];
  uint8_t decoded[WORLD_T];
  int32_t extra[WORLD_E];
  int32_t num_extra;
  int32_t rank_of_expert[WORLD_E];
  int32_t num_ranks;
  moerun__capacity_options options;
  /* What comes of it. */
  int32_t gate_ids[WORLD_T * WORLD_W];
  float gate_weight[WORLD_T * WORLD_W];
  int32_t ids[WORLD_T * WORLD_W];
  float weight[WORLD_T * WORLD_W];
  moerun__capacity capacity;
  moerun__capacity_rows rows;
  moerun__capacity_counts counts;
  char *block;
} world;

static inline world *world_create(void) {
  world *w = NULL;
  assert_int_equal(moerun__alloc(&w, 1, sizeof *w), MOERUN_OK);
  w->options = (moerun__capacity_options){.gamma = 1000, .window = 4};
  w->num_ranks = 1;
  return w;
}

static inline void world_destroy(world *w) {
  if (w != NULL) moerun__free(w->block);
  moerun__free(w);
}

/* Scores of one token that sum to about 1; of few values, so that ties abound,
 * if `coarse`. The first two experts are wanted more. */
static inline void draw_scores(world *w, int32_t t, draw *from, int coarse) {
  float *s = w->scores + (size_t)t * (size_t)w->E;
  float sum = 0;
  for (int32_t e = 0; e < w->E; e++) {
    s[e] = (float)draw_int(from, 1, coarse ? 4 : 1000);
    if (e < 2) s[e] *= 3;
    sum += s[e];
  }
  for (int32_t e = 0; e < w->E; e++) {
    s[e] /= coarse ? 64.0F : sum;
  }
}

/* A world of T tokens of a few requests, in any order of rows. */
static inline void draw_world(world *w, draw *from, int32_t max_tokens) {
  static const moerun__capacity_metric metrics[] = {
      MOERUN_METRIC_SCORE, MOERUN_METRIC_FIRST, MOERUN_METRIC_LAST,
      MOERUN_METRIC_WEIGHT};
  w->T = draw_int(from, 0, max_tokens);
  w->E = draw_int(from, 2, WORLD_E);
  w->K = draw_int(from, 1, w->E < 4 ? w->E : 4);
  w->normalise = draw_int(from, 0, 1);
  w->num_ranks = draw_int(from, 1, 5);
  const int coarse = draw_int(from, 0, 1);
  const int32_t requests = draw_int(from, 1, 6);
  int32_t next[6] = {0};
  for (int32_t t = 0; t < w->T; t++) {
    const int32_t request = draw_int(from, 0, requests - 1);
    draw_scores(w, t, from, coarse);
    w->request[t] = request;
    w->position[t] = next[request]++;
    w->priority[t] = (uint8_t)(draw_int(from, 0, 3) == 0);
    w->decoded[t] = (uint8_t)(draw_int(from, 0, 7) == 0);
  }
  w->num_extra = 0;
  for (int32_t e = 0; e < w->E; e++) {
    w->rank_of_expert[e] = draw_int(from, 0, w->num_ranks - 1);
    if (draw_int(from, 0, 2) == 0) w->extra[w->num_extra++] = e;
  }
  w->options = (moerun__capacity_options){
      .gamma = draw_int(from, 300, 2500),
      .level = (moerun__capacity_level)draw_int(from, 0, 1),
      .metric = metrics[draw_int(from, 0, 3)],
      .expansion = (moerun__capacity_expansion)draw_int(from, 0, 2),
      .rule = (moerun__weight_rule)draw_int(from, 0, 2),
      .most_added = draw_int(from, 0, 2) * draw_int(from, 0, 2),
      .window = draw_int(from, 1, 9),
      .keep_top1 = draw_int(from, 0, 3) == 0,
      .decode = draw_int(from, 0, 1),
      .seed = (uint64_t)draw_int(from, 0, 1000)};
  if (w->options.level == MOERUN_LEVEL_EXPERT && draw_int(from, 0, 1) == 1) {
    w->options.scope = MOERUN_SCOPE_REQUEST;
  }
}

static inline void shuffle(int32_t *order, int32_t n, draw *from) {
  for (int32_t i = 0; i < n; i++) {
    order[i] = i;
  }
  for (int32_t i = n - 1; i > 0; i--) {
    const int32_t j = draw_int(from, 0, i);
    const int32_t moved = order[i];
    order[i] = order[j];
    order[j] = moved;
  }
}

static inline int32_t world_width(const world *w) {
  return moerun__capacity_width(&w->options, w->K, w->num_extra);
}

/* The K largest scores of each token, ties to the lower id, in rows of that
 * width. */
static inline void world_gate(world *w) {
  const size_t width = (size_t)world_width(w);
  for (int32_t t = 0; t < w->T; t++) {
    const float *s = w->scores + (size_t)t * (size_t)w->E;
    int32_t *ids = w->gate_ids + (size_t)t * width;
    float *weight = w->gate_weight + (size_t)t * width;
    char taken[WORLD_E] = {0};
    float sum = 0;
    for (size_t j = 0; j < width; j++) {
      ids[j] = -1;
      weight[j] = 0;
    }
    for (int32_t j = 0; j < w->K; j++) {
      int32_t best = -1;
      for (int32_t e = 0; e < w->E; e++) {
        if (!taken[e] && (best < 0 || s[e] > s[best] ||
                          (s[best] != s[best] && s[e] == s[e]))) {
          best = e;
        }
      }
      taken[best] = 1;
      ids[j] = best;
      weight[j] = s[best];
      sum += s[best];
    }
    for (int32_t j = 0; j < w->K && w->normalise; j++) {
      weight[j] /= sum;
    }
  }
}

/* Gates, and makes a capacity for the options as they are. */
static inline void world_open(world *w, int64_t max_records) {
  moerun__arena arena = {NULL, 0};
  const size_t pairs = (size_t)w->T * (size_t)world_width(w);
  moerun__free(w->block);
  const moerun__capacity_sizes sizes = {.num_experts = w->E,
                                        .num_choices = w->E,
                                        .experts_per_token = w->K,
                                        .width = world_width(w),
                                        .num_ranks = w->num_ranks,
                                        .max_tokens = w->T,
                                        .max_records = max_records};
  moerun__capacity_lay_out(&w->capacity, &arena, &w->options, &sizes);
  assert_int_equal(moerun__alloc(&w->block, arena.used, 1), MOERUN_OK);
  arena = (moerun__arena){w->block, 0};
  moerun__capacity_lay_out(&w->capacity, &arena, &w->options, &sizes);
  world_gate(w);
  memcpy(w->ids, w->gate_ids, pairs * sizeof *w->ids);
  memcpy(w->weight, w->gate_weight, pairs * sizeof *w->weight);
  w->rows = (moerun__capacity_rows){.T = w->T,
                                    .layer = 3,
                                    .ids = w->ids,
                                    .weight = w->weight,
                                    .scores = w->scores,
                                    .request = w->request,
                                    .position = w->position,
                                    .priority = w->priority,
                                    .decoded = w->decoded,
                                    .extra = w->extra,
                                    .num_extra = w->num_extra,
                                    .rank_of_expert = w->rank_of_expert};
  w->counts = (moerun__capacity_counts){0};
}

static inline void world_apply(world *w) {
  assert_int_equal(moerun__capacity_check(&w->options), MOERUN_OK);
  world_open(w, 0);
  moerun__capacity_apply(&w->capacity, &w->rows, &w->counts);
}

/* Whether token t has the expert in rows of `ids`. */
static inline int has_expert(const world *w, const int32_t *ids, int32_t t,
                             int32_t expert) {
  const int32_t width = world_width(w);
  for (int32_t j = 0; j < width; j++) {
    if (ids[t * width + j] == expert) return 1;
  }
  return 0;
}

#endif
