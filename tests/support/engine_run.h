/* Runs a fixed set of requests through the engine from memory, in any order,
 * and keeps what each produced. For tests on one or many ranks. */
#ifndef MOERUN_TESTS_ENGINE_RUN_H
#define MOERUN_TESTS_ENGINE_RUN_H

#include "runtime/decoder/session.h"
#include "runtime/serve/engine.h"
#include "support/cmocka.h"

#include <stdlib.h>
#include <string.h>

enum { RUN_REQUESTS = 12, RUN_TOKENS = 64, RUN_IDS = 256, RUN_TRACE = 4096 };
enum { RUN_LOGPROBS = 512, RUN_WIDTH = 8 };

typedef struct run_result {
  int seen;
  moerun__finish finish;
  int32_t num_tokens;
  int32_t token[RUN_TOKENS];
  double log_probability;
  int32_t num_logprobs;
  moerun__logprob logprob[RUN_LOGPROBS];
  int32_t num_traced;
  int16_t trace[RUN_TRACE];
} run_result;

typedef struct run_state {
  const moerun__request *request; /* [RUN_REQUESTS] */
  const int32_t *order;           /* [count] indices of requests to run */
  int32_t count;
  int32_t handed_out;
  int32_t stop_after; /* finished requests after which to stop; 0: never */
  int32_t finished;
  size_t trace_width;
  run_result *result;         /* [RUN_REQUESTS], on rank 0 */
  const run_result *before;   /* [RUN_REQUESTS] what requests generated before,
                               on rank 0; NULL: nothing                      */
  int32_t kept[RUN_REQUESTS]; /* how many tokens of that they come with */
  int32_t ids[RUN_IDS];       /* of the last request that came with any */
} run_state;

/* The request with the tokens that it comes with behind its prompt. */
static inline void run_keep(run_state *state, moerun__request *request) {
  const int32_t kept = state->kept[request->index];
  const size_t num_prompt = (size_t)request->num_prompt;
  if (state->before == NULL || kept == 0) return;
  memcpy(state->ids, request->prompt, num_prompt * sizeof *state->ids);
  memcpy(state->ids + num_prompt, state->before[request->index].token,
         (size_t)kept * sizeof *state->ids);
  request->prompt = state->ids;
  request->num_kept = kept;
}

static moerun_status run_next(void *context, moerun__request *request,
                              int *has) {
  run_state *state = context;
  *has = state->handed_out < state->count;
  if (*has) {
    *request = state->request[state->order[state->handed_out++]];
    run_keep(state, request);
  }
  return MOERUN_OK;
}

static moerun_status run_finished(void *context,
                                  const moerun__completion *done) {
  run_state *state = context;
  run_result *result = &state->result[done->index];
  if (result->seen++) return MOERUN_ERR_INVALID;
  state->finished++;
  result->finish = done->finish;
  result->num_tokens = done->num_tokens;
  memcpy(result->token, done->token,
         (size_t)done->num_tokens * sizeof(int32_t));
  result->log_probability = done->log_probability;
  result->num_logprobs =
      (done->num_prompt_logprobs + done->num_logprobs) * done->logprobs_width;
  assert_in_range(result->num_logprobs, 0, RUN_LOGPROBS);
  if (result->num_logprobs > 0) {
    memcpy(result->logprob, done->logprob,
           (size_t)result->num_logprobs * sizeof *result->logprob);
  }
  result->num_traced = done->num_traced;
  if (done->num_traced > 0) {
    memcpy(result->trace, done->trace,
           (size_t)done->num_traced * state->trace_width * sizeof(int16_t));
  }
  return MOERUN_OK;
}

static int run_stop(void *context) {
  const run_state *state = context;
  return state->stop_after > 0 && state->finished >= state->stop_after;
}

/* [collective] A whole run in one session. */
static inline moerun_status
run_engine(moerun_session *session, const moerun__engine_options *options,
           const moerun__engine_callbacks *callbacks,
           moerun__progress *progress, int *stopped) {
  const moerun__engine_stretch stretch = {.session = session};
  return moerun__engine_run(&stretch, options, callbacks, progress, stopped);
}

static inline moerun_status run_requests(moerun_session *session,
                                         run_state *state,
                                         int32_t prefill_chunk,
                                         int record_trace, int *stopped) {
  const moerun__engine_options options = {.record_trace = record_trace,
                                          .prefill_chunk = prefill_chunk,
                                          .logprobs_width = RUN_WIDTH};
  const moerun__engine_callbacks callbacks = {.context = state,
                                              .next = run_next,
                                              .finished = run_finished,
                                              .stop_requested = run_stop};
  moerun__progress progress;
  const moerun__model_config *config = &session->model->config;
  state->trace_width =
      (size_t)config->num_moe_layers * (size_t)moerun__config_terms(config);
  state->handed_out = 0;
  state->finished = 0;
  return run_engine(session, &options, &callbacks, &progress, stopped);
}

#endif
