/* Texts are searched for where they can be new: bytes that were certain before
 * the last token were searched then, and what has begun in them is shorter than
 * the longest stop. What is not certain is searched again. */
#include "runtime/serve/stops.h"

#include <string.h>

int32_t moerun__stops_bytes(const moerun__stops *stops) {
  return stops->num_tokens * (int32_t)sizeof(int32_t) + stops->text_bytes;
}

int moerun__stops_have(const moerun__stops *stops, int32_t token) {
  for (int32_t i = 0; i < stops->num_tokens; i++) {
    if (stops->token[i] == token) return 1;
  }
  return 0;
}

moerun_status moerun__stop_watch_begin(moerun__stop_watch *watch,
                                       const moerun__stops *stops,
                                       int32_t min_tokens,
                                       const moerun__tokenizer *tokenizer) {
  moerun_status status = MOERUN_OK;
  watch->stops = stops;
  watch->min_tokens = min_tokens;
  watch->num_tokens = 0;
  watch->certain = 0;
  watch->passed = 0;
  watch->text.count = 0;
  watch->stream.tokenizer = NULL;
  if (tokenizer == NULL) goto done;
  MOERUN_TRY(moerun__detokenizer_begin(&watch->stream, tokenizer));
done:
  return status;
}

/* Where `stop` first stands in the text, from `from` on; the text's end:
 * nowhere. */
static size_t find(const moerun__text *text, size_t from, const char *stop,
                   size_t bytes) {
  for (size_t at = from; at + bytes <= text->count; at++) {
    const char *first = memchr(text->bytes + at, stop[0], text->count - at);
    if (first == NULL) break;
    at = (size_t)(first - text->bytes);
    if (at + bytes > text->count) break;
    if (memcmp(first, stop, bytes) == 0) return at;
  }
  return text->count;
}

/* Where the first stop begins; the text's end: there is none. `before`: bytes
 * that were certain when the text was searched last. */
static size_t first_stop(const moerun__stop_watch *watch, size_t before) {
  size_t first = watch->text.count;
  const char *stop = watch->stops->text;
  for (int32_t i = 0; i < watch->stops->num_texts; i++) {
    const size_t bytes = strlen(stop);
    const size_t searched = before > watch->passed ? before : watch->passed;
    const size_t from = searched >= bytes ? searched - bytes + 1 : 0;
    const size_t at = find(&watch->text, from, stop, bytes);
    if (at < first) first = at;
    stop += bytes + 1;
  }
  return first;
}

moerun_status moerun__stop_watch_put(moerun__stop_watch *watch, int *ends,
                                     int32_t token) {
  moerun_status status = MOERUN_OK;
  const int may_end = watch->num_tokens++ >= watch->min_tokens;
  const size_t before = watch->certain;
  *ends = may_end && moerun__stops_have(watch->stops, token);
  if (*ends || watch->stream.tokenizer == NULL) goto done;
  watch->text.count = before;
  MOERUN_TRY(moerun__detokenizer_put(&watch->stream, &watch->text, token));
  watch->certain = watch->text.count;
  MOERUN_TRY(moerun__detokenizer_copy(&watch->ended, &watch->stream));
  MOERUN_TRY(moerun__detokenizer_end(&watch->ended, &watch->text));
  if (!may_end) {
    watch->passed = watch->text.count;
    goto done;
  }
  const size_t at = first_stop(watch, before);
  *ends = at < watch->text.count;
  watch->text.count = at;
done:
  return status;
}

size_t moerun__stop_watch_shown(const moerun__stop_watch *watch) {
  const char *stop = watch->stops->text;
  const size_t certain = watch->certain;
  size_t begun = 0;
  for (int32_t i = 0; i < watch->stops->num_texts; i++) {
    const size_t bytes = strlen(stop);
    size_t same = bytes - 1 < certain ? bytes - 1 : certain;
    while (same > begun &&
           memcmp(watch->text.bytes + certain - same, stop, same) != 0) {
      same--;
    }
    if (same > begun) begun = same;
    stop += bytes + 1;
  }
  return certain - begun;
}

void moerun__stop_watch_clear(moerun__stop_watch *watch) {
  moerun__text_clear(&watch->text);
  moerun__detokenizer_clear(&watch->stream);
  moerun__detokenizer_clear(&watch->ended);
  memset(watch, 0, sizeof *watch);
}
