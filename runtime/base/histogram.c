/* Bucket b < 4 holds b nanoseconds; of 2^e nanoseconds and more, for e from 2
 * on, there are four, each a quarter as wide as where they begin. */
#include "runtime/base/histogram.h"

#include <math.h>
#include <string.h>

static const double nanosecond = 1e-9;
static const double longest = 2000; /* that buckets tell apart */

/* The exponent and the first two bits behind the point are the bucket. */
static int32_t bucket_of(double seconds) {
  uint64_t bits = 0;
  if (!(seconds > 0)) return 0;
  if (seconds > longest) return MOERUN_HISTOGRAM_BUCKETS - 1;
  const double ns = seconds * 1e9 + 0.5;
  if (ns < 4) return (int32_t)ns;
  memcpy(&bits, &ns, sizeof bits);
  const int32_t exponent = (int32_t)(bits >> 52U) - 1023;
  return 4 * (exponent - 1) + (int32_t)(bits >> 50U & 3U);
}

/* The longest duration that a bucket holds. */
static double end_of(int32_t bucket) {
  if (bucket < 4) return nanosecond * bucket;
  const double ns = ldexp(bucket % 4 + 5, bucket / 4 - 1) - 1;
  return nanosecond * ns;
}

void moerun__histogram_add(moerun__histogram *histogram, double seconds) {
  histogram->count[bucket_of(seconds)]++;
  if (seconds > histogram->longest) histogram->longest = seconds;
}

void moerun__histogram_merge(moerun__histogram *histogram,
                             const moerun__histogram *part) {
  for (int32_t b = 0; b < MOERUN_HISTOGRAM_BUCKETS; b++) {
    histogram->count[b] += part->count[b];
  }
  if (part->longest > histogram->longest) histogram->longest = part->longest;
}

int64_t moerun__histogram_total(const moerun__histogram *histogram) {
  int64_t total = 0;
  for (int32_t b = 0; b < MOERUN_HISTOGRAM_BUCKETS; b++) {
    total += histogram->count[b];
  }
  return total;
}

double moerun__histogram_quantile(const moerun__histogram *histogram,
                                  double share) {
  const double wanted = share * (double)moerun__histogram_total(histogram);
  int64_t below = 0;
  for (int32_t b = 0; b < MOERUN_HISTOGRAM_BUCKETS; b++) {
    below += histogram->count[b];
    if (below == 0 || (double)below < wanted) continue;
    const double end = end_of(b);
    return end < histogram->longest ? end : histogram->longest;
  }
  return 0;
}
