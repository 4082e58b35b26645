/* Maps that are lists: vLLM's expert map on Ascend (expert_map_path),
 *
 *   {"moe_layer_count": 1, "layer_list": [{"layer_id": 0, "device_count": 2,
 *     "device_list": [{"device_id": 0, "device_expert": [0, 3]}, ...]}]}
 *
 * and the solutions that ExFlow (Yao et al., 2024, arXiv 2401.08383) publishes,
 * with experts that count on from layer to layer:
 *
 *   Expert,Node
 *   0,3
 */
#include "placement/map/import_map.h"

#include "runtime/base/memory.h"
#include "runtime/base/number.h"

#include <stdio.h>
#include <string.h>

enum { WHERE = 96, ORIGIN = 4096 };

/* ---- Devices ------------------------------------------------------------- */

/* seen[R]: 1 + the last layer that had a device of this id. */
static moerun_status read_device(moerun__map *map, int32_t *seen,
                                 const json_t *device, int32_t row,
                                 int32_t place) {
  moerun_status status = MOERUN_OK;
  char where[WHERE];
  char origin[ORIGIN];
  int64_t rank = 0;
  const int64_t fallback = place;
  json_t *experts = NULL;
  (void)snprintf(where, sizeof where, "layer_list[%d].device_list[%d]", row,
                 place);
  MOERUN_REQUIRE(json_is_object(device), MOERUN_ERR_FORMAT,
                 "%s: %s: expected an object, found %s", map->origin, where,
                 moerun__json_kind(device));
  (void)snprintf(origin, sizeof origin, "%s: %s", map->origin, where);
  MOERUN_TRY(moerun__json_int(&rank, device, "device_id", 0,
                              map->sizes.num_ranks - 1, &fallback, origin));
  MOERUN_REQUIRE(seen[rank] != row + 1, MOERUN_ERR_FORMAT,
                 "%s: key \"device_id\": expected one that no device before "
                 "it has, found %lld again",
                 origin, (long long)rank);
  seen[rank] = row + 1;
  MOERUN_TRY(moerun__json_array(&experts, device, "device_expert", origin));
  for (size_t i = 0; i < json_array_size(experts); i++) {
    const json_t *expert = json_array_get(experts, i);
    MOERUN_REQUIRE(json_is_integer(expert), MOERUN_ERR_FORMAT,
                   "%s: %s: expected experts as integers, found %s",
                   map->origin, where, moerun__json_kind(expert));
    MOERUN_TRY(moerun__map_add(map, row, (int64_t)json_integer_value(expert),
                               rank, where));
  }
done:
  return status;
}

/* What the file says of its lists, where it does. */
static moerun_status check_count(const json_t *object, const char *key,
                                 size_t found, const char *origin) {
  moerun_status status = MOERUN_OK;
  int64_t said = (int64_t)found;
  MOERUN_TRY(moerun__json_int(&said, object, key, 0, INT32_MAX, &said, origin));
  MOERUN_REQUIRE(said == (int64_t)found, MOERUN_ERR_FORMAT,
                 "%s: key \"%s\": expected %zu, as many as there are, found "
                 "%lld",
                 origin, key, found, (long long)said);
done:
  return status;
}

/* *last: layer_id of the layers before. Rows are in the order of layers,
 * whatever they count from; another order would be that of other layers. */
static moerun_status read_layer(moerun__map *map, int64_t *last, int32_t **seen,
                                const json_t *layer, int32_t row) {
  moerun_status status = MOERUN_OK;
  json_t *devices = NULL;
  char origin[ORIGIN];
  const int64_t next = *last + 1;
  int64_t id = 0;
  (void)snprintf(origin, sizeof origin, "%s: layer_list[%d]", map->origin, row);
  MOERUN_REQUIRE(json_is_object(layer), MOERUN_ERR_FORMAT,
                 "%s: layer_list[%d]: expected an object, found %s",
                 map->origin, row, moerun__json_kind(layer));
  MOERUN_TRY(moerun__json_int(&id, layer, "layer_id", 0, INT32_MAX, &next,
                              map->origin));
  MOERUN_REQUIRE(id > *last, MOERUN_ERR_FORMAT,
                 "%s: layer_list[%d]: key \"layer_id\": expected more than "
                 "%lld of the layer before, found %lld: sort the layers",
                 map->origin, row, (long long)*last, (long long)id);
  *last = id;
  MOERUN_TRY(moerun__json_array(&devices, layer, "device_list", map->origin));
  const size_t count = json_array_size(devices);
  if (map->sizes.num_ranks == 0 && count <= MOERUN_PLACEMENT_MAX_RANKS) {
    map->sizes.num_ranks = moerun__to_int((int64_t)count);
  }
  MOERUN_REQUIRE(
      count == (size_t)map->sizes.num_ranks && count > 0, MOERUN_ERR_FORMAT,
      "%s: layer_list[%d]: key \"device_list\": expected %d devices, "
      "as there are ranks, found %zu",
      map->origin, row, map->sizes.num_ranks, count);
  MOERUN_TRY(check_count(layer, "device_count", count, origin));
  if (*seen == NULL) MOERUN_TRY(moerun__alloc(seen, count, sizeof **seen));
  for (size_t i = 0; i < count; i++) {
    MOERUN_TRY(
        read_device(map, *seen, json_array_get(devices, i), row, (int32_t)i));
  }
done:
  return status;
}

moerun_status moerun__map_read_devices(moerun__map *map, const json_t *root) {
  moerun_status status = MOERUN_OK;
  json_t *layers = NULL;
  int32_t *seen = NULL;
  int64_t last = -1;
  MOERUN_TRY(moerun__json_array(&layers, root, "layer_list", map->origin));
  MOERUN_TRY(check_count(root, "moe_layer_count", json_array_size(layers),
                         map->origin));
  MOERUN_TRY(moerun__map_begin(map, (int64_t)json_array_size(layers)));
  for (int32_t row = 0; row < map->num_rows; row++) {
    MOERUN_TRY(read_layer(map, &last, &seen,
                          json_array_get(layers, (size_t)row), row));
  }
done:
  moerun__free(seen);
  return status;
}

/* ---- ExFlow -------------------------------------------------------------- */

/* Two numbers with a comma between and nothing else; 0: something else. */
static int parse_pair(int64_t *pair, const char *line, size_t length) {
  int32_t n = 0;
  int64_t digits = 0;
  pair[0] = 0;
  pair[1] = 0;
  for (size_t i = 0; i < length; i++) {
    if (line[i] == ',' && n == 0 && digits > 0) {
      n = 1;
      digits = 0;
      continue;
    }
    if (line[i] < '0' || line[i] > '9' || ++digits > 15) return 0;
    pair[n] = pair[n] * 10 + (line[i] - '0');
  }
  return n == 1 && digits > 0;
}

static moerun_status read_pair(moerun__map *map, const char *line,
                               size_t length, int number) {
  moerun_status status = MOERUN_OK;
  char where[WHERE];
  int64_t pair[2];
  const int32_t E = map->sizes.num_experts;
  const int64_t entries = (int64_t)map->sizes.num_layers * E;
  MOERUN_REQUIRE(parse_pair(pair, line, length), MOERUN_ERR_FORMAT,
                 "%s:%d: expected an expert and a node, such as 17,3, found "
                 "\"%.*s\"",
                 map->origin, number, (int)(length < 40 ? length : 40), line);
  MOERUN_REQUIRE(
      pair[0] < entries, MOERUN_ERR_FORMAT,
      "%s:%d: expected an expert from 0 to %lld, which count on over "
      "%d layers of %d, found %lld",
      map->origin, number, (long long)entries - 1, map->sizes.num_layers, E,
      (long long)pair[0]);
  (void)snprintf(where, sizeof where, "line %d", number);
  MOERUN_TRY(moerun__map_add(map, (int32_t)(pair[0] / E), pair[0] % E, pair[1],
                             where));
done:
  return status;
}

moerun_status moerun__map_read_solution(moerun__map *map, const char *text,
                                        size_t bytes) {
  moerun_status status = MOERUN_OK;
  size_t begin = 0;
  const size_t entries =
      (size_t)map->sizes.num_layers * (size_t)map->sizes.num_experts;
  MOERUN_REQUIRE(map->sizes.num_ranks > 0, MOERUN_ERR_INVALID,
                 "%s: expected --ranks with it, because a solution of ExFlow "
                 "does not say how many there are",
                 map->origin);
  MOERUN_TRY(moerun__map_begin(map, map->sizes.num_layers));
  for (int number = 1; begin < bytes; number++) {
    const char *at = text + begin;
    const char *newline = memchr(at, '\n', bytes - begin);
    size_t length = newline != NULL ? (size_t)(newline - at) : bytes - begin;
    begin += length + 1;
    if (length > 0 && at[length - 1] == '\r') length--;
    if (length == 0 || number == 1) continue;
    MOERUN_TRY(read_pair(map, at, length, number));
  }
  MOERUN_REQUIRE(map->num_hosts == entries, MOERUN_ERR_FORMAT,
                 "%s: expected one line for each of %d experts in %d layers, "
                 "found %zu lines",
                 map->origin, map->sizes.num_experts, map->sizes.num_layers,
                 map->num_hosts);
done:
  return status;
}
