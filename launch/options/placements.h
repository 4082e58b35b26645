/* Placements that options name, and what they have to fit. */
#ifndef MOERUN_OPTIONS_PLACEMENTS_H
#define MOERUN_OPTIONS_PLACEMENTS_H

#include "placement/map/export.h"
#include "runtime/base/config.h"
#include "runtime/model/arch.h"

/* Which decoder layers the MoE layers of a model are. *row_of is what `rows`
 * points to, freed by the caller with moerun__free. */
moerun_status moerun__rows_of_model(moerun__export_rows *rows, int32_t **row_of,
                                    const moerun__model_config *model);

/* The placement that `config` names, or blocks over num_ranks; an error unless
 * it fits the model and num_ranks. num_ranks 0: those of the placement, or
 * 1. */
moerun_status moerun__placement_for(moerun_placement **out,
                                    const moerun__config *config,
                                    int32_t num_ranks);

#endif
