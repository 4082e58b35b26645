/* Placements in the formats of other systems. */
#ifndef MOERUN_PLACEMENT_EXPORT_H
#define MOERUN_PLACEMENT_EXPORT_H

#include "placement/placement.h"

/* `target` is FORMAT:PATH.
 *   eplb    {"physical_to_logical_map": [[…], …]}, as EPLB and SGLang's
 *           --init-expert-location have it: per layer the expert of each slot,
 *           rank after rank. Every rank must have as many slots in every layer.
 *   exflow  CSV `Expert,Node`: expert l * E + e and its rank. No replicas. */
moerun_status moerun__placement_export(const moerun_placement *placement,
                                       moerun__outputs *outputs,
                                       const char *target);
/* The path in a target, or NULL where there is none or the format is unknown. */
const char *moerun__export_path(const char *target);
/* Whether the format is known and a path given, before any work is done. */
moerun_status moerun__export_check(const char *target);

#endif
