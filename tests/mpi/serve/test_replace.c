/* Replacement within a run: it changes no bit of any output, the bytes that the
 * transport counts after a move are the ones predicted for the new placement,
 * what it reports is what happened, and nothing moves that does not repay. */
#include "placement/methods/replan.h"
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/serve/replacer.h"
#include "support/engine_run.h"
#include "support/model_world.h"

enum {
  STEPS = 12,
  ROWS = 48,
  EVERY = 4,
  WORDS = 6,
  WIDTH = 8,
  PROMPT = 180,
  SEED = 83
};

static moerun_comm *comm;
static world files;
static moerun_model_shape shape = {.struct_size = sizeof shape};

/* Few different tokens, other ones on each rank: routing with structure. */
static int32_t word(uint64_t i) {
  const uint64_t rank = (uint64_t)test_rank();
  return (int32_t)(rank * WORDS) +
         (int32_t)(moerun__uniform(SEED, rank, i) * WORDS);
}

typedef struct rig {
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *session;
  moerun__replacer *replacer;
} rig;

/* Blocks; with replicas every third expert on the rank after its own, too. */
static moerun_placement *make_placement(int has_replicas) {
  const int32_t R = test_size();
  const int32_t count = LAYERS * EXPERTS;
  moerun_placement *placement = NULL;
  int32_t offset[LAYERS * EXPERTS + 1];
  int32_t rank_of[2 * LAYERS * EXPERTS];
  int32_t n = 0;
  for (int32_t i = 0; i < count; i++) {
    const int32_t own = i % EXPERTS * R / EXPERTS;
    const int32_t other = (own + 1) % R;
    const int two = has_replicas && R > 1 && i % 3 == 0;
    offset[i] = n;
    if (two && other < own) rank_of[n++] = other;
    rank_of[n++] = own;
    if (two && other > own) rank_of[n++] = other;
  }
  offset[count] = n;
  assert_all_ok(moerun__placement_create(&placement, LAYERS, EXPERTS, R, offset,
                                         rank_of, "given"));
  return placement;
}

/* Speeds that are counted, so that no rank is slow by the machine's load. */
static moerun__faults counted;

/* Whether looks go on beside the steps. */
static int32_t is_beside;

/* Without `every` nothing is ever replaced. Rows that balancing moves are not
 * foreseen: where bytes are compared it is off. */
static void set_up_with(rig *r, int has_replicas, int32_t every, int32_t window,
                        moerun_balance balance) {
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = ROWS,
                                          .max_sequences = 2,
                                          .kv_tokens = 2 * STEPS * ROWS,
                                          .balance = balance};
  moerun__session_extra extra = {.record_trace = 1, .faults = &counted};
  memset(r, 0, sizeof *r);
  r->placement = make_placement(has_replicas);
  extra.max_slots = moerun__replacer_slots(r->placement, 0);
  assert_all_ok(
      moerun_model_load(&r->model, comm, r->placement, files.path, NULL));
  assert_all_ok(
      moerun__session_create_with(&r->session, r->model, &options, &extra));
  if (every == 0) return;
  const moerun__replace_options how = {
      .every = every, .window = window, .is_beside = is_beside};
  const size_t before = moerun__alloc_live_bytes();
  assert_all_ok(
      moerun__replacer_create(&r->replacer, r->session, r->model, &how));
  assert_all_ranks(moerun__alloc_live_bytes() - before ==
                   moerun__replacer_bytes(&r->model->config, r->placement,
                                          test_rank(), &how));
}

static void set_up(rig *r, int32_t every, int32_t window,
                   moerun_balance balance) {
  set_up_with(r, 0, every, window, balance);
}

static void tear_down(rig *r) {
  moerun_session_destroy(r->session);
  moerun_model_destroy(r->model);
  moerun__replacer_destroy(r->replacer);
  moerun_placement_destroy(r->placement);
}

/* `rows` tokens at the end of sequence 0 of this rank. */
static moerun_status forward(const rig *r, int32_t first, int32_t rows,
                             float *logits) {
  int32_t token[ROWS];
  int32_t position[ROWS];
  const int32_t sequence[ROWS] = {0};
  const int32_t last = rows - 1;
  for (int32_t t = 0; t < rows; t++) {
    position[t] = first + t;
    token[t] = word((uint64_t)position[t]);
  }
  const moerun_batch batch = {rows, token, sequence, position, 1, &last};
  return moerun_forward(r->session, &batch, logits);
}

static int64_t sum_of(int64_t value) {
  int64_t sum = 0;
  (void)MPI_Allreduce(&value, &sum, 1, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  return sum;
}

/* Bytes of rows for `rows` of this rank, summed over ranks. */
static int64_t bytes_of(const moerun_placement *placement, const rig *r,
                        const int16_t *ids, int32_t rows) {
  const moerun__model_config *config = &r->model->config;
  moerun__trace *trace = NULL;
  int64_t bytes[LAYERS];
  const moerun__replan_costs costs = {
      .copy_bytes =
          (int64_t)moerun__copy_bytes(config, r->session->moe.shape.wire),
      .result_bytes =
          (int64_t)moerun__result_bytes(config, r->session->moe.shape.wire)};
  int32_t home = test_rank();
  assert_all_ok(moerun__trace_create(&trace, rows, LAYERS, EXPERTS,
                                     config->experts_per_token));
  memcpy(trace->ids, ids,
         (size_t)(rows * LAYERS * config->experts_per_token) * sizeof *ids);
  trace->home = &home;
  trace->num_ranks = test_size();
  assert_all_ok(moerun__replan_bytes(bytes, placement, trace, &costs));
  trace->home = NULL;
  moerun__trace_destroy(trace);
  return sum_of(bytes[0] + bytes[1] + bytes[2]);
}

static int same_on_all_ranks(const moerun__replace_count *count) {
  moerun__replace_count root = *count;
  (void)MPI_Bcast(&root, (int)sizeof root, MPI_BYTE, 0, MPI_COMM_WORLD);
  return memcmp(&root, count, sizeof root) == 0;
}

/* Replicas that this rank has in `to` and lacks in `from`. */
static int64_t lacking(const moerun_placement *from,
                       const moerun_placement *to) {
  int64_t count = 0;
  for (int32_t l = 0; l < LAYERS; l++) {
    int32_t a[EXPERTS];
    int32_t b[EXPERTS];
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
  return count;
}

/* With one rank all rows are at home; with an expert a rank every placement has
 * the same fan-out. */
static int can_gain(void) {
  return test_size() > 1 && test_size() < EXPERTS;
}

/* ---- Steps --------------------------------------------------------------- */

static void follow_bytes(int has_replicas) {
  rig still;
  rig moving;
  const size_t V = (size_t)shape.vocab_size;
  const int32_t R = test_size();
  float *want = calloc(V, sizeof *want);
  float *found = calloc(V, sizeof *found);
  int16_t *ids = NULL; /* of the period */
  set_up(&still, 0, 0, MOERUN_BALANCE_OFF);
  set_up_with(&moving, has_replicas, EVERY, STEPS * ROWS * R,
              MOERUN_BALANCE_OFF);
  const size_t step_ids = (size_t)(ROWS * LAYERS * shape.experts_per_token);
  ids = calloc(EVERY * step_ids, sizeof *ids);
  const moerun_placement *first = moving.model->placement;
  moerun__replace_count last = {0};
  int64_t sent = 0;
  for (int32_t i = 0; i < STEPS; i++) {
    assert_all_ok(forward(&still, i * ROWS, ROWS, want));
    const int64_t before = comm->count.row_bytes;
    assert_all_ok(forward(&moving, i * ROWS, ROWS, found));
    sent += sum_of(comm->count.row_bytes - before);
    assert_all_ranks(memcmp(want, found, V * sizeof *want) == 0);
    memcpy(ids + (size_t)(i % EVERY) * step_ids, moving.session->trace,
           step_ids * sizeof *ids);
    const moerun_placement *placed = moving.model->placement;
    const int is_look = (i + 1) % EVERY == 0;
    int64_t here = 0;
    int64_t at_first = 0;
    if (is_look) {
      here = bytes_of(placed, &moving, ids, EVERY * ROWS);
      at_first = bytes_of(first, &moving, ids, EVERY * ROWS);
    }
    const size_t calls = moerun__alloc_calls();
    assert_all_ok(moerun__replacer_step(moving.replacer, ROWS));
    const moerun__replace_count count = moerun__replacer_count(moving.replacer);
    assert_all_ranks(same_on_all_ranks(&count));
    if (!is_look) {
      assert_all_ranks(moerun__alloc_calls() == calls);
      continue;
    }
    assert_all_ranks(here == sent);
    assert_all_ranks(count.looks == (R > 1 ? (i + 1) / EVERY : 0));
    if (last.moves == 1 && last.looks == 1) {
      assert_all_ranks(count.bytes_counted == at_first - sent);
      assert_all_ranks(count.bytes_counted > 0);
    }
    if (count.moves > last.moves) {
      const int64_t moved = sum_of(lacking(placed, moving.model->placement));
      assert_all_ranks(count.experts_moved - last.experts_moved == moved);
      assert_all_ranks(count.bytes_predicted - last.bytes_predicted >
                       count.bytes_moved - last.bytes_moved);
      assert_all_ranks(
          count.bytes_moved - last.bytes_moved ==
          moved *
              (int64_t)(moerun__weight_bytes(MOERUN_DTYPE_BF16, 2 * WIDTH, H) +
                        moerun__weight_bytes(MOERUN_DTYPE_BF16, H, WIDTH)));
    } else {
      assert_all_ranks(moving.model->placement == placed);
    }
    last = count;
    sent = 0;
  }
  assert_all_ranks((last.moves > 0) == (can_gain() || (has_replicas && R > 1)));
  assert_all_ok(moerun__replacer_end(moving.replacer));
  tear_down(&still);
  tear_down(&moving);
  free(want);
  free(found);
  free(ids);
}

static void bytes_after_a_move_are_those_predicted(void **state) {
  (void)state;
  follow_bytes(0);
}

static void replicas_move_too(void **state) {
  (void)state;
  follow_bytes(1);
}

/* The latest quarter of the rows is known, and counts for all of them, also
 * where it has foretold too much. */
static void a_window_stands_for_all_rows(void **state) {
  (void)state;
  rig r;
  const int32_t R = test_size();
  const size_t step_ids = (size_t)(ROWS * LAYERS * shape.experts_per_token);
  int16_t *ids = calloc(EVERY * step_ids, sizeof *ids);
  float *logits = calloc((size_t)shape.vocab_size, sizeof *logits);
  int64_t sent = 0;
  set_up(&r, EVERY, EVERY * ROWS * R / 4, MOERUN_BALANCE_OFF);
  for (int32_t i = 0; i < 2 * EVERY; i++) {
    const int64_t before = comm->count.row_bytes;
    assert_all_ok(forward(&r, i * ROWS, ROWS, logits));
    sent += sum_of(comm->count.row_bytes - before);
    memcpy(ids + (size_t)(i % EVERY) * step_ids, r.session->trace,
           step_ids * sizeof *ids);
    assert_all_ok(moerun__replacer_step(r.replacer, ROWS));
    if (i + 1 == EVERY) sent = 0;
  }
  const moerun__replace_count count = moerun__replacer_count(r.replacer);
  const int64_t saved = bytes_of(r.placement, &r, ids, EVERY * ROWS) - sent;
  assert_all_ranks((count.moves > 0) == can_gain());
  assert_all_ranks(2 * llabs(count.bytes_counted - saved) <= llabs(saved));
  tear_down(&r);
  free(ids);
  free(logits);
}

/* Too few rows for the weights of one expert: looked at, and left. */
static void what_does_not_repay_stays(void **state) {
  (void)state;
  rig r;
  float *logits = calloc((size_t)shape.vocab_size, sizeof *logits);
  set_up(&r, 1, STEPS, MOERUN_BALANCE_OFF);
  for (int32_t i = 0; i < STEPS; i++) {
    assert_all_ok(forward(&r, i, 1, logits));
    assert_all_ok(moerun__replacer_step(r.replacer, 1));
  }
  const moerun__replace_count count = moerun__replacer_count(r.replacer);
  assert_all_ranks(count.looks == (test_size() > 1 ? STEPS : 0));
  assert_all_ranks(count.moves == 0 && count.bytes_moved == 0);
  assert_all_ranks(r.model->placement == r.placement);
  assert_all_ok(moerun__replacer_end(r.replacer));
  tear_down(&r);
  free(logits);
}

/* Steps without rows on some ranks or all, and a window that is smaller than
 * what was fed: the ring has turned. */
static void any_number_of_rows_is_looked_at(void **state) {
  (void)state;
  rig r;
  float *logits = calloc((size_t)shape.vocab_size, sizeof *logits);
  int32_t fed = 0;
  set_up(&r, 2, 50 * test_size(), MOERUN_BALANCE_AUTO);
  for (int32_t i = 0; i < 8; i++) {
    const int32_t rows = i < 2 || (i % 3 + test_rank()) % 2 ? 0 : ROWS - i;
    const moerun_batch none = {0};
    assert_all_ok(rows > 0 ? forward(&r, fed, rows, logits)
                           : moerun_forward(r.session, &none, logits));
    assert_all_ok(moerun__replacer_step(r.replacer, rows));
    fed += rows;
  }
  const moerun__replace_count count = moerun__replacer_count(r.replacer);
  assert_all_ranks(count.looks == (test_size() > 1 ? 4 : 0));
  assert_all_ranks(same_on_all_ranks(&count));
  assert_all_ok(moerun__replacer_end(r.replacer));
  tear_down(&r);
  free(logits);
}

/* ---- Beside the steps ---------------------------------------------------- */

static int32_t layers_that_differ(const moerun_placement *a,
                                  const moerun_placement *b) {
  int32_t count = 0;
  for (int32_t l = 0; l < LAYERS; l++) {
    count += !moerun__replan_same(a, b, l);
  }
  return count;
}

/* Steps without rows until the look has been decided and its layers have moved,
 * one after each step. Returns after how many of them a layer moved. */
static int32_t finish_look(rig *r) {
  int32_t moves = 0;
  while (r->replacer->phase != MOERUN_REPLACER_WATCHES) {
    moerun_placement *before = NULL;
    const moerun_placement *now = r->model->placement;
    const moerun_placement *const layers[LAYERS] = {now, now, now};
    assert_all_ok(moerun__placement_join(&before, LAYERS, layers, NULL, ""));
    assert_all_ok(moerun__replacer_step(r->replacer, 0));
    const int32_t changed = layers_that_differ(before, r->model->placement);
    assert_all_ranks(changed <= 1);
    moves += changed;
    moerun_placement_destroy(before);
  }
  return moves;
}

/* What is decided beside the steps is what would have been decided in one, it
 * comes in steps of a layer, and what it saved counts from the last of them. */
static void looks_beside_the_steps_decide_the_same(void **state) {
  (void)state;
  enum { LOOKS = 3 };
  rig still;
  rig beside;
  const size_t V = (size_t)shape.vocab_size;
  float *want = calloc(V, sizeof *want);
  float *found = calloc(V, sizeof *found);
  set_up(&still, EVERY, STEPS * ROWS * test_size(), MOERUN_BALANCE_OFF);
  is_beside = 1;
  set_up(&beside, EVERY, STEPS * ROWS * test_size(), MOERUN_BALANCE_OFF);
  is_beside = 0;
  for (int32_t i = 0; i < LOOKS * EVERY; i++) {
    assert_all_ok(forward(&still, i * ROWS, ROWS, want));
    assert_all_ok(forward(&beside, i * ROWS, ROWS, found));
    assert_all_ranks(memcmp(want, found, V * sizeof *want) == 0);
    const moerun__replace_count last = moerun__replacer_count(beside.replacer);
    assert_all_ok(moerun__replacer_step(still.replacer, ROWS));
    assert_all_ok(moerun__replacer_step(beside.replacer, ROWS));
    if ((i + 1) % EVERY != 0 || test_size() == 1) continue;
    const moerun__replace_count now = moerun__replacer_count(beside.replacer);
    assert_all_ranks(memcmp(&last, &now, sizeof now) == 0); /* under way */
    const int32_t moves = finish_look(&beside);
    const moerun__replace_count a = moerun__replacer_count(still.replacer);
    const moerun__replace_count b = moerun__replacer_count(beside.replacer);
    assert_all_ranks(memcmp(&a, &b, sizeof a) == 0);
    assert_all_ranks((moves > 0) == (b.moves > last.moves));
    assert_all_ranks(layers_that_differ(still.model->placement,
                                        beside.model->placement) == 0);
  }
  assert_all_ranks((moerun__replacer_count(beside.replacer).moves > 0) ==
                   can_gain());
  assert_all_ok(moerun__replacer_end(still.replacer));
  assert_all_ok(moerun__replacer_end(beside.replacer));
  const moerun__replace_count a = moerun__replacer_count(still.replacer);
  const moerun__replace_count b = moerun__replacer_count(beside.replacer);
  assert_all_ranks(memcmp(&a, &b, sizeof a) == 0);
  tear_down(&still);
  tear_down(&beside);
  free(want);
  free(found);
}

/* In the middle of a look, before the first of its moves, and after it: what is
 * counted is what has moved. */
static void a_run_may_end_at_any_time(void **state) {
  (void)state;
  float *logits = calloc((size_t)shape.vocab_size, sizeof *logits);
  if (test_size() == 1) skip();
  for (int amid_moves = 0; amid_moves < 3; amid_moves++) {
    rig r;
    is_beside = 1;
    set_up(&r, EVERY, STEPS * ROWS * test_size(), MOERUN_BALANCE_OFF);
    is_beside = 0;
    for (int32_t i = 0; i < EVERY; i++) {
      assert_all_ok(forward(&r, i * ROWS, ROWS, logits));
      assert_all_ok(moerun__replacer_step(r.replacer, ROWS));
    }
    while (amid_moves && r.replacer->phase == MOERUN_REPLACER_DECIDES) {
      assert_all_ok(moerun__replacer_step(r.replacer, 0));
    }
    if (amid_moves == 2) assert_all_ok(moerun__replacer_step(r.replacer, 0));
    assert_all_ok(moerun__replacer_end(r.replacer));
    const moerun__replace_count count = moerun__replacer_count(r.replacer);
    const moerun_placement *now = r.model->placement;
    const int64_t moved = sum_of(lacking(r.placement, now));
    assert_all_ranks(same_on_all_ranks(&count));
    assert_all_ranks(count.moves == (amid_moves == 2 && can_gain()));
    assert_all_ranks((now == r.placement) == (count.moves == 0));
    assert_all_ranks(count.experts_moved == moved);
    assert_all_ranks((count.bytes_moved > 0) == (moved > 0));
    tear_down(&r);
  }
  free(logits);
}

/* ---- The engine ---------------------------------------------------------- */

static int32_t prompts[RUN_REQUESTS][PROMPT];
static moerun__request requests[RUN_REQUESTS];
static run_result results[3][RUN_REQUESTS];
static int32_t order[RUN_REQUESTS];

/* Of the same words on all ranks, some of them sampled. */
static void make_requests(void) {
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    order[i] = i;
    for (int32_t t = 0; t < PROMPT; t++) {
      prompts[i][t] =
          (int32_t)(moerun__uniform(SEED, 99, (uint64_t)(PROMPT * i + t)) * 2 *
                    WORDS);
    }
    requests[i] = (moerun__request){.index = i,
                                    .num_prompt = PROMPT - 3 * i,
                                    .prompt = prompts[i],
                                    .max_new_tokens = 3 + i,
                                    .sampling.temperature = i % 2 ? 0.8 : 0,
                                    .sampling.top_p = 1,
                                    .sampling.seed = (uint64_t)i};
  }
}

static void an_engine_run_keeps_its_outputs(void **state) {
  (void)state;
  make_requests();
  for (int replaces = 0; replaces < 3; replaces++) {
    rig r;
    run_state run = {.request = requests,
                     .order = order,
                     .count = RUN_REQUESTS,
                     .result = results[replaces]};
    moerun__progress progress;
    int stopped = 0;
    is_beside = replaces == 2;
    set_up(&r, replaces ? 5 : 0, 4096, MOERUN_BALANCE_AUTO);
    is_beside = 0;
    const moerun__engine_options how = {.prefill_chunk = 40};
    const moerun__engine_stretch stretch = {.session = r.session,
                                            .replacer = r.replacer};
    const moerun__engine_callbacks callbacks = {
        .context = &run, .next = run_next, .finished = run_finished};
    assert_all_ok(
        moerun__engine_run(&stretch, &how, &callbacks, &progress, &stopped));
    if (replaces) {
      const moerun__replace_count count = moerun__replacer_count(r.replacer);
      assert_all_ranks(same_on_all_ranks(&count));
      if (replaces == 1) assert_all_ranks((count.moves > 0) == can_gain());
    }
    tear_down(&r);
    assert_all_ranks(memcmp(results[0], results[replaces], sizeof results[0]) ==
                     0);
  }
}

/* ---- Refusals ------------------------------------------------------------ */

/* One rank lacks memory to decide: it says so, and all end. */
static void a_look_that_fails_on_one_rank_fails_on_all(void **state) {
  (void)state;
  rig r;
  const int fails = test_rank() == 1;
  float *logits = calloc((size_t)shape.vocab_size, sizeof *logits);
  if (test_size() == 1) skip();
  set_up(&r, 1, STEPS, MOERUN_BALANCE_OFF);
  assert_all_ok(forward(&r, 0, ROWS, logits));
  if (fails) moerun__alloc_fail_nth(0);
  const moerun_status status = moerun__replacer_step(r.replacer, ROWS);
  moerun__alloc_fail_nth(-1);
  assert_all_ranks(status == (fails ? MOERUN_ERR_NOMEM : MOERUN_ERR_PEER));
  tear_down(&r);
  free(logits);
}

static void sessions_that_do_not_fit_are_refused(void **state) {
  (void)state;
  rig r;
  set_up(&r, 0, 0, MOERUN_BALANCE_OFF);
  moerun__replace_options how = {.every = 1, .window = 1};
  moerun_session *plain = NULL;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = 1};
  assert_all_ok(moerun_session_create(&plain, r.model, &options));
  assert_all_ranks(moerun__replacer_create(&r.replacer, plain, r.model, &how) ==
                   MOERUN_ERR_INVALID);
  assert_all_ranks(r.replacer == NULL);
  how.window = 0;
  assert_all_ranks(moerun__replacer_create(&r.replacer, r.session, r.model,
                                           &how) == MOERUN_ERR_INVALID);
  how.window = 1;
  how.spare_slots = -1;
  assert_all_ranks(moerun__replacer_create(&r.replacer, r.session, r.model,
                                           &how) == MOERUN_ERR_INVALID);
  how.spare_slots = 0;
  how.every = -1;
  assert_all_ranks(moerun__replacer_create(&r.replacer, r.session, r.model,
                                           &how) == MOERUN_ERR_INVALID);
  moerun_session_destroy(plain);
  tear_down(&r);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bytes_after_a_move_are_those_predicted),
      cmocka_unit_test(replicas_move_too),
      cmocka_unit_test(a_window_stands_for_all_rows),
      cmocka_unit_test(what_does_not_repay_stays),
      cmocka_unit_test(any_number_of_rows_is_looked_at),
      cmocka_unit_test(looks_beside_the_steps_decide_the_same),
      cmocka_unit_test(a_run_may_end_at_any_time),
      cmocka_unit_test(an_engine_run_keeps_its_outputs),
      cmocka_unit_test(a_look_that_fails_on_one_rank_fails_on_all),
      cmocka_unit_test(sessions_that_do_not_fit_are_refused),
  };
  moerun__synth_options narrow = small;
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  narrow.arch = "qwen3_moe";
  narrow.dtype = MOERUN_DTYPE_BF16;
  narrow.expert_width = WIDTH;
  open_world(&files, narrow);
  comm = files.comm;
  if (moerun_model_shape_load(&shape, files.path) != MOERUN_OK) {
    return EXIT_FAILURE;
  }
  if (moerun__faults_parse(&counted, "rank=0,compute=2x,from=1000000,"
                                     "clock=counted") != MOERUN_OK) {
    return EXIT_FAILURE;
  }
  if (test_rank() == 0) (void)printf("seed %d\n", SEED);
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  close_world(&files);
  (void)MPI_Finalize();
  return failed;
}
