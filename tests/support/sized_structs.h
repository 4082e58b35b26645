/* That every struct that may grow begins with its size, in C and in C++, and
 * that those that never grow are what they were. */
#ifndef MOERUN_TESTS_SIZED_STRUCTS_H
#define MOERUN_TESTS_SIZED_STRUCTS_H

#include <moerun/moerun_mpi.h>
#include <stddef.h>

#ifdef __cplusplus
#define HOLDS(condition) static_assert(condition, #condition)
#else
#define HOLDS(condition) _Static_assert(condition, #condition)
#endif
#define IS_SIZED(type)                                                         \
  HOLDS(offsetof(type, struct_size) == 0 &&                                    \
        sizeof(((type *)0)->struct_size) == sizeof(size_t))

IS_SIZED(moerun_placement_problem);
IS_SIZED(moerun_model_options);
IS_SIZED(moerun_model_shape);
IS_SIZED(moerun_model_source);
IS_SIZED(moerun_session_options);
IS_SIZED(moerun_counters);
IS_SIZED(moerun_mpi_options);
HOLDS(sizeof(moerun_expert_arrays) == 3 * sizeof(void *));
HOLDS(sizeof(moerun_batch) == 6 * sizeof(void *));

#endif
