/* The same bits across a change of placement: a sequence that is being
 * continued yields the same bits whether or not experts move between its steps;
 * only what a rank lacks is moved, the memory count stays exact, and what does
 * not fit is refused on all ranks with nothing changed. */
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/serve/migrate.h"
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>
#include <stdlib.h>
#include <string.h>

#define MODEL MOERUN_TEST_DATA "/hf/qwen3_moe_bf16"
enum { STEPS = 8, ROWS = 5, SEED = 41 };

static moerun_comm *comm;
static moerun_model_shape shape = {.struct_size = sizeof shape};
static uint64_t counter;

static int32_t draw(int32_t below) {
  return (int32_t)(moerun__uniform(SEED, 3, counter++) * below);
}

/* The same on all ranks: every expert on one to R ranks. */
static moerun_placement *draw_placement(void) {
  const int32_t R = test_size();
  const int32_t count = shape.num_moe_layers * shape.num_experts;
  moerun_placement *placement = NULL;
  int32_t *offset = calloc((size_t)count + 1, sizeof *offset);
  int32_t *rank_of = calloc((size_t)(count * R), sizeof *rank_of);
  int32_t n = 0;
  for (int32_t i = 0; i < count; i++) {
    const int32_t first = draw(R);
    const int32_t replicas = draw(3) == 0 ? 1 + draw(R) : 1;
    offset[i] = n;
    for (int32_t r = 0; r < R; r++) {
      if ((r - first + R) % R < replicas) rank_of[n++] = r;
    }
  }
  offset[count] = n;
  assert_all_ok(moerun__placement_create(&placement, shape.num_moe_layers,
                                         shape.num_experts, R, offset, rank_of,
                                         "random"));
  free(offset);
  free(rank_of);
  return placement;
}

/* ROWS tokens at the end of sequence 0 of this rank. */
static moerun_status step(moerun_session *session, int32_t number,
                          float *logits) {
  int32_t token[ROWS];
  int32_t position[ROWS];
  const int32_t sequence[ROWS] = {0};
  const int32_t last = ROWS - 1;
  for (int32_t t = 0; t < ROWS; t++) {
    position[t] = number * ROWS + t;
    token[t] = (int32_t)(moerun__uniform(9, (uint64_t)test_rank(),
                                         (uint64_t)position[t]) *
                         shape.vocab_size);
  }
  const moerun_batch batch = {ROWS, token, sequence, position, 1, &last};
  return moerun_forward(session, &batch, logits);
}

typedef struct rig {
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *session;
} rig;

static void set_up(rig *r, int32_t max_slots) {
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = ROWS,
                                          .max_sequences = 1,
                                          .kv_tokens = STEPS * ROWS};
  const moerun__session_extra extra = {.max_slots = max_slots};
  memset(r, 0, sizeof *r);
  assert_all_ok(moerun_placement_create_block(
      &r->placement, shape.num_moe_layers, shape.num_experts, test_size()));
  assert_all_ok(moerun_model_load(&r->model, comm, r->placement, MODEL, NULL));
  assert_all_ok(
      moerun__session_create_with(&r->session, r->model, &options, &extra));
}

static void tear_down(rig *r) {
  moerun_session_destroy(r->session);
  moerun_model_destroy(r->model);
  moerun_placement_destroy(r->placement);
}

/* Replicas that `to` has on this rank and `from` has not. */
static int64_t lacking(const moerun_placement *from,
                       const moerun_placement *to) {
  int64_t count = 0;
  int32_t *a = calloc((size_t)shape.num_experts, sizeof *a);
  int32_t *b = calloc((size_t)shape.num_experts, sizeof *b);
  for (int32_t l = 0; l < shape.num_moe_layers; l++) {
    const int32_t n = moerun__placement_experts(from, l, test_rank(), a);
    const int32_t m = moerun__placement_experts(to, l, test_rank(), b);
    for (int32_t j = 0; j < m; j++) {
      int32_t found = 0;
      for (int32_t i = 0; i < n; i++) {
        found |= a[i] == b[j];
      }
      count += !found;
    }
  }
  free(a);
  free(b);
  return count;
}

static void moving_experts_changes_no_bit(void **state) {
  (void)state;
  rig still;
  rig moving;
  const size_t V = (size_t)shape.vocab_size;
  float *want = calloc(V, sizeof *want);
  float *found = calloc(V, sizeof *found);
  set_up(&still, 0);
  set_up(&moving, shape.num_experts);
  for (int32_t i = 0; i < STEPS; i++) {
    assert_all_ok(step(still.session, i, want));
    assert_all_ok(step(moving.session, i, found));
    assert_all_ranks(memcmp(want, found, V * sizeof *want) == 0);
    moerun_placement *next = draw_placement();
    const int64_t expected = lacking(moving.placement, next);
    const int64_t sent = comm->count.row_bytes;
    int64_t moved = -1;
    assert_all_ok(
        moerun__session_replace(moving.session, moving.model, next, &moved));
    assert_all_ranks(moved == expected);
    assert_all_ranks(comm->count.row_bytes == sent); /* not counted as rows */
    moerun_placement_destroy(moving.placement);
    moving.placement = next;
  }
  /* The same placement again: nothing to do. */
  int64_t moved = -1;
  assert_all_ok(moerun__session_replace(moving.session, moving.model,
                                        moving.placement, &moved));
  assert_all_ranks(moved == 0);
  tear_down(&still);
  tear_down(&moving);
  free(want);
  free(found);
}

static void memory_stays_counted(void **state) {
  (void)state;
  rig r;
  set_up(&r, shape.num_experts);
  for (int i = 0; i < 3; i++) {
    const size_t others = moerun__alloc_live_bytes() - r.model->weight_bytes;
    moerun_placement *next = draw_placement();
    const size_t placement_bytes =
        moerun__alloc_live_bytes() - r.model->weight_bytes - others;
    int64_t moved = 0;
    moerun__model_size size;
    assert_all_ok(moerun__session_replace(r.session, r.model, next, &moved));
    assert_all_ranks(moerun__alloc_live_bytes() ==
                     others + placement_bytes + r.model->weight_bytes);
    assert_all_ok(moerun__model_size_load(&size, MODEL, next, test_rank(), 0));
    assert_all_ranks(size.weight_bytes == r.model->weight_bytes);
    assert_all_ranks(size.expert_bytes == r.model->expert_bytes);
    moerun_placement_destroy(r.placement);
    r.placement = next;
  }
  tear_down(&r);
}

static void what_does_not_fit_is_refused(void **state) {
  (void)state;
  rig r;
  const int32_t R = test_size();
  moerun_placement *other = NULL;
  int64_t moved = 0;
  float *logits = calloc((size_t)shape.vocab_size, sizeof *logits);
  set_up(&r, 0);
  assert_all_ok(step(r.session, 0, logits));
  assert_all_ok(moerun_placement_create_block(&other, shape.num_moe_layers,
                                              shape.num_experts, R + 1));
  assert_all_ranks(moerun__session_replace(r.session, r.model, other, &moved) ==
                   MOERUN_ERR_SHAPE);
  moerun_placement_destroy(other);
  if (R > 1) { /* all experts on the last rank, whose session has fewer slots */
    const int32_t count = shape.num_moe_layers * shape.num_experts;
    int32_t *rank_of = calloc((size_t)count, sizeof *rank_of);
    for (int32_t i = 0; i < count; i++) {
      rank_of[i] = R - 1;
    }
    assert_all_ok(moerun_placement_create(&other, shape.num_moe_layers,
                                          shape.num_experts, R, rank_of));
    const moerun_status status =
        moerun__session_replace(r.session, r.model, other, &moved);
    assert_all_ranks(status == (test_rank() == R - 1 ? MOERUN_ERR_OVERFLOW
                                                     : MOERUN_ERR_PEER));
    moerun_placement_destroy(other);
    free(rank_of);
  }
  assert_all_ok(step(r.session, 1, logits));
  free(logits);
  tear_down(&r);
}

/* Another session would compute with weights that are gone, and what is locked
 * for its device would be unlocked when this one ends. */
static void experts_of_two_sessions_stay(void **state) {
  (void)state;
  rig r;
  moerun_session *second = NULL;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = ROWS};
  const size_t V = (size_t)shape.vocab_size;
  float *want = calloc(V, sizeof *want);
  float *found = calloc(V, sizeof *found);
  int64_t moved = -1;
  set_up(&r, shape.num_experts);
  moerun_placement *next = draw_placement();
  assert_all_ok(moerun_session_create(&second, r.model, &options));
  assert_all_ranks(moerun__session_replace(r.session, r.model, next, &moved) ==
                   MOERUN_ERR_INVALID);
  assert_all_ranks(moved == 0 && r.model->placement == r.placement);
  assert_all_ranks(strstr(moerun_last_error(), "one session of the model") !=
                   NULL);
  moerun_session_destroy(second);
  assert_all_ok(moerun__session_replace(r.session, r.model, next, &moved));
  assert_all_ok(step(r.session, 0, found));
  moerun_session_destroy(r.session);
  /* One that comes later finds the model free again. */
  const moerun__session_extra extra = {.max_slots = shape.num_experts};
  const moerun_session_options again = {
      .struct_size = sizeof again, .max_tokens = ROWS, .max_sequences = 1};
  assert_all_ok(
      moerun__session_create_with(&r.session, r.model, &again, &extra));
  assert_all_ok(
      moerun__session_replace(r.session, r.model, r.placement, &moved));
  assert_all_ok(step(r.session, 0, want));
  assert_all_ranks(memcmp(want, found, V * sizeof *want) == 0);
  moerun_placement_destroy(next);
  free(want);
  free(found);
  tear_down(&r);
}

/* Two ranks each have room for more than half of the experts of any layer, as
 * they hold them in one of the first two; but no layer has more hosts than
 * experts, and the lists have room for no more. */
static void more_replicas_than_there_are_lists_for_are_refused(void **state) {
  (void)state;
  rig r;
  static const char model[] = MOERUN_TEST_DATA "/hf/mixtral_bf16";
  moerun_model_shape layers = {.struct_size = sizeof layers};
  assert_all_ok(moerun_model_shape_load(&layers, model));
  const int32_t E = layers.num_experts;
  const int32_t count = layers.num_moe_layers * E;
  assert_true(layers.num_moe_layers > 1);
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = ROWS};
  moerun_placement *more = NULL;
  int64_t moved = 0;
  int32_t *offset = calloc((size_t)count + 1, sizeof *offset);
  int32_t *rank_of = calloc((size_t)count + 1, sizeof *rank_of);
  if (test_size() == 1) skip();
  memset(&r, 0, sizeof r);
  for (int32_t i = 0; i < count; i++) {
    rank_of[i] = i % E >= (i / E == 0 ? E / 2 + 1 : E / 2 - 1);
  }
  assert_all_ok(moerun_placement_create(&r.placement, layers.num_moe_layers, E,
                                        test_size(), rank_of));
  assert_all_ok(moerun_model_load(&r.model, comm, r.placement, model, NULL));
  assert_all_ok(moerun_session_create(&r.session, r.model, &options));
  assert_all_ranks(r.session->moe.shape.max_replicas == E);
  int32_t n = 0;
  for (int32_t i = 0; i < count; i++) {
    offset[i] = n;
    rank_of[n++] = r.placement->rank_of[i];
    if (i == 0) rank_of[n++] = 1; /* expert 0 of layer 0 on both */
  }
  offset[count] = n;
  assert_all_ok(moerun__placement_create(
      &more, layers.num_moe_layers, E, test_size(), offset, rank_of, "given"));
  assert_all_ranks(moerun__session_replace(r.session, r.model, more, &moved) ==
                   MOERUN_ERR_OVERFLOW);
  assert_all_ranks(strstr(moerun_last_error(), "replicas in a layer") != NULL);
  moerun_placement_destroy(more);
  free(offset);
  free(rank_of);
  tear_down(&r);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(moving_experts_changes_no_bit),
      cmocka_unit_test(memory_stays_counted),
      cmocka_unit_test(what_does_not_fit_is_refused),
      cmocka_unit_test(experts_of_two_sessions_stay),
      cmocka_unit_test(more_replicas_than_there_are_lists_for_are_refused),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  if (moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK ||
      moerun_model_shape_load(&shape, MODEL) != MOERUN_OK) {
    return EXIT_FAILURE;
  }
  if (test_rank() == 0) (void)printf("seed %d\n", SEED);
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return failed;
}
