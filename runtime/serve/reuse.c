/* Pages become known as they fill (kv_cache.h), so a request that comes later
 * finds them. Requests that come together would all feed the same rows at once:
 * so one waits for another's page, but only for that of a sequence that is
 * older. The oldest waits for nobody, and whoever is waited for is fed as ever,
 * or ends and is no longer there; nothing can wait in a circle or for ever.
 *
 * Rows that have to answer are fed, whatever is known: a position whose
 * successor is not given, or whose logits somebody asks for. */
#include "runtime/serve/reuse.h"

#include <string.h>

int32_t moerun__sequence_to_feed(const moerun__sequence *sequence) {
  return sequence->request.score_only ? sequence->num_tokens - 1
                                      : sequence->num_tokens;
}

/* Positions at the front of a sequence whose rows need not answer. */
static int32_t silent_positions(const moerun__sequence *sequence) {
  const moerun__request *request = &sequence->request;
  if (request->score_only || request->logprobs.prompt) return 0;
  return request->logprobs.generated ? request->num_prompt - 1
                                     : moerun__sequence_given(sequence) - 1;
}

int32_t moerun__reuse_take(moerun__kv_cache *cache,
                           moerun__sequences *sequences, int32_t seat) {
  moerun__sequence *sequence = &sequences->sequence[seat];
  const int32_t most = silent_positions(sequence);
  if (sequence->num_fed >= most) return 0;
  const int32_t taken = moerun__kv_reuse(cache, seat, sequence->token, most);
  sequence->num_fed += taken;
  return taken;
}

int moerun__reuse_waits(const moerun__kv_cache *cache,
                        const moerun__sequences *sequences, int32_t at) {
  const int32_t seat = sequences->order[at];
  const moerun__sequence *sequence = &sequences->sequence[seat];
  const int32_t first = sequence->num_fed;
  const int32_t end = first + MOERUN_PAGE_POSITIONS;
  if (end > silent_positions(sequence)) return 0;
  for (int32_t i = 0; i < at; i++) {
    const int32_t other = sequences->order[i];
    const moerun__sequence *older = &sequences->sequence[other];
    if (moerun__sequence_to_feed(older) >= end &&
        moerun__kv_meets(cache, seat, other) &&
        memcmp(older->token + first, sequence->token + first,
               MOERUN_PAGE_POSITIONS * sizeof(int32_t)) == 0) {
      return 1;
    }
  }
  return 0;
}

void moerun__reuse_leave(moerun__kv_cache *cache,
                         const moerun__sequences *sequences, int32_t seat) {
  moerun__kv_keep(cache, seat, sequences->sequence[seat].token);
}
