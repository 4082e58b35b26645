/* Block sizes that the scratch functions and the cpu sets share. */
#ifndef MOERUN_KERNELS_SIZES_H
#define MOERUN_KERNELS_SIZES_H

enum {
  /* Rows of x packed at a time by `linear`; a multiple of every set's tile. */
  MOERUN_LINEAR_ROWS = 96,
  /* Most query rows (of all heads of a kv head) that share a page load. */
  MOERUN_ATTENTION_QUERIES = 12,
};

#endif
