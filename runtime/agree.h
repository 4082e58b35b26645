/* Which rows of a layer go where, agreed between all ranks. */
#ifndef MOERUN_RUNTIME_AGREE_H
#define MOERUN_RUNTIME_AGREE_H

#include "runtime/moe.h"

/* What a rank tells all others of itself when it balances. */
enum {
  MOERUN_TOLD_SPEED,  /* as in moerun__demand */
  MOERUN_TOLD_BUSY,   /* microseconds of the expert stage of the layer before */
  MOERUN_TOLD_TOKENS, /* of the step */
  MOERUN_TOLD_DEMAND, /* from here on: rows for each host */
};

/* [collective] Routes and counts T tokens of which the gate has chosen the
 * experts, balanced or not: afterwards every rank knows the rows that come to
 * it, or plan.sliced that all do a part of everything. `failed` ranks have no
 * rows; the others then return MOERUN_ERR_PEER. */
moerun_status moerun__agree_on_rows(moerun__moe *moe,
                                    const moerun__layer *layer, int32_t T,
                                    moerun_status failed);

#endif
