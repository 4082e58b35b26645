/* The model of a tokenizer.json: a word to the ids of its tokens. A kind of
 * model is a row of the table in word_model.c. */
#ifndef MOERUN_TEXT_WORD_MODEL_H
#define MOERUN_TEXT_WORD_MODEL_H

#include "runtime/text/token_list.h"
#include "runtime/text/vocabulary.h"

/* What a model is read from. */
typedef struct moerun__model_source {
  const json_t *json; /* the value of key "model" */
  const moerun__token_file *file;
  const moerun__vocabulary *vocabulary; /* borrowed by the model */
  int is_bytewise; /* words are bytes that the vocabulary spells */
  const char *where;
} moerun__model_source;

typedef struct moerun__model_kind {
  const char *type;
  moerun_status (*read)(void **model, const moerun__model_source *source);
  /* Appends the ids of word[bytes], which is not empty; valid UTF-8 unless
   * words are bytes. */
  moerun_status (*encode)(void *model, moerun__token_list *out,
                          const char *word, size_t bytes, const char *origin);
  /* How many bytes of the word's beginning can be encoded by themselves, with
   * the rest to follow; NULL: all or nothing. */
  size_t (*part)(const void *model, const char *word, size_t bytes);
  void (*destroy)(void *model); /* also of NULL */
} moerun__model_kind;

extern const moerun__model_kind moerun__bpe_kind;
extern const moerun__model_kind moerun__unigram_kind;

typedef struct moerun__word_model moerun__word_model;

/* ERR_UNSUPPORTED names a kind that is not known. */
moerun_status moerun__word_model_read(moerun__word_model **out,
                                      const moerun__model_source *source);
void moerun__word_model_destroy(moerun__word_model *model);

/* Appends the ids of a word. Words of a text come again and again, so the model
 * remembers those that it has met: one thread at a time. */
moerun_status moerun__word_model_encode(moerun__word_model *model,
                                        moerun__token_list *out,
                                        const char *word, size_t bytes,
                                        const char *origin);

#endif
