/* Text <-> token ids, from a Hugging Face tokenizer.json: the stages normalizer
 * (normalize.h), pre-tokenizer (split.h), model (word_model.h), post-processor
 * (post.h) and decoder (decode.h), and added tokens, in the order in which the
 * Hugging Face library takes them. Each has a table of what it knows; what is
 * not known there is refused by name when a text is encoded, and ids are
 * decoded all the same.
 *
 * One thread at a time may use a tokenizer: it has room to work in and
 * remembers words. */
#ifndef MOERUN_TEXT_TOKENIZER_H
#define MOERUN_TEXT_TOKENIZER_H

#include "runtime/base/text.h"
#include "runtime/text/token_list.h"

typedef struct moerun__tokenizer moerun__tokenizer;

/* model_dir/tokenizer.json, and what tokenizer_config.json says of the bos
 * token where that file exists. */
moerun_status moerun__tokenizer_load(moerun__tokenizer **out,
                                     const char *model_dir);
/* Appends the name of a file in model_dir that is a tokenizer of another kind,
 * for messages where tokenizer.json is missing; nothing if there is none. */
moerun_status moerun__tokenizer_other(moerun__text *out, const char *model_dir);
/* From the text of a tokenizer.json; origin names it in messages. */
moerun_status moerun__tokenizer_parse(moerun__tokenizer **out, const char *text,
                                      size_t bytes, const char *origin);
void moerun__tokenizer_destroy(moerun__tokenizer *tokenizer);

/* Appends the ids of text[bytes], which is from `origin`. The contents of added
 * tokens in the text become their ids; nothing is added in front or behind.
 * ERR_UNSUPPORTED if the file has a stage that is not known. ERR_FORMAT if the
 * text is not UTF-8 and a stage looks at characters; a byte-level vocabulary
 * that cuts no words takes any bytes. After a failure the list may have ids of
 * the text's beginning. */
moerun_status moerun__tokenizer_encode(const moerun__tokenizer *tokenizer,
                                       moerun__token_list *out,
                                       const char *text, size_t bytes,
                                       const char *origin);
/* Appends the bytes of id[count], which need not be UTF-8. Ids without a token
 * (padding of the vocabulary) have no bytes, and special tokens only if they
 * are kept. What a token is worth may depend on those before it, so ids that
 * belong together are decoded together. */
moerun_status moerun__tokenizer_decode(const moerun__tokenizer *tokenizer,
                                       moerun__text *out, const int32_t *id,
                                       size_t count, int keeps_special);

/* What decoding begins with: how a token is spelt for the decoder, *bytes
 * bytes; NULL if it has no part in a text. */
const char *moerun__tokenizer_spelling(const moerun__tokenizer *tokenizer,
                                       int32_t id, int keeps_special,
                                       size_t *bytes);
/* The byte that a token is, where bytes of characters are tokens of their own
 * (byte_fallback): alone it is no text, or not the same. -1: it is none. */
int moerun__tokenizer_byte(const moerun__tokenizer *tokenizer, int32_t id);
const struct moerun__decoder *
moerun__tokenizer_decoder(const moerun__tokenizer *tokenizer);

/* The tokens that the file's post-processor puts in front of a text and behind
 * it, as the Hugging Face library does; borrowed. */
const moerun__token_list *
moerun__tokenizer_front(const moerun__tokenizer *tokenizer);
const moerun__token_list *
moerun__tokenizer_behind(const moerun__tokenizer *tokenizer);
/* The bos token: that of tokenizer_config.json, else the first of those in
 * front; -1: none. */
int32_t moerun__tokenizer_bos(const moerun__tokenizer *tokenizer);
/* add_bos_token of tokenizer_config.json, which counts for nothing where the
 * post-processor says otherwise: 0 or 1, -1 if it is not there. */
int moerun__tokenizer_add_bos_key(const moerun__tokenizer *tokenizer);
/* A number for the bytes of tokenizer.json: ranks that decode the same ids
 * compare it. */
uint64_t moerun__tokenizer_digest(const moerun__tokenizer *tokenizer);
/* One more than the highest id. */
int32_t moerun__tokenizer_size(const moerun__tokenizer *tokenizer);
/* How the file spells a token, special ones too, which a byte-level vocabulary
 * does in its own alphabet: *bytes bytes, or NULL and 0. */
const char *moerun__tokenizer_text(const moerun__tokenizer *tokenizer,
                                   int32_t id, size_t *bytes);

#endif
