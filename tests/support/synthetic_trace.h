/* Routing with the structure that real traces have, from a seed. A token
 * belongs to a hidden class (Zipf with exponent 0.7 over the classes), which it
 * keeps from layer to layer with probability 0.94 and else draws anew. Expert e
 * of layer l has the logit
 *
 *   -0.45 log(p[l][e] + 1) + affinity * g[l][class][e] + Gumbel noise
 *
 * with p a random order of popularity and g standard normal; a token takes the
 * K largest, in that order. Affinity 0: layers are independent, 1.8: about as
 * hard as a trace can be while it still has structure to find. */
#ifndef MOERUN_TESTS_SYNTHETIC_TRACE_H
#define MOERUN_TESTS_SYNTHETIC_TRACE_H

#include "placement/trace/trace.h"
#include "runtime/base/rng.h"

#include <math.h>
#include <stdlib.h>

typedef struct synthetic {
  int64_t tokens;
  int64_t sequence_tokens; /* length of each sequence */
  int32_t layers;
  int32_t experts;
  int32_t terms;
  int32_t classes;
  double affinity;
  uint64_t seed;   /* of popularity and affinities: the model */
  uint64_t sample; /* of the tokens: another one for held-out tokens */
} synthetic;

/* Arrays of calloc; freed by synthetic_free, not by moerun__trace_destroy. */
static inline void *synthetic_array(size_t count, size_t size) {
  void *array = calloc(count, size);
  if (array == NULL) abort();
  return array;
}

static inline moerun__trace synthetic_empty(const synthetic *make) {
  static char model[] = "synthetic";
  moerun__trace trace = {.model = model,
                         .num_tokens = make->tokens,
                         .num_layers = make->layers,
                         .num_experts = make->experts,
                         .num_terms = make->terms,
                         .gate_order = 1};
  const size_t rows = (size_t)make->tokens * (size_t)make->layers;
  trace.ids = synthetic_array(rows * (size_t)make->terms, sizeof(int16_t));
  const int64_t each = make->sequence_tokens > 0 ? make->sequence_tokens : 64;
  trace.num_sequences = (make->tokens + each - 1) / each;
  trace.sequence_offset =
      synthetic_array((size_t)trace.num_sequences + 1, sizeof(int64_t));
  for (int64_t s = 0; s <= trace.num_sequences; s++) {
    trace.sequence_offset[s] =
        s * each < make->tokens ? s * each : make->tokens;
  }
  return trace;
}

static inline void synthetic_free(moerun__trace *trace) {
  free(trace->ids);
  free(trace->sequence_offset);
}

static inline double synthetic_normal(uint64_t seed, uint64_t stream,
                                      uint64_t i) {
  const double u = moerun__uniform(seed, stream, 2 * i);
  const double v = moerun__uniform(seed, stream, 2 * i + 1);
  return sqrt(-2 * log(1 - u)) * cos(6.283185307179586 * v);
}

/* Zipf with exponent 0.7 over the classes, by the inverse of its sums. */
static inline int32_t synthetic_class(const synthetic *make, double u) {
  double sum = 0;
  for (int32_t c = 0; c < make->classes; c++) {
    sum += pow(c + 1, -0.7);
  }
  for (int32_t c = 0; c < make->classes; c++) {
    u -= pow(c + 1, -0.7) / sum;
    if (u < 0) return c;
  }
  return make->classes - 1;
}

/* logit[classes][E] of one layer, without noise. */
static inline void synthetic_logits(double *logit, const synthetic *make,
                                    int32_t layer) {
  const int32_t E = make->experts;
  const uint64_t at = (uint64_t)layer;
  double *popular = synthetic_array((size_t)E, sizeof *popular);
  for (int32_t e = 0; e < E; e++) {
    popular[e] = -0.45 * log(e + 1);
  }
  for (int32_t e = E - 1; e > 0; e--) {
    const double u = moerun__uniform(make->seed, 4 * at, (uint64_t)e);
    const int32_t other = (int32_t)(u * (e + 1));
    const double moved = popular[e];
    popular[e] = popular[other];
    popular[other] = moved;
  }
  for (int32_t i = 0; i < make->classes * E; i++) {
    const double g = synthetic_normal(make->seed, 4 * at + 1, (uint64_t)i);
    logit[i] = popular[i % E] + make->affinity * g;
  }
  free(popular);
}

/* The K largest of logit[E] with noise, largest first; value[E] is scratch. */
static inline void synthetic_token(int16_t *ids, double *value,
                                   const double *logit, const synthetic *make,
                                   int32_t layer, int64_t token) {
  const int32_t E = make->experts;
  for (int32_t e = 0; e < E; e++) {
    const uint64_t number = (uint64_t)token * (uint64_t)E + (uint64_t)e;
    const double u =
        moerun__uniform(make->sample, 4 * (uint64_t)layer + 2, number);
    value[e] = logit[e] - log(-log(u + 1e-18));
  }
  for (int32_t k = 0; k < make->terms; k++) {
    int32_t best = 0;
    for (int32_t e = 1; e < E; e++) {
      if (value[e] > value[best]) best = e;
    }
    ids[k] = (int16_t)best;
    value[best] = -INFINITY;
  }
}

static inline moerun__trace synthetic_create(const synthetic *make) {
  moerun__trace trace = synthetic_empty(make);
  const size_t E = (size_t)make->experts;
  const size_t K = (size_t)make->terms;
  double *logit = synthetic_array((size_t)make->classes * E, sizeof *logit);
  double *value = synthetic_array(E, sizeof *value);
  int32_t *class_of = synthetic_array((size_t)make->tokens, sizeof *class_of);
  for (int32_t l = 0; l < make->layers; l++) {
    synthetic_logits(logit, make, l);
    for (int64_t t = 0; t < make->tokens; t++) {
      const uint64_t stream = 4 * (uint64_t)l + 3;
      const double stay =
          moerun__uniform(make->sample, stream, 2 * (uint64_t)t);
      if (l == 0 || stay >= 0.94) {
        const double u =
            moerun__uniform(make->sample, stream, 2 * (uint64_t)t + 1);
        class_of[t] = synthetic_class(make, u);
      }
      const size_t row = (size_t)t * (size_t)make->layers + (size_t)l;
      synthetic_token(trace.ids + row * K, value,
                      logit + (size_t)class_of[t] * E, make, l, t);
    }
  }
  free(logit);
  free(value);
  free(class_of);
  return trace;
}

#endif
