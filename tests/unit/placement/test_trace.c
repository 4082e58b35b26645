/* Traces: arrays of every type and what stands beside them, halves, digest,
 * and what hostile files are told. */
#include "placement/trace/trace.h"
#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/npy.h"
#include "support/cmocka.h"
#include "support/draw.h"
#include "support/npy_file.h"
#include "support/temp_dir.h"
#include "support/trace_save.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEED = 20, MOST = 64 };

static temp_dir folder;
static char npy_path[TEMP_PATH];
static char json_path[TEMP_PATH];
static char tsv_path[TEMP_PATH];

static int make_folder(void **state) {
  (void)state;
  if (!temp_dir_create(&folder)) return -1;
  (void)temp_path(npy_path, &folder, "t.npy");
  (void)temp_path(json_path, &folder, "t.json");
  (void)temp_path(tsv_path, &folder, "t.seqs.tsv");
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  temp_dir_remove(&folder);
  return 0;
}

/* Every test begins in an empty folder. */
static int empty_folder(void **state) {
  (void)state;
  (void)remove(npy_path);
  (void)remove(json_path);
  (void)remove(tsv_path);
  return 0;
}

/* ---- Arrays -------------------------------------------------------------- */

static void write_array(const char *path, moerun__npy_type type,
                        int32_t num_dims, const int64_t *dim,
                        const int64_t *value) {
  moerun__npy_shape shape = {.type = type, .num_dims = num_dims};
  char bytes[MOST * 8];
  memcpy(shape.dim, dim, (size_t)num_dims * sizeof *dim);
  const int64_t count = moerun__npy_count(&shape);
  const size_t size = moerun__npy_type_bytes(type);
  assert_in_range(count, 0, MOST);
  for (int64_t i = 0; i < count; i++) { /* little-endian: the low bytes */
    memcpy(bytes + (size_t)i * size, &value[i], size);
  }
  npy_file_write(path, &shape, bytes);
}

static void write_text(const char *path, const char *text) {
  assert_int_equal(moerun__file_write(path, text, strlen(text)), MOERUN_OK);
}

static moerun__trace *load(int32_t num_experts) {
  moerun__trace *trace = NULL;
  const moerun_status status =
      moerun__trace_load(&trace, npy_path, num_experts);
  if (status != MOERUN_OK) print_error("%s\n", moerun_last_error());
  assert_int_equal(status, MOERUN_OK);
  return trace;
}

static const int64_t three[] = {4, 2, 2};
static const int64_t ids_3d[] = {0, 1, 2, 3, 3, 0, 1, 2,
                                 5, 4, 0, 2, 1, 3, 4, 5};

static void assert_ids(const moerun__trace *trace, const int64_t *expected) {
  const int64_t count =
      trace->num_tokens * trace->num_layers * trace->num_terms;
  for (int64_t i = 0; i < count; i++) {
    assert_int_equal(trace->ids[i], expected[i]);
  }
}

static void every_integer_type_is_read(void **state) {
  (void)state;
  static const moerun__npy_type types[] = {MOERUN_NPY_U8,  MOERUN_NPY_U16,
                                           MOERUN_NPY_U32, MOERUN_NPY_I16,
                                           MOERUN_NPY_I32, MOERUN_NPY_I64};
  for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
    write_array(npy_path, types[i], 3, three, ids_3d);
    moerun__trace *trace = load(0);
    assert_int_equal(trace->num_tokens, 4);
    assert_int_equal(trace->num_layers, 2);
    assert_int_equal(trace->num_terms, 2);
    assert_int_equal(trace->num_experts, 6);
    assert_int_equal(trace->gate_order, 0);
    assert_int_equal(trace->num_sequences, 1);
    assert_int_equal(trace->sequence_offset[1], 4);
    assert_null(trace->home);
    assert_string_equal(trace->model, "");
    assert_ids(trace, ids_3d);
    moerun__trace_destroy(trace);
  }
}

static void two_dimensions_are_the_first_expert(void **state) {
  (void)state;
  static const int64_t dim[] = {3, 2};
  static const int64_t ids[] = {0, 3, 1, 0, -1, 2};
  write_array(npy_path, MOERUN_NPY_I16, 2, dim, ids);
  moerun__trace *trace = load(8);
  assert_int_equal(trace->num_terms, 1);
  assert_int_equal(trace->num_experts, 8);
  assert_ids(trace, ids);
  moerun__trace_destroy(trace);
}

/* ExFlow's arrays: 3 layers of 4 experts, ids 0..11. */
static void ids_that_count_on_from_layer_to_layer(void **state) {
  (void)state;
  static const int64_t dim[] = {4, 3};
  static const int64_t ids[] = {0, 4, 8, 1, 6, 11, 2, 5, 9, 3, -1, 10};
  static const int64_t plain[] = {0, 0, 0, 1, 2, 3, 2, 1, 1, 3, -1, 2};
  write_array(npy_path, MOERUN_NPY_I64, 2, dim, ids);
  for (int32_t E = 0; E <= 4; E += 4) { /* found, and given */
    moerun__trace *trace = load(E);
    assert_int_equal(trace->num_experts, 4);
    assert_ids(trace, plain);
    moerun__trace_destroy(trace);
  }
  /* 12 experts that are counted afresh in every layer */
  moerun__trace *trace = load(12);
  assert_ids(trace, ids);
  moerun__trace_destroy(trace);
}

static void the_stride_of_ids_may_be_open(void **state) {
  (void)state;
  static const int64_t dim[] = {2, 2};
  static const int64_t ids[] = {0, 7, 2, 8};
  moerun__trace *trace = NULL;
  char line[TEMP_PATH + 200];
  write_array(npy_path, MOERUN_NPY_I64, 2, dim, ids);
  (void)snprintf(line, sizeof line,
                 "%s: the ids count on from layer to layer with 5 to 7 "
                 "experts in each: expected their number to be given "
                 "(--trace-experts)",
                 npy_path);
  assert_int_equal(moerun__trace_load(&trace, npy_path, 0), MOERUN_ERR_FORMAT);
  assert_string_equal(moerun_last_error(), line);
  trace = load(6);
  assert_int_equal(trace->ids[3], 2);
  moerun__trace_destroy(trace);
}

/* ---- Sidecars ------------------------------------------------------------ */

static const char good_json[] =
    "{\"format\":\"moerun-trace\",\"version\":1,\"model\":\"m\","
    "\"architecture\":\"olmoe\",\"num_experts\":8,\"experts_per_token\":2,"
    "\"num_layers\":2,\"tokens\":4,\"phase\":\"prefill\",\"layers\":[0,1],"
    "\"num_ranks\":3,\"rank\":[2,0,1],"
    "\"sequence_offset\":[0,1,3,4],\"prompt_rows\":[1,1,1],"
    "\"index\":[0,1,2],\"id\":[\"a\",7,null]}";

static void the_sidecar_of_profile(void **state) {
  (void)state;
  write_array(npy_path, MOERUN_NPY_I16, 3, three, ids_3d);
  write_text(json_path, good_json);
  moerun__trace *trace = load(0);
  static const int64_t offset[] = {0, 1, 3, 4};
  static const int32_t home[] = {2, 0, 1};
  assert_string_equal(trace->model, "m");
  assert_int_equal(trace->num_experts, 8);
  assert_int_equal(trace->gate_order, 1);
  assert_int_equal(trace->num_sequences, 3);
  assert_memory_equal(trace->sequence_offset, offset, sizeof offset);
  assert_int_equal(trace->num_ranks, 3);
  assert_memory_equal(trace->home, home, sizeof home);
  moerun__trace_destroy(trace);
}

static void a_list_of_sequences(void **state) {
  (void)state;
  write_array(npy_path, MOERUN_NPY_U8, 3, three, ids_3d);
  write_text(tsv_path, "#domain\tfirst_token\tn_tokens\n"
                       "law\t0\t3\r\nintent\t3\t1");
  moerun__trace *trace = load(0);
  assert_int_equal(trace->num_sequences, 2);
  assert_int_equal(trace->sequence_offset[1], 3);
  assert_int_equal(trace->gate_order, 0);
  moerun__trace_destroy(trace);
}

/* NAME.ids.npy goes with NAME.seqs.tsv. */
static void ids_in_the_name_are_passed_over(void **state) {
  (void)state;
  char path[TEMP_PATH];
  moerun__trace *trace = NULL;
  (void)temp_path(path, &folder, "t.ids.npy");
  write_array(path, MOERUN_NPY_U8, 3, three, ids_3d);
  write_text(tsv_path, "a\t0\t2\nb\t2\t2\n");
  assert_int_equal(moerun__trace_load(&trace, path, 0), MOERUN_OK);
  assert_int_equal(trace->num_sequences, 2);
  moerun__trace_destroy(trace);
  (void)remove(path);
}

static void saved_traces_come_back_equal(void **state) {
  (void)state;
  draw from = {.seed = SEED};
  for (int i = 0; i < 50; i++) {
    const int32_t L = draw_int(&from, 1, 4);
    const int32_t E = draw_int(&from, 1, 9);
    const int32_t K = draw_int(&from, 1, E);
    moerun__trace *first = NULL;
    moerun__trace *second = NULL;
    assert_int_equal(moerun__trace_create(&first, 5, L, E, K), MOERUN_OK);
    assert_int_equal(
        moerun__trace_set_sequences(first, 3, (int64_t[]){0, 2, 3, 5}),
        MOERUN_OK);
    for (int32_t t = 0; t < 5 * L; t++) {
      const int32_t shift = draw_int(&from, 0, E - 1);
      const int32_t none = t >= L && K > 1 ? draw_int(&from, 0, 2 * K) : K;
      for (int32_t k = 0; k < K; k++) {
        first->ids[t * K + k] = (int16_t)(k == none ? -1 : (k + shift) % E);
      }
    }
    first->gate_order = i % 2;
    if (i % 3 == 0) {
      assert_int_equal(moerun__alloc(&first->home, 3, sizeof(int32_t)),
                       MOERUN_OK);
      first->home[1] = 4;
      first->num_ranks = 5;
    }
    assert_int_equal(trace_save(first, npy_path), MOERUN_OK);
    assert_int_equal(moerun__trace_load(&second, npy_path, 0), MOERUN_OK);
    assert_int_equal(moerun__trace_digest(first), moerun__trace_digest(second));
    assert_int_equal(second->gate_order, i % 2);
    assert_int_equal(second->num_ranks, i % 3 == 0 ? 5 : 0);
    assert_int_equal(second->home != NULL ? second->home[1] : -1,
                     i % 3 == 0 ? 4 : -1);
    second->ids[0] = (int16_t)(second->ids[0] + 1);
    assert_int_not_equal(moerun__trace_digest(first),
                         moerun__trace_digest(second));
    moerun__trace_destroy(first);
    moerun__trace_destroy(second);
  }
  assert_int_equal(temp_dir_count(folder.path), 2); /* no temporary file */
}

/* ---- Halves -------------------------------------------------------------- */

static void halves_are_whole_sequences(void **state) {
  (void)state;
  moerun__trace *trace = NULL;
  moerun__trace *part = NULL;
  write_array(npy_path, MOERUN_NPY_I16, 3, three, ids_3d);
  write_text(json_path, good_json);
  trace = load(0);
  assert_int_equal(moerun__trace_select(&part, trace, 0, 2, "trace"),
                   MOERUN_OK);
  static const int64_t even[] = {0, 1, 2, 3, 1, 3, 4, 5};
  assert_int_equal(part->num_tokens, 2);
  assert_int_equal(part->num_sequences, 2);
  assert_int_equal(part->home[0], 2);
  assert_int_equal(part->home[1], 1);
  assert_int_equal(part->num_experts, 8);
  assert_string_equal(part->model, "m");
  assert_ids(part, even);
  assert_int_equal(moerun__trace_check(part, "even"), MOERUN_OK);
  moerun__trace_destroy(part);
  assert_int_equal(moerun__trace_select(&part, trace, 1, 2, "trace"),
                   MOERUN_OK);
  static const int64_t odd[] = {3, 0, 1, 2, 5, 4, 0, 2};
  assert_int_equal(part->num_sequences, 1);
  assert_ids(part, odd);
  moerun__trace_destroy(part);
  assert_int_equal(moerun__trace_select(&part, trace, 3, 2, "trace"),
                   MOERUN_ERR_INVALID);
  assert_string_equal(moerun_last_error(),
                      "trace: expected a sequence of number 3, counted from 0, "
                      "found 3 in all");
  assert_null(part);
  moerun__trace_destroy(trace);
}

/* ---- Hostile files ------------------------------------------------------- */

typedef struct bad_array {
  moerun__npy_type type;
  int32_t num_dims;
  int64_t dim[4];
  int64_t value[8];
  int32_t num_experts;
  const char *message;
} bad_array;

static const bad_array bad_arrays[] = {
    {MOERUN_NPY_I16,
     1,
     {4},
     {0, 1, 2, 3},
     0,
     "expected an array [tokens][layers][terms] or [tokens][layers], found 1 "
     "dimension"},
    {MOERUN_NPY_I16,
     4,
     {1, 1, 1, 2},
     {0, 1},
     0,
     "expected an array [tokens][layers][terms] or [tokens][layers], found 4 "
     "dimensions"},
    {MOERUN_NPY_F32,
     2,
     {2, 2},
     {0},
     0,
     "expected elements that are integers of 1, 2, 4 or 8 bytes, found <f4"},
    {MOERUN_NPY_I16,
     3,
     {0, 2, 2},
     {0},
     0,
     "expected at least one token, found none"},
    {MOERUN_NPY_I16,
     3,
     {2, 0, 2},
     {0},
     0,
     "expected 1 to 4096 layers, found 0"},
    {MOERUN_NPY_I16,
     3,
     {2, 2, 0},
     {0},
     0,
     "expected 1 to 32767 terms per token and layer, found 0"},
    {MOERUN_NPY_I16,
     3,
     {2, 1, 2},
     {0, 1, 2, 4},
     4,
     "token 1, layer 0, term 1: expected an expert from 0 to 3, or -1 for "
     "none, found 4"},
    {MOERUN_NPY_I16,
     3,
     {1, 2, 2},
     {0, 1, -2, 3},
     4,
     "token 0, layer 1, term 0: expected an expert from 0 to 3, or -1 for "
     "none, found -2"},
    {MOERUN_NPY_I64,
     3,
     {1, 1, 2},
     {0, 32767},
     0,
     "token 0, layer 0, term 1: expected an expert from 0 to 32766, or -1 for "
     "none, found 32767"},
    {MOERUN_NPY_I64,
     3,
     {1, 1, 2},
     {INT64_MIN, 0},
     0,
     "token 0, layer 0, term 0: expected an expert from 0 to 32766, or -1 for "
     "none, found -9223372036854775808"},
    {MOERUN_NPY_I64,
     2,
     {1, 2},
     {INT64_MAX, INT64_MAX},
     0,
     "token 0, layer 0, term 0: expected an expert from 0 to 32766, or -1 for "
     "none, found 9223372036854775807"},
    {MOERUN_NPY_U8,
     3,
     {1, 2, 2},
     {0, 1, 3, 3},
     0,
     "token 0, layer 1: expected distinct experts, found 3 twice"},
    {MOERUN_NPY_I16,
     3,
     {2, 1, 3},
     {0, 1, -1, 0, -1, 1},
     0,
     "expected at most as many terms as experts, found 3 terms and 2 experts"},
    {MOERUN_NPY_I16,
     3,
     {1, 1, 2},
     {-1, -1},
     0,
     "expected routing, found none in any token and layer: no expert, or one "
     "in "
     "all terms"},
};

static void bad_arrays_get_one_clear_line(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  for (size_t i = 0; i < sizeof bad_arrays / sizeof *bad_arrays; i++) {
    const bad_array *bad = &bad_arrays[i];
    moerun__trace *trace = NULL;
    char line[TEMP_PATH + 200];
    write_array(npy_path, bad->type, bad->num_dims, bad->dim, bad->value);
    (void)snprintf(line, sizeof line, "%s: %s", npy_path, bad->message);
    assert_int_equal(moerun__trace_load(&trace, npy_path, bad->num_experts),
                     MOERUN_ERR_FORMAT);
    assert_string_equal(moerun_last_error(), line);
    assert_null(trace);
    assert_int_equal(moerun__alloc_live(), live);
  }
}

typedef struct bad_json {
  const char *from;
  const char *to;
  const char *message;
} bad_json;

static const bad_json bad_sidecars[] = {
    {"{", "[", "line 1, column 10: not valid JSON: ']' expected near ':'"},
    {"moerun-trace", "other",
     "key \"format\": expected \"moerun-trace\", found \"other\""},
    {"\"version\":1", "\"version\":2", "key \"version\": expected 1, found 2"},
    {"\"version\":1,", "",
     "key \"version\": expected an integer, found "
     "nothing"},
    {"\"phase\"", "\"phases\"", "unknown key \"phases\""},
    {"\"tokens\":4", "\"tokens\":5",
     "key \"tokens\": expected 4, as the array has, found 5"},
    {"\"num_layers\":2", "\"num_layers\":1",
     "key \"num_layers\": expected 2, as the array has, found 1"},
    {"\"experts_per_token\":2", "\"experts_per_token\":1",
     "key \"experts_per_token\": expected 2, as the array has, found 1"},
    {"\"num_experts\":8", "\"num_experts\":32768",
     "key \"num_experts\": expected 1 to 32767, found 32768"},
    {"\"num_experts\":8", "\"num_experts\":8.0",
     "key \"num_experts\": expected an integer, found a real number"},
    {"\"model\":\"m\"", "\"model\":1",
     "key \"model\": expected a string, found an integer"},
    {"[0,1,3,4]", "[]",
     "key \"sequence_offset\": expected at least 2 entries, found 0"},
    {"[0,1,3,4]", "[0,1,3,5]", "sequence_offset[3]: expected 0 to 4, found 5"},
    {"[0,1,3,4]", "[0,1,\"3\",4]",
     "sequence_offset[2]: expected an integer, found a string"},
    {"[0,1,3,4]", "[1,1,3,4]",
     "sequence 0: expected to begin at token 0, found 1"},
    {"[0,1,3,4]", "[0,3,1,4]",
     "sequence 1: expected to end at token 3 or later, found 1"},
    {"[0,1,3,4]", "[0,1,3,3]",
     "sequence 2: expected to end at token 4, the last, found 3"},
    {"[2,0,1]", "[2,0]", "key \"rank\": expected 3 entries, found 2"},
    {"[2,0,1]", "[2,0,3]", "rank[2]: expected 0 to 2, found 3"},
    {"\"num_ranks\":3,", "",
     "key \"num_ranks\": expected an integer, found nothing"},
    {"\"rank\":[2,0,1],", "", "key \"rank\": expected an array, found nothing"},
};

static void bad_sidecars_get_one_clear_line(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  write_array(npy_path, MOERUN_NPY_I16, 3, three, ids_3d);
  for (size_t i = 0; i < sizeof bad_sidecars / sizeof *bad_sidecars; i++) {
    const bad_json *bad = &bad_sidecars[i];
    moerun__trace *trace = NULL;
    char text[1024];
    char line[TEMP_PATH + 200];
    const char *at = strstr(good_json, bad->from);
    assert_non_null(at);
    (void)snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good_json),
                   good_json, bad->to, at + strlen(bad->from));
    write_text(json_path, text);
    (void)snprintf(line, sizeof line, "%s: %s", json_path, bad->message);
    assert_int_equal(moerun__trace_load(&trace, npy_path, 0),
                     MOERUN_ERR_FORMAT);
    assert_string_equal(moerun_last_error(), line);
    assert_null(trace);
    assert_int_equal(moerun__alloc_live(), live);
  }
  /* what was given does not agree with the file */
  moerun__trace *trace = NULL;
  write_text(json_path, good_json);
  assert_int_equal(moerun__trace_load(&trace, npy_path, 9), MOERUN_ERR_FORMAT);
  assert_non_null(strstr(moerun_last_error(),
                         "key \"num_experts\": expected 9, as was given, found "
                         "8"));
}

static const bad_json bad_lists[] = {
    {"", "a\t0\n",
     ":1: expected a name, the first token and the number of tokens, with tabs "
     "between, found \"a?0\""},
    {"", "a\t0\t-1\n",
     ":1: expected a name, the first token and the number of tokens, with tabs "
     "between, found \"a?0?-1\""},
    {"", "a\t0\t4\t\n",
     ":1: expected a name, the first token and the number of tokens, with tabs "
     "between, found \"a?0?4?\""},
    {"", "a\t0\t99999999999999999999\n",
     ":1: expected a name, the first token and the number of tokens, with tabs "
     "between, found \"a?0?99999999999999999999\""},
    {"", "a\t0\t2\nb\t3\t1\n",
     ":2: expected first token 2, where the last sequence ends, found 3"},
    {"", "a\t0\t2\nb\t2\t3\n",
     ":2: expected at most 2 tokens, as the array has left, found 3"},
    {"", "a\t0\t3\n",
     ": expected sequences of 4 tokens in all, as the array has, found 3"},
    {"", "",
     ": expected sequences of 4 tokens in all, as the array has, found 0"},
};

static void bad_lists_get_one_clear_line(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  write_array(npy_path, MOERUN_NPY_I16, 3, three, ids_3d);
  for (size_t i = 0; i < sizeof bad_lists / sizeof *bad_lists; i++) {
    moerun__trace *trace = NULL;
    char line[TEMP_PATH + 200];
    write_text(tsv_path, bad_lists[i].to);
    (void)snprintf(line, sizeof line, "%s%s", tsv_path, bad_lists[i].message);
    assert_int_equal(moerun__trace_load(&trace, npy_path, 0),
                     MOERUN_ERR_FORMAT);
    assert_string_equal(moerun_last_error(), line);
    assert_null(trace);
    assert_int_equal(moerun__alloc_live(), live);
  }
}

static void missing_files_are_named(void **state) {
  (void)state;
  moerun__trace *trace = NULL;
  char line[TEMP_PATH + 200];
  (void)snprintf(line, sizeof line,
                 "%s: cannot be opened: no such file or directory", npy_path);
  assert_int_equal(moerun__trace_load(&trace, npy_path, 0), MOERUN_ERR_IO);
  assert_string_equal(moerun_last_error(), line);
  assert_int_equal(moerun__trace_load(&trace, npy_path, -1),
                   MOERUN_ERR_INVALID);
  assert_int_equal(moerun__trace_create(&trace, 1, 1, 1, 1), MOERUN_OK);
  assert_int_equal(trace_save(trace, json_path), MOERUN_ERR_INVALID);
  moerun__trace_destroy(trace);
}

/* ---- Failed allocations -------------------------------------------------- */

static void failed_allocations_leave_nothing_behind(void **state) {
  (void)state;
  write_array(npy_path, MOERUN_NPY_I16, 3, three, ids_3d);
  write_text(json_path, good_json);
  const size_t live = moerun__alloc_live();
  for (long nth = 0;; nth++) {
    moerun__trace *trace = NULL;
    moerun__trace *half = NULL;
    moerun__alloc_fail_nth(nth);
    moerun_status status = moerun__trace_load(&trace, npy_path, 0);
    if (status == MOERUN_OK)
      status = moerun__trace_select(&half, trace, 0, 2, "trace");
    if (status == MOERUN_OK) status = trace_save(half, npy_path);
    moerun__alloc_fail_nth(-1);
    moerun__trace_destroy(trace);
    moerun__trace_destroy(half);
    assert_int_equal(moerun__alloc_live(), live);
    if (status == MOERUN_OK) {
      assert_true(nth >= 20);
      break;
    }
    assert_int_equal(status, MOERUN_ERR_NOMEM);
    write_array(npy_path, MOERUN_NPY_I16, 3, three, ids_3d);
    write_text(json_path, good_json);
  }
}

#define TEST(name) cmocka_unit_test_setup(name, empty_folder)

int main(void) {
  const struct CMUnitTest tests[] = {
      TEST(every_integer_type_is_read),
      TEST(two_dimensions_are_the_first_expert),
      TEST(ids_that_count_on_from_layer_to_layer),
      TEST(the_stride_of_ids_may_be_open),
      TEST(the_sidecar_of_profile),
      TEST(a_list_of_sequences),
      TEST(ids_in_the_name_are_passed_over),
      TEST(saved_traces_come_back_equal),
      TEST(halves_are_whole_sequences),
      TEST(bad_arrays_get_one_clear_line),
      TEST(bad_sidecars_get_one_clear_line),
      TEST(bad_lists_get_one_clear_line),
      TEST(missing_files_are_named),
      TEST(failed_allocations_leave_nothing_behind),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
