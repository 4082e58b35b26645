/* The three rules that models of Mixtral's kind call for, where normalising
 * before or after a drop differs (Capacity-Aware Inference, arXiv 2503.05066,
 * multiplies by raw scores; its published code has all three). For a gate that
 * does not normalise, "divide by what is left" would raise the sum of the
 * weights to 1, a scale the model never saw: here MOERUN_WEIGHT_POST restores
 * the token's own sum, which is 1 where the gate normalises. Sums are in
 * double, in gate order, over one token: no neighbour has a part in them. */
#include "runtime/plan/weight.h"

double moerun__weight_sum(const int32_t *ids, const float *weight, int32_t K) {
  double sum = 0;
  for (int32_t j = 0; j < K; j++) {
    if (ids[j] >= 0) sum += (double)weight[j];
  }
  return sum;
}

double moerun__weight_scale(const int32_t *ids, const float *weight,
                            const float *scores, int32_t K) {
  double score = 0;
  for (int32_t j = 0; j < K; j++) {
    if (ids[j] >= 0) score += (double)scores[ids[j]];
  }
  return score > 0 ? moerun__weight_sum(ids, weight, K) / score : 1;
}

void moerun__weight_apply(float *weight, const int32_t *ids, int32_t W,
                          const float *scores, moerun__weight_rule rule,
                          double sum) {
  const double left = moerun__weight_sum(ids, weight, W);
  for (int32_t j = 0; j < W; j++) {
    if (ids[j] < 0) continue;
    if (rule == MOERUN_WEIGHT_NONE) weight[j] = scores[ids[j]];
    if (rule == MOERUN_WEIGHT_POST && left > 0) {
      weight[j] = (float)((double)weight[j] * (sum / left));
    }
  }
}
