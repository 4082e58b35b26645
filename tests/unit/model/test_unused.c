/* Tensors of a checkpoint that its config.json does not describe. */
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/model/model.h"
#include "runtime/model/synth.h"
#include "support/cmocka.h"
#include "support/temp_dir.h"

#include <moerun/moerun.h>

enum { LAYERS = 3, EXPERTS = 4, LINE = 1024, FILE_LIMIT = 1 << 24 };

static const moerun__synth_options small = {
    .arch = "qwen3_moe",
    .seed = 7,
    .dtype = MOERUN_DTYPE_F32,
    .num_layers = LAYERS,
    .num_dense = 1,
    .dense_width = 20,
    .hidden_width = 24,
    .heads = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 10},
    .num_experts = EXPERTS,
    .experts_per_token = 2,
    .expert_width = 12,
    .vocab_size = 300,
};

typedef struct world {
  temp_dir dir;
  char path[TEMP_PATH];
} world;

static void open_world(world *w, const moerun__synth_options *base) {
  moerun__synth_options options = *base;
  assert_true(temp_dir_create(&w->dir));
  options.path = temp_path(w->path, &w->dir, "model");
  assert_int_equal(moerun__synth_write(&options), MOERUN_OK);
}

static void in_model(char out[TEMP_PATH], const world *w, const char *name) {
  (void)snprintf(out, TEMP_PATH, "%.300s/%.100s", w->path, name);
}

static void change_config(const world *w, const char *key, int value) {
  char path[TEMP_PATH];
  json_t *root = NULL;
  in_model(path, w, "config.json");
  assert_int_equal(moerun__json_load(&root, path, FILE_LIMIT), MOERUN_OK);
  assert_int_equal(json_object_set_new(root, key, json_integer(value)), 0);
  assert_int_equal(json_dump_file(root, path, 0), 0);
  json_decref(root);
}

/* So many elements of F32 more at the end of the file, 0 or 1, by this name. */
static void add_elements(const world *w, const char *name, int count) {
  char path[TEMP_PATH];
  unsigned char *all = NULL;
  size_t bytes = 0;
  uint64_t length = 0;
  in_model(path, w, "model.safetensors");
  assert_int_equal(moerun__file_read((char **)&all, &bytes, path, FILE_LIMIT),
                   MOERUN_OK);
  memcpy(&length, all, sizeof length);
  const size_t end = bytes - 8 - length;
  json_t *header = json_loadb((const char *)all + 8, length, 0, NULL);
  assert_int_equal(json_object_set_new(
                       header, name,
                       json_pack("{s:s, s:[i], s:[I, I]}", "dtype", "F32",
                                 "shape", count, "data_offsets",
                                 (json_int_t)end, (json_int_t)end + 4 * count)),
                   0);
  char *text = json_dumps(header, 0);
  assert_non_null(text);
  const uint64_t written = strlen(text);
  FILE *file = fopen(path, "wb");
  assert_non_null(file);
  assert_int_equal(fwrite(&written, 8, 1, file), 1);
  assert_int_equal(fwrite(text, 1, written, file), written);
  assert_int_equal(fwrite(all + 8 + length, 1, end, file), end);
  assert_int_equal(fwrite("\0\0\0", 4, (size_t)count, file), count);
  assert_int_equal(fclose(file), 0);
  free(text);
  json_decref(header);
  moerun__free(all);
}

static void add_tensor(const world *w, const char *name) {
  add_elements(w, name, 1);
}

/* What a loading says on the way, in place of stderr. */
static char said[LINE];

static void hear(moerun__log_level level, const char *line) {
  (void)snprintf(said, sizeof said, "%d %s", (int)level, line);
}

static moerun_status load(const world *w) {
  moerun_comm *comm = NULL;
  moerun_placement *placement = NULL;
  moerun_model *model = NULL;
  moerun_model_shape shape = {.struct_size = sizeof shape};
  moerun__model_size size;
  const size_t live = moerun__alloc_live();
  said[0] = '\0';
  assert_int_equal(moerun_model_shape_load(&shape, w->path), MOERUN_OK);
  assert_int_equal(moerun_comm_create_self(&comm), MOERUN_OK);
  assert_int_equal(moerun_placement_create_block(
                       &placement, shape.num_moe_layers, shape.num_experts, 1),
                   MOERUN_OK);
  moerun__log_set_level(MOERUN_LOG_INFO);
  moerun__log_set_callback(hear);
  const moerun_status status =
      moerun_model_load(&model, comm, placement, w->path, NULL);
  moerun__log_set_callback(NULL);
  /* What is refused later is not predicted. */
  assert_int_equal(moerun__model_size_load(&size, w->path, placement, 0, 0),
                   status);
  moerun_model_destroy(model);
  moerun_placement_destroy(placement);
  moerun_comm_destroy(comm);
  assert_int_equal(moerun__alloc_live(), live);
  return status;
}

/* A tensor of a module that is used would change what comes out. */
static void tensors_of_used_modules_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *arch;
    const char *name;
  } cases[] = {
      {"qwen3_moe", "model.layers.2.self_attn.q_proj.bias"},
      {"qwen3_moe", "model.layers.1.mlp.gate.e_score_correction_bias"},
      {"qwen3_moe", "model.layers.1.mlp.shared_expert.up_proj.weight"},
      {"qwen3_moe", "model.layers.1.mlp.experts.4.up_proj.weight"},
      {"qwen3_moe", "model.layers.1.mlp.down_proj.weight"},
      {"qwen3_moe", "model.layers.0.mlp.gate.weight"},
      {"qwen3_moe", "model.layers.2.self_attn.sinks"},
      {"qwen3_moe", "lm_head.bias"},
      {"qwen3_moe", "model.norm.bias"},
      {"mixtral", "model.layers.1.self_attn.q_norm.weight"},
      {"mixtral", "model.layers.1.mlp.gate.weight"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    world w;
    char line[LINE];
    moerun__synth_options options = small;
    options.arch = cases[i].arch;
    if (strcmp(options.arch, "mixtral") == 0) options.num_dense = 0;
    open_world(&w, &options);
    assert_int_equal(load(&w), MOERUN_OK);
    assert_string_equal(said, "");
    add_tensor(&w, cases[i].name);
    assert_int_equal(load(&w), MOERUN_ERR_FORMAT);
    (void)snprintf(line, sizeof line,
                   "%s/model.safetensors: tensor \"%s\": expected only what a "
                   "%s with this config.json computes with, found what it "
                   "would leave out: take config.json and the weights from one "
                   "checkpoint",
                   w.path, cases[i].name, options.arch);
    assert_string_equal(moerun_last_error(), line);
    temp_dir_remove(&w.dir);
  }
}

/* The first is named, and how many there are besides. */
static void layers_beyond_the_last_are_refused(void **state) {
  (void)state;
  world w;
  open_world(&w, &small);
  change_config(&w, "num_hidden_layers", LAYERS - 1);
  assert_int_equal(load(&w), MOERUN_ERR_FORMAT);
  /* Norms 4, attention 4, the gate, 3 for each expert. */
  assert_non_null(strstr(moerun_last_error(),
                         "tensor \"model.layers.2.input_layernorm.weight\" and "
                         "20 others: expected 2 as the number of layers"));
  change_config(&w, "num_nextn_predict_layers", 1);
  assert_int_equal(load(&w), MOERUN_OK);
  assert_non_null(strstr(said, "2 "));
  assert_non_null(strstr(said, "tensor \"model.layers.2.input_layernorm.weight"
                               "\" and 20 others: not needed for generation"));
  add_tensor(&w, "model.layers.3.self_attn.q_proj.weight");
  assert_int_equal(load(&w), MOERUN_ERR_FORMAT);
  assert_non_null(strstr(moerun_last_error(),
                         "tensor \"model.layers.3.self_attn.q_proj.weight\": "
                         "expected 2 as the number of layers"));
  temp_dir_remove(&w.dir);
}

static void others_are_left_out_with_a_line(void **state) {
  (void)state;
  static const struct {
    const char *name;
    const char *line; /* its level first */
  } cases[] = {
      {"model.layers.1.self_attn.rotary_emb.inv_freq", "2 "},
      {"mtp.layers.0.mlp.gate.weight", "2 "},
      {"v_head.summary.weight", "1 "},
      {"v_head.summary.bias", "1 "},
      {"model.layers.first.weight", "1 "},
      {"model.layers.1x.weight", "1 "},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    world w;
    char name[LINE];
    open_world(&w, &small);
    add_tensor(&w, cases[i].name);
    assert_int_equal(load(&w), MOERUN_OK);
    assert_memory_equal(said, cases[i].line, 2);
    (void)snprintf(name, sizeof name, "model: tensor \"%s\": ", cases[i].name);
    assert_non_null(strstr(said, name));
    temp_dir_remove(&w.dir);
  }
}

/* A bias beside a weight that is left out, too, changes nothing. */
static void a_module_that_is_not_used_is_left_out_whole(void **state) {
  (void)state;
  world w;
  open_world(&w, &small);
  add_tensor(&w, "v_head.summary.weight");
  add_tensor(&w, "v_head.summary.bias");
  assert_int_equal(load(&w), MOERUN_OK);
  assert_non_null(strstr(said, "\" and 1 other: the model does not use it"));
  temp_dir_remove(&w.dir);
}

/* As checkpoints with no shared experts have for them. */
static void tensors_without_elements_are_left_out(void **state) {
  (void)state;
  static const char name[] = "model.layers.0.mlp.shared_experts.up_proj.weight";
  world w;
  open_world(&w, &small);
  add_elements(&w, name, 0);
  assert_int_equal(load(&w), MOERUN_OK);
  assert_memory_equal(said, "2 ", 2);
  assert_non_null(strstr(said, name));
  temp_dir_remove(&w.dir);
}

/* Fused experts are used, and then others beside them are not. */
static void one_layout_of_experts_is_used(void **state) {
  (void)state;
  for (int fused = 0; fused < 2; fused++) {
    world w;
    moerun__synth_options options = small;
    options.fused = fused;
    options.num_home[MOERUN_HOME_CONSTANT] = 1;
    open_world(&w, &options);
    assert_int_equal(load(&w), MOERUN_OK);
    assert_string_equal(said, "");
    if (fused) {
      add_tensor(&w, "model.layers.1.mlp.experts.0.up_proj.weight");
      assert_int_equal(load(&w), MOERUN_ERR_FORMAT);
    }
    temp_dir_remove(&w.dir);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(tensors_of_used_modules_are_refused),
      cmocka_unit_test(layers_beyond_the_last_are_refused),
      cmocka_unit_test(others_are_left_out_with_a_line),
      cmocka_unit_test(a_module_that_is_not_used_is_left_out_whole),
      cmocka_unit_test(tensors_without_elements_are_left_out),
      cmocka_unit_test(one_layout_of_experts_is_used),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
