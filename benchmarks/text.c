/* moerun_bench_text: texts to ids and back, and how long a tokenizer.json takes
 * to read. text_peer.py runs it beside the Hugging Face library, by turns.
 *
 * usage: moerun_bench_text TOKENIZER_FOLDER ROUNDS TEXT_FILE…
 *
 * A text is cut into documents at the first line end after each 4,096 bytes,
 * and each document is encoded by itself. The fastest round counts. One line of
 * JSON a text: bytes, ids, and seconds of processor time. */
#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/timer.h"
#include "runtime/text/tokenizer.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DOCUMENT = 4096, LIMIT = 256 << 20 };

/* The bytes of the document at the front of text[bytes]. */
static size_t document(const char *text, size_t bytes) {
  if (bytes <= DOCUMENT) return bytes;
  const char *end = memchr(text + DOCUMENT, '\n', bytes - DOCUMENT);
  return end == NULL ? bytes : (size_t)(end - text) + 1;
}

typedef struct measured {
  size_t ids;
  double encode;
  double decode;
} measured;

/* One round. */
static moerun_status measure(measured *m, const moerun__tokenizer *tokenizer,
                             const char *text, size_t bytes, const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__token_list ids = {0};
  moerun__text back = {0};
  *m = (measured){0};
  for (size_t at = 0; at < bytes;) {
    const size_t length = document(text + at, bytes - at);
    ids.count = 0;
    back.count = 0;
    const double start = moerun__thread_seconds();
    MOERUN_TRY(
        moerun__tokenizer_encode(tokenizer, &ids, text + at, length, path));
    const double middle = moerun__thread_seconds();
    MOERUN_TRY(
        moerun__tokenizer_decode(tokenizer, &back, ids.id, ids.count, 0));
    m->decode += moerun__thread_seconds() - middle;
    m->encode += middle - start;
    m->ids += ids.count;
    at += length;
  }
done:
  moerun__token_list_clear(&ids);
  moerun__text_clear(&back);
  return status;
}

static moerun_status run_text(const moerun__tokenizer *tokenizer,
                              const char *path, long rounds) {
  moerun_status status = MOERUN_OK;
  char *text = NULL;
  size_t bytes = 0;
  measured best = {0};
  MOERUN_TRY(moerun__file_read(&text, &bytes, path, LIMIT));
  for (long i = 0; i < rounds; i++) {
    measured m;
    MOERUN_TRY(measure(&m, tokenizer, text, bytes, path));
    if (i == 0 || m.encode < best.encode) best.encode = m.encode;
    if (i == 0 || m.decode < best.decode) best.decode = m.decode;
    best.ids = m.ids;
  }
  (void)printf("{\"text\": \"%s\", \"bytes\": %zu, \"ids\": %zu, "
               "\"encode_s\": %.6f, \"decode_s\": %.6f}\n",
               path, bytes, best.ids, best.encode, best.decode);
done:
  moerun__free(text);
  return status;
}

int main(int argc, char **argv) {
  moerun_status status = MOERUN_OK;
  moerun__tokenizer *tokenizer = NULL;
  MOERUN_REQUIRE(argc >= 3, MOERUN_ERR_INVALID,
                 "usage: moerun_bench_text TOKENIZER_FOLDER ROUNDS TEXT_FILE…");
  const long rounds = strtol(argv[2], NULL, 10);
  const double start = moerun__thread_seconds();
  MOERUN_TRY(moerun__tokenizer_load(&tokenizer, argv[1]));
  (void)printf("{\"load_s\": %.6f}\n", moerun__thread_seconds() - start);
  for (int i = 3; i < argc; i++) {
    MOERUN_TRY(run_text(tokenizer, argv[i], rounds));
  }
done:
  if (status != MOERUN_OK) (void)fprintf(stderr, "%s\n", moerun_last_error());
  moerun__tokenizer_destroy(tokenizer);
  return status == MOERUN_OK ? 0 : 2;
}
