/* Where a request ends by its stops: any stop texts and tokens over any tokens,
 * against a search of the whole text after each (naive_stops.h). The input has
 * the decoder, tokens that have to come, a stop token, and a line of stop texts
 * with NULs between them; its rest are tokens. */
#include "runtime/base/memory.h"
#include "support/fuzz.h"
#include "support/naive_stops.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_TOKENS = 200, MOST_TEXT = 64 };

typedef struct input {
  int32_t stop_token;
  int32_t min_tokens;
  char text[MOST_TEXT + 1];
  moerun__stops stops;
  int32_t token[MOST_TOKENS];
  size_t count;
} input;

/* Empty texts are no stops, as in requests. */
static void take_text(input *in, const uint8_t *bytes, size_t size) {
  char *out = in->text;
  for (size_t i = 0; i < size; i++) {
    const int is_end = bytes[i] == '\0' || i + 1 == size;
    if (bytes[i] != '\0') *out++ = (char)bytes[i];
    if (!is_end || out == in->text || out[-1] == '\0') continue;
    *out++ = '\0';
    in->stops.num_texts++;
  }
  in->stops.text = in->text;
  in->stops.text_bytes = (int32_t)(out - in->text);
}

static void take(input *in, const uint8_t *bytes, size_t size) {
  const uint8_t *line = memchr(bytes, '\n', size);
  const size_t length = line != NULL ? (size_t)(line - bytes) : size;
  in->min_tokens = bytes[1] % 8;
  in->stop_token = bytes[2] % 32;
  in->stops.num_tokens = in->stop_token < NAIVE_VOCABULARY;
  in->stops.token = &in->stop_token;
  if (length > 3) {
    take_text(in, bytes + 3, length - 3 < MOST_TEXT ? length - 3 : MOST_TEXT);
  }
  for (size_t i = length + 1; i < size && in->count < MOST_TOKENS; i++) {
    in->token[in->count++] = bytes[i] % (NAIVE_VOCABULARY + 1);
  }
}

static int is_same(const moerun__text *text, const char *bytes, size_t count) {
  return text->count == count &&
         (count == 0 || memcmp(text->bytes, bytes, count) == 0);
}

static void watch(const input *in, const moerun__tokenizer *tokenizer) {
  moerun__stop_watch w = {0};
  moerun__text text = {0};
  moerun__text shown = {0};
  size_t passed = 0;
  int ends = 0;
  fuzz_require(moerun__stop_watch_begin(&w, &in->stops, in->min_tokens,
                                        tokenizer) == MOERUN_OK);
  for (size_t i = 0; i < in->count && !ends; i++) {
    const int may_end = (int64_t)i >= in->min_tokens;
    const int by_token =
        may_end && moerun__stops_have(&in->stops, in->token[i]);
    fuzz_require(naive_text(&text, tokenizer, in->token,
                            by_token ? i : i + 1) == MOERUN_OK);
    const int64_t at =
        may_end && !by_token ? naive_stop_in(&text, passed, &in->stops) : -1;
    if (!may_end) passed = text.count;
    fuzz_require(moerun__stop_watch_put(&w, &ends, in->token[i]) == MOERUN_OK);
    fuzz_require(ends == (by_token || at >= 0));
    const size_t count = at >= 0 ? (size_t)at : text.count;
    fuzz_require(is_same(&w.text, text.bytes, count));
    /* What was shown stays. */
    fuzz_require(shown.count <= count);
    fuzz_require(is_same(&shown, text.bytes, shown.count));
    const size_t can_be_shown = moerun__stop_watch_shown(&w);
    if (ends || can_be_shown == 0) continue;
    fuzz_require(can_be_shown <= count);
    shown.count = 0;
    fuzz_require(moerun__text_append(&shown, w.text.bytes, can_be_shown) ==
                 MOERUN_OK);
  }
  moerun__text_clear(&shown);
  moerun__text_clear(&text);
  moerun__stop_watch_clear(&w);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  input in = {0};
  if (size < 3) return 0;
  moerun__tokenizer *tokenizer = NULL;
  fuzz_require(naive_tokenizer(&tokenizer, bytes[0] % NAIVE_DECODERS) ==
               MOERUN_OK);
  take(&in, bytes, size);
  watch(&in, tokenizer);
  moerun__tokenizer_destroy(tokenizer);
  return 0;
}
