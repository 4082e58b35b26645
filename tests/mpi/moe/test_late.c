/* Experts whose weights are not in memory. A made-up tier of a session has
 * memory and transfers of its own: as it opens, weights go to the next rank,
 * come back and go to a file. It reads them once rows for them are here, has
 * room for one at a time, and brings them in an order of its own. Neither the
 * store nor the expert stage knows of it, and every bit is the same. */
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/decoder/session.h"
#include "runtime/serve/replace.h"
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>
#include <string.h>

static moerun_comm *comm;

#define MODEL MOERUN_TEST_DATA "/hf/qwen3_moe_bf16"

enum { T = 24, H = 64, LAYER = 1, STEPS = 4, MOST_SLOTS = 32 };

/* ---- The tier ------------------------------------------------------------ */

enum { ROUND_TRIP = 2 }; /* transfers: what leaves, what comes */

/* Odd slots of one layer, as written to `file` by slot. */
typedef struct late {
  moerun_model *model; /* borrowed */
  FILE *file;
  moerun__expert_shape shape;
  char *room;    /* of one expert */
  char *travels; /* [ROUND_TRIP] of one expert each */
  moerun__transfer *transfer[ROUND_TRIP];
  int32_t is_open;
  moerun__expert expert;
  int32_t in_room; /* slot, or MOERUN_NO_SLOT */
  int32_t wanted[MOST_SLOTS];
  int32_t num_wanted;
  int32_t num_released; /* of them */
  int64_t reads;
} late;

static size_t late_bytes(const late *t) {
  return moerun__expert_bytes(&t->shape);
}

static void late_lay_out(void *self, moerun__arenas *arenas) {
  late *t = self;
  char *room = moerun__arena_take(&arenas->host, 1, late_bytes(t));
  char *travels =
      moerun__arena_take(&arenas->traffic, ROUND_TRIP, late_bytes(t));
  if (arenas->host.base == NULL) return; /* another session is counted */
  t->room = room;
  t->travels = travels;
}

static int32_t late_num_transfers(const void *self) {
  (void)self;
  return ROUND_TRIP;
}

static moerun_status late_create_transfers(void *self) {
  moerun_status status = MOERUN_OK;
  late *t = self;
  moerun_comm *of = t->model->comm;
  for (int i = 0; i < ROUND_TRIP; i++) {
    MOERUN_TRY(
        of->ops->transfer_create(&t->transfer[i], of, 0, MOERUN_MEMORY_HOST));
  }
done:
  return status;
}

static void late_close(void *self) {
  late *t = self;
  for (int i = 0; i < ROUND_TRIP; i++) {
    t->model->comm->ops->transfer_destroy(t->transfer[i]);
    t->transfer[i] = NULL;
  }
}

/* One expert to or from `peer`, or none. */
static moerun__row_list one_expert(const late *t, int way, int32_t peer,
                                   int is_there) {
  moerun__row_list one =
      moerun__one_row(t->travels + (size_t)way * late_bytes(t), late_bytes(t),
                      peer, MOERUN_MEMORY_HOST);
  if (!is_there) one.last_peer = peer;
  return one;
}

static int32_t slots_of(const late *t, int32_t rank) {
  const moerun_placement *placement = t->model->placement;
  const int32_t l = t->model->layers[LAYER].moe_layer;
  return placement->slot_count[l * placement->num_ranks + rank];
}

/* The expert that leaves goes to one peer, and one comes from the other, if
 * these have one in the slot. */
static moerun_status pass(const late *t, int leaving, int32_t to,
                          int32_t owner_to, int32_t from, int32_t owner_from,
                          int32_t slot) {
  moerun_status status = MOERUN_OK;
  const moerun__comm_ops *ops = t->model->comm->ops;
  const int coming = 1 - leaving;
  const moerun__row_list out =
      one_expert(t, leaving, to, slot < slots_of(t, owner_to));
  const moerun__row_list in =
      one_expert(t, coming, from, slot < slots_of(t, owner_from));
  memset(in.rows, 0xff, in.row_bytes);
  MOERUN_TRY(ops->receive_begin(t->transfer[coming], MOERUN_TAG_EXPERTS, &in));
  MOERUN_TRY(ops->send_begin(t->transfer[leaving], MOERUN_TAG_EXPERTS, &out));
  MOERUN_TRY(ops->wait(t->transfer[coming]));
  MOERUN_TRY(ops->wait(t->transfer[leaving]));
done:
  return status;
}

/* To the next rank and back. */
static moerun_status go_round(const late *t, int32_t slot) {
  moerun_status status = MOERUN_OK;
  const moerun_comm *of = t->model->comm;
  const int32_t own = of->rank;
  const int32_t next = (own + 1) % of->size;
  const int32_t before = (own + of->size - 1) % of->size;
  if (of->size == 1) goto done;
  MOERUN_TRY(pass(t, 0, next, own, before, before, slot));
  MOERUN_TRY(pass(t, 1, before, before, next, own, slot));
done:
  return status;
}

/* The pieces of an expert to `block`, one behind the other; what was their
 * memory holds nothing. */
static void take_away(const late *t, moerun__expert *expert, char *block) {
  for (int p = 0; p < MOERUN_EXPERT_PIECES; p++) {
    const moerun__expert_piece piece = (moerun__expert_piece)p;
    const size_t count = moerun__expert_piece_bytes(&t->shape, piece);
    void *panels = (void *)moerun__expert_weight(expert, piece)->panels;
    memcpy(block, panels, count);
    memset(panels, 0xff, count);
    block += count;
  }
  expert->gate_up.panels = NULL;
  expert->down.panels = NULL;
}

/* [collective] Moves the odd slots to the file. */
static moerun_status late_open(void *self, double row_seconds) {
  moerun_status status = MOERUN_OK;
  late *t = self;
  moerun__layer *layer = &t->model->layers[LAYER];
  const int32_t most = t->model->placement->most_slots;
  (void)row_seconds;
  for (int32_t s = 1; s < most; s += 2) {
    const long at = (long)((size_t)s * late_bytes(t));
    if (s < layer->num_slots) take_away(t, &layer->experts[s], t->travels);
    MOERUN_TRY(go_round(t, s));
    if (s >= layer->num_slots) continue;
    MOERUN_REQUIRE(fseek(t->file, at, SEEK_SET) == 0 &&
                       fwrite(t->travels, 1, late_bytes(t), t->file) ==
                           late_bytes(t),
                   MOERUN_ERR_IO, "slot %d cannot be written", s);
  }
  t->is_open = 1;
done:
  return status;
}

static int is_late(const moerun__layer *layer, int32_t slot) {
  return slot < layer->num_slots && slot % 2 == 1;
}

static moerun__presence late_get(const void *self, const moerun__expert **out,
                                 const moerun__layer *layer, int32_t slot) {
  const late *t = self;
  if (!t->is_open || !is_late(layer, slot)) return MOERUN_ABSENT;
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
                                          .lay_out = late_lay_out,
                                          .num_transfers = late_num_transfers,
                                          .create_transfers =
                                              late_create_transfers,
                                          .open = late_open,
                                          .close = late_close,
                                          .get = late_get,
                                          .want = late_want,
                                          .coming = late_coming,
                                          .wait = late_wait,
                                          .release = late_release};

static void late_create(late *t, moerun_model *model) {
  const int32_t moe_layer = model->layers[LAYER].moe_layer;
  memset(t, 0, sizeof *t);
  t->model = model;
  t->in_room = MOERUN_NO_SLOT;
  assert_all_ok(moerun__model_expert_shape(&t->shape, model, moe_layer));
  assert_all_ranks(model->placement->most_slots <= MOST_SLOTS);
  assert_all_ranks((t->file = tmpfile()) != NULL);
}

static void late_destroy(late *t) {
  (void)fclose(t->file);
}

/* ---- Steps --------------------------------------------------------------- */

typedef struct rig {
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *session;
} rig;

static void load(rig *r) {
  moerun_model_shape shape = {.struct_size = sizeof shape};
  assert_all_ok(moerun_model_shape_load(&shape, MODEL));
  assert_all_ok(moerun_placement_create_block(
      &r->placement, shape.num_moe_layers, shape.num_experts, test_size()));
  assert_all_ok(moerun_model_load(&r->model, comm, r->placement, MODEL, NULL));
}

/* A session of what is loaded; what it takes is predicted. Returns the
 * bytes. */
static size_t open_session(rig *r, int32_t chunks, late *tier) {
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = T,
                                          .chunks = chunks,
                                          .balance = MOERUN_BALANCE_OFF};
  const moerun__tier added = {&late_ops, tier};
  const moerun__session_extra extra = {.tier = tier != NULL ? &added : NULL};
  const size_t predicted =
      moerun__session_bytes_with(r->model, &options, &extra);
  const size_t before = moerun__alloc_live_bytes();
  assert_all_ok(
      moerun__session_create_with(&r->session, r->model, &options, &extra));
  assert_all_ranks(moerun__alloc_live_bytes() - before == predicted);
  /* To ask again changes nothing of the session that is there. */
  assert_all_ranks(moerun__session_bytes_with(r->model, &options, &extra) ==
                   predicted);
  if (tier == NULL || test_size() == 1) return predicted;
  /* Rows would move, and weights with them that are not here. */
  moerun_session *moving = NULL;
  moerun_session_options balanced = options;
  balanced.balance = MOERUN_BALANCE_AUTO;
  assert_all_ranks(
      moerun__session_create_with(&moving, r->model, &balanced, &extra) ==
      MOERUN_ERR_UNSUPPORTED);
  moerun_session_destroy(moving);
  return predicted;
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
    load(&plain);
    load(&slow);
    late_create(&tier, slow.model);
    const size_t bytes_without = open_session(&plain, chunks, NULL);
    const size_t bytes_with = open_session(&slow, chunks, &tier);
    assert_all_ranks(bytes_with >= bytes_without + 3 * late_bytes(&tier));
    moerun__replacer *replacer = NULL;
    const moerun__replace_options move = {.every = 1, .window = 1};
    assert_all_ranks(moerun__replacer_create(&replacer, slow.session,
                                             slow.model,
                                             &move) == MOERUN_ERR_UNSUPPORTED);
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
    /* No row has gone through an expert that it did not want. */
    assert_all_ranks(
        memcmp(slow.session->stats.expert_rows,
               plain.session->stats.expert_rows,
               sizeof(int64_t) * (size_t)slow.model->config.num_moe_layers *
                   (size_t)slow.model->config.num_experts) == 0);
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
  static char block[1 << 20];
  float x[T * H];
  float y[T * H];
  load(&r);
  late_create(&tier, r.model);
  (void)open_session(&r, 1, NULL);
  for (int32_t s = 1; s < r.model->layers[LAYER].num_slots; s += 2) {
    take_away(&tier, &r.model->layers[LAYER].experts[s], block);
  }
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
