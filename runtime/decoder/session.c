/* Creation, prediction and the public steps. One function lays all buffers
 * out; it runs once to count (moerun_session_bytes) and once to hand out, so
 * the prediction cannot drift from the allocation. */
#include "runtime/decoder/session.h"

#include "runtime/base/sized.h"
#include "runtime/decoder/decoder.h"
#include "runtime/decoder/session_options.h"

#include <string.h>

/* ---- Options and layout -------------------------------------------------- */

/* Most positions of a sequence. */
static int32_t longest(const moerun__model_config *config,
                       int32_t max_positions) {
  return max_positions > 0 && max_positions < config->max_positions
             ? max_positions
             : config->max_positions;
}

/* kv_tokens with its default filled in, and no more than can be used. */
static int32_t kv_tokens_of(const moerun__model_config *config,
                            const moerun_session_options *options,
                            int32_t max_positions) {
  const int64_t wanted =
      (int64_t)options->max_sequences * longest(config, max_positions);
  const int64_t most = wanted < INT32_MAX ? wanted : INT32_MAX;
  return options->kv_tokens == 0 || options->kv_tokens > most
             ? (int32_t)most
             : options->kv_tokens;
}

static moerun__kv_sizes kv_sizes(const moerun__model_config *config,
                                 const moerun_session_options *options,
                                 int32_t max_positions) {
  return moerun__kv_sizes_of(config, options->max_sequences,
                             kv_tokens_of(config, options, max_positions),
                             longest(config, max_positions));
}

static const moerun__device *device_of(const moerun__session_extra *extra) {
  return extra->device != NULL ? extra->device : &moerun__host;
}

moerun_status moerun__session_cache_create(
    moerun__kv_cache **out, const moerun__model_config *config,
    const moerun_session_options *options, const moerun__session_extra *extra) {
  const moerun__kv_sizes sizes =
      kv_sizes(config, options, extra->max_positions);
  return moerun__kv_create(out, device_of(extra), &sizes);
}

/* `options` with the defaults filled in. A cache that is given says its sizes
 * itself. */
static moerun_session_options choose(const moerun_model *model,
                                     const moerun_session_options *options,
                                     const moerun__session_extra *extra) {
  const moerun__model_config *config = &model->config;
  moerun_session_options chosen = *options;
  if (chosen.chunks == 0) chosen.chunks = 1;
  if (chosen.guest_bytes < 0) chosen.guest_bytes = -1;
  if (chosen.slice_bytes < 0) chosen.slice_bytes = -1;
  if (model->moe_only) chosen.max_sequences = 0;
  if (extra->cache != NULL && !model->moe_only) {
    chosen.max_sequences = extra->cache->sizes.max_sequences;
    chosen.kv_tokens = extra->cache->sizes.num_pages * MOERUN_PAGE_POSITIONS;
  } else {
    chosen.kv_tokens = kv_tokens_of(config, &chosen, extra->max_positions);
  }
  if (chosen.balance == MOERUN_BALANCE_SLICED && chosen.slice_bytes == 0) {
    chosen.slice_bytes = -1;
  }
  if (chosen.guest_bytes == 0) {
    const moerun__expert_shape widest =
        extra->expert != NULL ? *extra->expert
                              : moerun__expert_whole(config, MOERUN_DTYPE_F32);
    chosen.guest_bytes =
        (int64_t)moerun__guests_default(model->placement, &widest);
  }
  return chosen;
}

/* Rows lie where the kernels are if the transport can carry them there. */
static moerun__memory memory_of_rows(const moerun_session *session) {
  return session->model->comm->ops->device == session->device
             ? MOERUN_MEMORY_DEVICE
             : MOERUN_MEMORY_HOST;
}

/* When balancing pays, as far as it is said. */
static moerun__plan_options plan_of(const moerun__session_extra *extra) {
  return extra->plan != NULL
             ? *extra->plan
             : (moerun__plan_options){.threshold = extra->threshold,
                                      .min_rows = extra->min_rows};
}

static moerun__moe_setting moe_setting(moerun_session *session,
                                       const moerun__session_extra *extra) {
  static const moerun__slice_costs no_costs;
  const moerun_session_options *options = &session->options;
  /* There is nothing to balance with one rank. */
  const int is_balanced =
      options->balance != MOERUN_BALANCE_OFF && session->model->comm->size > 1;
  return (moerun__moe_setting){
      .model = session->model,
      .kernels = session->kernels,
      .queue = &session->queue,
      .stats = &session->stats,
      .faults = extra->faults,
      .tier = extra->tier,
      .gate = extra->gate,
      .ways = extra->ways,
      .wire = moerun__wire_dtype(options->wire),
      .memory = memory_of_rows(session),
      .max_tokens = options->max_tokens,
      .num_chunks = options->chunks,
      .slots_wanted = extra->max_slots,
      .is_balanced = is_balanced,
      .always_slices = options->balance == MOERUN_BALANCE_SLICED,
      .plan = plan_of(extra),
      .slice_costs =
          extra->slice_costs != NULL ? *extra->slice_costs : no_costs,
      .guest_bytes = is_balanced && options->guest_bytes > 0
                         ? (size_t)options->guest_bytes
                         : 0,
      .slice_bytes = is_balanced ? options->slice_bytes : 0,
  };
}

/* A session without buffers: what follows reads nothing of the caller's options
 * but what is kept here. */
static void init(moerun_session *session, const moerun_model *model,
                 const moerun_session_options *options,
                 const moerun__session_extra *extra) {
  memset(session, 0, sizeof *session);
  session->model = model;
  session->options = choose(model, options, extra);
  session->kernels = extra->kernels;
  session->device = device_of(extra);
  session->kv =
      extra->cache != NULL && !model->moe_only
          ? extra->cache->sizes
          : kv_sizes(&model->config, &session->options, extra->max_positions);
  session->records_trace = extra->record_trace;
  const moerun__moe_setting setting = moe_setting(session, extra);
  moerun__moe_init(&session->moe, &setting);
}

/* Factors of rows; a model that has none of them takes nothing. */
static void lay_out_scales(moerun_session *session, moerun__arena *arena) {
  const moerun__model_config *config = &session->model->config;
  const size_t T = (size_t)session->options.max_tokens;
  const double factor[MOERUN_SCALES] = {
      [MOERUN_SCALE_EMBEDDING] = config->embedding_scale,
      [MOERUN_SCALE_RESIDUAL] = config->residual_scale,
      [MOERUN_SCALE_HEAD] = 1.0 / config->logit_divisor,
  };
  int has_any = 0;
  for (int i = 0; i < MOERUN_SCALES; i++) {
    has_any |= factor[i] != 1.0;
  }
  if (!has_any) return;
  session->scales = moerun__arena_take(arena, MOERUN_SCALES * T, sizeof(float));
  for (size_t i = 0; session->scales != NULL && i < MOERUN_SCALES * T; i++) {
    session->scales[i] = (float)factor[i / T];
  }
}

/* What only the decoder needs. */
static void lay_out_decoder(moerun_session *session, moerun__arenas *arenas) {
  moerun__arena *host = &arenas->host;
  moerun__arena *device = &arenas->device;
  const moerun__model_config *config = &session->model->config;
  const size_t T = (size_t)session->options.max_tokens;
  const size_t H = (size_t)config->hidden_width;
  const moerun__attention_ops *attention = config->attention->ops;
  const moerun__attention_setting setting = {
      .config = config,
      .kernels = session->kernels,
      .queue = &session->queue,
      .max_tokens = session->options.max_tokens,
      .max_positions = session->kv.max_pages * MOERUN_PAGE_POSITIONS,
  };
  const int has_dense = config->num_moe_layers < config->num_layers;
  session->broken = moerun__arena_take(host, T, sizeof *session->broken);
  session->x = moerun__arena_take(device, T * H, sizeof(float));
  session->h = moerun__arena_take(device, T * H, sizeof(float));
  session->y = moerun__arena_take(device, T * H, sizeof(float));
  lay_out_scales(session, host);
  session->attention = attention->lay_out(&setting, arenas);
  session->seen =
      moerun__arena_take(host, (size_t)session->kv.max_sequences, 1);
  const size_t dense = has_dense ? (size_t)config->dense_width : 0;
  const size_t gate_up =
      has_dense ? (size_t)moerun__gate_up_outputs(config, config->dense_width)
                : 0;
  session->dense = moerun__arena_take(
      device, (size_t)MOERUN_FFN_TILE * (gate_up + dense), sizeof(float));
  const size_t linear =
      moerun__linear_scratch((int32_t)(dense > H ? dense : H));
  const size_t attends = attention->scratch_floats(&setting);
  session->scratch = moerun__arena_take(
      device, linear > attends ? linear : attends, sizeof(float));
}

static void lay_out(moerun_session *session, moerun__arenas *arenas) {
  moerun__arena *arena = &arenas->host;
  const moerun__model_config *config = &session->model->config;
  const size_t layers = (size_t)config->num_moe_layers;
  session->stats.expert_rows = moerun__arena_take(
      arena, layers * (size_t)config->num_experts, sizeof(int64_t));
  moerun__moe_lay_out(&session->moe, arenas);
  if (session->records_trace) {
    session->trace =
        moerun__arena_take(arena,
                           (size_t)session->options.max_tokens * layers *
                               (size_t)moerun__config_terms(config),
                           sizeof(int16_t));
  }
  if (!session->model->moe_only) lay_out_decoder(session, arenas);
}

static const moerun__session_extra no_extra;

/* `extra` with the kernels and the ways filled in. */
static moerun_status complete_extra(moerun__session_extra *out,
                                    const moerun__session_extra *extra) {
  *out = extra != NULL ? *extra : no_extra;
  if (out->ways == NULL) out->ways = &moerun__ways_known;
  if (out->kernels != NULL) return MOERUN_OK;
  return moerun__kernels_find(&out->kernels, "auto");
}

/* ---- Create, predict, destroy -------------------------------------------- */

moerun__session_size
moerun__session_predict(moerun_session *out, const moerun_model *model,
                        const moerun_session_options *options,
                        const moerun__session_extra *extra) {
  moerun__session_extra all;
  moerun__session_size size = {0};
  moerun__arenas sizes = {0};
  const moerun_comm *comm = model->comm;
  memset(out, 0, sizeof *out);
  if (complete_extra(&all, extra) != MOERUN_OK) return size;
  init(out, model, options, &all);
  lay_out(out, &sizes);
  const moerun__device *device = out->device;
  const int owns_cache = !model->moe_only && all.cache == NULL;
  const size_t rows =
      comm->ops->buffer_bytes(comm, sizes.rows.used, out->moe.shape.memory);
  const size_t kept =
      owns_cache ? device->memory_bytes(moerun__kv_bytes(&out->kv)) : 0;
  const size_t only_kernels = device->memory_bytes(sizes.device.used) + kept;
  size.host_bytes =
      moerun__alloc_bytes(1, sizeof *out) +
      device->memory_bytes(sizes.host.used) +
      comm->ops->buffer_bytes(comm, sizes.traffic.used, MOERUN_MEMORY_HOST) +
      (owns_cache ? moerun__kv_create_bytes(device, &out->kv) - kept : 0) +
      moerun__moe_transfer_bytes(&out->moe);
  if (device == &moerun__host) {
    size.host_bytes += only_kernels;
    size.cache_bytes = owns_cache ? moerun__kv_bytes(&out->kv) : 0;
  } else {
    size.device_bytes += only_kernels;
  }
  if (out->moe.shape.memory == MOERUN_MEMORY_HOST) {
    size.host_bytes += rows;
  } else {
    size.device_bytes += rows;
  }
  return size;
}

size_t moerun__session_bytes_with(const moerun_model *model,
                                  const moerun_session_options *options,
                                  const moerun__session_extra *extra) {
  moerun_session session;
  const moerun__session_size size =
      moerun__session_predict(&session, model, options, extra);
  return size.host_bytes + size.device_bytes;
}

static moerun_status read_options(moerun_session_options *own,
                                  const moerun_session_options *options) {
  return moerun__sized_read(own, sizeof *own, options,
                            "moerun_session_options");
}

size_t moerun_session_bytes(const moerun_model *model,
                            const moerun_session_options *options) {
  moerun_session_options own;
  const int are_sound =
      read_options(&own, options) == MOERUN_OK &&
      moerun__session_check(model, &own, &no_extra) == MOERUN_OK;
  return are_sound ? moerun__session_bytes_with(model, &own, NULL) : 0;
}

/* Back to the transport. */
static void give_buffer(const moerun__reserve *reserve, moerun__arena *arena,
                        moerun__memory memory) {
  if (memory == MOERUN_MEMORY_HOST) reserve->device->unlock(arena->base);
  reserve->comm->ops->buffer_destroy(reserve->comm, arena->base, memory);
  arena->base = NULL;
}

void moerun__reserve_clear(moerun__reserve *reserve) {
  moerun__arenas *memory = &reserve->memory;
  if (reserve->comm == NULL) return;
  reserve->device->pinned_destroy(memory->host.base);
  reserve->device->memory_destroy(memory->device.base);
  memory->host.base = NULL;
  memory->device.base = NULL;
  give_buffer(reserve, &memory->traffic, MOERUN_MEMORY_HOST);
  give_buffer(reserve, &memory->rows, reserve->rows);
}

/* The transport's, which kernels may use: the host's is locked for them. */
static moerun_status take_buffer(const moerun__reserve *reserve,
                                 moerun__arena *arena, moerun__memory memory) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = reserve->comm->ops;
  void *buffer = NULL;
  MOERUN_TRY(ops->buffer_create(&buffer, reserve->comm, arena->used, memory));
  if (memory == MOERUN_MEMORY_HOST) {
    MOERUN_TRY(reserve->device->lock(buffer, arena->used));
  }
  arena->base = buffer;
  buffer = NULL;
done:
  ops->buffer_destroy(reserve->comm, buffer, memory);
  return status;
}

/* Not cleared: pages stay untouched until they are used. */
static moerun_status take(moerun__reserve *out, const moerun__arenas *sizes) {
  moerun_status status = MOERUN_OK;
  void *host = NULL;
  void *device = NULL;
  out->memory = *sizes;
  MOERUN_TRY(out->device->pinned_create(&host, sizes->host.used));
  out->memory.host.base = host;
  MOERUN_TRY(out->device->memory_create(&device, sizes->device.used));
  out->memory.device.base = device;
  MOERUN_TRY(take_buffer(out, &out->memory.traffic, MOERUN_MEMORY_HOST));
  MOERUN_TRY(take_buffer(out, &out->memory.rows, out->rows));
done:
  return status;
}

moerun_status moerun__session_reserve(moerun__reserve *out,
                                      const moerun_model *model,
                                      const moerun_session_options *options,
                                      const moerun__session_extra *extra) {
  moerun_status status = MOERUN_OK;
  moerun_session session;
  moerun__session_extra all;
  moerun__arenas sizes = {0};
  MOERUN_TRY(complete_extra(&all, extra));
  MOERUN_TRY(moerun__session_check(model, options, &all));
  init(&session, model, options, &all);
  lay_out(&session, &sizes);
  out->device = session.device;
  out->comm = model->comm;
  out->rows = session.moe.shape.memory;
  MOERUN_TRY(take(out, &sizes));
done:
  return status;
}

static int are_for(const moerun__reserve *reserve,
                   const moerun_session *session, const moerun__arenas *sizes) {
  const moerun__arenas *memory = &reserve->memory;
  return reserve->comm == session->model->comm &&
         reserve->device == session->device &&
         reserve->rows == session->moe.shape.memory &&
         memory->host.used == sizes->host.used &&
         memory->device.used == sizes->device.used &&
         memory->traffic.used == sizes->traffic.used &&
         memory->rows.used == sizes->rows.used;
}

/* What was set aside is taken if it is for this comm and device and of the
 * right sizes. Else it is given back first, so that memory is not taken
 * twice. */
static moerun_status take_memory(moerun_session *session,
                                 const moerun__arenas *sizes,
                                 moerun__reserve *reserve) {
  moerun_status status = MOERUN_OK;
  moerun__reserve own = {.device = session->device,
                         .comm = session->model->comm,
                         .rows = session->moe.shape.memory};
  moerun__reserve *from = reserve != NULL ? reserve : &own;
  if (!are_for(from, session, sizes)) {
    moerun__reserve_clear(from);
    from = &own;
  }
  if (from->memory.host.base == NULL) {
    from = &own;
    MOERUN_TRY(take(from, sizes));
  }
  session->memory = from->memory;
  from->memory = (moerun__arenas){0};
done:
  moerun__reserve_clear(&own);
  return status;
}

static moerun_status open_queue(moerun_session *session) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(session->device->queue_create(&session->queue));
  session->queue.rounds = session->options.compute == MOERUN_COMPUTE_BF16;
done:
  return status;
}

/* The caller's cache, or one of the session's own. */
static moerun_status take_cache(moerun_session *session,
                                moerun__kv_cache *cache) {
  moerun_status status = MOERUN_OK;
  const moerun__model_config *config = &session->model->config;
  if (session->model->moe_only) goto done;
  session->cache = cache;
  if (cache == NULL) {
    MOERUN_TRY(
        moerun__kv_create(&session->own_cache, session->device, &session->kv));
    session->cache = session->own_cache;
  }
  const size_t page_floats =
      MOERUN_PAGE_POSITIONS * config->attention->position_floats(config);
  MOERUN_REQUIRE(session->kv.num_layers == config->num_layers &&
                     session->kv.page_floats == page_floats,
                 MOERUN_ERR_SHAPE,
                 "KV cache: expected %d layers of pages of %zu numbers, found "
                 "%d of %zu",
                 config->num_layers, page_floats, session->kv.num_layers,
                 session->kv.page_floats);
done:
  return status;
}

static moerun_status create_local(moerun_session **out,
                                  const moerun_model *model,
                                  const moerun_session_options *options,
                                  const moerun__session_extra *extra) {
  moerun_status status = MOERUN_OK;
  moerun_session *session = NULL;
  moerun__session_extra all;
  moerun__arenas sizes = {0};
  MOERUN_TRY(complete_extra(&all, extra));
  MOERUN_TRY(moerun__session_check(model, options, &all));
  MOERUN_TRY(moerun__alloc(&session, 1, sizeof *session));
  *out = session;
  init(session, model, options, &all);
  MOERUN_TRY(open_queue(session));
  MOERUN_TRY(take_cache(session, all.cache));
  lay_out(session, &sizes);
  MOERUN_TRY(take_memory(session, &sizes, all.reserve));
  moerun__arenas from = session->memory;
  from.host.used = 0;
  from.traffic.used = 0;
  from.rows.used = 0;
  from.device.used = 0;
  lay_out(session, &from);
  moerun__session_stats_reset(session);
  moerun__store_adopt_placement(&session->moe.store);
  MOERUN_TRY(moerun__store_adopt_device(&session->moe.store, session->device));
  MOERUN_TRY(moerun__moe_create_transfers(&session->moe));
done:
  return status;
}

moerun_status moerun__session_create_with(moerun_session **out,
                                          const moerun_model *model,
                                          const moerun_session_options *options,
                                          const moerun__session_extra *extra) {
  *out = NULL;
  moerun_status status =
      moerun__comm_agree(model->comm, create_local(out, model, options, extra));
  if (status == MOERUN_OK) status = moerun__session_agree(*out);
  if (status == MOERUN_OK) {
    status = moerun__moe_open(&(*out)->moe, extra != NULL ? extra->plan : NULL);
  }
  if (status == MOERUN_OK) status = moerun__session_agree_on_plan(*out);
  if (status == MOERUN_OK) (*out)->count_before = model->comm->count;
  if (status != MOERUN_OK) {
    moerun_session_destroy(*out);
    *out = NULL;
  }
  return status;
}

moerun_status moerun_session_create(moerun_session **out,
                                    const moerun_model *model,
                                    const moerun_session_options *options) {
  moerun_session_options own;
  const moerun_status status = read_options(&own, options);
  *out = NULL;
  if (status != MOERUN_OK) return moerun__comm_agree(model->comm, status);
  return moerun__session_create_with(out, model, &own, NULL);
}

void moerun_session_destroy(moerun_session *session) {
  if (session == NULL) return;
  moerun__moe_destroy_transfers(&session->moe);
  moerun__kv_destroy(session->own_cache);
  moerun__reserve memory = {session->memory, session->device,
                            session->model->comm, session->moe.shape.memory};
  moerun__reserve_clear(&memory);
  if (session->queue.device != NULL) {
    session->device->queue_destroy(&session->queue);
  }
  moerun__free(session);
}

/* ---- Steps --------------------------------------------------------------- */

static moerun_status check_decoder(const moerun_session *session) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(!session->model->moe_only, MOERUN_ERR_INVALID,
                 "the model has MoE layers alone: there is no decoder");
done:
  return status;
}

static moerun_status check_batch(const moerun_session *session,
                                 const moerun_batch *batch,
                                 const float *logits) {
  moerun_status status = MOERUN_OK;
  const moerun__batch_limits limits = {session->options.max_tokens,
                                       session->model->config.vocab_size,
                                       session->cache, session->seen};
  MOERUN_TRY(check_decoder(session));
  MOERUN_REQUIRE(batch != NULL, MOERUN_ERR_INVALID, "the batch is NULL");
  MOERUN_TRY(moerun__batch_check(batch, &limits));
  MOERUN_REQUIRE(batch->num_logits == 0 || logits != NULL, MOERUN_ERR_INVALID,
                 "logits is NULL");
done:
  return status;
}

moerun_status moerun__session_forward(moerun_session *session,
                                      const moerun_batch *batch,
                                      const moerun__row_tags *tags,
                                      float *logits) {
  static const moerun_batch none;
  return moerun__decoder_forward(session, batch != NULL ? batch : &none, tags,
                                 logits, check_batch(session, batch, logits));
}

moerun_status moerun_forward(moerun_session *session, const moerun_batch *batch,
                             float *logits) {
  return moerun__session_forward(session, batch, NULL, logits);
}

moerun_status moerun_sequence_reset(moerun_session *session, int32_t sequence) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(check_decoder(session));
  MOERUN_REQUIRE(session->kv.max_sequences > 0, MOERUN_ERR_INVALID,
                 "the session has no sequences: max_sequences is 0");
  MOERUN_REQUIRE(sequence >= 0 && sequence < session->kv.max_sequences,
                 MOERUN_ERR_INVALID, "expected a sequence of 0 to %d, found %d",
                 session->kv.max_sequences - 1, sequence);
  moerun__kv_reset(session->cache, sequence);
done:
  return status;
}

/* ---- Statistics ---------------------------------------------------------- */

moerun__stats *moerun__session_stats(moerun_session *session) {
  return &session->stats;
}

void moerun__session_stats_reset(moerun_session *session) {
  const moerun__model_config *config = &session->model->config;
  int64_t *expert_rows = session->stats.expert_rows;
  memset(&session->stats, 0, sizeof session->stats);
  session->stats.expert_rows = expert_rows;
  session->count_before = session->model->comm->count;
  memset(expert_rows, 0,
         (size_t)config->num_moe_layers * (size_t)config->num_experts *
             sizeof(int64_t));
  moerun__gate_counts_clear(&session->moe.gate);
  moerun__store_clear_count(&session->moe.store);
  if (session->moe.balance.is_on)
    moerun__ledger_clear(&session->moe.balance.ledger);
}
