/* From logits to a token: penalties, temperature, and among which tokens is
 * drawn. */
#ifndef MOERUN_DECODER_SAMPLE_H
#define MOERUN_DECODER_SAMPLE_H

#include "kernels/kernels.h"

/* The names and their meanings are those of vLLM's SamplingParams. */
typedef struct moerun__sampling {
  double temperature; /* 0: greedy */
  double top_p;       /* in (0, 1] */
  uint64_t seed;
  uint64_t stream; /* of the seed: one for each request */
  int32_t top_k;   /* 0 or less: all */
  double min_p;    /* in [0, 1], of the likeliest token's probability */
  double repetition_penalty; /* > 0; 1, or 0 as in zeros: none */
  double presence_penalty;   /* 0: none, as the next one */
  double frequency_penalty;
} moerun__sampling;

/* The tokens before the one that is sampled: the prompt's, then the generated
 * ones. */
typedef struct moerun__history {
  const int32_t *token; /* [num_tokens], each in 0 .. V-1; looked at by
                           penalties alone                               */
  int32_t num_prompt;
  int32_t num_tokens;
} moerun__history;

/* The next token: a pure function of its arguments. The draw is that of number
 * num_tokens - num_prompt. logits[V] is overwritten; heap[V] is scratch. Equal
 * logits: the lower id; NaN is never chosen unless all are NaN (then 0). */
int32_t moerun__sample(const moerun__kernels *kernels, float *logits, int32_t V,
                       const moerun__sampling *sampling,
                       const moerun__history *history, int32_t *heap);

/* Of one token at a position: its id, and the natural logarithm of its
 * probability there. */
typedef struct moerun__logprob {
  int32_t token;
  float value;
} moerun__logprob;

/* Of `token` in out[0], and of the likeliest ones in out[1 .. count - 1],
 * likeliest first, equal ones by id: of softmax(logits), whatever is sampled. 1
 * <= count <= V + 1; logits[V] is overwritten; heap[V] is scratch. */
void moerun__logprobs(moerun__logprob *out, int32_t count,
                      const moerun__kernels *kernels, float *logits, int32_t V,
                      int32_t token, int32_t *heap);

/* Natural logarithm of softmax(logits)[token]; logits[V] is overwritten. */
double moerun__log_probability(const moerun__kernels *kernels, float *logits,
                               int32_t V, int32_t token);

#endif
