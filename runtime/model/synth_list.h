/* The tensors of a synthetic checkpoint. */
#ifndef MOERUN_MODEL_SYNTH_LIST_H
#define MOERUN_MODEL_SYNTH_LIST_H

#include "runtime/model/arch.h"

/* One tensor of the files to be written, in order. */
typedef struct moerun__synth_entry {
  moerun__role role;
  int32_t layer;
  int32_t expert;
  int32_t file; /* 0, until synth deals them */
  int64_t bytes;
} moerun__synth_entry;

typedef struct moerun__synth_list {
  const moerun__model_config *config; /* borrowed */
  int32_t fused;                      /* 1: experts are, in any family */
  int64_t element_bytes;
  moerun__synth_entry *entries; /* NULL while they are counted */
  size_t num_entries;
  int64_t total_bytes;
} moerun__synth_list;

/* Counts the tensors and their bytes, and notes them where there is an array
 * for as many. */
moerun_status moerun__synth_list_make(moerun__synth_list *list);

#endif
