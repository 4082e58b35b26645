/* The threshold of "Harder Tasks Need More Experts" (ACL 2024, arXiv
 * 2403.07652) without its training: relative to the sum over the K experts that
 * the gate chose, k = min{j: w_1 + ... + w_j >= p (w_1 + ... + w_K)}. Weights
 * are proportional to scores within a token, so either gives the same k up to
 * the rounding of the last bit. Sums are in double, in gate order. */
#include "runtime/plan/width.h"

#include <stdlib.h>
#include <string.h>

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
  const size_t choices = (size_t)rows->num_choices;
  for (size_t t = 0; t < (size_t)rows->T; t++) {
    const float *scores =
        rows->scores != NULL ? rows->scores + t * choices : NULL;
    cut_row(rows->ids + t * stride, rows->weight + t * stride, scores, rows->K,
            width, counts);
  }
}

/* ---- Limits by layer ----------------------------------------------------- */

enum { MOST = INT16_MAX, LAST_LAYER = INT16_MAX };

/* A whole number low..high at *at; 0: there is none. */
static int take_number(int32_t *out, const char **at, int32_t low,
                       int32_t high) {
  const size_t digits = strspn(*at, "0123456789");
  if (digits == 0) return 0;
  const long value = strtol(*at, NULL, 10); /* the largest, if it is larger */
  if (value < low || value > high) return 0;
  *out = (int32_t)value;
  *at += digits;
  return 1;
}

/* "A-B:N" or "A:N". */
static int take_range(moerun__width_range *out, const char **at) {
  if (!take_number(&out->first, at, 0, LAST_LAYER)) return 0;
  out->last = out->first;
  if (**at == '-') {
    ++*at;
    if (!take_number(&out->last, at, out->first, LAST_LAYER)) return 0;
  }
  if (**at != ':') return 0;
  ++*at;
  return take_number(&out->most, at, 1, MOST);
}

static moerun_status add_range(moerun__width_limits *limits,
                               const moerun__width_range *range,
                               const char *text) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(
      limits->count < MOERUN_WIDTH_RANGES, MOERUN_ERR_INVALID,
      "--gate-top-k \"%.200s\": expected at most %d ranges, found more", text,
      MOERUN_WIDTH_RANGES);
  for (int32_t i = 0; i < limits->count; i++) {
    const moerun__width_range *before = &limits->range[i];
    MOERUN_REQUIRE(
        range->first > before->last ||
                range
                    ->last<before->first, MOERUN_ERR_INVALID,
                           "--gate-top-k \"%.200s\": expected layer %d "
                           "once, found it twice",
                           text, range->first>
                        before->first
            ? range->first
            : before->first);
  }
  limits->range[limits->count++] = *range;
done:
  return status;
}

moerun_status moerun__width_parse(int32_t *most, moerun__width_limits *limits,
                                  const char *text) {
  moerun_status status = MOERUN_OK;
  const char *at = text;
  *most = 0;
  memset(limits, 0, sizeof *limits);
  if (text[strspn(text, "0123456789")] == '\0' &&
      take_number(most, &at, 1, MOST)) {
    goto done;
  }
  for (at = text;; at++) {
    moerun__width_range range = {0, 0, 0};
    const char *start = at;
    const int understood =
        take_range(&range, &at) && (*at == ',' || *at == '\0');
    MOERUN_REQUIRE(
        understood, MOERUN_ERR_INVALID,
        "--gate-top-k \"%.200s\": expected a number from 1 to %d, or such "
        "numbers for MoE layers as in 0-7:8,8:4, found \"%.40s\"",
        text, MOST, start);
    MOERUN_TRY(add_range(limits, &range, text));
    if (*at == '\0') break;
  }
done:
  if (status != MOERUN_OK) memset(limits, 0, sizeof *limits);
  return status;
}

moerun_status moerun__width_limits_check(const moerun__width_limits *limits,
                                         int32_t num_layers) {
  moerun_status status = MOERUN_OK;
  for (int32_t i = 0; i < limits->count; i++) {
    MOERUN_REQUIRE(limits->range[i].last < num_layers, MOERUN_ERR_INVALID,
                   "--gate-top-k: expected MoE layers 0 to %d, found %d",
                   num_layers - 1, limits->range[i].last);
  }
done:
  return status;
}

int32_t moerun__width_limit(const moerun__width_limits *limits, int32_t layer) {
  for (int32_t i = 0; i < limits->count; i++) {
    const moerun__width_range *range = &limits->range[i];
    if (layer >= range->first && layer <= range->last) return range->most;
  }
  return 0;
}
