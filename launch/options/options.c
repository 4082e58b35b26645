/* All options of all subcommands, so that one configuration file can serve
 * several of them. The options themselves stand in option_rows_*.c. */
#include "launch/options/options.h"

#include "launch/options/option_rows.h"
#include "launch/options/shapes.h"

/* In the order of the bits RUN, PROFILE, ... of option_rows.h. */
static const char *const subcommands[] = {"run",        "profile", "info",
                                          "synth",      "place",   "tokenize",
                                          "detokenize", "chat",    NULL};

/* In the order of --help; NULL is the end. */
static const moerun__config_group *const groups[] = {
    &moerun__options_input,
    &moerun__options_output,
    &moerun__options_generation,
    &moerun__options_cluster,
    &moerun__options_method,
    &moerun__options_certificate,
    &moerun__options_memory,
    &moerun__options_placement,
    &moerun__options_balance,
    &moerun__options_machine,
    &moerun__options_capacity,
    &moerun__options_fewer,
    &moerun__options_model,
    &moerun__options_other,
    NULL,
};

static const moerun__config_alias aliases[] = {
    {"system_prompt", "system"},
    {"max_length", "max_new_tokens"},
    {"n_predict", "max_new_tokens"},
    {"max_completion_tokens", "max_new_tokens"},
    {"ctx_size", "kv_tokens"},
    {"max_model_len", "kv_tokens"},
    {"stop_strings", "stop"},
    {"ignore_eos", "min_new_tokens"},
    {"input_file", "prompts"},
    {"output_file", "output"},
    {"enable_prefix_caching", "prefix_cache"},
    {"chat_template", "chat_template_kwargs"},
    {"p", "prompt"},
    {NULL, NULL},
};

const moerun__config_schema moerun__options = {subcommands, groups, aliases,
                                               "like", moerun__shapes};
