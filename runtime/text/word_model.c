/* The table of models, and the words that were met lately. A word is remembered
 * with its ids in the place that its hash gives it, in the stead of another one
 * that was there: what is looked up is what the model would say, so results do
 * not depend on it. */
#include "runtime/text/word_model.h"

#include "runtime/base/json.h"
#include "runtime/base/memory.h"

#include <string.h>
#include <xxhash.h>

enum {
  KEPT_BYTES = 31, /* of the longest word that is remembered */
  KEPT_IDS = 7,
  PLACES = 1 << 15,
};

/* 64 bytes. */
typedef struct kept_word {
  uint8_t bytes; /* 0: empty */
  char word[KEPT_BYTES];
  int32_t count;
  int32_t id[KEPT_IDS];
} kept_word;

struct moerun__word_model {
  const moerun__model_kind *kind;
  void *model;
  kept_word *kept; /* [PLACES] */
};

static const moerun__model_kind *const kinds[] = {&moerun__bpe_kind,
                                                  &moerun__unigram_kind};
enum { NUM_KINDS = sizeof kinds / sizeof kinds[0] };

moerun_status moerun__word_model_read(moerun__word_model **out,
                                      const moerun__model_source *source) {
  moerun_status status = MOERUN_OK;
  moerun__word_model *m = NULL;
  const char *type = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__json_text(&type, source->json, "type", 0, source->where));
  if (type == NULL) type = "BPE"; /* files of before 2020 */
  MOERUN_TRY(moerun__alloc(&m, 1, sizeof *m));
  for (size_t k = 0; k < NUM_KINDS; k++) {
    if (strcmp(kinds[k]->type, type) == 0) m->kind = kinds[k];
  }
  MOERUN_REQUIRE(m->kind != NULL, MOERUN_ERR_UNSUPPORTED,
                 "%s of type \"%s\" is not supported: give token ids instead "
                 "of text",
                 source->where, type);
  MOERUN_TRY(m->kind->read(&m->model, source));
  MOERUN_TRY(moerun__alloc(&m->kept, PLACES, sizeof *m->kept));
  *out = m;
  m = NULL;
done:
  moerun__word_model_destroy(m);
  return status;
}

void moerun__word_model_destroy(moerun__word_model *m) {
  if (m == NULL) return;
  if (m->kind != NULL) m->kind->destroy(m->model);
  moerun__free(m->kept);
  moerun__free(m);
}

static moerun_status encode_part(moerun__word_model *m, moerun__token_list *out,
                                 const char *word, size_t bytes,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  const size_t before = out->count;
  if (bytes > KEPT_BYTES) {
    return m->kind->encode(m->model, out, word, bytes, origin);
  }
  kept_word *kept = &m->kept[XXH3_64bits(word, bytes) % PLACES];
  MOERUN_TRY(moerun__token_list_reserve(out, KEPT_IDS));
  if (kept->bytes == bytes && memcmp(kept->word, word, bytes) == 0) {
    for (int32_t i = 0; i < kept->count; i++) {
      out->id[out->count++] = kept->id[i];
    }
    goto done;
  }
  MOERUN_TRY(m->kind->encode(m->model, out, word, bytes, origin));
  const size_t count = out->count - before;
  if (count > KEPT_IDS) goto done;
  kept->bytes = (uint8_t)bytes;
  memcpy(kept->word, word, bytes);
  kept->count = (int32_t)count;
  for (size_t i = 0; i < count; i++) {
    kept->id[i] = out->id[before + i];
  }
done:
  return status;
}

moerun_status moerun__word_model_encode(moerun__word_model *m,
                                        moerun__token_list *out,
                                        const char *word, size_t bytes,
                                        const char *origin) {
  moerun_status status = MOERUN_OK;
  while (bytes > 0) {
    const size_t part =
        m->kind->part != NULL ? m->kind->part(m->model, word, bytes) : bytes;
    MOERUN_TRY(encode_part(m, out, word, part, origin));
    word += part;
    bytes -= part;
  }
done:
  return status;
}
