/* What ends a request beside its length and the model's end-of-sequence tokens:
 * texts that it generates, and tokens.
 *
 * A request ends with the first token after which its text, as it would be if
 * it ended there, has one of the texts. So its end is a function of its tokens
 * alone, and whoever has these finds the same one. */
#ifndef MOERUN_SERVE_STOPS_H
#define MOERUN_SERVE_STOPS_H

#include "runtime/text/detokenizer.h"

/* Of one request. */
enum {
  MOERUN_MOST_STOP_TEXTS = 16,
  MOERUN_MOST_STOP_TEXT = 256, /* bytes of one */
  MOERUN_MOST_STOP_TOKENS = 64,
};

/* All zero: none. */
typedef struct moerun__stops {
  int32_t num_tokens;
  int32_t num_texts;
  int32_t text_bytes;   /* of all of them */
  const int32_t *token; /* [num_tokens], borrowed, as the next */
  const char *text;     /* [text_bytes] one behind another, not empty, a NUL
                           behind each                                       */
} moerun__stops;

/* Bytes of the tokens and the texts behind them. */
int32_t moerun__stops_bytes(const moerun__stops *stops);
int moerun__stops_have(const moerun__stops *stops, int32_t token);

/* The text of one request while it is generated; all zero before the first
 * begin. */
typedef struct moerun__stop_watch {
  const moerun__stops *stops; /* borrowed */
  int32_t min_tokens;
  int32_t num_tokens; /* that have come */
  size_t certain;     /* bytes of the text that no token changes any more */
  size_t passed;      /* text that min_tokens have: none ends in it */
  moerun__text text;  /* so far, as if it ended here; once it has ended, what is
                         in front of the stop                               */
  moerun__detokenizer stream;
  moerun__detokenizer ended;
} moerun__stop_watch;

/* No token has come; what was there is forgotten. The request has a token more
 * than min_tokens before it ends. tokenizer (borrowed): NULL where nobody asks
 * for the text and there are no stop texts. */
moerun_status moerun__stop_watch_begin(moerun__stop_watch *watch,
                                       const moerun__stops *stops,
                                       int32_t min_tokens,
                                       const moerun__tokenizer *tokenizer);
/* Takes the next token, and *ends = 1 if it is the last: only a begin may come
 * then. */
moerun_status moerun__stop_watch_put(moerun__stop_watch *watch, int *ends,
                                     int32_t token);
/* How much of the text can be shown already: it is certain, and no stop has
 * begun at its end. */
size_t moerun__stop_watch_shown(const moerun__stop_watch *watch);
void moerun__stop_watch_clear(moerun__stop_watch *watch);

#endif
