/* The decoder of a tokenizer.json: from the spellings of tokens to a text, as
 * they come. */
#ifndef MOERUN_TEXT_DECODE_H
#define MOERUN_TEXT_DECODE_H

#include "runtime/base/text.h"

#include <jansson.h>

typedef struct moerun__decode_step moerun__decode_step;

typedef struct moerun__decoder {
  size_t count;
  moerun__decode_step *step;
} moerun__decoder;

/* From the value of key "decoder": null, one stage or a Sequence. `where` names
 * it in messages. All zero before; cleared by the caller, also after a failure.
 * ERR_UNSUPPORTED names a stage that is not known. */
moerun_status moerun__decoder_read(moerun__decoder *decoder,
                                   const json_t *value, const char *where);
void moerun__decoder_clear(moerun__decoder *decoder);

/* The byte that a token spelt so is where bytes of characters are tokens of
 * their own (ByteFallback); -1: it is a text. */
int moerun__decoder_byte(const moerun__decoder *decoder, const char *spelling,
                         size_t bytes);

typedef struct moerun__decode_flow moerun__decode_flow;

/* One text on its way through the steps; all zero before the first begin. */
typedef struct moerun__decoding {
  const moerun__decoder *decoder; /* borrowed */
  moerun__decode_flow *flow;      /* [count] what each step holds back */
  size_t room;                    /* flows that there are */
  moerun__text *out;              /* of the call that runs */
  size_t bytes;                   /* of all spellings so far */
} moerun__decoding;

/* No token has come; what was there is forgotten. */
moerun_status moerun__decoding_begin(moerun__decoding *decoding,
                                     const moerun__decoder *decoder);
/* The next token is spelt so: appends to `out` what is certain now, whatever
 * comes behind. It need not be UTF-8 where a byte-level vocabulary cuts
 * characters. */
moerun_status moerun__decoding_put(moerun__decoding *decoding,
                                   moerun__text *out, const char *spelling,
                                   size_t bytes);
/* Nothing comes behind: appends the rest. Only a begin or a copy may follow. */
moerun_status moerun__decoding_end(moerun__decoding *decoding,
                                   moerun__text *out);
/* `to` goes on as `from` would. */
moerun_status moerun__decoding_copy(moerun__decoding *to,
                                    const moerun__decoding *from);
void moerun__decoding_clear(moerun__decoding *decoding);

#endif
