/* Maps that are arrays. EPLB (DeepSeek) returns phy2log [layers][slots] and
 * log2phy [layers][experts][most], of which SGLang and vLLM keep the same under
 * other names; vLLM's expert_map has a row of local slots for each rank. The
 * first two do not say how many ranks there are: each has as many slots as the
 * others, which is what all three systems require. */
#include "placement/map/import_map.h"

#include "runtime/base/memory.h"
#include "runtime/base/npy.h"
#include "runtime/base/number.h"

#include <stdio.h>
#include <string.h>

enum { WHERE = 96 };

/* ---- Arrays -------------------------------------------------------------- */

/* Allocates the elements of the shape. */
static moerun_status begin(moerun__cube *cube, const char *name,
                           const char *origin) {
  moerun_status status = MOERUN_OK;
  int64_t count = 1;
  for (int32_t d = 0; d < cube->num_dims; d++) {
    MOERUN_REQUIRE(cube->dim[d] >= 1 &&
                       cube->dim[d] <= MOERUN_PLACEMENT_MAX_REPLICAS / count,
                   MOERUN_ERR_FORMAT,
                   "%s: %s: expected 1 to %d elements, found %lld in dimension "
                   "%d of the array",
                   origin, name, MOERUN_PLACEMENT_MAX_REPLICAS,
                   (long long)cube->dim[d], d);
    count *= cube->dim[d];
  }
  MOERUN_TRY(moerun__alloc(&cube->value, (size_t)count, sizeof *cube->value));
done:
  return status;
}

void moerun__cube_clear(moerun__cube *cube) {
  moerun__free(cube->value);
  *cube = (moerun__cube){0};
}

/* A list of dimension d, whose elements begin at number `at`. */
static moerun_status fill(moerun__cube *cube, const json_t *list, int32_t d,
                          int64_t at, const char *name, const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(json_is_array(list) &&
                     json_array_size(list) == (size_t)cube->dim[d],
                 MOERUN_ERR_FORMAT,
                 "%s: %s: expected lists of the same length, %lld in dimension "
                 "%d, found %s of %zu",
                 origin, name, (long long)cube->dim[d], d,
                 moerun__json_kind(list), json_array_size(list));
  for (int64_t i = 0; i < cube->dim[d]; i++) {
    const json_t *element = json_array_get(list, (size_t)i);
    if (d + 1 < cube->num_dims) {
      MOERUN_TRY(fill(cube, element, d + 1, (at + i) * cube->dim[d + 1], name,
                      origin));
      continue;
    }
    MOERUN_REQUIRE(json_is_integer(element), MOERUN_ERR_FORMAT,
                   "%s: %s: expected integers, found %s", origin, name,
                   moerun__json_kind(element));
    cube->value[at + i] = (int64_t)json_integer_value(element);
  }
done:
  return status;
}

moerun_status moerun__cube_of_json(moerun__cube *out, const json_t *list,
                                   const char *name, const char *origin) {
  moerun_status status = MOERUN_OK;
  const json_t *inner = list;
  *out = (moerun__cube){0};
  for (; out->num_dims < 3 && json_is_array(inner); out->num_dims++) {
    out->dim[out->num_dims] = (int64_t)json_array_size(inner);
    inner = json_array_get(inner, 0);
  }
  MOERUN_REQUIRE(out->num_dims >= 2, MOERUN_ERR_FORMAT,
                 "%s: %s: expected a list of layers that are lists, found %s",
                 origin, name, moerun__json_kind(list));
  MOERUN_TRY(begin(out, name, origin));
  MOERUN_TRY(fill(out, list, 0, 0, name, origin));
done:
  return status;
}

moerun_status moerun__cube_of_npy(moerun__cube *out, const char *text,
                                  size_t bytes, const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__npy_reader *reader = NULL;
  moerun__npy_shape shape;
  *out = (moerun__cube){0};
  MOERUN_TRY(moerun__npy_open_bytes(&reader, &shape, text, bytes, origin,
                                    MOERUN_NPY_INTEGERS));
  MOERUN_REQUIRE(shape.num_dims == 2 || shape.num_dims == 3, MOERUN_ERR_FORMAT,
                 "%s: expected an array [layers][slots], "
                 "[layers][experts][most] or [layers][ranks][experts], found "
                 "%d dimension%s",
                 origin, shape.num_dims, shape.num_dims == 1 ? "" : "s");
  out->num_dims = shape.num_dims;
  memcpy(out->dim, shape.dim, (size_t)out->num_dims * sizeof *out->dim);
  MOERUN_TRY(begin(out, "the array", origin));
  MOERUN_TRY(moerun__npy_read_integers(reader, out->value, 0,
                                       moerun__npy_count(&shape)));
done:
  moerun__npy_close(reader);
  return status;
}

/* ---- Slots of all ranks -------------------------------------------------- */

static moerun_status require_dims(const moerun__map *map,
                                  const moerun__cube *cube, int32_t num_dims,
                                  const char *layout) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(cube->num_dims == num_dims, MOERUN_ERR_FORMAT,
                 "%s: expected %s, found %d dimensions", map->origin, layout,
                 cube->num_dims);
done:
  return status;
}

/* Slots of one rank, of `count` in all. */
static moerun_status share_slots(int64_t *each, const moerun__map *map,
                                 int64_t count) {
  moerun_status status = MOERUN_OK;
  const int32_t R = map->sizes.num_ranks;
  MOERUN_REQUIRE(R > 0, MOERUN_ERR_INVALID,
                 "%s: expected --ranks with it, because the map does not say "
                 "on how many ranks its %lld slots are",
                 map->origin, (long long)count);
  MOERUN_REQUIRE(count > 0 && count % R == 0, MOERUN_ERR_FORMAT,
                 "%s: expected as many slots on each of %d ranks, found %lld "
                 "slots in all",
                 map->origin, R, (long long)count);
  *each = count / R;
done:
  return status;
}

/* An expert of each slot; -1: the slot is empty. */
moerun_status moerun__map_read_slots(moerun__map *map,
                                     const moerun__cube *cube) {
  moerun_status status = MOERUN_OK;
  int64_t each = 1;
  MOERUN_TRY(require_dims(map, cube, 2, "[layers][slots]"));
  MOERUN_TRY(moerun__map_begin(map, cube->dim[0]));
  MOERUN_TRY(share_slots(&each, map, cube->dim[1]));
  for (int64_t i = 0; i < cube->dim[0] * cube->dim[1]; i++) {
    char where[WHERE];
    const int64_t row = i / cube->dim[1];
    const int64_t slot = i % cube->dim[1];
    if (cube->value[i] == -1) continue;
    (void)snprintf(where, sizeof where, "layer %lld, slot %lld", (long long)row,
                   (long long)slot);
    MOERUN_TRY(
        moerun__map_add(map, (int32_t)row, cube->value[i], slot / each, where));
  }
done:
  return status;
}

static int64_t largest(const moerun__cube *cube) {
  int64_t most = -1;
  for (int64_t i = 0; i < cube->dim[0] * cube->dim[1] * cube->dim[2]; i++) {
    if (cube->value[i] > most) most = cube->value[i];
  }
  return most;
}

/* The slots of each expert, all slots once; -1 behind the last one. */
moerun_status moerun__map_read_places(moerun__map *map,
                                      const moerun__cube *cube) {
  moerun_status status = MOERUN_OK;
  int64_t each = 1;
  int64_t *seen = NULL; /* [slots] 1 + the last row that had it */
  MOERUN_TRY(require_dims(map, cube, 3, "[layers][experts][most replicas]"));
  MOERUN_TRY(moerun__map_begin(map, cube->dim[0]));
  const int64_t last = largest(cube);
  const int64_t width = cube->dim[1] * cube->dim[2];
  MOERUN_REQUIRE(last < width, MOERUN_ERR_FORMAT,
                 "%s: expected slots from 0 to %lld at most, found %lld",
                 map->origin, (long long)width - 1, (long long)last);
  const int64_t slots = last + 1;
  MOERUN_TRY(share_slots(&each, map, slots));
  MOERUN_TRY(moerun__alloc(&seen, (size_t)slots, sizeof *seen));
  for (int64_t i = 0; i < cube->dim[0] * width; i++) {
    char where[WHERE];
    const int64_t row = i / width;
    const int64_t slot = cube->value[i];
    if (slot == -1) continue;
    (void)snprintf(where, sizeof where, "layer %lld, expert %lld",
                   (long long)row, (long long)(i % width / cube->dim[2]));
    MOERUN_REQUIRE(
        slot >= 0 && seen[slot] != row + 1, MOERUN_ERR_FORMAT,
        "%s: %s: expected a slot that no other expert has, or -1 for "
        "none, found %lld",
        map->origin, where, (long long)slot);
    seen[slot] = row + 1;
    MOERUN_TRY(moerun__map_add(map, (int32_t)row, i % width / cube->dim[2],
                               slot / each, where));
  }
done:
  moerun__free(seen);
  return status;
}

/* ---- Slots of each rank -------------------------------------------------- */

moerun_status moerun__map_read_ranks(moerun__map *map,
                                     const moerun__cube *cube) {
  moerun_status status = MOERUN_OK;
  const int32_t E = map->sizes.num_experts;
  int64_t *seen = NULL; /* [E] 1 + the last rank of a layer that had the slot */
  MOERUN_TRY(require_dims(map, cube, 3, "[layers][ranks][experts]"));
  MOERUN_TRY(moerun__map_begin(map, cube->dim[0]));
  if (map->sizes.num_ranks == 0 && cube->dim[1] <= MOERUN_PLACEMENT_MAX_RANKS) {
    map->sizes.num_ranks = moerun__to_int(cube->dim[1]);
  }
  MOERUN_REQUIRE(cube->dim[1] == map->sizes.num_ranks && cube->dim[2] == E,
                 MOERUN_ERR_FORMAT,
                 "%s: expected %d ranks with %d experts each, found %lld with "
                 "%lld",
                 map->origin, map->sizes.num_ranks, E, (long long)cube->dim[1],
                 (long long)cube->dim[2]);
  MOERUN_TRY(moerun__alloc(&seen, (size_t)E, sizeof *seen));
  for (int64_t i = 0; i < cube->dim[0] * cube->dim[1] * E; i++) {
    char where[WHERE];
    const int64_t row = i / E / cube->dim[1];
    const int64_t slot = cube->value[i];
    if (cube->value[i] == -1) continue;
    (void)snprintf(where, sizeof where, "layer %lld, rank %lld, expert %lld",
                   (long long)row, (long long)(i / E % cube->dim[1]),
                   (long long)(i % E));
    MOERUN_REQUIRE(
        slot >= 0 && slot < E, MOERUN_ERR_FORMAT,
        "%s: %s: expected a slot from 0 to %d, or -1 for none, found "
        "%lld",
        map->origin, where, E - 1, (long long)slot);
    MOERUN_REQUIRE(seen[slot] != i / E + 1, MOERUN_ERR_FORMAT,
                   "%s: %s: expected a slot that no other expert of the rank "
                   "has, or -1 for none, found %lld again",
                   map->origin, where, (long long)slot);
    seen[slot] = i / E + 1;
    MOERUN_TRY(
        moerun__map_add(map, (int32_t)row, i % E, i / E % cube->dim[1], where));
  }
done:
  moerun__free(seen);
  return status;
}
