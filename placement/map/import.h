/* Placements as files: moerun's own, and the maps of other systems. */
#ifndef MOERUN_MAP_IMPORT_H
#define MOERUN_MAP_IMPORT_H

#include "placement/map/export.h"
#include "placement/map/placement.h"

/* What a placement is wanted for. */
typedef struct moerun__import_sizes {
  int32_t num_layers;  /* MoE layers */
  int32_t num_experts; /* E */
  int32_t num_ranks;   /* R; 0: those that the file says, where it says any */
  const moerun__export_rows *rows; /* of the model; NULL: not known */
  const char *like; /* the file that the sizes are of, for messages */
} moerun__import_sizes;

/* The file is taken for what its content shows it to be:
 *   moerun's own placement (README.md)
 *   the expert of each slot, rank after rank, [layers][slots]: DeepSeek's
 *     phy2log, SGLang's and vLLM's physical_to_logical_map
 *   the slots of each expert, [layers][experts][most], -1 behind the last one:
 *     DeepSeek's log2phy, logical_to_physical_map
 *   each rank's slot for each expert, [layers][ranks][experts], -1 for none:
 *     vLLM's expert_map
 *   the experts of each device, in lists: vLLM's expert_map_path on Ascend
 *   Expert,Node: ExFlow's solutions
 * the first three as .npy, or as JSON: lists, by themselves or under such a
 * name. A map with as many layers as the model has decoder layers has those of
 * dense layers left out. What the sizes do not agree with is refused (ERR_SHAPE
 * for moerun's own files, else ERR_FORMAT). Replicas of an expert on one rank
 * become one. Where copies is NULL, a warning counts them. Else *copies is how
 * many slots of the map each entry of the placement's rank_of stands for, or
 * NULL where all are 1; freed with moerun__free. */
moerun_status moerun__placement_import(moerun_placement **out, int32_t **copies,
                                       const char *path,
                                       const moerun__import_sizes *sizes);
/* The same of `bytes` bytes in memory. */
moerun_status moerun__placement_import_bytes(moerun_placement **out,
                                             int32_t **copies, const char *text,
                                             size_t bytes, const char *origin,
                                             const moerun__import_sizes *sizes);

#endif
