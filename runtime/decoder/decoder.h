/* The decoder: embedding, layers of attention and MoE, head. */
#ifndef MOERUN_DECODER_DECODER_H
#define MOERUN_DECODER_DECODER_H

#include "runtime/decoder/session.h"

/* [collective] moerun__session_forward without its argument checks; `failed` as
 * in moerun__layer_call. */
moerun_status moerun__decoder_forward(moerun_session *session,
                                      const moerun_batch *batch,
                                      const moerun__row_tags *tags,
                                      float *logits, moerun_status failed);

#endif
