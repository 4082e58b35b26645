/* Maps of other systems: all formats come back, what is no map is refused. */
#include "placement/map/import.h"
#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/text.h"
#include "support/cmocka.h"
#include "support/draw.h"
#include "support/npy_file.h"
#include "support/temp_dir.h"
#include "support/warnings.h"

#include <stdio.h>

enum { SEED = 20, CASES = 12 };

static temp_dir folder;
static char path[TEMP_PATH];

static int make_folder(void **state) {
  (void)state;
  if (!temp_dir_create(&folder)) return -1;
  (void)temp_path(path, &folder, "map");
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  temp_dir_remove(&folder);
  return 0;
}

/* ---- Placements ---------------------------------------------------------- */

/* L layers of E experts on R ranks with S slots each, no expert there twice. */
typedef struct world {
  int32_t L;
  int32_t E;
  int32_t R;
  int32_t S;
  moerun_placement *placement;
  int32_t *expert; /* [L][R * S], ascending on each rank */
} world;

static int is_on(const int32_t *slots, int32_t count, int32_t expert) {
  for (int32_t i = 0; i < count; i++) {
    if (slots[i] == expert) return 1;
  }
  return 0;
}

/* Experts in turn from a drawn one on: every expert has a slot, as S * R >= E,
 * and none two of one rank, as S <= E. */
static void draw_slots(world *w, draw *from) {
  const int32_t P = w->R * w->S;
  assert_int_equal(
      moerun__alloc(&w->expert, (size_t)(w->L * P), sizeof *w->expert),
      MOERUN_OK);
  for (int32_t l = 0; l < w->L; l++) {
    const int32_t shift = draw_int(from, 0, w->E - 1);
    for (int32_t r = 0; r < w->R; r++) {
      int32_t *slots = w->expert + l * P + r * w->S;
      int32_t next = 0;
      for (int32_t e = 0; e < w->E; e++) {
        for (int32_t s = 0; s < w->S; s++) {
          if ((shift + r * w->S + s) % w->E == e) slots[next++] = e;
        }
      }
      assert_int_equal(next, w->S);
    }
  }
}

static void make_world(world *w, draw *from, int with_replicas) {
  w->L = draw_int(from, 1, 4);
  w->R = draw_int(from, 1, 5);
  w->S = draw_int(from, 1, 4);
  w->E = with_replicas && w->R > 1 ? draw_int(from, w->S, w->R * w->S)
                                   : w->R * w->S;
  draw_slots(w, from);
  int32_t *offset = NULL;
  int32_t *rank_of = NULL;
  int32_t next = 0;
  const int32_t P = w->R * w->S;
  assert_int_equal(
      moerun__alloc(&offset, (size_t)(w->L * w->E + 1), sizeof *offset),
      MOERUN_OK);
  assert_int_equal(moerun__alloc(&rank_of, (size_t)(w->L * P), sizeof *rank_of),
                   MOERUN_OK);
  for (int32_t n = 0; n < w->L * w->E; n++) {
    for (int32_t r = 0; r < w->R; r++) {
      const int32_t *slots = w->expert + n / w->E * P + r * w->S;
      if (is_on(slots, w->S, n % w->E)) rank_of[next++] = r;
    }
    offset[n + 1] = next;
  }
  assert_int_equal(moerun__placement_create(&w->placement, w->L, w->E, w->R,
                                            offset, rank_of, "drawn"),
                   MOERUN_OK);
  moerun__free(offset);
  moerun__free(rank_of);
}

static void clear_world(world *w) {
  moerun_placement_destroy(w->placement);
  moerun__free(w->expert);
}

static void assert_equal(const moerun_placement *a, const moerun_placement *b) {
  const size_t entries = (size_t)(a->num_layers * a->num_experts);
  assert_int_equal(a->num_layers, b->num_layers);
  assert_int_equal(a->num_experts, b->num_experts);
  assert_int_equal(a->num_ranks, b->num_ranks);
  assert_memory_equal(a->replica_offset, b->replica_offset,
                      (entries + 1) * sizeof *a->replica_offset);
  assert_memory_equal(a->rank_of, b->rank_of,
                      (size_t)a->replica_offset[entries] * sizeof *a->rank_of);
}

/* The file at `path` gives the world's placement. */
static void comes_back(const world *w, const moerun__export_rows *rows,
                       int knows_ranks, const char *method) {
  moerun_placement *placement = NULL;
  int32_t *copies = NULL;
  const moerun__import_sizes sizes = {w->L, w->E, knows_ranks ? w->R : 0, rows,
                                      "t.npy"};
  const moerun_status status =
      moerun__placement_import(&placement, &copies, path, &sizes);
  if (status != MOERUN_OK) print_error("%s\n", moerun_last_error());
  assert_int_equal(status, MOERUN_OK);
  assert_null(copies); /* no expert is twice on a rank */
  assert_equal(placement, w->placement);
  assert_string_equal(placement->method, method);
  moerun_placement_destroy(placement);
}

/* ---- Exports ------------------------------------------------------------- */

static void export_to(const world *w, const char *format,
                      const moerun__export_rows *rows) {
  char target[TEMP_PATH + 16];
  moerun__outputs outputs = {0};
  (void)snprintf(target, sizeof target, "%s:%s", format, path);
  assert_int_equal(
      moerun__placement_export(w->placement, &outputs, target, rows),
      MOERUN_OK);
  assert_int_equal(moerun__outputs_commit(&outputs), MOERUN_OK);
  moerun__outputs_clear(&outputs);
}

static void exports_come_back(void **state) {
  (void)state;
  draw from = {.seed = SEED};
  for (int i = 0; i < CASES; i++) {
    world w = {0};
    make_world(&w, &from, i % 2);
    /* Every second decoder layer is dense, and the last one. */
    const int32_t row_of[] = {1, 3, 5, 7};
    const moerun__export_rows rows = {2 * w.L + 1, row_of};
    export_to(&w, "eplb", NULL);
    comes_back(&w, NULL, 1, "map");
    comes_back(&w, &rows, 1, "map"); /* a map of MoE layers alone */
    export_to(&w, "sglang", &rows);
    comes_back(&w, &rows, 1, "map");
    if (i % 2 == 0) {
      export_to(&w, "exflow", NULL);
      comes_back(&w, NULL, 1, "exflow");
    }
    assert_int_equal(moerun_placement_save(w.placement, path), MOERUN_OK);
    comes_back(&w, NULL, 1, "drawn");
    comes_back(&w, NULL, 0, "drawn");
    clear_world(&w);
  }
}

/* ---- Arrays and lists ---------------------------------------------------- */

/* The array at `value` as lists, under a name or by itself. */
static void write_lists(const char *name, const moerun__npy_shape *shape,
                        const int64_t *value) {
  moerun__text text = {0};
  const int64_t count = moerun__npy_count(shape);
  if (name != NULL) {
    assert_int_equal(moerun__text_print(&text, "{\"%s\": ", name), MOERUN_OK);
  }
  for (int64_t i = 0; i < count; i++) {
    int64_t size = 1;
    int opened = 0;
    int closed = 0;
    for (int d = shape->num_dims - 1; d >= 0; d--) {
      size *= shape->dim[d];
      opened += i % size == 0;
      closed += (i + 1) % size == 0;
    }
    assert_int_equal(moerun__text_print(&text, "%s%.*s%lld%.*s",
                                        i > 0 ? "," : "", opened, "[[[",
                                        (long long)value[i], closed, "]]]"),
                     MOERUN_OK);
  }
  if (name != NULL) {
    assert_int_equal(moerun__text_print(&text, "}"), MOERUN_OK);
  }
  assert_int_equal(moerun__file_write(path, text.bytes, text.count), MOERUN_OK);
  moerun__text_clear(&text);
}

/* In each of the forms that an array may have. */
static void every_form_comes_back(const world *w, const char *name,
                                  const moerun__npy_shape *shape,
                                  const int64_t *value, const char *method) {
  write_lists(name, shape, value);
  comes_back(w, NULL, 1, method);
  write_lists(NULL, shape, value);
  comes_back(w, NULL, 1, "map");
  npy_file_write(path, shape, value);
  comes_back(w, NULL, 1, "map");
}

enum { MOST = 4 * 20 * 20 };

static void experts_of_slots(void **state) {
  (void)state;
  draw from = {.seed = SEED + 1};
  for (int i = 0; i < CASES; i++) {
    world w = {0};
    make_world(&w, &from, i % 2);
    const int32_t P = w.R * w.S;
    int64_t value[MOST];
    for (int32_t n = 0; n < w.L * P; n++) {
      value[n] = w.expert[n];
    }
    const moerun__npy_shape shape = {MOERUN_NPY_I64, 2, {w.L, P}};
    every_form_comes_back(&w, "physical_to_logical_map", &shape, value, "map");
    every_form_comes_back(&w, "phy2log", &shape, value, "map");
    clear_world(&w);
  }
}

static void slots_of_experts(void **state) {
  (void)state;
  draw from = {.seed = SEED + 2};
  for (int i = 0; i < CASES; i++) {
    world w = {0};
    make_world(&w, &from, i % 2);
    const int32_t P = w.R * w.S;
    const int32_t most = w.R + 1; /* wider than any has replicas */
    int64_t value[MOST];
    for (int32_t n = 0; n < w.L * w.E; n++) {
      int32_t next = 0;
      for (int32_t s = P - 1; s >= 0; s--) { /* in no order */
        if (w.expert[n / w.E * P + s] == n % w.E) value[n * most + next++] = s;
      }
      while (next < most) {
        value[n * most + next++] = -1;
      }
    }
    const moerun__npy_shape shape = {MOERUN_NPY_I64, 3, {w.L, w.E, most}};
    if (w.R != w.E || most != w.E) {
      every_form_comes_back(&w, "log2phy", &shape, value, "map");
    }
    write_lists("logical_to_physical_map", &shape, value);
    comes_back(&w, NULL, 1, "map");
    clear_world(&w);
  }
}

static void slots_of_ranks(void **state) {
  (void)state;
  draw from = {.seed = SEED + 3};
  for (int i = 0; i < CASES; i++) {
    world w = {0};
    make_world(&w, &from, i % 2);
    int64_t value[MOST];
    for (int32_t n = 0; n < w.L * w.R * w.E; n++) {
      const int32_t *slots = w.expert + n / w.E * w.S;
      value[n] = -1;
      for (int32_t s = 0; s < w.S; s++) {
        if (slots[s] == n % w.E) value[n] = s;
      }
    }
    const moerun__npy_shape shape = {MOERUN_NPY_I64, 3, {w.L, w.R, w.E}};
    every_form_comes_back(&w, "expert_map", &shape, value, "expert_map");
    write_lists("expert_map", &shape, value);
    comes_back(&w, NULL, 0, "expert_map"); /* it says how many ranks */
    clear_world(&w);
  }
}

static void experts_of_devices(void **state) {
  (void)state;
  draw from = {.seed = SEED + 4};
  for (int i = 0; i < CASES; i++) {
    world w = {0};
    moerun__text text = {0};
    make_world(&w, &from, i % 2);
    assert_int_equal(moerun__text_print(&text,
                                        "{\"moe_layer_count\": %d, "
                                        "\"layer_list\": [",
                                        w.L),
                     MOERUN_OK);
    for (int32_t n = 0; n < w.L * w.R; n++) {
      const int32_t r = n % w.R;
      assert_int_equal(moerun__text_print(
                           &text, "%s{\"device_id\": %d, \"device_expert\": [",
                           r > 0    ? ","
                           : n == 0 ? "{\"device_list\": ["
                                    : ",{\"device_list\": [",
                           r),
                       MOERUN_OK);
      for (int32_t s = 0; s < w.S; s++) {
        assert_int_equal(moerun__text_print(&text, "%s%d", s > 0 ? "," : "",
                                            w.expert[n * w.S + s]),
                         MOERUN_OK);
      }
      assert_int_equal(
          moerun__text_print(&text, "]}%s", r + 1 == w.R ? "]}" : ""),
          MOERUN_OK);
    }
    assert_int_equal(moerun__text_print(&text, "]}"), MOERUN_OK);
    assert_int_equal(moerun__file_write(path, text.bytes, text.count),
                     MOERUN_OK);
    comes_back(&w, NULL, 1, "expert_map");
    comes_back(&w, NULL, 0, "expert_map");
    moerun__text_clear(&text);
    clear_world(&w);
  }
}

/* ---- What is no placement ------------------------------------------------ */

static moerun_status import_text(moerun_placement **out, const char *text,
                                 const moerun__import_sizes *sizes) {
  return moerun__placement_import_bytes(out, NULL, text, strlen(text), "m",
                                        sizes);
}

/* As EPLB puts them; who asks for the slots is not warned. */
static void replicas_on_one_rank_become_one(void **state) {
  (void)state;
  moerun_placement *placement = NULL;
  int32_t *copies = NULL;
  const moerun__import_sizes sizes = {1, 3, 2, NULL, "t.npy"};
  static const char map[] = "[[0, 0, 2, 1, -1, 0]]";
  warnings_begin();
  assert_int_equal(import_text(&placement, map, &sizes), MOERUN_OK);
  moerun_placement_destroy(placement);
  assert_int_equal(moerun__placement_import_bytes(&placement, &copies, map,
                                                  strlen(map), "m", &sizes),
                   MOERUN_OK);
  warnings_end();
  assert_string_equal(warnings_text,
                      "m: a second replica of an expert on a rank takes no "
                      "load off it and is left out (1 slots)\n");
  assert_memory_equal(placement->replica_offset,
                      ((const int32_t[]){0, 2, 3, 4}), 16);
  assert_memory_equal(placement->rank_of, ((const int32_t[]){0, 1, 1, 0}), 16);
  assert_memory_equal(copies, ((const int32_t[]){2, 1, 1, 1}), 16);
  moerun__free(copies);
  moerun_placement_destroy(placement);
}

typedef struct bad_map {
  const char *text;
  int32_t num_ranks;
  const char *message;
} bad_map;

/* Of 2 layers of 3 experts. */
static const bad_map bad_maps[] = {
    {"", 3,
     "m: expected a placement of moerun, or a map of EPLB, SGLang or vLLM as "
     "JSON or .npy, or a solution of ExFlow, found none of them"},
    {"{\"a\": 1}", 3,
     "m: expected a placement of moerun, or a map of EPLB, SGLang or vLLM as "
     "JSON or .npy, or a solution of ExFlow, found JSON without any of their "
     "keys"},
    {"{\"logcnt\": [[1,1,1]]}", 3,
     "m: key \"logcnt\": expected a map that says which rank has which expert, "
     "found how many replicas each expert has; give the expert of each slot, "
     "\"phy2log\" or \"physical_to_logical_map\""},
    {"{\"logical_count\": [[1,1,1]]}", 3,
     "m: key \"logical_count\": expected a map that says which rank has which "
     "expert, found counts alone; `moerun place --loads` takes loads"},
    {"{\"format\": \"x\"}", 3,
     "m: key \"format\": expected \"moerun-placement\", found \"x\""},
    {"[[0,1,2]]", 3, "m: expected 2 layers as in t.npy, found 1"},
    {"[[0,1,2],[0,1,2],[0,1,2]]", 3,
     "m: expected 2 layers as in t.npy, found 3; which of them are dense is "
     "known with --model"},
    {"[0,1,2]", 3,
     "m: the map: expected a list of layers that are lists, found an array"},
    {"{\"phy2log\": 5}", 3,
     "m: phy2log: expected a list of layers that are lists, found an integer"},
    {"[[0,1,2],[0,1]]", 3,
     "m: the map: expected lists of the same length, 3 in dimension 1, found "
     "an array of 2"},
    {"[[0,1,2],[0,1,\"2\"]]", 3,
     "m: the map: expected integers, found a string"},
    {"[[],[]]", 3,
     "m: the map: expected 1 to 16777216 elements, found 0 in dimension 1 of "
     "the array"},
    {"[[0,1,2],[0,1,3]]", 3,
     "m: layer 1, slot 2: expected an expert from 0 to 2, found 3"},
    {"[[0,1,2],[0,-2,1]]", 3,
     "m: layer 1, slot 1: expected an expert from 0 to 2, found -2"},
    {"[[0,1,2],[0,1,1]]", 3,
     "m: layer 1: expected a rank for each of 3 experts, found none for expert "
     "2"},
    {"[[0,1,2],[0,1,2]]", 2,
     "m: expected as many slots on each of 2 ranks, found 3 slots in all"},
    {"[[0,1,2],[0,1,2]]", 0,
     "m: expected --ranks with it, because the map does not say on how many "
     "ranks its 3 slots are"},
    {"{\"phy2log\": [[[0],[1],[2]],[[0],[1],[2]]]}", 3,
     "m: expected [layers][slots], found 3 dimensions"},
    {"{\"log2phy\": [[0,1,2],[0,1,2]]}", 3,
     "m: expected [layers][experts][most replicas], found 2 dimensions"},
    {"{\"log2phy\": [[[0],[1],[2]],[[0],[1],[1]]]}", 3,
     "m: layer 1, expert 2: expected a slot that no other expert has, or -1 "
     "for none, found 1"},
    {"{\"log2phy\": [[[0],[1],[2]],[[0],[1],[7]]]}", 3,
     "m: expected slots from 0 to 2 at most, found 7"},
    {"{\"log2phy\": [[[0],[1],[2]],[[0],[1],[9223372036854775807]]]}", 3,
     "m: expected slots from 0 to 2 at most, found 9223372036854775807"},
    {"{\"log2phy\": [[[0],[1],[2]],[[0],[1],[-3]]]}", 3,
     "m: layer 1, expert 2: expected a slot that no other expert has, or -1 "
     "for none, found -3"},
    {"{\"log2phy\": [[[0],[1],[2]],[[0],[-1],[2]]]}", 3,
     "m: layer 1: expected a rank for each of 3 experts, found none for expert "
     "1"},
    {"{\"log2phy\": [[[0],[1],[2]],[[0],[1],[3]]]}", 4,
     "m: expected slots from 0 to 2 at most, found 3"},
    {"{\"log2phy\": [[[-1],[-1],[-1]],[[-1],[-1],[-1]]]}", 3,
     "m: expected as many slots on each of 3 ranks, found 0 slots in all"},
    {"{\"expert_map\": [[[0,1,2]],[[0,1,2]]]}", 2,
     "m: expected 2 ranks with 3 experts each, found 1 with 3"},
    {"{\"expert_map\": [[[0,1,2]],[[0,1,3]]]}", 1,
     "m: layer 1, rank 0, expert 2: expected a slot from 0 to 2, or -1 for "
     "none, found 3"},
    {"{\"expert_map\": [[[0,1,1]],[[0,1,2]]]}", 1,
     "m: layer 0, rank 0, expert 2: expected a slot that no other expert of "
     "the rank has, or -1 for none, found 1 again"},
    {"{\"phy2log\": [[0,1,2],[0,1,2]], \"physical_to_logical_map\": "
     "[[0,1,2],[0,2,1]]}",
     1,
     "m: expected one map, found another under \"phy2log\" than under "
     "\"physical_to_logical_map\""},
    {"{\"layer_list\": []}", 1, "m: expected 2 layers as in t.npy, found 0"},
    {"{\"layer_list\": [{\"layer_id\": 3, \"device_list\": [{"
     "\"device_expert\": [0,1]}]}, {\"layer_id\": 3, \"device_list\": [{"
     "\"device_expert\": [0,1]}]}]}",
     1,
     "m: layer_list[1]: key \"layer_id\": expected more than 3 of the layer "
     "before, found 3: sort the layers"},
    {"{\"layer_list\": [1, 2]}", 1,
     "m: layer_list[0]: expected an object, found an integer"},
    {"{\"layer_list\": [{\"device_list\": [{}]}, {}]}", 2,
     "m: layer_list[0]: key \"device_list\": expected 2 devices, as there are "
     "ranks, found 1"},
    {"{\"layer_list\": [{\"device_list\": [3]}, {}]}", 1,
     "m: layer_list[0].device_list[0]: expected an object, found an integer"},
    {"{\"layer_list\": [{\"device_list\": [{\"device_expert\": [0,1.5]}]}, "
     "{}]}",
     1,
     "m: layer_list[0].device_list[0]: expected experts as integers, found a "
     "real number"},
    {"{\"layer_list\": [{\"device_list\": [{\"device_expert\": "
     "[0,9223372036854775808]}]}, {}]}",
     1,
     "m: layer_list[0].device_list[0]: expected experts as integers, found a "
     "number beyond 64 bits"},
    {"{\"layer_list\": [{\"device_list\": [{\"device_id\": 4, "
     "\"device_expert\": [0]}]}, {}]}",
     1,
     "m: layer_list[0].device_list[0]: key \"device_id\": expected 0 to 0, "
     "found 4"},
    {"{\"layer_list\": [{\"device_list\": [{\"device_expert\": [0,1]}, "
     "{\"device_id\": 0, \"device_expert\": [2]}]}, {}]}",
     2,
     "m: layer_list[0].device_list[1]: key \"device_id\": expected one that no "
     "device before it has, found 0 again"},
    {"{\"layer_list\": [{\"device_list\": [{}]}, {}]}", 1,
     "m: layer_list[0].device_list[0]: key \"device_expert\": expected an "
     "array, found nothing"},
    {"{\"layer_list\": [{\"device_count\": 3, \"device_list\": [{"
     "\"device_expert\": [0,1,2]}]}, {}]}",
     1,
     "m: layer_list[0]: key \"device_count\": expected 1, as many as there "
     "are, found 3"},
    {"{\"moe_layer_count\": 9, \"layer_list\": [{}, {}]}", 1,
     "m: key \"moe_layer_count\": expected 2, as many as there are, found 9"},
    {"Expert,Node\n0,0\n1,0\n2,0\n3,0\n4,0\n", 1,
     "m: expected one line for each of 3 experts in 2 layers, found 5 lines"},
    {"Expert,Node\n0,0\n1,0\n2,0\n3,0\n4,0\n4,0\n", 1,
     "m: layer 1: expected a rank for each of 3 experts, found none for expert "
     "2"},
    {"Expert,Node\n0,0\n6,0\n", 1,
     "m:3: expected an expert from 0 to 5, which count on over 2 layers of 3, "
     "found 6"},
    {"Expert,Node\n0,1\n", 1,
     "m: line 2: expected a rank from 0 to 0, found 1"},
    {"Expert,Node\n0,x\n", 1,
     "m:2: expected an expert and a node, such as 17,3, found \"0,x\""},
    {"Expert,Node\n0,\n", 1,
     "m:2: expected an expert and a node, such as 17,3, found \"0,\""},
    {"Expert,Node\n18446744073709551616,0\n", 1,
     "m:2: expected an expert and a node, such as 17,3, found "
     "\"18446744073709551616,0\""},
    {"Expert,Node\n0,0\n1,0\n2,0\n3,0\n4,0\n5,0\n5,0\n", 1,
     "m: expected one line for each of 3 experts in 2 layers, found 7 lines"},
    {"{\"format\":\"moerun-placement\",\"version\":1,\"model\":\"m\","
     "\"method\":\"cd\",\"num_layers\":1,\"num_experts\":3,\"num_ranks\":1,"
     "\"layers\":[[[0],[0],[0]]]}",
     1, "m: expected 2 layers of 3 experts as in t.npy, found 1 of 3"},
    {"{\"format\":\"moerun-placement\",\"version\":1,\"model\":\"m\","
     "\"method\":\"cd\",\"num_layers\":2,\"num_experts\":1,\"num_ranks\":1,"
     "\"layers\":[[[0]],[[0]]]}",
     1, "m: expected 2 layers of 3 experts as in t.npy, found 2 of 1"},
    {"Expert,Node\n0,0\n1,0\n2,0\n3,0\n4,0\n5,0\n", 2097152,
     "m: placement: ranks: expected 1 to 1048576, found 2097152"},
    {"Expert,Node\n0,0\n", 0,
     "m: expected --ranks with it, because a solution of ExFlow does not say "
     "how many there are"},
};

static void other_maps_get_one_clear_line(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  for (size_t i = 0; i < sizeof bad_maps / sizeof *bad_maps; i++) {
    const bad_map *bad = &bad_maps[i];
    moerun_placement *placement = NULL;
    const moerun__import_sizes sizes = {2, 3, bad->num_ranks, NULL, "t.npy"};
    assert_int_not_equal(import_text(&placement, bad->text, &sizes), MOERUN_OK);
    assert_string_equal(moerun_last_error(), bad->message);
    assert_null(placement);
    assert_int_equal(moerun__alloc_live(), live);
  }
}

/* Rows beyond the MoE layers are for a model that has as many. */
static void dense_layers_are_those_of_the_model(void **state) {
  (void)state;
  moerun_placement *placement = NULL;
  static const int32_t row_of[] = {1, 2};
  const moerun__export_rows rows = {3, row_of};
  const moerun__import_sizes sizes = {2, 3, 3, &rows, "m"};
  static const int32_t rank_of[] = {2, 1, 0, 1, 0, 2};
  assert_int_equal(import_text(&placement, "[[0,1,2],[2,1,0],[1,0,2]]", &sizes),
                   MOERUN_OK);
  assert_memory_equal(placement->rank_of, rank_of, sizeof rank_of);
  moerun_placement_destroy(placement);
  assert_int_equal(
      import_text(&placement, "[[0,1,2],[2,1,0],[1,0,2],[1,0,2]]", &sizes),
      MOERUN_ERR_FORMAT);
  assert_string_equal(moerun_last_error(),
                      "m: expected 2 layers as in m, or all of its layers with "
                      "the dense ones, found 4");
  /* Nothing is said of dense layers where there are none. */
  const moerun__export_rows no_dense = {2, row_of};
  const moerun__import_sizes known = {2, 3, 3, &no_dense, "m"};
  assert_int_equal(import_text(&placement, "[[0,1,2],[2,1,0],[1,0,2]]", &known),
                   MOERUN_ERR_FORMAT);
  assert_string_equal(moerun_last_error(),
                      "m: expected 2 layers as in m, found 3");
}

static void failed_allocations_leave_nothing_behind(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  const moerun__import_sizes sizes = {2, 3, 3, NULL, "t.npy"};
  static const char *const texts[] = {
      "[[0,1,2],[2,1,0]]", "{\"log2phy\": [[[0],[1],[2]],[[0],[2],[1]]]}"};
  for (size_t i = 0; i < 2; i++) {
    for (int nth = 0;; nth++) {
      moerun_placement *placement = NULL;
      moerun__alloc_fail_nth(nth);
      const moerun_status status = import_text(&placement, texts[i], &sizes);
      moerun__alloc_fail_nth(-1);
      moerun_placement_destroy(placement);
      assert_int_equal(moerun__alloc_live(), live);
      if (status == MOERUN_OK) break;
      assert_int_equal(status, MOERUN_ERR_NOMEM);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(exports_come_back),
      cmocka_unit_test(experts_of_slots),
      cmocka_unit_test(slots_of_experts),
      cmocka_unit_test(slots_of_ranks),
      cmocka_unit_test(experts_of_devices),
      cmocka_unit_test(replicas_on_one_rank_become_one),
      cmocka_unit_test(other_maps_get_one_clear_line),
      cmocka_unit_test(dense_layers_are_those_of_the_model),
      cmocka_unit_test(failed_allocations_leave_nothing_behind),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
