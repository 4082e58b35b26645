/* The threshold of "Harder Tasks Need More Experts" (ACL 2024, arXiv
 * 2403.07652) without its training: relative to the sum over the K experts that
 * the gate chose, k = min{j: w_1 + ... + w_j >= p (w_1 + ... + w_K)}. Weights
 * are proportional to scores within a token, so either gives the same k up to
 * the rounding of the last bit. Sums are in double, in gate order. */
#include "runtime/balance/width.h"

int32_t moerun__width_of(const moerun__width *width, const int32_t *ids,
                         const float *weight, int32_t K) {
  const double target = width->top_p * moerun__weight_sum(ids, weight, K);
  double sum = 0;
  int32_t kept = 0;
  for (int32_t j = 0; j < K && kept < width->most; j++) {
    if (ids[j] < 0) continue;
    sum += (double)weight[j];
    kept++;
    if (width->top_p < 1 && sum >= target) break;
  }
  return kept;
}

static double number_or_0(float x) {
  return x == x ? (double)x : 0;
}

static void cut_row(int32_t *ids, float *weight, const float *scores, int32_t K,
                    const moerun__width *width, moerun__width_counts *counts) {
  const double sum = moerun__weight_sum(ids, weight, K);
  const int32_t kept = moerun__width_of(width, ids, weight, K);
  int32_t seen = 0;
  for (int32_t j = 0; j < K; j++) {
    if (ids[j] < 0) continue;
    counts->terms++;
    counts->mass += number_or_0(weight[j]);
    if (seen++ < kept) continue;
    counts->removed++;
    counts->mass_lost += number_or_0(weight[j]);
    ids[j] = -1;
    weight[j] = 0;
  }
  moerun__weight_apply(weight, ids, K, scores, width->rule, sum);
}

void moerun__width_cut(const moerun__width_rows *rows,
                       const moerun__width *width,
                       moerun__width_counts *counts) {
  const size_t stride = (size_t)rows->stride;
  const size_t E = (size_t)rows->num_experts;
  for (size_t t = 0; t < (size_t)rows->T; t++) {
    const float *scores = rows->scores != NULL ? rows->scores + t * E : NULL;
    cut_row(rows->ids + t * stride, rows->weight + t * stride, scores, rows->K,
            width, counts);
  }
}
