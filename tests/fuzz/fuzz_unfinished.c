/* Unfinished requests to go on with: any bytes are read or refused with a line;
 * a request that goes on keeps the limits, and what is saved is read again. A
 * file that begins with ! is built from the rest: @ and a digit stand for the
 * digest of that request, and each line but the first gets its checksum. */
#include "launch/results/unfinished.h"
#include "runtime/base/digest.h"
#include "runtime/base/log.h"
#include "support/fuzz.h"

#include <string.h>

enum { REQUESTS = 3, MOST = 4, VOCABULARY = 50 };

static temp_dir dir;
static const uint64_t weights = 7;

static void remove_dir(void) {
  temp_dir_remove(&dir);
}

static void add_line(moerun__text *out, const moerun__prompts *prompts,
                     const char *line, size_t length) {
  const size_t begin = out->count;
  for (size_t i = 0; i < length; i++) {
    const int request = i + 1 < length ? line[i + 1] - '0' : -1;
    if (line[i] != '@' || request < 0 || request >= REQUESTS) {
      fuzz_require(moerun__text_append(out, line + i, 1) == MOERUN_OK);
      continue;
    }
    fuzz_require(moerun__text_print(out, "%016llx%016llx",
                                    (unsigned long long)moerun__prompts_digest(
                                        prompts, request),
                                    (unsigned long long)weights) == MOERUN_OK);
    i++;
  }
  if (begin == 0) return;
  const uint64_t check = moerun__digest_bytes(
      MOERUN_DIGEST_START, out->bytes + begin, out->count - begin);
  fuzz_require(moerun__text_print(out, ",\"check\":\"%016llx\"}",
                                  (unsigned long long)check) == MOERUN_OK);
}

static void build(moerun__text *out, const moerun__prompts *prompts,
                  const char *bytes, size_t size) {
  for (size_t at = 0; at < size;) {
    const char *end = memchr(bytes + at, '\n', size - at);
    const size_t length = end != NULL ? (size_t)(end - bytes) - at : size - at;
    add_line(out, prompts, bytes + at, length);
    if (end != NULL) {
      fuzz_require(moerun__text_append(out, "\n", 1) == MOERUN_OK);
    }
    at += length + 1;
  }
}

static int32_t check_requests(const moerun__unfinished *unfinished,
                              const moerun__prompts *prompts) {
  moerun__prompt prompt = {0};
  int32_t tokens = 0;
  for (int64_t i = 0; i < REQUESTS; i++) {
    fuzz_require(moerun__prompts_read(prompts, &prompt, i) == MOERUN_OK);
    fuzz_require(moerun__unfinished_continue(unfinished, &prompt) == MOERUN_OK);
    const moerun__request *r = &prompt.request;
    fuzz_require(r->num_kept >= 0 && r->num_kept < r->max_new_tokens);
    for (int32_t t = 0; t < r->num_prompt + r->num_kept; t++) {
      fuzz_require(r->prompt[t] >= 0 && r->prompt[t] < VOCABULARY);
    }
    tokens += r->num_kept;
  }
  moerun__prompt_clear(&prompt);
  return tokens;
}

static void check(const moerun__prompts *prompts,
                  const moerun__results *results) {
  char path[TEMP_PATH];
  moerun__unfinished *unfinished = NULL;
  const moerun__unfinished_options options = {.path =
                                                  temp_path(path, &dir, "out"),
                                              .resume = 1,
                                              .vocab_size = VOCABULARY};
  moerun_status status =
      moerun__unfinished_open(&unfinished, prompts, results, &options);
  fuzz_verdict(status);
  fuzz_require((status == MOERUN_OK) == (unfinished != NULL));
  if (unfinished == NULL) return;
  const int32_t tokens = check_requests(unfinished, prompts);
  status = moerun__unfinished_begin(unfinished, &weights);
  fuzz_verdict(status);
  if (status == MOERUN_OK && tokens > 0) {
    moerun__unfinished_save(unfinished);
    moerun__unfinished_destroy(unfinished);
    status = moerun__unfinished_open(&unfinished, prompts, results, &options);
    fuzz_require(status == MOERUN_OK);
    fuzz_require(moerun__unfinished_count(unfinished).tokens == tokens);
    fuzz_require(check_requests(unfinished, prompts) == tokens);
  }
  moerun__unfinished_destroy(unfinished);
}

static void be_silent(moerun__log_level level, const char *line) {
  (void)level;
  (void)line;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  static const char requests[] =
      "{\"tokens\":[1]}\n{\"tokens\":[2,3]}\n{\"tokens\":[4]}\n";
  const moerun__prompt_options options = {.text_bos = -1,
                                          .tokens_bos = -1,
                                          .vocab_size = VOCABULARY,
                                          .max_positions = 64,
                                          .kv_tokens = 64,
                                          .max_new_tokens = MOST,
                                          .sampling.top_p = 1};
  const moerun__results_options none = {.path = NULL};
  char path[TEMP_PATH];
  moerun__prompts *prompts = NULL;
  moerun__results *results = NULL;
  moerun__text built = {0};
  if (dir.path[0] == '\0') {
    fuzz_require(temp_dir_create(&dir));
    fuzz_require(atexit(remove_dir) == 0);
    moerun__log_set_callback(be_silent);
    fuzz_write(&dir, "prompts", requests, sizeof requests - 1);
  }
  fuzz_require(moerun__prompts_open(&prompts, temp_path(path, &dir, "prompts"),
                                    &options) == MOERUN_OK);
  fuzz_require(moerun__results_open(&results, prompts, NULL, &none) ==
               MOERUN_OK);
  const char *text = (const char *)bytes;
  if (size > 0 && text[0] == '!') {
    build(&built, prompts, text + 1, size - 1);
    fuzz_write(&dir, "out.unfinished", built.bytes, built.count);
  } else {
    fuzz_write(&dir, "out.unfinished", bytes, size);
  }
  check(prompts, results);
  moerun__text_clear(&built);
  moerun__results_destroy(results);
  moerun__prompts_destroy(prompts);
  return 0;
}
