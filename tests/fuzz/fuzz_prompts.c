/* Prompts, token ids, texts to score and results to go on with: any bytes are
 * read or refused with a line; every request that is accepted keeps the limits
 * and can be read again. The first byte says what the others are. */
#include "launch/results/results.h"
#include "support/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { VOCABULARY = 272, POSITIONS = 200, PATH_BYTES = 64 };

static char path[PATH_BYTES]; /* a file of this process's own */

static void write_file(const char *text, size_t size) {
  FILE *file = fopen(path, "w"); /* without a sync: speed */
  if (file == NULL || fwrite(text, 1, size, file) != size ||
      fclose(file) != 0) {
    abort();
  }
}

static void check_requests(const moerun__prompts *prompts) {
  moerun__prompt prompt = {0};
  for (int64_t i = moerun__prompts_count(prompts) - 1; i >= 0; i--) {
    const char *id = NULL;
    if (moerun__prompts_error(prompts, i, &id) != NULL) {
      if (id == NULL || id[0] == '\0') abort();
      continue;
    }
    if (moerun__prompts_read(prompts, &prompt, i) != MOERUN_OK) abort();
    const moerun__request *r = &prompt.request;
    if (r->index != i || r->num_prompt < 1 ||
        r->num_prompt + r->max_new_tokens > POSITIONS || prompt.id.count == 0 ||
        moerun__prompts_find(prompts, prompt.place.line, prompt.place.part) !=
            i) {
      abort();
    }
    for (int32_t t = 0; t < r->num_prompt; t++) {
      if (r->prompt[t] < 0 || r->prompt[t] >= VOCABULARY) abort();
    }
  }
  moerun__prompt_clear(&prompt);
}

static moerun_status read_results(const moerun__prompt_options *options,
                                  const char *text, size_t size, int is_batch) {
  static const char own[] = "{\"tokens\":[1]}\n{\"tokens\":[2]}\n";
  static const char batch[] =
      "{\"custom_id\":\"a\",\"method\":\"POST\",\"url\":"
      "\"/v1/completions\",\"body\":{\"prompt\":\"a\",\"n\":2}}\n";
  const char *request = is_batch ? batch : own;
  moerun__prompts *prompts = NULL;
  moerun__results *results = NULL;
  write_file(request, strlen(request));
  if (moerun__prompts_open(&prompts, path, options) != MOERUN_OK) abort();
  write_file(text, size);
  const moerun__results_options resume = {.path = path, .resume = 1};
  const moerun_status status =
      moerun__results_open(&results, prompts, NULL, &resume);
  if (status == MOERUN_OK && moerun__results_count(results) > 2) abort();
  moerun__results_destroy(results);
  moerun__prompts_destroy(prompts);
  return status;
}

/* A tokenizer of one token per byte stands in for a model's. */
static moerun__tokenizer *make_tokenizer(void) {
  moerun__tokenizer *tokenizer = NULL;
  moerun__text json = {0};
  moerun_status status = moerun__text_print(
      &json, "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"use_regex\":false,"
             "\"add_prefix_space\":false},\"decoder\":{\"type\":\"ByteLevel\"},"
             "\"model\":{\"type\":\"BPE\",\"merges\":[],\"vocab\":{");
  for (int c = 'A'; status == MOERUN_OK && c <= 'z'; c++) {
    if (c == '\\') continue;
    status =
        moerun__text_print(&json, "%s\"%c\":%d", c == 'A' ? "" : ",", c, c);
  }
  if (status == MOERUN_OK) status = moerun__text_print(&json, "}}}");
  if (status != MOERUN_OK ||
      moerun__tokenizer_parse(&tokenizer, json.bytes, json.count, "t") !=
          MOERUN_OK) {
    abort();
  }
  moerun__text_clear(&json);
  return tokenizer;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  if (size == 0) return 0;
  moerun__tokenizer *tokenizer = make_tokenizer();
  (void)snprintf(path, sizeof path, "/tmp/moerun_fuzz_%ld", (long)getpid());
  const moerun__prompt_options options = {
      .tokenizer = tokenizer,
      .text_bos = 256,
      .tokens_bos = -1,
      .vocab_size = VOCABULARY,
      .max_positions = POSITIONS,
      .kv_tokens = POSITIONS,
      .max_new_tokens = 8,
      .sampling.top_p = 1,
      .on_error =
          bytes[0] / 4 % 2 ? MOERUN_ON_ERROR_LINE : MOERUN_ON_ERROR_STOP};
  const char *text = (const char *)bytes + 1;
  moerun__prompts *prompts = NULL;
  moerun_status status = MOERUN_OK;
  if (bytes[0] % 4 != 3) write_file(text, size - 1);
  switch (bytes[0] % 4) {
  case 0: status = moerun__prompts_open(&prompts, path, &options); break;
  case 1: status = moerun__prompts_open_tokens(&prompts, path, &options); break;
  case 2:
    status = moerun__prompts_open_score(&prompts, path, 5, &options);
    break;
  default:
    status = read_results(&options, text, size - 1, bytes[0] / 8 % 2);
    break;
  }
  if (prompts != NULL) check_requests(prompts);
  if (status != MOERUN_OK &&
      (prompts != NULL || moerun_last_error()[0] == '\0')) {
    abort();
  }
  moerun__prompts_destroy(prompts);
  moerun__tokenizer_destroy(tokenizer);
  (void)unlink(path);
  return 0;
}
