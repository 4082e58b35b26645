/* The solve functions that the table in methods.c is made of, each in
 * method_NAME.c; see method.h for what they are given and return. */
#ifndef MOERUN_METHODS_METHODS_H
#define MOERUN_METHODS_METHODS_H

#include "placement/methods/method.h"

#define MOERUN_METHOD_MAP(X)                                                   \
  X(cd)                                                                        \
  X(chain)                                                                     \
  X(contiguous)                                                                \
  X(eplb)                                                                      \
  X(exact)                                                                     \
  X(exflow)                                                                    \
  X(greedy)                                                                    \
  X(ilp)                                                                       \
  X(moetuner)                                                                  \
  X(topo)                                                                      \
  X(random)                                                                    \
  X(lpt)

#define MOERUN_METHOD_DECLARE(name)                                            \
  moerun_status moerun__solve_##name(moerun__solution *solution,               \
                                     const moerun__problem *problem,           \
                                     const moerun__method_options *options);
MOERUN_METHOD_MAP(MOERUN_METHOD_DECLARE)
#undef MOERUN_METHOD_DECLARE

#endif
