/* Decode rows come first, then prompt rows of the oldest sequences while the
 * step has room, so that a long prompt never holds up those who decode. What
 * others have fed is not fed again. */
#include "runtime/serve/step.h"

#include "runtime/base/timer.h"
#include "runtime/decoder/broken.h"
#include "runtime/decoder/sample.h"
#include "runtime/serve/reuse.h"

#include <math.h>
#include <string.h>

enum { SCORE_ROWS = 64 };

/* ---- Buffers ------------------------------------------------------------- */

static int32_t most_logits(const moerun_session *session, int32_t window) {
  int32_t most = window > SCORE_ROWS ? window : SCORE_ROWS;
  if (most < session->kv.max_sequences) most = session->kv.max_sequences;
  return most < session->options.max_tokens ? most
                                            : session->options.max_tokens;
}

/* A trace has every row, and under a capacity a row's result is not its own. */
static int may_share(const moerun_session *session,
                     const moerun__sequences *sequences,
                     const moerun__engine_options *options) {
  return options->shares_prefixes && sequences->trace_width == 0 &&
         session->moe.gate.options.capacity.gamma == 0;
}

void moerun__step_lay_out(moerun__step *step, const moerun_session *session,
                          moerun__sequences *sequences,
                          const moerun__engine_options *options,
                          moerun__arena *arena) {
  const size_t T = (size_t)session->options.max_tokens;
  const size_t V = (size_t)session->model->config.vocab_size;
  step->sequences = sequences;
  step->cache = may_share(session, sequences, options) ? session->cache : NULL;
  step->prefill_chunk = options->prefill_chunk;
  step->tokenizer = options->tokenizer;
  step->streams = options->streams;
  step->max_tokens = session->options.max_tokens;
  step->window = moerun__gate_window(&session->moe.gate.options);
  step->max_logits = most_logits(session, step->window);
  const size_t logits = (size_t)step->max_logits;
  step->token = moerun__arena_take(arena, T, sizeof(int32_t));
  step->seat = moerun__arena_take(arena, T, sizeof(int32_t));
  step->position = moerun__arena_take(arena, T, sizeof(int32_t));
  step->request = moerun__arena_take(arena, T, sizeof(int32_t));
  step->priority = moerun__arena_take(arena, T, 1);
  step->decoded = moerun__arena_take(arena, T, 1);
  step->logit_row = moerun__arena_take(arena, logits, sizeof(int32_t));
  step->logits = moerun__arena_take(arena, logits * V, sizeof(float));
  step->copy = sequences->logprobs_width > 0
                   ? moerun__arena_take(arena, V, sizeof(float))
                   : NULL;
  step->heap = moerun__arena_take(arena, V, sizeof(int32_t));
  step->batch = (moerun_batch){.token = step->token,
                               .sequence = step->seat,
                               .position = step->position,
                               .logit_row = step->logit_row};
}

/* ---- The batch ----------------------------------------------------------- */

static int is_decoding(const moerun__sequence *sequence) {
  return sequence->num_tokens > moerun__sequence_given(sequence);
}

/* Whether the row at `position` has to say what follows: a token is sampled, or
 * somebody asks how likely the one is that does. */
static int wants_logits(const moerun__sequence *sequence, int32_t position) {
  const moerun__request *request = &sequence->request;
  const int32_t next = position + 1;
  if (request->score_only || next == sequence->num_tokens) return 1;
  return next < request->num_prompt ? request->logprobs.prompt
                                    : request->logprobs.generated;
}

/* How many of the next `count` rows the logits that are left are enough for. */
static int32_t rows_with_logits(const moerun__step *s,
                                const moerun__sequence *sequence,
                                int32_t count) {
  int32_t left = s->max_logits - s->batch.num_logits;
  int32_t rows = 0;
  for (; rows < count; rows++) {
    const int wants = wants_logits(sequence, sequence->num_fed + rows);
    if (wants && left == 0) break;
    left -= wants;
  }
  return rows;
}

static void add_row(moerun__step *s, int32_t seat) {
  moerun__sequence *sequence = &s->sequences->sequence[seat];
  moerun_batch *batch = &s->batch;
  const int32_t row = batch->num_tokens++;
  s->token[row] = sequence->token[sequence->num_fed];
  s->seat[row] = seat;
  s->request[row] = (int32_t)(sequence->request.index & INT32_MAX);
  s->priority[row] = (uint8_t)sequence->request.priority;
  s->decoded[row] = sequence->num_fed >= sequence->request.num_prompt;
  s->position[row] = sequence->num_fed++;
  if (wants_logits(sequence, s->position[row]))
    s->logit_row[batch->num_logits++] = row;
}

/* Rows of one sequence's prompt and of the tokens that it came with, as many as
 * the step has room for. */
static void add_prompt(moerun__step *s, int32_t seat) {
  const moerun__sequence *sequence = &s->sequences->sequence[seat];
  int32_t count = moerun__sequence_to_feed(sequence) - sequence->num_fed;
  const int32_t rows = s->max_tokens - s->batch.num_tokens;
  if (count > rows) count = rows;
  if (s->prefill_chunk > 0 && count > s->prefill_chunk) {
    count = s->prefill_chunk;
  }
  count = rows_with_logits(s, sequence, count);
  if (count < moerun__sequence_to_feed(sequence) - sequence->num_fed) {
    count -= (sequence->num_fed + count) % s->window;
    if (count < 0) count = 0; /* begun with another window */
  }
  for (int32_t i = 0; i < count; i++) {
    add_row(s, seat);
  }
  s->prompt_rows += count;
}

void moerun__step_build(moerun__step *s) {
  s->prompt_rows = 0;
  s->reused = 0;
  s->batch.num_tokens = 0;
  s->batch.num_logits = 0;
  for (int32_t i = 0; i < s->sequences->num_active; i++) {
    const int32_t seat = s->sequences->order[i];
    if (is_decoding(&s->sequences->sequence[seat])) add_row(s, seat);
  }
  for (int32_t i = 0;
       i < s->sequences->num_active && s->batch.num_tokens < s->max_tokens;
       i++) {
    const int32_t seat = s->sequences->order[i];
    if (is_decoding(&s->sequences->sequence[seat])) continue;
    if (s->cache != NULL) {
      s->reused += moerun__reuse_take(s->cache, s->sequences, seat);
      if (moerun__reuse_waits(s->cache, s->sequences, i)) continue;
    }
    add_prompt(s, seat);
  }
}

/* ---- After the step ------------------------------------------------------ */

static void finish(moerun__step *s, moerun_session *session, int32_t seat,
                   moerun__finish reason) {
  moerun__kv_reset(session->cache, seat);
  moerun__sequence_finish(s->sequences, seat, reason,
                          session->model->comm->rank);
}

static void keep_trace(moerun__step *s, moerun_session *session) {
  const size_t width = s->sequences->trace_width;
  for (int32_t t = 0; width > 0 && t < s->batch.num_tokens; t++) {
    moerun__sequence *sequence = &s->sequences->sequence[s->seat[t]];
    memcpy(sequence->trace + (size_t)s->position[t] * width,
           session->trace + (size_t)t * width, width * sizeof(int16_t));
  }
}

/* Rows of a sequence stand in ascending positions: the first one counts. */
static void note_broken(moerun__step *s, moerun_session *session) {
  for (int32_t t = 0; t < s->batch.num_tokens; t++) {
    moerun__sequence *sequence = &s->sequences->sequence[s->seat[t]];
    if (session->broken[t] == MOERUN_BROKEN_NOT ||
        sequence->broken != MOERUN_BROKEN_NOT) {
      continue;
    }
    sequence->broken = session->broken[t];
    sequence->broken_position = s->position[t];
  }
}

/* Before any sequence ends, and gives its pages back. */
static void leave_pages(moerun__step *s) {
  for (int32_t i = 0; s->cache != NULL && i < s->sequences->num_active; i++) {
    const int32_t seat = s->sequences->order[i];
    if (s->sequences->sequence[seat].broken != MOERUN_BROKEN_NOT) continue;
    moerun__reuse_leave(s->cache, s->sequences, seat);
  }
}

/* The latency of the first of `generated` tokens of this run, or after the last
 * one that of those between. One clock reading for each. */
static void time_token(moerun_session *session, moerun__sequence *sequence,
                       int32_t generated, int is_last) {
  moerun__stats *stats = &session->stats;
  if (generated > 1 && !is_last) return;
  const double now = moerun__now();
  const double seconds = now - sequence->mark;
  if (generated == 1) {
    moerun__histogram_add(&stats->first_token, seconds);
    sequence->mark = now;
  } else {
    moerun__histogram_add(&stats->per_token, seconds / (generated - 1));
  }
}

/* Of the token at `position`, by the logits of the row before it. */
static void keep_logprobs(moerun__step *s, const moerun_session *session,
                          const moerun__sequence *sequence, int32_t position,
                          float *logits) {
  moerun__logprobs(moerun__sequence_logprob(s->sequences, sequence, position),
                   moerun__logprobs_width(&sequence->request.logprobs),
                   session->kernels, logits, session->model->config.vocab_size,
                   sequence->token[position], s->heap);
}

/* Before so many tokens as the request asks for, none ends it. */
static void forbid_ends(float *logits, const moerun__model_config *config,
                        const moerun__stops *stops) {
  for (int32_t i = 0; i < config->num_eos; i++) {
    logits[config->eos_token[i]] = -INFINITY;
  }
  for (int32_t i = 0; i < stops->num_tokens; i++) {
    logits[stops->token[i]] = -INFINITY;
  }
}

/* Whether the last token ends the sequence by its own stops. Those that it came
 * with are watched first: a stop may have begun in them. */
static moerun_status watch(moerun__step *s, int *ends,
                           moerun__sequence *sequence) {
  moerun_status status = MOERUN_OK;
  const moerun__request *request = &sequence->request;
  moerun__stop_watch *w = &sequence->watch;
  *ends = 0;
  if (moerun__stops_bytes(&request->stops) == 0) goto done;
  if (!sequence->is_watched) {
    MOERUN_TRY(moerun__stop_watch_begin(
        w, &request->stops, request->min_new_tokens,
        request->stops.num_texts > 0 ? s->tokenizer : NULL));
    sequence->is_watched = 1;
  }
  while (request->num_prompt + w->num_tokens < sequence->num_tokens) {
    const int32_t at = request->num_prompt + w->num_tokens;
    MOERUN_TRY(moerun__stop_watch_put(w, ends, sequence->token[at]));
  }
done:
  return status;
}

static moerun_status sample_row(moerun__step *s, moerun_session *session,
                                int32_t seat, float *logits) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = &session->model->config;
  moerun__sequence *sequence = &s->sequences->sequence[seat];
  const moerun__request *request = &sequence->request;
  const int32_t before = sequence->num_tokens - request->num_prompt;
  const moerun__history history = {sequence->token, request->num_prompt,
                                   sequence->num_tokens};
  const int keeps = request->logprobs.generated;
  float *sampled = keeps ? s->copy : logits;
  if (keeps) {
    memcpy(sampled, logits, (size_t)config->vocab_size * sizeof *logits);
  }
  if (before < request->min_new_tokens) {
    forbid_ends(sampled, config, &request->stops);
  }
  const int32_t token =
      moerun__sample(session->kernels, sampled, config->vocab_size,
                     &request->sampling, &history, s->heap);
  sequence->token[sequence->num_tokens++] = token;
  if (keeps) {
    keep_logprobs(s, session, sequence, sequence->num_tokens - 1, logits);
  }
  s->generated++;
  const int ends = moerun__config_is_eos(config, token);
  int stops = 0;
  if (!ends) MOERUN_TRY(watch(s, &stops, sequence));
  const int is_last = ends || stops || before + 1 == request->max_new_tokens;
  time_token(session, sequence, before + 1 - request->num_kept, is_last);
  if (ends) {
    finish(s, session, seat, MOERUN_FINISH_EOS);
  } else if (is_last) {
    finish(s, session, seat, stops ? MOERUN_FINISH_STOP : MOERUN_FINISH_LENGTH);
  } else if (s->streams) {
    moerun__sequence_tell(s->sequences, seat, session->model->comm->rank);
  }
done:
  return status;
}

static moerun_status use_logits(moerun__step *s, moerun_session *session) {
  moerun_status status = MOERUN_OK;
  const int32_t V = session->model->config.vocab_size;
  for (int32_t i = 0; i < s->batch.num_logits; i++) {
    const int32_t row = s->logit_row[i];
    moerun__sequence *sequence = &s->sequences->sequence[s->seat[row]];
    float *logits = s->logits + (size_t)i * (size_t)V;
    if (sequence->broken != MOERUN_BROKEN_NOT) continue;
    const int32_t next = s->position[row] + 1;
    if (sequence->request.score_only) {
      sequence->log_probability += moerun__log_probability(
          session->kernels, logits, V, sequence->token[next]);
    } else if (next < sequence->num_tokens) {
      keep_logprobs(s, session, sequence, next, logits);
    } else {
      MOERUN_TRY(sample_row(s, session, s->seat[row], logits));
    }
  }
  for (int32_t i = s->sequences->num_active - 1; i >= 0; i--) {
    const int32_t seat = s->sequences->order[i];
    const moerun__sequence *sequence = &s->sequences->sequence[seat];
    if (sequence->broken != MOERUN_BROKEN_NOT) {
      finish(s, session, seat, MOERUN_FINISH_BROKEN);
    } else if (sequence->request.score_only &&
               sequence->num_fed == moerun__sequence_to_feed(sequence)) {
      finish(s, session, seat, MOERUN_FINISH_SCORED);
    }
  }
  moerun__stage_end(&session->stats, MOERUN_STAGE_SAMPLE);
done:
  return status;
}

moerun_status moerun__step_use(moerun__step *s, moerun_session *session) {
  s->generated = 0;
  keep_trace(s, session);
  note_broken(s, session);
  leave_pages(s);
  return use_logits(s, session);
}
