/* All pieces joined are the text of the result. A piece is whole characters,
 * and nothing of it is taken back: what may become a stop, or changes with the
 * next token, waits. A request that goes on after an interruption is shown from
 * its beginning. */
#include "launch/results/stream.h"

#include "launch/results/result_line.h"
#include "runtime/base/file.h"
#include "runtime/base/memory.h"

#include <string.h>
#include <unistd.h>

/* A request under way. */
typedef struct flow {
  moerun__prompt prompt; /* its stops are borrowed by the watch */
  moerun__stop_watch watch;
  size_t written; /* bytes of the text */
} flow;

struct moerun__stream {
  const moerun__prompts *prompts; /* borrowed, as is the next */
  const moerun__unfinished *unfinished;
  int is_plain;
  flow **flow; /* [count] */
  size_t count;
  size_t room;
  moerun__result_line line; /* for whole texts */
  moerun__text piece;
};

moerun_status moerun__stream_create(moerun__stream **out,
                                    const moerun__prompts *prompts,
                                    const moerun__tokenizer *tokenizer,
                                    const moerun__unfinished *unfinished) {
  moerun_status status = MOERUN_OK;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(out, 1, sizeof **out));
  (*out)->prompts = prompts;
  (*out)->unfinished = unfinished;
  (*out)->line.prompts = prompts;
  (*out)->line.tokenizer = tokenizer;
  (*out)->is_plain = moerun__prompts_count(prompts) == 1;
done:
  return status;
}

static void destroy_flow(flow *f) {
  if (f == NULL) return;
  moerun__stop_watch_clear(&f->watch);
  moerun__prompt_clear(&f->prompt);
  moerun__free(f);
}

void moerun__stream_destroy(moerun__stream *stream) {
  if (stream == NULL) return;
  for (size_t i = 0; i < stream->count; i++) {
    destroy_flow(stream->flow[i]);
  }
  moerun__free(stream->flow);
  moerun__result_line_clear(&stream->line);
  moerun__text_clear(&stream->piece);
  moerun__free(stream);
}

/* ---- Requests under way -------------------------------------------------- */

/* Where the request is; stream->count: it has not begun. */
static size_t find(const moerun__stream *stream, int64_t index) {
  size_t i = 0;
  while (i < stream->count && stream->flow[i]->prompt.request.index != index) {
    i++;
  }
  return i;
}

static moerun_status begin(moerun__stream *stream, int64_t index) {
  moerun_status status = MOERUN_OK;
  flow *f = NULL;
  int ends = 0;
  if (stream->count == stream->room) {
    const size_t room = stream->room < 16 ? 16 : 2 * stream->room;
    MOERUN_TRY(
        moerun__resize(&stream->flow, stream->room, room, sizeof(flow *)));
    stream->room = room;
  }
  MOERUN_TRY(moerun__alloc(&f, 1, sizeof *f));
  stream->flow[stream->count++] = f;
  const moerun__request *request = &f->prompt.request;
  MOERUN_TRY(moerun__prompts_read(stream->prompts, &f->prompt, index));
  MOERUN_TRY(moerun__unfinished_continue(stream->unfinished, &f->prompt));
  MOERUN_TRY(moerun__stop_watch_begin(&f->watch, &request->stops,
                                      request->min_new_tokens,
                                      stream->line.tokenizer));
  for (int32_t i = 0; i < request->num_kept; i++) {
    MOERUN_TRY(moerun__stop_watch_put(
        &f->watch, &ends, request->prompt[request->num_prompt + i]));
  }
done:
  return status;
}

/* ---- Pieces -------------------------------------------------------------- */

/* What is no UTF-8 becomes U+FFFD, as in results. */
static moerun_status print_plain(moerun__text *out, const char *text,
                                 size_t bytes) {
  moerun_status status = MOERUN_OK;
  for (size_t at = 0; at < bytes;) {
    const int length = moerun__utf8_length(text + at, bytes - at);
    const size_t taken = (size_t)(length > 0 ? length : -length);
    MOERUN_TRY(length > 0 ? moerun__text_append(out, text + at, taken)
                          : moerun__text_append(out, "\xEF\xBF\xBD", 3));
    at += taken;
  }
done:
  return status;
}

/* finish: why the text ends with this piece; NULL: it goes on. */
static moerun_status write_piece(moerun__stream *stream, const flow *f,
                                 const char *text, size_t bytes,
                                 const char *finish) {
  moerun_status status = MOERUN_OK;
  moerun__text *piece = &stream->piece;
  piece->count = 0;
  if (bytes == 0 && finish == NULL) goto done;
  if (stream->is_plain) {
    MOERUN_TRY(print_plain(piece, text, bytes));
    if (finish != NULL) MOERUN_TRY(moerun__text_append(piece, "\n", 1));
  } else {
    MOERUN_TRY(moerun__result_start(
        piece, stream->prompts, f->prompt.request.index, f->prompt.id.bytes));
    MOERUN_TRY(moerun__text_print(piece, "\"text\":"));
    MOERUN_TRY(moerun__text_json(piece, text, bytes));
    if (finish != NULL) {
      MOERUN_TRY(moerun__text_print(piece, ",\"finish\":\"%s\"", finish));
    }
    MOERUN_TRY(moerun__text_append(piece, "}\n", 2));
  }
  MOERUN_TRY(
      moerun__file_put(STDOUT_FILENO, piece->bytes, piece->count, "stdout"));
done:
  return status;
}

moerun_status moerun__stream_token(moerun__stream *stream,
                                   const moerun__completion *next) {
  moerun_status status = MOERUN_OK;
  const size_t at = find(stream, next->index);
  int ends = 0;
  if (at == stream->count) MOERUN_TRY(begin(stream, next->index));
  flow *f = stream->flow[at];
  for (int32_t i = 0; i < next->num_tokens; i++) {
    MOERUN_TRY(moerun__stop_watch_put(&f->watch, &ends, next->token[i]));
  }
  const size_t shown = moerun__stop_watch_shown(&f->watch);
  if (shown <= f->written) goto done;
  MOERUN_TRY(write_piece(stream, f, f->watch.text.bytes + f->written,
                         shown - f->written, NULL));
  f->written = shown;
done:
  return status;
}

moerun_status moerun__stream_end(moerun__stream *stream,
                                 const moerun__completion *done) {
  moerun_status status = MOERUN_OK;
  moerun__text *text = &stream->line.part;
  const size_t at = find(stream, done->index);
  if (at == stream->count) MOERUN_TRY(begin(stream, done->index));
  flow *f = stream->flow[at];
  text->count = 0;
  if (done->finish == MOERUN_FINISH_BROKEN) {
    MOERUN_TRY(write_piece(stream, f, "", 0, "broken"));
  } else {
    MOERUN_TRY(moerun__prompts_read(stream->prompts, &stream->line.prompt,
                                    done->index));
    MOERUN_TRY(moerun__text_append(text, "", 0));
    MOERUN_TRY(moerun__result_text(&stream->line, done));
    MOERUN_TRY(write_piece(stream, f, text->bytes + f->written,
                           text->count - f->written,
                           moerun__finish_name(done->finish)));
  }
  destroy_flow(f);
  stream->flow[at] = stream->flow[--stream->count];
done:
  return status;
}
