/* Readers of load tables. Weights may be counts or estimates: they are read as
 * doubles, checked, and made integers at the end, so that everything after
 * works with exact sums. */
#include "placement/load_table.h"

#include "placement/placement.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/npy.h"
#include "runtime/base/number.h"

#include <math.h>
#include <string.h>

enum { FILE_LIMIT = 1 << 28 };

static const double most = 1099511627776.0; /* 2^40 */

/* Weights as they come. */
typedef struct weights {
  const char *origin;
  int32_t num_layers;
  int32_t num_experts;
  double *value; /* [num_layers][E] */
} weights;

/* ---- Shape and values ------------------------------------------------------ */

static moerun_status set_shape(weights *in, int64_t layers, int64_t experts) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(layers >= 1 && layers <= MOERUN_PLACEMENT_MAX_LAYERS,
                 MOERUN_ERR_FORMAT, "%s: expected 1 to %d layers, found %lld",
                 in->origin, MOERUN_PLACEMENT_MAX_LAYERS, (long long)layers);
  MOERUN_REQUIRE(experts >= 1 && experts <= MOERUN_PLACEMENT_MAX_EXPERTS &&
                     layers * experts <= MOERUN_PLACEMENT_MAX_ENTRIES,
                 MOERUN_ERR_FORMAT,
                 "%s: expected 1 to %d experts and at most %d loads in all, "
                 "found %lld in each of %lld layers",
                 in->origin, MOERUN_PLACEMENT_MAX_EXPERTS,
                 MOERUN_PLACEMENT_MAX_ENTRIES, (long long)experts,
                 (long long)layers);
  in->num_layers = moerun__to_int(layers);
  in->num_experts = moerun__to_int(experts);
  MOERUN_TRY(
      moerun__alloc(&in->value, (size_t)(layers * experts), sizeof *in->value));
done:
  return status;
}

/* Every load of layer l; *is_whole becomes 0 where one is no whole number up to
 * 2^40. */
static moerun_status check_layer(const weights *in, int32_t l, int *is_whole) {
  moerun_status status = MOERUN_OK;
  const double *value = in->value + (size_t)l * (size_t)in->num_experts;
  double sum = 0;
  for (int32_t e = 0; e < in->num_experts; e++) {
    MOERUN_REQUIRE(value[e] >= 0 && value[e] <= 1e300, MOERUN_ERR_FORMAT,
                   "%s: layer %d, expert %d: expected a load from 0 to 1e300, "
                   "found %g",
                   in->origin, l, e, value[e]);
    sum += value[e];
    if (value[e] > most || value[e] != floor(value[e])) *is_whole = 0;
  }
  MOERUN_REQUIRE(sum > 0, MOERUN_ERR_FORMAT,
                 "%s: layer %d: expected loads, found all 0", in->origin, l);
done:
  return status;
}

/* By the power of two that puts the largest between 2^39 and 2^40: layers are
 * balanced one by one, so each may have its own unit. */
static void scale(int64_t *load, const double *value, int32_t count) {
  double largest = 0;
  for (int32_t e = 0; e < count; e++) {
    largest = fmax(largest, value[e]);
  }
  const int shift = 39 - ilogb(largest); /* above 0: check_layer */
  for (int32_t e = 0; e < count; e++) {
    load[e] = (int64_t)nearbyint(scalbn(value[e], shift));
  }
}

static moerun_status make_table(moerun__load_table **out, const weights *in) {
  moerun_status status = MOERUN_OK;
  moerun__load_table *table = NULL;
  const size_t E = (size_t)in->num_experts;
  const size_t count = (size_t)in->num_layers * E;
  int is_whole = 1;
  for (int32_t l = 0; l < in->num_layers; l++) {
    MOERUN_TRY(check_layer(in, l, &is_whole));
  }
  MOERUN_TRY(moerun__alloc(&table, 1, sizeof *table));
  MOERUN_TRY(moerun__alloc(&table->load, count, sizeof *table->load));
  table->num_layers = in->num_layers;
  table->num_experts = in->num_experts;
  for (size_t i = 0; i < count && is_whole; i++) {
    table->load[i] = (int64_t)in->value[i];
  }
  for (size_t l = 0; l < (size_t)in->num_layers && !is_whole; l++) {
    scale(table->load + l * E, in->value + l * E, in->num_experts);
  }
  *out = table;
  table = NULL;
done:
  moerun__load_table_destroy(table);
  return status;
}

void moerun__load_table_destroy(moerun__load_table *table) {
  if (table == NULL) return;
  moerun__free(table->load);
  moerun__free(table);
}

/* ---- JSON ------------------------------------------------------------------ */

static moerun_status read_layer(weights *in, const json_t *layer, size_t l) {
  moerun_status status = MOERUN_OK;
  const size_t E = (size_t)in->num_experts;
  MOERUN_REQUIRE(
      json_is_array(layer) && json_array_size(layer) == E, MOERUN_ERR_FORMAT,
      "%s: layer %zu: expected a list of %zu loads, found %s of %zu",
      in->origin, l, E, moerun__json_kind(layer), json_array_size(layer));
  for (size_t e = 0; e < E; e++) {
    const json_t *value = json_array_get(layer, e);
    MOERUN_REQUIRE(json_is_number(value), MOERUN_ERR_FORMAT,
                   "%s: layer %zu, expert %zu: expected a number, found %s",
                   in->origin, l, e, moerun__json_kind(value));
    in->value[l * E + e] = json_number_value(value);
  }
done:
  return status;
}

moerun_status moerun__load_table_parse(moerun__load_table **out,
                                       const char *text, size_t bytes,
                                       const char *origin) {
  moerun_status status = MOERUN_OK;
  json_t *root = NULL;
  weights in = {.origin = origin};
  *out = NULL;
  MOERUN_TRY(moerun__json_parse(&root, text, bytes, origin));
  const json_t *list = root;
  if (json_is_object(root)) {
    list = json_object_get(root, "logical_count");
    if (list == NULL) list = json_object_get(root, "weight");
  }
  MOERUN_REQUIRE(json_is_array(list), MOERUN_ERR_FORMAT,
                 "%s: expected a list of layers, by itself or as "
                 "\"logical_count\" or \"weight\", found %s",
                 origin, moerun__json_kind(list));
  const size_t layers = json_array_size(list);
  MOERUN_TRY(set_shape(&in, (int64_t)layers,
                       (int64_t)json_array_size(json_array_get(list, 0))));
  for (size_t l = 0; l < layers; l++) {
    MOERUN_TRY(read_layer(&in, json_array_get(list, l), l));
  }
  MOERUN_TRY(make_table(out, &in));
done:
  moerun__free(in.value);
  json_decref(root);
  return status;
}

/* ---- .npy ------------------------------------------------------------------ */

/* The floating-point number i of `raw`. */
static double real_at(const void *raw, size_t i, moerun__npy_type type) {
  double wide = 0;
  float narrow = 0;
  if (type == MOERUN_NPY_F64) {
    memcpy(&wide, (const char *)raw + i * sizeof wide, sizeof wide);
    return wide;
  }
  memcpy(&narrow, (const char *)raw + i * sizeof narrow, sizeof narrow);
  return narrow;
}

static moerun_status load_array(moerun__load_table **out, const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__npy_reader *reader = NULL;
  moerun__npy_shape shape;
  weights in = {.origin = path};
  int64_t *raw = NULL; /* of 8 bytes at most */
  MOERUN_TRY(moerun__npy_open(&reader, &shape, path, MOERUN_NPY_NUMBERS));
  MOERUN_REQUIRE(shape.num_dims == 2, MOERUN_ERR_FORMAT,
                 "%s: expected an array [layers][experts], found %d "
                 "dimension%s",
                 path, shape.num_dims, shape.num_dims == 1 ? "" : "s");
  MOERUN_TRY(set_shape(&in, shape.dim[0], shape.dim[1]));
  const int64_t count = moerun__npy_count(&shape);
  const int is_real =
      shape.type == MOERUN_NPY_F32 || shape.type == MOERUN_NPY_F64;
  MOERUN_TRY(moerun__alloc(&raw, (size_t)count, sizeof *raw));
  MOERUN_TRY(is_real ? moerun__npy_read(reader, raw, 0, count)
                     : moerun__npy_read_integers(reader, raw, 0, count));
  for (int64_t i = 0; i < count; i++) {
    in.value[i] =
        is_real ? real_at(raw, (size_t)i, shape.type) : (double)raw[i];
  }
  MOERUN_TRY(make_table(out, &in));
done:
  moerun__npy_close(reader);
  moerun__free(raw);
  moerun__free(in.value);
  return status;
}

moerun_status moerun__load_table_load(moerun__load_table **out,
                                      const char *path) {
  moerun_status status = MOERUN_OK;
  char *text = NULL;
  size_t bytes = 0;
  const size_t length = strlen(path);
  *out = NULL;
  if (length > 4 && strcmp(path + length - 4, ".npy") == 0) {
    MOERUN_TRY(load_array(out, path));
    goto done;
  }
  MOERUN_TRY(moerun__file_read(&text, &bytes, path, FILE_LIMIT));
  MOERUN_TRY(moerun__load_table_parse(out, text, bytes, path));
done:
  moerun__free(text);
  return status;
}
