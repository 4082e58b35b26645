#include "launch/run/work_left.h"

#include "runtime/base/memory.h"

moerun_status moerun__work_left_of(moerun__work_left *out,
                                   const moerun__prompts *prompts,
                                   const moerun__results *results,
                                   const moerun__unfinished *kept,
                                   int32_t max_sequences, int32_t num_ranks) {
  moerun_status status = MOERUN_OK;
  int32_t *positions = NULL;
  moerun__work work = {0};
  const int64_t count = moerun__prompts_count(prompts);
  /* The last token of a text to be scored is not fed. */
  const int32_t unfed = moerun__prompts_are_scored(prompts);
  MOERUN_TRY(moerun__alloc(&positions, (size_t)count, sizeof *positions));
  for (int64_t i = 0; i < count; i++) {
    const char *id = NULL;
    if (moerun__results_has(results, i) ||
        moerun__prompts_error(prompts, i, &id) != NULL) {
      continue;
    }
    const int32_t all = moerun__prompts_positions(prompts, i);
    const int32_t generated = moerun__prompts_new_tokens(prompts, i);
    positions[work.requests++] = all;
    work.prompt_tokens += all - generated - unfed;
    work.new_tokens += generated;
  }
  const moerun__unfinished_counts before = moerun__unfinished_count(kept);
  work.prompt_tokens += before.tokens;
  work.new_tokens -= before.tokens;
  out->work = work;
  out->need =
      moerun__cache_need_of(positions, work.requests, max_sequences, num_ranks);
  out->need.logprobs_width = moerun__prompts_logprobs_width(prompts);
  out->need.stop_bytes = moerun__prompts_stop_bytes(prompts);
  out->need.has_stop_texts = moerun__prompts_have_stop_texts(prompts);
done:
  moerun__free(positions);
  return status;
}
