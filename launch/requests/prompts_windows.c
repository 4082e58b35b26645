/* Requests that score a text: its tokens are cut into windows, each scored on
 * its own behind the bos token. All ids stay in memory; a text to measure
 * perplexity on is small beside the model. */
#include "launch/requests/prompts_input.h"

#include "runtime/base/file.h"
#include "runtime/base/foreign.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"

#include <stdio.h>
#include <string.h>

enum { TEXT_LIMIT = 256 << 20 };

/* bos in front of window `index`: texts have their own rule. */
static int32_t bos_of(const moerun__prompts *prompts) {
  return prompts->array != NULL ? prompts->options.tokens_bos
                                : prompts->options.text_bos;
}

static moerun_status read_window(const moerun__prompts *prompts,
                                 moerun__prompt *out, int64_t index,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  (void)origin;
  const size_t first = (size_t)index * (size_t)prompts->window;
  const size_t last = first + (size_t)prompts->window;
  const size_t end = last < prompts->text.count ? last : prompts->text.count;
  const int32_t bos = bos_of(prompts);
  if (bos >= 0) MOERUN_TRY(moerun__token_list_append(&out->tokens, bos));
  for (size_t i = first; i < end; i++) {
    MOERUN_TRY(moerun__token_list_append(&out->tokens, prompts->text.id[i]));
  }
  out->request.score_only = 1;
  out->request.max_new_tokens = 0;
  out->request.logprobs = (moerun__logprobs_asked){0};
  out->request.sampling.temperature = 0;
  out->request.sampling.top_p = 1;
  out->request.sampling.seed = 0;
  MOERUN_TRY(moerun__text_print(&out->id, "%lld", (long long)index));
done:
  return status;
}

const moerun__prompts_input moerun__prompts_windows = {.read = read_window};

/* Bytes at the text's start that are none of it: a byte order mark, and a bos
 * token that every window gets in front anyway. */
static size_t unscored_start(const moerun__prompts *prompts, const char *text,
                             size_t bytes) {
  size_t bos_bytes = 0;
  const size_t mark = moerun__byte_order_mark(text, bytes);
  const char *bos = moerun__tokenizer_text(
      prompts->options.tokenizer, prompts->options.text_bos, &bos_bytes);
  const int has_bos = bos != NULL && bytes - mark >= bos_bytes &&
                      memcmp(text + mark, bos, bos_bytes) == 0;
  return has_bos ? mark + bos_bytes : mark;
}

static moerun_status load_text(moerun__prompts *prompts) {
  moerun_status status = MOERUN_OK;
  char *text = NULL;
  char foreign[MOERUN_FOREIGN_TEXT];
  size_t bytes = 0;
  MOERUN_REQUIRE(prompts->options.tokenizer != NULL, MOERUN_ERR_UNSUPPORTED,
                 "%s: a text needs the model's tokenizer.json, which is not "
                 "there: give token ids as .npy",
                 prompts->name);
  MOERUN_TRY(moerun__file_read(&text, &bytes, prompts->path, TEXT_LIMIT));
  MOERUN_REQUIRE(text[0] == '<' || !moerun__foreign_name(foreign, text, bytes),
                 MOERUN_ERR_FORMAT, "%s: expected a text, found %s",
                 prompts->name, foreign);
  const size_t skipped = unscored_start(prompts, text, bytes);
  MOERUN_TRY(moerun__tokenizer_encode(prompts->options.tokenizer,
                                      &prompts->text, text + skipped,
                                      bytes - skipped, prompts->name));
  prompts->scored_bytes = (int64_t)(bytes - skipped);
done:
  moerun__free(text);
  return status;
}

static moerun_status load_array(moerun__prompts *prompts) {
  moerun_status status = MOERUN_OK;
  moerun__npy_shape shape;
  int64_t *ids = NULL;
  const int32_t bos = prompts->options.tokens_bos;
  MOERUN_TRY(moerun__npy_open(&prompts->array, &shape, prompts->path,
                              MOERUN_NPY_INTEGERS));
  const int64_t count = shape.num_dims == 1 ? shape.dim[0] : 0;
  MOERUN_REQUIRE(shape.num_dims == 1 && count <= TEXT_LIMIT, MOERUN_ERR_FORMAT,
                 "%s: expected an array of 1 dimension and at most %d ids to "
                 "be scored, found %d dimension%s and %lld in the first",
                 prompts->name, TEXT_LIMIT, (int)shape.num_dims,
                 shape.num_dims == 1 ? "" : "s",
                 (long long)(shape.num_dims > 0 ? shape.dim[0] : 1));
  MOERUN_TRY(moerun__alloc(&ids, (size_t)count, sizeof *ids));
  MOERUN_TRY(moerun__npy_read_integers(prompts->array, ids, 0, count));
  MOERUN_TRY(moerun__token_list_reserve(&prompts->text, (size_t)count));
  for (int64_t i = 0; i < count; i++) {
    MOERUN_REQUIRE(ids[i] >= 0 && ids[i] < prompts->options.vocab_size,
                   MOERUN_ERR_FORMAT,
                   "%s: element %lld: expected an id of 0 to %d, found %lld",
                   prompts->name, (long long)i, prompts->options.vocab_size - 1,
                   (long long)ids[i]);
    if (i == 0 && ids[i] == bos) continue; /* every window gets it anyway */
    prompts->text.id[prompts->text.count++] = moerun__to_int(ids[i]);
  }
done:
  moerun__free(ids);
  return status;
}

/* Without bos the first token of a window has nothing before it and is not
 * scored; nor are its bytes. */
static moerun_status subtract_unscored(moerun__prompts *prompts) {
  moerun_status status = MOERUN_OK;
  moerun__text text = {0};
  for (size_t i = 0; i < prompts->text.count; i += (size_t)prompts->window) {
    MOERUN_TRY(moerun__tokenizer_decode(prompts->options.tokenizer, &text,
                                        &prompts->text.id[i], 1, 0));
  }
  prompts->scored_bytes -= (int64_t)text.count;
done:
  moerun__text_clear(&text);
  return status;
}

moerun_status moerun__prompts_scan_windows(moerun__prompts *prompts,
                                           int is_array) {
  moerun_status status = MOERUN_OK;
  moerun__prompt prompt = {0};
  MOERUN_TRY(is_array ? load_array(prompts) : load_text(prompts));
  const int32_t bos = bos_of(prompts);
  const int64_t window = prompts->window;
  int64_t count = (int64_t)prompts->text.count;
  /* A last window of one token without bos has nothing to score. */
  if (bos < 0 && count % window == 1) {
    count--;
  }
  MOERUN_REQUIRE(count > 0, MOERUN_ERR_FORMAT,
                 "%s: expected a text of at least %d tokens to score, found "
                 "%zu",
                 prompts->name, bos < 0 ? 2 : 1, prompts->text.count);
  if (!is_array && bos < 0) MOERUN_TRY(subtract_unscored(prompts));
  for (int64_t i = 0; i * window < count; i++) {
    char origin[512];
    (void)snprintf(origin, sizeof origin, "%s: window %lld", prompts->name,
                   (long long)i);
    moerun__prompt_begin(&prompt, &prompts->options);
    MOERUN_TRY(read_window(prompts, &prompt, i, origin));
    MOERUN_TRY(moerun__prompts_add(prompts, &prompt, 0, origin));
  }
done:
  moerun__prompt_clear(&prompt);
  return status;
}
