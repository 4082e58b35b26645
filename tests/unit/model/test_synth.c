/* Synthetic checkpoints: values against their definition, layouts against each
 * other, sizes of files, the popularity of experts, and what is refused. */
#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/model/arch.h"
#include "runtime/model/shard.h"
#include "runtime/model/synth.h"
#include "runtime/text/tokenizer.h"
#include "support/arch_names.h"
#include "support/cmocka.h"
#include "support/temp_dir.h"

#include <math.h>
#include <sys/stat.h>

static const moerun__synth_options small = {
    .arch = "qwen3_moe",
    .seed = 7,
    .dtype = MOERUN_DTYPE_F32,
    .num_layers = 3,
    .num_dense = 1,
    .dense_width = 20,
    .hidden_width = 24,
    .heads = {.num_heads = 4, .num_kv_heads = 2, .head_dim = 10},
    .num_experts = 5,
    .experts_per_token = 2,
    .expert_width = 12,
    .vocab_size = 300,
};

typedef struct checkpoint {
  temp_dir dir;
  moerun__model_config config;
  moerun__shards *shards;
} checkpoint;

/* Writes and opens; the path in `options` is replaced. */
static void open_synth(checkpoint *c, moerun__synth_options options) {
  char path[TEMP_PATH];
  assert_true(temp_dir_create(&c->dir));
  options.path = temp_path(path, &c->dir, "model");
  assert_int_equal(moerun__synth_write(&options), MOERUN_OK);
  assert_int_equal(moerun__model_config_load(&c->config, path), MOERUN_OK);
  assert_int_equal(moerun__shards_load(&c->shards, path), MOERUN_OK);
  assert_int_equal(temp_dir_count(c->dir.path), 1); /* no model.tmp */
}

static void close_synth(checkpoint *c) {
  moerun__shards_destroy(c->shards);
  moerun__model_config_clear(&c->config);
  temp_dir_remove(&c->dir);
}

/* All elements, widened; *count of them. Freed with free. */
static float *elements(const checkpoint *c, const char *name, size_t *count) {
  const moerun__tensor *tensor = moerun__shards_find(c->shards, name);
  assert_non_null(tensor);
  moerun__dtype dtype = MOERUN_DTYPE_F32;
  assert_int_equal(moerun__tensor_check(&dtype, c->shards, tensor,
                                        tensor->shape, tensor->num_dims),
                   MOERUN_OK);
  const size_t size = moerun__dtype_bytes(dtype, 1);
  *count = (size_t)tensor->bytes / size;
  char *raw = malloc((size_t)tensor->bytes);
  float *out = calloc(*count, sizeof *out);
  assert_true(raw != NULL && out != NULL);
  assert_int_equal(
      moerun__shards_read(raw, c->shards, tensor, 0, tensor->bytes), MOERUN_OK);
  for (size_t i = 0; i < *count; i++) {
    out[i] = moerun__element(raw, dtype, i);
  }
  free(raw);
  return out;
}

/* The definition in synth.c, word by word: the standardised draw number i. */
static double draw(uint64_t seed, moerun__role role, int layer, int expert,
                   uint64_t i) {
  uint32_t words[4];
  moerun__philox(words, seed,
                 (uint64_t)role + ((uint64_t)layer << 8) +
                     ((uint64_t)expert << 24),
                 i / 4);
  const uint32_t word = words[i % 4];
  const double sum = (double)((word & 255) + (word >> 8 & 255) +
                              (word >> 16 & 255) + (word >> 24));
  return (sum - 510.0) / sqrt((256.0 * 256.0 - 1.0) / 3.0);
}

static void values_follow_their_definition(void **state) {
  (void)state;
  checkpoint c;
  size_t count = 0;
  open_synth(&c, small);
  const double H = 24;
  const struct {
    const char *name;
    moerun__role role;
    int layer;
    int expert;
    double mean;
    double deviation;
  } tensors[] = {
      {"model.embed_tokens.weight", MOERUN_ROLE_EMBEDDING, 0, 0, 0,
       1 / sqrt(H)},
      {"lm_head.weight", MOERUN_ROLE_HEAD, 0, 0, 0, 1 / sqrt(H)},
      {"model.layers.2.input_layernorm.weight", MOERUN_ROLE_ATTENTION_NORM, 2,
       0, 1, 0.05},
      {"model.layers.1.self_attn.k_proj.weight", MOERUN_ROLE_K, 1, 0, 0,
       1 / sqrt(H)},
      {"model.layers.0.mlp.down_proj.weight", MOERUN_ROLE_DENSE_DOWN, 0, 0, 0,
       1 / sqrt(20.0) / sqrt(H) / sqrt(6.0)},
      {"model.layers.2.mlp.experts.4.up_proj.weight", MOERUN_ROLE_EXPERT_UP, 2,
       4, 0, 1 / sqrt(H)},
      {"model.layers.2.mlp.experts.3.down_proj.weight", MOERUN_ROLE_EXPERT_DOWN,
       2, 3, 0, 1 / sqrt(12.0) / sqrt(H) / sqrt(6.0)},
  };
  for (size_t t = 0; t < sizeof tensors / sizeof *tensors; t++) {
    float *value = elements(&c, tensors[t].name, &count);
    for (size_t i = 0; i < count; i++) {
      const double want =
          tensors[t].mean + tensors[t].deviation * draw(7, tensors[t].role,
                                                        tensors[t].layer,
                                                        tensors[t].expert, i);
      assert_true(fabs((double)value[i] - want) <= 1e-6);
    }
    free(value);
  }
  /* A gate row is +z, -z, +z, … with a fresh multiple of 4 draws a row. */
  float *gate = elements(&c, "model.layers.1.mlp.gate.weight", &count);
  assert_int_equal(count, 5 * 24);
  for (size_t i = 0; i < count; i++) {
    const double z = draw(7, MOERUN_ROLE_GATE, 1, 0, i / 24 * 12 + i % 24 / 2);
    const double want = (i % 2 == 0 ? z : -z) / sqrt(H);
    assert_true(fabs((double)gate[i] - want) <= 1e-6);
  }
  free(gate);
  assert_null(moerun__shards_find(c.shards, "model.layers.0.mlp.gate.weight"));
  close_synth(&c);
}

static void draws_look_normal(void **state) {
  (void)state;
  double moment[5] = {0};
  enum { COUNT = 40000 };
  for (uint64_t i = 0; i < COUNT; i++) {
    const double z = draw(1, MOERUN_ROLE_Q, 0, 0, i);
    double power = 1;
    for (int m = 0; m < 5; m++) {
      moment[m] += power / COUNT;
      power *= z;
    }
  }
  assert_true(fabs(moment[1]) < 0.02);
  assert_true(fabs(moment[2] - 1) < 0.02);
  assert_true(fabs(moment[3]) < 0.05);
  /* Four uniform parts: 3 - 6/5/4; normal: 3. */
  assert_true(fabs(moment[4] - 2.7) < 0.05);
}

/* bf16 and f16 files hold the f32 file's values, rounded; the fused layout and
 * several files hold the same values again. */
static void layouts_hold_the_same_weights(void **state) {
  (void)state;
  checkpoint whole;
  checkpoint other;
  open_synth(&whole, small);
  for (int variant = 0; variant < 3; variant++) {
    moerun__synth_options options = small;
    if (variant == 0) options.dtype = MOERUN_DTYPE_BF16;
    if (variant == 1) options.dtype = MOERUN_DTYPE_F16;
    if (variant == 2) options.files.shard_bytes = 4000;
    open_synth(&other, options);
    size_t num_tensors = 0;
    const moerun__tensor *tensor = NULL;
    while ((tensor = moerun__shards_at(other.shards, num_tensors)) != NULL) {
      size_t count = 0;
      size_t same = 0;
      float *a = elements(&whole, tensor->name, &count);
      float *b = elements(&other, tensor->name, &same);
      assert_int_equal(count, same);
      for (size_t i = 0; i < count; i++) {
        float want = a[i];
        if (variant == 0) want = moerun__bf16_to_f32(moerun__f32_to_bf16(want));
        if (variant == 1) want = moerun__f16_to_f32(moerun__f32_to_f16(want));
        assert_true(want == b[i]);
      }
      free(a);
      free(b);
      num_tensors++;
    }
    assert_non_null(moerun__shards_at(whole.shards, num_tensors - 1));
    assert_null(moerun__shards_at(whole.shards, num_tensors));
    close_synth(&other);
  }
  close_synth(&whole);
}

static void fused_layout_joins_the_experts(void **state) {
  (void)state;
  checkpoint whole;
  checkpoint fused;
  moerun__synth_options options = small;
  options.arch = "mixtral";
  options.num_dense = 0;
  open_synth(&whole, options);
  options.fused = 1;
  open_synth(&fused, options);
  const size_t H = 24;
  const size_t F = 12;
  size_t count = 0;
  static const char prefix[] = "model.layers.2.block_sparse_moe.experts";
  char name[MOERUN_TENSOR_NAME];
  (void)snprintf(name, sizeof name, "%s.gate_up_proj", prefix);
  float *gate_up = elements(&fused, name, &count);
  assert_int_equal(count, 5 * 2 * F * H);
  (void)snprintf(name, sizeof name, "%s.down_proj", prefix);
  float *down = elements(&fused, name, &count);
  assert_int_equal(count, 5 * F * H);
  for (size_t e = 0; e < 5; e++) {
    for (int w = 1; w <= 3; w++) {
      (void)snprintf(name, sizeof name, "%s.%zu.w%d.weight", prefix, e, w);
      float *part = elements(&whole, name, &count);
      const float *at = w == 2 ? down + e * F * H
                               : gate_up + (2 * e + (w == 3 ? 1 : 0)) * F * H;
      assert_memory_equal(part, at, F * H * sizeof *part);
      free(part);
    }
  }
  free(gate_up);
  free(down);
  close_synth(&whole);
  close_synth(&fused);
}

static void files_keep_to_the_limit(void **state) {
  (void)state;
  checkpoint c;
  moerun__synth_options options = small;
  options.files.shard_bytes = 4000;
  open_synth(&c, options);
  int64_t used[64] = {0};
  int tensors_in[64] = {0};
  int32_t num_files = 0;
  const moerun__tensor *tensor = NULL;
  for (size_t i = 0; (tensor = moerun__shards_at(c.shards, i)) != NULL; i++) {
    assert_true(tensor->file < 64);
    used[tensor->file] += tensor->bytes;
    tensors_in[tensor->file]++;
    if (tensor->file >= num_files) num_files = tensor->file + 1;
  }
  assert_true(num_files > 4);
  for (int32_t f = 0; f < num_files; f++) {
    assert_true(used[f] <= 4000 || tensors_in[f] == 1);
  }
  char path[TEMP_PATH];
  (void)temp_path(path, &c.dir, "model");
  /* Three JSON files of a tokenizing model, the index, the weights. */
  assert_int_equal(temp_dir_count(path), 4 + num_files);
  close_synth(&c);
}

static void configs_say_what_was_asked(void **state) {
  (void)state;
  static const char *const archs[] = {"qwen3_moe", "mixtral", "olmoe"};
  for (int a = 0; a < 3; a++) {
    checkpoint c;
    moerun__synth_options options = small;
    options.arch = archs[a];
    options.num_dense = a == 0;
    options.heads.head_dim = a == 2 ? 0 : 10;
    options.tied_head = a == 1;
    options.max_positions = 77;
    open_synth(&c, options);
    assert_string_equal(moerun__arch_name(c.config.arch), archs[a]);
    assert_int_equal(c.config.num_layers, 3);
    assert_int_equal(c.config.num_moe_layers, a == 0 ? 2 : 3);
    assert_int_equal(c.config.dense_width, a == 0 ? 20 : 0);
    assert_int_equal(c.config.head_dim, a == 2 ? 6 : 10);
    assert_int_equal(c.config.num_kv_heads, 2);
    assert_int_equal(c.config.num_experts, 5);
    assert_int_equal(c.config.expert_width, 12);
    assert_int_equal(c.config.max_positions, 77);
    assert_int_equal(c.config.tied_head, a == 1);
    assert_int_equal(c.config.gate_rule.renormalise, a != 2);
    assert_int_equal(c.config.bos_token, 256);
    assert_int_equal(c.config.num_eos, 1);
    assert_int_equal(c.config.eos_token[0], 257);
    close_synth(&c);
  }
}

/* The architectures with shared experts: what else they have is in the files
 * with the values of its definition. */
static void shared_experts_and_biases_are_written(void **state) {
  (void)state;
  static const char *const archs[] = {"qwen2_moe", "dots1"};
  const double H = 24;
  const struct {
    int arch;
    const char *name;
    moerun__role role;
    int layer;
    double deviation;
  } tensors[] = {
      {0, "model.layers.0.self_attn.k_proj.bias", MOERUN_ROLE_K_BIAS, 0, 0.05},
      {0, "model.layers.1.mlp.shared_expert.up_proj.weight",
       MOERUN_ROLE_SHARED_UP, 1, 1 / sqrt(H)},
      {0, "model.layers.2.mlp.shared_expert.down_proj.weight",
       MOERUN_ROLE_SHARED_DOWN, 2, 1 / sqrt(36.0) / sqrt(H) / sqrt(6.0)},
      {0, "model.layers.2.mlp.shared_expert_gate.weight",
       MOERUN_ROLE_SHARED_WEIGHT, 2, 1 / sqrt(H)},
      {1, "model.layers.1.mlp.shared_experts.gate_proj.weight",
       MOERUN_ROLE_SHARED_GATE, 1, 1 / sqrt(H)},
      {1, "model.layers.2.mlp.gate.e_score_correction_bias",
       MOERUN_ROLE_CHOICE_BIAS, 2, 0.05},
  };
  for (int a = 0; a < 2; a++) {
    checkpoint c;
    moerun__synth_options options = small;
    options.arch = archs[a];
    options.shared_experts = 3;
    open_synth(&c, options);
    assert_int_equal(c.config.num_moe_layers, 2);
    assert_int_equal(c.config.dense_width, 20);
    assert_int_equal(c.config.shared_width, 36);
    assert_int_equal(c.config.shared_is_weighted, a == 0);
    assert_int_equal(c.config.has_qkv_bias, a == 0);
    assert_int_equal(c.config.has_choice_bias, a == 1);
    assert_int_equal(c.config.gate_rule.renormalise, a == 1);
    assert_true(c.config.gate_rule.scale == (a == 1 ? 2.5F : 1.0F));
    for (size_t t = 0; t < sizeof tensors / sizeof *tensors; t++) {
      if (tensors[t].arch != a) continue;
      size_t count = 0;
      float *value = elements(&c, tensors[t].name, &count);
      for (size_t i = 0; i < count; i++) {
        const double want = tensors[t].deviation *
                            draw(7, tensors[t].role, tensors[t].layer, 0, i);
        assert_true(fabs((double)value[i] - want) <= 1e-6);
      }
      free(value);
    }
    assert_null(moerun__shards_find(
        c.shards, "model.layers.0.mlp.shared_expert_gate.weight"));
    close_synth(&c);
  }
}

static void experts_at_home_are_written(void **state) {
  (void)state;
  checkpoint c;
  moerun__synth_options options = small;
  const int32_t numbers[] = {1, 2, 0, 3};
  memcpy(options.num_home, numbers, sizeof numbers);
  options.experts_per_token = 7;
  open_synth(&c, options);
  assert_memory_equal(c.config.num_home, numbers, sizeof numbers);
  assert_int_equal(moerun__config_choices(&c.config), 11);
  const moerun__tensor *gate =
      moerun__shards_find(c.shards, "model.layers.1.mlp.gate.weight");
  assert_non_null(gate);
  assert_int_equal(gate->shape[0], 11);
  for (int e = 0; e < 3; e++) {
    char name[MOERUN_TENSOR_NAME];
    size_t count = 0;
    double sum = 0;
    double squares = 0;
    (void)snprintf(name, sizeof name,
                   "model.layers.2.mlp.constant_experts.%d.gate.weight", e);
    float *mix = elements(&c, name, &count);
    assert_int_equal(count, 2 * 24);
    free(mix);
    (void)snprintf(name, sizeof name,
                   "model.layers.2.mlp.constant_experts.%d.vector", e);
    float *vector = elements(&c, name, &count);
    assert_int_equal(count, 24);
    for (size_t i = 0; i < count; i++) {
      sum += (double)vector[i];
      squares += (double)vector[i] * (double)vector[i];
    }
    free(vector);
    const double deviation = 1 / sqrt(24.0) / sqrt(6.0);
    assert_true(fabs(sum / 24) < deviation);
    assert_true(squares / 24 < 2 * deviation * deviation);
    assert_true(squares / 24 > 0.4 * deviation * deviation);
  }
  assert_null(moerun__shards_find(
      c.shards, "model.layers.2.mlp.constant_experts.3.vector"));
  assert_null(moerun__shards_find(
      c.shards, "model.layers.0.mlp.constant_experts.0.vector"));
  close_synth(&c);
}

static void tokenizer_knows_every_byte(void **state) {
  (void)state;
  checkpoint c;
  char path[TEMP_PATH];
  char bytes[256];
  moerun__tokenizer *tokenizer = NULL;
  moerun__token_list list = {0};
  open_synth(&c, small);
  assert_int_equal(
      moerun__tokenizer_load(&tokenizer, temp_path(path, &c.dir, "model")),
      MOERUN_OK);
  for (int b = 0; b < 256; b++) {
    bytes[b] = (char)b;
  }
  assert_int_equal(moerun__tokenizer_encode(tokenizer, &list, bytes, 256, "x"),
                   MOERUN_OK);
  assert_int_equal(
      moerun__tokenizer_encode(tokenizer, &list, "<bos><eos>", 10, "x"),
      MOERUN_OK);
  assert_int_equal(list.count, 258);
  for (int i = 0; i < 258; i++) {
    assert_int_equal(list.id[i], i);
  }
  moerun__token_list_clear(&list);
  moerun__tokenizer_destroy(tokenizer);
  close_synth(&c);
}

/* max/mean of how often each expert is among the K largest logits of layer 0's
 * gate, over all tokens' embeddings, normalised. */
static double imbalance(double skew) {
  enum { V = 2000, H = 64, E = 16, K = 2 };
  checkpoint c;
  moerun__synth_options options = small;
  size_t count = 0;
  int load[E] = {0};
  options.num_dense = 0;
  options.vocab_size = V;
  options.hidden_width = H;
  options.num_experts = E;
  options.skew = skew;
  open_synth(&c, options);
  float *embedding = elements(&c, "model.embed_tokens.weight", &count);
  float *gate = elements(&c, "model.layers.0.mlp.gate.weight", &count);
  for (size_t v = 0; v < V; v++) {
    double square = 0;
    double logit[E] = {0};
    for (size_t h = 0; h < H; h++) {
      square += (double)embedding[v * H + h] * (double)embedding[v * H + h];
    }
    for (size_t i = 0; i < (size_t)E * H; i++) {
      logit[i / H] +=
          (double)gate[i] * (double)embedding[v * H + i % H] / sqrt(square / H);
    }
    for (int k = 0; k < K; k++) {
      int best = 0;
      for (int e = 1; e < E; e++) {
        if (logit[e] > logit[best]) best = e;
      }
      load[best]++;
      logit[best] = -1e9;
    }
  }
  int most = 0;
  for (int e = 0; e < E; e++) {
    if (load[e] > most) most = load[e];
  }
  free(embedding);
  free(gate);
  close_synth(&c);
  return (double)most * E / (V * K);
}

static void skew_makes_experts_popular(void **state) {
  (void)state;
  const double even = imbalance(0);
  const double slight = imbalance(0.5);
  const double zipf = imbalance(1);
  const double steep = imbalance(2);
  assert_true(even < 2);
  assert_true(slight > even + 0.5);
  assert_true(zipf > slight + 0.5);
  assert_true(steep > zipf + 0.5);
}

static void refuses_and_leaves_nothing(void **state) {
  (void)state;
  temp_dir dir;
  char path[TEMP_PATH];
  char line[2 * TEMP_PATH];
  char unknown[256];
  assert_true(temp_dir_create(&dir));
  moerun__synth_options options = small;
  options.path = temp_path(path, &dir, "model");
  say_unknown_arch(unknown, sizeof unknown, "synth", "gpt_oss");
  const struct {
    moerun__synth_options change;
    const char *message;
  } cases[] = {
      {{.arch = "gpt_oss"}, unknown},
      {{.num_experts = 1},
       "synth: key \"num_experts_per_tok\": expected 1 to 1, found 2"},
      {{.hidden_width = -5},
       "synth: key \"hidden_size\": expected 1 to 131072, found -5"},
      {{.heads = {.head_dim = 7}},
       "synth: key \"head_dim\": expected an even head width, "
       "found 7"},
      {{.skew = -1}, "synth: skew: expected 0 to 100, found -1"},
      {{.files = {.shard_bytes = -1}},
       "synth: shard_bytes: expected at least 0, found -1"},
      {{.num_layers = 1},
       "synth: mlp_only_layers and decoder_sparse_step "
       "leave none of the 1 layers with experts, and models without any are "
       "not run"},
      {{.files = {.shard_bytes = 1}, .num_experts = 400},
       "synth: shard_bytes 1: expected at most 1024 files, found 2432"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    const moerun__synth_options *change = &cases[i].change;
    moerun__synth_options bad = options;
    if (change->arch != NULL) bad.arch = change->arch;
    if (change->num_experts != 0) bad.num_experts = change->num_experts;
    if (change->hidden_width != 0) bad.hidden_width = change->hidden_width;
    if (change->heads.head_dim != 0)
      bad.heads.head_dim = change->heads.head_dim;
    if (change->num_layers != 0) bad.num_layers = change->num_layers;
    bad.skew = change->skew;
    bad.files.shard_bytes = change->files.shard_bytes;
    assert_true(moerun__synth_write(&bad) != MOERUN_OK);
    assert_string_equal(moerun_last_error(), cases[i].message);
    assert_int_equal(temp_dir_count(dir.path), 0);
  }
  assert_int_equal(moerun__synth_write(&options), MOERUN_OK);
  assert_int_equal(moerun__synth_write(&options), MOERUN_ERR_INVALID);
  (void)snprintf(line, sizeof line,
                 "%s: exists already: --overwrite replaces it", path);
  assert_string_equal(moerun_last_error(), line);
  options.path = "nowhere/model";
  assert_int_equal(moerun__synth_write(&options), MOERUN_ERR_OUTPUT);
  assert_string_equal(moerun_last_error(),
                      "nowhere/model: cannot be created: no such "
                      "file or directory (its folder is missing)");
  temp_dir_remove(&dir);
}

static void nth_allocation_failure_leaves_nothing(void **state) {
  (void)state;
  temp_dir dir;
  char path[TEMP_PATH];
  assert_true(temp_dir_create(&dir));
  moerun__synth_options options = small;
  options.path = temp_path(path, &dir, "model");
  options.files.shard_bytes = 20000;
  const size_t live = moerun__alloc_live();
  moerun_status status = MOERUN_ERR_NOMEM;
  long n = 0;
  for (; status != MOERUN_OK; n++) {
    assert_true(n < 10000);
    moerun__alloc_fail_nth(n);
    status = moerun__synth_write(&options);
    assert_int_equal(moerun__alloc_live(), live);
    assert_true(status == MOERUN_OK || status == MOERUN_ERR_NOMEM);
    assert_int_equal(temp_dir_count(dir.path), status == MOERUN_OK);
  }
  moerun__alloc_fail_nth(-1);
  assert_true(n > 20);
  temp_dir_remove(&dir);
}

static void f16_rounds_to_nearest_even(void **state) {
  (void)state;
  for (uint32_t h = 0; h < 0x7c00; h++) {
    const float here = moerun__f16_to_f32((uint16_t)h);
    const float next =
        h + 1 < 0x7c00 ? moerun__f16_to_f32((uint16_t)(h + 1)) : 65536.0F;
    const float middle = (here + next) / 2;
    const uint16_t even = (uint16_t)(h % 2 == 0 ? h : h + 1);
    assert_int_equal(moerun__f32_to_f16(here), h);
    assert_int_equal(moerun__f32_to_f16(-here), h | 0x8000);
    assert_int_equal(moerun__f32_to_f16(middle), even);
    assert_int_equal(moerun__f32_to_f16(nextafterf(middle, 0)), h);
    assert_int_equal(moerun__f32_to_f16(nextafterf(middle, 1e9F)), h + 1);
  }
  assert_int_equal(moerun__f32_to_f16(INFINITY), 0x7c00);
  assert_true(isnan(moerun__f16_to_f32(moerun__f32_to_f16(NAN))));
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(values_follow_their_definition),
      cmocka_unit_test(draws_look_normal),
      cmocka_unit_test(layouts_hold_the_same_weights),
      cmocka_unit_test(fused_layout_joins_the_experts),
      cmocka_unit_test(files_keep_to_the_limit),
      cmocka_unit_test(configs_say_what_was_asked),
      cmocka_unit_test(shared_experts_and_biases_are_written),
      cmocka_unit_test(experts_at_home_are_written),
      cmocka_unit_test(tokenizer_knows_every_byte),
      cmocka_unit_test(skew_makes_experts_popular),
      cmocka_unit_test(refuses_and_leaves_nothing),
      cmocka_unit_test(nth_allocation_failure_leaves_nothing),
      cmocka_unit_test(f16_rounds_to_nearest_even),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
