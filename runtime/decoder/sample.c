/* In the order of vLLM (v1/sample/sampler.py): penalties (repetition over
 * prompt and completion, Keskar et al. 2019, arXiv 1909.05858; then frequency
 * and presence over the completion alone), the greedy choice or the
 * temperature, min_p (Nguyen et al. 2024, arXiv 2407.01082), top_k, and top_p
 * of what those have left (Holtzman et al. 2019, arXiv 1904.09751).
 * transformers has min_p last, which keeps more tokens where both min_p and
 * top_p cut.
 *
 * Tokens are taken off a heap one at a time, so the cost is O(V) plus a
 * logarithm per token kept, and the order (probability down, then id up) is
 * total: nothing depends on a library's sort. Tokens as likely as the last of
 * top_k stay, as they do elsewhere. Sums are in double, in that order. */
#include "runtime/decoder/sample.h"

#include "runtime/base/exact_math.h"
#include "runtime/base/rng.h"

#include <string.h>

enum { OF_PROMPT = 1 << 30 };

static int32_t argmax(const float *x, int32_t n) {
  int32_t best = 0;
  for (int32_t i = 1; i < n; i++) {
    if (x[i] > x[best] || x[best] != x[best]) best = i;
  }
  return x[best] == x[best] ? best : 0;
}

/* Whether token a comes before token b. */
static int before(const float *p, int32_t a, int32_t b) {
  return p[a] > p[b] || (p[a] == p[b] && a < b);
}

static void sift_down(int32_t *heap, int32_t n, int32_t at, const float *p) {
  for (;;) {
    int32_t first = at;
    const int32_t left = 2 * at + 1;
    const int32_t right = left + 1;
    if (left < n && before(p, heap[left], heap[first])) first = left;
    if (right < n && before(p, heap[right], heap[first])) first = right;
    if (first == at) return;
    const int32_t moved = heap[at];
    heap[at] = heap[first];
    heap[first] = moved;
    at = first;
  }
}

/* ---- Among which --------------------------------------------------------- */

/* Whether the best of the heap's n tokens stays, beside those that have been
 * taken off it: they stand behind it, the last at heap[n]. Only top_p by itself
 * stops at a mass, which is then of all tokens. */
static int stays(const moerun__sampling *sampling, const float *p, int32_t V,
                 const int32_t *heap, int32_t n, double mass) {
  const float next = p[heap[0]];
  const int32_t taken = V - n;
  if (taken == 0) return 1;
  if (sampling->top_k <= 0 && !(sampling->min_p > 0)) {
    return mass < sampling->top_p;
  }
  const double first = (double)p[heap[V - 1]];
  return next > 0 && (double)next >= sampling->min_p * first &&
         (sampling->top_k <= 0 || taken < sampling->top_k ||
          next == p[heap[n]]);
}

static void heap_build(int32_t *heap, const float *p, int32_t V) {
  for (int32_t i = 0; i < V; i++) {
    heap[i] = i;
  }
  for (int32_t i = V / 2 - 1; i >= 0; i--) {
    sift_down(heap, V, i, p);
  }
}

/* Takes the first of the heap's n tokens off, to stand behind the other n -
 * 1. */
static int32_t heap_take(int32_t *heap, const float *p, int32_t n) {
  const int32_t taken = heap[0];
  heap[0] = heap[n - 1];
  heap[n - 1] = taken;
  sift_down(heap, n - 1, 0, p);
  return taken;
}

/* Takes off the heap what stays, and returns how many those are; *mass is
 * theirs, and the first stands at heap[V - 1]. */
static int32_t take_likely(double *mass, const moerun__sampling *sampling,
                           const float *p, int32_t V, int32_t *heap) {
  int32_t n = V;
  *mass = 0;
  heap_build(heap, p, V);
  while (n > 0 && stays(sampling, p, V, heap, n, *mass)) {
    *mass += (double)p[heap_take(heap, p, n--)];
  }
  return V - n;
}

static int32_t sample_likely(const moerun__sampling *sampling, const float *p,
                             int32_t V, double uniform, int32_t *heap) {
  double mass = 0;
  int32_t count = take_likely(&mass, sampling, p, V, heap);
  if (sampling->top_p < 1 && (sampling->top_k > 0 || sampling->min_p > 0)) {
    const double enough = sampling->top_p * mass;
    const int32_t most = count;
    mass = 0;
    for (count = 0; count < most && mass < enough; count++) {
      mass += (double)p[heap[V - 1 - count]];
    }
  }
  const double target = uniform * mass;
  double sum = 0;
  for (int32_t i = V - 1; i > V - count; i--) {
    sum += (double)p[heap[i]];
    if (sum > target) return heap[i];
  }
  return heap[V - count];
}

static int32_t sample_all(const float *p, int32_t V, double uniform) {
  double total = 0;
  int32_t last = 0;
  for (int32_t i = 0; i < V; i++) {
    total += (double)p[i];
    if (p[i] > 0) last = i;
  }
  const double target = uniform * total;
  double sum = 0;
  for (int32_t i = 0; i < last; i++) {
    sum += (double)p[i];
    if (sum > target) return i;
  }
  return last;
}

/* ---- What was there before ----------------------------------------------- */

static int penalises(const moerun__sampling *sampling) {
  const double repetition = sampling->repetition_penalty;
  return (repetition > 0 && repetition != 1) ||
         sampling->presence_penalty != 0 || sampling->frequency_penalty != 0;
}

/* count[V] is scratch. */
static void penalise(float *logits, int32_t V, const moerun__sampling *sampling,
                     const moerun__history *history, int32_t *count) {
  const float repetition = sampling->repetition_penalty > 0
                               ? (float)sampling->repetition_penalty
                               : 1.0F;
  const float frequency = (float)sampling->frequency_penalty;
  const float presence = (float)sampling->presence_penalty;
  memset(count, 0, (size_t)V * sizeof *count);
  for (int32_t i = 0; i < history->num_tokens; i++) {
    int32_t *seen = &count[history->token[i]];
    *seen = i < history->num_prompt ? OF_PROMPT : *seen + 1;
  }
  for (int32_t i = 0; i < V; i++) {
    if (count[i] == 0) continue;
    const int32_t times = count[i] & ~OF_PROMPT;
    logits[i] = logits[i] > 0 ? logits[i] / repetition : logits[i] * repetition;
    logits[i] -= frequency * (float)times;
    if (times > 0) logits[i] -= presence;
  }
}

/* ---- A token ------------------------------------------------------------- */

int32_t moerun__sample(const moerun__kernels *kernels, float *logits, int32_t V,
                       const moerun__sampling *sampling,
                       const moerun__history *history, int32_t *heap) {
  if (penalises(sampling)) penalise(logits, V, sampling, history, heap);
  const int32_t best = argmax(logits, V);
  if (sampling->temperature <= 0) return best;
  kernels->softmax(logits, logits, V, (float)(1.0 / sampling->temperature));
  if (!(logits[best] > 0)) return best; /* the logits were not numbers */
  const int32_t num_before = history->num_tokens - history->num_prompt;
  const double uniform =
      moerun__uniform(sampling->seed, sampling->stream, (uint64_t)num_before);
  return sampling->top_p < 1 || sampling->top_k > 0 || sampling->min_p > 0
             ? sample_likely(sampling, logits, V, uniform, heap)
             : sample_all(logits, V, uniform);
}

/* ---- Log-probabilities --------------------------------------------------- */

/* The logarithm of the probability of the best. That is 1 / sum of exp(logit -
 * best), which never underflows. */
static double log_best(const moerun__kernels *kernels, float *logits, int32_t V,
                       int32_t best) {
  kernels->softmax(logits, logits, V, 1.0F);
  return moerun__exact_log((double)logits[best]);
}

double moerun__log_probability(const moerun__kernels *kernels, float *logits,
                               int32_t V, int32_t token) {
  const int32_t best = argmax(logits, V);
  const double below = (double)logits[token] - (double)logits[best];
  return below + log_best(kernels, logits, V, best);
}

void moerun__logprobs(moerun__logprob *out, int32_t count,
                      const moerun__kernels *kernels, float *logits, int32_t V,
                      int32_t token, int32_t *heap) {
  const int32_t best = argmax(logits, V);
  const double top = (double)logits[best];
  out[0].token = token;
  if (count > 1) heap_build(heap, logits, V);
  for (int32_t i = 1; i < count; i++) {
    out[i].token = heap_take(heap, logits, V - i + 1);
  }
  for (int32_t i = 0; i < count; i++) {
    out[i].value = logits[out[i].token];
  }
  const double log_top = log_best(kernels, logits, V, best);
  for (int32_t i = 0; i < count; i++) {
    out[i].value = (float)((double)out[i].value - top + log_top);
  }
}
