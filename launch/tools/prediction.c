/* Nothing here estimates: the loader's own walk over the file headers and the
 * session's own layout run in counting mode. Ranks that host equally many
 * experts have equal weights, so the headers are walked once for each number
 * of experts that occurs, not once for each of thousands of ranks. */
#include "launch/tools/prediction.h"

#include "launch/options/choices.h"
#include "launch/options/gate_options.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/decoder/session_options.h"
#include "runtime/serve/engine.h"

static const double mib = 1048576.0;
static const int64_t mib_bytes = INT64_C(1) << 20;

size_t moerun__prediction_total(const moerun__prediction *p) {
  const size_t later = p->later_bytes + p->spare_bytes;
  return p->weight_bytes + p->expert_bytes + p->cache_bytes + p->buffer_bytes +
         p->guest_bytes + (later > p->loading_bytes ? later : p->loading_bytes);
}

int32_t moerun__max_sequences(const moerun__config *config) {
  const int64_t rows = moerun__config_int(config, "max_tokens");
  const int64_t sequences = moerun__config_int(config, "max_sequences");
  const int is_given = moerun__config_origin_of(config, "max_sequences") !=
                       MOERUN_CONFIG_DEFAULT;
  return (int32_t)(is_given || sequences < rows ? sequences : rows);
}

moerun_session_options
moerun__session_options_of(const moerun__config *config,
                           const moerun__cache_need *need) {
  const int64_t kv_tokens = moerun__config_int(config, "kv_tokens");
  const int64_t slices = moerun__config_int(config, "slice_memory");
  return (moerun_session_options){
      .struct_size = sizeof(moerun_session_options),

      .max_tokens = (int32_t)moerun__config_int(config, "max_tokens"),
      .max_sequences = moerun__max_sequences(config),
      .kv_tokens = kv_tokens > 0 ? (int32_t)kv_tokens : need->kv_tokens,
      .chunks = (int32_t)moerun__config_int(config, "chunks"),
      .wire = moerun__wire_of(config),
      .compute = moerun__compute_of(config),
      .balance = moerun__balance_of(config),
      .guest_bytes = moerun__config_int(config, "guest_memory") * mib_bytes,
      .slice_bytes = slices < 0 ? -1 : slices * mib_bytes,
  };
}

int moerun__replaces(const moerun__config *config, int32_t num_ranks) {
  const int64_t every = moerun__config_int(config, "replace_every");
  /* What a capacity drops may depend on where experts are: then they stay, or a
   * clock would decide what comes out. */
  const int drops = moerun__config_double(config, "capacity") > 0;
  return every > 0 || (every < 0 && num_ranks > 1 && !drops &&
                       moerun__balance_of(config) == MOERUN_BALANCE_AUTO);
}

moerun__replace_options
moerun__replace_options_of(const moerun__config *config,
                           const moerun_placement *placement) {
  const int64_t every = moerun__config_int(config, "replace_every");
  const int64_t spare = moerun__config_int(config, "spare_slots");
  return (moerun__replace_options){
      .every = every > 0 ? (int32_t)every : 0,
      .window = (int32_t)moerun__config_int(config, "replace_window"),
      .spare_slots = spare >= 0 ? (int32_t)spare
                                : moerun__replacer_spare(placement->num_experts,
                                                         placement->num_ranks)};
}

moerun__session_extra
moerun__session_extra_of(const moerun__config *config,
                         const moerun_placement *placement,
                         const moerun__cache_need *need, unsigned how) {
  const moerun__replace_options replace =
      moerun__replace_options_of(config, placement);
  const int replaces = (how & MOERUN_RUN_STAYS) == 0 &&
                       moerun__replaces(config, placement->num_ranks);
  return (moerun__session_extra){
      .record_trace = (how & MOERUN_RUN_RECORDS) != 0 || replaces,
      .gate = moerun__gate_options_of(config),
      .max_positions = need->max_positions,
      .max_slots = replaces
                       ? moerun__replacer_slots(placement, replace.spare_slots)
                       : 0};
}

/* Experts of all layers on `rank`. */
static int64_t slots_of(const moerun_placement *placement, int32_t rank) {
  int64_t slots = 0;
  for (int32_t layer = 0; layer < placement->num_layers; layer++) {
    slots += placement->slot_count[layer * placement->num_ranks + rank];
  }
  return slots;
}

/* To look at the routing, and a layer's experts a second time as they move;
 * what stands in spare slots beside that. */
static void predict_replacer(moerun__prediction *predicted,
                             const moerun__config *config,
                             const moerun_model *model,
                             const moerun__expert_shape *expert) {
  const moerun_placement *placement = model->placement;
  const moerun__replace_options options =
      moerun__replace_options_of(config, placement);
  const int32_t rank = model->comm->rank;
  if (!moerun__replaces(config, placement->num_ranks)) return;
  const size_t most =
      (size_t)moerun__replacer_slots(placement, options.spare_slots);
  const size_t even = (size_t)moerun__replacer_slots(placement, 0);
  const size_t twice = moerun__experts_bytes(expert, even);
  predicted->later_bytes +=
      twice + moerun__replacer_bytes(&model->config, placement, rank, &options);
  predicted->spare_bytes = (moerun__experts_bytes(expert, most) - twice) *
                           ((size_t)placement->num_layers + 1);
}

/* Weights of each rank; *expert: the largest of all. */
static moerun_status predict_weights(moerun__prediction *ranks,
                                     moerun__expert_shape *expert,
                                     const char *model,
                                     const moerun_placement *placement) {
  moerun_status status = MOERUN_OK;
  int64_t *slots = NULL;
  const int32_t R = placement->num_ranks;
  MOERUN_TRY(moerun__alloc(&slots, (size_t)R, sizeof *slots));
  for (int32_t rank = 0; rank < R; rank++) {
    slots[rank] = slots_of(placement, rank);
    int32_t like = 0;
    while (slots[like] != slots[rank]) {
      like++;
    }
    if (like < rank) {
      ranks[rank] = ranks[like];
      continue;
    }
    moerun__model_size size;
    MOERUN_TRY(moerun__model_size_load(&size, model, placement, rank, 0));
    ranks[rank].weight_bytes = size.weight_bytes - size.expert_bytes;
    ranks[rank].expert_bytes = size.expert_bytes;
    ranks[rank].loading_bytes = size.staging_bytes;
    if (moerun__expert_bytes(&size.expert) > moerun__expert_bytes(expert)) {
      *expert = size.expert;
    }
  }
done:
  moerun__free(slots);
  return status;
}

moerun_status moerun__predict(moerun__prediction **out,
                              const moerun__config *config,
                              const moerun_placement *placement,
                              const moerun__cache_need *need, unsigned how) {
  moerun_status status = MOERUN_OK;
  moerun__prediction *ranks = NULL;
  moerun__expert_shape expert = {0};
  moerun_comm comm = {
      .ops = moerun__transport_for(moerun__config_text(config, "transport"),
                                   placement->num_ranks),
      .size = placement->num_ranks};
  moerun_model model = {.comm = &comm, .placement = placement};
  const char *path = moerun__config_text(config, "model");
  const moerun_session_options options =
      moerun__session_options_of(config, need);
  moerun__session_extra extra =
      moerun__session_extra_of(config, placement, need, how);
  const moerun__engine_options engine = {.record_trace =
                                             (how & MOERUN_RUN_RECORDS) != 0,
                                         .logprobs_width = need->logprobs_width,
                                         .stop_bytes = need->stop_bytes};
  *out = NULL;
  MOERUN_TRY(moerun__model_config_load(&model.config, path));
  MOERUN_TRY(moerun__gate_options_fit(config, model.config.num_moe_layers));
  MOERUN_TRY(moerun__session_check(&model, &options, &extra));
  MOERUN_TRY(moerun__alloc(&ranks, (size_t)comm.size, sizeof *ranks));
  MOERUN_TRY(predict_weights(ranks, &expert, path, placement));
  extra.expert = &expert;
  /* Once: to ask the processor what it has takes long on virtual machines. */
  MOERUN_TRY(moerun__kernels_find(&extra.kernels, "auto"));
  for (comm.rank = 0; comm.rank < comm.size; comm.rank++) {
    moerun_session session;
    const moerun__session_size size =
        moerun__session_predict(&session, &model, &options, &extra);
    ranks[comm.rank].device_bytes = size.device_bytes;
    ranks[comm.rank].cache_bytes = size.cache_bytes;
    ranks[comm.rank].guest_bytes =
        moerun__store_guest_bytes(&session.moe.store);
    ranks[comm.rank].buffer_bytes =
        size.host_bytes - size.cache_bytes - ranks[comm.rank].guest_bytes;
    ranks[comm.rank].later_bytes =
        moerun__engine_bytes(&session, &engine) +
        moerun__store_open_bytes(&session.moe.store, &expert);
    if ((how & MOERUN_RUN_STAYS) == 0) {
      predict_replacer(&ranks[comm.rank], config, &model, &expert);
    }
  }
  *out = ranks;
  ranks = NULL;
done:
  moerun__free(ranks);
  moerun__model_config_clear(&model.config);
  return status;
}

/* ---- Table --------------------------------------------------------------- */

typedef struct spread {
  double minimum;
  double sum;
  double maximum;
  int32_t rank; /* of the maximum */
} spread;

static void add(spread *s, size_t bytes, int32_t rank) {
  const double value = (double)bytes / mib;
  s->sum += value;
  if (rank == 0 || value < s->minimum) s->minimum = value;
  if (rank == 0 || value > s->maximum) {
    s->maximum = value;
    s->rank = rank;
  }
}

void moerun__prediction_print(FILE *stream, const moerun__prediction *ranks,
                              int32_t num_ranks) {
  enum { PARTS = 9 };
  static const char *const names[PARTS] = {"weights", "experts", "KV cache",
                                           "buffers", "guests",  "spare",
                                           "loading", "peak",    "device"};
  spread parts[PARTS] = {{0}};
  for (int32_t rank = 0; rank < num_ranks; rank++) {
    const moerun__prediction *p = &ranks[rank];
    const size_t bytes[PARTS] = {
        p->weight_bytes,  p->expert_bytes,
        p->cache_bytes,   p->buffer_bytes + p->later_bytes,
        p->guest_bytes,   p->spare_bytes,
        p->loading_bytes, moerun__prediction_total(p),
        p->device_bytes};
    for (int i = 0; i < PARTS; i++) {
      add(&parts[i], bytes[i], rank);
    }
  }
  (void)fprintf(stream, "%-9s %12s %12s %12s  %s\n", "MiB", "min", "mean",
                "max", "on rank");
  const int has_device = parts[PARTS - 1].maximum > 0;
  for (int i = 0; i < PARTS - !has_device; i++) {
    (void)fprintf(stream, "%-9s %12.1f %12.1f %12.1f  %d\n", names[i],
                  parts[i].minimum, parts[i].sum / num_ranks, parts[i].maximum,
                  parts[i].rank);
  }
  (void)fprintf(stream, "peak: most that is there at once; loading ends before "
                        "spare slots are filled\n");
  if (has_device) {
    (void)fprintf(stream, "device: beside that, in the device's own memory\n");
  }
}
