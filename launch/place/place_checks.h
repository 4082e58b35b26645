/* Options of `moerun place` that do not go together; ERR_INVALID. */
#ifndef MOERUN_PLACE_PLACE_CHECKS_H
#define MOERUN_PLACE_PLACE_CHECKS_H

#include "runtime/base/config.h"

moerun_status moerun__place_check_slots(const moerun__config *config);
moerun_status moerun__place_check_bound(const moerun__config *config);
/* What can be exported and converted at all. */
moerun_status moerun__place_check_outputs(const moerun__config *config);
/* Whether the export can say a placement of so many experts, without replicas
 * unless the options bring some. */
moerun_status moerun__place_check_export(const moerun__config *config,
                                         int32_t num_ranks,
                                         int32_t num_experts);

#endif
