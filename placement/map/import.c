/* The map that one runs today, to be judged or to be run: one table says which
 * contents are known and who reads them. Readers say which rank holds which
 * expert; here that becomes a placement. Slots are lost on the way, because a
 * placement derives its own, and so are second replicas of an expert on a rank,
 * which take no load off it where the map is run. Who judges the map as it is
 * gets their number beside it, because other systems share an expert's load
 * evenly over its slots. */
#include "placement/map/import_map.h"

#include "runtime/base/file.h"
#include "runtime/base/foreign.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { FILE_LIMIT = 1 << 26 /* bytes */ };

/* ---- Hosts --------------------------------------------------------------- */

/* A row for each MoE layer, or for each layer of a model that is known. */
moerun_status moerun__map_begin(moerun__map *map, int64_t num_rows) {
  moerun_status status = MOERUN_OK;
  const moerun__export_rows *rows = map->sizes.rows;
  const int32_t L = map->sizes.num_layers;
  const int knows_dense = rows != NULL && rows->num_rows > L;
  MOERUN_REQUIRE(
      num_rows == L || (knows_dense && num_rows == rows->num_rows),
      MOERUN_ERR_FORMAT, "%s: expected %d layers as in %s%s, found %lld%s",
      map->origin, L, map->sizes.like,
      knows_dense ? ", or all of its layers with the dense ones" : "",
      (long long)num_rows,
      rows == NULL && num_rows > L
          ? "; which of them are dense is known with --model"
          : "");
  map->num_rows = moerun__to_int(num_rows);
done:
  return status;
}

moerun_status moerun__map_add(moerun__map *map, int32_t row, int64_t expert,
                              int64_t rank, const char *where) {
  moerun_status status = MOERUN_OK;
  const int32_t E = map->sizes.num_experts;
  const int32_t R = map->sizes.num_ranks;
  MOERUN_REQUIRE(expert >= 0 && expert < E, MOERUN_ERR_FORMAT,
                 "%s: %s: expected an expert from 0 to %d, found %lld",
                 map->origin, where, E - 1, (long long)expert);
  MOERUN_REQUIRE(rank >= 0 && rank < R, MOERUN_ERR_FORMAT,
                 "%s: %s: expected a rank from 0 to %d, found %lld",
                 map->origin, where, R - 1, (long long)rank);
  MOERUN_REQUIRE(map->num_hosts < MOERUN_PLACEMENT_MAX_REPLICAS,
                 MOERUN_ERR_FORMAT, "%s: expected at most %d slots, found more",
                 map->origin, MOERUN_PLACEMENT_MAX_REPLICAS);
  if (map->num_hosts == map->room) {
    const size_t room = map->room < 1024 ? 1024 : map->room * 2;
    MOERUN_TRY(
        moerun__resize(&map->hosts, map->room, room, sizeof *map->hosts));
    map->room = room;
  }
  map->hosts[map->num_hosts++] =
      (moerun__host){row, (int32_t)expert, (int32_t)rank};
done:
  return status;
}

static int compare(const void *a, const void *b) {
  const moerun__host *x = a;
  const moerun__host *y = b;
  if (x->row != y->row) return x->row < y->row ? -1 : 1;
  if (x->expert != y->expert) return x->expert < y->expert ? -1 : 1;
  return (x->rank > y->rank) - (x->rank < y->rank);
}

/* The row of the file for MoE layer l. */
static int32_t row_of(const moerun__map *map, int32_t l) {
  return map->num_rows == map->sizes.num_layers ? l
                                                : map->sizes.rows->row_of[l];
}

/* The hosts of entry n of `layer`, in order, once each, and how many slots each
 * has; *at moves behind them. Returns how many slots are further ones. */
static int64_t take_entry(const moerun__map *map, size_t *at, int32_t row,
                          int32_t expert, int32_t *rank_of, int32_t *copies,
                          int32_t *next) {
  int64_t twice = 0;
  const int32_t first = *next;
  for (; *at < map->num_hosts; (*at)++) {
    const moerun__host *host = &map->hosts[*at];
    if (host->row != row || host->expert != expert) break;
    if (*next > first && rank_of[*next - 1] == host->rank) {
      twice++;
      copies[*next - 1]++;
      continue;
    }
    copies[*next] = 1;
    rank_of[(*next)++] = host->rank;
  }
  return twice;
}

static void warn_of(const moerun__map *map, int64_t twice) {
  if (twice == 0) return;
  LOG_ROOT(MOERUN_LOG_WARN,
           "%s: a second replica of an expert on a rank takes no load off it "
           "and is left out (%lld slots)",
           map->origin, (long long)twice);
}

/* What is wrong with a placement as such is said without a file. */
static moerun_status name_file(moerun_status status, const char *origin) {
  if (status == MOERUN_OK || status == MOERUN_ERR_NOMEM) return status;
  return moerun__say_where(status, origin);
}

static moerun_status make_placement(moerun_placement **out, int32_t **copies,
                                    moerun__map *map, const char *method) {
  moerun_status status = MOERUN_OK;
  int32_t *offset = NULL;
  int32_t *rank_of = NULL;
  int32_t *slots = NULL; /* of each replica */
  const int32_t L = map->sizes.num_layers;
  const int32_t E = map->sizes.num_experts;
  int32_t next = 0;
  int64_t twice = 0;
  size_t at = 0;
  qsort(map->hosts, map->num_hosts, sizeof *map->hosts, compare);
  MOERUN_TRY(moerun__alloc(&offset, (size_t)L * (size_t)E + 1, sizeof *offset));
  MOERUN_TRY(moerun__alloc(&rank_of, map->num_hosts, sizeof *rank_of));
  MOERUN_TRY(moerun__alloc(&slots, map->num_hosts, sizeof *slots));
  for (int32_t l = 0; l < L; l++) {
    const int32_t row = row_of(map, l);
    while (at < map->num_hosts && map->hosts[at].row < row) {
      at++; /* a dense layer */
    }
    for (int32_t e = 0; e < E; e++) {
      twice += take_entry(map, &at, row, e, rank_of, slots, &next);
      MOERUN_REQUIRE(next > offset[l * E + e], MOERUN_ERR_FORMAT,
                     "%s: layer %d: expected a rank for each of %d experts, "
                     "found none for expert %d",
                     map->origin, row, E, e);
      offset[l * E + e + 1] = next;
    }
  }
  MOERUN_TRY(name_file(moerun__placement_create(out, L, E, map->sizes.num_ranks,
                                                offset, rank_of, method),
                       map->origin));
  if (copies == NULL) {
    warn_of(map, twice);
  } else if (twice > 0) {
    *copies = slots;
    slots = NULL;
  }
done:
  moerun__free(offset);
  moerun__free(rank_of);
  moerun__free(slots);
  return status;
}

/* ---- What is known ------------------------------------------------------- */

typedef struct content {
  const char *text;
  size_t bytes;
  const json_t *root; /* NULL: no JSON */
} content;

static int is_array_file(const content *in) {
  return in->bytes >= 6 && memcmp(in->text, "\x93NUMPY", 6) == 0;
}

static int is_json(const content *in) {
  size_t i = 0;
  while (i < in->bytes && strchr(" \t\r\n", in->text[i]) != NULL) {
    if (in->text[i] == '\0') return 0;
    i++;
  }
  return i < in->bytes && (in->text[i] == '{' || in->text[i] == '[');
}

/* Lists by themselves, or under the first of these names that is there. */
static const json_t *find_list(const json_t *root, const char *const *names,
                               const char **name) {
  for (; *names != NULL; names++) {
    *name = *names;
    const json_t *list = json_object_get(root, *names);
    if (list != NULL && !json_is_null(list)) return list;
  }
  return NULL;
}

static const char *const slot_names[] = {"physical_to_logical_map", "phy2log",
                                         "last_physical_to_logical_map", NULL};
static const char *const place_names[] = {"logical_to_physical_map", "log2phy",
                                          "logical_to_all_physical_map", NULL};
static const char *const rank_names[] = {"expert_map", NULL};

typedef moerun_status (*cube_reader)(moerun__map *map,
                                     const moerun__cube *cube);

static moerun_status read_list(moerun__map *map, const content *in,
                               const char *const *names, cube_reader read) {
  moerun_status status = MOERUN_OK;
  moerun__cube cube = {0};
  const char *name = NULL;
  const json_t *list = find_list(in->root, names, &name);
  for (; *names != NULL; names++) {
    const json_t *other = json_object_get(in->root, *names);
    MOERUN_REQUIRE(other == NULL || json_is_null(other) ||
                       json_equal(other, list),
                   MOERUN_ERR_FORMAT,
                   "%s: expected one map, found another under \"%s\" than "
                   "under \"%s\"",
                   map->origin, *names, name);
  }
  MOERUN_TRY(moerun__cube_of_json(&cube, list, name, map->origin));
  MOERUN_TRY(read(map, &cube));
done:
  moerun__cube_clear(&cube);
  return status;
}

/* [layers][slots], [layers][experts][most] or [layers][ranks][experts]. Where
 * there are as many ranks as experts, the last two can have the same sizes only
 * if an expert has a replica on every rank: it is taken for the last one
 * then. */
static moerun_status read_cube(moerun__map *map, const moerun__cube *cube) {
  const int32_t E = map->sizes.num_experts;
  if (cube->num_dims == 2) return moerun__map_read_slots(map, cube);
  const int by_rank =
      cube->dim[1] != E || (map->sizes.num_ranks == E && cube->dim[2] == E);
  return by_rank ? moerun__map_read_ranks(map, cube)
                 : moerun__map_read_places(map, cube);
}

static int is_native(const content *in) {
  return json_object_get(in->root, "format") != NULL;
}

static int has_slots(const content *in) {
  const char *name = NULL;
  return find_list(in->root, slot_names, &name) != NULL;
}

static moerun_status read_slots(moerun__map *map, const content *in) {
  return read_list(map, in, slot_names, moerun__map_read_slots);
}

static int has_places(const content *in) {
  const char *name = NULL;
  return find_list(in->root, place_names, &name) != NULL;
}

static moerun_status read_places(moerun__map *map, const content *in) {
  return read_list(map, in, place_names, moerun__map_read_places);
}

static int has_ranks(const content *in) {
  const char *name = NULL;
  return find_list(in->root, rank_names, &name) != NULL;
}

static moerun_status read_ranks(moerun__map *map, const content *in) {
  return read_list(map, in, rank_names, moerun__map_read_ranks);
}

static int has_devices(const content *in) {
  return json_object_get(in->root, "layer_list") != NULL;
}

static moerun_status read_devices(moerun__map *map, const content *in) {
  return moerun__map_read_devices(map, in->root);
}

static int is_solution(const content *in) {
  static const char head[] = "Expert,Node";
  return in->bytes >= sizeof head - 1 &&
         memcmp(in->text, head, sizeof head - 1) == 0;
}

static moerun_status read_solution(moerun__map *map, const content *in) {
  return moerun__map_read_solution(map, in->text, in->bytes);
}

static int is_list(const content *in) {
  return json_is_array(in->root);
}

static moerun_status read_lists(moerun__map *map, const content *in) {
  moerun_status status = MOERUN_OK;
  moerun__cube cube = {0};
  MOERUN_TRY(moerun__cube_of_json(&cube, in->root, "the map", map->origin));
  MOERUN_TRY(read_cube(map, &cube));
done:
  moerun__cube_clear(&cube);
  return status;
}

static moerun_status read_array(moerun__map *map, const content *in) {
  moerun_status status = MOERUN_OK;
  moerun__cube cube = {0};
  MOERUN_TRY(moerun__cube_of_npy(&cube, in->text, in->bytes, map->origin));
  MOERUN_TRY(read_cube(map, &cube));
done:
  moerun__cube_clear(&cube);
  return status;
}

/* The first that matches reads. `name` becomes the placement's method. */
static const struct format {
  const char *name;
  int (*matches)(const content *in);
  moerun_status (*read)(moerun__map *map, const content *in);
} formats[] = {
    {"map", has_slots, read_slots},
    {"map", has_places, read_places},
    {"expert_map", has_ranks, read_ranks},
    {"expert_map", has_devices, read_devices},
    {"exflow", is_solution, read_solution},
    {"map", is_list, read_lists},
    {"map", is_array_file, read_array},
};

/* ---- Reading ------------------------------------------------------------- */

/* What else the file may be: loads, or how many replicas each expert has. */
static moerun_status refuse(const content *in, const char *origin) {
  moerun_status status = MOERUN_OK;
  char foreign[MOERUN_FOREIGN_TEXT] = "";
  static const char *const loads[] = {"logical_count", "weight", NULL};
  static const char *const replicas[] = {"logcnt", "expert_count",
                                         "logical_replica_count", NULL};
  const char *name = NULL;
  MOERUN_REQUIRE(
      find_list(in->root, loads, &name) == NULL, MOERUN_ERR_FORMAT,
      "%s: key \"%s\": expected a map that says which rank has which "
      "expert, found counts alone; `moerun place --loads` takes "
      "loads",
      origin, name);
  MOERUN_REQUIRE(
      find_list(in->root, replicas, &name) == NULL, MOERUN_ERR_FORMAT,
      "%s: key \"%s\": expected a map that says which rank has which "
      "expert, found how many replicas each expert has; give the expert of "
      "each slot, \"phy2log\" or \"physical_to_logical_map\"",
      origin, name);
  const int is_known =
      in->root == NULL && moerun__foreign_name(foreign, in->text, in->bytes);
  MOERUN_REQUIRE(0, MOERUN_ERR_FORMAT,
                 "%s: expected a placement of moerun, or a map of EPLB, SGLang "
                 "or vLLM as JSON or .npy, or a solution of ExFlow, found %s",
                 origin,
                 is_known           ? foreign
                 : in->root == NULL ? "none of them"
                                    : "JSON without any of their keys");
done:
  return status;
}

static moerun_status import_native(moerun_placement **out, const content *in,
                                   const char *origin,
                                   const moerun__import_sizes *sizes) {
  moerun_status status = MOERUN_OK;
  moerun_placement *p = NULL;
  MOERUN_TRY(moerun__placement_parse(&p, in->text, in->bytes, origin));
  MOERUN_REQUIRE(sizes->num_ranks == 0 || p->num_ranks == sizes->num_ranks,
                 MOERUN_ERR_SHAPE,
                 "%s: key \"num_ranks\": expected %d, found %d: use %d ranks, "
                 "or solve it for %d with `moerun place`",
                 origin, sizes->num_ranks, p->num_ranks, p->num_ranks,
                 sizes->num_ranks);
  MOERUN_REQUIRE(
      p->num_layers == sizes->num_layers &&
          p->num_experts == sizes->num_experts,
      MOERUN_ERR_SHAPE,
      "%s: expected %d layers of %d experts as in %s, found %d of %d", origin,
      sizes->num_layers, sizes->num_experts, sizes->like, p->num_layers,
      p->num_experts);
  *out = p;
  p = NULL;
done:
  moerun_placement_destroy(p);
  return status;
}

static moerun_status import_map(moerun_placement **out, int32_t **copies,
                                const content *in, const char *origin,
                                const moerun__import_sizes *sizes) {
  moerun_status status = MOERUN_OK;
  moerun__map map = {.origin = origin, .sizes = *sizes};
  const struct format *format = NULL;
  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
    if (format == NULL && formats[i].matches(in)) format = &formats[i];
  }
  if (format == NULL) MOERUN_TRY(refuse(in, origin));
  MOERUN_TRY(format->read(&map, in));
  MOERUN_TRY(make_placement(out, copies, &map, format->name));
done:
  moerun__free(map.hosts);
  return status;
}

moerun_status moerun__placement_import_bytes(
    moerun_placement **out, int32_t **copies, const char *text, size_t bytes,
    const char *origin, const moerun__import_sizes *sizes) {
  moerun_status status = MOERUN_OK;
  json_t *root = NULL;
  content in = {.text = text, .bytes = bytes};
  *out = NULL;
  if (copies != NULL) *copies = NULL;
  const size_t mark = moerun__byte_order_mark(text, bytes);
  in.text += mark;
  in.bytes -= mark;
  if (is_json(&in)) {
    MOERUN_TRY(moerun__json_parse(&root, in.text, in.bytes, origin));
    in.root = root;
  }
  if (is_native(&in)) {
    MOERUN_TRY(import_native(out, &in, origin, sizes));
  } else {
    MOERUN_TRY(import_map(out, copies, &in, origin, sizes));
  }
done:
  json_decref(root);
  return status;
}

moerun_status moerun__placement_import(moerun_placement **out, int32_t **copies,
                                       const char *path,
                                       const moerun__import_sizes *sizes) {
  moerun_status status = MOERUN_OK;
  char *text = NULL;
  size_t bytes = 0;
  *out = NULL;
  if (copies != NULL) *copies = NULL;
  MOERUN_TRY(moerun__file_read(&text, &bytes, path, FILE_LIMIT));
  MOERUN_TRY(
      moerun__placement_import_bytes(out, copies, text, bytes, path, sizes));
done:
  moerun__free(text);
  return status;
}
