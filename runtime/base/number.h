/* Checked conversions between integer types. */
#ifndef MOERUN_BASE_NUMBER_H
#define MOERUN_BASE_NUMBER_H

#include <assert.h>
#include <stdint.h>

/* For values whose range an earlier check guarantees. */
static inline int32_t moerun__to_int(int64_t value) {
  assert(value >= INT32_MIN && value <= INT32_MAX);
  return (int32_t)value;
}

static inline int64_t moerun__round_up(int64_t value, int64_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

#endif
