/* What the requests of a run need of the cache of keys and values of a rank.
 * They are known before anything is loaded, so the cache need not be sized for
 * the longest that there could be. */
#ifndef MOERUN_RUN_CACHE_NEED_H
#define MOERUN_RUN_CACHE_NEED_H

#include "runtime/base/config.h"
#include "runtime/base/status.h"

typedef struct moerun__cache_need {
  int32_t kv_tokens;      /* of one rank; 0: max_sequences of the longest */
  int32_t max_positions;  /* of the longest request; 0: the model's */
  int32_t logprobs_width; /* log-probabilities of a token, kept beside the cache
                             until a request ends; 0: none                  */
  int32_t stop_bytes;     /* of a request's stops, kept there, too */
  int32_t has_stop_texts; /* 1: all ranks look for them */
} moerun__cache_need;

/* Of `count` requests of positions[count] (prompt and generated tokens), which
 * is sorted, on num_ranks ranks: enough that no request ever waits for room in
 * the cache while its rank has fewer than max_sequences. */
moerun__cache_need moerun__cache_need_of(int32_t *positions, int64_t count,
                                         int32_t max_sequences,
                                         int32_t num_ranks);

/* What `info` assumes, which sees no requests: max_sequences of 2048 tokens, or
 * of the model's longest. */
moerun__cache_need moerun__cache_need_assumed(int32_t max_positions);

#endif
