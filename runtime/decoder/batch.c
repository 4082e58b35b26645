/* A caller's batch is checked as a whole before the cache changes, so that one
 * that this rank refuses leaves every sequence here as it was. Where another
 * rank refuses its own, or the cache is full, the rows that sequences have
 * grown by are taken back; a sequence that was begun anew is empty then. */
#include "runtime/decoder/batch.h"

#include <string.h>

int32_t moerun__batch_run(const moerun_batch *batch, int32_t first) {
  int32_t t = first + 1;
  while (t < batch->num_tokens &&
         batch->sequence[t] == batch->sequence[first]) {
    t++;
  }
  return t - first;
}

static moerun_status check_run(const moerun_batch *batch, int32_t first,
                               int32_t count,
                               const moerun__batch_limits *limits) {
  moerun_status status = MOERUN_OK;
  const moerun__kv_cache *cache = limits->cache;
  const int32_t V = limits->vocab_size;
  const int32_t sequence = batch->sequence[first];
  MOERUN_REQUIRE(sequence >= 0 && sequence < cache->sizes.max_sequences,
                 MOERUN_ERR_INVALID,
                 "row %d: expected a sequence of 0 to %d, found %d", first,
                 cache->sizes.max_sequences - 1, sequence);
  const int32_t start = batch->position[first];
  const int32_t length = cache->length[sequence];
  MOERUN_REQUIRE(start == 0 || length > 0, MOERUN_ERR_INVALID,
                 "row %d: expected position 0, as sequence %d is empty, found "
                 "%d",
                 first, sequence, start);
  MOERUN_REQUIRE(start == 0 || start == length, MOERUN_ERR_INVALID,
                 "row %d: expected position 0 or %d, found %d", first, length,
                 start);
  for (int32_t t = first; t < first + count; t++) {
    MOERUN_REQUIRE(batch->position[t] == start + (t - first),
                   MOERUN_ERR_INVALID, "row %d: expected position %d, found %d",
                   t, start + (t - first), batch->position[t]);
    MOERUN_REQUIRE(batch->token[t] >= 0 && batch->token[t] < V,
                   MOERUN_ERR_INVALID,
                   "row %d: expected a token of 0 to %d, found %d", t, V - 1,
                   batch->token[t]);
  }
  MOERUN_REQUIRE(!limits->seen[sequence], MOERUN_ERR_INVALID,
                 "row %d: the rows of sequence %d do not stand together", first,
                 sequence);
  limits->seen[sequence] = 1;
done:
  return status;
}

static moerun_status check_logits(const moerun_batch *batch) {
  moerun_status status = MOERUN_OK;
  const int32_t T = batch->num_tokens;
  const int32_t count = batch->num_logits;
  MOERUN_REQUIRE(count >= 0 && count <= T, MOERUN_ERR_INVALID,
                 "num_logits: expected 0 to %d, found %d", T, count);
  MOERUN_REQUIRE(count == 0 || batch->logit_row != NULL, MOERUN_ERR_INVALID,
                 "logit_row is NULL");
  for (int32_t i = 0; i < count; i++) {
    const int32_t row = batch->logit_row[i];
    MOERUN_REQUIRE(row >= 0 && row < T, MOERUN_ERR_INVALID,
                   "logit row %d: expected 0 to %d, found %d", i, T - 1, row);
    MOERUN_REQUIRE(i == 0 || row > batch->logit_row[i - 1], MOERUN_ERR_INVALID,
                   "logit row %d: expected ascending rows, found %d after %d",
                   i, row, batch->logit_row[i - 1]);
  }
done:
  return status;
}

moerun_status moerun__batch_check(const moerun_batch *batch,
                                  const moerun__batch_limits *limits) {
  moerun_status status = MOERUN_OK;
  const int32_t T = batch->num_tokens;
  MOERUN_REQUIRE(T >= 0 && T <= limits->max_tokens, MOERUN_ERR_OVERFLOW,
                 "expected 0 to %d rows, found %d", limits->max_tokens, T);
  MOERUN_REQUIRE(T == 0 || (batch->token != NULL && batch->sequence != NULL &&
                            batch->position != NULL),
                 MOERUN_ERR_INVALID, "token, sequence or position is NULL");
  MOERUN_REQUIRE(T == 0 || limits->cache->sizes.max_sequences > 0,
                 MOERUN_ERR_INVALID,
                 "the session has no sequences: max_sequences is 0");
  memset(limits->seen, 0, (size_t)limits->cache->sizes.max_sequences);
  for (int32_t t = 0; t < T; t += moerun__batch_run(batch, t)) {
    MOERUN_TRY(check_run(batch, t, moerun__batch_run(batch, t), limits));
  }
  MOERUN_TRY(check_logits(batch));
done:
  return status;
}

static void take_back(moerun__kv_cache *cache, const moerun_batch *batch,
                      int32_t num_rows) {
  for (int32_t t = 0; t < num_rows; t += moerun__batch_run(batch, t)) {
    moerun__kv_shrink(cache, batch->sequence[t], moerun__batch_run(batch, t));
  }
}

moerun_status moerun__batch_extend(moerun__kv_cache *cache,
                                   const moerun_batch *batch) {
  moerun_status status = MOERUN_OK;
  int32_t t = 0;
  for (; t < batch->num_tokens; t += moerun__batch_run(batch, t)) {
    const int32_t sequence = batch->sequence[t];
    if (batch->position[t] == 0) moerun__kv_reset(cache, sequence);
    MOERUN_TRY(moerun__kv_extend(cache, sequence, moerun__batch_run(batch, t)));
  }
done:
  if (status != MOERUN_OK) take_back(cache, batch, t);
  return status;
}

void moerun__batch_take_back(moerun__kv_cache *cache,
                             const moerun_batch *batch) {
  take_back(cache, batch, batch->num_tokens);
}
