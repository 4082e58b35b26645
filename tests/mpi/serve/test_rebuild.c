/* Sessions go and others come while requests are under way: of other sizes,
 * with another placement, on another communicator of the same processes. What
 * requests become is what they become in a session that stays, to the last
 * bit. */
#include "runtime/base/memory.h"
#include "support/engine_run.h"
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>

#define MODEL MOERUN_DEMO_MODEL

enum { SEATS = 3, POSITIONS = 160, ROWS = 24, PROMPT = 80 };

/* One life of a session: its communicator, placement and options. */
typedef struct life {
  int turned;     /* 1: the ranks behind the first stand the other way round */
  int scattered;  /* 1: expert e is on rank (e + layer) % R */
  int32_t tokens; /* max_tokens */
  int32_t chunks;
  moerun_balance balance;
  int64_t steps; /* 0: to the end */
} life;

typedef struct rig {
  moerun_comm *comm;
  moerun_placement *placement;
  moerun_model *model;
  moerun_session *session;
} rig;

static void open_comm(rig *r, int turned) {
  MPI_Comm split = MPI_COMM_NULL;
  const int key =
      turned && test_rank() > 0 ? test_size() - test_rank() : test_rank();
  assert_all_ranks(MPI_Comm_split(MPI_COMM_WORLD, 0, key, &split) ==
                   MPI_SUCCESS);
  assert_all_ok(moerun_comm_create_mpi(&r->comm, split, NULL));
  (void)MPI_Comm_free(&split);
}

static void open_rig(rig *r, const life *how, moerun__kv_cache *cache) {
  moerun_model_shape shape = {.struct_size = sizeof shape};
  int32_t rank_of[256];
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = how->tokens,
                                          .max_sequences = SEATS,
                                          .kv_tokens = POSITIONS,
                                          .chunks = how->chunks,
                                          .balance = how->balance};
  const moerun__session_extra extra = {.record_trace = 1, .cache = cache};
  memset(r, 0, sizeof *r);
  open_comm(r, how->turned);
  assert_all_ok(moerun_model_shape_load(&shape, MODEL));
  const int32_t E = shape.num_experts;
  assert_true(shape.num_moe_layers * E <= 256);
  for (int32_t i = 0; i < shape.num_moe_layers * E; i++) {
    rank_of[i] = how->scattered ? (i % E + i / E) % test_size()
                                : i % E * test_size() / E;
  }
  assert_all_ok(moerun_placement_create(&r->placement, shape.num_moe_layers, E,
                                        test_size(), rank_of));
  assert_all_ok(
      moerun_model_load(&r->model, r->comm, r->placement, MODEL, NULL));
  assert_all_ok(
      moerun__session_create_with(&r->session, r->model, &options, &extra));
}

static void close_rig(rig *r) {
  moerun_session_destroy(r->session);
  moerun_model_destroy(r->model);
  moerun_placement_destroy(r->placement);
  moerun_comm_destroy(r->comm);
}

static const life quiet = {0, 0, ROWS, 1, MOERUN_BALANCE_OFF, 0};

/* ---- Requests ------------------------------------------------------------ */

static int32_t prompt[PROMPT];
static moerun__request requests[RUN_REQUESTS];
static int32_t order[RUN_REQUESTS];
static run_result want[RUN_REQUESTS];
static run_result found[RUN_REQUESTS];

/* Greedy and drawn ones, and one that is scored. */
static int make_requests(void **state) {
  (void)state;
  for (int32_t i = 0; i < PROMPT; i++) {
    prompt[i] = (7 * i * i + 3 * i) % 90;
  }
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    order[i] = i;
    requests[i] = (moerun__request){.index = i,
                                    .num_prompt = 3 + 4 * i,
                                    .prompt = prompt,
                                    .max_new_tokens = 9 + i % 5,
                                    .sampling.temperature = i % 2 ? 0.9 : 0,
                                    .sampling.top_p = 0.95,
                                    .sampling.seed = 11,
                                    .sampling.stream = (uint64_t)i};
  }
  requests[5].score_only = 1;
  requests[5].max_new_tokens = 0;
  return 0;
}

static run_state all_into(run_result *result, const rig *r) {
  const moerun__model_config *config = &r->model->config;
  memset(result, 0, RUN_REQUESTS * sizeof *result);
  return (run_state){.request = requests,
                     .order = order,
                     .count = RUN_REQUESTS,
                     .trace_width = (size_t)config->num_moe_layers *
                                    (size_t)moerun__config_terms(config),
                     .result = result};
}

static moerun__kv_cache *make_cache(const moerun__model_config *config) {
  moerun__kv_cache *cache = NULL;
  const moerun__kv_sizes sizes =
      moerun__kv_sizes_of(config, SEATS, POSITIONS, POSITIONS);
  assert_all_ok(moerun__kv_create(&cache, &moerun__host, &sizes));
  return cache;
}

static const moerun__engine_options traced = {.record_trace = 1,
                                              .prefill_chunk = 7};
static const moerun__engine_options sharing = {.prefill_chunk = 7,
                                               .shares_prefixes = 1};

/* Serves all requests in these lives, of which the last goes to the end, and
 * keeps what they have become in `found`. */
static void serve_in(const life *lives, int count,
                     const moerun__engine_options *how) {
  moerun__model_config config;
  moerun__engine *engine = NULL;
  moerun__engine_end end = MOERUN_ENGINE_DONE;
  run_state run;
  const moerun__engine_callbacks callbacks = {
      .context = &run, .next = run_next, .finished = run_finished};
  assert_all_ok(moerun__model_config_load(&config, MODEL));
  moerun__kv_cache *cache = make_cache(&config);
  moerun__model_config_clear(&config);
  for (int i = 0; i < count; i++) {
    rig r;
    open_rig(&r, &lives[i], cache);
    if (i == 0) {
      run = all_into(found, &r);
      assert_all_ok(moerun__engine_create(&engine, &r.model->config, cache,
                                          r.comm, how, &callbacks));
    }
    const moerun__engine_stretch stretch = {.session = r.session,
                                            .most_steps = lives[i].steps};
    assert_all_ok(moerun__engine_serve(&end, engine, &stretch));
    assert_all_ranks(
        end == (i + 1 < count ? MOERUN_ENGINE_PAUSED : MOERUN_ENGINE_DONE));
    /* Requests are under way: else nothing would be shown. */
    assert_all_ranks((cache->num_free < cache->sizes.num_pages) ==
                     (i + 1 < count));
    close_rig(&r);
  }
  const moerun__progress *progress = moerun__engine_progress(engine);
  assert_all_ranks(test_rank() != 0 || (progress->finished == RUN_REQUESTS &&
                                        progress->prefill_seconds >= 0 &&
                                        progress->decode_seconds >= 0));
  /* All prompts begin alike: any two of a rank have a page in common. */
  assert_all_ranks(test_rank() != 0 ||
                   (progress->reused_tokens > 0) == how->shares_prefixes);
  assert_all_ranks(cache->num_free == cache->sizes.num_pages);
  moerun__engine_destroy(engine);
  moerun__kv_destroy(cache);
}

static int all_done(void) {
  for (int32_t i = 0; test_rank() == 0 && i < RUN_REQUESTS; i++) {
    if (want[i].seen != 1 || want[i].num_traced < 3) return 0;
  }
  return 1;
}

/* Nothing is recorded where pages are shared. */
static int same_but_for_traces(void) {
  static run_result result;
  for (int32_t i = 0; test_rank() == 0 && i < RUN_REQUESTS; i++) {
    result = want[i];
    result.num_traced = 0;
    memset(result.trace, 0, sizeof result.trace);
    if (memcmp(&result, &found[i], sizeof result) != 0) return 0;
  }
  return 1;
}

static void requests_outlive_sessions(void **state) {
  (void)state;
  const life again = {.tokens = ROWS, .chunks = 1, .steps = 4};
  const life wide = {.tokens = 61, .chunks = 3, .steps = 3};
  const life moved = {.scattered = 1, .tokens = 9, .chunks = 2, .steps = 2};
  const life turned = {.turned = 1,
                       .tokens = ROWS,
                       .balance = MOERUN_BALANCE_SLICED,
                       .steps = 2};
  const life both = {.turned = 1, .scattered = 1, .tokens = 40, .steps = 1};
  const life rest = {.tokens = 16, .chunks = 4};
  const life alike[] = {again, again, again, rest};
  const life other[] = {wide, moved, turned, both, again, moved, rest};
  serve_in(&quiet, 1, &traced);
  memcpy(want, found, sizeof want);
  assert_all_ranks(all_done());
  serve_in(alike, sizeof alike / sizeof *alike, &traced);
  assert_all_ranks(memcmp(want, found, sizeof want) == 0);
  serve_in(other, sizeof other / sizeof *other, &traced);
  assert_all_ranks(memcmp(want, found, sizeof want) == 0);
  serve_in(other, sizeof other / sizeof *other, &sharing);
  assert_all_ranks(same_but_for_traces());
}

/* ---- Fewer ranks --------------------------------------------------------- */

typedef struct leaving {
  run_state run;
  run_result part[RUN_REQUESTS]; /* rank 0: generated before */
  int32_t turns;
} leaving;

static moerun_status leave_next(void *context, moerun__request *request,
                                int *has) {
  return run_next(&((leaving *)context)->run, request, has);
}

static moerun_status leave_finished(void *context,
                                    const moerun__completion *done) {
  return run_finished(&((leaving *)context)->run, done);
}

static moerun_status keep_part(void *context, const moerun__completion *part) {
  leaving *l = context;
  l->run.kept[part->index] = part->num_tokens;
  memcpy(l->part[part->index].token, part->token,
         (size_t)part->num_tokens * sizeof(int32_t));
  return MOERUN_OK;
}

static moerun_status parts_are_here(void *context) {
  (void)context;
  return MOERUN_OK;
}

static int leave_soon(void *context) {
  return ++((leaving *)context)->turns > 12;
}

/* [collective on `few`] What has not finished, on these ranks. */
static moerun_status serve_rest(leaving *l, MPI_Comm few) {
  moerun_status status = MOERUN_OK;
  moerun_model_shape shape = {.struct_size = sizeof shape};
  rig r = {NULL, NULL, NULL, NULL};
  moerun__progress progress;
  int stopped = 0;
  int size = 0;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = 30,
                                          .max_sequences = SEATS,
                                          .kv_tokens = POSITIONS};
  const moerun__engine_options how = {.prefill_chunk = 9};
  const moerun__engine_callbacks callbacks = {
      .context = &l->run, .next = run_next, .finished = run_finished};
  (void)MPI_Comm_size(few, &size);
  MOERUN_TRY(moerun_comm_create_mpi(&r.comm, few, NULL));
  MOERUN_TRY(moerun_model_shape_load(&shape, MODEL));
  MOERUN_TRY(moerun_placement_create_block(&r.placement, shape.num_moe_layers,
                                           shape.num_experts, size));
  MOERUN_TRY(moerun_model_load(&r.model, r.comm, r.placement, MODEL, NULL));
  MOERUN_TRY(moerun_session_create(&r.session, r.model, &options));
  MOERUN_TRY(run_engine(r.session, &how, &callbacks, &progress, &stopped));
done:
  close_rig(&r);
  return status;
}

/* A rank leaves, and its cache with it: its requests go on elsewhere by the
 * tokens that they have, from which the cache is computed again. */
static void requests_go_on_without_a_rank(void **state) {
  (void)state;
  static leaving l;
  rig r;
  moerun__engine *engine = NULL;
  moerun__engine_end end = MOERUN_ENGINE_DONE;
  MPI_Comm few = MPI_COMM_NULL;
  const moerun__engine_callbacks callbacks = {.context = &l,
                                              .next = leave_next,
                                              .finished = leave_finished,
                                              .stop_requested = leave_soon,
                                              .unfinished = keep_part,
                                              .unfinished_end = parts_are_here};
  if (test_size() == 1) skip();
  memset(&l, 0, sizeof l);
  open_rig(&r, &quiet, NULL);
  l.run = all_into(found, &r);
  assert_all_ok(moerun__engine_create(&engine, &r.model->config,
                                      r.session->cache, r.comm, &traced,
                                      &callbacks));
  const moerun__engine_stretch stretch = {.session = r.session};
  assert_all_ok(moerun__engine_serve(&end, engine, &stretch));
  assert_all_ranks(end == MOERUN_ENGINE_STOPPED);
  moerun__engine_destroy(engine);
  close_rig(&r);
  int32_t rest[RUN_REQUESTS];
  int32_t kept = 0;
  l.run.order = rest;
  l.run.before = l.part;
  l.run.handed_out = 0;
  l.run.count = 0;
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    if (!found[i].seen) rest[l.run.count++] = i;
    kept += l.run.kept[i];
  }
  assert_all_ranks(test_rank() != 0 || (l.run.count > 0 && kept > 0));
  const int stays = test_rank() + 1 < test_size();
  assert_all_ranks(MPI_Comm_split(MPI_COMM_WORLD, stays, test_rank(), &few) ==
                   MPI_SUCCESS);
  assert_all_ok(stays ? serve_rest(&l, few) : MOERUN_OK);
  (void)MPI_Comm_free(&few);
  int same = 1;
  for (int32_t i = 0; test_rank() == 0 && i < RUN_REQUESTS; i++) {
    same = same && found[i].seen == 1 &&
           found[i].num_tokens == want[i].num_tokens &&
           found[i].log_probability == want[i].log_probability &&
           memcmp(found[i].token, want[i].token,
                  (size_t)want[i].num_tokens * sizeof(int32_t)) == 0;
  }
  assert_all_ranks(same);
}

/* ---- Logits -------------------------------------------------------------- */

/* Step number s of two sequences: 5 rows of one, and from the third step on 2
 * of the other. */
static moerun_status one_step(float *logits, moerun_session *session, int s) {
  int32_t token[7];
  int32_t sequence[7];
  int32_t position[7];
  int32_t row[7];
  const int32_t count = s < 2 ? 5 : 7;
  for (int32_t t = 0; t < count; t++) {
    sequence[t] = t < 5 ? 2 : 0;
    position[t] = t < 5 ? 5 * s + t : 2 * (s - 2) + t - 5;
    token[t] = (prompt[position[t]] + test_rank() + sequence[t]) % 90;
    row[t] = t;
  }
  const moerun_batch batch = {count, token, sequence, position, count, row};
  return moerun_forward(session, &batch, logits);
}

static void logits_do_not_notice(void **state) {
  (void)state;
  enum { STEPS = 12 };
  static const life lives[] = {
      {.tokens = 7},
      {.scattered = 1, .tokens = 50, .chunks = 3},
      {.turned = 1, .tokens = 12, .balance = MOERUN_BALANCE_SLICED}};
  rig stays;
  rig goes;
  open_rig(&stays, &quiet, NULL);
  const size_t bytes =
      7 * (size_t)stays.model->config.vocab_size * sizeof(float);
  float *a = calloc(1, bytes);
  float *b = calloc(1, bytes);
  moerun__kv_cache *cache = make_cache(&stays.model->config);
  for (int s = 0; s < STEPS; s++) {
    open_rig(&goes, &lives[s % 3], cache);
    assert_all_ok(one_step(a, stays.session, s));
    assert_all_ok(one_step(b, goes.session, s));
    assert_all_ranks(memcmp(a, b, bytes) == 0);
    close_rig(&goes);
  }
  free(a);
  free(b);
  moerun__kv_destroy(cache);
  close_rig(&stays);
}

/* ---- Memory, and what cannot go on --------------------------------------- */

static void the_cache_counts_once(void **state) {
  (void)state;
  rig r;
  open_rig(&r, &quiet, NULL);
  const moerun_session_options *options = &r.session->options;
  const size_t alone = moerun_session_bytes(r.model, options);
  size_t live = moerun__alloc_live_bytes();
  moerun__kv_cache *cache = make_cache(&r.model->config);
  const size_t cache_bytes = moerun__alloc_live_bytes() - live;
  assert_all_ranks(cache_bytes ==
                   moerun__kv_create_bytes(&moerun__host, &cache->sizes));
  const moerun__session_extra extra = {.cache = cache};
  moerun_session *session = NULL;
  live = moerun__alloc_live_bytes();
  assert_all_ok(
      moerun__session_create_with(&session, r.model, options, &extra));
  const size_t taken = moerun__alloc_live_bytes() - live;
  assert_all_ranks(taken ==
                   moerun__session_bytes_with(r.model, options, &extra));
  assert_all_ranks(taken + cache_bytes == alone);
  moerun_session_destroy(session);
  assert_all_ranks(moerun__alloc_live_bytes() == live);
  moerun__kv_destroy(cache);
  close_rig(&r);
}

static void others_are_refused(void **state) {
  (void)state;
  rig r;
  moerun__engine *engine = NULL;
  moerun__engine_end end = MOERUN_ENGINE_DONE;
  run_state run;
  const moerun__engine_callbacks callbacks = {
      .context = &run, .next = run_next, .finished = run_finished};
  open_rig(&r, &quiet, NULL);
  run = all_into(found, &r);
  moerun__kv_cache *cache = make_cache(&r.model->config);
  assert_all_ok(moerun__engine_create(&engine, &r.model->config, cache, r.comm,
                                      &traced, &callbacks));
  const moerun__engine_stretch stretch = {.session = r.session};
  assert_all_ranks(moerun__engine_serve(&end, engine, &stretch) ==
                   MOERUN_ERR_INVALID);
  moerun__engine_destroy(engine);
  moerun__kv_destroy(cache);
  /* One layer more than the model has. */
  moerun__kv_sizes sizes = r.session->kv;
  sizes.num_layers++;
  assert_all_ok(moerun__kv_create(&cache, &moerun__host, &sizes));
  const moerun__session_extra extra = {.cache = cache};
  moerun_session *session = NULL;
  assert_all_ranks(moerun__session_create_with(&session, r.model,
                                               &r.session->options,
                                               &extra) == MOERUN_ERR_SHAPE);
  assert_null(session);
  moerun__kv_destroy(cache);
  close_rig(&r);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(requests_outlive_sessions),
      cmocka_unit_test(requests_go_on_without_a_rank),
      cmocka_unit_test(logits_do_not_notice),
      cmocka_unit_test(the_cache_counts_once),
      cmocka_unit_test(others_are_refused),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  const int failed = cmocka_run_group_tests(tests, make_requests, NULL);
  (void)MPI_Finalize();
  return failed;
}
