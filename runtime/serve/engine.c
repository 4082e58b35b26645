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

typedef struct engine {
  moerun_session *session;
  moerun_comm *comm;
  const moerun__engine_callbacks *callbacks;
  moerun__engine_options options;
  void *block;
  moerun__transfer *transfer;
  moerun__sequences sequences;
  moerun__dealer dealer; /* rank 0 only */
  moerun__rank_word word;
  char *requests;       /* new requests of a step, on the wire */
  int32_t *unit_offset; /* [R + 1] scratch of messages */
  int32_t promised_pages;
  moerun_batch batch;
  int32_t *token;     /* [max_tokens] */
  int32_t *slot;      /* [max_tokens] */
  int32_t *position;  /* [max_tokens] */
  int32_t *request;   /* [max_tokens] its number */
  uint8_t *priority;  /* [max_tokens] */
  uint8_t *decoded;   /* [max_tokens] */
  int32_t window;     /* prompts are cut at multiples of it; 1: anywhere */
  int32_t *logit_row; /* [max_logits] */
  int32_t max_logits;
  float *logits; /* [max_logits][V] */
  int32_t *heap; /* [V] */
} engine;

/* ---- Buffers ---------------------------------------------------------------- */

static void size_engine(engine *e, moerun_session *session,
                        const moerun__engine_options *options,
                        const moerun__engine_callbacks *callbacks) {
  const moerun__model_config *config = &session->model->config;
  memset(e, 0, sizeof *e);
  e->session = session;
  e->comm = session->model->comm;
  e->callbacks = callbacks;
  e->options = *options;
  e->sequences.max_sequences = session->kv.max_sequences;
  const int32_t cached = session->kv.max_pages * MOERUN_PAGE_POSITIONS;
  e->sequences.max_positions =
      cached < config->max_positions ? cached : config->max_positions;
  e->sequences.trace_width = options->record_trace
                                 ? (size_t)config->num_moe_layers *
                                       (size_t)moerun__config_terms(config)
                                 : 0;
  e->window = moerun__gate_window(&session->moe.gate.options);
  e->max_logits = e->window > SCORE_ROWS ? e->window : SCORE_ROWS;
  if (e->max_logits < session->kv.max_sequences) {
    e->max_logits = session->kv.max_sequences;
  }
  if (e->max_logits > session->options.max_tokens) {
    e->max_logits = session->options.max_tokens;
  }
  e->dealer.comm = e->comm;
  e->dealer.callbacks = callbacks;
  e->dealer.sequences = &e->sequences;
}

static void lay_out(engine *e, moerun__arena *arena) {
  const size_t R = (size_t)e->comm->size;
  const size_t T = (size_t)e->session->options.max_tokens;
  const size_t V = (size_t)e->session->model->config.vocab_size;
  const size_t logits = (size_t)e->max_logits;
  moerun__sequences_lay_out(&e->sequences, arena);
  e->requests =
      moerun__arena_take(arena, moerun__request_box_bytes(&e->sequences), 1);
  e->unit_offset = moerun__arena_take(arena, R + 1, sizeof(int32_t));
  e->token = moerun__arena_take(arena, T, sizeof(int32_t));
  e->slot = moerun__arena_take(arena, T, sizeof(int32_t));
  e->position = moerun__arena_take(arena, T, sizeof(int32_t));
  e->request = moerun__arena_take(arena, T, sizeof(int32_t));
  e->priority = moerun__arena_take(arena, T, 1);
  e->decoded = moerun__arena_take(arena, T, 1);
  e->logit_row = moerun__arena_take(arena, logits, sizeof(int32_t));
  e->logits = moerun__arena_take(arena, logits * V, sizeof(float));
  e->heap = moerun__arena_take(arena, V, sizeof(int32_t));
  e->batch = (moerun_batch){.token = e->token,
                            .sequence = e->slot,
                            .position = e->position,
                            .logit_row = e->logit_row};
  if (e->comm->rank == 0) moerun__dealer_lay_out(&e->dealer, arena);
}

size_t moerun__engine_bytes(moerun_session *session,
                            const moerun__engine_options *options) {
  engine e;
  moerun__arena arena = {NULL, 0};
  size_engine(&e, session, options, NULL);
  lay_out(&e, &arena);
  return moerun__alloc_bytes(arena.used, 1) +
         moerun__transfer_bytes(e.comm->size);
}

/* ---- Talking to rank 0 ------------------------------------------------------- */

/* Own messages to (or from) rank 0. */
static moerun__row_list root_message(engine *e, char *bytes, int64_t units) {
  memset(e->unit_offset, 0, ((size_t)e->comm->size + 1) * sizeof(int32_t));
  e->unit_offset[1] = moerun__to_int(units);
  return (moerun__row_list){bytes, MOERUN_WIRE_UNIT, e->unit_offset, 0, 1};
}

static moerun_status send_finished(engine *e) {
  moerun_status status = MOERUN_OK;
  const moerun__row_list out =
      root_message(e, e->sequences.finished, e->word.finished_units);
  MOERUN_TRY(e->comm->ops->send_begin(e->transfer, MOERUN_TAG_CONTROL, &out));
  MOERUN_TRY(e->comm->ops->wait(e->transfer));
done:
  return status;
}

static moerun_status receive_requests(engine *e, int64_t units) {
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

static void start_requests(engine *e, const char *parts, size_t bytes) {
  for (size_t at = 0; at < bytes;) {
    moerun__request request;
    at += moerun__request_read(&request, parts + at);
    const int32_t slot = moerun__sequence_start(&e->sequences, &request);
    e->sequences.sequence[slot].mark = e->session->stats.mark;
    e->promised_pages += pages_of(&request);
  }
}

/* One step boundary; *command is rank 0's word. */
static moerun_status take_turn(engine *e, moerun__command *command) {
  moerun_status status = MOERUN_OK;
  moerun_status root_status = MOERUN_OK;
  moerun__root_word answer;
  const moerun__comm_ops *ops = e->comm->ops;
  const int is_root = e->comm->rank == 0;
  const moerun__engine_callbacks *callbacks = e->callbacks;
  e->word.stop = callbacks->stop_requested != NULL &&
                 callbacks->stop_requested(callbacks->context);
  e->word.active = e->sequences.num_active;
  e->word.free_sequences = e->sequences.max_sequences - e->word.active;
  e->word.free_pages = e->session->kv.num_pages - e->promised_pages;
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

static void add_row(engine *e, int32_t slot, int32_t wants_logits) {
  moerun__sequence *sequence = &e->sequences.sequence[slot];
  moerun_batch *batch = &e->batch;
  const int32_t row = batch->num_tokens++;
  e->token[row] = sequence->token[sequence->num_fed];
  e->slot[row] = slot;
  e->request[row] = (int32_t)(sequence->request.index & INT32_MAX);
  e->priority[row] = (uint8_t)sequence->request.priority;
  e->decoded[row] = sequence->num_fed >= sequence->request.num_prompt;
  e->position[row] = sequence->num_fed++;
  if (wants_logits) e->logit_row[batch->num_logits++] = row;
}

/* Rows of one sequence's prompt and of the tokens that it came with, as many as
 * the step has room for. */
static void add_prompt(engine *e, int32_t slot) {
  const moerun__sequence *sequence = &e->sequences.sequence[slot];
  const int32_t score = sequence->request.score_only;
  int32_t count = tokens_to_feed(sequence) - sequence->num_fed;
  const int32_t rows = e->session->options.max_tokens - e->batch.num_tokens;
  const int32_t logits = e->max_logits - e->batch.num_logits;
  if (count > rows) count = rows;
  if (e->options.prefill_chunk > 0 && count > e->options.prefill_chunk) {
    count = e->options.prefill_chunk;
  }
  if (score && count > logits) count = logits;
  if (!score && logits == 0 && count > 0) count--; /* never the last row */
  if (count < tokens_to_feed(sequence) - sequence->num_fed) {
    count -= (sequence->num_fed + count) % e->window;
  }
  for (int32_t i = 0; i < count; i++) {
    const int32_t last = sequence->num_fed + 1 == sequence->num_tokens;
    add_row(e, slot, score || last);
  }
  e->word.prompt_rows += count;
}

static void build_batch(engine *e) {
  e->batch.num_tokens = 0;
  e->batch.num_logits = 0;
  for (int32_t i = 0; i < e->sequences.num_active; i++) {
    const int32_t slot = e->sequences.order[i];
    if (is_decoding(&e->sequences.sequence[slot])) add_row(e, slot, 1);
  }
  for (int32_t i = 0; i < e->sequences.num_active; i++) {
    const int32_t slot = e->sequences.order[i];
    if (!is_decoding(&e->sequences.sequence[slot])) add_prompt(e, slot);
  }
}

/* ---- After the step ----------------------------------------------------------------- */

static void finish(engine *e, int32_t slot, moerun__finish reason) {
  e->promised_pages -= pages_of(&e->sequences.sequence[slot].request);
  moerun__kv_reset(&e->session->kv, slot);
  moerun__sequence_finish(&e->sequences, slot, reason, e->comm->rank);
}

static void keep_trace(engine *e) {
  const size_t width = e->sequences.trace_width;
  for (int32_t t = 0; width > 0 && t < e->batch.num_tokens; t++) {
    moerun__sequence *sequence = &e->sequences.sequence[e->slot[t]];
    memcpy(sequence->trace + (size_t)e->position[t] * width,
           e->session->trace + (size_t)t * width, width * sizeof(int16_t));
  }
}

/* Rows of a sequence stand in ascending positions: the first one counts. */
static void note_broken(engine *e) {
  for (int32_t t = 0; t < e->batch.num_tokens; t++) {
    moerun__sequence *sequence = &e->sequences.sequence[e->slot[t]];
    if (e->session->broken[t] == MOERUN_BROKEN_NOT ||
        sequence->broken != MOERUN_BROKEN_NOT) {
      continue;
    }
    sequence->broken = e->session->broken[t];
    sequence->broken_position = e->position[t];
  }
}

/* The latency of the first of `generated` tokens of this run, or after the last
 * one that of those between. One clock reading for each. */
static void time_token(engine *e, moerun__sequence *sequence, int32_t generated,
                       int is_last) {
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

static void sample_row(engine *e, int32_t slot, float *logits) {
  const moerun__model_config *config = &e->session->model->config;
  moerun__sequence *sequence = &e->sequences.sequence[slot];
  const moerun__request *request = &sequence->request;
  const int32_t before = sequence->num_tokens - request->num_prompt;
  const moerun__sampling sampling = {request->temperature, request->top_p,
                                     request->seed, request->stream};
  const int32_t token =
      moerun__sample(e->session->kernels, logits, config->vocab_size, &sampling,
                     before, e->heap);
  sequence->token[sequence->num_tokens++] = token;
  e->word.generated++;
  const int ends = moerun__config_is_eos(config, token);
  const int is_last = ends || before + 1 == request->max_new_tokens;
  time_token(e, sequence, before + 1 - request->num_kept, is_last);
  if (ends) {
    finish(e, slot, MOERUN_FINISH_EOS);
  } else if (is_last) {
    finish(e, slot, MOERUN_FINISH_LENGTH);
  }
}

static void use_logits(engine *e) {
  const int32_t V = e->session->model->config.vocab_size;
  for (int32_t i = 0; i < e->batch.num_logits; i++) {
    const int32_t row = e->logit_row[i];
    moerun__sequence *sequence = &e->sequences.sequence[e->slot[row]];
    float *logits = e->logits + (size_t)i * (size_t)V;
    if (sequence->broken != MOERUN_BROKEN_NOT) continue;
    if (!sequence->request.score_only) {
      sample_row(e, e->slot[row], logits);
      continue;
    }
    const int32_t next = sequence->token[e->position[row] + 1];
    sequence->log_probability +=
        moerun__log_probability(e->session->kernels, logits, V, next);
  }
  for (int32_t i = e->sequences.num_active - 1; i >= 0; i--) {
    const int32_t slot = e->sequences.order[i];
    const moerun__sequence *sequence = &e->sequences.sequence[slot];
    if (sequence->broken != MOERUN_BROKEN_NOT) {
      finish(e, slot, MOERUN_FINISH_BROKEN);
    } else if (sequence->request.score_only &&
               sequence->num_fed == tokens_to_feed(sequence)) {
      finish(e, slot, MOERUN_FINISH_SCORED);
    }
  }
  moerun__stage_end(&e->session->stats, MOERUN_STAGE_SAMPLE);
}

/* What the step that has just ended shows of balance. */
static void note_balance(engine *e) {
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

/* ---- The loop -------------------------------------------------------------------------- */

static moerun_status create(engine *e, moerun_session *session) {
  moerun_status status = MOERUN_OK;
  moerun__arena arena = {NULL, 0};
  MOERUN_REQUIRE(!session->model->moe_only, MOERUN_ERR_INVALID,
                 "the model was loaded with moe_only: there is no decoder");
  MOERUN_REQUIRE(session->kv.max_sequences >= 1 &&
                     session->kv.max_sequences <= session->options.max_tokens,
                 MOERUN_ERR_INVALID,
                 "max_sequences: expected 1 to max_tokens (%d), found %d",
                 session->options.max_tokens, session->kv.max_sequences);
  MOERUN_REQUIRE(e->window <= session->options.max_tokens &&
                     (e->options.prefill_chunk == 0 ||
                      e->window <= e->options.prefill_chunk),
                 MOERUN_ERR_INVALID,
                 "capacity_window: expected at most max_tokens (%d) and "
                 "prefill_chunk (%d), found %d",
                 session->options.max_tokens, e->options.prefill_chunk,
                 e->window);
  lay_out(e, &arena);
  MOERUN_TRY(moerun__alloc_unset(&e->block, arena.used, 1));
  arena = (moerun__arena){e->block, 0};
  lay_out(e, &arena);
  moerun__sequences_clear(&e->sequences);
  MOERUN_TRY(e->comm->ops->transfer_create(&e->transfer, e->comm));
  e->dealer.transfer = e->transfer;
  if (e->comm->rank == 0) moerun__dealer_clear(&e->dealer);
  session->tags =
      (moerun__row_tags){e->request, e->position, e->priority, e->decoded};
done:
  return status;
}

moerun_status moerun__engine_run(moerun_session *session,
                                 const moerun__engine_options *options,
                                 const moerun__engine_callbacks *callbacks,
                                 moerun__progress *progress, int *stopped) {
  moerun_status status = MOERUN_OK;
  moerun__command command = MOERUN_COMMAND_STEP;
  engine e;
  *stopped = 0;
  memset(progress, 0, sizeof *progress);
  size_engine(&e, session, options, callbacks);
  MOERUN_TRY(moerun__comm_agree(e.comm, create(&e, session)));
  for (;;) {
    MOERUN_TRY(take_turn(&e, &command));
    if (command == MOERUN_COMMAND_SHOW) {
      moerun__sequences_show(&e.sequences, e.comm->rank);
      continue;
    }
    if (command != MOERUN_COMMAND_STEP) break;
    build_batch(&e);
    MOERUN_TRY(moerun_forward(session, &e.batch, e.logits));
    keep_trace(&e);
    note_broken(&e);
    use_logits(&e);
    note_balance(&e);
    if (options->replacer != NULL) {
      MOERUN_TRY(moerun__replacer_step(options->replacer, e.batch.num_tokens));
    }
  }
  if (options->replacer != NULL) {
    MOERUN_TRY(moerun__replacer_end(options->replacer));
  }
  *stopped = command == MOERUN_COMMAND_STOP;
done:
  if (options->replacer != NULL) moerun__replacer_stop(options->replacer);
  if (e.comm->rank == 0) *progress = e.dealer.progress;
  session->tags = (moerun__row_tags){0};
  if (e.transfer != NULL) e.comm->ops->transfer_destroy(e.transfer);
  moerun__free(e.block);
  return status;
}
