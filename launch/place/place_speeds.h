/* How fast the ranks of `moerun place` are: a list, or a run that measured
 * it. */
#ifndef MOERUN_PLACE_PLACE_SPEEDS_H
#define MOERUN_PLACE_PLACE_SPEEDS_H

#include "runtime/base/text.h"

/* Appends ", speed …" to a topology's line: `speeds` is a list as "1,1,0.25,1",
 * or the metrics file of a run on as many ranks that balanced. */
moerun_status moerun__place_speeds(moerun__text *line, const char *speeds,
                                   int32_t num_ranks);
/* Whether it is a list, else it names a file. */
int moerun__place_speeds_are_list(const char *speeds);

#endif
