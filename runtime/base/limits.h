/* Sizes beyond these are refused, so that no product of them overflows; and how
 * many rows a table has room for that several rooms count by. */
#ifndef MOERUN_BASE_LIMITS_H
#define MOERUN_BASE_LIMITS_H

enum {
  MOERUN_PLACEMENT_MAX_LAYERS = 4096,
  MOERUN_PLACEMENT_MAX_EXPERTS = 65536,
  MOERUN_PLACEMENT_MAX_RANKS = 1 << 20,
  MOERUN_PLACEMENT_MAX_ENTRIES = 1 << 22, /* layers * E, layers * R */
  MOERUN_PLACEMENT_MAX_REPLICAS = 1 << 24,
  MOERUN_MOST_WAYS = 4, /* that a layer may go: the table of moe/way.h */
};

#endif
