/* Models from the caller's memory: MoE layers alone, without files or a
 * decoder.
 *
 * The caller is asked for each expert that the placement puts on this rank, in
 * slot order, and its arrays are packed at once. Frameworks keep experts in one
 * stacked array a layer, in one array each, or make them one by one from
 * elsewhere; a function serves all three, needs to know of no slots or
 * replicas, and never has more than one expert twice in memory.
 *
 * As with files, all ranks agree after every layer: a rank whose caller fails
 * stops all at once. */
#include "runtime/model/model.h"

#include "runtime/base/limits.h"
#include "runtime/base/memory.h"
#include "runtime/base/sized.h"
#include "runtime/model/arch_row.h"
#include "runtime/model/same_model.h"
#include "runtime/model/weight_reader.h"

#include <stdio.h>
#include <string.h>

static const char source_name[] = "moerun_model_source";

typedef struct creation {
  moerun_model *model;
  const moerun_model_source *source;
  moerun__dtype dtype; /* of experts */
  moerun__dtype gate_dtype;
  int32_t *experts; /* [most slots of this rank] */
  moerun__weights_digest digest;
} creation;

/* ---- Sizes --------------------------------------------------------------- */

static moerun_status check_size(int32_t value, int32_t high, const char *name) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(value >= 1 && value <= high, MOERUN_ERR_INVALID,
                 "%s: %s: expected 1 to %d, found %d", source_name, name, high,
                 value);
done:
  return status;
}

/* Types whose factors stand beside the elements would need arrays for them. */
static moerun_status find_dtype(moerun__dtype *out, const char *name,
                                const char *member) {
  moerun_status status = MOERUN_OK;
  char names[MOERUN_DTYPE_NAMES];
  *out = MOERUN_DTYPE_F32;
  if (name == NULL) goto done;
  moerun__dtype_names(names);
  MOERUN_REQUIRE(
      moerun__dtype_find(out, name) && moerun__dtype_scales(*out, 1) == 0,
      MOERUN_ERR_UNSUPPORTED, "%s: %s: expected %s, found \"%.100s\"",
      source_name, member, names, name);
done:
  return status;
}

static moerun_status check_source(creation *c) {
  moerun_status status = MOERUN_OK;
  const moerun_model_source *source = c->source;
  const struct {
    int32_t value;
    int32_t high;
    const char *name;
  } sizes[] = {
      {source->num_moe_layers, MOERUN_PLACEMENT_MAX_LAYERS, "num_moe_layers"},
      {source->num_experts, MOERUN_MAX_EXPERTS, "num_experts"},
      {source->experts_per_token, MOERUN_MAX_TERMS, "experts_per_token"},
      {source->hidden_width, MOERUN_MAX_WIDTH, "hidden_width"},
      {source->expert_width, MOERUN_MAX_WIDTH, "expert_width"},
  };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    MOERUN_TRY(check_size(sizes[i].value, sizes[i].high, sizes[i].name));
  }
  MOERUN_REQUIRE(
      source->experts_per_token <= source->num_experts, MOERUN_ERR_INVALID,
      "%s: experts_per_token: expected at most the %d experts, found "
      "%d",
      source_name, source->num_experts, source->experts_per_token);
  MOERUN_REQUIRE(source->load_expert != NULL, MOERUN_ERR_INVALID,
                 "%s: load_expert is NULL", source_name);
  MOERUN_TRY(find_dtype(&c->dtype, source->dtype, "dtype"));
  MOERUN_TRY(find_dtype(&c->gate_dtype, source->gate_dtype, "gate_dtype"));
done:
  return status;
}

static moerun_status make_config(moerun__model_config *config,
                                 const moerun_model_source *source) {
  moerun_status status = MOERUN_OK;
  const size_t layers = (size_t)source->num_moe_layers;
  config->num_layers = source->num_moe_layers;
  config->num_moe_layers = source->num_moe_layers;
  config->num_experts = source->num_experts;
  config->experts_per_token = source->experts_per_token;
  config->hidden_width = source->hidden_width;
  config->expert_width = source->expert_width;
  config->attention = &moerun__attention_gqa; /* of no heads: no decoder */
  config->gate_rule.renormalise = source->renormalise != 0;
  config->gate_rule.scale = 1.0F;
  MOERUN_TRY(
      moerun__alloc(&config->moe_layer, layers, sizeof *config->moe_layer));
  for (int32_t l = 0; l < source->num_moe_layers; l++) {
    config->moe_layer[l] = l;
  }
done:
  return status;
}

/* This rank's part before any communication. */
static moerun_status begin(creation *c, moerun_comm *comm,
                           const moerun_placement *placement) {
  moerun_status status = MOERUN_OK;
  moerun_model *model = NULL;
  MOERUN_TRY(check_source(c));
  MOERUN_TRY(moerun__alloc(&c->model, 1, sizeof *c->model));
  model = c->model;
  model->comm = comm;
  model->placement = placement;
  model->moe_only = 1;
  MOERUN_TRY(make_config(&model->config, c->source));
  MOERUN_TRY(moerun__model_ranks_check(placement, comm));
  MOERUN_TRY(
      moerun__model_placement_check(&model->config, placement, source_name));
  const size_t layers = (size_t)model->config.num_layers;
  MOERUN_TRY(moerun__alloc(&model->layers, layers, sizeof *model->layers));
  for (int32_t l = 0; l < model->config.num_layers; l++) {
    model->layers[l].moe_layer = l;
  }
  model->weight_bytes =
      moerun__alloc_bytes(1, sizeof *model) +
      moerun__alloc_bytes(layers, sizeof *model->config.moe_layer) +
      moerun__alloc_bytes(layers, sizeof *model->layers);
  MOERUN_TRY(moerun__alloc(
      &c->experts, (size_t)moerun__placement_max_slots(placement, comm->rank),
      sizeof *c->experts));
  MOERUN_TRY(moerun__alloc(&c->digest.expert, (size_t)placement->num_experts,
                           sizeof *c->digest.expert));
done:
  return status;
}

/* ---- Arrays -------------------------------------------------------------- */

/* rows[num_rows][D] of the caller as outputs of the weight from `first` on.
 * name: of layer, expert and array, for messages and the digest. */
static moerun_status pack(const moerun__weight *weight, int32_t first,
                          int32_t num_rows, const void *rows, uint64_t *digest,
                          const char *name) {
  moerun_status status = MOERUN_OK;
  const moerun__dtype_row *type = moerun__dtype_at(weight->dtype);
  const size_t D = (size_t)weight->num_inputs;
  const size_t row_bytes = moerun__dtype_bytes(weight->dtype, D);
  const size_t blocks = row_bytes / (size_t)type->block_bytes;
  const char *row = rows;
  MOERUN_REQUIRE(rows != NULL, MOERUN_ERR_INVALID, "%s: the array is NULL",
                 name);
  for (int32_t i = 0; i < num_rows && type->first_unsound != NULL; i++) {
    const size_t bad = type->first_unsound(row, blocks);
    MOERUN_REQUIRE(
        bad == blocks * (size_t)type->block, MOERUN_ERR_INVALID,
        "%s: row %d, column %zu: expected a finite number, found NaN "
        "or infinity",
        name, i, bad);
    row += row_bytes;
  }
  moerun__digest_piece(digest, name, 0, rows, (size_t)num_rows * row_bytes);
  moerun__weight_pack((void *)weight->panels, weight->dtype, weight->num_inputs,
                      first, num_rows, rows);
done:
  return status;
}

enum { NAME_BYTES = 80 };

/* Of the caller's own function. */
static moerun_status call_failed(moerun_status returned, const char *name) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(returned <= MOERUN_OK && returned >= MOERUN_ERR_OUTPUT,
                 MOERUN_ERR_INVALID,
                 "%s: the caller returned %d: expected a moerun_status", name,
                 (int)returned);
  /* Of the codes, this one says that another rank's line tells the cause. */
  MOERUN_REQUIRE(returned == MOERUN_OK,
                 returned == MOERUN_ERR_PEER ? MOERUN_ERR_INVALID : returned,
                 "%s: the caller returned: %s", name,
                 moerun_status_string(returned));
done:
  return status;
}

static moerun_status load_gate(creation *c, int32_t l) {
  moerun_status status = MOERUN_OK;
  const moerun_model_source *source = c->source;
  moerun__weight *gate = &c->model->layers[l].gate;
  const int32_t H = source->hidden_width;
  const int32_t E = source->num_experts;
  const void *rows = NULL;
  char name[NAME_BYTES];
  if (source->load_gate == NULL) goto done;
  (void)snprintf(name, sizeof name, "load_gate: layer %d", l);
  MOERUN_TRY(call_failed(source->load_gate(source->context, l, &rows), name));
  const size_t bytes = moerun__weight_bytes(c->gate_dtype, E, H);
  void *panels = NULL;
  MOERUN_TRY(moerun__alloc_streamed(&panels, 1, bytes));
  *gate = moerun__weight_at(panels, c->gate_dtype, E, H);
  c->model->weight_bytes += moerun__alloc_bytes(1, bytes);
  moerun__clear_last_panel(gate);
  MOERUN_TRY(pack(gate, 0, E, rows, &c->digest.shared, name));
done:
  return status;
}

static moerun_status load_expert(creation *c, int32_t l, int32_t slot) {
  moerun_status status = MOERUN_OK;
  const moerun_model_source *source = c->source;
  const moerun__expert *to = &c->model->layers[l].experts[slot];
  const int32_t e = c->experts[slot];
  const int32_t H = source->hidden_width;
  const int32_t F = source->expert_width;
  uint64_t *digest = &c->digest.expert[e];
  moerun_expert_arrays arrays = {0};
  char name[NAME_BYTES];
  const struct {
    const char *name;
    const void **rows;
    const moerun__weight *weight;
    int32_t first;
    int32_t count;
  } parts[] = {{"gate", &arrays.gate, &to->gate_up, 0, F},
               {"up", &arrays.up, &to->gate_up, F, F},
               {"down", &arrays.down, &to->down, 0, H}};
  (void)snprintf(name, sizeof name, "load_expert: layer %d, expert %d", l, e);
  MOERUN_TRY(
      call_failed(source->load_expert(source->context, l, e, &arrays), name));
  moerun__clear_last_panel(&to->gate_up);
  moerun__clear_last_panel(&to->down);
  for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
    (void)snprintf(name, sizeof name, "load_expert: layer %d, expert %d, %s", l,
                   e, parts[i].name);
    MOERUN_TRY(pack(parts[i].weight, parts[i].first, parts[i].count,
                    *parts[i].rows, digest, name));
  }
done:
  return status;
}

static moerun_status load_layer(creation *c, int32_t l) {
  moerun_status status = MOERUN_OK;
  moerun_model *model = c->model;
  moerun__layer *layer = &model->layers[l];
  const moerun__expert_shape shape =
      moerun__expert_whole(&model->config, c->dtype);
  MOERUN_TRY(load_gate(c, l));
  const int32_t count = moerun__placement_experts(
      model->placement, l, model->comm->rank, c->experts);
  MOERUN_TRY(moerun__experts_create(&layer->experts, &shape, (size_t)count));
  layer->num_slots = count;
  const size_t bytes = moerun__experts_bytes(&shape, (size_t)count);
  model->expert_bytes += bytes;
  model->weight_bytes += bytes;
  for (int32_t s = 0; s < count; s++) {
    MOERUN_TRY(load_expert(c, l, s));
  }
done:
  return status;
}

/* ---- The whole ----------------------------------------------------------- */

/* [collective] A rank whose source says something else than that of rank 0
 * fails with a line that names the member; the caller agrees on it. */
static moerun_status same_source(const creation *c, moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  const moerun_model_source *source = c->source;
  const struct {
    const char *name;
    int64_t value;
    int is_type;
  } members[] = {
      {"num_moe_layers", source->num_moe_layers, 0},
      {"num_experts", source->num_experts, 0},
      {"experts_per_token", source->experts_per_token, 0},
      {"hidden_width", source->hidden_width, 0},
      {"expert_width", source->expert_width, 0},
      {"dtype", (int64_t)c->dtype, 1},
      {"gate_dtype", (int64_t)c->gate_dtype, 1},
      {"renormalise", source->renormalise != 0, 0},
      {"load_gate (1: given)", source->load_gate != NULL, 0},
  };
  enum { COUNT = sizeof members / sizeof *members };
  int64_t first[COUNT];
  for (size_t i = 0; i < COUNT; i++) {
    first[i] = members[i].value;
  }
  MOERUN_TRY(comm->ops->broadcast(comm, first, sizeof first));
  for (size_t i = 0; i < COUNT; i++) {
    const int64_t mine = members[i].value;
    if (mine == first[i]) continue;
    MOERUN_REQUIRE(!members[i].is_type, MOERUN_ERR_SHAPE,
                   "%s: %s: expected %s as on rank 0, found %s", source_name,
                   members[i].name, moerun__dtype_name((moerun__dtype)first[i]),
                   moerun__dtype_name((moerun__dtype)mine));
    MOERUN_REQUIRE(
        0, MOERUN_ERR_SHAPE, "%s: %s: expected %lld as on rank 0, found %lld",
        source_name, members[i].name, (long long)first[i], (long long)mine);
  }
done:
  return status;
}

/* [collective] The weights of a layer that several ranks have. Where they
 * differ, they are the callers', not a file's. */
static moerun_status compare_layer(creation *c, moerun_comm *comm, int32_t l) {
  moerun_status status = MOERUN_OK;
  char name[NAME_BYTES];
  (void)snprintf(name, sizeof name, "load_gate: layer %d", l);
  if (c->source->load_gate != NULL) {
    MOERUN_TRY(moerun__comm_agree(
        comm, moerun__weights_digest_compare(comm, &c->digest,
                                             MOERUN_ERR_INVALID, name)));
  }
  status = moerun__weights_digest_layer(&c->digest, comm, c->model->placement,
                                        l, l, source_name);
  if (status == MOERUN_ERR_FORMAT) status = MOERUN_ERR_INVALID;
done:
  return status;
}

/* [collective] */
static moerun_status create(creation *c, moerun_comm *comm,
                            const moerun_placement *placement) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__comm_agree(comm, begin(c, comm, placement)));
  MOERUN_TRY(moerun__comm_agree(comm, same_source(c, comm)));
  const moerun__model_identity identity = {.config = &c->model->config,
                                           .placement = placement,
                                           .moe_only = 1,
                                           .path = source_name};
  MOERUN_TRY(moerun__comm_agree(comm, moerun__same_model(comm, &identity)));
  for (int32_t l = 0; l < c->model->config.num_layers; l++) {
    MOERUN_TRY(moerun__comm_agree(comm, load_layer(c, l)));
    MOERUN_TRY(compare_layer(c, comm, l));
  }
  MOERUN_TRY(moerun__weights_digest_agree(&c->model->digest, comm, &c->digest,
                                          0, source_name));
done:
  return status;
}

moerun_status moerun_model_create(moerun_model **out, moerun_comm *comm,
                                  const moerun_placement *placement,
                                  const moerun_model_source *source) {
  moerun_model_source asked;
  creation c = {.source = &asked};
  moerun_status status =
      moerun__sized_read(&asked, sizeof asked, source, source_name);
  *out = NULL;
  if (status != MOERUN_OK) return moerun__comm_agree(comm, status);
  status = create(&c, comm, placement);
  if (status == MOERUN_OK) {
    *out = c.model;
  } else {
    moerun_model_destroy(c.model);
  }
  moerun__free(c.experts);
  moerun__free(c.digest.expert);
  return status;
}
