/* The layer in slices: every rank a part of every expert. */
#ifndef MOERUN_RUNTIME_SLICED_H
#define MOERUN_RUNTIME_SLICED_H

#include "runtime/moe.h"

/* [collective] In place of dispatch and the expert stage: results of x[T][H] in
 * the chunks, ready for combine. slices.tokens says the T of all ranks. */
moerun_status moerun__sliced_forward(moerun__moe *moe, int32_t moe_layer,
                                     const float *x);

#endif
