/* From ids to text while they are generated: what is certain and made of whole
 * characters comes at once. All pieces joined are what decoding all ids at once
 * gives (moerun__tokenizer_decode). */
#ifndef MOERUN_TEXT_DETOKENIZER_H
#define MOERUN_TEXT_DETOKENIZER_H

#include "runtime/text/decode.h"
#include "runtime/text/tokenizer.h"

/* All zero before the first begin. */
typedef struct moerun__detokenizer {
  const moerun__tokenizer *tokenizer; /* borrowed */
  moerun__decoding decoding;
  moerun__text held; /* the start of a character */
} moerun__detokenizer;

/* No id has come; what was there is forgotten. Special tokens have no text. */
moerun_status moerun__detokenizer_begin(moerun__detokenizer *detokenizer,
                                        const moerun__tokenizer *tokenizer);
/* Appends what `id` makes certain. */
moerun_status moerun__detokenizer_put(moerun__detokenizer *detokenizer,
                                      moerun__text *out, int32_t id);
/* Nothing comes behind: appends the rest, which need not be whole characters.
 * Only a begin or a copy may follow. */
moerun_status moerun__detokenizer_end(moerun__detokenizer *detokenizer,
                                      moerun__text *out);
/* `to` goes on as `from` would: so its end is what the text would be if it
 * ended here. */
moerun_status moerun__detokenizer_copy(moerun__detokenizer *to,
                                       const moerun__detokenizer *from);
void moerun__detokenizer_clear(moerun__detokenizer *detokenizer);

#endif
