/* A rank's side: tell rank 0 the room and the finished, take new requests, run
 * a step (step.h) and the next boundary's word has what it did. */
#include "runtime/serve/engine.h"
#include "runtime/decoder/session.h"
#include "runtime/serve/dealer.h"
#include "runtime/serve/replace.h"
#include "runtime/serve/step.h"

#include "runtime/base/number.h"
#include "runtime/base/timer.h"

#include <string.h>

struct moerun__engine {
  /* As long as there are requests. */
  moerun__engine_callbacks callbacks;
  moerun__engine_options options;
  moerun__kv_cache *cache;
  moerun__sequences sequences;
  moerun__dealer dealer; /* rank 0 only */
  int is_root;
  int32_t numbers; /* what the last session computed with (numbers_of) */
  moerun__rank_word word;
  char *requests; /* new requests of a step, on the wire */
  /* As long as there is a session. */
  moerun_session *session;
  moerun_comm *comm;
  moerun__transfer *transfer;
  void *block; /* of what follows, and of the dealer's view of ranks */
  int32_t unit_offset[2]; /* of messages to and from rank 0 */
  moerun__step step;
};

/* ---- Buffers ------------------------------------------------------------- */

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
                            trace_width, &e->options, arena);
  e->requests =
      moerun__arena_take(arena, moerun__request_box_bytes(&e->sequences), 1);
  if (!e->is_root) return;
  moerun__dealer_lay_out(&e->dealer, &e->callbacks, &e->sequences,
                         e->options.tokenizer != NULL, arena);
}

/* Counts, or hands out, what the session's steps need. */
static void lay_out_step(moerun__engine *e, const moerun_session *session,
                         moerun__arena *arena) {
  moerun__step_lay_out(&e->step, session, &e->sequences, &e->options, arena);
  if (e->is_root) {
    moerun__dealer_lay_out_ranks(&e->dealer, session->model->comm,
                                 e->step.cache != NULL, arena);
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
         moerun__alloc_bytes(step.used, 1) +
         comm->ops->transfer_bytes(comm, 0, MOERUN_MEMORY_HOST);
}

/* ---- Talking to rank 0 --------------------------------------------------- */

/* Own messages to (or from) rank 0. */
static moerun__row_list root_message(moerun__engine *e, char *bytes,
                                     int64_t units) {
  e->unit_offset[0] = 0;
  e->unit_offset[1] = moerun__to_int(units);
  return (moerun__row_list){bytes, MOERUN_WIRE_UNIT,  e->unit_offset, 0,
                            1,     MOERUN_MEMORY_HOST};
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

static void start_requests(moerun__engine *e, const char *parts, size_t bytes) {
  for (size_t at = 0; at < bytes;) {
    moerun__request request;
    at += moerun__request_read(&request, parts + at);
    const int32_t seat = moerun__sequence_start(&e->sequences, &request);
    e->sequences.sequence[seat].mark = e->session->stats.mark;
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
  e->word.free_pages = e->cache->sizes.num_pages - e->sequences.promised_pages;
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
  e->word.reused = 0;
  e->word.generated = 0;
  moerun__stage_end(&e->session->stats, MOERUN_STAGE_CONTROL);
done:
  return status;
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

/* ---- Requests: create, destroy ------------------------------------------- */

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
  moerun__sequences_begin(&e->sequences);
  if (is_root) moerun__dealer_clear(&e->dealer);
  e->numbers = -1; /* what was left by others is no longer known */
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
  if (engine == NULL) return;
  moerun__sequences_end(&engine->sequences);
  moerun__free(engine);
}

const moerun__progress *moerun__engine_progress(const moerun__engine *engine) {
  return &engine->dealer.progress;
}

/* ---- Steps --------------------------------------------------------------- */

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

/* Sessions with the same compute the same numbers, of the same model; those
 * with a lossy gate are taken for different from all others. */
static int32_t numbers_of(const moerun_session *session) {
  return moerun__gate_is_lossy(&session->moe.gate.options)
             ? -1
             : 2 * (int32_t)session->options.wire +
                   (int32_t)session->options.compute;
}

/* Takes a session up, on this rank. */
static moerun_status attach(moerun__engine *e, moerun_session *session) {
  moerun_status status = MOERUN_OK;
  moerun__arena arena = {NULL, 0};
  moerun_comm *comm = session->model->comm;
  e->session = session;
  e->comm = comm;
  MOERUN_TRY(check_session(e, session));
  const int32_t numbers = numbers_of(session);
  if (numbers < 0 || numbers != e->numbers) moerun__kv_forget(e->cache);
  e->numbers = numbers;
  lay_out_step(e, session, &arena);
  /* Kernels write the logits. */
  MOERUN_TRY(session->device->pinned_create(&e->block, arena.used));
  arena = (moerun__arena){e->block, 0};
  lay_out_step(e, session, &arena);
  MOERUN_TRY(
      comm->ops->transfer_create(&e->transfer, comm, 0, MOERUN_MEMORY_HOST));
  if (e->is_root) moerun__dealer_begin(&e->dealer, e->transfer);
done:
  return status;
}

static void detach(moerun__engine *e) {
  if (e->is_root) moerun__dealer_end(&e->dealer);
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
  const moerun__row_tags tags = {e->step.request, e->step.position,
                                 e->step.priority, e->step.decoded};
  moerun__step_build(&e->step);
  MOERUN_TRY(moerun__session_forward(e->session, &e->step.batch, &tags,
                                     e->step.logits));
  MOERUN_TRY(moerun__step_use(&e->step, e->session));
  e->word.prompt_rows = e->step.prompt_rows;
  e->word.reused = e->step.reused;
  e->word.generated = e->step.generated;
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
