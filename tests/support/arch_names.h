/* What is said of an architecture that no row has: the names of all rows. */
#ifndef MOERUN_TESTS_ARCH_NAMES_H
#define MOERUN_TESTS_ARCH_NAMES_H

#include "runtime/model/arch.h"

#include <stdio.h>

static inline void say_unknown_arch(char *out, size_t bytes, const char *origin,
                                    const char *found) {
  const char *name = NULL;
  size_t used = (size_t)snprintf(
      out, bytes, "%s: key \"model_type\": expected one of ", origin);
  for (int i = 0; (name = moerun__arch_name_at(i)) != NULL && used < bytes;
       i++) {
    used += (size_t)snprintf(out + used, bytes - used, "%s%s",
                             i > 0 ? ", " : "", name);
  }
  if (used >= bytes) return;
  (void)snprintf(out + used, bytes - used, ", found \"%s\"", found);
}

#endif
