/* Requests go in input order to the rank with the most free sequences, as long
 * as their cache pages fit there; the first that fits nowhere holds up those
 * behind it, so that none starves. One that begins as another did goes where
 * that went, while this rank has less than an even share of all that are under
 * way or wait: so no rank ever has more than without. What a request yields
 * does not depend on where it runs, so dealing may follow the load freely. */
#include "runtime/serve/dealer.h"

#include "runtime/base/number.h"
#include "runtime/base/timer.h"
#include "runtime/decoder/kv_cache.h"

#include <string.h>

void moerun__dealer_lay_out(moerun__dealer *dealer,
                            const moerun__engine_callbacks *callbacks,
                            const moerun__sequences *sequences,
                            int has_tokenizer, moerun__arena *arena) {
  dealer->callbacks = callbacks;
  dealer->has_tokenizer = has_tokenizer;
  dealer->sequences = sequences;
  dealer->box_bytes = moerun__request_box_bytes(dealer->sequences);
  dealer->max_staged =
      (int32_t)(dealer->box_bytes / moerun__request_part_bytes(1, 0));
  dealer->inbox = moerun__arena_take(arena, dealer->box_bytes, 1);
  dealer->outbox = moerun__arena_take(arena, dealer->box_bytes, 1);
  dealer->staged = moerun__arena_take(arena, (size_t)dealer->max_staged,
                                      sizeof *dealer->staged);
  dealer->received = moerun__arena_take(
      arena, moerun__finished_box_bytes(dealer->sequences), 1);
}

void moerun__dealer_clear(moerun__dealer *dealer) {
  dealer->num_staged = 0;
  dealer->inbox_used = 0;
  dealer->source_dry = 0;
  dealer->stops = 0;
  dealer->shows = 0;
  memset(&dealer->progress, 0, sizeof dealer->progress);
  dealer->step_seconds = 0;
}

void moerun__dealer_lay_out_ranks(moerun__dealer *dealer, moerun_comm *comm,
                                  int looks_alike, moerun__arena *arena) {
  const size_t R = (size_t)comm->size;
  dealer->comm = comm;
  dealer->word = moerun__arena_take(arena, R, sizeof *dealer->word);
  dealer->answer = moerun__arena_take(arena, R, sizeof *dealer->answer);
  dealer->unit_offset = moerun__arena_take(arena, R + 1, sizeof(int32_t));
  dealer->outbox_at = moerun__arena_take(arena, R + 1, sizeof(size_t));
  dealer->looks_alike = looks_alike && R > 1;
  if (R > 1) moerun__alike_lay_out(&dealer->alike, arena);
}

void moerun__dealer_begin(moerun__dealer *dealer, moerun__transfer *transfer) {
  dealer->transfer = transfer;
  if (dealer->looks_alike) moerun__alike_clear(&dealer->alike);
  dealer->step_began = moerun__now() - dealer->step_seconds;
}

void moerun__dealer_end(moerun__dealer *dealer) {
  dealer->step_seconds = moerun__now() - dealer->step_began;
}

/* ---- Completions --------------------------------------------------------- */

static moerun_status sink_all(moerun__dealer *dealer, const char *parts,
                              size_t bytes) {
  moerun_status status = MOERUN_OK;
  for (size_t at = 0; at < bytes;) {
    moerun__completion done;
    at += moerun__completion_read(&done, parts + at,
                                  dealer->sequences->trace_width);
    if (done.finish == MOERUN_FINISH_NOT) {
      MOERUN_TRY(
          dealer->callbacks->unfinished(dealer->callbacks->context, &done));
      continue;
    }
    if (done.finish == MOERUN_FINISH_NEXT) {
      MOERUN_TRY(
          dealer->callbacks->streamed(dealer->callbacks->context, &done));
      continue;
    }
    MOERUN_TRY(dealer->callbacks->finished(dealer->callbacks->context, &done));
    dealer->progress.finished++;
  }
done:
  return status;
}

static moerun_status receive_finished(moerun__dealer *dealer, int32_t rank) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = dealer->comm->ops;
  const int64_t units = dealer->word[rank].finished_units;
  const int64_t most = (int64_t)(moerun__finished_box_bytes(dealer->sequences) /
                                 MOERUN_WIRE_UNIT);
  if (units == 0) return MOERUN_OK;
  MOERUN_REQUIRE(units > 0 && units <= most, MOERUN_ERR_COMM,
                 "rank %d announced completions of %lld words: expected at "
                 "most %lld",
                 rank, (long long)units, (long long)most);
  const int32_t offset[] = {0, moerun__to_int(units)};
  const moerun__row_list in = {dealer->received, MOERUN_WIRE_UNIT,
                               offset,           rank,
                               rank + 1,         MOERUN_MEMORY_HOST};
  MOERUN_TRY(ops->receive_begin(dealer->transfer, MOERUN_TAG_CONTROL, &in));
  MOERUN_TRY(ops->wait(dealer->transfer));
  MOERUN_TRY(
      sink_all(dealer, dealer->received, (size_t)units * MOERUN_WIRE_UNIT));
done:
  return status;
}

/* Every message is taken even when the sink has failed, so that no sender
 * waits in vain; the first failure is kept. */
static moerun_status collect(moerun__dealer *dealer, const char *own) {
  moerun_status status = sink_all(
      dealer, own, (size_t)dealer->word[0].finished_units * MOERUN_WIRE_UNIT);
  for (int32_t r = 1; r < dealer->comm->size; r++) {
    const moerun_status received = receive_finished(dealer, r);
    if (status == MOERUN_OK) status = received;
  }
  return status;
}

static void count_step(moerun__dealer *dealer) {
  moerun__progress *progress = &dealer->progress;
  int64_t prompt_rows = 0;
  int64_t generated = 0;
  progress->active = 0;
  for (int32_t r = 0; r < dealer->comm->size; r++) {
    prompt_rows += dealer->word[r].prompt_rows;
    progress->reused_tokens += dealer->word[r].reused;
    generated += dealer->word[r].generated;
    progress->active += dealer->word[r].active;
  }
  const double seconds = moerun__now() - dealer->step_began;
  progress->prompt_tokens += prompt_rows;
  progress->generated_tokens += generated;
  if (prompt_rows > 0) {
    progress->prefill_seconds += seconds;
  } else {
    progress->decode_seconds += seconds;
    progress->decode_tokens += generated;
  }
}

/* ---- Requests ------------------------------------------------------------ */

static moerun_status check_request(const moerun__dealer *dealer,
                                   const moerun__request *request) {
  moerun_status status = MOERUN_OK;
  const int64_t positions =
      (int64_t)request->num_prompt + request->max_new_tokens;
  MOERUN_REQUIRE(request->num_prompt >= 1, MOERUN_ERR_INVALID,
                 "request %lld: expected at least 1 token",
                 (long long)request->index);
  MOERUN_REQUIRE(positions <= dealer->sequences->max_positions,
                 MOERUN_ERR_OVERFLOW,
                 "request %lld: expected at most %d positions, found %d prompt "
                 "and %d new tokens",
                 (long long)request->index, dealer->sequences->max_positions,
                 request->num_prompt, request->max_new_tokens);
  MOERUN_REQUIRE(
      request->num_kept == 0 || (request->num_kept > 0 &&
                                 request->num_kept < request->max_new_tokens),
      MOERUN_ERR_INVALID,
      "request %lld: expected to come with fewer than %d generated "
      "tokens, found %d",
      (long long)request->index, request->max_new_tokens, request->num_kept);
  MOERUN_REQUIRE(moerun__logprobs_width(&request->logprobs) <=
                     dealer->sequences->logprobs_width,
                 MOERUN_ERR_INVALID,
                 "request %lld: expected at most %d log-probabilities of a "
                 "token, found %d",
                 (long long)request->index, dealer->sequences->logprobs_width,
                 moerun__logprobs_width(&request->logprobs));
  MOERUN_REQUIRE(moerun__stops_bytes(&request->stops) <=
                     dealer->sequences->stop_bytes,
                 MOERUN_ERR_INVALID,
                 "request %lld: expected stops of at most %d bytes, found %d",
                 (long long)request->index, dealer->sequences->stop_bytes,
                 moerun__stops_bytes(&request->stops));
  MOERUN_REQUIRE(request->stops.num_texts == 0 || dealer->has_tokenizer,
                 MOERUN_ERR_INVALID,
                 "request %lld: stop texts need a tokenizer",
                 (long long)request->index);
done:
  return status;
}

/* Takes requests from the source while they fit the inbox; `most` bounds how
 * many can wait there. */
static moerun_status fill_inbox(moerun__dealer *dealer, int64_t most) {
  moerun_status status = MOERUN_OK;
  const size_t largest = moerun__request_part_bytes(
      dealer->sequences->max_positions, dealer->sequences->stop_bytes);
  while (!dealer->source_dry && dealer->num_staged < most &&
         dealer->num_staged < dealer->max_staged &&
         dealer->inbox_used + largest <= dealer->box_bytes) {
    moerun__request request;
    int has = 0;
    MOERUN_TRY(
        dealer->callbacks->next(dealer->callbacks->context, &request, &has));
    if (!has) {
      dealer->source_dry = 1;
      break;
    }
    MOERUN_TRY(check_request(dealer, &request));
    moerun__staged *staged = &dealer->staged[dealer->num_staged++];
    staged->at = dealer->inbox_used;
    staged->bytes =
        moerun__request_part_bytes(request.num_prompt + request.num_kept,
                                   moerun__stops_bytes(&request.stops));
    staged->pages = moerun__request_pages(&request);
    moerun__request_write(dealer->inbox + staged->at, &request);
    dealer->inbox_used += staged->bytes;
  }
done:
  return status;
}

static int has_room(const moerun__dealer *dealer, int32_t rank, int32_t pages) {
  const moerun__rank_word *word = &dealer->word[rank];
  return word->free_sequences > 0 && word->free_pages >= pages;
}

/* The rank with the most free sequences that has the pages; -1: none. */
static int32_t roomiest(const moerun__dealer *dealer, int32_t pages) {
  int32_t best = -1;
  for (int32_t r = 0; r < dealer->comm->size; r++) {
    const moerun__rank_word *word = &dealer->word[r];
    if (!has_room(dealer, r, pages)) continue;
    if (best < 0 || word->free_sequences > dealer->word[best].free_sequences) {
      best = r;
    }
  }
  return best;
}

static int32_t occupied(const moerun__dealer *dealer, int32_t rank) {
  return dealer->sequences->max_sequences - dealer->word[rank].free_sequences;
}

/* Of all requests that are under way or wait; the same before and after any of
 * them is dealt. */
static int32_t even_share(const moerun__dealer *dealer) {
  const int32_t R = dealer->comm->size;
  int32_t sum = dealer->num_staged;
  for (int32_t r = 0; r < R; r++) {
    sum += occupied(dealer, r);
  }
  return (sum + R - 1) / R;
}

/* The rank that a request goes to, or -1. */
static int32_t choose_rank(moerun__dealer *dealer, const moerun__staged *staged,
                           int32_t share) {
  moerun__request request;
  if (!dealer->looks_alike) return roomiest(dealer, staged->pages);
  (void)moerun__request_read(&request, dealer->inbox + staged->at);
  int32_t rank = moerun__alike_rank(&dealer->alike, &request);
  if (rank < 0 || occupied(dealer, rank) >= share ||
      !has_room(dealer, rank, staged->pages)) {
    rank = roomiest(dealer, staged->pages);
  }
  if (rank >= 0) moerun__alike_dealt(&dealer->alike, &request, rank);
  return rank;
}

/* Deals from the front of the inbox; returns how many were dealt. */
static int32_t deal(moerun__dealer *dealer) {
  int32_t dealt = 0;
  const int32_t share = even_share(dealer);
  for (; dealt < dealer->num_staged; dealt++) {
    moerun__staged *staged = &dealer->staged[dealt];
    staged->rank = choose_rank(dealer, staged, share);
    if (staged->rank < 0) break;
    dealer->word[staged->rank].free_sequences--;
    dealer->word[staged->rank].free_pages -= staged->pages;
  }
  return dealt;
}

/* Moves the dealt requests to the outbox by rank and the rest to the front. */
static void move_dealt(moerun__dealer *dealer, int32_t dealt) {
  const int32_t R = dealer->comm->size;
  size_t *at = dealer->outbox_at;
  memset(at, 0, ((size_t)R + 1) * sizeof *at);
  for (int32_t i = 0; i < dealt; i++) {
    at[dealer->staged[i].rank + 1] += dealer->staged[i].bytes;
  }
  for (int32_t r = 0; r < R; r++) {
    dealer->answer[r].request_units = (int64_t)(at[r + 1] / MOERUN_WIRE_UNIT);
    at[r + 1] += at[r];
  }
  for (int32_t i = 0; i < dealt; i++) {
    const moerun__staged *staged = &dealer->staged[i];
    memcpy(dealer->outbox + at[staged->rank], dealer->inbox + staged->at,
           staged->bytes);
    at[staged->rank] += staged->bytes;
  }
  memmove(at + 1, at, (size_t)R * sizeof *at); /* back from ends to starts */
  at[0] = 0;
  const size_t gone = dealt < dealer->num_staged ? dealer->staged[dealt].at
                                                 : dealer->inbox_used;
  memmove(dealer->inbox, dealer->inbox + gone, dealer->inbox_used - gone);
  dealer->inbox_used -= gone;
  dealer->num_staged -= dealt;
  for (int32_t i = 0; i < dealer->num_staged; i++) {
    dealer->staged[i] = dealer->staged[i + dealt];
    dealer->staged[i].at -= gone;
  }
}

/* ---- A turn -------------------------------------------------------------- */

/* What all ranks do next, unless nothing is left to do. Requests under way are
 * asked for once before a stop, in a turn without a step: a failure to keep
 * them then still reaches ranks that wait for an answer. */
static moerun__command choose(moerun__dealer *dealer) {
  const moerun__engine_callbacks *callbacks = dealer->callbacks;
  const int can_show = callbacks->unfinished != NULL && !dealer->shows &&
                       dealer->progress.active > 0;
  for (int32_t r = 0; r < dealer->comm->size; r++) {
    if (dealer->word[r].stop) dealer->stops = 1;
  }
  const int shows =
      can_show &&
      (dealer->stops || (callbacks->unfinished_wanted != NULL &&
                         callbacks->unfinished_wanted(callbacks->context)));
  if (shows) return MOERUN_COMMAND_SHOW;
  return dealer->stops ? MOERUN_COMMAND_STOP : MOERUN_COMMAND_STEP;
}

moerun_status moerun__dealer_turn(moerun__dealer *dealer, const char *own) {
  moerun_status status = MOERUN_OK;
  const int32_t R = dealer->comm->size;
  moerun__command command = MOERUN_COMMAND_STEP;
  int64_t room = 0;
  memset(dealer->answer, 0, (size_t)R * sizeof *dealer->answer);
  if (!dealer->shows) count_step(dealer);
  MOERUN_TRY(collect(dealer, own));
  if (dealer->shows) {
    MOERUN_TRY(dealer->callbacks->unfinished_end(dealer->callbacks->context));
  }
  for (int32_t r = 0; r < R; r++) {
    room += dealer->word[r].free_sequences;
  }
  command = choose(dealer);
  dealer->shows = command == MOERUN_COMMAND_SHOW;
  if (command == MOERUN_COMMAND_STEP) {
    MOERUN_TRY(fill_inbox(dealer, room));
    const int32_t dealt = deal(dealer);
    move_dealt(dealer, dealt);
    if (dealt == 0 && dealer->num_staged == 0 && dealer->source_dry &&
        dealer->progress.active == 0) {
      command = MOERUN_COMMAND_DONE;
    }
    dealer->progress.active += dealt;
  }
  if (dealer->callbacks->progress != NULL) {
    dealer->callbacks->progress(dealer->callbacks->context, &dealer->progress);
  }
  if (command == MOERUN_COMMAND_STEP) dealer->progress.steps++;
done:
  if (status != MOERUN_OK) command = MOERUN_COMMAND_FAIL;
  for (int32_t r = 0; r < R; r++) {
    dealer->answer[r].command = (int32_t)command;
    dealer->answer[r].status = (int32_t)status;
    if (command != MOERUN_COMMAND_STEP) dealer->answer[r].request_units = 0;
  }
  dealer->step_began = moerun__now();
  return status;
}

moerun_status moerun__dealer_send(moerun__dealer *dealer) {
  moerun_status status = MOERUN_OK;
  const int32_t R = dealer->comm->size;
  for (int32_t r = 0; r <= R; r++) {
    dealer->unit_offset[r] =
        moerun__to_int((int64_t)(dealer->outbox_at[r] / MOERUN_WIRE_UNIT));
  }
  const moerun__row_list out = {
      dealer->outbox,    MOERUN_WIRE_UNIT, dealer->unit_offset, 0, R,
      MOERUN_MEMORY_HOST};
  MOERUN_TRY(dealer->comm->ops->send_begin(dealer->transfer, MOERUN_TAG_CONTROL,
                                           &out));
  MOERUN_TRY(dealer->comm->ops->wait(dealer->transfer));
done:
  return status;
}
