/* The placement file (README.md): JSON that lists, per layer and expert, the
 * ranks of its replicas. Slots are derived, so that a file cannot contradict
 * itself. Every size in it is hostile until checked: lengths are compared with
 * the declared sizes before anything is allocated from them. Written by hand
 * rather than through Jansson, for one line per layer. */
#include "placement/map/placement.h"

#include "placement/map/certificate.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/text.h"
#include "runtime/base/topology.h"

#include <string.h>

#define FORMAT_NAME "moerun-placement"

enum {
  FORMAT_VERSION = 1,
  FILE_LIMIT = 1 << 26, /* bytes */
};

/* ---- Read ---------------------------------------------------------------- */

typedef struct reader {
  const char *origin;
  int32_t num_layers;
  int32_t num_experts;
  int32_t num_ranks;
  const json_t *layers;
  int32_t *replica_offset; /* [num_layers * E + 1] */
  int32_t *rank_of;
} reader;

static moerun_status read_size(int32_t *out, const json_t *root,
                               const char *key, int32_t high,
                               const char *origin) {
  moerun_status status = MOERUN_OK;
  int64_t value = 0;
  MOERUN_TRY(moerun__json_int(&value, root, key, 1, high, NULL, origin));
  *out = moerun__to_int(value);
done:
  return status;
}

static moerun_status check_keys(const json_t *root, const char *origin) {
  static const char *const known[] = {
      "format",      "version",   "model",  "method",      "num_layers",
      "num_experts", "num_ranks", "layers", "certificate",
  };
  moerun_status status = MOERUN_OK;
  for (void *at = json_object_iter((json_t *)root); at != NULL;
       at = json_object_iter_next((json_t *)root, at)) {
    const char *key = json_object_iter_key(at);
    size_t k = 0;
    while (k < sizeof known / sizeof *known && strcmp(key, known[k]) != 0) {
      k++;
    }
    MOERUN_REQUIRE(k < sizeof known / sizeof *known, MOERUN_ERR_FORMAT,
                   "%s: unknown key \"%.64s\"", origin, key);
  }
done:
  return status;
}

static moerun_status read_head(reader *in, const json_t *root) {
  moerun_status status = MOERUN_OK;
  const char *format = NULL;
  int64_t version = 0;
  json_t *layers = NULL;
  MOERUN_TRY(moerun__json_text(&format, root, "format", 1, in->origin));
  MOERUN_REQUIRE(strcmp(format, FORMAT_NAME) == 0, MOERUN_ERR_FORMAT,
                 "%s: key \"format\": expected \"" FORMAT_NAME
                 "\", found \"%.64s\"%s",
                 in->origin, format,
                 strcmp(format, "moerun-place") == 0
                     ? ", which `place --json` wrote: the placement is what "
                       "--output wrote"
                     : "");
  MOERUN_TRY(moerun__json_int(&version, root, "version", INT64_MIN, INT64_MAX,
                              NULL, in->origin));
  MOERUN_REQUIRE(version == FORMAT_VERSION, MOERUN_ERR_FORMAT,
                 "%s: key \"version\": expected %d, found %lld", in->origin,
                 FORMAT_VERSION, (long long)version);
  MOERUN_TRY(check_keys(root, in->origin));
  MOERUN_TRY(read_size(&in->num_layers, root, "num_layers",
                       MOERUN_PLACEMENT_MAX_LAYERS, in->origin));
  MOERUN_TRY(read_size(&in->num_experts, root, "num_experts",
                       MOERUN_PLACEMENT_MAX_EXPERTS, in->origin));
  MOERUN_TRY(read_size(&in->num_ranks, root, "num_ranks",
                       MOERUN_PLACEMENT_MAX_RANKS, in->origin));
  const int64_t most_entries =
      (int64_t)in->num_layers *
      (in->num_experts > in->num_ranks ? in->num_experts : in->num_ranks);
  MOERUN_REQUIRE(
      most_entries <= MOERUN_PLACEMENT_MAX_ENTRIES, MOERUN_ERR_FORMAT,
      "%s: expected num_layers x num_experts and num_layers x "
      "num_ranks of at most %d, found %lld",
      in->origin, MOERUN_PLACEMENT_MAX_ENTRIES, (long long)most_entries);
  MOERUN_TRY(moerun__json_array(&layers, root, "layers", in->origin));
  in->layers = layers;
done:
  return status;
}

/* Lengths and types within one layer; adds the ranks listed to *replicas. */
static moerun_status measure_layer(size_t *replicas, const reader *in,
                                   int32_t l) {
  moerun_status status = MOERUN_OK;
  const json_t *experts = json_array_get(in->layers, (size_t)l);
  MOERUN_REQUIRE(json_is_array(experts), MOERUN_ERR_FORMAT,
                 "%s: layers[%d]: expected an array, found %s", in->origin, l,
                 moerun__json_kind(experts));
  MOERUN_REQUIRE(json_array_size(experts) == (size_t)in->num_experts,
                 MOERUN_ERR_FORMAT,
                 "%s: layers[%d]: expected %d entries, found %zu", in->origin,
                 l, in->num_experts, json_array_size(experts));
  for (int32_t e = 0; e < in->num_experts; e++) {
    const json_t *ranks = json_array_get(experts, (size_t)e);
    MOERUN_REQUIRE(json_is_array(ranks), MOERUN_ERR_FORMAT,
                   "%s: layers[%d][%d]: expected an array, found %s",
                   in->origin, l, e, moerun__json_kind(ranks));
    MOERUN_REQUIRE(json_array_size(ranks) >= 1, MOERUN_ERR_FORMAT,
                   "%s: layers[%d][%d]: expected at least one rank, found an "
                   "empty array",
                   in->origin, l, e);
    *replicas += json_array_size(ranks);
  }
done:
  return status;
}

/* The ranks of one expert, appended at *next. */
static moerun_status read_ranks(const reader *in, int32_t l, int32_t e,
                                int32_t *next) {
  moerun_status status = MOERUN_OK;
  const json_t *ranks =
      json_array_get(json_array_get(in->layers, (size_t)l), (size_t)e);
  int64_t previous = -1;
  for (size_t i = 0; i < json_array_size(ranks); i++) {
    const json_t *entry = json_array_get(ranks, i);
    MOERUN_REQUIRE(json_is_integer(entry), MOERUN_ERR_FORMAT,
                   "%s: layers[%d][%d][%zu]: expected an integer, found %s",
                   in->origin, l, e, i, moerun__json_kind(entry));
    const int64_t rank = json_integer_value(entry);
    MOERUN_REQUIRE(rank >= 0 && rank < in->num_ranks, MOERUN_ERR_FORMAT,
                   "%s: layers[%d][%d][%zu]: expected a rank from 0 to %d, "
                   "found %lld",
                   in->origin, l, e, i, in->num_ranks - 1, (long long)rank);
    MOERUN_REQUIRE(rank != previous, MOERUN_ERR_FORMAT,
                   "%s: layers[%d][%d]: rank %lld is there twice", in->origin,
                   l, e, (long long)rank);
    MOERUN_REQUIRE(rank > previous, MOERUN_ERR_FORMAT,
                   "%s: layers[%d][%d]: expected ascending ranks, found %lld "
                   "after %lld",
                   in->origin, l, e, (long long)rank, (long long)previous);
    in->rank_of[(*next)++] = moerun__to_int(rank);
    previous = rank;
  }
done:
  return status;
}

static moerun_status read_layers(reader *in) {
  moerun_status status = MOERUN_OK;
  size_t replicas = 0;
  int32_t next = 0;
  const size_t entries = (size_t)in->num_layers * (size_t)in->num_experts;
  MOERUN_REQUIRE(json_array_size(in->layers) == (size_t)in->num_layers,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"layers\": expected %d entries, found %zu",
                 in->origin, in->num_layers, json_array_size(in->layers));
  for (int32_t l = 0; l < in->num_layers; l++) {
    MOERUN_TRY(measure_layer(&replicas, in, l));
  }
  MOERUN_REQUIRE(replicas <= MOERUN_PLACEMENT_MAX_REPLICAS, MOERUN_ERR_FORMAT,
                 "%s: expected at most %d replicas, found %zu", in->origin,
                 MOERUN_PLACEMENT_MAX_REPLICAS, replicas);
  MOERUN_TRY(moerun__alloc(&in->replica_offset, entries + 1,
                           sizeof *in->replica_offset));
  MOERUN_TRY(moerun__alloc(&in->rank_of, replicas, sizeof *in->rank_of));
  for (int32_t l = 0; l < in->num_layers; l++) {
    for (int32_t e = 0; e < in->num_experts; e++) {
      MOERUN_TRY(read_ranks(in, l, e, &next));
      in->replica_offset[l * in->num_experts + e + 1] = next;
    }
  }
done:
  return status;
}

/* The optional certificate, which must be for as many ranks. */
static moerun_status read_certificate(moerun_placement *placement,
                                      const json_t *root, const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__topology *topology = NULL;
  json_t *object = NULL;
  moerun__text where = {0};
  if (json_object_get(root, "certificate") == NULL) goto done;
  MOERUN_TRY(moerun__json_object(&object, root, "certificate", origin));
  MOERUN_TRY(moerun__text_print(&where, "%s: certificate", origin));
  MOERUN_TRY(
      moerun__certificate_read(&placement->certificate, object, where.bytes));
  const char *line = placement->certificate->topology;
  status = moerun__topology_parse(&topology, line);
  MOERUN_REQUIRE(status != MOERUN_ERR_FORMAT, MOERUN_ERR_FORMAT,
                 "%s: key \"topology\": expected one such as \"2 nodes x 4 "
                 "ranks\", found \"%.64s\"",
                 where.bytes, line);
  MOERUN_TRY(status);
  MOERUN_REQUIRE(topology->num_ranks == placement->num_ranks, MOERUN_ERR_FORMAT,
                 "%s: key \"topology\": expected %d ranks, found %d",
                 where.bytes, placement->num_ranks, topology->num_ranks);
done:
  moerun__text_clear(&where);
  moerun__topology_destroy(topology);
  return status;
}

moerun_status moerun__placement_parse(moerun_placement **out, const char *text,
                                      size_t bytes, const char *origin) {
  moerun_status status = MOERUN_OK;
  reader in = {.origin = origin};
  json_t *root = NULL;
  moerun_placement *placement = NULL;
  const char *model = NULL;
  const char *method = NULL;
  char *name = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__json_parse(&root, text, bytes, origin));
  MOERUN_REQUIRE(json_is_object(root), MOERUN_ERR_FORMAT,
                 "%s: expected a JSON object, found %s", origin,
                 moerun__json_kind(root));
  MOERUN_TRY(read_head(&in, root));
  MOERUN_TRY(moerun__json_name(&model, root, "model", origin));
  MOERUN_TRY(moerun__json_name(&method, root, "method", origin));
  MOERUN_TRY(read_layers(&in));
  MOERUN_TRY(moerun__copy_text(&name, model));
  MOERUN_TRY(moerun__placement_create(&placement, in.num_layers, in.num_experts,
                                      in.num_ranks, in.replica_offset,
                                      in.rank_of, method));
  moerun__free(placement->model);
  placement->model = name;
  name = NULL;
  MOERUN_TRY(read_certificate(placement, root, origin));
  *out = placement;
  placement = NULL;
done:
  moerun_placement_destroy(placement);
  moerun__free(name);
  moerun__free(in.replica_offset);
  moerun__free(in.rank_of);
  json_decref(root);
  return status;
}

moerun_status moerun_placement_load(moerun_placement **out, const char *path) {
  moerun_status status = MOERUN_OK;
  char *text = NULL;
  size_t bytes = 0;
  *out = NULL;
  MOERUN_TRY(moerun__path_check(path, "moerun_placement_load"));
  MOERUN_TRY(moerun__file_read(&text, &bytes, path, FILE_LIMIT));
  MOERUN_TRY(moerun__placement_parse(out, text, bytes, path));
done:
  moerun__free(text);
  return status;
}

/* ---- Write --------------------------------------------------------------- */

static moerun_status print_layer(moerun__text *text,
                                 const moerun_placement *placement,
                                 int32_t layer) {
  moerun_status status = MOERUN_OK;
  const int32_t E = placement->num_experts;
  const int32_t *offset = placement->replica_offset + (ptrdiff_t)layer * E;
  MOERUN_TRY(moerun__text_print(text, "    ["));
  for (int32_t e = 0; e < E; e++) {
    MOERUN_TRY(moerun__text_print(text, "%s[%d", e > 0 ? ", " : "",
                                  placement->rank_of[offset[e]]));
    for (int32_t i = offset[e] + 1; i < offset[e + 1]; i++) {
      MOERUN_TRY(moerun__text_print(text, ", %d", placement->rank_of[i]));
    }
    MOERUN_TRY(moerun__text_print(text, "]"));
  }
  MOERUN_TRY(moerun__text_print(text, "]%s\n",
                                layer + 1 < placement->num_layers ? "," : ""));
done:
  return status;
}

static moerun_status print_name(moerun__text *text, const char *key,
                                const char *name) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(text, "  \"%s\": ", key));
  MOERUN_TRY(moerun__text_json(text, name, strlen(name)));
  MOERUN_TRY(moerun__text_print(text, ",\n"));
done:
  return status;
}

moerun_status moerun__placement_put(const moerun_placement *placement,
                                    moerun__outputs *outputs,
                                    const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__text text = {0};
  MOERUN_TRY(moerun__placement_check(placement));
  MOERUN_TRY(moerun__text_print(
      &text, "{\n  \"format\": \"" FORMAT_NAME "\",\n  \"version\": %d,\n",
      FORMAT_VERSION));
  MOERUN_TRY(print_name(&text, "model", placement->model));
  MOERUN_TRY(print_name(&text, "method", placement->method));
  MOERUN_TRY(moerun__text_print(
      &text,
      "  \"num_layers\": %d,\n  \"num_experts\": %d,\n"
      "  \"num_ranks\": %d,\n",
      placement->num_layers, placement->num_experts, placement->num_ranks));
  if (placement->certificate != NULL) {
    MOERUN_TRY(moerun__text_print(&text, "  \"certificate\": "));
    MOERUN_TRY(moerun__certificate_print(&text, placement->certificate, "  "));
    MOERUN_TRY(moerun__text_print(&text, ",\n"));
  }
  MOERUN_TRY(moerun__text_print(&text, "  \"layers\": [\n"));
  for (int32_t l = 0; l < placement->num_layers; l++) {
    MOERUN_TRY(print_layer(&text, placement, l));
  }
  MOERUN_TRY(moerun__text_print(&text, "  ]\n}\n"));
  MOERUN_REQUIRE(text.count <= FILE_LIMIT, MOERUN_ERR_INVALID,
                 "%s: expected a placement of at most %d bytes, found %zu",
                 path, FILE_LIMIT, text.count);
  MOERUN_TRY(moerun__outputs_put(outputs, path, text.bytes, text.count));
done:
  moerun__text_clear(&text);
  return status;
}

moerun_status moerun_placement_save(const moerun_placement *placement,
                                    const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__outputs outputs = {0};
  MOERUN_TRY(moerun__path_check(path, "moerun_placement_save"));
  MOERUN_TRY(moerun__placement_put(placement, &outputs, path));
  MOERUN_TRY(moerun__outputs_commit(&outputs));
done:
  moerun__outputs_clear(&outputs);
  return status;
}
