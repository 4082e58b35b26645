/* Structs of the public interface that may grow begin with `size_t
 * struct_size`, which whoever makes one sets to its sizeof. A program and a
 * library that were built with different headers then agree on the members that
 * both know. */
#ifndef MOERUN_BASE_SIZED_H
#define MOERUN_BASE_SIZED_H

#include "runtime/base/status.h"

/* own[own_bytes] = what the caller gave, and 0, the default, for members that
 * its header lacks; own's struct_size is own_bytes. ERR_INVALID for NULL and
 * for a size that was forgotten, ERR_UNSUPPORTED where the caller set a member
 * that this library lacks. type: its name, for messages. */
moerun_status moerun__sized_read(void *own, size_t own_bytes, const void *given,
                                 const char *type);
/* Fills as much of the caller's struct as both know with own[own_bytes], and
 * the rest of it with 0. The caller's struct_size stays. */
moerun_status moerun__sized_write(void *given, const void *own,
                                  size_t own_bytes, const char *type);

#endif
