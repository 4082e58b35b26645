/* Readers of load tables. Weights may be counts or estimates: they are read as
 * doubles, checked, and made integers at the end, so that everything after
 * works with exact sums. */
#include "placement/trace/load_table.h"

#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/limits.h"
#include "runtime/base/memory.h"
#include "runtime/base/npy.h"
#include "runtime/base/number.h"
#include "runtime/base/text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

enum { FILE_LIMIT = 1 << 28 };

static const double most = 1099511627776.0; /* 2^40 */

/* Weights as they come. */
typedef struct weights {
  const char *origin;
  int32_t num_layers;
  int32_t num_experts;
  int64_t num_steps;
  double *value; /* [num_layers][E] sums over the steps */
} weights;

/* ---- Shape and values ---------------------------------------------------- */

static moerun_status set_shape(weights *in, int64_t steps, int64_t layers,
                               int64_t experts) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(steps >= 1, MOERUN_ERR_FORMAT,
                 "%s: expected at least 1 step, found none", in->origin);
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
  in->num_steps = steps;
  in->num_layers = moerun__to_int(layers);
  in->num_experts = moerun__to_int(experts);
  MOERUN_TRY(
      moerun__alloc(&in->value, (size_t)(layers * experts), sizeof *in->value));
done:
  return status;
}

/* Adds a load; no step takes any back. */
static moerun_status add_load(weights *in, size_t step, size_t l, size_t e,
                              double load) {
  moerun_status status = MOERUN_OK;
  char where[64] = "";
  char found[MOERUN_NUMBER_TEXT];
  if (in->num_steps > 1) {
    (void)snprintf(where, sizeof where, "step %zu, ", step);
  }
  MOERUN_REQUIRE(
      load >= 0 && load <= 1e300, MOERUN_ERR_FORMAT,
      "%s: %slayer %zu, expert %zu: expected a load from 0 to 1e300, "
      "found %s",
      in->origin, where, l, e, moerun__number_text(found, load));
  double *sum = in->value + l * (size_t)in->num_experts + e;
  *sum = fmin(*sum + load, 1e300);
done:
  return status;
}

/* Whether layer l has loads; *is_whole becomes 0 where one is no whole number
 * up to 2^40. */
static int has_loads(const weights *in, int32_t l, int *is_whole) {
  const double *value = in->value + (size_t)l * (size_t)in->num_experts;
  int found = 0;
  for (int32_t e = 0; e < in->num_experts; e++) {
    found |= value[e] > 0;
    if (value[e] > most || value[e] != floor(value[e])) *is_whole = 0;
  }
  return found;
}

/* By the power of two that puts the largest between 2^39 and 2^40: layers are
 * balanced one by one, so each may have its own unit. */
static void scale(int64_t *load, const double *value, int32_t count) {
  double largest = 0;
  for (int32_t e = 0; e < count; e++) {
    largest = fmax(largest, value[e]);
  }
  const int shift = 39 - ilogb(largest); /* above 0: has_loads */
  for (int32_t e = 0; e < count; e++) {
    load[e] = (int64_t)nearbyint(scalbn(value[e], shift));
  }
}

static moerun_status make_table(moerun__load_table **out, const weights *in) {
  moerun_status status = MOERUN_OK;
  moerun__load_table *table = NULL;
  const size_t E = (size_t)in->num_experts;
  const size_t rows = (size_t)in->num_layers;
  int is_whole = 1;
  MOERUN_TRY(moerun__alloc(&table, 1, sizeof *table));
  MOERUN_TRY(moerun__alloc(&table->load, rows * E, sizeof *table->load));
  MOERUN_TRY(moerun__alloc(&table->row_of, rows, sizeof *table->row_of));
  table->num_rows = in->num_layers;
  table->num_experts = in->num_experts;
  table->num_steps = in->num_steps;
  for (int32_t l = 0; l < in->num_layers; l++) {
    if (has_loads(in, l, &is_whole)) table->row_of[table->num_layers++] = l;
  }
  MOERUN_REQUIRE(table->num_layers > 0, MOERUN_ERR_FORMAT,
                 "%s: expected loads, found all 0 in all %d layers", in->origin,
                 in->num_layers);
  for (size_t l = 0; l < (size_t)table->num_layers; l++) {
    const double *value = in->value + (size_t)table->row_of[l] * E;
    int64_t *load = table->load + l * E;
    for (size_t e = 0; e < E && is_whole; e++) {
      load[e] = (int64_t)value[e];
    }
    if (!is_whole) scale(load, value, in->num_experts);
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
  moerun__free(table->row_of);
  moerun__free(table);
}

/* ---- JSON ---------------------------------------------------------------- */

static moerun_status read_layer(weights *in, const json_t *layer, size_t step,
                                size_t l) {
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
    MOERUN_TRY(add_load(in, step, l, e, json_number_value(value)));
  }
done:
  return status;
}

static moerun_status read_step(weights *in, const json_t *layers, size_t step) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(json_is_array(layers) &&
                     json_array_size(layers) == (size_t)in->num_layers,
                 MOERUN_ERR_FORMAT,
                 "%s: step %zu: expected a list of %d layers, found %s of %zu",
                 in->origin, step, in->num_layers, moerun__json_kind(layers),
                 json_array_size(layers));
  for (size_t l = 0; l < json_array_size(layers); l++) {
    MOERUN_TRY(read_layer(in, json_array_get(layers, l), step, l));
  }
done:
  return status;
}

/* What EPLB and vLLM write beside a map is easily taken for loads. */
static moerun_status refuse_replicas(const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  static const char *const names[] = {"logcnt", "expert_count",
                                      "logical_replica_count"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    MOERUN_REQUIRE(json_object_get(root, names[i]) == NULL, MOERUN_ERR_FORMAT,
                   "%s: key \"%s\": expected loads, found how many replicas "
                   "each expert has; give how many tokens each expert got, "
                   "\"logical_count\" or \"weight\"",
                   origin, names[i]);
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
    const json_t *weight = json_object_get(root, "weight");
    list = json_object_get(root, "logical_count");
    MOERUN_REQUIRE(list == NULL || weight == NULL, MOERUN_ERR_FORMAT,
                   "%s: expected one of the keys \"logical_count\" and "
                   "\"weight\", found both",
                   origin);
    if (list == NULL) list = weight;
  }
  if (list == NULL) MOERUN_TRY(refuse_replicas(root, origin));
  MOERUN_REQUIRE(
      json_is_array(list), MOERUN_ERR_FORMAT,
      "%s: expected a list of layers, or of steps with lists of "
      "layers, by itself or as \"logical_count\" or \"weight\", found "
      "%s",
      origin, moerun__json_kind(list));
  const json_t *first = json_array_get(list, 0);
  const int has_steps = json_is_array(json_array_get(first, 0));
  const size_t steps = has_steps ? json_array_size(list) : 1;
  const json_t *layers = has_steps ? first : list;
  MOERUN_TRY(set_shape(&in, (int64_t)steps, (int64_t)json_array_size(layers),
                       (int64_t)json_array_size(json_array_get(layers, 0))));
  for (size_t step = 0; step < steps; step++) {
    MOERUN_TRY(
        read_step(&in, has_steps ? json_array_get(list, step) : list, step));
  }
  MOERUN_TRY(make_table(out, &in));
done:
  moerun__free(in.value);
  json_decref(root);
  return status;
}

/* ---- .npy ---------------------------------------------------------------- */

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

/* An array of expert ids looks like one of loads: what `moerun profile` puts
 * beside it tells. */
static moerun_status refuse_trace(const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__text name = {0};
  json_t *root = NULL;
  MOERUN_TRY(moerun__text_append(&name, path, strlen(path) - strlen(".npy")));
  MOERUN_TRY(moerun__text_print(&name, ".json"));
  if (!moerun__file_exists(name.bytes) ||
      moerun__json_load(&root, name.bytes, FILE_LIMIT) != MOERUN_OK) {
    goto done; /* whatever it is, it is not ours */
  }
  const char *format = json_string_value(json_object_get(root, "format"));
  MOERUN_REQUIRE(format == NULL || strcmp(format, "moerun-trace") != 0,
                 MOERUN_ERR_FORMAT,
                 "%s: expected loads, found a trace of expert ids, as %s says: "
                 "`moerun place --trace` takes it",
                 path, name.bytes);
done:
  json_decref(root);
  moerun__text_clear(&name);
  return status;
}

static moerun_status load_array(moerun__load_table **out, const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__npy_reader *reader = NULL;
  moerun__npy_shape shape;
  weights in = {.origin = path};
  int64_t *raw = NULL; /* one step, of 8 bytes at most each */
  MOERUN_TRY(moerun__npy_open(&reader, &shape, path, MOERUN_NPY_NUMBERS));
  MOERUN_REQUIRE(shape.num_dims == 2 || shape.num_dims == 3, MOERUN_ERR_FORMAT,
                 "%s: expected an array [layers][experts] or "
                 "[steps][layers][experts], found %d dimension%s",
                 path, shape.num_dims, shape.num_dims == 1 ? "" : "s");
  const int64_t *dim = shape.dim + (shape.num_dims - 2);
  MOERUN_TRY(
      set_shape(&in, shape.num_dims == 3 ? shape.dim[0] : 1, dim[0], dim[1]));
  const int64_t count = dim[0] * dim[1];
  const int is_real =
      shape.type == MOERUN_NPY_F32 || shape.type == MOERUN_NPY_F64;
  MOERUN_TRY(moerun__alloc(&raw, (size_t)count, sizeof *raw));
  for (int64_t step = 0; step < in.num_steps; step++) {
    MOERUN_TRY(
        is_real ? moerun__npy_read(reader, raw, step * count, count)
                : moerun__npy_read_integers(reader, raw, step * count, count));
    for (int64_t i = 0; i < count; i++) {
      MOERUN_TRY(add_load(
          &in, (size_t)step, (size_t)(i / dim[1]), (size_t)(i % dim[1]),
          is_real ? real_at(raw, (size_t)i, shape.type) : (double)raw[i]));
    }
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
  *out = NULL;
  if (moerun__name_ends_in(path, strlen(path), ".npy")) {
    MOERUN_TRY(refuse_trace(path));
    MOERUN_TRY(load_array(out, path));
    goto done;
  }
  MOERUN_TRY(moerun__file_read(&text, &bytes, path, FILE_LIMIT));
  MOERUN_TRY(moerun__load_table_parse(out, text, bytes, path));
done:
  moerun__free(text);
  return status;
}
