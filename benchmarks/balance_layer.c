/* A model of one MoE layer with random weights, written to a temporary folder
 * and read back as any model is, and rows that the gate sends where the routing
 * says: a row is the gate's own row of the wanted expert, plus noise. In many
 * dimensions the gate's rows are nearly orthogonal, so the logit of the wanted
 * expert stands far above the others; bench_layer_time checks it. */
#include "benchmarks/balance.h"

#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/base/timer.h"
#include "runtime/model/synth.h"

#include <dirent.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LAYER = 0, PATH = 256, ROW_SEED = 11, NOISE_SEED = 12 };
static const float noise = 0.2F; /* of the row's own size */

/* ---- The model ----------------------------------------------------------- */

static moerun_status write_model(const char *path, const bench_options *o,
                                 int32_t num_experts) {
  const moerun__synth_options options = {
      .path = path,
      .arch = "qwen3_moe",
      .seed = 1,
      .dtype = MOERUN_DTYPE_BF16,
      .num_layers = 1,
      .hidden_width = (int32_t)o->hidden_width,
      .heads = {.num_heads = 4},
      .num_experts = num_experts,
      .experts_per_token = 1,
      .expert_width = (int32_t)o->expert_width,
      .vocab_size = 16};
  return moerun__synth_write(&options);
}

static void remove_folder(const char *path) {
  struct dirent **items = NULL;
  char name[2 * PATH + 2];
  const int count = scandir(path, &items, NULL, NULL);
  for (int i = 0; i < count; i++) {
    (void)snprintf(name, sizeof name, "%s/%s", path, items[i]->d_name);
    (void)unlink(name); /* refused for . and .. */
    free(items[i]);
  }
  free(items);
  (void)rmdir(path);
}

static moerun_status load_model(bench_layer *layer, const char *path,
                                int32_t num_experts) {
  moerun_status status = MOERUN_OK;
  const moerun_model_options options = {.struct_size = sizeof options,
                                        .moe_only = 1};
  MOERUN_TRY(moerun_placement_create_block(&layer->placement, 1, num_experts,
                                           layer->comm->size));
  MOERUN_TRY(moerun_model_load(&layer->model, layer->comm, layer->placement,
                               path, &options));
done:
  return status;
}

moerun_status bench_layer_create(bench_layer *layer, bench *b,
                                 int32_t num_experts) {
  moerun_status status = MOERUN_OK;
  char folder[PATH] = "/tmp/moerun_bench_balance.XXXXXX";
  char path[PATH + 8] = "";
  moerun_comm *comm = b->comm;
  const size_t rows = (size_t)b->options.tokens;
  const size_t H = (size_t)b->options.hidden_width;
  const int root = comm->rank == 0;
  *layer = (bench_layer){.comm = comm, .tokens = (int32_t)b->options.tokens};
  if (root && mkdtemp(folder) == NULL) {
    status = moerun__fail(MOERUN_ERR_IO, __FILE__, __LINE__,
                          "%s: cannot be created", folder);
  }
  (void)snprintf(path, sizeof path, "%s/model", folder);
  if (root && status == MOERUN_OK) {
    status = write_model(path, &b->options, num_experts);
  }
  MOERUN_TRY(moerun__comm_agree(comm, status));
  MOERUN_TRY(comm->ops->broadcast(comm, path, sizeof path));
  MOERUN_TRY(load_model(layer, path, num_experts));
  MOERUN_TRY(moerun__alloc(&layer->wanted, rows, sizeof *layer->wanted));
  MOERUN_TRY(moerun__alloc(&layer->x, rows * H, sizeof *layer->x));
  MOERUN_TRY(moerun__alloc(&layer->y, rows * H, sizeof *layer->y));
done:
  if (root) {
    remove_folder(path);
    (void)rmdir(folder);
  }
  return status;
}

void bench_layer_destroy(bench_layer *layer) {
  moerun__free(layer->wanted);
  moerun__free(layer->x);
  moerun__free(layer->y);
  moerun_model_destroy(layer->model);
  moerun_placement_destroy(layer->placement);
}

moerun_status bench_layer_session(moerun_session **out, bench *b,
                                  const bench_layer *layer,
                                  moerun_balance balance, int64_t slice_bytes,
                                  const moerun__faults *faults) {
  const moerun__expert_shape expert =
      moerun__expert_whole(&layer->model->config, MOERUN_DTYPE_BF16);
  const int64_t bytes = (int64_t)moerun__expert_bytes(&expert);
  const int64_t guests = b->options.guests;
  const moerun_session_options options = {.max_tokens = layer->tokens,
                                          .balance = balance,
                                          .guest_bytes = guests == 0 ? -1
                                                         : guests < 0
                                                             ? 0
                                                             : guests * bytes,
                                          .slice_bytes = slice_bytes};
  const moerun__session_extra extra = {.faults = faults};
  return moerun__session_create_with(out, layer->model, &options, &extra);
}

/* ---- Routing ------------------------------------------------------------- */

int32_t bench_draw(const bench_routing *routing, int32_t num_experts,
                   double uniform) {
  const int32_t hot = routing->hot;
  if (hot == 0) return (int32_t)(uniform * num_experts);
  if (uniform < routing->share) {
    return (int32_t)(uniform / routing->share * hot);
  }
  const double rest = (uniform - routing->share) / (1 - routing->share);
  return hot + (int32_t)(rest * (num_experts - hot));
}

void bench_layer_steer(bench_layer *layer, const bench_routing *routing) {
  const moerun__weight *gate = &layer->model->layers[LAYER].gate;
  const int32_t H = layer->model->config.hidden_width;
  const uint64_t rank = (uint64_t)layer->comm->rank;
  const float size = noise / sqrtf((float)H) * sqrtf(12.0F);
  for (int32_t t = 0; t < layer->tokens; t++) {
    const double uniform = moerun__uniform(ROW_SEED, rank, (uint64_t)t);
    float *row = layer->x + (size_t)t * (size_t)H;
    layer->wanted[t] =
        bench_draw(routing, layer->model->config.num_experts, uniform);
    moerun__weight_row(row, gate, layer->wanted[t]);
    for (int32_t i = 0; i < H; i++) {
      const uint64_t at = (uint64_t)t * (uint64_t)H + (uint64_t)i;
      row[i] += size * (float)(moerun__uniform(NOISE_SEED, rank, at) - 0.5);
      row[i] *= 32;
    }
  }
}

/* ---- Time ---------------------------------------------------------------- */

moerun_status bench_layer_time(double *seconds, bench_layer *layer,
                               moerun_session *session, int32_t tokens) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(bench_together(layer->comm));
  *seconds = -moerun__now();
  MOERUN_TRY(moerun_moe_forward(session, LAYER, tokens, layer->x, layer->y));
  *seconds += moerun__now();
  MOERUN_TRY(bench_slowest(seconds, layer->comm));
  for (int32_t t = 0; t < tokens; t++) {
    MOERUN_REQUIRE(session->moe.gate.ids[t] == layer->wanted[t],
                   MOERUN_ERR_INVALID,
                   "row %d: expected expert %d, the gate chose %d", t,
                   layer->wanted[t], session->moe.gate.ids[t]);
  }
done:
  return moerun__comm_agree(layer->comm, status);
}

moerun_status bench_together(moerun_comm *comm) {
  int64_t here = 0;
  return comm->ops->minimum(comm, &here);
}

moerun_status bench_slowest(double *seconds, moerun_comm *comm) {
  int64_t nanoseconds = -(int64_t)(*seconds * 1e9);
  const moerun_status status = comm->ops->minimum(comm, &nanoseconds);
  *seconds = -1e-9 * (double)nanoseconds;
  return status;
}

moerun_status bench_sum(int64_t *value, moerun_comm *comm) {
  moerun_status status = MOERUN_OK;
  int64_t *all = NULL;
  int64_t sum = 0;
  MOERUN_TRY(moerun__alloc(&all, (size_t)comm->size, sizeof *all));
  MOERUN_TRY(comm->ops->gather(comm, comm->rank == 0 ? all : NULL, value,
                               sizeof *value));
  for (int32_t r = 0; r < comm->size; r++) {
    sum += all[r];
  }
  *value = sum;
  MOERUN_TRY(comm->ops->broadcast(comm, value, sizeof *value));
done:
  moerun__free(all);
  return status;
}

static int ascending(const void *a, const void *b) {
  const double x = *(const double *)a;
  const double y = *(const double *)b;
  return (x > y) - (x < y);
}

double bench_quantile(double *seconds, int64_t n, double share) {
  qsort(seconds, (size_t)n, sizeof *seconds, ascending);
  const int64_t at = (int64_t)ceil(share * (double)n) - 1;
  return seconds[at > 0 ? at : 0];
}

double bench_mean(const double *seconds, int64_t n) {
  double sum = 0;
  for (int64_t i = 0; i < n; i++) {
    sum += seconds[i];
  }
  return sum / (double)n;
}

double bench_peak(const moerun_session *session, int planned) {
  const moerun__ledger *ledger = &session->moe.balance.ledger;
  const moerun__ledger_entry *step =
      &ledger->steps[(ledger->num_steps - 1) % MOERUN_LEDGER_STEPS];
  const int64_t peak = planned ? step->peak_planned : step->peak_routed;
  return (double)peak * ledger->num_ranks / (double)step->rows;
}
