/* Placements in the formats of other systems. */
#ifndef MOERUN_MAP_EXPORT_H
#define MOERUN_MAP_EXPORT_H

#include "placement/map/placement.h"

/* Which rows the layers of a placement are, of a file that has one for every
 * layer of a model; the others are dense layers. */
typedef struct moerun__export_rows {
  int32_t num_rows;
  const int32_t *row_of; /* [num_layers] ascending */
} moerun__export_rows;

/* `target` is FORMAT:PATH.
 *   eplb    {"physical_to_logical_map": [[…], …]}: per layer the expert of each
 *           slot, rank after rank. Every rank must have as many slots in every
 *           layer.
 *   sglang  the same with a row for every decoder layer, as SGLang's
 *           --init-expert-location has it. Needs `rows`.
 *   exflow  CSV `Expert,Node`: expert l * E + e and its rank. No replicas.
 * With `rows` both maps have num_rows rows; in those of dense layers slot i has
 * expert i modulo E. NULL: a row for each layer of the placement. */
moerun_status moerun__placement_export(const moerun_placement *placement,
                                       moerun__outputs *outputs,
                                       const char *target,
                                       const moerun__export_rows *rows);
/* Whether the target cannot do without rows. */
int moerun__export_needs_rows(const char *target);
/* Whether the format of `target` has as many experts on every rank. */
int moerun__export_is_even(const char *target);
/* The path in a target, or NULL where there is none or the format is
 * unknown. */
const char *moerun__export_path(const char *target);
/* Whether the format is known and a path given, before any work is done. */
moerun_status moerun__export_check(const char *target);

#endif
