/* How evenly the tokens of a layer can be shared out where experts have
 * replicas. */
#ifndef MOERUN_METHODS_REPLICA_SPLIT_H
#define MOERUN_METHODS_REPLICA_SPLIT_H

#include "placement/judge/problem.h"

/* tokens[i] for the replicas i of the layer, in the order of the placement from
 * replica_offset[layer * E] on: the load[E] of each expert, shared out whole,
 * so that the largest rank load per unit of speed[R] is least. *even: that
 * largest with fractions of tokens; with whole ones no rank has more than *even
 * * speed, rounded up. Needs GLPK. */
moerun_status moerun__replica_split(int64_t *tokens, double *even,
                                    const moerun_placement *placement,
                                    int32_t layer, const int64_t *load,
                                    const double *speed);

/* Largest over mean of rank load per unit of speed by that split of the trace's
 * tokens: the mean over the layers and the worst one. */
moerun_status moerun__replica_balance(double *mean, double *worst,
                                      const moerun_placement *placement,
                                      const moerun__trace *trace,
                                      const moerun__topology *topology);

#endif
