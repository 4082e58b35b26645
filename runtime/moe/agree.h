/* Which rows of a layer go where, agreed between all ranks. */
#ifndef MOERUN_MOE_AGREE_H
#define MOERUN_MOE_AGREE_H

#include "runtime/moe/moe.h"

/* Memory for plans and for what ranks tell each other; after the shape's
 * sizes. */
void moerun__agree_lay_out(moerun__moe *moe, moerun__arena *arena,
                           moerun__arena *traffic);

/* [collective] Routes and counts the rows of a call of which the gate has
 * chosen the experts, balanced or not: afterwards every rank knows the rows
 * that come to it, and by plan.way which way the layer goes. */
moerun_status moerun__agree_on_rows(moerun__moe *moe,
                                    const moerun__layer_call *call);

/* MOERUN_TOLD_BUSY and MOERUN_TOLD_ROWS of the layer that has been computed
 * last. */
void moerun__tell_of_layer(const moerun__moe *moe, int32_t *told);

#endif
