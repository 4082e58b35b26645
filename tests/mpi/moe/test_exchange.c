/* Another exchange under the same expert stage: a layer takes whatever brings
 * its rows, with guests as without, and no bit of it changes. And a third way
 * beside whole experts and slices, which the plan of a layer chooses. */
#include "runtime/decoder/session.h"
#include "support/draw.h"
#include "support/gathered_exchange.h"
#include "support/model_world.h"

enum { T = 37, STEPS = 6, LAYER = 1 };

static const moerun__plan_options eager = {
    .threshold = 1000, .slack = 1000, .min_rows = 1, .min_rows_held = 1};

/* Speeds by count: both sessions make the same plans. */
static moerun__faults slow;

typedef struct setting {
  int32_t chunks;
  moerun_wire wire;
  moerun_balance balance;
  int64_t slice_bytes;
} setting;

static moerun_session *open_session(const moerun_model *model,
                                    const setting *of,
                                    const moerun__way_table *ways) {
  moerun_session *session = NULL;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = T,
                                          .chunks = of->chunks,
                                          .wire = of->wire,
                                          .balance = of->balance,
                                          .slice_bytes = of->slice_bytes};
  const moerun__session_extra extra = {
      .plan = &eager, .faults = &slow, .ways = ways};
  assert_all_ok(moerun__session_create_with(&session, model, &options, &extra));
  return session;
}

/* More rows on higher ranks; in one step on the last rank alone. */
static int32_t tokens_of(int step) {
  if (step == 2) return test_rank() == test_size() - 1 ? T : 0;
  return T * (test_rank() + 1) / test_size();
}

static void compare(const moerun_model *model, const setting *of, draw *from) {
  moerun_session *whole = open_session(model, of, NULL);
  moerun_session *other = open_session(model, of, &gathered_ways);
  /* A third comes and goes, and a fourth is asked for its size. */
  moerun_session_destroy(open_session(model, of, &gathered_ways));
  const size_t counts = (size_t)LAYERS * EXPERTS * sizeof(int64_t);
  int64_t rows = 0;
  for (int step = 0; step < STEPS; step++) {
    float x[T * H];
    float expected[T * H];
    float found[T * H];
    const int32_t tokens = tokens_of(step);
    const size_t bytes = (size_t)tokens * H * sizeof *x;
    rows += tokens;
    draw_floats(from, x, (size_t)T * H, -1, 1);
    assert_all_ok(moerun_moe_forward(whole, LAYER, tokens, x, expected));
    assert_all_ok(moerun_moe_forward(other, LAYER, tokens, x, found));
    assert_all_ranks(memcmp(found, expected, bytes) == 0);
  }
  assert_all_ranks(other->stats.waves == STEPS * of->chunks * test_size() &&
                   other->stats.results_out == whole->stats.results_out &&
                   other->stats.rows_out == rows * (test_size() - 1) &&
                   other->stats.rows_local == rows);
  assert_all_ranks(
      memcmp(whole->stats.expert_rows, other->stats.expert_rows, counts) == 0);
  /* Rank 0 is slow, and others have computed for it. */
  assert_all_ranks(other->stats.rows_moved == whole->stats.rows_moved &&
                   (of->balance == MOERUN_BALANCE_OFF || test_rank() > 0 ||
                    test_size() == 1 || other->stats.rows_moved > 0));
  moerun_session_destroy(whole);
  moerun_session_destroy(other);
}

static void another_exchange_gives_the_same_bits(void **state) {
  static const setting settings[] = {
      {1, MOERUN_WIRE_FP32, MOERUN_BALANCE_OFF, 0},
      {3, MOERUN_WIRE_BF16, MOERUN_BALANCE_OFF, 0},
      {2, MOERUN_WIRE_FP32, MOERUN_BALANCE_AUTO, 0},
  };
  world w;
  moerun_model *model = NULL;
  draw from = {53, (uint64_t)(1000 * test_rank())};
  (void)state;
  assert_all_ok(moerun__faults_parse(&slow, "rank=0,compute=3x,clock=counted"));
  moerun__synth_options shape = small;
  shape.arch = "qwen3_moe";
  open_world(&w, shape);
  assert_all_ok(moerun_model_load(&model, w.comm, w.placement, w.path, NULL));
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
    compare(model, &settings[i], &from);
  }
  moerun_model_destroy(model);
  close_world(&w);
}

/* ---- Three ways, mixed --------------------------------------------------- */

enum { SLICED = 1, THIRD = 2, WAYS = 3, TURNS = 12 };

/* The way that the next layer is to take; all ranks know it. */
static int32_t turn;

/* What the third way was asked last. */
static int64_t terms_told;
static int64_t bytes_foretold;

static int64_t gain_in_turn(const void *self, moerun__plan *plan,
                            const moerun__demand *demand) {
  (void)plan;
  (void)demand;
  return *(const int32_t *)self == turn ? 7 : -7;
}

static int offer_slices(void *work, moerun__way_offer *out, moerun__moe *moe,
                        int32_t moe_layer, int64_t rows) {
  static const int32_t self = SLICED;
  if (!moerun__way_sliced.offer(work, out, moe, moe_layer, rows)) return 0;
  out->gain = gain_in_turn;
  out->self = &self;
  return 1;
}

/* The stage is that of whole experts, and so is its work. */
static int offer_third(void *work, moerun__way_offer *out, moerun__moe *moe,
                       int32_t moe_layer, int64_t rows) {
  static const int32_t self = THIRD;
  (void)moe_layer;
  (void)rows;
  assert_true(work != NULL && work == moe->ways.stage_work[MOERUN_WAY_WHOLE]);
  *out = (moerun__way_offer){.gain = gain_in_turn, .self = &self};
  return 1;
}

static int32_t word_of_third(const moerun__moe *moe, int32_t terms) {
  (void)moe;
  return terms + 1;
}

/* Made up, of what is there to foretell with. */
static int64_t bytes_of_third(const moerun__moe *moe, int64_t terms,
                              int64_t sum) {
  terms_told = terms;
  bytes_foretold = sum;
  (void)moe;
  return sum;
}

/* Rows of each layer and step as one way has them, by the plan. */
static void three_ways(const moerun_model *model, const setting *of,
                       draw *from) {
  static moerun__way sliced;
  static const moerun__way third = {.name = "third",
                                    .exchange = &gathered_ops,
                                    .stage = &moerun__stage_whole,
                                    .did = "all rows went everywhere",
                                    .bytes_key = "third_bytes",
                                    .word = word_of_third,
                                    .offer = offer_third,
                                    .bytes = bytes_of_third};
  static const moerun__way_table table = {
      .way = {&moerun__way_whole, &sliced, &third}, .count = WAYS};
  sliced = moerun__way_sliced;
  sliced.offer = offer_slices;
  setting plain = *of;
  plain.balance = MOERUN_BALANCE_OFF;
  plain.slice_bytes = 0;
  moerun_session *whole = open_session(model, &plain, NULL);
  moerun_session *mixed = open_session(model, of, &table);
  int64_t taken[LAYERS][WAYS] = {{0}};
  int64_t foretold = 0;
  for (int step = 0; step < TURNS; step++) {
    for (int32_t layer = 0; layer < LAYERS; layer++) {
      float x[T * H];
      float expected[T * H];
      float found[T * H];
      const int32_t tokens = tokens_of(step % 5);
      draw_floats(from, x, (size_t)T * H, -1, 1);
      /* Every order of two ways after one another, in the same layer and from
       * one layer to the next. */
      turn = (step + layer * (step / WAYS)) % WAYS;
      assert_all_ok(moerun_moe_forward(whole, layer, tokens, x, expected));
      assert_all_ok(moerun_moe_forward(mixed, layer, tokens, x, found));
      assert_all_ranks(
          memcmp(found, expected, (size_t)tokens * H * sizeof *x) == 0);
      const int32_t way = test_size() > 1 ? turn : MOERUN_WAY_WHOLE;
      taken[layer][way]++;
      assert_all_ranks(mixed->moe.ways.now == way);
      assert_all_ranks(mixed->moe.exchange.now == table.way[way]->exchange &&
                       mixed->moe.stage.now == table.way[way]->stage);
      if (way != THIRD) continue;
      assert_all_ranks(bytes_foretold == terms_told + test_size());
      foretold += bytes_foretold;
    }
  }
  const moerun__ledger *ledger = &mixed->moe.balance.ledger;
  for (int32_t l = 0; test_size() > 1 && l < LAYERS; l++) {
    const moerun__ledger_entry *entry = &ledger->layers[l];
    for (int32_t w = 0; w < WAYS; w++) {
      assert_all_ranks(entry->way[w].plans == taken[l][w]);
      assert_all_ranks(taken[l][w] > 0);
    }
    assert_all_ranks(entry->way[MOERUN_WAY_WHOLE].bytes == 0);
    /* Also that rows were computed where they were planned. */
    assert_all_ranks(entry->plans == TURNS && entry->unplanned == 0);
  }
  if (test_size() > 1) {
    const moerun__ledger_entry total = moerun__ledger_total(ledger);
    int64_t sent[WAYS] = {0};
    for (int w = 0; w < WAYS; w++) {
      (void)MPI_Allreduce(&mixed->stats.way_bytes[w], &sent[w], 1, MPI_INT64_T,
                          MPI_SUM, MPI_COMM_WORLD);
    }
    assert_all_ranks(sent[MOERUN_WAY_WHOLE] == 0);
    assert_all_ranks(sent[SLICED] > 0 &&
                     sent[SLICED] == total.way[SLICED].bytes);
    assert_all_ranks(sent[THIRD] > 0 && total.way[THIRD].bytes == foretold);
  }
  moerun_session_destroy(whole);
  moerun_session_destroy(mixed);
}

static void a_third_way_is_chosen_by_the_plan(void **state) {
  static const setting settings[] = {
      {1, MOERUN_WIRE_FP32, MOERUN_BALANCE_AUTO, -1},
      {3, MOERUN_WIRE_BF16, MOERUN_BALANCE_AUTO, -1},
  };
  world w;
  moerun_model *model = NULL;
  draw from = {61, (uint64_t)(1000 * test_rank())};
  (void)state;
  assert_all_ok(moerun__faults_parse(&slow, "rank=0,compute=3x,clock=counted"));
  moerun__synth_options shape = small;
  shape.arch = "qwen3_moe";
  shape.expert_width = 3 * MOERUN_PANEL; /* can be cut */
  open_world(&w, shape);
  assert_all_ok(moerun_model_load(&model, w.comm, w.placement, w.path, NULL));
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
    three_ways(model, &settings[i], &from);
  }
  moerun_model_destroy(model);
  close_world(&w);
}

/* ---- What ways have in common -------------------------------------------- */

static int counted; /* calls of lay_out while sizes were counted */
static int handed_out;

static void *lay_out_and_note(moerun__moe *moe, moerun__arenas *arenas) {
  if (arenas->host.base == NULL) {
    counted++;
  } else {
    handed_out++;
  }
  return gathered_lay_out(moe, arenas);
}

static int offer_nothing(void *work, moerun__way_offer *out, moerun__moe *moe,
                         int32_t moe_layer, int64_t rows) {
  (void)work;
  (void)out;
  (void)moe;
  (void)moe_layer;
  (void)rows;
  return 0;
}

/* Two ways with one exchange: its memory is there once, and is that of both. */
static void a_common_exchange_is_laid_out_once(void **state) {
  static const setting plain = {1, MOERUN_WIRE_FP32, MOERUN_BALANCE_OFF, 0};
  world w;
  moerun_model *model = NULL;
  (void)state;
  moerun__exchange_ops noted = gathered_ops;
  noted.lay_out = lay_out_and_note;
  const moerun__way one = {.name = "one",
                           .exchange = &noted,
                           .stage = &moerun__stage_whole,
                           .did = "-",
                           .bytes_key = "one_bytes",
                           .offer = offer_nothing};
  moerun__way other = one;
  other.name = "other";
  other.bytes_key = "other_bytes";
  const moerun__way_table table = {.way = {&moerun__way_whole, &one, &other},
                                   .count = 3};
  moerun__synth_options shape = small;
  shape.arch = "qwen3_moe";
  open_world(&w, shape);
  assert_all_ok(moerun_model_load(&model, w.comm, w.placement, w.path, NULL));
  counted = 0;
  handed_out = 0;
  moerun_session *session = open_session(model, &plain, &table);
  assert_all_ranks(counted == 1 && handed_out == 1);
  const moerun__ways *ways = &session->moe.ways;
  assert_all_ranks(ways->exchange_work[1] != NULL &&
                   ways->exchange_work[1] == ways->exchange_work[2]);
  assert_all_ranks(ways->stage_work[0] == ways->stage_work[1] &&
                   ways->stage_work[0] == ways->stage_work[2]);
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  close_world(&w);
}

/* By a clock that counts calls of experts and no rows. */
static void each_expert_of_a_group_is_a_call(void **state) {
  static const setting plain = {1, MOERUN_WIRE_FP32, MOERUN_BALANCE_OFF, 0};
  world w;
  moerun_model *model = NULL;
  float x[T * H] = {0};
  float y[T * H];
  int64_t called = 0;
  (void)state;
  if (test_size() > 1) skip(); /* there may be several waves */
  assert_all_ok(moerun__faults_parse(&slow, "rank=0,compute=3x,clock=counted"));
  moerun__synth_options shape = small;
  shape.arch = "qwen3_moe";
  open_world(&w, shape);
  assert_all_ok(moerun_model_load(&model, w.comm, w.placement, w.path, NULL));
  moerun_session *session = open_session(model, &plain, NULL);
  draw from = {59, 0};
  draw_floats(&from, x, (size_t)T * H, -1, 1);
  session->moe.balance.speed.call_seconds = 1;
  session->moe.balance.speed.row_seconds = 0;
  assert_all_ok(moerun_moe_forward(session, LAYER, T, x, y));
  for (int e = 0; e < LAYERS * EXPERTS; e++) {
    called += session->stats.expert_rows[e] > 0;
  }
  assert_true(called > 1);
  assert_true(session->moe.step.busy_seconds == 3 * (double)called);
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  close_world(&w);
}

enum { MANY = 34, ROOM = 300, CALLS = 40 };

static const moerun__kernels *base_set;
static int32_t called_with[CALLS]; /* experts, and rows */
static int32_t called_rows[CALLS];
static int num_calls;

static void note_ffn(moerun__queue *queue, const moerun__ffn *ffn) {
  assert_true(num_calls < CALLS);
  called_with[num_calls] = ffn->num_experts;
  called_rows[num_calls++] = ffn->offset[ffn->num_experts];
  base_set->ffn(queue, ffn);
}

/* One layer of experts that are so wide, rows[e] of them for expert e. */
static void call_groups(int32_t width, int32_t experts, const int32_t *rows) {
  world w;
  moerun_model *model = NULL;
  moerun_session *session = NULL;
  static float x[ROOM * 64];
  static float y[ROOM * 64];
  static float weight[ROOM];
  static int32_t ids[ROOM];
  int32_t count = 0;
  moerun__synth_options shape = small;
  shape.arch = "qwen3_moe";
  shape.num_layers = 1;
  shape.hidden_width = 64;
  shape.heads.num_heads = 4;
  shape.heads.num_kv_heads = 4;
  shape.num_experts = experts;
  shape.experts_per_token = 1;
  shape.expert_width = width;
  shape.dtype = MOERUN_DTYPE_F32;
  open_world(&w, shape);
  moerun_placement_destroy(w.placement);
  assert_all_ok(moerun_placement_create_block(&w.placement, 1, experts, 1));
  assert_all_ok(moerun_model_load(&model, w.comm, w.placement, w.path, NULL));
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = ROOM,
                                          .balance = MOERUN_BALANCE_OFF};
  assert_all_ok(moerun_session_create(&session, model, &options));
  base_set = session->moe.kernels;
  moerun__kernels set = *base_set;
  set.ffn = note_ffn;
  session->moe.kernels = &set;
  for (int32_t e = 0; e < experts; e++) {
    for (int32_t i = 0; i < rows[e]; i++) {
      weight[count] = 1;
      ids[count++] = e;
    }
  }
  num_calls = 0;
  assert_all_ok(
      moerun_moe_forward_routed(session, 0, count, x, ids, weight, y));
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  close_world(&w);
}

/* Laid out for the smallest experts that there may be. */
static void guests_fit_their_room(void **state) {
  world w;
  moerun_model *model = NULL;
  moerun_session *session = NULL;
  (void)state;
  if (test_size() == 1) skip();
  moerun__synth_options shape = small;
  shape.arch = "qwen3_moe";
  shape.dtype = MOERUN_DTYPE_F32;
  open_world(&w, shape);
  assert_all_ok(moerun_model_load(&model, w.comm, w.placement, w.path, NULL));
  const moerun__expert_shape expert =
      moerun__expert_whole(&model->config, MOERUN_DTYPE_F32);
  const moerun_session_options options = {
      .struct_size = sizeof options,
      .max_tokens = T,
      .guest_bytes = 5 * (int64_t)moerun__expert_bytes(&expert)};
  const moerun__session_extra extra = {.plan = &eager};
  assert_all_ok(moerun__session_create_with(&session, model, &options, &extra));
  assert_all_ranks(moerun__store_guest_table(&session->moe.store)->per_rank ==
                   5);
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  close_world(&w);
}

static int num_tests;
static const moerun__comm_ops *plain_ops;
static moerun_status count_test(moerun__transfer *t, int *done) {
  num_tests++;
  return plain_ops->test(t, done);
}

static void messages_move_between_groups(void **state) {
  static const setting plain = {1, MOERUN_WIRE_FP32, MOERUN_BALANCE_OFF, 0};
  world w;
  moerun_model *model = NULL;
  float x[T * H] = {0};
  float y[T * H];
  (void)state;
  if (test_size() == 1) skip();
  moerun__synth_options shape = small;
  shape.arch = "qwen3_moe";
  open_world(&w, shape);
  assert_all_ok(moerun_model_load(&model, w.comm, w.placement, w.path, NULL));
  moerun_session *session = open_session(model, &plain, NULL);
  draw from = {67, (uint64_t)test_rank()};
  draw_floats(&from, x, (size_t)T * H, -1, 1);
  moerun__comm_ops ops = *w.comm->ops;
  plain_ops = w.comm->ops;
  ops.test = count_test;
  w.comm->ops = &ops;
  num_tests = 0;
  assert_all_ok(moerun_moe_forward(session, LAYER, T, x, y));
  w.comm->ops = plain_ops;
  assert_all_ranks(num_tests > 0 || session->moe.step.computed_rows == 0);
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  close_world(&w);
}

static void groups_end_at_their_limits(void **state) {
  (void)state;
  if (test_size() > 1) skip();
  int32_t rows[MANY];
  for (int e = 0; e < MANY; e++) {
    rows[e] = 1;
  }
  call_groups(32, MANY, rows); /* 16 experts */
  assert_int_equal(num_calls, 3);
  assert_int_equal(called_with[0], 16);
  assert_int_equal(called_with[1], 16);
  assert_int_equal(called_with[2], 2);
  static const int32_t of_a_tile[] = {128, 128, 1};
  call_groups(32, 3, of_a_tile); /* 256 rows */
  assert_int_equal(num_calls, 2);
  assert_int_equal(called_rows[0], 256);
  assert_int_equal(called_rows[1], 1);
  static const int32_t more[] = {128, 129, 1};
  call_groups(32, 3, more);
  assert_int_equal(num_calls, 2);
  assert_int_equal(called_rows[0], 128);
  assert_int_equal(called_rows[1], 130);
  call_groups(4096, 4, rows); /* 3 MiB each */
  assert_int_equal(num_calls, 2);
  assert_int_equal(called_with[0], 2);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(another_exchange_gives_the_same_bits),
      cmocka_unit_test(a_third_way_is_chosen_by_the_plan),
      cmocka_unit_test(a_common_exchange_is_laid_out_once),
      cmocka_unit_test(each_expert_of_a_group_is_a_call),
      cmocka_unit_test(groups_end_at_their_limits),
      cmocka_unit_test(guests_fit_their_room),
      cmocka_unit_test(messages_move_between_groups),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)MPI_Finalize();
  return failed;
}
