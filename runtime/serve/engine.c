/* A rank's side: tell rank 0 the room and the finished, take new requests,
 * build the step's batch, forward, sample. Decode rows come first, then prompt
 * rows of the oldest sequences while the step has room, so that a long prompt
 * never holds up those who decode. */
#include "runtime/serve/engine.h"
#include "runtime/decoder/broken.h"
#include "runtime/decoder/sample.h"
#include "runtime/decoder/session.h"
#include "runtime/serve/dealer.h"
#include "runtime/serve/replace.h"

#include "runtime/base/number.h"
#include "runtime/base/timer.h"

#include <string.h>

enum { SCORE_ROWS = 64 };

/* What one step is built in, by the sizes of the session. */
typedef struct step_rows {
  moerun_batch batch;
  int32_t *token;     /* [max_tokens] */
  int32_t *seat;      /* [max_tokens] */
  int32_t *position;  /* [max_tokens] */
  int32_t *request;   /* [max_tokens] its number */
  uint8_t *priority;  /* [max_tokens] */
  uint8_t *decoded;   /* [max_tokens] */
  int32_t *logit_row; /* [max_logits] */
  int32_t max_logits;
  float *logits; /* [max_logits][V] */
  int32_t *heap; /* [V] */
} step_rows;

struct moerun__engine {
  /* As long as there are requests. */
  moerun__engine_callbacks callbacks;
  moerun__engine_options options;
  moerun__kv_cache *cache;
  moerun__sequences sequences;
  moerun__dealer dealer; /* rank 0 only */
  int is_root;
  moerun__rank_word word;
  char *requests; /* new requests of a step, on the wire */
  int32_t promised_pages;
  /* As long as there is a session. */
  moerun_session *session;
  moerun_comm *comm;
  moerun__transfer *transfer;
  void *block;          /* of what follows, and of the dealer's view of ranks */
  int32_t *unit_offset; /* [R + 1] scratch of messages */
  int32_t window;       /* prompts are cut at multiples of it; 1: anywhere */
  step_rows step;
};

/* ---- Buffers ---------------------------------------------------------------- */

/* Counts, or hands out, what lasts as long as the engine. */
static void lay_out(moerun__engine *e, const moerun__model_config *config,
                    const moerun__kv_sizes *kv, moerun__arena *arena) {
  const int32_t cached = kv->max_pages * MOERUN_PAGE_POSITIONS;
  const int32_t positions =
      cached < config->max_positions ? cached : config->max_positions;
  const size_t trace_width = e->options.record_trace
                                 ? (size_t)config->num_moe_layers *
                                       (size_t)moerun__config_terms(config)
                                 : 0;
  moerun__sequences_lay_out(&e->sequences, kv->max_sequences, positions,
                            trace_width, arena);
  e->requests =
      moerun__arena_take(arena, moerun__request_box_bytes(&e->sequences), 1);
  if (!e->is_root) return;
  moerun__dealer_lay_out(&e->dealer, &e->callbacks, &e->sequences, arena);
}

static int32_t most_logits(const moerun_session *session, int32_t window) {
  int32_t most = window > SCORE_ROWS ? window : SCORE_ROWS;
  if (most < session->kv.max_sequences) most = session->kv.max_sequences;
  return most < session->options.max_tokens ? most
                                            : session->options.max_tokens;
}

/* Counts, or hands out, what the session's steps need. */
static void lay_out_step(moerun__engine *e, const moerun_session *session,
                         moerun__arena *arena) {
  step_rows *step = &e->step;
  const size_t R = (size_t)session->model->comm->size;
  const size_t T = (size_t)session->options.max_tokens;
  const size_t V = (size_t)session->model->config.vocab_size;
  e->window = moerun__gate_window(&session->moe.gate.options);
  step->max_logits = most_logits(session, e->window);
  const size_t logits = (size_t)step->max_logits;
  e->unit_offset = moerun__arena_take(arena, R + 1, sizeof(int32_t));
  step->token = moerun__arena_take(arena, T, sizeof(int32_t));
  step->seat = moerun__arena_take(arena, T, sizeof(int32_t));
  step->position = moerun__arena_take(arena, T, sizeof(int32_t));
  step->request = moerun__arena_take(arena, T, sizeof(int32_t));
  step->priority = moerun__arena_take(arena, T, 1);
  step->decoded = moerun__arena_take(arena, T, 1);
  step->logit_row = moerun__arena_take(arena, logits, sizeof(int32_t));
  step->logits = moerun__arena_take(arena, logits * V, sizeof(float));
  step->heap = moerun__arena_take(arena, V, sizeof(int32_t));
  step->batch = (moerun_batch){.token = step->token,
                               .sequence = step->seat,
                               .position = step->position,
                               .logit_row = step->logit_row};
  if (e->is_root) {
    moerun__dealer_lay_out_ranks(&e->dealer, session->model->comm, arena);
  }
}

size_t moerun__engine_bytes(const moerun_session *session,
                            const moerun__engine_options *options) {
  const moerun_comm *comm = session->model->comm;
  moerun__engine e = {.options = *options, .is_root = comm->rank == 0};
  moerun__arena lasting = {NULL, 0};
  moerun__arena step = {NULL, 0};
  (void)moerun__arena_take(&lasting, 1, sizeof e);
  lay_out(&e, &session->model->config, &session->kv, &lasting);
  lay_out_step(&e, session, &step);
  return moerun__alloc_bytes(lasting.used, 1) +
         moerun__alloc_bytes(step.used, 1) + comm->ops->transfer_bytes(comm, 0);
}

/* ---- Talking to rank 0 ------------------------------------------------------- */

/* Own messages to (or from) rank 0. */
static moerun__row_list root_message(moerun__engine *e, char *bytes,
                                     int64_t units) {
  memset(e->unit_offset, 0, ((size_t)e->comm->size + 1) * sizeof(int32_t));
  e->unit_offset[1] = moerun__to_int(units);
  return (moerun__row_list){bytes, MOERUN_WIRE_UNIT, e->unit_offset, 0, 1};
}

static moerun_status send_finished(moerun__engine *e) {
  moerun_status status = MOERUN_OK;
  const moerun__row_list out =
      root_message(e, e->sequences.finished, e->word.finished_units);
  MOERUN_TRY(e->comm->ops->send_begin(e->transfer, MOERUN_TAG_CONTROL, &out));
  MOERUN_TRY(e->comm->ops->wait(e->transfer));
done:
  return status;
}

static moerun_status receive_requests(moerun__engine *e, int64_t units) {
  moerun_status status = MOERUN_OK;
  const int64_t most =
      (int64_t)(moerun__request_box_bytes(&e->sequences) / MOERUN_WIRE_UNIT);
  MOERUN_REQUIRE(units > 0 && units <= most, MOERUN_ERR_COMM,
                 "rank 0 announced requests of %lld words: expected at most "
                 "%lld",
                 (long long)units, (long long)most);
  const moerun__row_list in = root_message(e, e->requests, units);
  MOERUN_TRY(e->comm->ops->receive_begin(e->transfer, MOERUN_TAG_CONTROL, &in));
  MOERUN_TRY(e->comm->ops->wait(e->transfer));
done:
  return status;
}

static int32_t pages_of(const moerun__request *request) {
  return moerun__kv_pages((int64_t)request->num_prompt +
                          request->max_new_tokens);
}

static void start_requests(moerun__engine *e, const char *parts, size_t bytes) {
  for (size_t at = 0; at < bytes;) {
    moerun__request request;
    at += moerun__request_read(&request, parts + at);
    const int32_t seat = moerun__sequence_start(&e->sequences, &request);
    e->sequences.sequence[seat].mark = e->session->stats.mark;
    e->promised_pages += pages_of(&request);
  }
}

/* One step boundary; *command is rank 0's word. */
static moerun_status take_turn(moerun__engine *e, moerun__command *command) {
  moerun_status status = MOERUN_OK;
  moerun_status root_status = MOERUN_OK;
  moerun__root_word answer;
  const moerun__comm_ops *ops = e->comm->ops;
  const int is_root = e->is_root;
  const moerun__engine_callbacks *callbacks = &e->callbacks;
  e->word.stop = callbacks->stop_requested != NULL &&
                 callbacks->stop_requested(callbacks->context);
  e->word.active = e->sequences.num_active;
  e->word.free_sequences = e->sequences.max_sequences - e->word.active;
  e->word.free_pages = e->cache->sizes.num_pages - e->promised_pages;
  e->word.finished_units =
      (int64_t)(e->sequences.finished_bytes / MOERUN_WIRE_UNIT);
  moerun__stage_begin(&e->session->stats);
  MOERUN_TRY(ops->gather(e->comm, e->dealer.word, &e->word, sizeof e->word));
  if (is_root) {
    root_status = moerun__dealer_turn(&e->dealer, e->sequences.finished);
  } else if (e->word.finished_units > 0) {
    MOERUN_TRY(send_finished(e));
  }
  MOERUN_TRY(ops->scatter(e->comm, &answer, e->dealer.answer, sizeof answer));
  *command = (moerun__command)answer.command;
  if (is_root && root_status != MOERUN_OK) return root_status;
  MOERUN_REQUIRE(*command != MOERUN_COMMAND_FAIL, MOERUN_ERR_PEER,
                 "rank 0 reported: %s",
                 moerun_status_string((moerun_status)answer.status));
  const size_t bytes = (size_t)answer.request_units * MOERUN_WIRE_UNIT;
  if (is_root && *command == MOERUN_COMMAND_STEP) {
    MOERUN_TRY(moerun__dealer_send(&e->dealer));
    start_requests(e, e->dealer.outbox, bytes);
  } else if (answer.request_units > 0) {
    MOERUN_TRY(receive_requests(e, answer.request_units));
    start_requests(e, e->requests, bytes);
  }
  e->sequences.finished_bytes = 0;
  e->word.prompt_rows = 0;
  e->word.generated = 0;
  moerun__stage_end(&e->session->stats, MOERUN_STAGE_CONTROL);
done:
  return status;
}

/* ---- The batch ------------------------------------------------------------------ */

/* Tokens of a sequence that the model has to see: a scored prompt's last token
 * predicts nothing. */
static int32_t tokens_to_feed(const moerun__sequence *sequence) {
  return sequence->request.score_only ? sequence->num_tokens - 1
                                      : sequence->num_tokens;
}

static int is_decoding(const moerun__sequence *sequence) {
  return sequence->num_tokens > moerun__sequence_given(sequence);
}

static void add_row(moerun__engine *e, int32_t seat, int32_t wants_logits) {
  moerun__sequence *sequence = &e->sequences.sequence[seat];
  moerun_batch *batch = &e->step.batch;
  const int32_t row = batch->num_tokens++;
  e->step.token[row] = sequence->token[sequence->num_fed];
  e->step.seat[row] = seat;
  e->step.request[row] = (int32_t)(sequence->request.index & INT32_MAX);
  e->step.priority[row] = (uint8_t)sequence->request.priority;
  e->step.decoded[row] = sequence->num_fed >= sequence->request.num_prompt;
  e->step.position[row] = sequence->num_fed++;
  if (wants_logits) e->step.logit_row[batch->num_logits++] = row;
}

/* Rows of one sequence's prompt and of the tokens that it came with, as many as
 * the step has room for. */
static void add_prompt(moerun__engine *e, int32_t seat) {
  const moerun__sequence *sequence = &e->sequences.sequence[seat];
  const int32_t score = sequence->request.score_only;
  int32_t count = tokens_to_feed(sequence) - sequence->num_fed;
  const int32_t rows =
      e->session->options.max_tokens - e->step.batch.num_tokens;
  const int32_t logits = e->step.max_logits - e->step.batch.num_logits;
  if (count > rows) count = rows;
  if (e->options.prefill_chunk > 0 && count > e->options.prefill_chunk) {
    count = e->options.prefill_chunk;
  }
  if (score && count > logits) count = logits;
  if (!score && logits == 0 && count > 0) count--; /* never the last row */
  if (count < tokens_to_feed(sequence) - sequence->num_fed) {
    count -= (sequence->num_fed + count) % e->window;
    if (count < 0) count = 0; /* begun with another window */
  }
  for (int32_t i = 0; i < count; i++) {
    const int32_t last = sequence->num_fed + 1 == sequence->num_tokens;
    add_row(e, seat, score || last);
  }
  e->word.prompt_rows += count;
}

static void build_batch(moerun__engine *e) {
  e->step.batch.num_tokens = 0;
  e->step.batch.num_logits = 0;
  for (int32_t i = 0; i < e->sequences.num_active; i++) {
    const int32_t seat = e->sequences.order[i];
    if (is_decoding(&e->sequences.sequence[seat])) add_row(e, seat, 1);
  }
  for (int32_t i = 0; i < e->sequences.num_active; i++) {
    const int32_t seat = e->sequences.order[i];
    if (!is_decoding(&e->sequences.sequence[seat])) add_prompt(e, seat);
  }
}

/* ---- After the step ----------------------------------------------------------------- */

static void finish(moerun__engine *e, int32_t seat, moerun__finish reason) {
  e->promised_pages -= pages_of(&e->sequences.sequence[seat].request);
  moerun__kv_reset(e->cache, seat);
  moerun__sequence_finish(&e->sequences, seat, reason, e->comm->rank);
}

static void keep_trace(moerun__engine *e) {
  const size_t width = e->sequences.trace_width;
  for (int32_t t = 0; width > 0 && t < e->step.batch.num_tokens; t++) {
    moerun__sequence *sequence = &e->sequences.sequence[e->step.seat[t]];
    memcpy(sequence->trace + (size_t)e->step.position[t] * width,
           e->session->trace + (size_t)t * width, width * sizeof(int16_t));
  }
}

/* Rows of a sequence stand in ascending positions: the first one counts. */
static void note_broken(moerun__engine *e) {
  for (int32_t t = 0; t < e->step.batch.num_tokens; t++) {
    moerun__sequence *sequence = &e->sequences.sequence[e->step.seat[t]];
    if (e->session->broken[t] == MOERUN_BROKEN_NOT ||
        sequence->broken != MOERUN_BROKEN_NOT) {
      continue;
    }
    sequence->broken = e->session->broken[t];
    sequence->broken_position = e->step.position[t];
  }
}

/* The latency of the first of `generated` tokens of this run, or after the last
 * one that of those between. One clock reading for each. */
static void time_token(moerun__engine *e, moerun__sequence *sequence,
                       int32_t generated, int is_last) {
  moerun__stats *stats = &e->session->stats;
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

static void sample_row(moerun__engine *e, int32_t seat, float *logits) {
  const moerun__model_config *config = &e->session->model->config;
  moerun__sequence *sequence = &e->sequences.sequence[seat];
  const moerun__request *request = &sequence->request;
  const int32_t before = sequence->num_tokens - request->num_prompt;
  const moerun__sampling sampling = {request->temperature, request->top_p,
                                     request->seed, request->stream};
  const int32_t token =
      moerun__sample(e->session->kernels, logits, config->vocab_size, &sampling,
                     before, e->step.heap);
  sequence->token[sequence->num_tokens++] = token;
  e->word.generated++;
  const int ends = moerun__config_is_eos(config, token);
  const int is_last = ends || before + 1 == request->max_new_tokens;
  time_token(e, sequence, before + 1 - request->num_kept, is_last);
  if (ends) {
    finish(e, seat, MOERUN_FINISH_EOS);
  } else if (is_last) {
    finish(e, seat, MOERUN_FINISH_LENGTH);
  }
}

static void use_logits(moerun__engine *e) {
  const int32_t V = e->session->model->config.vocab_size;
  for (int32_t i = 0; i < e->step.batch.num_logits; i++) {
    const int32_t row = e->step.logit_row[i];
    moerun__sequence *sequence = &e->sequences.sequence[e->step.seat[row]];
    float *logits = e->step.logits + (size_t)i * (size_t)V;
    if (sequence->broken != MOERUN_BROKEN_NOT) continue;
    if (!sequence->request.score_only) {
      sample_row(e, e->step.seat[row], logits);
      continue;
    }
    const int32_t next = sequence->token[e->step.position[row] + 1];
    sequence->log_probability +=
        moerun__log_probability(e->session->kernels, logits, V, next);
  }
  for (int32_t i = e->sequences.num_active - 1; i >= 0; i--) {
    const int32_t seat = e->sequences.order[i];
    const moerun__sequence *sequence = &e->sequences.sequence[seat];
    if (sequence->broken != MOERUN_BROKEN_NOT) {
      finish(e, seat, MOERUN_FINISH_BROKEN);
    } else if (sequence->request.score_only &&
               sequence->num_fed == tokens_to_feed(sequence)) {
      finish(e, seat, MOERUN_FINISH_SCORED);
    }
  }
  moerun__stage_end(&e->session->stats, MOERUN_STAGE_SAMPLE);
}

/* What the step that has just ended shows of balance. */
static void note_balance(moerun__engine *e) {
  const moerun__ledger *ledger = &e->session->moe.balance.ledger;
  moerun__progress *progress = &e->dealer.progress;
  if (!e->session->moe.balance.is_on || ledger->num_steps == 0) return;
  const int64_t last = ledger->num_steps - 1;
  const moerun__ledger_entry *step = &ledger->steps[last % MOERUN_LEDGER_STEPS];
  const moerun__ledger_entry *told =
      &ledger->steps[(last > 0 ? last - 1 : 0) % MOERUN_LEDGER_STEPS];
  const int32_t R = ledger->num_ranks;
  progress->load_routed =
      moerun__peak_over_mean(step->peak_routed, step->rows, R);
  progress->load = moerun__peak_over_mean(step->peak_planned, step->rows, R);
  progress->last_rank = told->last;
  progress->idle = moerun__ledger_idle(ledger, told);
  progress->offered += step->offered;
  progress->dropped += step->dropped;
}

/* ---- Requests: create, destroy ------------------------------------------------- */

static moerun_status create_local(moerun__engine **out,
                                  const moerun__model_config *config,
                                  moerun__kv_cache *cache, int is_root,
                                  const moerun__engine_options *options,
                                  const moerun__engine_callbacks *callbacks) {
  moerun_status status = MOERUN_OK;
  moerun__engine sized = {.options = *options, .is_root = is_root};
  moerun__arena arena = {NULL, 0};
  void *block = NULL;
  MOERUN_REQUIRE(cache != NULL, MOERUN_ERR_INVALID,
                 "the model was loaded with moe_only: there is no decoder");
  (void)moerun__arena_take(&arena, 1, sizeof sized);
  lay_out(&sized, config, &cache->sizes, &arena);
  MOERUN_TRY(moerun__alloc_unset(&block, arena.used, 1));
  arena = (moerun__arena){block, 0};
  moerun__engine *e = moerun__arena_take(&arena, 1, sizeof *e);
  memset(e, 0, sizeof *e);
  e->callbacks = *callbacks;
  e->options = *options;
  e->cache = cache;
  e->is_root = is_root;
  lay_out(e, config, &cache->sizes, &arena);
  moerun__sequences_clear(&e->sequences);
  if (is_root) moerun__dealer_clear(&e->dealer);
  *out = e;
done:
  return status;
}

moerun_status moerun__engine_create(moerun__engine **out,
                                    const moerun__model_config *config,
                                    moerun__kv_cache *cache, moerun_comm *comm,
                                    const moerun__engine_options *options,
                                    const moerun__engine_callbacks *callbacks) {
  *out = NULL;
  const moerun_status status =
      moerun__comm_agree(comm, create_local(out, config, cache, comm->rank == 0,
                                            options, callbacks));
  if (status != MOERUN_OK) {
    moerun__engine_destroy(*out);
    *out = NULL;
  }
  return status;
}

void moerun__engine_destroy(moerun__engine *engine) {
  moerun__free(engine);
}

const moerun__progress *moerun__engine_progress(const moerun__engine *engine) {
  return &engine->dealer.progress;
}

/* ---- Steps ------------------------------------------------------------------------ */

static moerun_status check_session(const moerun__engine *e,
                                   const moerun_session *session) {
  moerun_status status = MOERUN_OK;
  const int32_t T = session->options.max_tokens;
  const int32_t chunk = e->options.prefill_chunk;
  const int32_t window = moerun__gate_window(&session->moe.gate.options);
  MOERUN_REQUIRE(session->cache == e->cache, MOERUN_ERR_INVALID,
                 "the session has another cache than the requests");
  MOERUN_REQUIRE((session->model->comm->rank == 0) == e->is_root,
                 MOERUN_ERR_INVALID,
                 "rank %d of this communicator: rank 0 has to stay the process "
                 "that it was",
                 session->model->comm->rank);
  MOERUN_REQUIRE(session->kv.max_sequences >= 1 &&
                     session->kv.max_sequences <= T,
                 MOERUN_ERR_INVALID,
                 "max_sequences: expected 1 to max_tokens (%d), found %d", T,
                 session->kv.max_sequences);
  MOERUN_REQUIRE(window <= T && (chunk == 0 || window <= chunk),
                 MOERUN_ERR_INVALID,
                 "capacity_window: expected at most max_tokens (%d) and "
                 "prefill_chunk (%d), found %d",
                 T, chunk, window);
  MOERUN_REQUIRE(e->sequences.trace_width == 0 || session->trace != NULL,
                 MOERUN_ERR_INVALID, "the session keeps no traces");
done:
  return status;
}

/* Takes a session up, on this rank. */
static moerun_status attach(moerun__engine *e, moerun_session *session) {
  moerun_status status = MOERUN_OK;
  moerun__arena arena = {NULL, 0};
  moerun_comm *comm = session->model->comm;
  e->session = session;
  e->comm = comm;
  MOERUN_TRY(check_session(e, session));
  lay_out_step(e, session, &arena);
  /* Kernels write the logits. */
  MOERUN_TRY(session->device->pinned_create(&e->block, arena.used));
  arena = (moerun__arena){e->block, 0};
  lay_out_step(e, session, &arena);
  MOERUN_TRY(comm->ops->transfer_create(&e->transfer, comm, 0));
  if (e->is_root) moerun__dealer_begin(&e->dealer, e->transfer);
  session->tags = (moerun__row_tags){e->step.request, e->step.position,
                                     e->step.priority, e->step.decoded};
done:
  return status;
}

static void detach(moerun__engine *e) {
  if (e->is_root) moerun__dealer_end(&e->dealer);
  e->session->tags = (moerun__row_tags){0};
  if (e->transfer != NULL) e->comm->ops->transfer_destroy(e->transfer);
  e->session->device->pinned_destroy(e->block);
  e->transfer = NULL;
  e->block = NULL;
  e->session = NULL;
  e->comm = NULL;
}

static moerun_status run_step(moerun__engine *e,
                              struct moerun__replacer *replacer) {
  moerun_status status = MOERUN_OK;
  build_batch(e);
  MOERUN_TRY(moerun_forward(e->session, &e->step.batch, e->step.logits));
  keep_trace(e);
  note_broken(e);
  use_logits(e);
  note_balance(e);
  if (replacer != NULL) {
    MOERUN_TRY(moerun__replacer_step(replacer, e->step.batch.num_tokens));
  }
done:
  return status;
}

moerun_status moerun__engine_serve(moerun__engine_end *end,
                                   moerun__engine *engine,
                                   const moerun__engine_stretch *stretch) {
  moerun_status status = MOERUN_OK;
  moerun__command command = MOERUN_COMMAND_STEP;
  struct moerun__replacer *replacer = stretch->replacer;
  int64_t steps = 0;
  *end = MOERUN_ENGINE_PAUSED;
  MOERUN_TRY(moerun__comm_agree(stretch->session->model->comm,
                                attach(engine, stretch->session)));
  while (stretch->most_steps == 0 || steps < stretch->most_steps) {
    MOERUN_TRY(take_turn(engine, &command));
    if (command == MOERUN_COMMAND_SHOW) {
      moerun__sequences_show(&engine->sequences, engine->comm->rank);
      continue;
    }
    if (command != MOERUN_COMMAND_STEP) break;
    MOERUN_TRY(run_step(engine, replacer));
    steps++;
  }
  if (replacer != NULL) MOERUN_TRY(moerun__replacer_end(replacer));
  if (command == MOERUN_COMMAND_STOP) *end = MOERUN_ENGINE_STOPPED;
  if (command == MOERUN_COMMAND_DONE) *end = MOERUN_ENGINE_DONE;
done:
  if (replacer != NULL) moerun__replacer_stop(replacer);
  detach(engine);
  return status;
}

moerun_status moerun__engine_run(const moerun__engine_stretch *stretch,
                                 const moerun__engine_options *options,
                                 const moerun__engine_callbacks *callbacks,
                                 moerun__progress *progress, int *stopped) {
  moerun_status status = MOERUN_OK;
  const moerun_session *session = stretch->session;
  moerun__engine *engine = NULL;
  moerun__engine_end end = MOERUN_ENGINE_DONE;
  memset(progress, 0, sizeof *progress);
  *stopped = 0;
  MOERUN_TRY(moerun__engine_create(&engine, &session->model->config,
                                   session->cache, session->model->comm,
                                   options, callbacks));
  status = moerun__engine_serve(&end, engine, stretch);
  *stopped = end == MOERUN_ENGINE_STOPPED;
  *progress = *moerun__engine_progress(engine);
done:
  moerun__engine_destroy(engine);
  return status;
}
