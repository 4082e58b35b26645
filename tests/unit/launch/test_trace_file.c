/* The recorded routing: order of the input, a description that agrees with the
 * array, and nothing left behind. */
#include "launch/run/trace_file.h"
#include "placement/trace/trace.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/npy.h"
#include "support/scratch.h"

enum { REQUESTS = 4, LAYERS = 2, K = 3, LONG = 600 };

static moerun__prompts *prompts;
static char stem[SCRATCH_PATH];
static char npy_path[64];
static char json_path[64];
static int32_t moe_layer[] = {-1, 0, 1};
static moerun__model_config model = {.num_layers = 3,
                                     .num_moe_layers = LAYERS,
                                     .num_experts = 8,
                                     .experts_per_token = K,
                                     .moe_layer = moe_layer};

static int set_up(void **state) {
  (void)state;
  const moerun__prompt_options options = {.text_bos = -1,
                                          .tokens_bos = -1,
                                          .vocab_size = 10,
                                          .max_positions = 1000,
                                          .kv_tokens = 1000,
                                          .max_new_tokens = 8,
                                          .sampling.top_p = 1};
  model.arch = moerun__arch_at(0);
  scratch_create(stem);
  (void)snprintf(npy_path, sizeof npy_path, "%s.npy", stem);
  (void)snprintf(json_path, sizeof json_path, "%s.json", stem);
  scratch_write(stem, "{\"tokens\":[1],\"id\":\"a\\\"\"}\n{\"tokens\":[1]}\n"
                      "{\"tokens\":[2]}\n{\"tokens\":[3],\"id\":-5}\n");
  return moerun__prompts_open(&prompts, stem, &options) == MOERUN_OK ? 0 : -1;
}

static int tear_down(void **state) {
  (void)state;
  moerun__prompts_destroy(prompts);
  (void)unlink(stem);
  (void)unlink(npy_path);
  (void)unlink(json_path);
  return 0;
}

/* Row t of a request, element i: a function of both. */
static int16_t expert(int64_t index, int32_t row, int32_t i) {
  return (int16_t)(index * 1000 + row * LAYERS * K + i);
}

static void append(moerun__trace_file *trace, int64_t index, int32_t num_prompt,
                   int32_t num_rows) {
  static int16_t rows[LONG * LAYERS * K];
  for (int32_t t = 0; t < num_rows; t++) {
    for (int32_t i = 0; i < LAYERS * K; i++) {
      rows[t * LAYERS * K + i] = expert(index, t, i);
    }
  }
  const moerun__completion c = {.index = index,
                                .rank = (int32_t)(2 - index % 3),
                                .num_prompt = num_prompt,
                                .num_tokens = num_rows + 1 - num_prompt,
                                .num_traced = num_rows,
                                .trace = rows};
  assert_int_equal(moerun__trace_file_append(trace, &c), MOERUN_OK);
}

static void expect_integers(const json_t *root, const char *key,
                            const int64_t *want, size_t count) {
  json_t *array = NULL;
  assert_int_equal(moerun__json_array(&array, root, key, "trace"), MOERUN_OK);
  assert_int_equal(json_array_size(array), count);
  for (size_t i = 0; i < count; i++) {
    assert_int_equal(json_integer_value(json_array_get(array, i)), want[i]);
  }
}

static void expect_rows(int64_t index, int32_t num_rows, int64_t first,
                        const moerun__npy_reader *reader) {
  int16_t row[LAYERS * K];
  for (int32_t t = 0; t < num_rows; t++) {
    assert_int_equal(
        moerun__npy_read(reader, row, (first + t) * LAYERS * K, LAYERS * K),
        MOERUN_OK);
    for (int32_t i = 0; i < LAYERS * K; i++) {
      assert_int_equal(row[i], expert(index, t, i));
    }
  }
}

static moerun_status end(moerun__trace_file *trace) {
  moerun__outputs outputs = {0};
  moerun_status status = moerun__trace_file_end(trace, &outputs);
  if (status == MOERUN_OK) status = moerun__outputs_commit(&outputs);
  return status;
}

static void requests_are_put_in_order(void **state) {
  (void)state;
  static const int64_t offset[] = {0, 2, 602, 603};
  static const int64_t prompt_rows[] = {2, 5, 1};
  static const int64_t index[] = {0, 1, 3};
  static const int64_t rank[] = {2, 1, 2};
  static const int64_t layers[] = {1, 2};
  moerun__trace_file *trace = NULL;
  assert_int_equal(moerun__trace_file_open(&trace, npy_path, prompts, &model,
                                           "/x/some model//", 3),
                   MOERUN_OK);
  assert_int_equal(moerun__trace_file_begin(trace), MOERUN_OK);
  append(trace, 3, 1, 1);
  append(trace, 1, 5, LONG);
  append(trace, 0, 3, 2); /* scored: the last prompt token is not fed */
  assert_int_equal(access(npy_path, F_OK), -1);
  assert_int_equal(end(trace), MOERUN_OK);
  moerun__trace_file_destroy(trace);
  assert_int_equal(temporaries_of(npy_path), 0);

  moerun__npy_reader *reader = NULL;
  moerun__npy_shape shape;
  assert_int_equal(
      moerun__npy_open(&reader, &shape, npy_path, MOERUN_NPY_INTEGERS),
      MOERUN_OK);
  assert_int_equal(shape.type, MOERUN_NPY_I16);
  assert_int_equal(shape.num_dims, 3);
  assert_int_equal(shape.dim[0], 603);
  assert_int_equal(shape.dim[1], LAYERS);
  assert_int_equal(shape.dim[2], K);
  expect_rows(0, 2, 0, reader);
  expect_rows(1, LONG, 2, reader);
  expect_rows(3, 1, 602, reader);
  moerun__npy_close(reader);

  json_t *root = NULL;
  assert_int_equal(moerun__json_load(&root, json_path, 1U << 20), MOERUN_OK);
  expect_integers(root, "sequence_offset", offset, 4);
  expect_integers(root, "prompt_rows", prompt_rows, 3);
  expect_integers(root, "index", index, 3);
  expect_integers(root, "layers", layers, 2);
  expect_integers(root, "rank", rank, 3);
  assert_int_equal(json_integer_value(json_object_get(root, "num_ranks")), 3);
  const json_t *ids = json_object_get(root, "id");
  assert_string_equal(json_string_value(json_array_get(ids, 0)), "a\"");
  assert_int_equal(json_integer_value(json_array_get(ids, 1)), 1);
  assert_int_equal(json_integer_value(json_array_get(ids, 2)), -5);
  assert_string_equal(json_string_value(json_object_get(root, "model")),
                      "some model");
  assert_int_equal(json_integer_value(json_object_get(root, "tokens")), 603);
  assert_int_equal(json_integer_value(json_object_get(root, "num_experts")), 8);
  assert_int_equal(json_integer_value(json_object_get(root, "version")), 1);
  json_decref(root);
}

/* What placements are solved from reads what profile writes, and leaves out
 * request 0, of which the model saw no token. */
static void placement_reads_it(void **state) {
  (void)state;
  static const int64_t offset[] = {0, 1, 3};
  static int16_t rows[2 * LAYERS * K] = {5, 0, 3, 7, 1, 2, 0, 1, 2, 6, 5, 4};
  moerun__trace_file *file = NULL;
  moerun__trace *trace = NULL;
  assert_int_equal(
      moerun__trace_file_open(&file, npy_path, prompts, &model, "m", 3),
      MOERUN_OK);
  assert_int_equal(moerun__trace_file_begin(file), MOERUN_OK);
  for (int32_t i = 2; i >= 0; i--) {
    const moerun__completion c = {.index = i,
                                  .rank = i,
                                  .num_prompt = 1,
                                  .num_tokens = i,
                                  .num_traced = i,
                                  .trace = rows};
    assert_int_equal(moerun__trace_file_append(file, &c), MOERUN_OK);
  }
  assert_int_equal(end(file), MOERUN_OK);
  moerun__trace_file_destroy(file);
  assert_int_equal(moerun__trace_load(&trace, npy_path, 0), MOERUN_OK);
  assert_int_equal(moerun__trace_check(trace, npy_path), MOERUN_OK);
  assert_int_equal(trace->num_sequences, 2);
  assert_memory_equal(trace->sequence_offset, offset, sizeof offset);
  assert_int_equal(trace->gate_order, 1);
  assert_int_equal(trace->num_ranks, 3);
  assert_int_equal(trace->home[0], 1);
  assert_int_equal(trace->home[1], 2);
  assert_int_equal(trace->ids[0], 5);
  assert_memory_equal(trace->ids + LAYERS * K, rows, sizeof rows);
  moerun__trace_destroy(trace);
}

/* A rank that recorded too little would leave a hole that nobody sees. */
static void every_token_but_the_last_is_there(void **state) {
  (void)state;
  static int16_t rows[3 * LAYERS * K];
  moerun__trace_file *trace = NULL;
  assert_int_equal(
      moerun__trace_file_open(&trace, npy_path, prompts, &model, "m", 3),
      MOERUN_OK);
  assert_int_equal(moerun__trace_file_begin(trace), MOERUN_OK);
  for (int32_t found = 0; found <= 3; found++) {
    const moerun__completion c = {.index = 1,
                                  .rank = 2,
                                  .num_prompt = 2,
                                  .num_tokens = 1,
                                  .num_traced = found,
                                  .trace = rows};
    assert_int_equal(moerun__trace_file_append(trace, &c),
                     found == 2 ? MOERUN_OK : MOERUN_ERR_COMM);
  }
  assert_non_null(strstr(moerun_last_error(),
                         "request 1: expected the routing of 2 tokens from "
                         "rank 2, found that of 3"));
  moerun__trace_file_destroy(trace);
}

/* The rows of a run that failed have no name to be found by. */
static void what_exists_is_kept(void **state) {
  (void)state;
  moerun__trace_file *trace = NULL;
  scratch_write(npy_path, "kept");
  assert_int_equal(
      moerun__trace_file_open(&trace, npy_path, prompts, &model, "m", 3),
      MOERUN_OK);
  assert_int_equal(moerun__trace_file_begin(trace), MOERUN_OK);
  append(trace, 2, 1, 1);
  assert_int_equal(temporaries_of(npy_path), 0);
  moerun__trace_file_destroy(trace);
  assert_int_equal(temporaries_of(npy_path), 0);
  char *text = NULL;
  size_t bytes = 0;
  assert_int_equal(moerun__file_read(&text, &bytes, npy_path, 100), MOERUN_OK);
  assert_string_equal(text, "kept");
  moerun__free(text);
}

static void bad_names_are_refused(void **state) {
  (void)state;
  static const char *const names[] = {"", ".npy", "trace", "trace.npz"};
  moerun__trace_file *trace = NULL;
  const size_t live = moerun__alloc_live();
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    assert_int_equal(
        moerun__trace_file_open(&trace, names[i], prompts, &model, "m", 3),
        MOERUN_ERR_INVALID);
    expect_words("--trace: expected a name that ends in .npy, found");
  }
  model.num_experts = 40000;
  assert_int_equal(
      moerun__trace_file_open(&trace, npy_path, prompts, &model, "m", 3),
      MOERUN_ERR_UNSUPPORTED);
  model.num_experts = 8;
  assert_int_equal(moerun__alloc_live(), live);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(requests_are_put_in_order),
      cmocka_unit_test(placement_reads_it),
      cmocka_unit_test(every_token_but_the_last_is_there),
      cmocka_unit_test(what_exists_is_kept),
      cmocka_unit_test(bad_names_are_refused),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
