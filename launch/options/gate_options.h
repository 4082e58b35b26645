/* What the configuration says of lossy routing. */
#ifndef MOERUN_OPTIONS_GATE_OPTIONS_H
#define MOERUN_OPTIONS_GATE_OPTIONS_H

#include "runtime/base/config.h"
#include "runtime/moe/gate.h"

moerun__gate_options moerun__gate_options_of(const moerun__config *config);

/* ERR_INVALID: keys that contradict each other. */
moerun_status moerun__gate_options_check(const moerun__config *config);

/* ERR_INVALID: keys that do not fit the model. */
moerun_status moerun__gate_options_fit(const moerun__config *config,
                                       int32_t num_moe_layers);

/* Whether what a request yields depends on that request alone. */
int moerun__gate_options_isolate(const moerun__config *config);

/* Adds what outputs depend on to a digest; nothing if they are exact. */
uint64_t moerun__gate_options_digest(uint64_t digest,
                                     const moerun__config *config);

#endif
