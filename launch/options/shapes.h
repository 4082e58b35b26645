/* Published models whose shape `moerun synth --like NAME` takes over. */
#ifndef MOERUN_OPTIONS_SHAPES_H
#define MOERUN_OPTIONS_SHAPES_H

#include "runtime/base/config_table.h"

/* A row each, behind the last of which the name is NULL. Keys are those of the
 * options of synth. */
extern const moerun__config_preset moerun__shapes[];

/* The choices of --like: "none", then the names; NULL beyond the last. */
const char *moerun__shape_name_at(int i);

#endif
