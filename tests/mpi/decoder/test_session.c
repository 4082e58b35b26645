/* The layer and the session: memory known beforehand, nothing allocated in a
 * step, any skew in bounded memory, errors of one rank told to all. */
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/decoder/session.h"
#include "runtime/report/report.h"
#include "support/mpi_test.h"

#include <math.h>
#include <moerun/moerun_mpi.h>
#include <stdlib.h>
#include <string.h>

static moerun_comm *comm;

static const char plain_model[] = MOERUN_TEST_DATA "/hf/qwen3_moe_bf16";
static const char home_model[] = MOERUN_TEST_DATA "/home/plain";
static const char *model_path = plain_model;

/* For a test: the model whose gate has experts at home, too. */
static int begin_home(void **state) {
  (void)state;
  model_path = home_model;
  return 0;
}

static int end_home(void **state) {
  (void)state;
  model_path = plain_model;
  return 0;
}

typedef struct rig {
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *session;
} rig;

static void set_up(rig *r, const moerun_session_options *options,
                   const int32_t *rank_of_expert) {
  moerun_model_shape shape = {.struct_size = sizeof shape};
  memset(r, 0, sizeof *r);
  assert_all_ok(moerun_model_shape_load(&shape, model_path));
  if (rank_of_expert != NULL) {
    assert_all_ok(moerun_placement_create(&r->placement, shape.num_moe_layers,
                                          shape.num_experts, test_size(),
                                          rank_of_expert));
  } else {
    assert_all_ok(moerun_placement_create_block(
        &r->placement, shape.num_moe_layers, shape.num_experts, test_size()));
  }
  assert_all_ok(
      moerun_model_load(&r->model, comm, r->placement, model_path, NULL));
  assert_all_ok(moerun_session_create(&r->session, r->model, options));
}

static void tear_down(rig *r) {
  moerun_session_destroy(r->session);
  moerun_model_destroy(r->model);
  moerun_placement_destroy(r->placement);
}

static void prediction_equals_allocation(void **state) {
  (void)state;
  rig r;
  for (int32_t chunks = 1; chunks <= 4; chunks += 3) {
    const moerun_session_options options = {.struct_size = sizeof options,
                                            .max_tokens = 40,
                                            .max_sequences = 5,
                                            .kv_tokens = 333,
                                            .chunks = chunks,
                                            .wire = (moerun_wire)(chunks > 1)};
    set_up(&r, &options, NULL);
    const size_t predicted = moerun_session_bytes(r.model, &options);
    const size_t before = moerun__alloc_live_bytes();
    moerun_session_destroy(r.session);
    assert_all_ranks(before - moerun__alloc_live_bytes() == predicted);
    r.session = NULL;
    tear_down(&r);
  }
}

/* Rows of random numbers; all ranks' x differ. */
static void fill(float *x, size_t count, uint64_t key) {
  for (size_t i = 0; i < count; i++) {
    x[i] = (float)(moerun__uniform(key, (uint64_t)test_rank(), i) - 0.5);
  }
}

/* First MoE layer of the fixture (MoE in every second layer). */
static int32_t first_moe_layer(const moerun_model *model) {
  int32_t l = 0;
  while (model->layers[l].moe_layer < 0) {
    l++;
  }
  return l;
}

static void steps_allocate_nothing(void **state) {
  (void)state;
  rig r;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = 24,
                                          .max_sequences = 2,
                                          .kv_tokens = 64,
                                          .chunks = 2};
  set_up(&r, &options, NULL);
  const size_t H = (size_t)r.model->config.hidden_width;
  const size_t V = (size_t)r.model->config.vocab_size;
  float *x = calloc(24 * H, sizeof *x);
  float *y = calloc(24 * H, sizeof *y);
  float *logits = calloc(V, sizeof *logits);
  int32_t token[24] = {0};
  int32_t position[24];
  const int32_t sequence[24] = {0};
  fill(x, 24 * H, 5);
  const int32_t layer = first_moe_layer(r.model);
  assert_all_ok(moerun_moe_forward(r.session, layer, 24, x, y));
  const size_t calls = moerun__alloc_calls();
  for (int32_t i = 0; i < 6; i++) {
    const int32_t T = (i * 7 + test_rank() * 11) % 25;
    assert_all_ok(moerun_moe_forward(r.session, layer, T, x, y));
  }
  for (int32_t i = 0; i < 2; i++) {
    const int32_t T = i == 0 ? 24 : 1;
    for (int32_t t = 0; t < T; t++) {
      position[t] = i * 24 + t;
    }
    const int32_t last = T - 1;
    const moerun_batch batch = {T, token, sequence, position, 1, &last};
    assert_all_ok(moerun_forward(r.session, &batch, logits));
  }
  assert_all_ranks(moerun__alloc_calls() == calls);
  free(x);
  free(y);
  free(logits);
  tear_down(&r);
}

/* All experts on the last rank: it receives from everybody, in more waves than
 * one when its buffer (rows of an even load) is too small for all. */
static void any_skew_fits(void **state) {
  (void)state;
  rig even;
  rig skewed;
  const int32_t R = test_size();
  moerun_model_shape shape = {.struct_size = sizeof shape};
  assert_all_ok(moerun_model_shape_load(&shape, model_path));
  int32_t rank_of_expert[64 * 4];
  for (int32_t i = 0; i < shape.num_moe_layers * shape.num_experts; i++) {
    rank_of_expert[i] = R - 1;
  }
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = 33,
                                          .balance = MOERUN_BALANCE_OFF};
  set_up(&even, &options, NULL);
  set_up(&skewed, &options, rank_of_expert);
  const size_t H = (size_t)shape.hidden_width;
  float *x = calloc(33 * H, sizeof *x);
  float *a = calloc(33 * H, sizeof *a);
  float *b = calloc(33 * H, sizeof *b);
  fill(x, 33 * H, 9);
  const int32_t layer = first_moe_layer(even.model);
  assert_all_ok(moerun_moe_forward(even.session, layer, 33, x, a));
  assert_all_ok(moerun_moe_forward(skewed.session, layer, 33, x, b));
  assert_all_ranks(memcmp(a, b, 33 * H * sizeof *a) == 0);
  const moerun__stats *stats = moerun__session_stats(skewed.session);
  const int32_t K = shape.experts_per_token;
  const int last = test_rank() == R - 1;
  assert_all_ranks(stats->home_rows == 33);
  assert_all_ranks(stats->rows_out == (last ? 0 : 33));
  assert_all_ranks(stats->rows_local == (last ? 33 : 0));
  assert_all_ranks(stats->rows_in == (last ? 33 * (R - 1) : 0));
  assert_all_ranks(stats->results_out == (last ? 33 * K * (R - 1) : 0));
  /* Room for min(K, R) peers' rows at once; own rows need none. */
  const int32_t room = K < R ? K : R;
  assert_all_ranks(stats->waves ==
                   (last && R > 1 ? (R - 1 + room - 1) / room : 1));
  int64_t computed = 0;
  for (int32_t e = 0; e < shape.num_experts; e++) {
    computed += stats->expert_rows[e];
  }
  assert_all_ranks(computed == (last ? (int64_t)33 * K * R : 0));
  free(x);
  free(a);
  free(b);
  tear_down(&even);
  tear_down(&skewed);
}

static void sum_of_ranks_is_reported(void **state) {
  (void)state;
  rig r;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = 8};
  set_up(&r, &options, NULL);
  const size_t H = (size_t)r.model->config.hidden_width;
  float *x = calloc(8 * H, sizeof *x);
  float *y = calloc(8 * H, sizeof *y);
  fill(x, 8 * H, 10);
  const int32_t T = test_rank() % 2 ? 0 : 8;
  const int64_t home = 8 * ((test_size() + 1) / 2);
  const int32_t K = r.model->config.experts_per_token;
  assert_all_ok(
      moerun_moe_forward(r.session, first_moe_layer(r.model), T, x, y));
  /* Experts over their capacity are the same on all ranks, drops are not. */
  r.session->moe.gate.of_layer[0].capacity.over = 5;
  r.session->moe.gate.of_layer[0].capacity.dropped = 1 + test_rank();
  /* Each rank half as fast as the one before. */
  r.session->moe.balance.speed.applied = -test_rank() * MOERUN_SPEED_OCTAVE;
  moerun__report *report = NULL;
  assert_all_ok(moerun__report_collect(&report, r.session, test_rank() + 1));
  int ok = (report != NULL) == (test_rank() == 0);
  if (report != NULL) {
    int64_t rows = 0;
    int alike = 1; /* each rank's rows are those of its experts */
    for (int32_t rank = 0; rank < test_size(); rank++) {
      int64_t of_rank = 0;
      for (int32_t e = 0; e < report->num_experts; e++) {
        if (r.placement->rank_of[e] == rank) of_rank += report->expert_rows[e];
      }
      rows += of_rank;
      alike = alike && report->rank_rows[rank] == of_rank &&
              report->speed[rank] == exp2(-rank);
    }
    const int64_t drops = (int64_t)test_size() * (test_size() + 1) / 2;
    alike = alike && report->gate.capacity.over == 5 &&
            report->gate_of_layer[0].capacity.over == 5 &&
            report->gate.capacity.dropped == drops;
    ok = alike && report->home_rows == home && rows == home * K &&
         report->rows_local + report->rows_out >= home &&
         report->resident_bytes.minimum == 1 &&
         fabs(report->resident_bytes.mean - 0.5 * (test_size() + 1)) < 1e-9 &&
         report->resident_bytes.maximum == test_size() &&
         report->resident_bytes.rank_of_maximum == test_size() - 1;
  }
  assert_all_ranks(ok);
  moerun__report_destroy(report);
  free(x);
  free(y);
  tear_down(&r);
}

/* One rank's bad batch is its own error and the others' ERR_PEER; the session
 * goes on. */
static void bad_batch_is_told_to_all(void **state) {
  (void)state;
  rig r;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = 8,
                                          .max_sequences = 2,
                                          .kv_tokens = 32};
  set_up(&r, &options, NULL);
  const int32_t V = r.model->config.vocab_size;
  float *logits = calloc((size_t)V, sizeof *logits);
  const int32_t bad_rank = test_size() - 1;
  static const int32_t zero[8] = {0};
  const int32_t rising[] = {0, 1, 2, 3};
  const int32_t bad_token[] = {0, V, 0, 0};
  const int32_t gap[] = {0, 2, 3, 4};
  const int32_t late[] = {1, 2, 3, 4};
  const int32_t torn[] = {0, 1, 0, 1};
  const int32_t foreign[] = {2, 2, 2, 2};
  const moerun_batch good = {4, zero, zero, rising, 1, zero};
  const moerun_batch bad[] = {
      {4, bad_token, zero, rising, 1, zero}, {4, zero, zero, gap, 1, zero},
      {4, zero, zero, late, 1, zero},        {4, zero, torn, rising, 1, zero},
      {4, zero, foreign, rising, 1, zero},   {9, zero, zero, zero, 0, NULL},
      {4, zero, zero, rising, 1, late + 3},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    const int mine = test_rank() == bad_rank;
    const moerun_status status =
        moerun_forward(r.session, mine ? &bad[i] : &good, logits);
    assert_all_ranks(mine ? status == MOERUN_ERR_INVALID ||
                                status == MOERUN_ERR_OVERFLOW
                          : status == MOERUN_ERR_PEER);
    char words[32];
    (void)snprintf(words, sizeof words, "rank %d reported: ", bad_rank);
    assert_all_ranks(mine ||
                     strncmp(moerun_last_error(), words, strlen(words)) == 0);
  }
  assert_all_ok(moerun_forward(r.session, &good, logits));
  /* Too little cache: 32 positions are there, 4 + 4 * 8 are asked for. */
  moerun_status status = MOERUN_OK;
  int32_t position[8];
  for (int32_t i = 0; i < 4 && status == MOERUN_OK; i++) {
    for (int32_t t = 0; t < 8; t++) {
      position[t] = 4 + i * 8 + t;
    }
    const moerun_batch next = {8, zero, zero, position, 0, NULL};
    status = moerun_forward(r.session, &next, logits);
  }
  assert_all_ranks(status == MOERUN_ERR_OVERFLOW);
  free(logits);
  tear_down(&r);
}

/* Four rows of sequence 0 in each step, from this position on. */
static moerun_status four_rows(rig *r, int32_t first, int32_t token,
                               float *logits) {
  static const int32_t zero[4] = {0};
  const int32_t last = 3;
  int32_t position[4];
  int32_t tokens[4];
  for (int32_t t = 0; t < 4; t++) {
    position[t] = first + t;
    tokens[t] = token < 0 ? token : token + t;
  }
  const moerun_batch batch = {4, tokens, zero, position, 1, &last};
  return moerun_forward(r->session, &batch, logits);
}

/* Healthy ranks do not know that another one's batch is bad until its rows are
 * in their cache: they are taken back, and the step can be made again. */
static void a_step_that_failed_can_be_repeated(void **state) {
  (void)state;
  rig r;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = 8,
                                          .max_sequences = 2,
                                          .kv_tokens = 64};
  set_up(&r, &options, NULL);
  const size_t V = (size_t)r.model->config.vocab_size;
  float *expected = calloc(V, sizeof *expected);
  float *found = calloc(V, sizeof *found);
  for (int32_t p = 0; p < 24; p += 4) {
    assert_all_ok(four_rows(&r, p, p % 7, expected));
  }
  const int32_t left = r.session->cache->num_free;
  for (int32_t p = 0; p < 24; p += 4) {
    const int mine = test_rank() == (p / 4) % test_size();
    for (int i = 0; i < 3; i++) {
      const moerun_status status = four_rows(&r, p, mine ? -1 : p % 5, found);
      assert_all_ranks(status == (mine ? MOERUN_ERR_INVALID : MOERUN_ERR_PEER));
      assert_all_ranks(mine || r.session->cache->length[0] == p);
    }
    assert_all_ok(four_rows(&r, p, p % 7, found));
  }
  assert_all_ranks(memcmp(expected, found, V * sizeof *found) == 0);
  assert_all_ranks(r.session->cache->num_free == left);
  /* Where one sequence finds no room, none has grown. */
  static const int32_t both[] = {0, 1, 1, 1, 1, 1, 1, 1};
  static const int32_t token[8] = {0};
  const int32_t pages = r.session->cache->num_free;
  r.session->cache->num_free = 0;
  const int32_t position[] = {24, 0, 1, 2, 3, 4, 5, 6};
  const moerun_batch full = {8, token, both, position, 0, NULL};
  assert_all_ranks(moerun_forward(r.session, &full, NULL) ==
                   MOERUN_ERR_OVERFLOW);
  assert_all_ranks(r.session->cache->length[0] == 24 &&
                   r.session->cache->length[1] == 0 &&
                   r.session->cache->num_free == 0);
  r.session->cache->num_free = pages;
  free(expected);
  free(found);
  tear_down(&r);
}

/* With a capacity that adds experts a row has more of them than the gate's. */
static void rows_with_added_experts_are_limited(void **state) {
  (void)state;
  rig r;
  const moerun_session_options good = {.struct_size = sizeof good,
                                       .max_tokens = 8};
  set_up(&r, &good, NULL);
  moerun_comm many = {.ops = &moerun__self_ops, .size = 64};
  moerun_placement *placement = NULL;
  moerun_model unread = {
      .comm = &many, .config = r.model->config, .moe_only = 1};
  unread.config.num_experts = 64 * 32;
  unread.config.experts_per_token = 8;
  assert_int_equal(moerun_placement_create_block(
                       &placement, unread.config.num_moe_layers, 64 * 32, 64),
                   MOERUN_OK);
  unread.placement = placement;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = 1 << 20,
                                          .balance = MOERUN_BALANCE_OFF};
  assert_true(moerun_session_bytes(&unread, &options) > 0);
  const moerun__session_extra extra = {
      .gate = {
          .capacity = {.gamma = 1000, .expansion = MOERUN_EXPANSION_PAPER}}};
  moerun__reserve reserve = {0};
  assert_int_equal(moerun__session_reserve(&reserve, &unread, &options, &extra),
                   MOERUN_ERR_INVALID);
  assert_non_null(strstr(moerun_last_error(),
                         "1048576 rows of 40 experts each on 64 ranks"));
  moerun_placement_destroy(placement);
  tear_down(&r);
}

/* Rows are needed to the end of the layer: what is written must be others. */
static void rows_must_not_overlap(void **state) {
  (void)state;
  rig r;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = 8};
  set_up(&r, &options, NULL);
  const size_t H = (size_t)r.model->config.hidden_width;
  const int32_t layer = first_moe_layer(r.model);
  const int mine = test_rank() == test_size() - 1;
  float *rows = calloc(16 * H, sizeof *rows);
  float *const bad[] = {rows, rows + H, rows + 8 * H - 1, NULL};
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    const moerun_status status = moerun_moe_forward(
        r.session, layer, 8, rows, mine ? bad[i] : rows + 8 * H);
    assert_all_ranks(status == (mine ? MOERUN_ERR_INVALID : MOERUN_ERR_PEER));
    const char *words = bad[i] == NULL ? "x or y is NULL" : "x and y overlap";
    assert_all_ranks(!mine || strstr(moerun_last_error(), words) != NULL);
  }
  assert_all_ranks(moerun_moe_forward(r.session, layer, 8, mine ? NULL : rows,
                                      rows + 8 * H) ==
                   (mine ? MOERUN_ERR_INVALID : MOERUN_ERR_PEER));
  assert_all_ok(moerun_moe_forward(r.session, layer, 8, rows, rows + 8 * H));
  assert_all_ok(moerun_moe_forward(r.session, layer, 8, rows + 8 * H, rows));
  free(rows);
  tear_down(&r);
}

/* Each option that has to be the same on all ranks and is not, on the last. */
static void refuse_uneven_options(const moerun_model *model) {
  const int32_t odd = test_rank() == test_size() - 1;
  const struct {
    const char *name;
    moerun_session_options options;
  } uneven[] = {
      {"max_tokens", {.max_tokens = 8 + odd}},
      {"max_sequences", {.max_tokens = 8, .max_sequences = 1 + odd}},
      {"kv_tokens",
       {.max_tokens = 8, .max_sequences = 1, .kv_tokens = 8 + odd}},
      {"chunks", {.max_tokens = 8, .chunks = 1 + odd}},
      {"wire", {.max_tokens = 8, .wire = (moerun_wire)odd}},
      {"compute", {.max_tokens = 8, .compute = (moerun_compute)odd}},
      {"balance", {.max_tokens = 8, .balance = (moerun_balance)odd}},
      {"guest_bytes", {.max_tokens = 8, .guest_bytes = (1 << 20) + odd}},
      {"slice_bytes",
       {.max_tokens = 8,
        .balance = MOERUN_BALANCE_OFF,
        .slice_bytes = 1 + odd}},
  };
  for (size_t i = 0; i < sizeof uneven / sizeof *uneven; i++) {
    moerun_session *session = NULL;
    moerun_session_options options = uneven[i].options;
    options.struct_size = sizeof options;
    assert_all_ranks(moerun_session_create(&session, model, &options) ==
                     MOERUN_ERR_INVALID);
    assert_all_ranks(strncmp(moerun_last_error(), uneven[i].name,
                             strlen(uneven[i].name)) == 0);
    assert_all_ranks(strstr(moerun_last_error(), "the same on all ranks") !=
                     NULL);
  }
}

/* One rank forgot the size of its options. */
static void refuse_forgotten_size(const moerun_model *model) {
  moerun_session *session = NULL;
  const int mine = test_rank() == test_size() - 1;
  moerun_session_options options = {.struct_size = sizeof options,
                                    .max_tokens = 8};
  if (mine) options.struct_size = 0;
  assert_all_ranks(moerun_session_create(&session, model, &options) ==
                   (mine ? MOERUN_ERR_INVALID : MOERUN_ERR_PEER));
  assert_null(session);
  assert_all_ranks((moerun_session_bytes(model, &options) == 0) == mine);
}

static void bad_options_are_refused(void **state) {
  (void)state;
  rig r;
  const moerun_session_options good = {.struct_size = sizeof good,
                                       .max_tokens = 8};
  set_up(&r, &good, NULL);
  const moerun_session_options bad[] = {
      {.max_tokens = 0},
      {.max_tokens = 8, .chunks = 9},
      {.max_tokens = 8, .max_sequences = -1},
      {.max_tokens = 8, .kv_tokens = -1},
      {.max_tokens = 8, .wire = (moerun_wire)7},
  };
  for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
    moerun_session *session = NULL;
    moerun_session_options options = bad[i];
    options.struct_size = sizeof options;
    assert_all_ranks(moerun_session_create(&session, r.model, &options) ==
                     MOERUN_ERR_INVALID);
    assert_null(session);
    assert_int_equal(moerun_session_bytes(r.model, &options), 0);
  }
  refuse_forgotten_size(r.model);
  if (test_size() > 1) refuse_uneven_options(r.model);
  float x = 0;
  float y = 0;
  assert_all_ranks(moerun_moe_forward(r.session, 99, 0, &x, &y) ==
                   MOERUN_ERR_INVALID);
  const int32_t dense = first_moe_layer(r.model) == 0 ? 1 : 0;
  assert_all_ranks(r.model->layers[dense].moe_layer < 0);
  assert_all_ranks(moerun_moe_forward(r.session, dense, 1, &x, &y) ==
                   MOERUN_ERR_INVALID);
  assert_all_ranks(
      strstr(moerun_last_error(), "is not one of the MoE layers") != NULL);
  assert_all_ranks(moerun_sequence_reset(r.session, 0) == MOERUN_ERR_INVALID);
  tear_down(&r);
}

/* Every allocation of create fails once, on the last rank; nothing leaks. */
static void creation_survives_failed_allocations(void **state) {
  (void)state;
  rig r;
  const moerun_session_options options = {
      .struct_size = sizeof options, .max_tokens = 8, .chunks = 2};
  set_up(&r, &options, NULL);
  const size_t live = moerun__alloc_live();
  moerun_status status = MOERUN_ERR_NOMEM;
  for (long nth = 0; status != MOERUN_OK; nth++) {
    moerun_session *session = NULL;
    assert_true(nth < 200);
    if (test_rank() == test_size() - 1) moerun__alloc_fail_nth(nth);
    status = moerun_session_create(&session, r.model, &options);
    moerun__alloc_fail_nth(-1);
    assert_all_ranks(status == MOERUN_OK || status == MOERUN_ERR_NOMEM ||
                     status == MOERUN_ERR_PEER);
    moerun_session_destroy(session);
    assert_all_ranks(moerun__alloc_live() == live);
  }
  tear_down(&r);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(prediction_equals_allocation),
      cmocka_unit_test(steps_allocate_nothing),
      cmocka_unit_test(a_step_that_failed_can_be_repeated),
      cmocka_unit_test(rows_with_added_experts_are_limited),
      cmocka_unit_test_setup_teardown(prediction_equals_allocation, begin_home,
                                      end_home),
      cmocka_unit_test_setup_teardown(steps_allocate_nothing, begin_home,
                                      end_home),
      cmocka_unit_test(any_skew_fits),
      cmocka_unit_test(sum_of_ranks_is_reported),
      cmocka_unit_test(bad_batch_is_told_to_all),
      cmocka_unit_test(rows_must_not_overlap),
      cmocka_unit_test(bad_options_are_refused),
      cmocka_unit_test(creation_survives_failed_allocations),
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
