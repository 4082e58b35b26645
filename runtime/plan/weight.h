/* Gate weights of a token that lost or gained experts. */
#ifndef MOERUN_PLAN_WEIGHT_H
#define MOERUN_PLAN_WEIGHT_H

#include <stddef.h>
#include <stdint.h>

typedef enum moerun__weight_rule {
  MOERUN_WEIGHT_PRE = 0, /* experts keep the weight that the gate gave them */
  MOERUN_WEIGHT_POST,    /* weights are scaled to the sum that the gate's had */
  MOERUN_WEIGHT_NONE, /* weights are the scores (softmax or sigmoid), whatever
                         the gate makes of them                            */
} moerun__weight_rule;

/* Sum over j < K of the weights that are for an expert. */
double moerun__weight_sum(const int32_t *ids, const float *weight, int32_t K);

/* Gate weight over score for one token: what the score of an expert that
 * the gate did not choose is multiplied by to be a weight. 1 where weights are
 * scores. */
double moerun__weight_scale(const int32_t *ids, const float *weight,
                            const float *scores, int32_t K);

/* Rewrites weight[W] of one token by the rule. In ids[W], -1 stands for no
 * expert; `sum` is that of the weights before the token lost or gained experts.
 * scores[E] is read by MOERUN_WEIGHT_NONE only. A sum of 0 cannot
 * be restored: the weights then stay. If nothing came or went, they stay bit
 * for bit: the sums are the same, and their ratio is 1. */
void moerun__weight_apply(float *weight, const int32_t *ids, int32_t W,
                          const float *scores, moerun__weight_rule rule,
                          double sum);

#endif
