/* Sizes beyond these are refused, so that no product of them overflows. */
#ifndef MOERUN_BASE_LIMITS_H
#define MOERUN_BASE_LIMITS_H

enum {
  MOERUN_PLACEMENT_MAX_LAYERS = 4096,
  MOERUN_PLACEMENT_MAX_EXPERTS = 65536,
  MOERUN_PLACEMENT_MAX_RANKS = 1 << 20,
  MOERUN_PLACEMENT_MAX_ENTRIES = 1 << 22, /* layers * E, layers * R */
  MOERUN_PLACEMENT_MAX_REPLICAS = 1 << 24,
};

#endif
