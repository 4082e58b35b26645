/* The decoder holds back what later tokens may change; this holds back a
 * character that a byte-level vocabulary has cut, so that nobody sees half of
 * one. Bytes that can be no character go on as they are: who writes them mends
 * them, and gets the same marks as from the whole text. */
#include "runtime/text/detokenizer.h"

#include <string.h>

moerun_status moerun__detokenizer_begin(moerun__detokenizer *d,
                                        const moerun__tokenizer *tokenizer) {
  d->tokenizer = tokenizer;
  d->held.count = 0;
  return moerun__decoding_begin(&d->decoding,
                                moerun__tokenizer_decoder(tokenizer));
}

/* Appends the first bytes of what is held. */
static moerun_status release(moerun__detokenizer *d, moerun__text *out,
                             size_t bytes) {
  moerun_status status = MOERUN_OK;
  if (bytes == 0) goto done;
  MOERUN_TRY(moerun__text_append(out, d->held.bytes, bytes));
  d->held.count -= bytes;
  memmove(d->held.bytes, d->held.bytes + bytes, d->held.count);
done:
  return status;
}

moerun_status moerun__detokenizer_put(moerun__detokenizer *d, moerun__text *out,
                                      int32_t id) {
  moerun_status status = MOERUN_OK;
  size_t bytes = 0;
  const char *spelling =
      moerun__tokenizer_spelling(d->tokenizer, id, 0, &bytes);
  if (spelling == NULL) goto done;
  MOERUN_TRY(moerun__decoding_put(&d->decoding, &d->held, spelling, bytes));
  MOERUN_TRY(
      release(d, out, moerun__whole_characters(d->held.bytes, d->held.count)));
done:
  return status;
}

moerun_status moerun__detokenizer_end(moerun__detokenizer *d,
                                      moerun__text *out) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__decoding_end(&d->decoding, &d->held));
  MOERUN_TRY(release(d, out, d->held.count));
done:
  return status;
}

moerun_status moerun__detokenizer_copy(moerun__detokenizer *to,
                                       const moerun__detokenizer *from) {
  moerun_status status = MOERUN_OK;
  to->tokenizer = from->tokenizer;
  to->held.count = 0;
  MOERUN_TRY(moerun__decoding_copy(&to->decoding, &from->decoding));
  if (from->held.count > 0) {
    MOERUN_TRY(
        moerun__text_append(&to->held, from->held.bytes, from->held.count));
  }
done:
  return status;
}

void moerun__detokenizer_clear(moerun__detokenizer *d) {
  moerun__decoding_clear(&d->decoding);
  moerun__text_clear(&d->held);
  memset(d, 0, sizeof *d);
}
