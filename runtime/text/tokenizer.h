/* Text <-> token ids, from a Hugging Face tokenizer.json. What is understood:
 * byte-level BPE on unsplit text (pre-tokenizer ByteLevel with use_regex
 * false), with added tokens; everything else is refused by name. A further
 * kind of tokenizer is a further model behind these functions. */
#ifndef MOERUN_TEXT_TOKENIZER_H
#define MOERUN_TEXT_TOKENIZER_H

#include "runtime/base/text.h"

typedef struct moerun__tokenizer moerun__tokenizer;

/* Growable; all zero: empty. */
typedef struct moerun__token_list {
  int32_t *id;
  size_t count;
  size_t room;
} moerun__token_list;

/* Room for `more` ids behind the present ones. */
moerun_status moerun__token_list_reserve(moerun__token_list *list, size_t more);
moerun_status moerun__token_list_append(moerun__token_list *list, int32_t id);
/* Frees the ids; the list is empty afterwards. */
void moerun__token_list_clear(moerun__token_list *list);

/* model_dir/tokenizer.json, and what tokenizer_config.json says of the bos token
 * where that file exists. */
moerun_status moerun__tokenizer_load(moerun__tokenizer **out,
                                     const char *model_dir);
/* From the text of a tokenizer.json; origin names it in messages. */
moerun_status moerun__tokenizer_parse(moerun__tokenizer **out, const char *text,
                                      size_t bytes, const char *origin);
void moerun__tokenizer_destroy(moerun__tokenizer *tokenizer);

/* Appends the ids of text[bytes] (any bytes, also invalid UTF-8), which is from
 * `origin`. The contents of added tokens in the text become their ids; nothing
 * is added in front. */
moerun_status moerun__tokenizer_encode(const moerun__tokenizer *tokenizer,
                                       moerun__token_list *out,
                                       const char *text, size_t bytes,
                                       const char *origin);
/* Appends the bytes of id[count], which need not be UTF-8. Special tokens and
 * ids without a token (padding of the vocabulary) have no bytes. */
moerun_status moerun__tokenizer_decode(const moerun__tokenizer *tokenizer,
                                       moerun__text *out, const int32_t *id,
                                       size_t count);

/* The token that the file's post-processor puts in front of a text, as the
 * Hugging Face library does; -1: none. */
int32_t moerun__tokenizer_front(const moerun__tokenizer *tokenizer);
/* The bos token: that of tokenizer_config.json, else the one above; -1: none. */
int32_t moerun__tokenizer_bos(const moerun__tokenizer *tokenizer);
/* add_bos_token of tokenizer_config.json, which counts for nothing where the
 * post-processor says otherwise: 0 or 1, -1 if it is not there. */
int moerun__tokenizer_add_bos_key(const moerun__tokenizer *tokenizer);
/* What a token, special ones too, is spelt like: *bytes bytes, or NULL and 0. */
const char *moerun__tokenizer_text(const moerun__tokenizer *tokenizer,
                                   int32_t id, size_t *bytes);

#endif
