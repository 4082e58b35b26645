/* Placements that follow slow ranks: a rank that stays slow loses experts at
 * the second look, gets them back when it is fast again, and no output changes.
 * All in counts, of faults whose clock is counted. */
#include "runtime/base/rng.h"
#include "runtime/serve/replacer.h"
#include "support/model_world.h"

#include <stdlib.h>
#include <string.h>

enum { ROWS = 48, EVERY = 6, WORDS = 9, ROOM = 4, MANY = 16, K = 2, SEED = 89 };

static const moerun__plan_options eager = {.threshold = 1300,
                                           .threshold_held = 1100,
                                           .slack = 1000,
                                           .min_rows = 8,
                                           .min_rows_held = 8,
                                           .weight_rows = 8};

static moerun_comm *comm;
static world files;

typedef struct rig {
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *session;
  moerun__replacer *replacer; /* or NULL */
  moerun__faults faults;
  float *logits;
} rig;

static void set_up(rig *r, const char *fault, moerun_balance balance,
                   int32_t every, int32_t spare_slots) {
  const moerun_session_options options = {.max_tokens = ROWS,
                                          .max_sequences = 1,
                                          .kv_tokens = ROWS,
                                          .balance = balance,
                                          .guest_bytes = 1 << 20};
  const moerun__replace_options how = {.every = every,
                                       .window = EVERY * ROWS * test_size(),
                                       .spare_slots = spare_slots};
  moerun__session_extra extra = {.record_trace = 1, .plan = &eager};
  memset(r, 0, sizeof *r);
  if (fault != NULL) {
    assert_int_equal(moerun__faults_parse(&r->faults, fault), MOERUN_OK);
    extra.faults = &r->faults;
  }
  assert_all_ok(
      moerun_placement_create_block(&r->placement, LAYERS, MANY, test_size()));
  extra.max_slots = moerun__replacer_slots(r->placement, spare_slots);
  assert_all_ok(
      moerun_model_load(&r->model, comm, r->placement, files.path, NULL));
  assert_all_ok(
      moerun__session_create_with(&r->session, r->model, &options, &extra));
  r->logits = calloc(VOCAB, sizeof *r->logits);
  if (every == 0) return;
  assert_all_ok(
      moerun__replacer_create(&r->replacer, r->session, r->model, &how));
}

static void tear_down(rig *r) {
  moerun_session_destroy(r->session);
  moerun_model_destroy(r->model);
  moerun__replacer_destroy(r->replacer);
  moerun_placement_destroy(r->placement);
  free(r->logits);
}

/* A sequence of its own each step, of few words that ranks share in part. */
static void step(rig *r, int32_t i) {
  int32_t token[ROWS];
  int32_t position[ROWS];
  const int32_t sequence[ROWS] = {0};
  const int32_t last = ROWS - 1;
  const uint64_t rank = (uint64_t)test_rank();
  for (int32_t t = 0; t < ROWS; t++) {
    const uint64_t key = (uint64_t)(i * ROWS + t);
    position[t] = t;
    token[t] = (int32_t)(rank * WORDS / 2) +
               (int32_t)(moerun__uniform(SEED, rank, key) * WORDS);
  }
  const moerun_batch batch = {ROWS, token, sequence, position, 1, &last};
  assert_all_ok(moerun_forward(r->session, &batch, r->logits));
}

static int64_t sum_of(int64_t value) {
  int64_t sum = 0;
  (void)MPI_Allreduce(&value, &sum, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  return sum;
}

/* What was seen between two looks, of all ranks. */
typedef struct period {
  int64_t demand; /* rows whose expert is on the slow rank */
  int64_t rows;
  int64_t moved; /* by balancing */
  int64_t moves; /* of experts, at its end */
} period;

/* Rows of this rank's last step that the routing rule gives to `rank`. */
static int64_t demand_on(const rig *r, int32_t rank) {
  int64_t sum = 0;
  const int16_t *ids = r->session->trace;
  for (int32_t n = 0; n < ROWS * LAYERS; n++) {
    int32_t want[K];
    int32_t found[K];
    for (int32_t k = 0; k < K; k++) {
      want[k] = ids[n * K + k];
    }
    moerun__placement_choose(found, r->model->placement, n % LAYERS,
                             test_rank(), want, K);
    for (int32_t k = 0; k < K; k++) {
      sum += r->model->placement->rank_of[found[k]] == rank;
    }
  }
  return sum;
}

/* EVERY steps of `r`, and of `still` with the same outputs. */
static period run_period(rig *r, rig *still, int32_t first) {
  period p = {.rows = (int64_t)EVERY * ROWS * LAYERS * K * test_size()};
  const int64_t moved = r->session->stats.rows_moved;
  const int64_t moves = moerun__replacer_count(r->replacer).moves;
  for (int32_t i = first; i < first + EVERY; i++) {
    step(r, i);
    step(still, i);
    assert_all_ranks(
        memcmp(r->logits, still->logits, VOCAB * sizeof *r->logits) == 0);
    p.demand += demand_on(r, test_size() - 1);
    if (i + 1 == first + EVERY) {
      p.moved = sum_of(r->session->stats.rows_moved - moved);
    }
    assert_all_ok(moerun__replacer_step(r->replacer, ROWS));
  }
  p.demand = sum_of(p.demand);
  p.moves = moerun__replacer_count(r->replacer).moves - moves;
  return p;
}

/* The slow rank's part of `rows` where it is four times as slow. */
static int64_t share_of(int64_t rows) {
  return rows / (4 * (test_size() - 1) + 1);
}

/* Experts that a rank holds of any layer: the fewest and the most. */
static void count_slots(const moerun_placement *p, int32_t *fewest,
                        int32_t *most) {
  *fewest = MANY;
  *most = 0;
  for (int32_t i = 0; i < LAYERS * p->num_ranks; i++) {
    if (p->slot_count[i] < *fewest) *fewest = p->slot_count[i];
    if (p->slot_count[i] > *most) *most = p->slot_count[i];
  }
}

static void run(period *p, int32_t periods, rig *r) {
  rig still;
  set_up(&still, NULL, MOERUN_BALANCE_OFF, 0, 0);
  for (int32_t i = 0; i < periods; i++) {
    p[i] = run_period(r, &still, i * EVERY);
    if (test_rank() == 0) {
      (void)printf("period %d: %lld of %lld rows on the slow rank, %lld moved "
                   "by balancing\n",
                   i, (long long)p[i].demand, (long long)p[i].rows,
                   (long long)p[i].moved);
    }
  }
  tear_down(&still);
}

/* Slow from the start: seen at the first look, followed at the second. Fast
 * again from step 24 on: believed 16 readings later, seen at the look after
 * that, the seventh, and followed at the eighth. */
static void experts_leave_a_slow_rank_and_return(void **state) {
  (void)state;
  enum { PERIODS = 10, LEFT = 2, RETURNED = 8 };
  rig r;
  period p[PERIODS];
  char fault[64];
  int32_t fewest = 0;
  int32_t most = 0;
  if (test_size() == 1) skip();
  (void)snprintf(fault, sizeof fault, "rank=%d,compute=4x,to=24,clock=counted",
                 test_size() - 1);
  set_up(&r, fault, MOERUN_BALANCE_AUTO, EVERY, ROOM);
  run(p, PERIODS, &r);
  assert_all_ranks(p[LEFT - 1].moves == 1);
  for (int32_t i = LEFT; i < RETURNED; i++) {
    assert_all_ranks(5 * p[i].demand <= 6 * share_of(p[i].rows));
    assert_all_ranks(2 * p[i].demand < p[LEFT - 1].demand);
  }
  for (int32_t i = LEFT; i < 4; i++) { /* less is left to balance */
    assert_all_ranks(p[i].moved < p[LEFT - 1].moved);
  }
  assert_all_ranks(p[RETURNED - 1].moves == 1);
  for (int32_t i = RETURNED; i < PERIODS; i++) {
    assert_all_ranks(p[i].demand > 2 * p[RETURNED - 1].demand);
    assert_all_ranks(p[i].moved < p[RETURNED - 1].moved);
  }
  count_slots(r.model->placement, &fewest, &most);
  assert_all_ranks(fewest >= 1 && most <= (MANY - 1) / test_size() + 1 + ROOM);
  assert_all_ranks(moerun__replacer_count(r.replacer).rows_predicted > 0);
  assert_all_ok(moerun__replacer_end(r.replacer));
  tear_down(&r);
}

/* Nothing is asked for: looks come after a slowness has lasted for 8 steps, 16,
 * …, and after the rank has recovered. Before that there is none. */
static void slowness_that_lasts_calls_for_looks(void **state) {
  (void)state;
  enum { STEPS = 110, FROM = 20, TO = 70 };
  rig r;
  rig still;
  char fault[80];
  int64_t demand[STEPS];
  int64_t moves[STEPS];
  int64_t predicted = 0; /* rows of time */
  if (test_size() == 1) skip();
  (void)snprintf(fault, sizeof fault,
                 "rank=%d,compute=4x,from=%d,to=%d,clock=counted",
                 test_size() - 1, FROM, TO);
  set_up(&r, fault, MOERUN_BALANCE_AUTO, EVERY, ROOM);
  r.replacer->options.every = 0;
  set_up(&still, NULL, MOERUN_BALANCE_OFF, 0, 0);
  for (int32_t i = 0; i < STEPS; i++) {
    step(&r, i);
    step(&still, i);
    assert_all_ranks(memcmp(r.logits, still.logits, VOCAB * sizeof *r.logits) ==
                     0);
    demand[i] = sum_of(demand_on(&r, test_size() - 1));
    assert_all_ok(moerun__replacer_step(r.replacer, ROWS));
    moves[i] = moerun__replacer_count(r.replacer).moves;
    if (i == FROM + 12) {
      predicted = moerun__replacer_count(r.replacer).rows_predicted;
    }
    if (i < FROM) {
      assert_all_ranks(moerun__replacer_count(r.replacer).looks == 0);
    }
  }
  assert_all_ranks(moves[FROM + 7] == 0 && moves[FROM + 12] == 1);
  /* What has lasted for a dozen steps is taken to last for as many: no more can
   * be saved than the slow rank would take in these. */
  assert_all_ranks(predicted > 0 && predicted <= 4 * 12 * demand[FROM]);
  assert_all_ranks(2 * demand[FROM + 16] < demand[FROM]);
  assert_all_ranks(2 * demand[TO - 1] < demand[FROM]);
  assert_all_ranks(moves[STEPS - 1] > moves[TO]);
  assert_all_ranks(demand[STEPS - 1] > 2 * demand[TO]);
  assert_all_ok(moerun__replacer_end(r.replacer));
  tear_down(&r);
  tear_down(&still);
}

/* As many experts as the others, but colder ones. */
static void without_room_a_slow_rank_has_cold_experts(void **state) {
  (void)state;
  enum { PERIODS = 4 };
  const int R = test_size();
  rig r;
  period p[PERIODS];
  char fault[64];
  int32_t fewest = 0;
  int32_t most = 0;
  if (R == 1) skip();
  (void)snprintf(fault, sizeof fault, "rank=%d,compute=4x,clock=counted",
                 R - 1);
  set_up(&r, fault, MOERUN_BALANCE_AUTO, EVERY, 0);
  run(p, PERIODS, &r);
  for (int32_t i = 2; i < PERIODS; i++) {
    assert_all_ranks(p[i].demand < p[1].demand);
    assert_all_ranks(p[i].moved < p[1].moved);
  }
  count_slots(r.model->placement, &fewest, &most);
  assert_all_ranks(fewest == MANY / R && most == (MANY - 1) / R + 1);
  tear_down(&r);
}

/* While no rank is slow, balancing is no reason to place otherwise. */
static void equal_speeds_place_by_traffic_alone(void **state) {
  (void)state;
  rig r[2];
  set_up(&r[0], NULL, MOERUN_BALANCE_OFF, EVERY, 0);
  set_up(&r[1], "rank=0,compute=4x,from=1000,clock=counted",
         MOERUN_BALANCE_AUTO, EVERY, 0);
  for (int32_t i = 0; i < 3 * EVERY; i++) {
    for (int k = 0; k < 2; k++) {
      step(&r[k], i);
      assert_all_ok(moerun__replacer_step(r[k].replacer, ROWS));
    }
  }
  const moerun__replace_count a = moerun__replacer_count(r[0].replacer);
  const moerun__replace_count b = moerun__replacer_count(r[1].replacer);
  assert_all_ranks(memcmp(&a, &b, sizeof a) == 0);
  assert_all_ranks(b.rows_predicted == 0);
  assert_all_ranks(memcmp(r[0].model->placement->rank_of,
                          r[1].model->placement->rank_of,
                          LAYERS * MANY * sizeof(int32_t)) == 0);
  tear_down(&r[0]);
  tear_down(&r[1]);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(experts_leave_a_slow_rank_and_return),
      cmocka_unit_test(slowness_that_lasts_calls_for_looks),
      cmocka_unit_test(without_room_a_slow_rank_has_cold_experts),
      cmocka_unit_test(equal_speeds_place_by_traffic_alone),
  };
  moerun__synth_options many = small;
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  many.arch = "qwen3_moe";
  many.num_experts = MANY;
  many.dtype = MOERUN_DTYPE_BF16;
  open_world(&files, many);
  comm = files.comm;
  if (test_rank() == 0) (void)printf("seed %d\n", SEED);
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  close_world(&files);
  (void)MPI_Finalize();
  return failed;
}
