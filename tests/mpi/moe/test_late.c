/* Experts whose weights are not in memory. A made-up tier reads them from a file
 * once rows for them are here, has room for one at a time, and brings them in an
 * order of its own. The expert stage is the same, and so is every bit. */
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/decoder/session.h"
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>
#include <string.h>

static moerun_comm *comm;

#define MODEL MOERUN_TEST_DATA "/hf/qwen3_moe_bf16"

enum { T = 24, H = 64, LAYER = 1, STEPS = 4, MOST_SLOTS = 32 };

/* ---- The tier -------------------------------------------------------------------- */

/* Odd slots of one layer, as written to `file` by slot. */
typedef struct late {
  FILE *file;
  moerun__expert_shape shape;
  char *room; /* of one expert */
  moerun__expert expert;
  int32_t in_room; /* slot, or MOERUN_NO_SLOT */
  int32_t wanted[MOST_SLOTS];
  int32_t num_wanted;
  int32_t num_released; /* of them */
  int64_t reads;
} late;

static int is_late(const moerun__layer *layer, int32_t slot) {
  return slot < layer->num_slots && slot % 2 == 1;
}

static moerun__presence late_get(const void *self, const moerun__expert **out,
                                 const moerun__layer *layer, int32_t slot) {
  const late *t = self;
  if (!is_late(layer, slot)) return MOERUN_ABSENT;
  if (t->in_room != slot) return MOERUN_COMING;
  *out = &t->expert;
  return MOERUN_HERE;
}

static moerun_status late_want(void *self, const moerun__layer *layer,
                               int32_t slot) {
  late *t = self;
  (void)layer;
  t->wanted[t->num_wanted++] = slot;
  return MOERUN_OK;
}

/* The last that was wanted comes first. */
static int32_t late_coming(const void *self, const moerun__layer *layer,
                           int32_t i) {
  const late *t = self;
  (void)layer;
  return i < t->num_wanted ? t->wanted[t->num_wanted - 1 - i] : MOERUN_NO_SLOT;
}

static moerun_status late_wait(void *self, const moerun__layer *layer,
                               int32_t slot) {
  moerun_status status = MOERUN_OK;
  late *t = self;
  (void)layer;
  const size_t bytes = moerun__expert_bytes(&t->shape);
  MOERUN_REQUIRE(t->in_room == MOERUN_NO_SLOT, MOERUN_ERR_OVERFLOW,
                 "slot %d is not released", t->in_room);
  MOERUN_REQUIRE(slot == late_coming(t, layer, t->num_released),
                 MOERUN_ERR_INVALID, "slot %d is not in its turn", slot);
  MOERUN_REQUIRE(fseek(t->file, (long)((size_t)slot * bytes), SEEK_SET) == 0 &&
                     fread(t->room, 1, bytes, t->file) == bytes,
                 MOERUN_ERR_IO, "slot %d cannot be read", slot);
  t->expert = moerun__expert_at(&t->shape, t->room);
  t->in_room = slot;
  t->reads++;
done:
  return status;
}

static moerun_status late_release(void *self, const moerun__layer *layer,
                                  int32_t slot) {
  late *t = self;
  (void)layer;
  if (t->in_room != slot) return MOERUN_ERR_INVALID;
  memset(t->room, 0xff, moerun__expert_bytes(&t->shape));
  t->in_room = MOERUN_NO_SLOT;
  t->num_released++;
  if (t->num_released == t->num_wanted) {
    t->num_released = 0;
    t->num_wanted = 0;
  }
  return MOERUN_OK;
}

static const moerun__tier_ops late_ops = {.name = "late",
                                          .get = late_get,
                                          .want = late_want,
                                          .coming = late_coming,
                                          .wait = late_wait,
                                          .release = late_release};

/* Moves the layer's odd slots to a file: what was their memory holds nothing. */
static void late_create(late *t, moerun_model *model) {
  moerun__layer *layer = &model->layers[LAYER];
  memset(t, 0, sizeof *t);
  t->in_room = MOERUN_NO_SLOT;
  assert_all_ok(moerun__model_expert_shape(&t->shape, model, layer->moe_layer));
  const size_t bytes = moerun__expert_bytes(&t->shape);
  assert_all_ok(moerun__alloc(&t->room, 1, bytes));
  assert_all_ranks((t->file = tmpfile()) != NULL);
  int written = layer->num_slots <= MOST_SLOTS;
  for (int32_t s = 1; s < layer->num_slots; s += 2) {
    moerun__expert *expert = &layer->experts[s];
    long at = (long)((size_t)s * bytes);
    for (int p = 0; p < MOERUN_EXPERT_PIECES; p++) {
      const moerun__expert_piece piece = (moerun__expert_piece)p;
      const size_t count = moerun__expert_piece_bytes(&t->shape, piece);
      void *panels = (void *)moerun__expert_weight(expert, piece)->panels;
      written = written && fseek(t->file, at, SEEK_SET) == 0 &&
                fwrite(panels, 1, count, t->file) == count;
      memset(panels, 0xff, count);
      at += (long)count;
    }
    expert->gate_up.panels = NULL;
    expert->down.panels = NULL;
  }
  assert_all_ranks(written);
}

static void late_destroy(late *t) {
  (void)fclose(t->file);
  moerun__free(t->room);
}

/* ---- Steps ------------------------------------------------------------------------ */

typedef struct rig {
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *session;
} rig;

static void set_up(rig *r, int32_t chunks) {
  moerun_model_shape shape = {.struct_size = sizeof shape};
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = T,
                                          .chunks = chunks,
                                          .balance = MOERUN_BALANCE_OFF};
  assert_all_ok(moerun_model_shape_load(&shape, MODEL));
  assert_all_ok(moerun_placement_create_block(
      &r->placement, shape.num_moe_layers, shape.num_experts, test_size()));
  assert_all_ok(moerun_model_load(&r->model, comm, r->placement, MODEL, NULL));
  assert_all_ok(moerun_session_create(&r->session, r->model, &options));
}

static void tear_down(rig *r) {
  moerun_session_destroy(r->session);
  moerun_model_destroy(r->model);
  moerun_placement_destroy(r->placement);
}

/* Slots with rows that are not in memory, by what a session counts. */
static int64_t late_rows(const moerun_session *session) {
  const moerun_model *model = session->model;
  const moerun__layer *layer = &model->layers[LAYER];
  int64_t rows = 0;
  for (int32_t s = 1; s < layer->num_slots; s += 2) {
    const int32_t e = moerun__store_expert(&session->moe.store, layer, s);
    rows += session->stats
                .expert_rows[layer->moe_layer * model->config.num_experts + e];
  }
  return rows;
}

static void experts_come_from_a_file(void **state) {
  (void)state;
  for (int32_t chunks = 1; chunks <= 2; chunks++) {
    rig plain;
    rig slow;
    late tier;
    set_up(&plain, chunks);
    set_up(&slow, chunks);
    late_create(&tier, slow.model);
    moerun__store_add_tier(&slow.session->moe.store,
                           (moerun__tier){&late_ops, &tier});
    for (uint64_t key = 0; key < STEPS; key++) {
      float x[T * H];
      float want[T * H];
      float found[T * H];
      const int32_t tokens = key == 1 ? test_rank() : T;
      const size_t bytes = (size_t)tokens * H * sizeof *x;
      const int64_t reads = tier.reads;
      const int64_t rows = late_rows(slow.session);
      for (size_t i = 0; i < (size_t)T * H; i++) {
        x[i] = (float)(moerun__uniform(key, (uint64_t)test_rank(), i) - 0.5);
      }
      assert_all_ok(moerun_moe_forward(plain.session, LAYER, tokens, x, want));
      assert_all_ok(moerun_moe_forward(slow.session, LAYER, tokens, x, found));
      assert_all_ranks(memcmp(want, found, bytes) == 0);
      /* Read for rows and for nothing else, at most once a wave. */
      const int64_t more = tier.reads - reads;
      const int64_t more_rows = late_rows(slow.session) - rows;
      assert_all_ranks((more > 0) == (more_rows > 0) && more <= more_rows);
      assert_all_ranks(tier.num_wanted == 0);
    }
    assert_all_ranks(tier.reads > 0 || slow.model->layers[LAYER].num_slots < 2);
    assert_all_ranks(late_rows(slow.session) == late_rows(plain.session));
    tear_down(&plain);
    tear_down(&slow);
    late_destroy(&tier);
  }
}

/* Without the tier rows for such a slot end the step and say so. */
static void nothing_is_computed_with_nothing(void **state) {
  (void)state;
  if (test_size() > 1) skip(); /* the others would wait */
  rig r;
  late tier;
  float x[T * H];
  float y[T * H];
  set_up(&r, 1);
  late_create(&tier, r.model);
  for (size_t i = 0; i < (size_t)T * H; i++) {
    x[i] = (float)(moerun__uniform(1, 0, i) - 0.5);
  }
  assert_int_equal(moerun_moe_forward(r.session, LAYER, T, x, y),
                   MOERUN_ERR_COMM);
  assert_non_null(strstr(moerun_last_error(), "where no expert is"));
  tear_down(&r);
  late_destroy(&tier);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(experts_come_from_a_file),
      cmocka_unit_test(nothing_is_computed_with_nothing),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  if (moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK) {
    return EXIT_FAILURE;
  }
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return failed;
}
