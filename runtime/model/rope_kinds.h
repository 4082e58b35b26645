/* Rules by which rotary positions are scaled: rows of a table. */
#ifndef MOERUN_MODEL_ROPE_KINDS_H
#define MOERUN_MODEL_ROPE_KINDS_H

#include "runtime/model/arch.h"

const char *moerun__rope_kind_name(const moerun__rope_kind *kind);

/* Reads *rope for the rule of this name (NULL: the plain one), once its base
 * and its width are known, and the model's max_positions, which may become
 * another. inside: the object that has the rule's keys; root: config.json. */
moerun_status moerun__rope_kind_read(moerun__rope *rope,
                                     moerun__model_config *config,
                                     const char *name, const json_t *inside,
                                     const json_t *root, const char *origin);

/* Radians from one position to the next of pair i of each head, i <
 * rope->width / 2. */
double moerun__rope_frequency(const moerun__rope *rope, int32_t i);

#endif
