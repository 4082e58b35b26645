/* Loading a checkpoint on R ranks: the predicted bytes are the allocated bytes,
 * the packed weights are the files' rows, and an expert's packed bytes are the
 * same wherever it is. */
#include "runtime/base/digest.h"
#include "runtime/base/memory.h"
#include "runtime/model/shard.h"
#include "runtime/model/weight_reader.h"
#include "support/model_world.h"

/* ---- What the packed weights must hold ----------------------------------- */

/* Output `output` of the weight is row `row` of the tensor. */
static int is_row(const moerun__weight *weight, int32_t output,
                  const moerun__shards *shards, const char *name, int64_t row) {
  unsigned char raw[4 * 64];
  float packed[64];
  const moerun__tensor *tensor = moerun__shards_find(shards, name);
  if (tensor == NULL || weight->num_inputs > 64) return 0;
  const int64_t bytes =
      (int64_t)moerun__dtype_bytes(weight->dtype, (size_t)weight->num_inputs);
  if (strcmp(tensor->dtype, moerun__dtype_name(weight->dtype)) != 0) return 0;
  if (moerun__shards_read(raw, shards, tensor, row * bytes, bytes) !=
      MOERUN_OK) {
    return 0;
  }
  moerun__weight_row(packed, weight, output);
  for (int32_t d = 0; d < weight->num_inputs; d++) {
    if (packed[d] != moerun__element(raw, weight->dtype, (size_t)d)) return 0;
  }
  return 1;
}

/* All rows of the tensor are the outputs first, first + 1, …; *next is the
 * output after them. */
static int are_rows(const moerun__weight *weight, int32_t first, int32_t *next,
                    const moerun__shards *shards, const char *name) {
  const moerun__tensor *tensor = moerun__shards_find(shards, name);
  if (tensor == NULL || tensor->num_dims != 2) return 0;
  for (int64_t row = 0; row < tensor->shape[0]; row++) {
    if (!is_row(weight, first + (int32_t)row, shards, name, row)) return 0;
  }
  *next = first + (int32_t)tensor->shape[0];
  return 1;
}

/* A weight made of these tensors of layer l, in this order. */
static int holds(const moerun__weight *weight, const moerun__shards *shards,
                 const char *const *suffixes, int count, const char *prefix) {
  int32_t output = 0;
  for (int i = 0; i < count; i++) {
    char name[MOERUN_TENSOR_NAME];
    (void)snprintf(name, sizeof name, "%s%s", prefix, suffixes[i]);
    if (!are_rows(weight, output, &output, shards, name)) return 0;
  }
  return output == weight->num_outputs;
}

static int norm_holds(const float *norm, const moerun__shards *shards,
                      const char *prefix, const char *suffix) {
  char name[MOERUN_TENSOR_NAME];
  (void)snprintf(name, sizeof name, "%s%s", prefix, suffix);
  const moerun__tensor *tensor = moerun__shards_find(shards, name);
  unsigned char raw[4 * 64];
  if (tensor == NULL || norm == NULL ||
      moerun__shards_read(raw, shards, tensor, 0, tensor->bytes) != MOERUN_OK) {
    return 0;
  }
  moerun__dtype dtype = MOERUN_DTYPE_F32;
  if (!moerun__dtype_find(&dtype, tensor->dtype)) return 0;
  for (int64_t i = 0; i < tensor->shape[0]; i++) {
    if (norm[i] != moerun__element(raw, dtype, (size_t)i)) return 0;
  }
  return 1;
}

static int experts_hold(const moerun_model *model, const moerun__layer *layer,
                        const moerun__shards *shards, int32_t l,
                        const char *const *projection, const char *block) {
  int32_t experts[EXPERTS];
  const int32_t count = moerun__placement_experts(
      model->placement, layer->moe_layer, model->comm->rank, experts);
  int ok = count == layer->num_slots;
  for (int32_t s = 0; ok && s < count; s++) {
    char prefix[MOERUN_TENSOR_NAME];
    (void)snprintf(prefix, sizeof prefix, "model.layers.%d.%s.experts.%d.", l,
                   block, experts[s]);
    ok = holds(&layer->experts[s].gate_up, shards, projection, 2, prefix) &&
         holds(&layer->experts[s].down, shards, projection + 2, 1, prefix);
  }
  return ok;
}

/* Shared experts and the bias of the choice. */
static int shared_holds(const moerun_model *model, const moerun__layer *layer,
                        const moerun__shards *shards, const char *prefix) {
  static const char *const parts[] = {"gate_proj.weight", "up_proj.weight",
                                      "down_proj.weight"};
  static const char *const weight[] = {"mlp.shared_expert_gate.weight"};
  const moerun__model_config *config = &model->config;
  char block[2 * MOERUN_TENSOR_NAME];
  int ok = 1;
  (void)snprintf(block, sizeof block, "%smlp.%s.", prefix,
                 config->shared_is_weighted ? "shared_expert"
                                            : "shared_experts");
  if (config->shared_width > 0) {
    ok = holds(&layer->shared.gate_up, shards, parts, 2, block) &&
         holds(&layer->shared.down, shards, parts + 2, 1, block);
  }
  if (config->shared_is_weighted) {
    ok = ok && holds(&layer->shared_weight, shards, weight, 1, prefix);
  }
  if (config->has_choice_bias) {
    ok = ok && norm_holds(layer->choice_bias, shards, prefix,
                          "mlp.gate.e_score_correction_bias");
  }
  return ok &&
         (config->shared_width > 0) == (layer->shared.gate_up.panels != NULL);
}

/* A part of attention against the tensors that its kind names, in this
 * order. */
static int attention_part_holds(const moerun__attention_weight *weight,
                                const moerun__attention_kind *kind,
                                const moerun__attention_part *part,
                                const moerun__shards *shards,
                                const char *prefix) {
  const char *names[MOERUN_MAX_PARTS];
  const float *at = weight->vector;
  int ok = 1;
  for (int32_t i = 0; i < part->count; i++) {
    names[i] = kind->tensors[part->first + i].suffix;
  }
  if (part->form == MOERUN_ATTENTION_MATRIX) {
    return weight->vector == NULL &&
           holds(&weight->matrix, shards, names, part->count, prefix);
  }
  for (int32_t i = 0; ok && i < part->count; i++) {
    char name[2 * MOERUN_TENSOR_NAME];
    (void)snprintf(name, sizeof name, "%s%s", prefix, names[i]);
    ok = norm_holds(at, shards, prefix, names[i]);
    if (ok) at += moerun__shards_find(shards, name)->shape[0];
  }
  return ok && weight->matrix.panels == NULL;
}

static int attention_holds(const moerun_model *model,
                           const moerun__layer *layer,
                           const moerun__shards *shards, const char *prefix) {
  const moerun__attention_kind *kind = model->config.attention;
  int ok = 1;
  for (int32_t p = 0; p < MOERUN_ATTENTION_WEIGHTS; p++) {
    const moerun__attention_weight *weight = &layer->attention[p];
    if (model->moe_only || p >= kind->num_parts ||
        !kind->has(&model->config, p)) {
      ok = ok && weight->matrix.panels == NULL && weight->vector == NULL;
    } else {
      ok = ok &&
           attention_part_holds(weight, kind, &kind->parts[p], shards, prefix);
    }
  }
  return ok;
}

/* Constant experts: every rank has all of them. */
static int constants_hold(const moerun_model *model, const moerun__layer *layer,
                          const moerun__shards *shards, int32_t l,
                          const char *block) {
  const int32_t count = model->config.num_home[MOERUN_HOME_CONSTANT];
  char name[MOERUN_MAX_CONSTANTS][MOERUN_TENSOR_NAME];
  const char *mix[MOERUN_MAX_CONSTANTS];
  int ok = count > 0 || (layer->mix.panels == NULL && layer->constant == NULL);
  for (int32_t e = 0; e < count; e++) {
    char prefix[MOERUN_TENSOR_NAME];
    (void)snprintf(prefix, sizeof prefix,
                   "model.layers.%d.%s.constant_experts.%d.", l, block, e);
    (void)snprintf(name[e], sizeof name[e],
                   "model.layers.%d.%s.constant_experts.%d.gate.weight", l,
                   block, e);
    mix[e] = name[e];
    ok = ok &&
         norm_holds(layer->constant + (size_t)e * H, shards, prefix, "vector");
  }
  return ok && (count == 0 || holds(&layer->mix, shards, mix, count, ""));
}

static int layer_holds(const moerun_model *model, const moerun__shards *shards,
                       int32_t l, const char *block,
                       const char *const *projection) {
  static const char *const dense[] = {
      "mlp.gate_proj.weight", "mlp.up_proj.weight", "mlp.down_proj.weight"};
  const moerun__layer *layer = &model->layers[l];
  char prefix[MOERUN_TENSOR_NAME];
  char gate[MOERUN_TENSOR_NAME];
  const char *const gates[] = {gate};
  (void)snprintf(prefix, sizeof prefix, "model.layers.%d.", l);
  (void)snprintf(gate, sizeof gate, "%s.gate.weight", block);
  int ok = attention_holds(model, layer, shards, prefix);
  if (model->moe_only) {
    ok = ok && layer->attention_norm == NULL;
  } else {
    ok = ok &&
         norm_holds(layer->attention_norm, shards, prefix,
                    "input_layernorm.weight") &&
         norm_holds(layer->ffn_norm, shards, prefix,
                    "post_attention_layernorm.weight");
  }
  if (layer->moe_layer < 0) {
    return ok && (model->moe_only ||
                  (holds(&layer->dense.gate_up, shards, dense, 2, prefix) &&
                   holds(&layer->dense.down, shards, dense + 2, 1, prefix)));
  }
  return ok && holds(&layer->gate, shards, gates, 1, prefix) &&
         shared_holds(model, layer, shards, prefix) &&
         constants_hold(model, layer, shards, l, block) &&
         experts_hold(model, layer, shards, l, projection, block);
}

/* The predicted shape is that of all experts, here or not. */
static int experts_are_of(const moerun_model *model,
                          const moerun__expert_shape *expert) {
  int ok = 1;
  for (int32_t l = 0; l < model->config.num_moe_layers; l++) {
    moerun__expert_shape found;
    const int agreed =
        moerun__model_expert_shape(&found, model, l) == MOERUN_OK;
    ok &= agreed && memcmp(&found, expert, sizeof found) == 0;
  }
  return ok;
}

/* The model against the files, in the hub's layout. */
static int model_holds(const moerun_model *model, const char *path) {
  static const char *const llama[] = {"gate_proj.weight", "up_proj.weight",
                                      "down_proj.weight"};
  static const char *const mistral[] = {"w1.weight", "w3.weight", "w2.weight"};
  static const char *const embedding[] = {"model.embed_tokens.weight"};
  static const char *const head[] = {"lm_head.weight"};
  const int is_mixtral =
      strcmp(moerun__arch_name(model->config.arch), "mixtral") == 0;
  const char *block = is_mixtral ? "block_sparse_moe" : "mlp";
  moerun__shards *shards = NULL;
  if (moerun__shards_load(&shards, path) != MOERUN_OK) return 0;
  int ok = 1;
  for (int32_t l = 0; ok && l < LAYERS; l++) {
    ok = layer_holds(model, shards, l, block, is_mixtral ? mistral : llama);
  }
  if (!model->moe_only) {
    ok =
        ok && holds(&model->embedding, shards, embedding, 1, "") &&
        norm_holds(model->final_norm, shards, "", "model.norm.weight") &&
        (model->config.tied_head ? model->head.panels == model->embedding.panels
                                 : holds(&model->head, shards, head, 1, ""));
  }
  moerun__shards_destroy(shards);
  return ok;
}

/* ---- Tests --------------------------------------------------------------- */

/* What was told of bytes. */
typedef struct heard {
  int64_t done;
  int64_t all;
  int falls; /* it went back, beyond its end, or its end changed */
} heard;

static void hear(void *context, int64_t done, int64_t all) {
  heard *h = context;
  h->falls |= done <= h->done || done > all || (h->all != 0 && all != h->all);
  h->done = done;
  h->all = all;
}

static void check_world(moerun__synth_options options, int32_t moe_only) {
  world w;
  heard told = {0};
  const moerun__byte_watch watch = {&told, hear};
  open_world(&w, options);
  const moerun_model_options model_options = {
      .struct_size = sizeof model_options, .moe_only = moe_only};
  moerun__model_size size;
  moerun_model *model = NULL;
  const size_t live = moerun__alloc_live();
  const size_t bytes = moerun__alloc_live_bytes();
  assert_all_ok(moerun__model_size_load(&size, w.path, w.placement, test_rank(),
                                        moe_only));
  assert_all_ranks(moerun__alloc_live() == live);
  if (moe_only) {
    assert_all_ok(
        moerun_model_load(&model, w.comm, w.placement, w.path, &model_options));
  } else {
    assert_all_ok(moerun__model_load_watched(&model, w.comm, w.placement,
                                             w.path, &watch));
    assert_all_ranks(!told.falls && told.all > 0 && told.done == told.all);
  }
  assert_all_ranks(moerun__alloc_live_bytes() - bytes == size.weight_bytes);
  assert_all_ranks(model->weight_bytes == size.weight_bytes);
  assert_all_ranks(model->expert_bytes == size.expert_bytes);
  assert_all_ranks(experts_are_of(model, &size.expert));
  assert_all_ranks(size.staging_bytes > 0);
  assert_all_ranks(model_holds(model, w.path));
  moerun_model_destroy(model);
  assert_all_ranks(moerun__alloc_live() == live);
  close_world(&w);
}

static void families_load_whole(void **state) {
  (void)state;
  static const char *const archs[] = {"qwen3_moe", "mixtral", "olmoe",
                                      "qwen2_moe", "dots1"};
  static const moerun__dtype dtypes[] = {MOERUN_DTYPE_BF16, MOERUN_DTYPE_F32,
                                         MOERUN_DTYPE_F16, MOERUN_DTYPE_BF16,
                                         MOERUN_DTYPE_F32};
  for (int a = 0; a < 5; a++) {
    moerun__synth_options options = small;
    options.arch = archs[a];
    options.dtype = dtypes[a];
    options.num_dense = a != 1 && a != 2;
    options.shared_experts = 2;
    options.tied_head = a == 0;
    options.files.shard_bytes = a == 1 ? 30000 : 0;
    check_world(options, 0);
    check_world(options, 1);
  }
}

/* As many constant experts as there may be, and the other kinds. */
static void experts_at_home_load_whole(void **state) {
  (void)state;
  static const char *const archs[] = {"qwen3_moe", "mixtral"};
  for (int a = 0; a < 2; a++) {
    moerun__synth_options options = small;
    options.arch = archs[a];
    options.dtype = a == 0 ? MOERUN_DTYPE_BF16 : MOERUN_DTYPE_F32;
    options.num_dense = a == 0;
    options.num_home[MOERUN_HOME_NULL] = 3;
    options.num_home[MOERUN_HOME_COPY] = 1;
    options.num_home[MOERUN_HOME_CONSTANT] = a == 0 ? MOERUN_MAX_CONSTANTS : 1;
    check_world(options, 0);
    check_world(options, 1);
  }
}

/* The embedding is larger than the staging buffer. */
static void large_tensors_come_in_pieces(void **state) {
  (void)state;
  moerun__synth_options options = small;
  options.arch = "olmoe";
  options.dtype = MOERUN_DTYPE_F32;
  options.tied_head = 1; /* one tensor is enough */
  options.vocab_size = 30000;
  check_world(options, 0);
}

/* FNV of an expert's two packed weights. */
static int64_t expert_digest(const moerun__layer *layer, int32_t slot) {
  uint64_t digest = MOERUN_DIGEST_START;
  const moerun__expert *expert = &layer->experts[slot];
  const moerun__weight *weights[] = {&expert->gate_up, &expert->down};
  for (int i = 0; i < 2; i++) {
    const size_t count = moerun__weight_bytes(
        weights[i]->dtype, weights[i]->num_outputs, weights[i]->num_inputs);
    digest = moerun__digest_bytes(digest, weights[i]->panels, count);
  }
  return (int64_t)(digest >> 1);
}

/* Digests of all experts; those hosted elsewhere come by a maximum over ranks,
 * and where several ranks host one (replicas) minimum and maximum agree. */
static void all_digests(int64_t *out, const moerun_model *model) {
  int64_t low[LAYERS * EXPERTS];
  int64_t high[LAYERS * EXPERTS];
  for (int i = 0; i < LAYERS * EXPERTS; i++) {
    low[i] = INT64_MAX;
    high[i] = -1;
  }
  for (int32_t l = 0; l < LAYERS; l++) {
    int32_t experts[EXPERTS];
    const int32_t count = moerun__placement_experts(model->placement, l,
                                                    model->comm->rank, experts);
    for (int32_t s = 0; s < count; s++) {
      const int at = l * EXPERTS + experts[s];
      low[at] = high[at] = expert_digest(&model->layers[l], s);
    }
  }
  int64_t lowest[LAYERS * EXPERTS];
  (void)MPI_Allreduce(low, lowest, LAYERS * EXPERTS, MPI_INT64_T, MPI_MIN,
                      MPI_COMM_WORLD);
  (void)MPI_Allreduce(high, out, LAYERS * EXPERTS, MPI_INT64_T, MPI_MAX,
                      MPI_COMM_WORLD);
  assert_all_ranks(memcmp(lowest, out, sizeof lowest) == 0);
}

/* Blocks, all on the last rank, round robin, and every expert everywhere; the
 * fused layout as well: each expert has the same packed bytes. */
static void experts_are_the_same_wherever_they_are(void **state) {
  (void)state;
  int64_t want[LAYERS * EXPERTS];
  int64_t got[LAYERS * EXPERTS];
  const int32_t R = test_size();
  int32_t offset[LAYERS * EXPERTS + 1];
  int32_t rank_of[LAYERS * EXPERTS * 8];
  for (int way = 0; way < 5; way++) {
    world w;
    moerun__synth_options options = small;
    moerun_model *model = NULL;
    int32_t replicas = 0;
    options.arch = "mixtral";
    options.dtype = MOERUN_DTYPE_BF16;
    options.fused = way == 4;
    open_world(&w, options);
    for (int i = 0; i < LAYERS * EXPERTS; i++) {
      offset[i] = replicas;
      for (int32_t r = 0; r < (way == 3 ? R : 1); r++) {
        rank_of[replicas++] = way == 1 ? R - 1 : way == 2 ? i % R : r;
      }
    }
    offset[LAYERS * EXPERTS] = replicas;
    if (way >= 1 && way <= 3) {
      moerun_placement_destroy(w.placement);
      w.placement = NULL;
      assert_all_ok(moerun__placement_create(&w.placement, LAYERS, EXPERTS, R,
                                             offset, rank_of, "test"));
    }
    assert_all_ok(moerun_model_load(&model, w.comm, w.placement, w.path, NULL));
    assert_all_ranks(
        (model->expert_bytes == 0) ==
        (moerun__placement_max_slots(w.placement, test_rank()) == 0));
    all_digests(way == 0 ? want : got, model);
    if (way > 0) assert_all_ranks(memcmp(want, got, sizeof want) == 0);
    moerun_model_destroy(model);
    close_world(&w);
  }
}

int main(int argc, char **argv) {
  (void)MPI_Init(&argc, &argv);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(families_load_whole),
      cmocka_unit_test(experts_at_home_load_whole),
      cmocka_unit_test(large_tensors_come_in_pieces),
      cmocka_unit_test(experts_are_the_same_wherever_they_are),
  };
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)MPI_Finalize();
  return failed;
}
