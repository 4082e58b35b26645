/* What the public header says of threads: each with a comm of its own, they
 * create models and sessions and run them at once, with the bits of one thread;
 * errors belong to the thread that made them. */
#include "runtime/base/rng.h"
#include "support/cmocka.h"

#include <moerun/moerun.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <threads.h>

enum {
  THREADS = 4,
  LAYERS = 2,
  E = 6,
  K = 2,
  H = 24,
  F = 16,
  T = 30,
  ROUNDS = 8
};

typedef struct weights {
  float gate[F * H];
  float up[F * H];
  float down[H * F];
} weights;

typedef struct work {
  int32_t number;
  weights room;
  float x[T * H];
  float y[T * H];
  int32_t ids[T * K];
  float weight[T * K];
  moerun_status status;
  char error[256];
} work;

static void draw(float *out, size_t count, uint64_t seed, uint64_t stream) {
  for (size_t i = 0; i < count; i++) {
    out[i] = (float)(2 * moerun__uniform(seed, stream, i) - 1);
  }
}

static moerun_status give(void *context, int32_t layer, int32_t expert,
                          moerun_expert_arrays *arrays) {
  work *w = context;
  const uint64_t stream = (uint64_t)(layer * E + expert);
  draw(w->room.gate, F * H, 1, stream);
  draw(w->room.up, F * H, 2, stream);
  draw(w->room.down, H * F, 3, stream);
  *arrays = (moerun_expert_arrays){w->room.gate, w->room.up, w->room.down};
  return MOERUN_OK;
}

static moerun_status step(work *w, moerun_comm *comm,
                          const moerun_placement *placement) {
  moerun_model *model = NULL;
  moerun_session *session = NULL;
  const moerun_model_source source = {.struct_size = sizeof source,
                                      .num_moe_layers = LAYERS,
                                      .num_experts = E,
                                      .experts_per_token = K,
                                      .hidden_width = H,
                                      .expert_width = F,
                                      .load_expert = give,
                                      .context = w};
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = T};
  moerun_status status = moerun_model_create(&model, comm, placement, &source);
  if (status == MOERUN_OK) {
    status = moerun_session_create(&session, model, &options);
  }
  for (int32_t l = 0; l < LAYERS && status == MOERUN_OK; l++) {
    status =
        moerun_moe_forward_routed(session, l, T, w->x, w->ids, w->weight, w->y);
    memcpy(w->x, w->y, sizeof w->x);
  }
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  return status;
}

static int run(void *context) {
  work *w = context;
  moerun_comm *comm = NULL;
  moerun_placement *placement = NULL;
  for (int32_t round = 0; round < ROUNDS && w->status == MOERUN_OK; round++) {
    draw(w->x, T * H, 4, 0);
    draw(w->weight, T * K, 5, 0);
    for (int32_t i = 0; i < T * K; i++) {
      w->ids[i] = (i / K + i % K) % E;
    }
    w->status = moerun_comm_create_self(&comm);
    if (w->status == MOERUN_OK) {
      w->status = moerun_placement_create_block(&placement, LAYERS, E, 1);
    }
    if (w->status == MOERUN_OK) w->status = step(w, comm, placement);
    moerun_placement_destroy(placement);
    moerun_comm_destroy(comm);
    placement = NULL;
    comm = NULL;
  }
  /* A failure of its own, by its number. */
  (void)(moerun_placement_create_block(&placement, 1, 1, -w->number - 1) ==
         MOERUN_OK);
  (void)snprintf(w->error, sizeof w->error, "%s", moerun_last_error());
  return 0;
}

static void threads_with_comms_of_their_own_work_at_once(void **state) {
  (void)state;
  thrd_t thread[THREADS];
  work *all = calloc(THREADS + 1, sizeof *all);
  assert_non_null(all);
  (void)run(&all[THREADS]);
  for (int32_t i = 0; i < THREADS; i++) {
    all[i].number = i + 1;
    assert_int_equal(thrd_create(&thread[i], run, &all[i]), thrd_success);
  }
  for (int32_t i = 0; i < THREADS; i++) {
    char found[32];
    assert_int_equal(thrd_join(thread[i], NULL), thrd_success);
    assert_int_equal(all[i].status, MOERUN_OK);
    assert_memory_equal(all[i].y, all[THREADS].y, sizeof all[i].y);
    (void)snprintf(found, sizeof found, "%d", -i - 2);
    assert_non_null(strstr(all[i].error, found));
  }
  free(all);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(threads_with_comms_of_their_own_work_at_once),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
