/* Whether a tensor of a checkpoint is what a model takes it for. */
#include "runtime/model/shard.h"

#include <stdio.h>
#include <string.h>

enum { SHAPE_TEXT = 128 };

/* "[32, 128]" */
static void print_shape(char out[SHAPE_TEXT], const int64_t *shape,
                        int num_dims) {
  int used = snprintf(out, SHAPE_TEXT, "[");
  const int shown = num_dims < MOERUN_SHARD_DIMS ? num_dims : MOERUN_SHARD_DIMS;
  for (int d = 0; d < shown; d++) {
    used += snprintf(out + used, (size_t)(SHAPE_TEXT - used), "%s%lld",
                     d > 0 ? ", " : "", (long long)shape[d]);
  }
  (void)snprintf(out + used, (size_t)(SHAPE_TEXT - used), "%s",
                 num_dims > shown ? ", ...]" : "]");
}

/* Types that a file may have, and no weight. */
int64_t moerun__tensor_bits(const char *dtype) {
  static const struct {
    const char *name;
    int64_t bits;
  } table[] = {
      {"F64", 64}, {"I8", 8},      {"I16", 16},    {"I32", 32},
      {"I64", 64}, {"U8", 8},      {"U16", 16},    {"U32", 32},
      {"U64", 64}, {"F8_E4M3", 8}, {"F8_E5M2", 8}, {"BOOL", 8},
  };
  moerun__dtype known = MOERUN_DTYPE_F32;
  if (moerun__dtype_find(&known, dtype)) {
    const moerun__dtype_row *row = moerun__dtype_at(known);
    return (int64_t)8 * row->block_bytes / row->block;
  }
  for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
    if (strcmp(table[i].name, dtype) == 0) return table[i].bits;
  }
  return 0;
}

/* Fewer than 16 bits an element. */
static int is_quantised(const char *dtype) {
  static const char *const beginnings[] = {"F8_", "F6_", "F4",
                                           "I8",  "U8",  "I4"};
  for (size_t i = 0; i < sizeof beginnings / sizeof *beginnings; i++) {
    if (strncmp(dtype, beginnings[i], strlen(beginnings[i])) == 0) return 1;
  }
  return 0;
}

moerun_status moerun__tensor_check(moerun__dtype *out,
                                   const moerun__shards *shards,
                                   const moerun__tensor *tensor,
                                   const int64_t *shape, int num_dims) {
  moerun_status status = MOERUN_OK;
  const char *file = moerun__shards_file(shards, tensor);
  char expected[SHAPE_TEXT];
  char found[SHAPE_TEXT];
  char names[MOERUN_DTYPE_NAMES] = "";
  const int known = moerun__dtype_find(out, tensor->dtype);
  if (!known) moerun__dtype_names(names);
  MOERUN_REQUIRE(known, MOERUN_ERR_UNSUPPORTED,
                 "%s: tensor \"%s\": expected %s, found %s%s", file,
                 tensor->name, names, tensor->dtype,
                 is_quantised(tensor->dtype)
                     ? " of quantised weights, which are not read: take a "
                       "checkpoint that is not quantised"
                     : "");
  int same = tensor->num_dims == num_dims;
  for (int d = 0; same && d < num_dims; d++) {
    same = tensor->shape[d] == shape[d];
  }
  if (!same) {
    print_shape(expected, shape, num_dims);
    print_shape(found, tensor->shape, tensor->num_dims);
  }
  MOERUN_REQUIRE(same, MOERUN_ERR_SHAPE,
                 "%s: tensor \"%s\": expected %s, found %s", file, tensor->name,
                 expected, found);
done:
  return status;
}
