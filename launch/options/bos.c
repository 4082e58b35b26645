/* The Hugging Face library takes the token from three places that may disagree;
 * what counts is what its own tokenizer would do. */
#include "launch/options/bos.h"

#include "runtime/base/log.h"

#include <string.h>

/* The bos token for --add-bos yes: the tokenizer's, else config.json's. */
static int32_t find_bos(const moerun__tokenizer *tokenizer,
                        const char *model_path, int32_t configured) {
  const int32_t bos = tokenizer != NULL ? moerun__tokenizer_bos(tokenizer) : -1;
  if (bos >= 0 && configured >= 0 && bos != configured) {
    LOG_ROOT(
        MOERUN_LOG_WARN,
        "%s: config.json has bos_token_id %d, the tokenizer's bos token is "
        "%d, which is used",
        model_path, configured, bos);
  }
  return bos >= 0 ? bos : configured;
}

/* The tokens around texts and in front of given ids, as --add-bos says and, for
 * `auto`, as the Hugging Face library does: what tokenizer.json's
 * post-processor adds, whatever other files say. */
moerun_status moerun__bos_choose(moerun__prompt_options *options,
                                 const moerun__config *config,
                                 const char *model_path, int32_t model_bos,
                                 int has_text) {
  moerun_status status = MOERUN_OK;
  const char *choice = moerun__config_text(config, "add_bos");
  options->text_bos = -1;
  options->tokens_bos = -1;
  if (strcmp(choice, "no") == 0) goto done;
  if (strcmp(choice, "yes") == 0) {
    const int32_t bos = find_bos(options->tokenizer, model_path, model_bos);
    MOERUN_REQUIRE(bos >= 0, MOERUN_ERR_INVALID,
                   "--add-bos: %s: expected a bos_token in "
                   "tokenizer_config.json or a bos_token_id in config.json, "
                   "found none",
                   model_path);
    options->text_bos = bos;
    options->tokens_bos = bos;
  } else if (options->tokenizer != NULL && has_text) {
    const moerun__token_list *list =
        moerun__tokenizer_front(options->tokenizer);
    const int32_t front = list->count > 0 ? list->id[0] : -1;
    const int key = moerun__tokenizer_add_bos_key(options->tokenizer);
    options->text_bos = front;
    options->text_front = front >= 0 ? list : NULL;
    options->text_behind = moerun__tokenizer_behind(options->tokenizer);
    if (key >= 0 && key != (front >= 0)) {
      LOG_ROOT(MOERUN_LOG_WARN,
               "%s: tokenizer_config.json has add_bos_token %s, but the "
               "post_processor of tokenizer.json, which counts, adds %s token: "
               "--add-bos %s for the other",
               model_path, key ? "true" : "false", front >= 0 ? "a" : "no",
               key ? "yes" : "no");
    }
  }
done:
  return status;
}
