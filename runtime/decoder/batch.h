/* The rows of a step: what they must be, and how they fall into sequences. */
#ifndef MOERUN_DECODER_BATCH_H
#define MOERUN_DECODER_BATCH_H

#include "runtime/decoder/kv_cache.h"

/* What a batch has to fit. */
typedef struct moerun__batch_limits {
  int32_t max_tokens;
  int32_t vocab_size;
  const moerun__kv_cache *cache; /* borrowed; not changed */
  char *seen;                    /* [cache->sizes.max_sequences] scratch */
} moerun__batch_limits;

/* Rows from `first` on that belong to the same sequence. */
int32_t moerun__batch_run(const moerun_batch *batch, int32_t first);

/* ERR_OVERFLOW for more rows than max_tokens, ERR_INVALID for anything else
 * that moerun.h does not allow. */
moerun_status moerun__batch_check(const moerun_batch *batch,
                                  const moerun__batch_limits *limits);

/* Takes cache pages for the rows of the batch; a sequence that begins gives its
 * old ones back. ERR_OVERFLOW where there is no room; no sequence has grown
 * then. */
moerun_status moerun__batch_extend(moerun__kv_cache *cache,
                                   const moerun_batch *batch);
/* After a step that failed: sequences end where they did before, or at 0 if
 * they began in it. */
void moerun__batch_take_back(moerun__kv_cache *cache,
                             const moerun_batch *batch);

#endif
