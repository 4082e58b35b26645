/* Block sizes that the scratch functions and the cpu sets share. */
#ifndef MOERUN_KERNELS_SIZES_H
#define MOERUN_KERNELS_SIZES_H

enum {
  /* Most rows of x that `linear` packs at a time; a multiple of every set's
     tile. Packed x is read again for every panel: more rows would save reading
     weights, which is no limit any more, and push x out of near caches. */
  MOERUN_LINEAR_ROWS = 48,
  /* Most query rows (of all heads of a kv head) that share a page load. */
  MOERUN_ATTENTION_QUERIES = 12,
};

#endif
