/* The store over tiers that are made up: which of them gives an expert, in what
 * order slots have their turn, and that each has exactly one. */
#include "runtime/base/memory.h"
#include "runtime/moe/store.h"
#include "support/cmocka.h"

#include <stdlib.h>
#include <string.h>

enum { OWN = 5, SLOTS = 12, LAYER = 0 };

/* A tier that answers as it is told; calls are written down as letter and
 * slot. */
typedef struct told {
  moerun__presence presence[SLOTS];
  moerun__expert expert[SLOTS];
  int32_t order[SLOTS + 1]; /* of those that come; ends with MOERUN_NO_SLOT */
  char calls[128];
} told;

static void write_down(told *t, char call, int32_t slot) {
  const size_t length = strlen(t->calls);
  assert_true(length + 4 < sizeof t->calls);
  (void)snprintf(t->calls + length, sizeof t->calls - length, "%c%d ", call,
                 (int)slot);
}

static moerun__presence told_get(const void *self, const moerun__expert **out,
                                 const moerun__layer *layer, int32_t slot) {
  const told *t = self;
  (void)layer;
  if (slot < SLOTS && t->presence[slot] == MOERUN_HERE) *out = &t->expert[slot];
  return slot < SLOTS ? t->presence[slot] : MOERUN_ABSENT;
}

static moerun_status told_want(void *self, const moerun__layer *layer,
                               int32_t slot) {
  (void)layer;
  write_down(self, 'w', slot);
  return MOERUN_OK;
}

static int32_t told_coming(const void *self, const moerun__layer *layer,
                           int32_t i) {
  (void)layer;
  return ((const told *)self)->order[i];
}

static moerun_status told_wait(void *self, const moerun__layer *layer,
                               int32_t slot) {
  told *t = self;
  (void)layer;
  write_down(t, 'c', slot);
  t->presence[slot] = MOERUN_HERE;
  return MOERUN_OK;
}

static moerun_status told_release(void *self, const moerun__layer *layer,
                                  int32_t slot) {
  (void)layer;
  write_down(self, 'r', slot);
  return MOERUN_OK;
}

static const moerun__tier_ops told_ops = {.name = "told",
                                          .get = told_get,
                                          .want = told_want,
                                          .coming = told_coming,
                                          .wait = told_wait,
                                          .release = told_release};
/* One that can be asked and waited for, and no more. */
static const moerun__tier_ops plain_ops = {
    .name = "plain", .get = told_get, .wait = told_wait};

typedef struct rig {
  moerun_comm comm;
  moerun_model model;
  moerun__expert own[OWN];
  moerun__layer layer;
  moerun__store store;
  void *block;
} rig;

/* There are no guests, so nothing is in the second. */
static void lay_out(rig *r, moerun__arenas *arenas) {
  moerun__store_lay_out(&r->store, arenas);
  assert_int_equal(arenas->traffic.used, 0);
}

static void set_up(rig *r) {
  moerun__arenas arenas = {.host = {NULL, 0}};
  memset(r, 0, sizeof *r);
  r->comm.size = 1;
  r->model.comm = &r->comm;
  r->model.config = (moerun__model_config){.hidden_width = 32,
                                           .expert_width = 32,
                                           .num_moe_layers = 1,
                                           .num_experts = OWN};
  r->layer.moe_layer = LAYER;
  r->layer.num_slots = OWN;
  r->layer.experts = r->own;
  for (int s = 0; s < OWN; s++) {
    r->own[s].gate_up.panels = "here";
  }
  moerun__store_init(&r->store, &r->model, SLOTS, 0, 0);
  lay_out(r, &arenas);
  assert_int_equal(moerun__alloc(&r->block, arenas.host.used, 1), MOERUN_OK);
  arenas.host = (moerun__arena){r->block, 0};
  lay_out(r, &arenas);
}

static void tear_down(rig *r) {
  moerun__free(r->block);
}

static void add(rig *r, const moerun__tier_ops *ops, told *t) {
  memset(t, 0, sizeof *t);
  t->order[0] = MOERUN_NO_SLOT;
  moerun__store_add_tier(&r->store, (moerun__tier){ops, t});
}

static void own_experts_are_here(void **state) {
  (void)state;
  rig r;
  set_up(&r);
  for (int s = 0; s < OWN; s++) {
    assert_ptr_equal(moerun__store_get(&r.store, &r.layer, s), &r.own[s]);
  }
  assert_null(moerun__store_get(&r.store, &r.layer, OWN));
  r.own[1].gate_up.panels = NULL; /* its weights are not in memory */
  assert_null(moerun__store_get(&r.store, &r.layer, 1));
  moerun__store_begin_wave(&r.store, 0, SLOTS);
  assert_int_equal(moerun__store_want(&r.store, &r.layer, 1), MOERUN_ERR_COMM);
  assert_int_equal(moerun__store_want(&r.store, &r.layer, OWN),
                   MOERUN_ERR_COMM);
  const moerun__expert *expert = &r.own[0];
  assert_int_equal(moerun__store_next(&expert, &r.store, &r.layer),
                   MOERUN_NO_SLOT);
  assert_null(expert);
  tear_down(&r);
}

/* What is here goes before what comes, and what was added before what was
 * there. */
static void the_nearest_copy_is_given(void **state) {
  (void)state;
  rig r;
  told far;
  told near;
  const moerun__expert *expert = NULL;
  set_up(&r);
  add(&r, &told_ops, &far);
  add(&r, &told_ops, &near);
  far.presence[0] = MOERUN_HERE;
  near.presence[0] = MOERUN_COMING; /* far has it */
  far.presence[1] = MOERUN_HERE;
  near.presence[1] = MOERUN_HERE;   /* both have it */
  near.presence[2] = MOERUN_COMING; /* it is an own one */
  far.presence[6] = MOERUN_COMING;
  near.presence[6] = MOERUN_COMING; /* both await it */
  assert_ptr_equal(moerun__store_get(&r.store, &r.layer, 0), &far.expert[0]);
  assert_ptr_equal(moerun__store_get(&r.store, &r.layer, 1), &near.expert[1]);
  assert_ptr_equal(moerun__store_get(&r.store, &r.layer, 2), &r.own[2]);
  assert_null(moerun__store_get(&r.store, &r.layer, 6));
  moerun__store_begin_wave(&r.store, 0, SLOTS);
  assert_int_equal(moerun__store_want(&r.store, &r.layer, 6), MOERUN_OK);
  assert_int_equal(moerun__store_want(&r.store, &r.layer, 0), MOERUN_OK);
  assert_int_equal(moerun__store_want(&r.store, &r.layer, 7), MOERUN_ERR_COMM);
  assert_int_equal(moerun__store_next(&expert, &r.store, &r.layer), 0);
  assert_ptr_equal(expert, &far.expert[0]); /* not waited for */
  assert_int_equal(moerun__store_next(&expert, &r.store, &r.layer), 6);
  assert_null(expert);
  assert_int_equal(moerun__store_wait(&expert, &r.store, &r.layer, 6),
                   MOERUN_OK);
  assert_ptr_equal(expert, &near.expert[6]);
  assert_int_equal(moerun__store_next(&expert, &r.store, &r.layer),
                   MOERUN_NO_SLOT);
  assert_string_equal(near.calls, "w6 c6 ");
  assert_string_equal(far.calls, "w0 ");
  tear_down(&r);
}

/* The whole of a wave with these slots wanted; what next gave. */
static void run_wave(char *given, rig *r, const int32_t *wanted, int count) {
  const moerun__expert *expert = NULL;
  int32_t slot;
  *given = '\0';
  moerun__store_begin_wave(&r->store, 0, SLOTS);
  for (int i = 0; i < count; i++) {
    assert_int_equal(moerun__store_want(&r->store, &r->layer, wanted[i]),
                     MOERUN_OK);
  }
  while ((slot = moerun__store_next(&expert, &r->store, &r->layer)) !=
         MOERUN_NO_SLOT) {
    given += sprintf(given, "%d ", (int)slot);
    if (expert == NULL) {
      assert_int_equal(moerun__store_wait(&expert, &r->store, &r->layer, slot),
                       MOERUN_OK);
    }
    assert_non_null(expert);
    assert_int_equal(moerun__store_release(&r->store, &r->layer, slot),
                     MOERUN_OK);
  }
}

/* Those that are here, then the others in the order in which they come: as the
 * tiers say, and those of a tier that does not say last. */
static void each_has_one_turn(void **state) {
  (void)state;
  rig r;
  told ordered;
  told plain;
  char given[64];
  static const int32_t wanted[] = {0, 2, 5, 6, 7, 8, 9};
  static const int32_t order[] = {8, 1, 5, 7, MOERUN_NO_SLOT};
  set_up(&r);
  add(&r, &plain_ops, &plain);
  add(&r, &told_ops, &ordered);
  memcpy(ordered.order, order, sizeof order);
  ordered.presence[5] = MOERUN_COMING;
  ordered.presence[7] = MOERUN_COMING;
  ordered.presence[8] = MOERUN_COMING;
  ordered.presence[9] = MOERUN_HERE;
  plain.presence[6] = MOERUN_COMING;
  run_wave(given, &r, wanted, 7);
  assert_string_equal(given, "0 2 9 8 5 7 6 ");
  assert_string_equal(ordered.calls, "w5 w7 w8 w9 r9 c8 r8 c5 r5 c7 r7 ");
  assert_string_equal(plain.calls, "c6 ");
  /* What has come by now does not have a second turn as something that comes,
   * and nothing is left of the wave before. */
  ordered.calls[0] = '\0';
  ordered.presence[7] = MOERUN_COMING;
  run_wave(given, &r, wanted + 2, 3);
  assert_string_equal(given, "5 6 7 ");
  assert_string_equal(ordered.calls, "w5 w7 r5 c7 r7 ");
  ordered.presence[5] = MOERUN_COMING;
  ordered.presence[7] = MOERUN_COMING;
  ordered.order[1] = 7;
  ordered.order[2] = 5;
  ordered.order[3] = MOERUN_NO_SLOT;
  run_wave(given, &r, wanted + 2, 3);
  assert_string_equal(given, "6 7 5 ");
  ordered.calls[0] = '\0';
  run_wave(given, &r, wanted, 0);
  assert_string_equal(given, "");
  /* A wave that was broken off. */
  moerun__store_begin_wave(&r.store, 0, SLOTS);
  assert_int_equal(moerun__store_want(&r.store, &r.layer, 0), MOERUN_OK);
  run_wave(given, &r, wanted + 1, 1);
  assert_string_equal(given, "2 ");
  tear_down(&r);
}

/* A tier whose weights do not come after all. */
static moerun_status idle_wait(void *self, const moerun__layer *layer,
                               int32_t slot) {
  (void)layer;
  write_down(self, 'c', slot);
  return MOERUN_OK;
}

static void what_does_not_come_is_said(void **state) {
  (void)state;
  rig r;
  told idle;
  const moerun__expert *expert = NULL;
  static const moerun__tier_ops idle_ops = {
      .name = "idle", .get = told_get, .wait = idle_wait};
  set_up(&r);
  add(&r, &idle_ops, &idle);
  idle.presence[6] = MOERUN_COMING;
  moerun__store_begin_wave(&r.store, 0, SLOTS);
  assert_int_equal(moerun__store_want(&r.store, &r.layer, 6), MOERUN_OK);
  assert_int_equal(moerun__store_next(&expert, &r.store, &r.layer), 6);
  assert_int_equal(moerun__store_wait(&expert, &r.store, &r.layer, 6),
                   MOERUN_ERR_COMM);
  assert_null(expert);
  assert_string_equal(idle.calls, "c6 ");
  tear_down(&r);
}

static int waits;
static int rows_are_here;
static moerun__transfer *told_obstacle; /* of the nearer tier */

static moerun_status near_forward(void *self, moerun__transfer **obstacle) {
  (void)self;
  *obstacle = told_obstacle;
  return MOERUN_OK;
}
static moerun_status far_forward(void *self, moerun__transfer **obstacle) {
  (void)self;
  *obstacle = NULL;
  return MOERUN_OK;
}
static moerun_status count_wait(moerun__transfer *t) {
  (void)t;
  waits++;
  told_obstacle = NULL;
  return MOERUN_OK;
}
static moerun_status either(moerun__transfer *a, moerun__transfer *b) {
  (void)a;
  (void)b;
  rows_are_here = 1;
  if (++waits > 3) told_obstacle = NULL;
  return MOERUN_OK;
}
static moerun_status here(moerun__transfer *t, int *done) {
  (void)t;
  *done = rows_are_here;
  return MOERUN_OK;
}
static moerun_status received(moerun__transfer *t) {
  (void)t;
  return MOERUN_OK;
}

static void obstacles_of_all_tiers_count(void **state) {
  (void)state;
  rig r;
  told near;
  told far;
  char what;
  static const moerun__tier_ops near_ops = {
      .name = "near", .get = told_get, .forward = near_forward};
  static const moerun__tier_ops far_ops = {
      .name = "far", .get = told_get, .forward = far_forward};
  static const moerun__comm_ops ops = {.wait = count_wait,
                                       .wait_either = either,
                                       .test_received = here,
                                       .wait_received = received};
  set_up(&r);
  r.comm.ops = &ops;
  add(&r, &far_ops, &far);
  add(&r, &near_ops, &near);
  told_obstacle = (moerun__transfer *)&what;
  waits = 0;
  assert_int_equal(moerun__store_forward_all(&r.store), MOERUN_OK);
  assert_int_equal(waits, 1);
  told_obstacle = (moerun__transfer *)&what;
  waits = 0;
  assert_int_equal(
      moerun__store_forward_until(&r.store, (moerun__transfer *)&what),
      MOERUN_OK);
  assert_int_equal(waits, 1);
  tear_down(&r);
}

/* The slots of a wave may begin anywhere, as those of slices do; a tier may say
 * that others come. */
static void a_wave_has_its_own_slots(void **state) {
  (void)state;
  rig r;
  told t;
  const moerun__expert *expert = NULL;
  static const int32_t order[] = {2, 11, 9, MOERUN_NO_SLOT};
  set_up(&r);
  add(&r, &told_ops, &t);
  memcpy(t.order, order, sizeof order);
  t.presence[2] = MOERUN_COMING;
  t.presence[8] = MOERUN_COMING;
  t.presence[9] = MOERUN_COMING;
  t.presence[10] = MOERUN_HERE;
  moerun__store_begin_wave(&r.store, 8, 3);
  for (int32_t slot = 8; slot < 11; slot++) {
    assert_int_equal(moerun__store_want(&r.store, &r.layer, slot), MOERUN_OK);
  }
  assert_int_equal(moerun__store_next(&expert, &r.store, &r.layer), 10);
  assert_ptr_equal(expert, &t.expert[10]);
  assert_int_equal(moerun__store_next(&expert, &r.store, &r.layer), 9);
  assert_null(expert);
  t.presence[8] = MOERUN_HERE; /* by its turn it is */
  assert_int_equal(moerun__store_next(&expert, &r.store, &r.layer), 8);
  assert_ptr_equal(expert, &t.expert[8]);
  assert_int_equal(moerun__store_next(&expert, &r.store, &r.layer),
                   MOERUN_NO_SLOT);
  tear_down(&r);
}

/* A tier is asked where there is room for it. */
static void tiers_without_room_are_not_asked(void **state) {
  (void)state;
  static const struct {
    int32_t size;
    size_t guest_bytes;
    int64_t slice_bytes;
    int32_t tiers;
  } cases[] = {
      {1, 0, 0, 1},   {1, 1 << 20, -1, 1}, {2, 0, 0, 1},  {2, 1 << 20, 0, 2},
      {2, 0, 100, 2}, {2, 1 << 20, -1, 3}, {2, 16, 0, 1}, {2, 16, -1, 2},
  };
  moerun_comm comm = {0};
  moerun_model model = {.comm = &comm,
                        .config = {.hidden_width = 32,
                                   .expert_width = 32,
                                   .num_moe_layers = 1,
                                   .num_experts = OWN}};
  moerun__store store;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    comm.size = cases[i].size;
    moerun__store_init(&store, &model, SLOTS, cases[i].guest_bytes,
                       cases[i].slice_bytes);
    assert_int_equal(store.num_tiers, cases[i].tiers);
  }
}

/* ---- A session is made and goes ------------------------------------------ */

/* Writes down what is asked of it in `log`, which it shares with others. */
typedef struct asked {
  char name;
  char *log;
  int32_t transfers;
  char *room; /* [size_t]: as much as open_bytes says */
  moerun_status verdict;
} asked;

static void note(const asked *a, const char *what) {
  const size_t length = strlen(a->log);
  (void)snprintf(a->log + length, 256 - length, "%c:%s ", a->name, what);
}

static moerun__presence asked_get(const void *self, const moerun__expert **out,
                                  const moerun__layer *layer, int32_t slot) {
  (void)self;
  (void)out;
  (void)layer;
  (void)slot;
  return MOERUN_ABSENT;
}

static void asked_lay_out(void *self, moerun__arenas *arenas) {
  asked *a = self;
  note(a, "lay_out");
  a->room = moerun__arena_take(&arenas->traffic, 64, 1);
}

static void asked_adopt(void *self) {
  note(self, "adopt");
}

static moerun_status asked_device(void *self, const moerun__device *device) {
  note(self, device == &moerun__host ? "device" : "device?");
  return MOERUN_OK;
}

static int32_t asked_num(const void *self) {
  return ((const asked *)self)->transfers;
}

static moerun_status asked_create(void *self) {
  note(self, "create");
  return MOERUN_OK;
}

static moerun_status asked_open(void *self, double row_seconds) {
  const asked *a = self;
  note(a, row_seconds == 0.25 ? "open" : "open?");
  return a->verdict;
}

static size_t asked_bytes(const void *self, const moerun__expert_shape *whole) {
  return (size_t)((const asked *)self)->transfers * moerun__expert_bytes(whole);
}

static void asked_close(void *self) {
  note(self, "close");
}

static const moerun__tier_ops asked_ops = {.name = "asked",
                                           .lay_out = asked_lay_out,
                                           .adopt_placement = asked_adopt,
                                           .adopt_device = asked_device,
                                           .num_transfers = asked_num,
                                           .create_transfers = asked_create,
                                           .open = asked_open,
                                           .open_bytes = asked_bytes,
                                           .close = asked_close,
                                           .get = asked_get};

static void tiers_are_made_from_the_last_up(void **state) {
  (void)state;
  char log[256] = "";
  asked far = {'f', log, 3, NULL, MOERUN_OK};
  asked near = {'n', log, 4, NULL, MOERUN_OK};
  told plain;
  char room[128];
  moerun_comm comm = {.size = 1};
  moerun_model model = {.comm = &comm,
                        .config = {.hidden_width = 32, .expert_width = 32}};
  const moerun__expert_shape shape =
      moerun__expert_whole(&model.config, MOERUN_DTYPE_F32);
  moerun__store store;
  moerun__arenas arenas = {.host = {NULL, 0}};
  memset(&plain, 0, sizeof plain);
  moerun__store_init(&store, &model, 0, 0, 0);
  moerun__store_add_tier(&store, (moerun__tier){&asked_ops, &far});
  moerun__store_add_tier(&store, (moerun__tier){&plain_ops, &plain});
  moerun__store_add_tier(&store, (moerun__tier){&asked_ops, &near});
  arenas.traffic.base = room;
  moerun__store_lay_out(&store, &arenas);
  assert_int_equal(arenas.traffic.used, 128);
  assert_ptr_equal(far.room, room);
  assert_ptr_equal(near.room, room + 64);
  moerun__store_adopt_placement(&store);
  assert_int_equal(moerun__store_adopt_device(&store, &moerun__host),
                   MOERUN_OK);
  assert_int_equal(moerun__store_num_transfers(&store), 7);
  assert_int_equal(moerun__store_open_bytes(&store, &shape),
                   7 * moerun__expert_bytes(&shape));
  assert_int_equal(moerun__store_create_transfers(&store), MOERUN_OK);
  assert_int_equal(moerun__store_open(&store, 0.25), MOERUN_OK);
  moerun__store_close(&store);
  assert_string_equal(
      log, "f:lay_out n:lay_out f:adopt n:adopt f:device n:device f:create "
           "n:create f:open n:open n:close f:close ");
  log[0] = '\0'; /* one that fails is the last to be opened, but all close */
  far.verdict = MOERUN_ERR_NOMEM;
  assert_int_equal(moerun__store_open(&store, 0.25), MOERUN_ERR_NOMEM);
  moerun__store_close(&store);
  assert_string_equal(log, "f:open n:close f:close ");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(own_experts_are_here),
      cmocka_unit_test(the_nearest_copy_is_given),
      cmocka_unit_test(each_has_one_turn),
      cmocka_unit_test(obstacles_of_all_tiers_count),
      cmocka_unit_test(what_does_not_come_is_said),
      cmocka_unit_test(a_wave_has_its_own_slots),
      cmocka_unit_test(tiers_without_room_are_not_asked),
      cmocka_unit_test(tiers_are_made_from_the_last_up),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
