/* The layer in slices: every rank a part of every expert. */
#ifndef MOERUN_MOE_SLICED_H
#define MOERUN_MOE_SLICED_H

#include "runtime/moe/moe.h"

/* [collective] In place of dispatch and the expert stage: results of x[T][H] in
 * the chunks, ready for combine. slices.tokens says the T of all ranks. */
moerun_status moerun__sliced_forward(moerun__moe *moe, int32_t moe_layer,
                                     const float *x);

/* Bytes that all ranks together send for it: rows, inner activations and
 * results, of so many terms in all and of the ranks that hold slices of results.
 * slices.tokens as above. */
int64_t moerun__sliced_bytes(const moerun__moe *moe, int64_t terms,
                             int64_t terms_of_holders);

#endif
