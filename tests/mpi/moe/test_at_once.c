/* Layers and decoders over a transport that begins both directions of an
 * exchange together and in full (support/group_comm.h): the bits of MPI, with
 * every routing in one wave. First, that the transport notices what would
 * otherwise wait for ever. */
#include "runtime/decoder/session.h"
#include "support/draw.h"
#include "support/group_comm.h"
#include "support/model_world.h"

enum { T = 37, STEPS = 4, LAYER = 1, ROW = 24, MOST_RANKS = 8, SEQUENCES = 2 };

/* ---- What cannot be begun ------------------------------------------------ */

typedef struct rig {
  moerun_comm *comm;
  moerun__transfer *transfer[2];
  int32_t offset[MOST_RANKS + 1]; /* a row to and from each rank */
  char in[MOST_RANKS][ROW];
  char out[MOST_RANKS][ROW];
} rig;

static void set_up(rig *r) {
  memset(r, 0, sizeof *r);
  assert_all_ok(group_comm_create(&r->comm));
  for (int i = 0; i < 2; i++) {
    assert_all_ok(r->comm->ops->transfer_create(&r->transfer[i], r->comm, 0,
                                                MOERUN_MEMORY_HOST));
  }
  for (int32_t p = 0; p < test_size(); p++) {
    r->offset[p + 1] = p + 1;
    r->out[p][0] = (char)(10 * test_rank() + p);
  }
}

static void tear_down(rig *r) {
  for (int i = 0; i < 2; i++) {
    r->comm->ops->transfer_destroy(r->transfer[i]);
  }
  moerun_comm_destroy(r->comm);
}

static moerun__row_list list_of(rig *r, void *rows, int32_t first,
                                int32_t last) {
  return (moerun__row_list){rows,  ROW,  r->offset + first,
                            first, last, MOERUN_MEMORY_HOST};
}

static moerun_status receive(rig *r, int i, int32_t tag) {
  const moerun__row_list list = list_of(r, r->in, 0, test_size());
  return r->comm->ops->receive_begin(r->transfer[i], tag, &list);
}

static moerun_status send(rig *r, int i, int32_t tag) {
  const moerun__row_list list = list_of(r, r->out, 0, test_size());
  return r->comm->ops->send_begin(r->transfer[i], tag, &list);
}

static int says(moerun_status status, moerun_status code, const char *text) {
  return status == code && strstr(moerun_last_error(), text) != NULL;
}

/* They are held back, and nothing of them has come before. */
static void receives_wait_for_their_sends(void **state) {
  (void)state;
  rig r;
  int done = 1;
  set_up(&r);
  assert_all_ok(receive(&r, 0, MOERUN_TAG_COMBINE));
  assert_all_ok(r.comm->ops->test_received(r.transfer[0], &done));
  assert_all_ranks(!done);
  assert_all_ok(send(&r, 0, MOERUN_TAG_COMBINE));
  assert_all_ok(r.comm->ops->wait(r.transfer[0]));
  for (int32_t p = 0; p < test_size(); p++) {
    const int expected = p == test_rank() ? 0 : 10 * p + test_rank();
    assert_all_ranks(r.in[p][0] == expected);
  }
  tear_down(&r);
}

static void receives_alone_are_not_waited_for(void **state) {
  (void)state;
  rig r;
  set_up(&r);
  assert_all_ok(receive(&r, 0, MOERUN_TAG_COMBINE));
  assert_all_ranks(says(r.comm->ops->wait_received(r.transfer[0]),
                        MOERUN_ERR_COMM, "and none are sent"));
  tear_down(&r);
}

static void sends_alone_are_refused(void **state) {
  (void)state;
  rig r;
  set_up(&r);
  assert_all_ranks(says(send(&r, 0, MOERUN_TAG_DISPATCH), MOERUN_ERR_INVALID,
                        "are sent without receives"));
  tear_down(&r);
}

/* Rank 0 receives of the others one by one, all of which send at once. */
static void waves_are_noticed(void **state) {
  (void)state;
  rig r;
  if (test_size() < 3) skip();
  set_up(&r);
  const moerun__row_list in =
      list_of(&r, r.in, 0, test_rank() == 0 ? 2 : test_size());
  assert_all_ok(
      r.comm->ops->receive_begin(r.transfer[0], MOERUN_TAG_DISPATCH, &in));
  (void)send(&r, 0, MOERUN_TAG_DISPATCH); /* may have heard of it already */
  assert_all_ranks(test_rank() > 0 ||
                   says(r.comm->ops->wait(r.transfer[0]), MOERUN_ERR_COMM,
                        "expected 0 rows of tag 16 from"));
  tear_down(&r);
}

/* Rank 0 begins two exchanges in an order of its own. */
static void other_orders_are_noticed(void **state) {
  (void)state;
  rig r;
  if (test_size() < 2) skip();
  set_up(&r);
  const int first = test_rank() == 0;
  for (int i = 0; i < 2; i++) {
    const int32_t tag = MOERUN_TAG_DISPATCH + (first + i) % 2;
    assert_all_ok(receive(&r, i, tag));
    (void)send(&r, i, tag); /* may have heard of it already */
  }
  assert_all_ranks(says(r.comm->ops->wait(r.transfer[1]), MOERUN_ERR_COMM,
                        "group 0: expected 1 rows of tag 1"));
  tear_down(&r);
}

/* ---- Layers and decoders ------------------------------------------------- */

static const moerun__plan_options eager = {
    .threshold = 1000, .slack = 1000, .min_rows = 1, .min_rows_held = 1};

/* Speeds by count: both sessions make the same plans. */
static moerun__faults slow;

typedef struct setting {
  int is_skewed; /* 1: all experts are on the last rank */
  int32_t chunks;
  moerun_wire wire;
  moerun_balance balance;
} setting;

static const setting settings[] = {
    {1, 1, MOERUN_WIRE_FP32, MOERUN_BALANCE_OFF},
    {1, 3, MOERUN_WIRE_BF16, MOERUN_BALANCE_OFF},
    {1, 2, MOERUN_WIRE_FP32, MOERUN_BALANCE_AUTO},
    {0, 3, MOERUN_WIRE_FP32, MOERUN_BALANCE_OFF},
    {0, 2, MOERUN_WIRE_FP32, MOERUN_BALANCE_AUTO},
    {0, 1, MOERUN_WIRE_FP32, MOERUN_BALANCE_SLICED},
};

/* The same model over one transport. */
typedef struct side {
  moerun_model *model;
  moerun_session *session;
} side;

static void open_side(side *s, const world *w, moerun_comm *comm,
                      const moerun_placement *placement, const setting *of) {
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = T,
                                          .max_sequences = SEQUENCES,
                                          .kv_tokens = 200,
                                          .chunks = of->chunks,
                                          .wire = of->wire,
                                          .balance = of->balance};
  const moerun__session_extra extra = {.plan = &eager, .faults = &slow};
  assert_all_ok(moerun_model_load(&s->model, comm, placement, w->path, NULL));
  const size_t predicted =
      moerun__session_bytes_with(s->model, &options, &extra);
  const size_t before = moerun__alloc_live_bytes();
  assert_all_ok(
      moerun__session_create_with(&s->session, s->model, &options, &extra));
  /* Slices are allocated beside what is predicted. */
  assert_all_ranks(of->balance == MOERUN_BALANCE_SLICED ||
                   moerun__alloc_live_bytes() - before == predicted);
}

static void close_side(side *s) {
  moerun_session_destroy(s->session);
  moerun_model_destroy(s->model);
}

/* Room for any exchange, and no more waves than chunks. */
static void check_waves(const side *mpi, const side *at_once,
                        const setting *of) {
  const moerun__moe_shape *shape = &at_once->session->moe.shape;
  const moerun__stats *stats = &at_once->session->stats;
  const int serves = shape->terms > 0;
  assert_all_ranks(shape->receive_capacity ==
                   (serves ? (test_size() - 1) * shape->chunk_tokens : 0));
  if (of->balance == MOERUN_BALANCE_SLICED) return;
  const int64_t layers = (int64_t)LAYERS * STEPS + STEPS;
  assert_all_ranks(stats->waves == layers * of->chunks);
  assert_all_ranks(stats->rows_in == mpi->session->stats.rows_in &&
                   stats->rows_out == mpi->session->stats.rows_out);
  /* Where MPI needs several. */
  assert_all_ranks(!of->is_skewed || of->balance != MOERUN_BALANCE_OFF ||
                   test_size() < 4 || test_rank() < test_size() - 1 ||
                   mpi->session->stats.waves > stats->waves);
}

static void compare_layers(side *mpi, side *at_once, draw *from) {
  for (int step = 0; step < STEPS; step++) {
    float x[T * H];
    float expected[T * H];
    float found[T * H];
    const int32_t tokens = step == 2 ? T * test_rank() / test_size() : T;
    draw_floats(from, x, (size_t)T * H, -1, 1);
    assert_all_ok(moerun_moe_forward(mpi->session, LAYER, tokens, x, expected));
    assert_all_ok(
        moerun_moe_forward(at_once->session, LAYER, tokens, x, found));
    assert_all_ranks(memcmp(found, expected, (size_t)tokens * H * sizeof *x) ==
                     0);
  }
}

/* A prompt of each sequence, then token by token. */
static void compare_decoders(side *mpi, side *at_once, draw *from) {
  int32_t length[SEQUENCES] = {0};
  for (int step = 0; step < STEPS; step++) {
    int32_t token[T];
    int32_t sequence[T];
    int32_t position[T];
    int32_t logit_row[SEQUENCES];
    float expected[SEQUENCES * VOCAB];
    float found[SEQUENCES * VOCAB];
    int32_t rows = 0;
    for (int32_t s = 0; s < SEQUENCES; s++) {
      const int32_t count = step > 0 ? 1 : T / SEQUENCES;
      for (int32_t i = 0; i < count; i++) {
        token[rows] = draw_int(from, 0, VOCAB - 1);
        sequence[rows] = s;
        position[rows++] = length[s]++;
      }
      logit_row[s] = rows - 1;
    }
    const moerun_batch batch = {rows,     token,     sequence,
                                position, SEQUENCES, logit_row};
    assert_all_ok(moerun_forward(mpi->session, &batch, expected));
    assert_all_ok(moerun_forward(at_once->session, &batch, found));
    assert_all_ranks(memcmp(found, expected, sizeof found) == 0);
  }
}

static void compare(const world *w, group_comm *group, const setting *of,
                    draw *from) {
  side mpi;
  side at_once;
  moerun_placement *placement = NULL;
  int32_t rank_of[LAYERS * EXPERTS];
  for (int i = 0; i < LAYERS * EXPERTS; i++) {
    rank_of[i] = of->is_skewed ? test_size() - 1 : w->placement->rank_of[i];
  }
  assert_all_ok(moerun_placement_create(&placement, LAYERS, EXPERTS,
                                        test_size(), rank_of));
  open_side(&mpi, w, w->comm, placement, of);
  open_side(&at_once, w, &group->base, placement, of);
  const int64_t held = group->held;
  const int64_t single = group->single;
  compare_layers(&mpi, &at_once, from);
  compare_decoders(&mpi, &at_once, from);
  check_waves(&mpi, &at_once, of);
  /* Results are awaited before they are sent; only weights go alone. */
  const int gives = of->balance == MOERUN_BALANCE_AUTO;
  const int has_all = of->is_skewed && test_rank() == test_size() - 1;
  assert_all_ranks(group->held > held);
  assert_all_ranks(gives || group->single == single);
  assert_all_ranks(!gives || !has_all || test_size() == 1 ||
                   group->single > single);
  close_side(&mpi);
  close_side(&at_once);
  moerun_placement_destroy(placement);
}

static void exchanges_begin_at_once_with_the_same_bits(void **state) {
  world w;
  moerun_comm *group = NULL;
  draw from = {61, (uint64_t)(1000 * test_rank())};
  (void)state;
  assert_all_ok(moerun__faults_parse(&slow, "rank=0,compute=3x,clock=counted"));
  moerun__synth_options shape = small;
  shape.arch = "qwen3_moe";
  shape.expert_width = 64; /* of whole slices */
  open_world(&w, shape);
  assert_all_ok(group_comm_create(&group));
  for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
    compare(&w, (group_comm *)group, &settings[i], &from);
  }
  assert_all_ranks(((group_comm *)group)->device_rows == 0);
  moerun_comm_destroy(group);
  close_world(&w);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(receives_wait_for_their_sends),
      cmocka_unit_test(receives_alone_are_not_waited_for),
      cmocka_unit_test(sends_alone_are_refused),
      cmocka_unit_test(waves_are_noticed),
      cmocka_unit_test(other_orders_are_noticed),
      cmocka_unit_test(exchanges_begin_at_once_with_the_same_bits),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)MPI_Finalize();
  return failed;
}
