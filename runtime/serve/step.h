/* One step of a rank: which rows of its sequences the model sees, and what
 * becomes of the logits that it answers with. */
#ifndef MOERUN_SERVE_STEP_H
#define MOERUN_SERVE_STEP_H

#include "runtime/decoder/session.h"
#include "runtime/serve/sequence.h"

typedef struct moerun__step {
  moerun__sequences *sequences; /* borrowed */
  moerun__kv_cache *cache;      /* borrowed; NULL: what sequences begin with in
                                   common is fed by each (reuse.h)          */
  const moerun__tokenizer *tokenizer; /* borrowed; NULL: no stop is a text */
  int32_t streams;
  int32_t prefill_chunk;
  int32_t max_tokens;
  int32_t window; /* prompts are cut at multiples of it; 1: anywhere */
  moerun_batch batch;
  int32_t *token;     /* [max_tokens] */
  int32_t *seat;      /* [max_tokens] */
  int32_t *position;  /* [max_tokens] */
  int32_t *request;   /* [max_tokens] its number */
  uint8_t *priority;  /* [max_tokens] */
  uint8_t *decoded;   /* [max_tokens] */
  int32_t *logit_row; /* [max_logits] */
  int32_t max_logits;
  float *logits;       /* [max_logits][V] */
  float *copy;         /* [V] logits that are sampled from; NULL: nobody asks
                          for log-probabilities                             */
  int32_t *heap;       /* [V] */
  int64_t prompt_rows; /* of the batch */
  int64_t reused;      /* positions that need no rows, as others had them */
  int64_t generated;   /* tokens sampled after it */
} moerun__step;

/* Counts, or hands out, by the sizes of the session. The sequences are
 * borrowed. */
void moerun__step_lay_out(moerun__step *step, const moerun_session *session,
                          moerun__sequences *sequences,
                          const moerun__engine_options *options,
                          moerun__arena *arena);
/* Fills the batch, which moerun__session_forward is to run. */
void moerun__step_build(moerun__step *step);
/* After the session ran it by moerun__session_forward: keeps traces and pages,
 * samples, scores, and ends the sequences that are over: their completions are
 * among those that sequences have finished. Allocates for the text that stops
 * are looked for in. */
moerun_status moerun__step_use(moerun__step *step, moerun_session *session);

#endif
