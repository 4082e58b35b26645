/* Queues of the processor. */
#ifndef MOERUN_TESTS_QUEUES_H
#define MOERUN_TESTS_QUEUES_H

#include "kernels/device.h"

static inline moerun__queue *plain_queue(void) {
  static moerun__queue queue = {.device = &moerun__host};
  return &queue;
}

/* One whose products round their rows to BF16. */
static inline moerun__queue *rounding_queue(void) {
  static moerun__queue queue = {.device = &moerun__host, .rounds = 1};
  return &queue;
}

#endif
