/* The decoder: embedding, layers of attention and MoE, head. */
#ifndef MOERUN_DECODER_DECODER_H
#define MOERUN_DECODER_DECODER_H

#include "runtime/decoder/session.h"

/* inverse_frequency[head_dim / 2] of the rotary embedding. */
void moerun__rotary_prepare(double *inverse_frequency, int32_t head_dim,
                            double theta);

/* Checks a batch against the session; the cache stays as it is. */
moerun_status moerun__batch_check(moerun_session *session,
                                  const moerun_batch *batch);

/* [collective] moerun_forward without its argument checks; `failed` as in
 * moerun__moe_forward. */
moerun_status moerun__decoder_forward(moerun_session *session,
                                      const moerun_batch *batch, float *logits,
                                      moerun_status failed);

#endif
