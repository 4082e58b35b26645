/* How tokens are sampled, and what is told of them, for requests that do not
 * say: options, and on request what the model's authors recommend. */
#ifndef MOERUN_OPTIONS_SAMPLING_OPTIONS_H
#define MOERUN_OPTIONS_SAMPLING_OPTIONS_H

#include "runtime/base/config.h"
#include "runtime/serve/engine.h"

moerun__sampling moerun__sampling_of(const moerun__config *config);
moerun__logprobs_asked moerun__logprobs_of(const moerun__config *config);

/* With --generation-config on: settings that are neither typed nor in a
 * variable or a configuration file become those of generation_config.json in
 * the folder of the model, which has to be there. Greedy unless that says
 * "do_sample", as transformers' `generate` reads it; its temperature is 1 if it
 * says nothing. */
moerun_status moerun__generation_config_apply(moerun__sampling *sampling,
                                              const moerun__config *config);

#endif
