/* A MoE layer whose experts and whose expert stage are in the memory of a device
 * that the host cannot touch and that is late with everything
 * (support/made_device.h): the same bits, and no step that the host takes by
 * itself. */
#include "runtime/decoder/session.h"
#include "support/draw.h"
#include "support/made_device.h"
#include "support/model_world.h"

enum { T = 150, SEED = 31 };

static float x[T * H];
static float expected[T * H];
static float found[T * H];

typedef struct moved {
  const void *panels;
  moerun__weight *weight;
} moved;

/* What has moved, to be put back. */
static moved all[2 * LAYERS * EXPERTS];
static int num_moved;

static void move_weight(moerun__queue *queue, moerun__weight *weight) {
  const size_t bytes = moerun__weight_bytes(weight->dtype, weight->num_outputs,
                                            weight->num_inputs);
  void *there = NULL;
  assert_int_equal(queue->device->memory_create(&there, bytes), MOERUN_OK);
  queue->device->copy(queue, there, weight->panels, bytes);
  all[num_moved++] = (moved){weight->panels, weight};
  weight->panels = there;
}

static void move_experts(moerun__queue *queue, moerun_model *model) {
  for (int32_t l = 0; l < model->config.num_layers; l++) {
    moerun__layer *layer = &model->layers[l];
    for (int32_t s = 0; s < layer->num_slots; s++) {
      move_weight(queue, &layer->experts[s].gate_up);
      move_weight(queue, &layer->experts[s].down);
    }
  }
}

/* What the expert stage works in. */
static void move_room(moerun__queue *queue, moerun__moe_work *work) {
  const moerun__device *device = queue->device;
  const size_t tile = MOERUN_FFN_TILE * sizeof(float);
  float **rooms[] = {&work->tile_x, &work->tile_gate_up, &work->tile_h,
                     &work->tile_y};
  const size_t width[] = {H, 2 * F, F, H};
  for (size_t i = 0; i < sizeof rooms / sizeof *rooms; i++) {
    void *there = NULL;
    assert_int_equal(device->memory_create(&there, tile * width[i]), MOERUN_OK);
    *rooms[i] = there;
  }
}

static void put_back(void) {
  for (int i = 0; i < num_moved; i++) {
    all[i].weight->panels = all[i].panels;
  }
  num_moved = 0;
  while (made.num_regions > 0) {
    made_device.memory_destroy(made.region[0].memory);
  }
}

/* One layer on the host, then with its experts on the device. */
static void compare(moerun_session *session, moerun_model *model) {
  moerun__moe *moe = &session->moe;
  const moerun__moe host = *moe;
  moerun__kernels set = made_kernels(host.kernels);
  moerun__queue queue;
  int64_t rows = 0;
  memset(made.num_done, 0, sizeof made.num_done);
  assert_int_equal(made_device.queue_create(&queue), MOERUN_OK);
  queue.rounds = host.queue->rounds;
  assert_all_ok(moerun_moe_forward(session, 0, T, x, expected));
  move_experts(&queue, model);
  move_room(&queue, &moe->work);
  moe->kernels = &set;
  moe->queue = &queue;
  assert_all_ok(made_device.wait(&queue));
  assert_all_ranks(!made_is_readable(moe->work.tile_x) &&
                   made_is_readable(found));
  moerun__session_stats_reset(session);
  assert_all_ok(moerun_moe_forward(session, 0, T, x, found));
  for (int32_t e = 0; e < EXPERTS; e++) {
    rows += session->stats.expert_rows[e];
  }
  assert_all_ranks(memcmp(found, expected, sizeof found) == 0);
  assert_all_ranks(made.num_late == 0);
  assert_all_ranks((made.num_done[MADE_FFN] > 0) == (rows > 0));
  assert_all_ranks(made.num_done[MADE_GATHER] == made.num_done[MADE_FFN] &&
                   made.num_done[MADE_SCATTER] == made.num_done[MADE_FFN]);
  moe->kernels = host.kernels;
  moe->queue = host.queue;
  moe->work = host.work;
  made_device.queue_destroy(&queue);
  put_back();
}

static void experts_are_on_a_device(void **state) {
  (void)state;
  world w;
  moerun_model *model = NULL;
  open_world(&w, (moerun__synth_options){.arch = "qwen3_moe",
                                         .seed = 3,
                                         .dtype = MOERUN_DTYPE_BF16,
                                         .num_layers = LAYERS,
                                         .hidden_width = H,
                                         .num_heads = 5,
                                         .num_kv_heads = 5,
                                         .num_experts = EXPERTS,
                                         .experts_per_token = 2,
                                         .expert_width = F,
                                         .vocab_size = VOCAB});
  const moerun_model_options layers = {.struct_size = sizeof layers,
                                       .moe_only = 1};
  assert_all_ok(
      moerun_model_load(&model, w.comm, w.placement, w.path, &layers));
  for (int i = 0; i < 4; i++) {
    moerun_session *session = NULL;
    draw from = {SEED, (uint64_t)(1000 * test_rank())};
    const moerun_session_options options = {
        .struct_size = sizeof options,
        .max_tokens = T,
        .chunks = i % 2 == 0 ? 1 : 3,
        .wire = i < 2 ? MOERUN_WIRE_FP32 : MOERUN_WIRE_BF16,
        .compute = i < 2 ? MOERUN_COMPUTE_FP32 : MOERUN_COMPUTE_BF16,
        .balance = MOERUN_BALANCE_OFF};
    draw_floats(&from, x, (size_t)T * H, -1, 1);
    assert_all_ok(moerun_session_create(&session, model, &options));
    compare(session, model);
    moerun_session_destroy(session);
  }
  moerun_model_destroy(model);
  close_world(&w);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(experts_are_on_a_device),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)MPI_Finalize();
  return failed;
}
