/* The fixtures of transformers with something changed in their files, and what
 * transformers 5.23 (torch 2.15, fp32) says to that: the log-probability of the
 * second sequence's tokens from the second on. README.md in tests/data has the
 * script that computes them. */
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/npy.h"
#include "runtime/base/text.h"
#include "runtime/decoder/session.h"
#include "support/dtype_names.h"
#include "support/mpi_test.h"
#include "support/temp_dir.h"
#include "support/warnings.h"

#include <math.h>
#include <moerun/moerun_mpi.h>

enum { MAX_TOKENS = 128, MAX_CONFIG = 1 << 20 };
static const double tolerance = 1e-3; /* of a sum of some 300, given to 1e-5 */

static moerun_comm *comm;

typedef struct variant {
  const char *fixture;
  const char *change; /* of config.json: members to set */
  double log_probability;
} variant;

/* ---- A model folder of this rank's own ----------------------------------- */

static void link_weights(const temp_dir *dir, const char *fixture) {
  DIR *list = opendir(fixture);
  const struct dirent *item = NULL;
  assert_non_null(list);
  while ((item = readdir(list)) != NULL) {
    char from[TEMP_PATH];
    char to[TEMP_PATH];
    if (strncmp(item->d_name, "model", 5) != 0) continue;
    (void)snprintf(from, sizeof from, "%.400s/%.100s", fixture, item->d_name);
    assert_int_equal(symlink(from, temp_path(to, dir, item->d_name)), 0);
  }
  (void)closedir(list);
}

/* config.json without the keys of rotary positions, and with `change`. */
static void write_config(const temp_dir *dir, const char *fixture,
                         const char *change) {
  static const char *const removed[] = {"rope_theta", "rope_scaling",
                                        "rope_parameters"};
  char path[TEMP_PATH];
  json_t *root = NULL;
  json_t *members = NULL;
  (void)snprintf(path, sizeof path, "%.400s/config.json", fixture);
  assert_int_equal(moerun__json_load(&root, path, MAX_CONFIG), MOERUN_OK);
  assert_int_equal(
      moerun__json_parse(&members, change, strlen(change), "change"),
      MOERUN_OK);
  const int is_of_rope = strstr(change, "rope") != NULL;
  for (size_t i = 0; is_of_rope && i < 3; i++) {
    (void)json_object_del(root, removed[i]);
  }
  assert_int_equal(json_object_update(root, members), 0);
  char *text = json_dumps(root, 0);
  assert_non_null(text);
  temp_path(path, dir, "config.json");
  assert_int_equal(moerun__file_write(path, text, strlen(text)), MOERUN_OK);
  free(text);
  json_decref(members);
  json_decref(root);
}

/* The file with each `from` in its header (an index: anywhere) as `to`. */
static void rename_in_file(const char *path, const char *from, const char *to) {
  const int has_length = strstr(path, ".json") == NULL;
  char *bytes = NULL;
  size_t count = 0;
  moerun__text text = {0};
  assert_int_equal(moerun__file_read(&bytes, &count, path, 1U << 24),
                   MOERUN_OK);
  size_t at = has_length ? 8 : 0;
  size_t end = count;
  if (has_length) {
    assert_true((unsigned char)bytes[2] == 0 && bytes[3] == 0);
    end = at + (unsigned char)bytes[0] + 256U * (unsigned char)bytes[1];
  }
  assert_int_equal(moerun__text_append(&text, bytes, at), MOERUN_OK);
  while (at < end) {
    const int found =
        end - at >= strlen(from) && memcmp(bytes + at, from, strlen(from)) == 0;
    assert_int_equal(found ? moerun__text_append(&text, to, strlen(to))
                           : moerun__text_append(&text, bytes + at, 1),
                     MOERUN_OK);
    at += found ? strlen(from) : 1;
  }
  if (has_length) {
    text.bytes[0] = (char)((text.count - 8) % 256);
    text.bytes[1] = (char)((text.count - 8) / 256);
  }
  assert_int_equal(moerun__text_append(&text, bytes + end, count - end),
                   MOERUN_OK);
  (void)unlink(path); /* the fixture's own stays */
  assert_int_equal(moerun__file_write(path, text.bytes, text.count), MOERUN_OK);
  moerun__text_clear(&text);
  moerun__free(bytes);
}

/* The only name of the tensor that is embedding and head is the head's. */
static void keep_head_only(const temp_dir *dir) {
  static const char *const files[] = {
      "model.safetensors.index.json", "model-00001-of-00003.safetensors",
      "model-00002-of-00003.safetensors", "model-00003-of-00003.safetensors"};
  for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
    char path[TEMP_PATH];
    rename_in_file(temp_path(path, dir, files[i]),
                   "\"model.embed_tokens.weight\"", "\"lm_head.weight\"");
  }
}

/* ---- What moerun says ---------------------------------------------------- */

/* The fixture's second sequence; returns its length. */
static int32_t load_tokens(int32_t token[MAX_TOKENS], const char *fixture) {
  char path[TEMP_PATH];
  int64_t row[MAX_TOKENS];
  moerun__npy_shape shape;
  moerun__npy_reader *reader = NULL;
  int32_t count = 0;
  (void)snprintf(path, sizeof path, "%.400s/tokens.npy", fixture);
  assert_int_equal(moerun__npy_open(&reader, &shape, path, MOERUN_NPY_NUMBERS),
                   MOERUN_OK);
  assert_true(shape.num_dims == 2 && shape.dim[1] <= MAX_TOKENS);
  assert_int_equal(
      moerun__npy_read_integers(reader, row, shape.dim[1], shape.dim[1]),
      MOERUN_OK);
  while (count < shape.dim[1] && row[count] >= 0) {
    token[count] = (int32_t)row[count];
    count++;
  }
  moerun__npy_close(reader);
  return count;
}

static double sum_of(const float *logits, const int32_t *token, int32_t T,
                     int32_t V) {
  double sum = 0;
  for (int32_t t = 0; t + 1 < T; t++) {
    const float *row = logits + (size_t)t * (size_t)V;
    double total = 0;
    for (int32_t v = 0; v < V; v++) {
      total += exp((double)row[v]);
    }
    sum += (double)row[token[t + 1]] - log(total);
  }
  return sum;
}

/* [collective] Rank 0 runs the sequence, the others have no rows. */
static double score(const char *model_path, const char *fixture) {
  moerun_model_shape shape = {.struct_size = sizeof shape};
  moerun_placement *placement = NULL;
  moerun_model *model = NULL;
  moerun_session *session = NULL;
  int32_t token[MAX_TOKENS];
  int32_t position[MAX_TOKENS];
  const int32_t sequence[MAX_TOKENS] = {0};
  const moerun_session_options options = {
      .max_tokens = MAX_TOKENS, .max_sequences = 1, .kv_tokens = 256};
  const int32_t T = load_tokens(token, fixture);
  const int32_t rows = test_rank() == 0 ? T : 0;
  for (int32_t t = 0; t < T; t++) {
    position[t] = t;
  }
  assert_all_ok(moerun_model_shape_load(&shape, model_path));
  assert_all_ok(moerun_placement_create_block(&placement, shape.num_moe_layers,
                                              shape.num_experts, test_size()));
  assert_all_ok(moerun_model_load(&model, comm, placement, model_path, NULL));
  assert_all_ok(moerun__session_create_with(&session, model, &options,
                                            &(moerun__session_extra){0}));
  float *logits = calloc((size_t)T * (size_t)shape.vocab_size, sizeof *logits);
  const moerun_batch batch = {rows, token, sequence, position, rows, position};
  assert_all_ok(moerun_forward(session, &batch, logits));
  const double sum = sum_of(logits, token, T, shape.vocab_size);
  free(logits);
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  moerun_placement_destroy(placement);
  return sum;
}

static void check(const variant *v, void (*edit)(const temp_dir *dir)) {
  char fixture[TEMP_PATH];
  temp_dir dir;
  (void)snprintf(fixture, sizeof fixture, "%s/hf/%s", MOERUN_TEST_DATA,
                 v->fixture);
  assert_true(temp_dir_create(&dir));
  link_weights(&dir, fixture);
  write_config(&dir, fixture, v->change);
  if (edit != NULL) edit(&dir);
  const double sum = score(dir.path, fixture);
  temp_dir_remove(&dir);
  const int same =
      test_rank() != 0 || fabs(sum - v->log_probability) < tolerance;
  if (!same) {
    print_error("%s %s: expected %.5f, found %.5f\n", v->fixture, v->change,
                v->log_probability, sum);
  }
  assert_all_ranks(same);
}

static void rope_base_stands_in_three_places(void **state) {
  (void)state;
#define INSIDE(key)                                                            \
  "{\"" key "\": {\"rope_type\": \"default\", \"rope_theta\": 777}}"
  static const variant variants[] = {
      {"qwen3_moe", INSIDE("rope_parameters"), -282.01566},
      {"qwen3_moe", INSIDE("rope_scaling"), -282.01566},
      {"mixtral", INSIDE("rope_parameters"), -280.55167},
      {"mixtral", INSIDE("rope_scaling"), -280.55167},
      {"mixtral",
       "{\"rope_theta\": 50, \"rope_scaling\": {\"rope_type\": \"default\", "
       "\"rope_theta\": 777}}",
       -280.55167},
      {"olmoe", INSIDE("rope_parameters"), -336.57927},
      {"olmoe", INSIDE("rope_scaling"), -336.57927},
      {"qwen2_moe", INSIDE("rope_parameters"), -294.03049},
      {"qwen2_moe", INSIDE("rope_scaling"), -294.03049},
      {"dots1", INSIDE("rope_parameters"), -323.96839},
      {"dots1", INSIDE("rope_scaling"), -323.96839},
  };
#undef INSIDE
  for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
    check(&variants[i], NULL);
  }
}

/* Each rule, with keys that are missing, null and set; the context of the
 * training beside the rule, which wins. Of transformers 5.24. */
static void rotary_positions_are_scaled(void **state) {
  (void)state;
  static const variant variants[] = {
      {"qwen3_moe",
       "{\"rope_theta\": 777, \"rope_scaling\": {\"type\": "
       "\"linear\", \"factor\": 2.5}}",
       -300.23118},
      {"qwen3_moe",
       "{\"rope_theta\": 777, \"rope_scaling\": {\"rope_type\": "
       "\"dynamic\", \"factor\": 4}}",
       -282.01566},
      {"qwen3_moe",
       "{\"rope_theta\": 777, \"rope_scaling\": {\"rope_type\": "
       "\"yarn\", \"factor\": 4.0, "
       "\"original_max_position_embeddings\": 16}}",
       -295.25857},
      {"qwen3_moe",
       "{\"rope_parameters\": {\"rope_type\": \"yarn\", "
       "\"rope_theta\": 50, \"factor\": 3.0, "
       "\"original_max_position_embeddings\": 20, \"beta_fast\": 8, "
       "\"beta_slow\": 2, \"truncate\": false}}",
       -279.51413},
      {"qwen3_moe",
       "{\"rope_parameters\": {\"rope_type\": \"yarn\", "
       "\"rope_theta\": 50, \"factor\": 40.0, "
       "\"original_max_position_embeddings\": 32, \"mscale\": 1.0, "
       "\"mscale_all_dim\": 0.5}}",
       -290.91326},
      {"qwen3_moe",
       "{\"rope_parameters\": {\"rope_type\": \"yarn\", "
       "\"rope_theta\": 50, \"factor\": 4.0, \"attention_factor\": "
       "0.8}, \"original_max_position_embeddings\": 24}",
       -282.77299},
      {"qwen3_moe",
       "{\"rope_parameters\": {\"rope_type\": \"yarn\", "
       "\"rope_theta\": 50, \"factor\": null, "
       "\"original_max_position_embeddings\": 16}}",
       -297.07565},
      {"olmoe",
       "{\"rope_theta\": 50, \"rope_scaling\": {\"rope_type\": "
       "\"llama3\", \"factor\": 8.0, \"low_freq_factor\": 1.0, "
       "\"high_freq_factor\": 4.0, "
       "\"original_max_position_embeddings\": 32}}",
       -336.96304},
      {"qwen3_moe",
       "{\"rope_parameters\": {\"rope_type\": \"longrope\", "
       "\"rope_theta\": 777, \"short_factor\": [0.9, 1.1, 1.3, 1.5, "
       "1.7, 1.9, 2.1, 2.3, 2.5, 2.7, 2.9, 3.1], \"long_factor\": "
       "[9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, "
       "9.0], \"original_max_position_embeddings\": 48}}",
       -295.44961},
      {"qwen3_moe",
       "{\"rope_parameters\": {\"rope_type\": \"longrope\", "
       "\"rope_theta\": 777, \"short_factor\": [0.9, 1.1, 1.3, 1.5, "
       "1.7, 1.9, 2.1, 2.3, 2.5, 2.7, 2.9, 3.1], \"long_factor\": "
       "[9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, "
       "9.0], \"factor\": 5.0, \"attention_factor\": 1.3}, "
       "\"original_max_position_embeddings\": 48}",
       -295.51267},
      {"glm4_moe",
       "{\"rope_parameters\": {\"rope_type\": \"yarn\", "
       "\"rope_theta\": 777, \"factor\": 4.0, "
       "\"original_max_position_embeddings\": 16, "
       "\"partial_rotary_factor\": 0.5}}",
       -204.42215},
      {"solar_open",
       "{\"rope_parameters\": {\"rope_type\": \"yarn\", "
       "\"rope_theta\": 777, \"factor\": 2.0, "
       "\"original_max_position_embeddings\": 64}}",
       -205.31390},
  };
  for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
    check(&variants[i], NULL);
  }
}

/* Windows by each of the keys that say which layers have one, shorter than a
 * page, as long as one and longer. Of transformers 5.24. */
static void layers_see_windows(void **state) {
  (void)state;
  static const variant variants[] = {
      {"mixtral", "{\"sliding_window\": 5}", -294.09216},
      {"mixtral", "{\"sliding_window\": 16}", -297.54813},
      {"qwen3_moe", "{\"sliding_window\": 7, \"use_sliding_window\": true}",
       -300.47689},
      {"qwen2_moe",
       "{\"sliding_window\": 1, \"use_sliding_window\": true, "
       "\"max_window_layers\": 2}",
       -290.82965},
      {"qwen2_moe",
       "{\"sliding_window\": 17, \"use_sliding_window\": true, "
       "\"layer_types\": [\"full_attention\", \"sliding_attention\", "
       "\"sliding_attention\"]}",
       -299.40861},
      {"dots1", "{\"sliding_window\": 9, \"max_window_layers\": 1}",
       -300.47100},
      {"dots1",
       "{\"sliding_window\": 4, \"layer_types\": [\"sliding_attention\", "
       "\"full_attention\", \"sliding_attention\"]}",
       -307.89763},
  };
  for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
    check(&variants[i], NULL);
  }
}

/* The head was trained on and the flag left as it was. */
static void stored_heads_win_over_the_flag(void **state) {
  (void)state;
  static const char tied[] = "{\"tie_word_embeddings\": true}";
  const variant variants[] = {
      {"qwen3_moe", tied, -291.01068}, {"mixtral", tied, -292.96972},
      {"olmoe", tied, -337.44468},     {"qwen2_moe", tied, -294.77129},
      {"dots1", tied, -311.69665},
  };
  for (size_t i = 0; i < sizeof variants / sizeof *variants; i++) {
    warnings_begin();
    check(&variants[i], NULL);
    assert_all_ranks(strstr(warnings_text,
                            "lm_head.weight is stored and differs from "
                            "model.embed_tokens.weight: both are used\n") !=
                     NULL);
  }
  warnings_end();
}

static void either_name_is_enough_where_tied(void **state) {
  (void)state;
  const variant v = {"qwen3_moe_dense", "{}", -152.77389};
  warnings_begin();
  check(&v, NULL);
  check(&v, keep_head_only);
  assert_all_ranks(warnings_text[0] == '\0');
  warnings_end();
}

/* Quantised checkpoints whose config.json does not say that they are: GPTQ and
 * AWQ have other names, others a tensor of scales beside the weights, which
 * would be taken for the weights themselves. */
static void quantised_weights_are_named(void **state) {
  (void)state;
  static const struct {
    const char *from;
    const char *to;
    const char *words;
  } cases[] = {
      {"layers.1.self_attn.k_proj.weight", "layers.1.self_attn.k_proj.qweight",
       ": tensor \"model.layers.1.self_attn.k_proj.weight\": expected weights "
       "in " DTYPE_NAMES
       ", found \".qweight\" of quantised ones (GPTQ or AWQ), "
       "which are not read: take a checkpoint that is not quantised"},
      {"model.norm.weight", "model.layers.1.self_attn.k_proj.weight_scale_inv",
       "k_proj.weight\": expected weights in " DTYPE_NAMES ", found "
       "\".weight_scale_inv\" of quantised ones (FP8 blocks)"},
      {"layers.1.mlp.gate.weight", "layers.1.mlp.gate.scales",
       "found \".scales\" of quantised ones (GPTQ or AWQ)"},
  };
  char fixture[TEMP_PATH];
  (void)snprintf(fixture, sizeof fixture, "%s/hf/qwen3_moe", MOERUN_TEST_DATA);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    temp_dir dir;
    char path[TEMP_PATH];
    moerun_placement *placement = NULL;
    moerun_model_shape shape = {.struct_size = sizeof shape};
    moerun__model_size size;
    assert_true(temp_dir_create(&dir));
    link_weights(&dir, fixture);
    write_config(&dir, fixture, "{}");
    rename_in_file(temp_path(path, &dir, "model.safetensors"), cases[i].from,
                   cases[i].to);
    assert_all_ok(moerun_model_shape_load(&shape, dir.path));
    assert_all_ok(moerun_placement_create_block(
        &placement, shape.num_moe_layers, shape.num_experts, test_size()));
    assert_all_ranks(moerun__model_size_load(&size, dir.path, placement,
                                             test_rank(), 0) != MOERUN_OK);
    assert_all_ranks(strstr(moerun_last_error(), cases[i].words) != NULL);
    moerun_placement_destroy(placement);
    temp_dir_remove(&dir);
  }
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(rope_base_stands_in_three_places),
      cmocka_unit_test(rotary_positions_are_scaled),
      cmocka_unit_test(layers_see_windows),
      cmocka_unit_test(stored_heads_win_over_the_flag),
      cmocka_unit_test(either_name_is_enough_where_tied),
      cmocka_unit_test(quantised_weights_are_named),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  if (moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK) {
    return EXIT_FAILURE;
  }
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return failed;
}
