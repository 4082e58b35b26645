/* A tokenizer.json of any bytes is read or refused with a line. With one that
 * is read, its own text is encoded and decoded, or refused with a line: the ids
 * have spellings, a second try gives the same ones, and one by one they give
 * the text that all of them do. */
#include "runtime/text/detokenizer.h"
#include "support/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void stream(const moerun__tokenizer *tokenizer,
                   const moerun__token_list *ids, const moerun__text *whole) {
  moerun__detokenizer d = {0};
  moerun__text joined = {0};
  moerun_status status = moerun__detokenizer_begin(&d, tokenizer);
  for (size_t i = 0; status == MOERUN_OK && i < ids->count; i++) {
    status = moerun__detokenizer_put(&d, &joined, ids->id[i]);
  }
  if (status == MOERUN_OK) status = moerun__detokenizer_end(&d, &joined);
  if (status != MOERUN_OK || joined.count != whole->count ||
      (whole->count > 0 &&
       memcmp(joined.bytes, whole->bytes, whole->count) != 0)) {
    abort();
  }
  moerun__text_clear(&joined);
  moerun__detokenizer_clear(&d);
}

static void encode_and_decode(const moerun__tokenizer *tokenizer,
                              const char *text, size_t size) {
  moerun__token_list ids = {0};
  moerun__token_list again = {0};
  moerun__text back = {0};
  if (moerun__tokenizer_encode(tokenizer, &ids, text, size, "x") == MOERUN_OK) {
    for (size_t i = 0; i < ids.count; i++) {
      size_t bytes = 0;
      if (moerun__tokenizer_text(tokenizer, ids.id[i], &bytes) == NULL) abort();
    }
    if (moerun__tokenizer_encode(tokenizer, &again, text, size, "x") !=
            MOERUN_OK ||
        again.count != ids.count ||
        (ids.count > 0 &&
         memcmp(again.id, ids.id, ids.count * sizeof *ids.id) != 0)) {
      abort();
    }
  } else if (moerun_last_error()[0] == '\0') {
    abort();
  }
  if (moerun__tokenizer_decode(tokenizer, &back, ids.id, ids.count, 0) ==
      MOERUN_OK) {
    stream(tokenizer, &ids, &back);
  } else if (moerun_last_error()[0] == '\0') {
    abort();
  }
  moerun__text_clear(&back);
  moerun__token_list_clear(&again);
  moerun__token_list_clear(&ids);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  moerun__tokenizer *tokenizer = NULL;
  const moerun_status status =
      moerun__tokenizer_parse(&tokenizer, (const char *)bytes, size, "fuzz");
  if (status == MOERUN_OK) {
    encode_and_decode(tokenizer, (const char *)bytes, size);
  } else if (tokenizer != NULL || moerun_last_error()[0] == '\0') {
    abort();
  }
  moerun__tokenizer_destroy(tokenizer);
  return 0;
}
