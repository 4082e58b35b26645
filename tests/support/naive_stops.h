/* Stops as nobody would look for them: all of a text is decoded and searched
 * after each token. With tokenizers whose tokens are cut characters, bytes of
 * characters and blanks that decoders take away. */
#ifndef MOERUN_TESTS_NAIVE_STOPS_H
#define MOERUN_TESTS_NAIVE_STOPS_H

#include "runtime/serve/stops.h"

#include <string.h>

enum { NAIVE_VOCABULARY = 14, NAIVE_DECODERS = 5 };

/* Two letters, characters of several bytes, and bytes. */
static const char naive_vocab[] =
    "{\"a\":0,\"b\":1,\"ab\":2,\"ba\":3,\"_a\":4,\"<0xC3>\":5,\"<0xA9>\":6,"
    "\"<0x61>\":7,\"\\u00c3\":8,\"\\u00a9\":9,\"_\":10,\"bb\":11,\"aab\":12,"
    "\"<0x00>\":13}";

static const char *const naive_decoder[NAIVE_DECODERS] = {
    "null",
    "{\"type\":\"ByteLevel\"}",
    "{\"type\":\"ByteFallback\"}",
    ("{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Replace\",\"pattern\":"
     "{\"String\":\"_\"},\"content\":\" \"},{\"type\":\"ByteFallback\"},"
     "{\"type\":\"Fuse\"},{\"type\":\"Strip\",\"content\":\" \",\"start\":1,"
     "\"stop\":0}]}"),
    ("{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":"
     "\"Strip\",\"content\":\"a\",\"start\":1,\"stop\":2}]}"),
};

static inline moerun_status naive_tokenizer(moerun__tokenizer **out,
                                            size_t decoder) {
  moerun_status status = MOERUN_OK;
  moerun__text file = {0};
  MOERUN_TRY(moerun__text_print(&file,
                                "{\"decoder\":%s,\"model\":{\"type\":"
                                "\"BPE\",\"vocab\":%s,\"merges\":[]}}",
                                naive_decoder[decoder], naive_vocab));
  MOERUN_TRY(moerun__tokenizer_parse(out, file.bytes, file.count, "t"));
done:
  moerun__text_clear(&file);
  return status;
}

/* The text of the tokens, with a NUL behind it. */
static inline moerun_status naive_text(moerun__text *out,
                                       const moerun__tokenizer *tokenizer,
                                       const int32_t *token, size_t count) {
  moerun_status status = MOERUN_OK;
  out->count = 0;
  MOERUN_TRY(moerun__text_append(out, "", 0));
  MOERUN_TRY(moerun__tokenizer_decode(tokenizer, out, token, count, 0));
done:
  return status;
}

/* Bytes in front of the first stop that ends behind `passed`; -1: none. */
static inline int64_t naive_stop_in(const moerun__text *text, size_t passed,
                                    const moerun__stops *stops) {
  for (size_t from = 0; from < text->count; from++) {
    const char *stop = stops->text;
    for (int32_t i = 0; i < stops->num_texts; i++) {
      const size_t bytes = strlen(stop);
      if (from + bytes <= text->count && from + bytes > passed &&
          memcmp(text->bytes + from, stop, bytes) == 0) {
        return (int64_t)from;
      }
      stop += bytes + 1;
    }
  }
  return -1;
}

#endif
