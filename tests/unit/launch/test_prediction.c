/* What `info` predicts is what is allocated, to the byte; and placements that
 * do not fit are refused. */
#include "launch/options/options.h"
#include "launch/options/placements.h"
#include "launch/run/node_memory.h"
#include "launch/tools/prediction.h"
#include "runtime/base/memory.h"
#include "runtime/decoder/session.h"
#include "runtime/model/synth.h"
#include "runtime/serve/engine.h"
#include "support/cmocka.h"
#include "support/scratch.h"
#include "support/temp_dir.h"

static const char *const no_variables[] = {NULL};
static const moerun__cache_need whole = {.logprobs_width = 6, .stop_bytes = 40};

static moerun__config *make_config(const char *first, const char *second) {
  const char *const arguments[] = {"--model", MOERUN_DEMO_MODEL, first, second};
  moerun__config *config = NULL;
  assert_int_equal(moerun__config_load(&config, &moerun__options, "info", 4,
                                       arguments, no_variables),
                   MOERUN_OK);
  return config;
}

static void predicted_bytes_are_allocated(void **state) {
  (void)state;
  moerun__config *config = make_config("--max-tokens=33", "--kv-tokens=500");
  moerun_comm *comm = NULL;
  moerun_placement *placement = NULL;
  moerun_model *model = NULL;
  moerun_session *session = NULL;
  moerun__prediction *predicted = NULL;
  const moerun_session_options options =
      moerun__session_options_of(config, &whole);
  const moerun__engine_options engine = {.logprobs_width = 6, .stop_bytes = 40};
  assert_int_equal(moerun_comm_create_self(&comm), MOERUN_OK);
  assert_int_equal(moerun__placement_for(&placement, config, 1), MOERUN_OK);
  assert_int_equal(moerun__predict(&predicted, config, placement, &whole, 0),
                   MOERUN_OK);
  const size_t before = moerun__alloc_live_bytes();
  assert_int_equal(
      moerun_model_load(&model, comm, placement, MOERUN_DEMO_MODEL, NULL),
      MOERUN_OK);
  /* The model's own description is not counted as weights. */
  const size_t loaded = moerun__alloc_live_bytes() - before;
  assert_int_equal(predicted->weight_bytes + predicted->expert_bytes,
                   model->weight_bytes);
  assert_in_range(loaded, model->weight_bytes, model->weight_bytes + 65536);
  assert_int_equal(moerun_session_create(&session, model, &options), MOERUN_OK);
  /* Alone, transfers are those within the process: to the byte. */
  assert_int_equal(predicted->later_bytes,
                   moerun__engine_bytes(session, &engine));
  assert_int_equal(moerun__alloc_live_bytes() - before - loaded,
                   predicted->cache_bytes + predicted->buffer_bytes);
  /* 500 positions are 32 pages of 16; 6 layers, 2 heads of width 32. */
  assert_int_equal(predicted->cache_bytes, 32 * 16 * 6 * 2 * 32 * 2 * 4);
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  assert_int_equal(moerun__alloc_live_bytes(), before);
  moerun__free(predicted);
  moerun_placement_destroy(placement);
  moerun_comm_destroy(comm);
  moerun__config_destroy(config);
}

/* What --replace-every takes: the window, ids of a step, room for ceil(32 / 5)
 * experts, and those of a layer a second time. */
static void replacing_is_predicted(void **state) {
  (void)state;
  static const char *const steps[] = {"--replace-every=0",
                                      "--replace-every=10"};
  moerun__prediction *predicted[2] = {NULL};
  moerun_placement *placement = NULL;
  moerun__model_size size;
  moerun__model_config model;
  for (int i = 0; i < 2; i++) {
    moerun__config *config = make_config("--ranks=5", steps[i]);
    moerun_placement_destroy(placement);
    assert_int_equal(moerun__placement_for(&placement, config, 5), MOERUN_OK);
    assert_int_equal(
        moerun__predict(&predicted[i], config, placement, &whole, 0),
        MOERUN_OK);
    moerun__config_destroy(config);
  }
  assert_int_equal(moerun__model_config_load(&model, MOERUN_DEMO_MODEL),
                   MOERUN_OK);
  for (int32_t rank = 0; rank < 5; rank++) {
    const moerun__replace_options options = {.every = 10, .window = 8192};
    assert_int_equal(
        moerun__model_size_load(&size, MOERUN_DEMO_MODEL, placement, rank, 0),
        MOERUN_OK);
    const size_t more =
        predicted[1][rank].buffer_bytes + predicted[1][rank].later_bytes -
        predicted[0][rank].buffer_bytes - predicted[0][rank].later_bytes;
    const size_t trace = (size_t)256 * 6 * 4 * sizeof(int16_t);
    const size_t known =
        moerun__replacer_bytes(&model, placement, rank, &options) + trace +
        size.expert_bytes / 6;
    assert_in_range(more, known, known + known / 2);
  }
  moerun__model_config_clear(&model);
  moerun__free(predicted[0]);
  moerun__free(predicted[1]);
  moerun_placement_destroy(placement);
}

/* The room for what the requests need, whichever of them meet. */
static void the_cache_is_what_the_requests_need(void **state) {
  (void)state;
  int32_t three[] = {7, 40, 16};
  moerun__cache_need need = moerun__cache_need_of(three, 3, 16, 1);
  assert_int_equal(need.kv_tokens, 16 + 48 + 16);
  assert_int_equal(need.max_positions, 40);
  int32_t again[] = {7, 40, 16};
  need = moerun__cache_need_of(again, 3, 2, 1); /* the two longest */
  assert_int_equal(need.kv_tokens, 48 + 16);
  int32_t dealt[] = {16, 16, 16, 16, 33};
  need = moerun__cache_need_of(dealt, 5, 16, 2); /* at most 3 a rank */
  assert_int_equal(need.kv_tokens, 48 + 16 + 16);
  assert_int_equal(moerun__cache_need_of(dealt, 0, 16, 2).kv_tokens, 1);
  int32_t large[] = {INT32_MAX - 20, INT32_MAX - 20};
  need = moerun__cache_need_of(large, 2, 16, 1);
  assert_int_equal(need.kv_tokens, INT32_MAX - 15);
  assert_int_equal(moerun__cache_need_assumed(100).max_positions, 100);
  assert_int_equal(moerun__cache_need_assumed(40960).max_positions, 2048);
}

/* What was set aside before the weights is what the session takes. */
static int num_destroyed;
static void destroy_counted(void *memory) {
  num_destroyed++;
  moerun__host.pinned_destroy(memory);
}
static void give_counted(moerun_comm *comm, void *buffer,
                         moerun__memory memory) {
  num_destroyed++;
  moerun__host_buffer_destroy(comm, buffer, memory);
}

static void the_reserve_is_what_a_session_takes(void **state) {
  (void)state;
  moerun__config *config = make_config("--max-tokens=33", "--chunks=2");
  const moerun__cache_need need = {.kv_tokens = 96, .max_positions = 40};
  moerun_comm *comm = NULL;
  moerun_placement *placement = NULL;
  moerun_model unread = {0};
  moerun_model *model = NULL;
  moerun_session *session = NULL;
  moerun__reserve reserve = {0};
  const moerun_session_options options =
      moerun__session_options_of(config, &need);
  assert_int_equal(moerun_comm_create_self(&comm), MOERUN_OK);
  assert_int_equal(moerun__placement_for(&placement, config, 1), MOERUN_OK);
  assert_int_equal(moerun__model_config_load(&unread.config, MOERUN_DEMO_MODEL),
                   MOERUN_OK);
  unread.comm = comm;
  unread.placement = placement;
  moerun__session_extra extra =
      moerun__session_extra_of(config, placement, &need, 0);
  assert_int_equal(moerun__session_reserve(&reserve, &unread, &options, &extra),
                   MOERUN_OK);
  const moerun__arenas memory = reserve.memory;
  extra.reserve = &reserve;
  assert_int_equal(
      moerun_model_load(&model, comm, placement, MOERUN_DEMO_MODEL, NULL),
      MOERUN_OK);
  assert_int_equal(
      moerun__session_create_with(&session, model, &options, &extra),
      MOERUN_OK);
  assert_non_null(memory.device.base);
  assert_memory_equal(&session->memory, &memory, sizeof memory);
  assert_null(reserve.memory.host.base);
  assert_int_equal(session->kv.num_pages, 6);
  assert_int_equal(session->kv.max_pages, 3);
  moerun_session_destroy(session);
  /* One of another size is no use, and gone before the session takes its
   * own. */
  moerun__arenas *sizes = &reserve.memory;
  size_t *size[] = {&sizes->host.used, &sizes->traffic.used, &sizes->rows.used,
                    &sizes->device.used};
  for (int i = 0; i < 4; i++) {
    assert_int_equal(
        moerun__session_reserve(&reserve, &unread, &options, &extra),
        MOERUN_OK);
    ++*size[i];
    assert_int_equal(
        moerun__session_create_with(&session, model, &options, &extra),
        MOERUN_OK);
    assert_int_equal(session->memory.host.used, memory.host.used);
    assert_int_equal(session->memory.traffic.used, memory.traffic.used);
    assert_int_equal(session->memory.rows.used, memory.rows.used);
    assert_int_equal(session->memory.device.used, memory.device.used);
    assert_null(sizes->host.base);
    assert_null(sizes->traffic.base);
    assert_null(sizes->rows.base);
    assert_null(sizes->device.base);
    moerun_session_destroy(session);
  }
  /* Nor is one of another device or comm. */
  moerun__device device = moerun__host;
  device.pinned_destroy = destroy_counted;
  num_destroyed = 0;
  assert_int_equal(moerun__session_reserve(&reserve, &unread, &options, &extra),
                   MOERUN_OK);
  reserve.device = &device;
  assert_int_equal(
      moerun__session_create_with(&session, model, &options, &extra),
      MOERUN_OK);
  assert_int_equal(num_destroyed, 1);
  moerun_session_destroy(session);
  moerun__comm_ops ops = *comm->ops;
  ops.buffer_destroy = give_counted;
  moerun_comm another = {.ops = &ops, .size = 1};
  num_destroyed = 0;
  assert_int_equal(moerun__session_reserve(&reserve, &unread, &options, &extra),
                   MOERUN_OK);
  reserve.comm = &another;
  assert_int_equal(
      moerun__session_create_with(&session, model, &options, &extra),
      MOERUN_OK);
  assert_int_equal(num_destroyed, 2);
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  moerun__model_config_clear(&unread.config);
  moerun_placement_destroy(placement);
  moerun_comm_destroy(comm);
  moerun__config_destroy(config);
}

/* 5 ranks cannot have equally many of 32 experts. */
static void ranks_differ_by_their_experts(void **state) {
  (void)state;
  moerun__config *config = make_config("--ranks=5", "--wire=bf16");
  moerun_placement *placement = NULL;
  moerun__prediction *predicted = NULL;
  assert_int_equal(moerun__placement_for(&placement, config, 5), MOERUN_OK);
  assert_int_equal(moerun__predict(&predicted, config, placement, &whole, 0),
                   MOERUN_OK);
  size_t experts = 0;
  for (int32_t rank = 0; rank < 5; rank++) {
    moerun__model_size size;
    assert_int_equal(
        moerun__model_size_load(&size, MOERUN_DEMO_MODEL, placement, rank, 0),
        MOERUN_OK);
    assert_int_equal(predicted[rank].expert_bytes, size.expert_bytes);
    assert_int_equal(predicted[rank].weight_bytes, predicted[0].weight_bytes);
    experts += size.expert_bytes;
  }
  assert_true(predicted[0].expert_bytes != experts / 5);
  /* What is the device's is no part of either. */
  const moerun__prediction loading = {1, 2, 3, 4, 50, 100, 5, 9, 1000};
  const moerun__prediction running = {1, 2, 3, 4, 50, 20, 7, 9, 1000};
  assert_int_equal(moerun__prediction_total(&loading), 115);
  assert_int_equal(moerun__prediction_total(&running), 76);
  moerun__free(predicted);
  moerun_placement_destroy(placement);
  moerun__config_destroy(config);
}

/* A line of its own, if any rank's device has memory of its own. */
static void memory_of_the_device_stands_apart(void **state) {
  (void)state;
  static char text[2048];
  moerun__prediction ranks[2] = {{.weight_bytes = (size_t)3 << 20},
                                 {.weight_bytes = (size_t)5 << 20}};
  for (int has_device = 0; has_device < 2; has_device++) {
    ranks[1].device_bytes = (size_t)has_device << 21;
    FILE *stream = fmemopen(text, sizeof text, "w");
    assert_non_null(stream);
    moerun__prediction_print(stream, ranks, 2);
    assert_int_equal(fclose(stream), 0);
    assert_non_null(strstr(
        text, "\npeak               3.0          4.0          5.0  1\n"));
    assert_int_equal(strstr(text, "\ndevice") != NULL, has_device);
  }
  assert_non_null(
      strstr(text, "\ndevice             0.0          1.0          2.0  1\n"));
}

static moerun__expert_shape demo_expert(void) {
  moerun__model_config model;
  assert_int_equal(moerun__model_config_load(&model, MOERUN_DEMO_MODEL),
                   MOERUN_OK);
  const moerun__expert_shape expert =
      moerun__expert_whole(&model, MOERUN_DTYPE_BF16);
  moerun__model_config_clear(&model);
  return expert;
}

/* Experts of slow ranks may move by default: room for those of one rank in
 * every eight, which the others share. */
static void spare_slots_are_for_slow_ranks(void **state) {
  (void)state;
  static const char *const asked[] = {"--chunks=1", "--spare-slots=3",
                                      "--replace-every=0", "--balance=off",
                                      "--capacity=1"};
  static const int32_t slots[] = {3, 3, 0, 0, 0}; /* of 8 each: ceil(8 / 3) */
  const moerun__expert_shape expert = demo_expert();
  const size_t even = moerun__experts_bytes(&expert, 8);
  for (int i = 0; i < 5; i++) {
    moerun__config *config = make_config("--ranks=4", asked[i]);
    moerun_placement *placement = NULL;
    moerun__prediction *predicted = NULL;
    assert_int_equal(moerun__placement_for(&placement, config, 4), MOERUN_OK);
    assert_int_equal(moerun__predict(&predicted, config, placement, &whole, 0),
                     MOERUN_OK);
    assert_int_equal(moerun__replaces(config, 4), slots[i] > 0);
    assert_int_equal(moerun__replaces(config, 1), 0);
    /* In 6 layers, and once more as a layer moves. */
    const size_t most = moerun__experts_bytes(&expert, 8 + (size_t)slots[i]);
    assert_int_equal(predicted[0].spare_bytes, 7 * (most - even));
    moerun__free(predicted);
    moerun_placement_destroy(placement);
    moerun__config_destroy(config);
  }
  moerun_placement *blocks = NULL;
  assert_int_equal(moerun_placement_create_block(&blocks, 2, 30, 4), MOERUN_OK);
  assert_int_equal(moerun__replacer_slots(blocks, 0), 8);
  assert_int_equal(moerun__replacer_slots(blocks, 22), 30);
  assert_int_equal(moerun__replacer_slots(blocks, 1000), 30);
  moerun_placement_destroy(blocks);
  assert_int_equal(moerun__replacer_spare(64, 2), 32);
  assert_int_equal(moerun__replacer_spare(256, 64), 1);
  assert_int_equal(moerun__replacer_spare(8, 8), 1);
  assert_int_equal(moerun__replacer_spare(90, 9), 3); /* two of 9 are slow */
  assert_int_equal(moerun__replacer_spare(8, 1), 0);
}

/* By default guests have room for what a quarter of the ranks give away: with 2
 * ranks all experts of one. */
static void guests_are_predicted(void **state) {
  (void)state;
  static const char *const asked[] = {"--guest-memory=0", "--guest-memory=-1",
                                      "--guest-memory=3"};
  size_t found[3] = {0};
  const moerun__expert_shape expert = demo_expert();
  for (int i = 0; i < 3; i++) {
    moerun__config *config = make_config("--ranks=2", asked[i]);
    moerun_placement *placement = NULL;
    moerun__prediction *predicted = NULL;
    assert_int_equal(moerun__placement_for(&placement, config, 2), MOERUN_OK);
    assert_int_equal(moerun__predict(&predicted, config, placement, &whole, 0),
                     MOERUN_OK);
    assert_int_equal(predicted[0].guest_bytes, predicted[1].guest_bytes);
    found[i] = predicted[0].guest_bytes;
    moerun__free(predicted);
    moerun_placement_destroy(placement);
    moerun__config_destroy(config);
  }
  /* 6 layers of 16 experts, and two more. */
  assert_int_equal(found[0], (6 * 16 + 2) * moerun__expert_bytes(&expert));
  assert_int_equal(found[1], 0);
  assert_int_equal(found[2], 3 << 20);
}

/* Weights of 4 bytes want twice the room of those of 2, for guests and for
 * slices. */
static void wider_weights_want_more_room(void **state) {
  (void)state;
  size_t guests[2] = {0};
  size_t slices[2] = {0};
  temp_dir folder;
  char path[TEMP_PATH];
  assert_true(temp_dir_create(&folder));
  for (int wide = 0; wide < 2; wide++) {
    (void)temp_path(path, &folder, wide ? "wide" : "narrow");
    const moerun__synth_options made = {.path = path,
                                        .arch = "qwen3_moe",
                                        .seed = 3,
                                        .dtype = wide ? MOERUN_DTYPE_F32
                                                      : MOERUN_DTYPE_BF16,
                                        .num_layers = 2,
                                        .hidden_width = 64,
                                        .heads = {.num_heads = 2},
                                        .num_experts = 8,
                                        .experts_per_token = 2,
                                        .expert_width = 64,
                                        .vocab_size = 259};
    assert_int_equal(moerun__synth_write(&made), MOERUN_OK);
    for (int64_t mib = 0; mib <= 4; mib += 4) {
      char slice[32];
      (void)snprintf(slice, sizeof slice, "--slice-memory=%d", (int)mib);
      const char *const arguments[] = {"--model", path, "--ranks=2", slice};
      moerun__config *config = NULL;
      moerun_placement *placement = NULL;
      moerun__prediction *predicted = NULL;
      assert_int_equal(moerun__config_load(&config, &moerun__options, "info", 4,
                                           arguments, no_variables),
                       MOERUN_OK);
      assert_int_equal(moerun__placement_for(&placement, config, 2), MOERUN_OK);
      assert_int_equal(
          moerun__predict(&predicted, config, placement, &whole, 0), MOERUN_OK);
      guests[wide] = predicted[0].guest_bytes;
      slices[wide] = predicted[0].later_bytes - slices[wide];
      moerun__free(predicted);
      moerun_placement_destroy(placement);
      moerun__config_destroy(config);
    }
  }
  assert_true(guests[0] > 0);
  assert_int_equal(guests[1], 2 * guests[0]);
  /* The weights' alignment aside. */
  assert_true(slices[0] > 0);
  assert_in_range(slices[1], 2 * slices[0] - 4096, 2 * slices[0]);
  temp_dir_remove(&folder);
}

/* A line a part, and what each is the sum of. */
static void the_table_has_the_spread_over_ranks(void **state) {
  (void)state;
  const size_t mib = (size_t)1 << 20;
  const moerun__prediction ranks[] = {{1 * mib, 2 * mib, 3 * mib, 4 * mib,
                                       5 * mib, 20 * mib, 6 * mib, 7 * mib, 0},
                                      {1 * mib, 4 * mib, 3 * mib, 4 * mib,
                                       7 * mib, 8 * mib, 6 * mib, 7 * mib, 0},
                                      {1 * mib, 9 * mib, 3 * mib, 4 * mib,
                                       6 * mib, 5 * mib, 6 * mib, 1 * mib, 0}};
  static const char wanted[] =
      "MiB                min         mean          max  on rank\n"
      "weights            1.0          1.0          1.0  0\n"
      "experts            2.0          5.0          9.0  2\n"
      "KV cache           3.0          3.0          3.0  0\n"
      "buffers            9.0         10.0         11.0  1\n"
      "guests             6.0          6.0          6.0  0\n"
      "spare              1.0          5.0          7.0  0\n"
      "loading            5.0         11.0         20.0  0\n"
      "peak              30.0         32.7         36.0  0\n"
      "peak: most that is there at once; loading ends before spare slots are "
      "filled\n";
  char text[1024] = "";
  FILE *stream = tmpfile();
  assert_non_null(stream);
  moerun__prediction_print(stream, ranks, 3);
  rewind(stream);
  assert_true(fread(text, 1, sizeof text - 1, stream) > 0);
  (void)fclose(stream);
  assert_string_equal(text, wanted);
}

/* Half of what is left on the node with least, of as many ranks as it has. */
static void guests_fit_their_node(void **state) {
  (void)state;
  static const uint64_t node[3] = {7, 7, 8};
  moerun__prediction ranks[3] = {{0}};
  int64_t left[3] = {1000, 900, 400};
  for (int r = 0; r < 3; r++) {
    ranks[r].expert_bytes = 100;
  }
  assert_int_equal(moerun__bytes_that_fit(999, ranks, node, left, 3), 150);
  assert_int_equal(moerun__bytes_that_fit(149, ranks, node, left, 3), 149);
  left[1] = 500; /* (500 - 2 * 100) / 2 / 2 */
  assert_int_equal(moerun__bytes_that_fit(999, ranks, node, left, 3), 75);
  left[1] = 200;
  assert_int_equal(moerun__bytes_that_fit(999, ranks, node, left, 3), 0);
  left[0] = left[1] = left[2] = INT64_MAX; /* nobody knows */
  assert_int_equal(moerun__bytes_that_fit(999, ranks, node, left, 3), 999);
  moerun__memory_left here;
  assert_int_equal(moerun__memory_left_read(&here, ""), MOERUN_OK);
  assert_true(here.bytes > 0);
}

static void placements_that_do_not_fit_are_refused(void **state) {
  (void)state;
  char path[SCRATCH_PATH];
  char flag[2 * SCRATCH_PATH];
  scratch_create(path);
  (void)snprintf(flag, sizeof flag, "--placement=%s", path);
  moerun__config *config = make_config(flag, "--chunks=1");
  moerun_placement *placement = NULL;
  assert_int_equal(moerun_placement_create_block(&placement, 6, 32, 3),
                   MOERUN_OK);
  assert_int_equal(moerun_placement_save(placement, path), MOERUN_OK);
  moerun_placement_destroy(placement);
  assert_int_equal(moerun__placement_for(&placement, config, 4),
                   MOERUN_ERR_SHAPE);
  assert_null(placement);
  expect_words("\"num_ranks\": expected 4, found 3");
  assert_int_equal(moerun__placement_for(&placement, config, 0), MOERUN_OK);
  assert_int_equal(placement->num_ranks, 3);
  moerun_placement_destroy(placement);
  assert_int_equal(moerun_placement_create_block(&placement, 6, 31, 3),
                   MOERUN_OK);
  assert_int_equal(moerun_placement_save(placement, path), MOERUN_OK);
  moerun_placement_destroy(placement);
  assert_int_equal(moerun__placement_for(&placement, config, 3),
                   MOERUN_ERR_SHAPE);
  expect_words("expected 6 layers of 32");
  (void)unlink(path);
  moerun__config_destroy(config);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(predicted_bytes_are_allocated),
      cmocka_unit_test(replacing_is_predicted),
      cmocka_unit_test(the_cache_is_what_the_requests_need),
      cmocka_unit_test(the_reserve_is_what_a_session_takes),
      cmocka_unit_test(ranks_differ_by_their_experts),
      cmocka_unit_test(guests_are_predicted),
      cmocka_unit_test(memory_of_the_device_stands_apart),
      cmocka_unit_test(spare_slots_are_for_slow_ranks),
      cmocka_unit_test(wider_weights_want_more_room),
      cmocka_unit_test(the_table_has_the_spread_over_ranks),
      cmocka_unit_test(guests_fit_their_node),
      cmocka_unit_test(placements_that_do_not_fit_are_refused),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
