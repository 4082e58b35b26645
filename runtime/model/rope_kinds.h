/* Rules by which rotary positions are scaled: rows of a table. */
#ifndef MOERUN_MODEL_ROPE_KINDS_H
#define MOERUN_MODEL_ROPE_KINDS_H

#include "runtime/model/arch.h"

const char *moerun__rope_kind_name(const moerun__rope_kind *kind);

/* Reads config->rope for the rule of this name (NULL: the plain one), once
 * rope_theta, rotary_dim and max_positions are known, which last may become
 * another. inside: the object that has the rule's keys; root: config.json. */
moerun_status moerun__rope_kind_read(moerun__model_config *config,
                                     const char *name, const json_t *inside,
                                     const json_t *root, const char *origin);

/* Radians from one position to the next of pair i of each head, i <
 * rotary_dim / 2. */
double moerun__rope_frequency(const moerun__model_config *config, int32_t i);

#endif
