/* Rows by name, and names by what their models may have: the choices and the
 * help of `synth` are made of these, so that the table alone names an
 * architecture. */
#include "runtime/model/arch_row.h"

#include <string.h>

const moerun__arch *moerun__arch_find(const char *name) {
  const moerun__arch *arch = NULL;
  for (int i = 0; (arch = moerun__arch_at(i)) != NULL; i++) {
    if (strcmp(arch->name, name) == 0) break;
  }
  return arch;
}

const char *moerun__arch_class(const moerun__arch *arch) {
  return arch->class_name;
}

int moerun__arch_has_shared(const moerun__arch *arch) {
  return arch->shared_width_key != NULL || arch->shared_count_key != NULL;
}

int moerun__arch_has_dense(const moerun__arch *arch) {
  return arch->dense != MOERUN_DENSE_NONE;
}

/* Name number i of the rows that have it. */
static const char *name_with(int (*has)(const moerun__arch *arch), int i) {
  const moerun__arch *arch = NULL;
  for (int row = 0; (arch = moerun__arch_at(row)) != NULL; row++) {
    if (has(arch) && i-- == 0) return arch->name;
  }
  return NULL;
}

const char *moerun__arch_name_at(int i) {
  const moerun__arch *arch = moerun__arch_at(i);
  return arch != NULL ? arch->name : NULL;
}

const char *moerun__arch_with_shared_at(int i) {
  return name_with(moerun__arch_has_shared, i);
}

const char *moerun__arch_with_dense_at(int i) {
  return name_with(moerun__arch_has_dense, i);
}
