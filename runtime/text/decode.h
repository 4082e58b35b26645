/* The decoder of a tokenizer.json: from the spellings of tokens to a text. */
#ifndef MOERUN_TEXT_DECODE_H
#define MOERUN_TEXT_DECODE_H

#include "runtime/base/text.h"

#include <jansson.h>

/* A list of texts, one behind another; all zero: empty. */
typedef struct moerun__parts {
  moerun__text text;
  size_t *end; /* [count] of each part */
  size_t count;
  size_t room;
} moerun__parts;

/* Appends the part that ends where the text does now. */
moerun_status moerun__parts_end(moerun__parts *parts);
void moerun__parts_clear(moerun__parts *parts);

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

/* Appends the text of the tokens whose spellings are `parts`, which are lost.
 * It need not be UTF-8 where a byte-level vocabulary cuts characters. */
moerun_status moerun__decoder_run(const moerun__decoder *decoder,
                                  moerun__text *out, moerun__parts *parts);

#endif
