/* What the options of run and profile say of the input and of its requests. */
#ifndef MOERUN_OPTIONS_INPUT_OPTIONS_H
#define MOERUN_OPTIONS_INPUT_OPTIONS_H

#include "launch/requests/prompts.h"
#include "launch/requests/spool.h"
#include "runtime/base/config.h"

/* ERR_INVALID unless one of the options that give requests is there. */
moerun_status moerun__input_check(const moerun__config *config);

/* ERR_INVALID for a --stop that is empty or too long. */
moerun_status moerun__input_check_stop(const moerun__config *config);

/* Warns who gave --max-tokens without --max-new-tokens, and may have meant the
 * length of the completion, as other programs call it. For one prompt. */
void moerun__input_say_length(const moerun__config *config);

/* The text of --prompt, as a line of the file that it stands for. */
moerun_status moerun__input_open_prompt(moerun__spool *input,
                                        const char *prompt);
/* The one input that was given: --prompt, --prompts, --tokens or --score. */
moerun_status moerun__input_open(moerun__spool *input,
                                 const moerun__config *config);
/* The tokenizer of the model; NULL if it has none. One that cannot be read is
 * an error where texts need it, and else a warning. */
moerun_status moerun__input_tokenizer(moerun__tokenizer **out,
                                      const char *model_path, int is_needed);
/* Warns where texts may have tokens that the model does not know, so that
 * prompts with them are refused. */
void moerun__input_say_vocabulary(const moerun__tokenizer *tokenizer,
                                  int32_t vocab_size, const char *model_path);
/* What conversations are written by: *by, if the model has a template, and *why
 * it cannot be used, which is of no matter to prompts that are texts. The
 * caller destroys both, after *out. */
moerun_status moerun__input_chat(moerun__prompt_chat *out,
                                 moerun__chat_template **by, moerun__text *why,
                                 const char *model_path);
/* The settings that hold for every request, as bits: those typed as options. */
unsigned moerun__input_fixed(const moerun__config *config);
/* The settings that nobody gives, neither an option, a variable, a
 * configuration file nor the model's authors. */
unsigned moerun__input_open_settings(const moerun__config *config);
/* --on-error; the windows of --score are no lines. */
moerun__on_error moerun__input_on_error(const moerun__config *config);
/* A warning for each of those that are fixed that takes the place of a
 * request's own. */
void moerun__input_say_overruled(const moerun__prompts *prompts,
                                 const moerun__spool *input,
                                 const moerun__config *config);

#endif
