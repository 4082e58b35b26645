/* Nucleus sampling (Holtzman et al. 2019, arXiv 1904.09751): the smallest set
 * of most probable tokens whose mass reaches top_p. The set is taken off a heap
 * one token at a time, so the cost is O(V) plus a logarithm per token kept, and
 * the order (probability down, then id up) is total: nothing depends on a
 * library's sort. Sums are in double, in that order. */
#include "runtime/decoder/sample.h"

#include "runtime/base/exact_math.h"
#include "runtime/base/rng.h"

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

static int32_t sample_nucleus(const float *p, int32_t V, double top_p,
                              double uniform, int32_t *heap) {
  int32_t n = V;
  double mass = 0;
  for (int32_t i = 0; i < V; i++) {
    heap[i] = i;
  }
  for (int32_t i = V / 2 - 1; i >= 0; i--) {
    sift_down(heap, n, i, p);
  }
  /* Tokens taken off stand behind the heap, the first at heap[V - 1]. */
  while (n > 0 && mass < top_p) {
    const int32_t taken = heap[0];
    mass += (double)p[taken];
    heap[0] = heap[n - 1];
    heap[--n] = taken;
    sift_down(heap, n, 0, p);
  }
  const double target = uniform * mass;
  double sum = 0;
  for (int32_t i = V - 1; i > n; i--) {
    sum += (double)p[heap[i]];
    if (sum > target) return heap[i];
  }
  return heap[n];
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

int32_t moerun__sample(const moerun__kernels *kernels, float *logits, int32_t V,
                       const moerun__sampling *sampling, int64_t num_before,
                       int32_t *heap) {
  const int32_t best = argmax(logits, V);
  if (sampling->temperature <= 0) return best;
  kernels->softmax(logits, logits, V, (float)(1.0 / sampling->temperature));
  if (!(logits[best] > 0)) return best; /* the logits were not numbers */
  const double uniform =
      moerun__uniform(sampling->seed, sampling->stream, (uint64_t)num_before);
  return sampling->top_p < 1
             ? sample_nucleus(logits, V, sampling->top_p, uniform, heap)
             : sample_all(logits, V, uniform);
}

double moerun__log_probability(const moerun__kernels *kernels, float *logits,
                               int32_t V, int32_t token) {
  const int32_t best = argmax(logits, V);
  const double below = (double)logits[token] - (double)logits[best];
  /* p of the best is 1 / sum of exp(logit - best): never underflows. */
  kernels->softmax(logits, logits, V, 1.0F);
  return below + moerun__exact_log((double)logits[best]);
}
