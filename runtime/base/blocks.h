/* Contiguous blocks of experts, the placement that needs no search. */
#ifndef MOERUN_BASE_BLOCKS_H
#define MOERUN_BASE_BLOCKS_H

#include <stdint.h>

/* The rank that expert e of num_experts is on. */
static inline int32_t moerun__block_rank(int64_t e, int32_t num_experts,
                                         int32_t num_ranks) {
  return (int32_t)(e * num_ranks / num_experts);
}

#endif
