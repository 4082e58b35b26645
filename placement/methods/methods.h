/* One row a method: its solve function, in method_NAME.c, is declared from it,
 * and the table in methods.c is made of it. method.h says what these functions
 * are given and return. */
#ifndef MOERUN_METHODS_METHODS_H
#define MOERUN_METHODS_METHODS_H

#include "placement/methods/method.h"

/* X(name, summary, what is so of it: flags of moerun__method), in the order in
 * which `moerun place --method list` shows them. */
#define MOERUN_METHOD_MAP(X)                                                   \
  X(contiguous, "blocks of neighbouring experts; looks at no routing",         \
    .by_loads = 1, .ignores_speed = 1)                                         \
  X(random, "blocks of shuffled experts; looks at no routing", .by_loads = 1,  \
    .ignores_speed = 1, .draws = 1)                                            \
  X(lpt, "even loads: heaviest expert first onto the lightest rank",           \
    .keeps_caps = 1, .by_loads = 1)                                            \
  X(eplb, "even loads by replicas, as DeepSeek's EPLB packs them",             \
    .replicates = 1, .fills_slots = 1, .by_loads = 1)                          \
  X(greedy, "expert by expert to where the layer before sends its tokens",     \
    .keeps_caps = 1)                                                           \
  X(chain, "layer by layer, each by an exact transport problem",               \
    .keeps_caps = 1)                                                           \
  X(cd, "the default: descent, annealing and exact re-splits",                 \
    .keeps_caps = 1, .replicates = 1, .draws = 1, .polishes = 1)               \
  X(exact, "proven optimum: one expert a rank, or few experts",                \
    .keeps_caps = 1)                                                           \
  X(exflow, "paths of first experts, by integer programs for halves",          \
    .needs_glpk = 1, .ignores_speed = 1)                                       \
  X(moetuner, "even loads by integer programs, then ranks by assignment",      \
    .needs_glpk = 1, .keeps_caps = 1)                                          \
  X(topo, "experts near their layer's host, by a linear program",              \
    .needs_glpk = 1, .ignores_speed = 1)                                       \
  X(ilp, "an integer program of the whole; for very small problems",           \
    .needs_glpk = 1, .keeps_caps = 1)

#define MOERUN_METHOD_DECLARE(name, ...)                                       \
  moerun_status moerun__solve_##name(moerun__solution *solution,               \
                                     const moerun__problem *problem,           \
                                     const moerun__method_options *options);
MOERUN_METHOD_MAP(MOERUN_METHOD_DECLARE)
#undef MOERUN_METHOD_DECLARE

#endif
