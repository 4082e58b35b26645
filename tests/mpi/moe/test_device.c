/* Whole decoders on a device whose memory the host cannot touch and that is
 * late with everything (support/made_device.h): the same bits as on the host,
 * from the embedding to the logits, and in one layer that a program calls. Over
 * MPI rows travel from the host's memory, which is locked for the device; over
 * a transport that carries the device's memory (support/group_comm.h) the host
 * touches none of them. Weights of routed experts stay the host's and are
 * locked by their tiers, own ones, guests, slices and those that a migration
 * has made; all others are moved to the device. */
#include "runtime/decoder/session.h"
#include "runtime/serve/migrate.h"
#include "support/draw.h"
#include "support/group_comm.h"
#include "support/model_world.h"

enum { T = 60, FIRST = 40, STEPS = 5, SEQUENCES = 2, MAX_MOVED = 512 };

/* ---- Weights there and back ---------------------------------------------- */

typedef struct moved {
  const void *from;
  const void **at;
} moved;

static moved all[MAX_MOVED];
static int num_moved;

static void move(moerun__queue *queue, const void **at, size_t bytes) {
  void *there = NULL;
  if (*at == NULL) return;
  assert_true(num_moved < MAX_MOVED);
  assert_int_equal(queue->device->memory_create(&there, bytes), MOERUN_OK);
  queue->device->copy(queue, there, *at, bytes);
  all[num_moved++] = (moved){*at, at};
  *at = there;
}

static void move_weight(moerun__queue *queue, moerun__weight *weight) {
  move(queue, &weight->panels,
       moerun__weight_bytes(weight->dtype, weight->num_outputs,
                            weight->num_inputs));
}

static void move_expert(moerun__queue *queue, moerun__expert *expert) {
  move_weight(queue, &expert->gate_up);
  move_weight(queue, &expert->down);
}

static void move_vector(moerun__queue *queue, float **vector, size_t count) {
  move(queue, (const void **)(void *)vector, count * sizeof **vector);
}

static void move_attention(moerun__queue *queue,
                           const moerun__model_config *config,
                           moerun__attention_weight *weight) {
  const moerun__attention_kind *kind = config->attention;
  for (int32_t p = 0; p < kind->num_parts; p++) {
    const moerun__attention_part *part = &kind->parts[p];
    int64_t count = 0;
    for (int32_t i = part->first; i < part->first + part->count; i++) {
      int64_t shape[MOERUN_MAX_DIMS];
      (void)kind->shape(shape, config, kind->tensors[i].role);
      count += shape[0];
    }
    move_weight(queue, &weight[p].matrix);
    move_vector(queue, &weight[p].vector, (size_t)count);
  }
}

/* All but routed experts. */
static void move_model(moerun__queue *queue, moerun_model *model) {
  const moerun__model_config *config = &model->config;
  const size_t constants = (size_t)config->num_home[MOERUN_HOME_CONSTANT];
  move_weight(queue, &model->embedding);
  move_weight(queue, &model->head);
  move_vector(queue, &model->final_norm, H);
  for (int32_t l = 0; l < config->num_layers; l++) {
    moerun__layer *layer = &model->layers[l];
    move_vector(queue, &layer->attention_norm, H);
    move_attention(queue, config, layer->attention);
    move_vector(queue, &layer->ffn_norm, H);
    move_weight(queue, &layer->gate);
    move_vector(queue, &layer->choice_bias,
                (size_t)moerun__config_choices(config));
    move_expert(queue, &layer->shared);
    move_weight(queue, &layer->shared_weight);
    move_weight(queue, &layer->mix);
    move_vector(queue, &layer->constant, constants * H);
    move_expert(queue, &layer->dense);
  }
  assert_int_equal(queue->device->wait(queue), MOERUN_OK);
}

static void put_back(void) {
  for (int i = 0; i < num_moved; i++) {
    made_device.memory_destroy((void *)*all[i].at);
    *all[i].at = all[i].from;
  }
  num_moved = 0;
}

/* ---- Steps --------------------------------------------------------------- */

typedef struct outcome {
  float logits[STEPS][SEQUENCES][VOCAB];
  float y[T][H];
  int32_t broken[STEPS][T];
} outcome;

static int32_t token[STEPS][T];
static float x[T][H];

/* A prompt of each sequence, then token by token. */
static void run_steps(outcome *out, moerun_session *session) {
  int32_t length[SEQUENCES] = {0};
  memset(out, 0, sizeof *out);
  for (int step = 0; step < STEPS; step++) {
    int32_t sequence[T];
    int32_t position[T];
    int32_t logit_row[SEQUENCES];
    int32_t rows = 0;
    for (int32_t s = 0; s < SEQUENCES; s++) {
      const int32_t count = step > 0 ? 1 : s == 0 ? FIRST : T - FIRST;
      for (int32_t i = 0; i < count; i++) {
        sequence[rows] = s;
        position[rows++] = length[s]++;
      }
      logit_row[s] = rows - 1;
    }
    const moerun_batch batch = {rows,     token[step], sequence,
                                position, SEQUENCES,   logit_row};
    assert_all_ok(moerun_forward(session, &batch, out->logits[step][0]));
    memcpy(out->broken[step], session->broken,
           (size_t)rows * sizeof *session->broken);
  }
}

static int32_t moe_layer(const moerun_model *model) {
  int32_t l = 0;
  while (model->layers[l].moe_layer < 0) {
    l++;
  }
  return l;
}

/* One layer, with rows that lie where the kernels are. */
static void run_layer(outcome *out, moerun_session *session) {
  moerun__queue *queue = &session->queue;
  const moerun__device *device = queue->device;
  void *from = NULL;
  void *to = NULL;
  assert_int_equal(device->memory_create(&from, sizeof x), MOERUN_OK);
  assert_int_equal(device->memory_create(&to, sizeof x), MOERUN_OK);
  device->copy(queue, from, x, sizeof x);
  assert_all_ok(
      moerun_moe_forward(session, moe_layer(session->model), T, from, to));
  assert_all_ranks(made.num_late == 0); /* a program need not wait */
  device->copy(queue, out->y, to, sizeof out->y);
  assert_int_equal(device->wait(queue), MOERUN_OK);
  device->memory_destroy(from);
  device->memory_destroy(to);
}

static outcome expected;
static outcome found;

/* Each expert to the next rank. */
static moerun_placement *turn(const moerun_placement *from) {
  const int32_t count = from->num_layers * from->num_experts;
  moerun_placement *to = NULL;
  int32_t *rank_of = calloc((size_t)count, sizeof *rank_of);
  for (int32_t i = 0; i < count; i++) {
    rank_of[i] = (from->rank_of[i] + 1) % from->num_ranks;
  }
  assert_all_ok(moerun_placement_create(
      &to, from->num_layers, from->num_experts, from->num_ranks, rank_of));
  free(rank_of);
  return to;
}

/* The layer once more when experts have moved, and when they are back. */
static void move_experts(outcome *out, moerun_session *session,
                         moerun_model *model) {
  const moerun_placement *home = model->placement;
  moerun_placement *away = turn(home);
  const moerun_placement *const placements[] = {away, home};
  for (int i = 0; i < 2; i++) {
    int64_t came = 0;
    assert_all_ok(
        moerun__session_replace(session, model, placements[i], &came));
    assert_all_ranks((came > 0) == (test_size() > 1));
    memset(out->y, 0, sizeof out->y);
    run_layer(out, session);
    assert_all_ranks(memcmp(out->y, expected.y, sizeof out->y) == 0);
  }
  moerun_placement_destroy(away);
}

static void run_host(moerun_model *model,
                     const moerun_session_options *options) {
  moerun_session *session = NULL;
  moerun_session_options off = *options;
  off.balance = MOERUN_BALANCE_OFF;
  assert_all_ok(moerun_session_create(&session, model, &off));
  run_steps(&expected, session);
  run_layer(&expected, session);
  moerun_session_destroy(session);
}

/* None in the host's memory; of whole experts a plan and three lists for each
 * chunk of a layer. */
static void check_rows(const group_comm *group, const moerun_model *model,
                       const moerun_session_options *options) {
  const int64_t layers = (int64_t)model->config.num_moe_layers * STEPS + 3;
  assert_all_ranks(group->host_rows == 0 && group->device_rows > 0);
  if (options->balance == MOERUN_BALANCE_SLICED && test_size() > 1) return;
  assert_all_ranks(group->device_rows == 4 * layers * options->chunks);
}

/* Host memory that the session took when it was opened, beside what is
 * predicted: for slices, which are larger the faster a rank has found itself to
 * be. */
static size_t slice_bytes(const moerun_session *session) {
  const moerun__slices *slices = &session->moe.store.slices;
  size_t bytes = 0;
  for (int32_t l = 0; l < slices->num_layers; l++) {
    bytes += EXPERTS * moerun__expert_bytes(&slices->shape[l]);
  }
  return slices->room != NULL ? moerun__alloc_bytes(bytes, 1) : 0;
}

static void run_made(moerun_model *model,
                     const moerun_session_options *options) {
  static const moerun__plan_options eager = {
      .threshold = 1000, .slack = 1000, .min_rows = 1, .min_rows_held = 1};
  moerun_session *session = NULL;
  const moerun__kernels *base = NULL;
  assert_int_equal(moerun__kernels_find(&base, "auto"), MOERUN_OK);
  const moerun__kernels set = made_kernels(base);
  const moerun__session_extra extra = {.device = &made_device,
                                       .kernels = &set,
                                       .plan = &eager,
                                       .max_slots = EXPERTS};
  memset(made.num_done, 0, sizeof made.num_done);
  moerun_session sizes;
  const moerun__session_size size =
      moerun__session_predict(&sizes, model, options, &extra);
  const size_t on_host = moerun__alloc_live_bytes();
  const size_t on_device = made_live_bytes();
  assert_all_ok(moerun__session_create_with(&session, model, options, &extra));
  assert_all_ranks(moerun__alloc_live_bytes() - on_host ==
                   size.host_bytes + slice_bytes(session));
  assert_all_ranks(made_live_bytes() - on_device == size.device_bytes);
  assert_all_ranks(size.cache_bytes == 0 && size.device_bytes > 0);
  assert_all_ranks(!made_is_readable(session->x) &&
                   !made_is_readable(session->cache->floats) &&
                   !made_is_readable(session->moe.work.tile_x) &&
                   made_is_readable(session->broken));
  assert_all_ranks(made_is_readable(session->moe.exchange.chunk[0].rows) ==
                   (model->comm->ops->device == NULL));
  run_steps(&found, session);
  assert_all_ranks(made.num_late == 0);
  run_layer(&found, session);
  move_experts(&found, session, model);
  moerun_session_destroy(session);
}

static void compare(moerun_model *model,
                    const moerun_session_options *options) {
  moerun_comm *mpi = model->comm;
  moerun_comm *group = NULL;
  moerun__queue queue;
  run_host(model, options);
  assert_all_ok(group_comm_create(&group));
  moerun_comm *const comms[] = {mpi, group};
  for (int i = 0; i < 2; i++) {
    model->comm = comms[i];
    assert_int_equal(made_device.queue_create(&queue), MOERUN_OK);
    move_model(&queue, model);
    run_made(model, options);
    put_back();
    made_device.queue_destroy(&queue);
    assert_all_ranks(memcmp(&found, &expected, sizeof found) == 0);
    assert_all_ranks(made.num_regions == 0 && made.num_host == 0);
    assert_all_ranks(made.num_done[MADE_EMBED] == STEPS &&
                     made.num_done[MADE_ATTENTION] ==
                         SEQUENCES * LAYERS * STEPS);
  }
  check_rows((const group_comm *)group, model, options);
  model->comm = mpi;
  moerun_comm_destroy(group);
}

/* ---- Models -------------------------------------------------------------- */

static const moerun__synth_options models[] = {
    {.arch = "qwen3_moe", .num_home = {1, 1, 1, 2}},
    {.arch = "olmoe"},
    {.arch = "qwen2_moe"},
    {.arch = "dots1", .num_dense = 1, .dense_width = 56},
};

/* The same of all kinds of models; whatever a step reads too early is no number
 * or that of another step. */
static void decoders_are_on_a_device(void **state) {
  (void)state;
  for (size_t m = 0; m < sizeof models / sizeof *models; m++) {
    world w;
    moerun_model *model = NULL;
    draw from = {31 + m, (uint64_t)(1000 * test_rank())};
    moerun__synth_options shape = models[m];
    shape.seed = 3;
    shape.dtype = m % 2 == 0 ? MOERUN_DTYPE_BF16 : MOERUN_DTYPE_F32;
    shape.num_layers = LAYERS;
    shape.hidden_width = H;
    shape.heads.num_heads = 5;
    shape.heads.num_kv_heads = 5;
    shape.num_experts = EXPERTS;
    shape.experts_per_token = 2;
    shape.expert_width = 64; /* of whole slices */
    shape.vocab_size = VOCAB;
    open_world(&w, shape);
    assert_all_ok(moerun_model_load(&model, w.comm, w.placement, w.path, NULL));
    for (int32_t i = 0; i < STEPS * T; i++) {
      token[i / T][i % T] = draw_int(&from, 0, VOCAB - 1);
    }
    draw_floats(&from, x[0], (size_t)T * H, -1, 1);
    for (int i = 0; i < 4; i++) {
      const moerun_session_options options = {
          .struct_size = sizeof options,
          .max_tokens = T,
          .max_sequences = SEQUENCES,
          .kv_tokens = 200,
          .chunks = i % 2 == 0 ? 1 : 3,
          .wire = i == 1 ? MOERUN_WIRE_BF16 : MOERUN_WIRE_FP32,
          .compute = i == 1 ? MOERUN_COMPUTE_BF16 : MOERUN_COMPUTE_FP32,
          .balance = i < 2    ? MOERUN_BALANCE_OFF
                     : i == 2 ? MOERUN_BALANCE_AUTO
                              : MOERUN_BALANCE_SLICED};
      compare(model, &options);
    }
    moerun_model_destroy(model);
    close_world(&w);
  }
}

static int locks;
static moerun_status refuse_lock(void *memory, size_t bytes) {
  if (--locks < 0)
    return moerun__fail(MOERUN_ERR_NOMEM, __FILE__, __LINE__, "no lock");
  return made_device.lock(memory, bytes);
}

static void nothing_is_left_without_a_lock(void **state) {
  world w;
  moerun_model *model = NULL;
  (void)state;
  moerun__synth_options shape = models[1];
  shape.num_layers = LAYERS;
  shape.hidden_width = H;
  shape.heads.num_heads = 5;
  shape.heads.num_kv_heads = 5;
  shape.num_experts = EXPERTS;
  shape.experts_per_token = 2;
  shape.expert_width = 64;
  shape.vocab_size = VOCAB;
  open_world(&w, shape);
  assert_all_ok(moerun_model_load(&model, w.comm, w.placement, w.path, NULL));
  moerun__device device = made_device;
  device.lock = refuse_lock;
  const moerun__session_extra extra = {.device = &device};
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = T,
                                          .max_sequences = 1,
                                          .kv_tokens = 200,
                                          .balance = MOERUN_BALANCE_OFF};
  const int rows_and_weights = 2 + MOERUN_EXPERT_PIECES * LAYERS;
  for (int n = 0; n < rows_and_weights; n++) {
    moerun_session *session = NULL;
    locks = n;
    const size_t live = moerun__alloc_live_bytes();
    assert_all_ranks(moerun__session_create_with(&session, model, &options,
                                                 &extra) == MOERUN_ERR_NOMEM);
    assert_all_ranks(session == NULL && moerun__alloc_live_bytes() == live);
    assert_all_ranks(made.num_regions == 0 && made.num_host == 0);
  }
  moerun_model_destroy(model);
  close_world(&w);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(decoders_are_on_a_device),
      cmocka_unit_test(nothing_is_left_without_a_lock),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)MPI_Finalize();
  return failed;
}
