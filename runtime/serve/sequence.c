#include "runtime/serve/sequence.h"

#include "runtime/base/number.h"
#include "runtime/decoder/broken.h"

#include <assert.h>
#include <string.h>

static size_t logprob_bytes(const moerun__completion *c) {
  return ((size_t)c->num_prompt_logprobs + (size_t)c->num_logprobs) *
         (size_t)c->logprobs_width * sizeof(moerun__logprob);
}

/* Bytes of a completion of these counts on the wire. */
static size_t completion_bytes(const moerun__completion *c,
                               size_t trace_width) {
  const size_t bytes = sizeof(moerun__completion_part) +
                       (size_t)c->num_tokens * sizeof(int32_t) +
                       logprob_bytes(c) +
                       (size_t)c->num_traced * trace_width * sizeof(int16_t);
  return (size_t)moerun__round_up((int64_t)bytes, MOERUN_WIRE_UNIT);
}

/* All positions are generated, and all traced. */
size_t moerun__finished_box_bytes(const moerun__sequences *sequences) {
  const moerun__completion largest = {.num_tokens = sequences->max_positions,
                                      .num_traced = sequences->max_positions,
                                      .num_logprobs = sequences->max_positions,
                                      .logprobs_width =
                                          sequences->logprobs_width};
  return (size_t)sequences->max_sequences *
         completion_bytes(&largest, sequences->trace_width);
}

void moerun__sequences_lay_out(moerun__sequences *out, int32_t max_sequences,
                               int32_t max_positions, size_t trace_width,
                               const moerun__engine_options *options,
                               moerun__arena *arena) {
  const int32_t logprobs_width = options->logprobs_width;
  const size_t stop_bytes = (size_t)options->stop_bytes;
  const size_t count = (size_t)max_sequences;
  const size_t positions = (size_t)max_positions;
  out->max_sequences = max_sequences;
  out->max_positions = max_positions;
  out->trace_width = trace_width;
  out->logprobs_width = logprobs_width;
  out->stop_bytes = options->stop_bytes;
  moerun__sequence *all =
      moerun__arena_take(arena, count, sizeof(moerun__sequence));
  out->sequence = all;
  out->order = moerun__arena_take(arena, count, sizeof(int32_t));
  for (size_t s = 0; s < count; s++) {
    int32_t *token = moerun__arena_take(arena, positions, sizeof(int32_t));
    moerun__logprob *logprob = NULL;
    int16_t *trace = NULL;
    char *stop = NULL;
    if (stop_bytes > 0) stop = moerun__arena_take(arena, stop_bytes, 1);
    if (logprobs_width > 0) {
      logprob = moerun__arena_take(arena, positions * (size_t)logprobs_width,
                                   sizeof *logprob);
    }
    if (trace_width > 0) {
      trace =
          moerun__arena_take(arena, positions * trace_width, sizeof(int16_t));
    }
    if (all == NULL) continue;
    all[s].token = token;
    all[s].logprob = logprob;
    all[s].trace = trace;
    all[s].stop = stop;
  }
  out->finished = moerun__arena_take(arena, moerun__finished_box_bytes(out), 1);
}

void moerun__sequences_begin(moerun__sequences *sequences) {
  for (int32_t s = 0; s < sequences->max_sequences; s++) {
    moerun__sequence *sequence = &sequences->sequence[s];
    sequence->active = 0;
    memset(&sequence->watch, 0, sizeof sequence->watch);
  }
  sequences->num_active = 0;
  sequences->promised_pages = 0;
  sequences->finished_bytes = 0;
}

void moerun__sequences_end(moerun__sequences *sequences) {
  for (int32_t s = 0; s < sequences->max_sequences; s++) {
    moerun__stop_watch_clear(&sequences->sequence[s].watch);
  }
}

int32_t moerun__request_pages(const moerun__request *request) {
  return moerun__kv_pages((int64_t)request->num_prompt +
                          request->max_new_tokens);
}

size_t moerun__request_part_bytes(int32_t num_ids, int32_t stop_bytes) {
  const size_t bytes = sizeof(moerun__request_part) +
                       (size_t)num_ids * sizeof(int32_t) + (size_t)stop_bytes;
  return (size_t)moerun__round_up((int64_t)bytes, MOERUN_WIRE_UNIT);
}

size_t moerun__request_box_bytes(const moerun__sequences *sequences) {
  const size_t longest = moerun__request_part_bytes(sequences->max_positions,
                                                    sequences->stop_bytes);
  return longest > 1 << 20 ? longest : 1 << 20;
}

/* Copies a request's stops to `out`, which is aligned as ids are. */
static void write_stops(char *out, const moerun__stops *stops) {
  const size_t ids = (size_t)stops->num_tokens * sizeof(int32_t);
  if (ids > 0) memcpy(out, stops->token, ids);
  if (stops->text_bytes > 0) {
    memcpy(out + ids, stops->text, (size_t)stops->text_bytes);
  }
}

/* Where they are, once they were copied. */
static void point_stops(moerun__stops *stops, const char *at) {
  stops->token = (const int32_t *)at;
  stops->text = at + (size_t)stops->num_tokens * sizeof(int32_t);
}

void moerun__request_write(char *out, const moerun__request *request) {
  moerun__request_part part;
  const int32_t num_ids = request->num_prompt + request->num_kept;
  memset(&part, 0, sizeof part);
  part.request = *request;
  part.request.prompt = NULL;
  part.request.stops.token = NULL;
  part.request.stops.text = NULL;
  part.bytes = (int64_t)moerun__request_part_bytes(
      num_ids, moerun__stops_bytes(&request->stops));
  memcpy(out, &part, sizeof part);
  out += sizeof part;
  memcpy(out, request->prompt, (size_t)num_ids * sizeof(int32_t));
  write_stops(out + (size_t)num_ids * sizeof(int32_t), &request->stops);
}

size_t moerun__request_read(moerun__request *request, const char *part) {
  moerun__request_part head;
  memcpy(&head, part, sizeof head);
  *request = head.request;
  request->prompt = (const int32_t *)(part + sizeof head);
  point_stops(&request->stops,
              (const char *)(request->prompt + request->num_prompt +
                             request->num_kept));
  return (size_t)head.bytes;
}

int32_t moerun__sequence_start(moerun__sequences *sequences,
                               const moerun__request *request) {
  int32_t seat = 0;
  while (seat < sequences->max_sequences && sequences->sequence[seat].active) {
    seat++;
  }
  assert(seat < sequences->max_sequences); /* rank 0 counts the free ones */
  moerun__sequence *sequence = &sequences->sequence[seat];
  sequence->active = 1;
  sequence->request = *request;
  sequence->request.prompt = sequence->token;
  if (moerun__stops_bytes(&request->stops) > 0) {
    write_stops(sequence->stop, &request->stops);
    point_stops(&sequence->request.stops, sequence->stop);
  }
  sequence->is_watched = 0;
  sequence->num_tokens = moerun__sequence_given(sequence);
  sequence->num_fed = 0;
  sequence->log_probability = 0;
  sequence->broken = MOERUN_BROKEN_NOT;
  sequence->broken_position = 0;
  memcpy(sequence->token, request->prompt,
         (size_t)sequence->num_tokens * sizeof(int32_t));
  sequences->order[sequences->num_active++] = seat;
  sequences->promised_pages += moerun__request_pages(request);
  return seat;
}

int32_t moerun__sequence_given(const moerun__sequence *sequence) {
  return sequence->request.num_prompt + sequence->request.num_kept;
}

moerun__logprob *moerun__sequence_logprob(const moerun__sequences *sequences,
                                          const moerun__sequence *sequence,
                                          int32_t position) {
  return sequence->logprob +
         (size_t)position * (size_t)sequences->logprobs_width;
}

/* Copies those of `count` positions, `width` of each; returns where they
 * end. */
static char *write_logprobs(char *out, const moerun__sequences *sequences,
                            const moerun__sequence *sequence, int32_t first,
                            int32_t count, int32_t width) {
  const size_t bytes = (size_t)width * sizeof(moerun__logprob);
  for (int32_t i = 0; i < count; i++, out += bytes) {
    memcpy(out, moerun__sequence_logprob(sequences, sequence, first + i),
           bytes);
  }
  return out;
}

/* A sequence's completion but for the pointers. */
static moerun__completion completion_of(const moerun__sequence *sequence,
                                        moerun__finish finish, int32_t rank) {
  const moerun__request *request = &sequence->request;
  const int is_under_way =
      finish == MOERUN_FINISH_NOT || finish == MOERUN_FINISH_NEXT;
  const int has_trace = sequence->trace != NULL && !is_under_way;
  const int32_t generated = sequence->num_tokens - request->num_prompt;
  moerun__completion c = {
      .index = request->index,
      .rank = rank,
      .finish = finish,
      .num_prompt = request->num_prompt,
      .num_tokens = finish == MOERUN_FINISH_NEXT ? 1 : generated,
      .log_probability = sequence->log_probability,
      .broken = sequence->broken,
      .broken_position = sequence->broken_position,
      .num_traced = has_trace ? sequence->num_fed : 0,
  };
  if (finish == MOERUN_FINISH_EOS || finish == MOERUN_FINISH_STOP ||
      finish == MOERUN_FINISH_LENGTH) {
    moerun__completion_count_logprobs(&c, request);
  }
  return c;
}

/* Writes a sequence's completion behind `finished`. */
static void write_completion(moerun__sequences *sequences,
                             const moerun__sequence *sequence,
                             moerun__finish finish, int32_t rank) {
  moerun__completion_part part;
  memset(&part, 0, sizeof part);
  part.completion = completion_of(sequence, finish, rank);
  const moerun__completion *c = &part.completion;
  const size_t token_bytes = (size_t)c->num_tokens * sizeof(int32_t);
  const size_t trace_bytes =
      (size_t)c->num_traced * sequences->trace_width * sizeof(int16_t);
  part.bytes = (int64_t)completion_bytes(c, sequences->trace_width);
  char *out = sequences->finished + sequences->finished_bytes;
  sequences->finished_bytes += (size_t)part.bytes;
  memcpy(out, &part, sizeof part);
  out += sizeof part;
  memcpy(out, sequence->token + sequence->num_tokens - c->num_tokens,
         token_bytes);
  out += token_bytes;
  out = write_logprobs(out, sequences, sequence, 1, c->num_prompt_logprobs,
                       c->logprobs_width);
  out = write_logprobs(out, sequences, sequence, c->num_prompt, c->num_logprobs,
                       c->logprobs_width);
  if (trace_bytes > 0) memcpy(out, sequence->trace, trace_bytes);
}

void moerun__sequence_finish(moerun__sequences *sequences, int32_t seat,
                             moerun__finish finish, int32_t rank) {
  moerun__sequence *sequence = &sequences->sequence[seat];
  int32_t at = 0;
  write_completion(sequences, sequence, finish, rank);
  sequence->active = 0;
  sequences->promised_pages -= moerun__request_pages(&sequence->request);
  while (sequences->order[at] != seat) {
    at++;
  }
  sequences->num_active--;
  memmove(sequences->order + at, sequences->order + at + 1,
          (size_t)(sequences->num_active - at) * sizeof(int32_t));
}

void moerun__sequence_tell(moerun__sequences *sequences, int32_t seat,
                           int32_t rank) {
  write_completion(sequences, &sequences->sequence[seat], MOERUN_FINISH_NEXT,
                   rank);
}

void moerun__sequences_show(moerun__sequences *sequences, int32_t rank) {
  for (int32_t i = 0; i < sequences->num_active; i++) {
    const moerun__sequence *sequence =
        &sequences->sequence[sequences->order[i]];
    if (sequence->num_tokens == moerun__sequence_given(sequence)) continue;
    write_completion(sequences, sequence, MOERUN_FINISH_NOT, rank);
  }
}

size_t moerun__completion_read(moerun__completion *completion, const char *part,
                               size_t trace_width) {
  moerun__completion_part head;
  memcpy(&head, part, sizeof head);
  *completion = head.completion;
  const char *tokens = part + sizeof head;
  const char *logprobs =
      tokens + (size_t)completion->num_tokens * sizeof(int32_t);
  const char *trace = logprobs + logprob_bytes(completion);
  completion->token = (const int32_t *)tokens;
  completion->logprob = (const moerun__logprob *)logprobs;
  completion->trace = trace_width == 0 ? NULL : (const int16_t *)trace;
  return (size_t)head.bytes;
}
