/* A tokenizer.json of any bytes is read or refused with a line. One that is
 * read gives back the bytes of a text, or says which byte has no token; a
 * special token alone may lose bytes, and only those it stands for. */
#include "runtime/text/tokenizer.h"
#include "support/fuzz.h"

#include <stdlib.h>
#include <string.h>

static void encode_and_decode(const moerun__tokenizer *tokenizer,
                              const char *text, size_t size) {
  moerun__token_list ids = {0};
  moerun__text back = {0};
  if (moerun__tokenizer_encode(tokenizer, &ids, text, size, "x") == MOERUN_OK) {
    if (ids.count > size) abort();
    for (size_t i = 0; i < ids.count; i++) {
      size_t bytes = 0;
      if (moerun__tokenizer_text(tokenizer, ids.id[i], &bytes) == NULL) abort();
    }
    if (moerun__tokenizer_decode(tokenizer, &back, ids.id, ids.count) !=
            MOERUN_OK ||
        back.count > size) {
      abort();
    }
    if (back.count == size && size > 0 && memcmp(back.bytes, text, size) != 0) {
      abort();
    }
  } else if (strstr(moerun_last_error(), "no token for byte") == NULL) {
    abort();
  }
  moerun__text_clear(&back);
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
