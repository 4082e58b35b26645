/* Durations, counted in buckets of a quarter of an octave from a nanosecond to
 * half an hour: adding one takes a few nanoseconds and no memory, and a
 * quantile is never below what it was and at most a quarter above. */
#ifndef MOERUN_BASE_HISTOGRAM_H
#define MOERUN_BASE_HISTOGRAM_H

#include <stdint.h>

enum { MOERUN_HISTOGRAM_BUCKETS = 160 };

/* All 0: empty. */
typedef struct moerun__histogram {
  int32_t count[MOERUN_HISTOGRAM_BUCKETS];
  double longest; /* seconds */
} moerun__histogram;

void moerun__histogram_add(moerun__histogram *histogram, double seconds);
/* As if all of `part` had been added. */
void moerun__histogram_merge(moerun__histogram *histogram,
                             const moerun__histogram *part);
int64_t moerun__histogram_total(const moerun__histogram *histogram);
/* Seconds that at least `share` of the durations do not exceed; 0: none. */
double moerun__histogram_quantile(const moerun__histogram *histogram,
                                  double share);

#endif
