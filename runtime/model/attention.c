/* Walks over what a kind of attention declares. The kinds themselves are in
 * decoder/, beside what they compute. */
#include "runtime/model/attention.h"

static int32_t num_tensors(const moerun__attention_kind *kind) {
  const moerun__attention_part *last = &kind->parts[kind->num_parts - 1];
  return last->first + last->count;
}

const moerun__attention_tensor *
moerun__attention_find(const moerun__attention_kind *kind, moerun__role role) {
  for (int32_t i = 0; i < num_tensors(kind); i++) {
    if (kind->tensors[i].role == role) return &kind->tensors[i];
  }
  return NULL;
}

moerun__attention_form
moerun__attention_form_of(const moerun__attention_kind *kind,
                          const moerun__attention_tensor *tensor) {
  const moerun__attention_part *part = kind->parts;
  while (tensor - kind->tensors >= part->first + part->count) {
    part++;
  }
  return part->form;
}

const moerun__attention_tensor *
moerun__attention_at(const moerun__model_config *config, int32_t i) {
  const moerun__attention_kind *kind = config->attention;
  for (int32_t p = 0; p < kind->num_parts; p++) {
    const moerun__attention_part *part = &kind->parts[p];
    if (!kind->has(config, p)) continue;
    if (i < part->count) return &kind->tensors[part->first + i];
    i -= part->count;
  }
  return NULL;
}

int64_t moerun__attention_elements(const moerun__model_config *config) {
  const moerun__attention_kind *kind = config->attention;
  const moerun__attention_tensor *tensor = NULL;
  int64_t sum = 0;
  for (int32_t i = 0; (tensor = moerun__attention_at(config, i)) != NULL; i++) {
    int64_t shape[MOERUN_MAX_DIMS];
    const int num_dims = kind->shape(shape, config, tensor->role);
    if (moerun__attention_form_of(kind, tensor) == MOERUN_ATTENTION_NORM) {
      continue;
    }
    sum += num_dims == 1 ? shape[0] : shape[0] * shape[1];
  }
  return sum;
}
