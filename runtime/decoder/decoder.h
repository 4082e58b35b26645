/* The decoder: embedding, layers of attention and MoE, head. */
#ifndef MOERUN_DECODER_DECODER_H
#define MOERUN_DECODER_DECODER_H

#include "runtime/decoder/session.h"

/* [collective] moerun_forward without its argument checks; `failed` as in
 * moerun__moe_forward. */
moerun_status moerun__decoder_forward(moerun_session *session,
                                      const moerun_batch *batch, float *logits,
                                      moerun_status failed);

#endif
