/* A model of a checkpoint: how many bytes it takes, its loading, and the
 * agreement of all ranks on the result. model_walk.h knows which tensors make
 * which weight. */
#include "runtime/model/model.h"

#include "runtime/base/file.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/base/sized.h"
#include "runtime/model/model_walk.h"
#include "runtime/model/same_model.h"

#include <string.h>

/* ---- Before any weight is read ------------------------------------------- */

moerun_status moerun__model_placement_check(const moerun__model_config *config,
                                            const moerun_placement *placement,
                                            const char *origin) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(placement->num_layers == config->num_moe_layers &&
                     placement->num_experts == config->num_experts,
                 MOERUN_ERR_SHAPE,
                 "placement: expected %d layers x %d experts for %s, found "
                 "%d x %d",
                 config->num_moe_layers, config->num_experts, origin,
                 placement->num_layers, placement->num_experts);
done:
  return status;
}

moerun_status moerun__model_ranks_check(const moerun_placement *placement,
                                        const moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(placement != NULL, MOERUN_ERR_INVALID,
                 "the placement is NULL");
  MOERUN_REQUIRE(placement->num_ranks == comm->size, MOERUN_ERR_SHAPE,
                 "placement: expected %d ranks, found %d", comm->size,
                 placement->num_ranks);
done:
  return status;
}

moerun_status moerun__model_size_load(moerun__model_size *out, const char *path,
                                      const moerun_placement *placement,
                                      int32_t rank, int32_t moe_only) {
  moerun_status status = MOERUN_OK;
  moerun__model_config config = {0};
  moerun__model_walk walk = {0};
  memset(out, 0, sizeof *out);
  MOERUN_REQUIRE(rank >= 0 && rank < placement->num_ranks, MOERUN_ERR_INVALID,
                 "placement: expected a rank 0 to %d, found %d",
                 placement->num_ranks - 1, rank);
  MOERUN_TRY(
      moerun__model_walk_open(&walk, &config, path, placement, rank, moe_only));
  out->weight_bytes = walk.reader.bytes;
  out->expert_bytes = walk.expert_bytes;
  out->expert = walk.largest;
  out->tied_head = config.tied_head;
  out->staging_bytes = moerun__alloc_bytes(MOERUN_STAGING_BYTES, 1) +
                       moerun__shards_bytes(walk.shards);
done:
  moerun__model_walk_clear(&walk);
  moerun__model_config_clear(&config);
  return status;
}

moerun_status moerun_model_shape_load(moerun_model_shape *out,
                                      const char *path) {
  moerun_status status = MOERUN_OK;
  static const char type[] = "moerun_model_shape";
  static const moerun_model_shape none;
  moerun__model_config config = {0};
  MOERUN_TRY(moerun__sized_write(out, &none, sizeof none, type));
  MOERUN_TRY(moerun__path_check(path, "moerun_model_shape_load"));
  MOERUN_TRY(moerun__model_config_load(&config, path));
  const moerun_model_shape shape = {.num_layers = config.num_layers,
                                    .num_moe_layers = config.num_moe_layers,
                                    .num_experts = config.num_experts,
                                    .experts_per_token =
                                        config.experts_per_token,
                                    .hidden_width = config.hidden_width,
                                    .expert_width = config.expert_width,
                                    .vocab_size = config.vocab_size,
                                    .max_positions = config.max_positions};
  MOERUN_TRY(moerun__sized_write(out, &shape, sizeof shape, type));
done:
  moerun__model_config_clear(&config);
  return status;
}

/* ---- Loading ------------------------------------------------------------- */

static void warn_of_heads(const moerun_model *model, const char *path) {
  const moerun__weight *a = &model->embedding;
  const moerun__weight *b = &model->head;
  const size_t bytes =
      moerun__weight_bytes(a->dtype, a->num_outputs, a->num_inputs);
  if (a->dtype == b->dtype && memcmp(a->panels, b->panels, bytes) == 0) return;
  LOG_ROOT(MOERUN_LOG_WARN,
           "%s: config.json says tie_word_embeddings, but lm_head.weight is "
           "stored and differs from model.embed_tokens.weight: both are used",
           path);
}

/* This rank's part before any communication. */
static moerun_status open_model(moerun_model **out, moerun__model_walk *walk,
                                moerun_comm *comm,
                                const moerun_placement *placement,
                                const char *path, int32_t moe_only) {
  moerun_status status = MOERUN_OK;
  moerun_model *model = NULL;
  MOERUN_TRY(moerun__alloc(out, 1, sizeof **out));
  model = *out;
  model->comm = comm;
  model->placement = placement;
  model->moe_only = moe_only;
  MOERUN_TRY(moerun__path_check(path, "moerun_model_load"));
  MOERUN_TRY(moerun__model_ranks_check(placement, comm));
  MOERUN_TRY(moerun__model_walk_open(walk, &model->config, path, placement,
                                     comm->rank, moe_only));
  MOERUN_TRY(moerun__model_walk_stage(walk));
done:
  return status;
}

static moerun_status load(moerun_model **out, moerun_comm *comm,
                          const moerun_placement *placement, const char *path,
                          int32_t moe_only, const moerun__byte_watch *watch) {
  moerun_status status = MOERUN_OK;
  moerun_model *model = NULL;
  moerun__model_walk walk = {0};
  *out = NULL;
  MOERUN_TRY(moerun__comm_agree(
      comm, open_model(&model, &walk, comm, placement, path, moe_only)));
  const moerun__model_identity identity = {.config = &model->config,
                                           .shards = walk.shards,
                                           .placement = placement,
                                           .moe_only = moe_only,
                                           .path = path};
  MOERUN_TRY(moerun__comm_agree(comm, moerun__same_model(comm, &identity)));
  moerun__unused_say(&walk.unused, path);
  MOERUN_TRY(moerun__model_walk_read(model, &walk, comm, watch));
  MOERUN_TRY(moerun__weights_digest_agree(&model->digest, comm, &walk.digest,
                                          moerun__shards_digest(walk.shards),
                                          path));
  if (walk.has_both_heads && !moe_only) warn_of_heads(model, path);
  model->weight_bytes = walk.reader.bytes;
  model->expert_bytes = walk.expert_bytes;
  *out = model;
  model = NULL;
done:
  moerun__model_walk_clear(&walk);
  moerun_model_destroy(model);
  return status;
}

moerun_status moerun_model_load(moerun_model **out, moerun_comm *comm,
                                const moerun_placement *placement,
                                const char *path,
                                const moerun_model_options *options) {
  moerun_model_options asked = {0};
  moerun_status status = MOERUN_OK;
  *out = NULL;
  if (options != NULL) {
    status = moerun__sized_read(&asked, sizeof asked, options,
                                "moerun_model_options");
  }
  if (status != MOERUN_OK) return moerun__comm_agree(comm, status);
  return load(out, comm, placement, path, asked.moe_only != 0, NULL);
}

moerun_status moerun__model_load_watched(moerun_model **out, moerun_comm *comm,
                                         const moerun_placement *placement,
                                         const char *path,
                                         const moerun__byte_watch *watch) {
  return load(out, comm, placement, path, 0, watch);
}

/* ---- What it is ---------------------------------------------------------- */

const moerun__layer *moerun__model_layer(const moerun_model *model,
                                         int32_t moe_layer) {
  const moerun__layer *layer = model->layers;
  while (layer->moe_layer != moe_layer) {
    layer++;
  }
  return layer;
}

/* The types of both pieces are agreed on as one number. */
moerun_status moerun__model_expert_shape(moerun__expert_shape *out,
                                         const moerun_model *model,
                                         int32_t moe_layer) {
  moerun_status status = MOERUN_OK;
  enum { TYPES = 256 };
  const moerun__layer *layer = moerun__model_layer(model, moe_layer);
  int64_t dtypes = INT64_MAX;
  if (layer->num_slots > 0) {
    dtypes = (int64_t)layer->experts[0].gate_up.dtype * TYPES +
             (int64_t)layer->experts[0].down.dtype;
  }
  MOERUN_TRY(model->comm->ops->minimum(model->comm, &dtypes));
  *out = moerun__expert_whole(&model->config, (moerun__dtype)(dtypes / TYPES));
  out->dtype[MOERUN_PIECE_DOWN] = (moerun__dtype)(dtypes % TYPES);
done:
  return status;
}

static void free_panels(const moerun__weight *weight) {
  moerun__free((void *)weight->panels);
}

void moerun_model_destroy(moerun_model *model) {
  if (model == NULL) return;
  for (int32_t l = 0; model->layers != NULL && l < model->config.num_layers;
       l++) {
    moerun__layer *layer = &model->layers[l];
    moerun__free(layer->attention_norm);
    for (int p = 0; p < MOERUN_ATTENTION_WEIGHTS; p++) {
      free_panels(&layer->attention[p].matrix);
      moerun__free(layer->attention[p].vector);
    }
    moerun__free(layer->ffn_norm);
    free_panels(&layer->gate);
    free_panels(&layer->mix);
    moerun__free(layer->constant);
    moerun__free(layer->choice_bias);
    free_panels(&layer->shared.gate_up);
    free_panels(&layer->shared.down);
    free_panels(&layer->shared_weight);
    moerun__experts_destroy(layer->experts);
    free_panels(&layer->dense.gate_up);
    free_panels(&layer->dense.down);
  }
  moerun__free(model->layers);
  if (!model->config.tied_head) free_panels(&model->head);
  free_panels(&model->embedding);
  moerun__free(model->final_norm);
  moerun__model_config_clear(&model->config);
  moerun__free(model);
}
