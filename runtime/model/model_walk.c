/* One walk over the layers serves twice: first counting (names, types and
 * shapes are checked before the first large allocation, and the sum is the size
 * that moerun__model_size_load reports), then reading.
 *
 * Each rank holds all weights but the experts whole, and of the experts those
 * that the placement puts on it, in slot order. */
#include "runtime/model/model_walk.h"

#include "runtime/base/memory.h"
#include "runtime/base/number.h"

#include <assert.h>
#include <string.h>

/* ---- Attention, dense layers --------------------------------------------- */

/* A weight of its own from one or more roles, joined along the outputs. */
static moerun_status visit_weight(moerun__weight *out,
                                  moerun__weight_reader *reader, int32_t layer,
                                  int num_roles, const moerun__role *roles) {
  moerun_status status = MOERUN_OK;
  moerun__tensor_parts parts = {0};
  void *panels = NULL;
  for (int i = 0; i < num_roles; i++) {
    MOERUN_TRY(moerun__reader_add(&parts, reader, roles[i], layer, 0));
  }
  MOERUN_TRY(moerun__reader_panels(&panels, reader, &parts));
  MOERUN_TRY(moerun__reader_pack(out, reader, panels, &parts));
done:
  return status;
}

static moerun_status visit_attention_part(moerun__attention_weight *out,
                                          moerun__weight_reader *reader,
                                          int32_t l,
                                          const moerun__attention_part *part) {
  moerun_status status = MOERUN_OK;
  moerun__role roles[MOERUN_MAX_PARTS] = {part->joined};
  assert(part->count <= MOERUN_MAX_PARTS);
  const int is_joined = part->joined != MOERUN_ROLE_EMBEDDING &&
                        moerun__reader_find(reader, part->joined, l, 0) != NULL;
  const int32_t count = is_joined ? 1 : part->count;
  for (int32_t i = 0; !is_joined && i < count; i++) {
    roles[i] = reader->config->attention->tensors[part->first + i].role;
  }
  if (part->form == MOERUN_ATTENTION_MATRIX) {
    MOERUN_TRY(visit_weight(&out->matrix, reader, l, count, roles));
  } else {
    MOERUN_TRY(moerun__reader_join(&out->vector, reader, l, count, roles));
  }
done:
  return status;
}

/* One of a layer's norms, if the model has it. */
static moerun_status visit_norm(float **out, moerun__weight_reader *reader,
                                moerun__role role, int32_t l) {
  if (!moerun__config_has_norm(reader->config, role)) return MOERUN_OK;
  return moerun__reader_norm(out, reader, role, l);
}

static moerun_status visit_attention(moerun__layer *layer,
                                     moerun__weight_reader *reader, int32_t l) {
  moerun_status status = MOERUN_OK;
  const moerun__attention_kind *kind = reader->config->attention;
  MOERUN_TRY(visit_norm(&layer->attention_norm, reader,
                        MOERUN_ROLE_ATTENTION_NORM, l));
  MOERUN_TRY(visit_norm(&layer->attention_after, reader,
                        MOERUN_ROLE_ATTENTION_AFTER, l));
  for (int32_t p = 0; p < kind->num_parts; p++) {
    if (!kind->has(reader->config, p)) continue;
    MOERUN_TRY(
        visit_attention_part(&layer->attention[p], reader, l, &kind->parts[p]));
  }
  MOERUN_TRY(visit_norm(&layer->ffn_norm, reader, MOERUN_ROLE_FFN_NORM, l));
  MOERUN_TRY(visit_norm(&layer->ffn_after, reader, MOERUN_ROLE_FFN_AFTER, l));
done:
  return status;
}

static moerun_status visit_dense(moerun__layer *layer,
                                 moerun__weight_reader *reader, int32_t l) {
  moerun_status status = MOERUN_OK;
  static const moerun__role gate_up[] = {MOERUN_ROLE_DENSE_GATE,
                                         MOERUN_ROLE_DENSE_UP};
  static const moerun__role down[] = {MOERUN_ROLE_DENSE_DOWN};
  MOERUN_TRY(visit_weight(&layer->dense.gate_up, reader, l, 2, gate_up));
  MOERUN_TRY(visit_weight(&layer->dense.down, reader, l, 1, down));
  layer->dense.columns = reader->config->dense_width;
done:
  return status;
}

/* Of an expert with these parts. */
static moerun__expert_shape note_shape(moerun__model_walk *walk,
                                       const moerun__tensor_parts *gate_up,
                                       const moerun__tensor_parts *down) {
  moerun__expert_shape shape =
      moerun__expert_whole(walk->reader.config, gate_up->dtype);
  shape.dtype[MOERUN_PIECE_DOWN] = down->dtype;
  if (moerun__expert_bytes(&shape) > moerun__expert_bytes(&walk->largest)) {
    walk->largest = shape;
  }
  return shape;
}

/* Memory for all experts of this rank in the layer, shaped like the first. */
static moerun_status visit_blocks(moerun__layer *layer,
                                  moerun__model_walk *walk, int32_t l,
                                  moerun__tensor_parts *gate_up,
                                  moerun__tensor_parts *down) {
  moerun_status status = MOERUN_OK;
  moerun__weight_reader *reader = &walk->reader;
  const size_t L = (size_t)layer->num_slots;
  MOERUN_TRY(moerun__reader_expert(gate_up, down, reader, l, walk->experts[0]));
  const moerun__expert_shape shape = note_shape(walk, gate_up, down);
  const size_t bytes = moerun__experts_bytes(&shape, L);
  walk->expert_bytes += bytes;
  reader->bytes += bytes;
  if (reader->counting) goto done;
  MOERUN_TRY(moerun__experts_create(&layer->experts, &shape, L));
done:
  return status;
}

/* One of an expert's weights, which has its panels; NULL when counting.
 * `first`: what those of the layer were shaped by. */
static moerun_status visit_piece(moerun__weight *weight,
                                 const moerun__weight_reader *reader,
                                 const moerun__tensor_parts *parts,
                                 const moerun__tensor_parts *first) {
  moerun_status status = MOERUN_OK;
  moerun__weight unused = {0};
  const moerun__tensor *tensor = parts->part[0].tensor;
  const moerun__tensor *before = first->part[0].tensor;
  MOERUN_REQUIRE(parts->dtype == first->dtype, MOERUN_ERR_UNSUPPORTED,
                 "%s: tensor \"%s\": expected %s as in \"%s\" (the experts of "
                 "a layer share a block), found %s",
                 moerun__shards_file(reader->shards, tensor), tensor->name,
                 before->dtype, before->name, tensor->dtype);
  if (weight == NULL) weight = &unused;
  MOERUN_TRY(
      moerun__reader_pack(weight, reader, (void *)weight->panels, parts));
done:
  return status;
}

static moerun_status visit_experts(moerun__layer *layer,
                                   moerun__model_walk *walk, int32_t l) {
  moerun_status status = MOERUN_OK;
  moerun__weight_reader *reader = &walk->reader;
  moerun__tensor_parts first[2];
  layer->num_slots = moerun__placement_experts(
      walk->placement, layer->moe_layer, walk->rank, walk->experts);
  if (layer->num_slots == 0) {
    /* Experts may come here later. */
    MOERUN_TRY(moerun__reader_expert(&first[0], &first[1], reader, l, 0));
    (void)note_shape(walk, &first[0], &first[1]);
    goto done;
  }
  MOERUN_TRY(visit_blocks(layer, walk, l, &first[0], &first[1]));
  for (int32_t s = 0; s < layer->num_slots; s++) {
    moerun__tensor_parts parts[2];
    MOERUN_TRY(moerun__reader_expert(&parts[0], &parts[1], reader, l,
                                     walk->experts[s]));
    reader->digest = &walk->digest.expert[walk->experts[s]];
    moerun__expert *expert = reader->counting ? NULL : &layer->experts[s];
    MOERUN_TRY(visit_piece(expert != NULL ? &expert->gate_up : NULL, reader,
                           &parts[0], &first[0]));
    MOERUN_TRY(visit_piece(expert != NULL ? &expert->down : NULL, reader,
                           &parts[1], &first[1]));
  }
  reader->digest = &walk->digest.shared;
done:
  return status;
}

/* What ranks can compare of experts that they do not hold. */
static moerun_status sample_experts(moerun__model_walk *walk, int32_t l) {
  moerun_status status = MOERUN_OK;
  const moerun__weight_reader *reader = &walk->reader;
  uint64_t *sum = &walk->digest.samples;
  if (reader->counting || walk->placement->num_ranks == 1) goto done;
  for (int32_t e = 0; e < reader->config->num_experts; e++) {
    moerun__tensor_parts parts[2];
    MOERUN_TRY(moerun__reader_expert(&parts[0], &parts[1], reader, l, e));
    MOERUN_TRY(moerun__reader_sample(sum, reader, &parts[0]));
    MOERUN_TRY(moerun__reader_sample(sum, reader, &parts[1]));
  }
done:
  return status;
}

/* Constant experts are small: every rank holds all of them. */
static moerun_status visit_constants(moerun__layer *layer,
                                     moerun__weight_reader *reader, int32_t l) {
  moerun_status status = MOERUN_OK;
  const int32_t count = reader->config->num_home[MOERUN_HOME_CONSTANT];
  moerun__tensor_parts parts = {0};
  void *panels = NULL;
  if (count == 0) goto done;
  for (int32_t e = 0; e < count; e++) {
    MOERUN_TRY(
        moerun__reader_add(&parts, reader, MOERUN_ROLE_CONSTANT_MIX, l, e));
  }
  MOERUN_TRY(moerun__reader_panels(&panels, reader, &parts));
  MOERUN_TRY(moerun__reader_pack(&layer->mix, reader, panels, &parts));
  MOERUN_TRY(moerun__reader_vectors(&layer->constant, reader,
                                    MOERUN_ROLE_CONSTANT, l, count));
done:
  return status;
}

/* The gate, and the shared experts: every rank holds them. */
static moerun_status visit_gate(moerun__layer *layer,
                                moerun__weight_reader *reader, int32_t l) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = reader->config;
  static const moerun__role gate[] = {MOERUN_ROLE_GATE};
  static const moerun__role bias[] = {MOERUN_ROLE_CHOICE_BIAS};
  static const moerun__role gate_up[] = {MOERUN_ROLE_SHARED_GATE,
                                         MOERUN_ROLE_SHARED_UP};
  static const moerun__role fused[] = {MOERUN_ROLE_SHARED_GATE_UP};
  static const moerun__role down[] = {MOERUN_ROLE_SHARED_DOWN};
  static const moerun__role weight[] = {MOERUN_ROLE_SHARED_WEIGHT};
  MOERUN_TRY(visit_weight(&layer->gate, reader, l, 1, gate));
  if (config->has_choice_bias) {
    MOERUN_TRY(moerun__reader_join(&layer->choice_bias, reader, l, 1, bias));
  }
  if (config->shared_width == 0) goto done;
  const int is_fused =
      moerun__arch_spells(config->arch, MOERUN_ROLE_SHARED_GATE_UP);
  MOERUN_TRY(visit_weight(&layer->shared.gate_up, reader, l, is_fused ? 1 : 2,
                          is_fused ? fused : gate_up));
  MOERUN_TRY(visit_weight(&layer->shared.down, reader, l, 1, down));
  layer->shared.columns = config->shared_width;
  if (config->shared_is_weighted) {
    MOERUN_TRY(visit_weight(&layer->shared_weight, reader, l, 1, weight));
  }
done:
  return status;
}

static moerun_status visit_layer(moerun__layer *layer, moerun__model_walk *walk,
                                 int32_t l) {
  moerun_status status = MOERUN_OK;
  moerun__weight_reader *reader = &walk->reader;
  layer->moe_layer = reader->config->moe_layer[l];
  if (!walk->moe_only) MOERUN_TRY(visit_attention(layer, reader, l));
  if (layer->moe_layer >= 0) {
    MOERUN_TRY(visit_gate(layer, reader, l));
    MOERUN_TRY(visit_constants(layer, reader, l));
    MOERUN_TRY(visit_experts(layer, walk, l));
    MOERUN_TRY(sample_experts(walk, l));
  } else if (!walk->moe_only) {
    MOERUN_TRY(visit_dense(layer, reader, l));
  }
done:
  return status;
}

/* Step 0 is what comes before the layers, steps 1 .. num_layers are layers, the
 * next one is what follows. When counting, model->layers stays NULL. */
static moerun_status visit_step(moerun_model *model, moerun__model_walk *walk,
                                int32_t step) {
  moerun_status status = MOERUN_OK;
  moerun__weight_reader *reader = &walk->reader;
  const int32_t num_layers = reader->config->num_layers;
  static const moerun__role head[] = {MOERUN_ROLE_HEAD};
  moerun__layer unused = {0};
  if (step == 0) {
    MOERUN_TRY(moerun__reader_array(&model->layers, reader, (size_t)num_layers,
                                    sizeof *model->layers));
    if (walk->moe_only) goto done;
    MOERUN_TRY(visit_weight(&model->embedding, reader, 0, 1, &walk->embedding));
  } else if (step <= num_layers) {
    MOERUN_TRY(visit_layer(
        reader->counting ? &unused : &model->layers[step - 1], walk, step - 1));
  } else if (!walk->moe_only) {
    MOERUN_TRY(moerun__reader_norm(&model->final_norm, reader,
                                   MOERUN_ROLE_FINAL_NORM, 0));
    if (reader->config->tied_head) {
      model->head = model->embedding;
    } else {
      MOERUN_TRY(visit_weight(&model->head, reader, 0, 1, head));
    }
  }
done:
  return status;
}

/* ---- All layers ---------------------------------------------------------- */

/* [collective] with a comm. All ranks agree after every step: a rank that
 * fails stops all at once, and one that reads slowly keeps nobody waiting for
 * longer than a layer (waits have a time limit). */
static moerun_status visit_model(moerun_model *model, moerun__model_walk *walk,
                                 moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = walk->reader.config;
  assert(config != NULL);
  walk->expert_bytes = 0;
  walk->reader.bytes = moerun__alloc_bytes(1, sizeof *model) +
                       moerun__alloc_bytes((size_t)config->num_layers,
                                           sizeof *config->moe_layer);
  if (config->attention_layer != NULL) {
    walk->reader.bytes += moerun__alloc_bytes((size_t)config->num_layers,
                                              sizeof *config->attention_layer);
  }
  for (int32_t step = 0; step < config->num_layers + 2; step++) {
    moerun_status verdict = visit_step(model, walk, step);
    if (comm != NULL) verdict = moerun__comm_agree(comm, verdict);
    MOERUN_TRY(verdict);
    const int32_t l = step - 1;
    if (comm == NULL || l < 0 || l >= config->num_layers) continue;
    if (config->moe_layer[l] < 0) continue;
    MOERUN_TRY(moerun__weights_digest_layer(
        &walk->digest, comm, walk->placement, config->moe_layer[l], l,
        walk->reader.path));
  }
done:
  return status;
}

/* ---- One tensor or two --------------------------------------------------- */

static int is_stored(const moerun__weight_reader *reader, moerun__role role) {
  return moerun__reader_find(reader, role, 0, 0) != NULL;
}

/* What tie_word_embeddings means beside what is stored, as in transformers 5:
 * of a tensor that is both embedding and head either name may be there, and a
 * head that is stored beside the embedding is used whatever the key says. */
static void resolve_head(moerun__model_walk *walk,
                         moerun__model_config *config) {
  const moerun__weight_reader *reader = &walk->reader;
  walk->embedding = MOERUN_ROLE_EMBEDDING;
  walk->has_both_heads = 0;
  if (!config->tied_head || !is_stored(reader, MOERUN_ROLE_HEAD)) return;
  if (is_stored(reader, MOERUN_ROLE_EMBEDDING)) {
    config->tied_head = 0;
    walk->has_both_heads = 1;
  } else {
    walk->embedding = MOERUN_ROLE_HEAD;
  }
}

/* ---- Open, read, clear --------------------------------------------------- */

moerun_status moerun__model_walk_open(moerun__model_walk *walk,
                                      moerun__model_config *config,
                                      const char *path,
                                      const moerun_placement *placement,
                                      int32_t rank, int32_t moe_only) {
  moerun_status status = MOERUN_OK;
  moerun_model counted = {0};
  memset(walk, 0, sizeof *walk);
  walk->placement = placement;
  walk->rank = rank;
  walk->moe_only = moe_only;
  MOERUN_TRY(moerun__model_config_load(config, path));
  MOERUN_TRY(moerun__model_placement_check(config, placement, path));
  MOERUN_TRY(moerun__shards_load(&walk->shards, path));
  const int32_t most = moerun__placement_max_slots(placement, rank);
  MOERUN_TRY(
      moerun__alloc(&walk->experts, (size_t)most, sizeof *walk->experts));
  MOERUN_TRY(moerun__alloc(&walk->digest.expert, (size_t)placement->num_experts,
                           sizeof *walk->digest.expert));
  walk->reader.path = path;
  walk->reader.config = config;
  walk->reader.shards = walk->shards;
  walk->reader.counting = 1;
  walk->reader.reading = &walk->reading;
  resolve_head(walk, config);
  MOERUN_TRY(visit_model(&counted, walk, NULL));
  MOERUN_TRY(moerun__unused_find(&walk->unused, &walk->reader));
done:
  return status;
}

moerun_status moerun__model_walk_stage(moerun__model_walk *walk) {
  return moerun__alloc_unset(&walk->reader.staging, MOERUN_STAGING_BYTES, 1);
}

moerun_status moerun__model_walk_read(moerun_model *model,
                                      moerun__model_walk *walk,
                                      moerun_comm *comm,
                                      const moerun__byte_watch *watch) {
  walk->reading.watch = watch;
  walk->reader.counting = 0;
  walk->reader.digest = &walk->digest.shared;
  return visit_model(model, walk, comm);
}

void moerun__model_walk_clear(moerun__model_walk *walk) {
  moerun__free(walk->reader.staging);
  moerun__free(walk->experts);
  moerun__free(walk->digest.expert);
  moerun__shards_destroy(walk->shards);
}
