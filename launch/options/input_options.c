/* What was typed as an option is meant now, and holds for every request:
 * whoever turns a knob should see something happen. A variable or a
 * configuration file may have been set long ago, and is for requests that do
 * not say otherwise. */
#include "launch/options/input_options.h"

#include "launch/requests/prompt_settings.h"
#include "runtime/base/log.h"
#include "runtime/text/unicode.h"

#include <errno.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

moerun_status moerun__input_open_prompt(moerun__spool *input,
                                        const char *prompt) {
  moerun_status status = MOERUN_OK;
  moerun__text line = {0};
  MOERUN_TRY(moerun__text_print(&line, "{\"prompt\": "));
  MOERUN_TRY(moerun__text_json(&line, prompt, strlen(prompt)));
  MOERUN_TRY(moerun__text_print(&line, "}\n"));
  MOERUN_TRY(moerun__spool_text(input, line.bytes, line.count, "--prompt"));
done:
  moerun__text_clear(&line);
  return status;
}

moerun_status moerun__input_check(const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  static const char *const keys[] = {"prompt", "prompts", "tokens", "score"};
  int count = 0;
  int is_empty = 0;
  char found[48] = ""; /* names of all four */
  for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
    const int is_set = moerun__config_text(config, keys[i])[0] != '\0';
    if (is_set) {
      (void)snprintf(found + strlen(found), sizeof found - strlen(found),
                     "%s--%s", count > 0 ? " and " : "", keys[i]);
    }
    count += is_set;
    is_empty |= !is_set &&
                moerun__config_origin_of(config, keys[i]) == MOERUN_CONFIG_FLAG;
  }
  MOERUN_REQUIRE(count == 1, MOERUN_ERR_INVALID,
                 "expected one of --prompt, --prompts, --tokens and --score, "
                 "found %s",
                 count > 1  ? found
                 : is_empty ? "an empty one"
                            : "none");
  MOERUN_TRY(moerun__input_check_stop(config));
done:
  return status;
}

moerun_status moerun__input_check_stop(const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  const char *stop = moerun__config_text(config, "stop");
  const size_t stop_bytes = strlen(stop);
  MOERUN_REQUIRE(
      stop_bytes <= MOERUN_MOST_STOP_TEXT &&
          (stop_bytes > 0 ||
           moerun__config_origin_of(config, "stop") == MOERUN_CONFIG_DEFAULT),
      MOERUN_ERR_INVALID, "--stop: expected 1 to %d bytes, found %zu",
      MOERUN_MOST_STOP_TEXT, stop_bytes);
  if (moerun__expect_utf8(stop, stop_bytes, "--stop") != MOERUN_OK) {
    status = MOERUN_ERR_INVALID;
  }
done:
  return status;
}

void moerun__input_say_length(const moerun__config *config) {
  if (moerun__config_origin_of(config, "max_tokens") != MOERUN_CONFIG_FLAG ||
      moerun__config_origin_of(config, "max_new_tokens") !=
          MOERUN_CONFIG_DEFAULT) {
    return;
  }
  LOG_ROOT(MOERUN_LOG_WARN,
           "--max-tokens %s is the most rows of a step; how long a completion "
           "may be says --max-new-tokens, here %s",
           moerun__config_text(config, "max_tokens"),
           moerun__config_text(config, "max_new_tokens"));
}

moerun_status moerun__input_open(moerun__spool *input,
                                 const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  const char *prompt = moerun__config_text(config, "prompt");
  const char *paths[] = {moerun__config_text(config, "prompts"),
                         moerun__config_text(config, "tokens"),
                         moerun__config_text(config, "score")};
  if (prompt[0] != '\0') MOERUN_TRY(moerun__input_open_prompt(input, prompt));
  for (int i = 0; i < 3; i++) {
    if (paths[i][0] != '\0') MOERUN_TRY(moerun__spool_open(input, paths[i]));
  }
done:
  return status;
}

/* A tokenizer that is missing is one thing, one that cannot be read or is not
 * understood another: the second is an error only where a text needs it. */
moerun_status moerun__input_tokenizer(moerun__tokenizer **out,
                                      const char *model_path, int is_needed) {
  moerun_status status = MOERUN_OK;
  moerun__text path = {0};
  moerun__text other = {0};
  *out = NULL;
  MOERUN_TRY(moerun__text_print(&path, "%s/tokenizer.json", model_path));
  if (access(path.bytes, F_OK) != 0 && errno == ENOENT) {
    MOERUN_TRY(moerun__tokenizer_other(&other, model_path));
    if (other.count == 0) goto done;
  }
  status = moerun__tokenizer_load(out, model_path);
  if (status != MOERUN_OK && status != MOERUN_ERR_NOMEM && !is_needed) {
    LOG_ROOT(MOERUN_LOG_WARN, "%s; results hold no text", moerun_last_error());
    status = MOERUN_OK;
  }
done:
  moerun__text_clear(&path);
  moerun__text_clear(&other);
  return status;
}

void moerun__input_say_vocabulary(const moerun__tokenizer *tokenizer,
                                  int32_t vocab_size, const char *model_path) {
  if (tokenizer == NULL) return;
  const int32_t size = moerun__tokenizer_size(tokenizer);
  if (size <= vocab_size) return;
  LOG_ROOT(
      MOERUN_LOG_WARN,
      "%s: tokenizer.json has ids of 0 to %d, and the model knows those of "
      "0 to %d (vocab_size of config.json): texts with others are refused",
      model_path, size - 1, vocab_size - 1);
}

moerun_status moerun__input_chat(moerun__prompt_chat *out,
                                 moerun__chat_template **by, moerun__text *why,
                                 const char *model_path) {
  moerun_status status = moerun__chat_template_load(by, model_path);
  const time_t now = time(NULL);
  if (status == MOERUN_ERR_NOMEM) goto done;
  if (status != MOERUN_OK) {
    status = moerun__text_print(why, "%s", moerun_last_error());
  }
  *out = (moerun__prompt_chat){.by = *by, .refused = why->bytes};
  (void)localtime_r(&now, &out->clock);
done:
  return status;
}

unsigned moerun__input_fixed(const moerun__config *config) {
  unsigned fixed = 0;
  for (unsigned i = 0; i < MOERUN_SETTINGS; i++) {
    const moerun__config_origin origin = moerun__config_origin_of(
        config, moerun__setting_key((moerun__prompt_setting)i));
    if (origin == MOERUN_CONFIG_FLAG) fixed |= 1U << i;
  }
  return fixed;
}

unsigned moerun__input_open_settings(const moerun__config *config) {
  unsigned open = 0;
  const int by_model =
      strcmp(moerun__config_text(config, "generation_config"), "on") == 0;
  for (unsigned i = 0; i < MOERUN_SETTINGS && !by_model; i++) {
    const moerun__config_origin origin = moerun__config_origin_of(
        config, moerun__setting_key((moerun__prompt_setting)i));
    if (origin == MOERUN_CONFIG_DEFAULT) open |= 1U << i;
  }
  return open;
}

moerun__on_error moerun__input_on_error(const moerun__config *config) {
  const char *word = moerun__config_text(config, "on_error");
  const int is_score = moerun__config_text(config, "score")[0] != '\0';
  return is_score || strcmp(word, "stop") == 0 ? MOERUN_ON_ERROR_STOP
         : strcmp(word, "line") == 0           ? MOERUN_ON_ERROR_LINE
                                               : MOERUN_ON_ERROR_AUTO;
}

void moerun__input_say_overruled(const moerun__prompts *prompts,
                                 const moerun__spool *input,
                                 const moerun__config *config) {
  for (int i = 0; i < MOERUN_SETTINGS; i++) {
    const moerun__prompt_setting setting = (moerun__prompt_setting)i;
    const char *key = moerun__setting_key(setting);
    const int64_t count = moerun__prompts_overruled(prompts, setting);
    if (count == 0) continue;
    LOG_ROOT(MOERUN_LOG_WARN,
             "%s: %lld of %lld lines have another \"%s\" of their own; the "
             "option's %s holds for all",
             input->name.bytes, (long long)count,
             (long long)moerun__prompts_num_lines(prompts), key,
             moerun__config_text(config, key));
  }
}
