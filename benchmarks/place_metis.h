/* METIS (Karypis and Kumar, 1998) as a method of the placement benchmark: its
 * k-way partition of the graph of pairs, made to fit counts and load caps. */
#ifndef MOERUN_BENCHMARKS_PLACE_METIS_H
#define MOERUN_BENCHMARKS_PLACE_METIS_H

#include "placement/methods/method.h"

extern const moerun__method moerun__metis;

#endif
