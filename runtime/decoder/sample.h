/* From logits to a token: greedy, temperature and top-p. */
#ifndef MOERUN_DECODER_SAMPLE_H
#define MOERUN_DECODER_SAMPLE_H

#include "kernels/kernels.h"

typedef struct moerun__sampling {
  double temperature; /* 0: greedy */
  double top_p;       /* in (0, 1] */
  uint64_t seed;
  uint64_t stream; /* of the seed: one for each request */
} moerun__sampling;

/* The next token after `num_before` tokens: a pure function of its arguments.
 * logits[V] is overwritten; heap[V] is scratch. Equal logits: the lower id;
 * NaN is never chosen unless all are NaN (then 0). */
int32_t moerun__sample(const moerun__kernels *kernels, float *logits, int32_t V,
                       const moerun__sampling *sampling, int64_t num_before,
                       int32_t *heap);

/* Natural logarithm of softmax(logits)[token]; logits[V] is overwritten. */
double moerun__log_probability(const moerun__kernels *kernels, float *logits,
                               int32_t V, int32_t token);

#endif
