/* What tests of requests share: a scratch file, the demo model's tokenizer, and
 * the settings of a run. */
#ifndef MOERUN_TESTS_PROMPTS_RIG_H
#define MOERUN_TESTS_PROMPTS_RIG_H

#include "launch/requests/prompts.h"
#include "support/scratch.h"

static moerun__tokenizer *tokenizer;
static char path[SCRATCH_PATH];

static inline int set_up(void **state) {
  (void)state;
  scratch_create(path);
  return moerun__tokenizer_load(&tokenizer, MOERUN_DEMO_MODEL) == MOERUN_OK
             ? 0
             : -1;
}

static inline int tear_down(void **state) {
  (void)state;
  (void)unlink(path);
  moerun__tokenizer_destroy(tokenizer);
  return 0;
}

static inline moerun__prompt_options defaults(void) {
  return (moerun__prompt_options){.tokenizer = tokenizer,
                                  .text_bos = 256,
                                  .tokens_bos = -1,
                                  .vocab_size = 272,
                                  .max_positions = 64,
                                  .kv_tokens = 64,
                                  .max_new_tokens = 8,
                                  .sampling.temperature = 0.5,
                                  .sampling.top_p = 0.75,
                                  .sampling.seed = 3,
                                  .sampling.repetition_penalty = 1,
                                  .run_digest = 99};
}

static inline void expect_tokens(const moerun__prompt *prompt,
                                 const int32_t *id, size_t count) {
  assert_int_equal(prompt->request.num_prompt, count);
  assert_ptr_equal(prompt->request.prompt, prompt->tokens.id);
  assert_memory_equal(prompt->tokens.id, id, count * sizeof *id);
}

#endif
