/* The experts that this rank can compute with. */
#ifndef MOERUN_MOE_STORE_H
#define MOERUN_MOE_STORE_H

#include "runtime/moe/guests.h"
#include "runtime/moe/slices.h"

typedef struct moerun__store {
  moerun__guests guests;
  moerun__slices slices;
  int32_t *expert_of_slot; /* [num_moe_layers][max_slots] */
} moerun__store;

#endif
