/* What the sequences of a rank begin with in common is fed once: the others
 * take the pages of the cache. Nothing of what they produce changes. No
 * communication. */
#ifndef MOERUN_SERVE_REUSE_H
#define MOERUN_SERVE_REUSE_H

#include "runtime/decoder/kv_cache.h"
#include "runtime/serve/sequence.h"

/* Tokens of a sequence that the model has to see: a scored prompt's last token
 * predicts nothing. */
int32_t moerun__sequence_to_feed(const moerun__sequence *sequence);

/* Takes known pages for what a sequence is to be fed next, which then counts as
 * fed. Returns how many positions those are. */
int32_t moerun__reuse_take(moerun__kv_cache *cache,
                           moerun__sequences *sequences, int32_t seat);

/* Whether the sequence at order[at] had better not be fed in this step, because
 * one that came before it is on its way to the page that both need next. After
 * moerun__reuse_take. */
int moerun__reuse_waits(const moerun__kv_cache *cache,
                        const moerun__sequences *sequences, int32_t at);

/* What a sequence was fed may be taken by others: after a step, if all its
 * numbers were sound. */
void moerun__reuse_leave(moerun__kv_cache *cache,
                         const moerun__sequences *sequences, int32_t seat);

#endif
