/* What a request produces is the same bits whatever the number of
 * ranks, the placement (replicas included), the transport, the batch it shares,
 * the order, the chunking and the kernel set.
 *
 * The expected results come from one rank, one request at a time, the portable
 * kernels. Each case then draws a world from the seed: the first R of the eight
 * ranks, over MPI or over pairs of ranks, run a random selection of the
 * requests in random order; tokens, scores (log-probabilities, all 64 bits) and
 * traced expert ids must be equal. Half of the requests go on after a part of
 * their tokens, as after a stop. MOERUN_TEST_CASES sets the number of cases,
 * MOERUN_TEST_SEED the seed. */
#include "comm/comm.h"
#include "runtime/base/rng.h"
#include "support/engine_run.h"
#include "support/mpi_test.h"
#include "support/pair_comm.h"

#include <moerun/moerun_mpi.h>
#include <stdio.h>

enum { NUM_MODELS = 10 };

static const char *const models[NUM_MODELS] = {
    "hf/qwen3_moe_bf16",  "hf/mixtral_bf16",     "hf/olmoe_gqa_f16",
    "hf/qwen3_moe_dense", "hf/qwen2_moe",        "hf/dots1_fused",
    "hf/glm4_moe",        "hf/granitemoeshared", "home/renormalised",
    "home/plain"};

static uint64_t seed = 20240229;
static uint64_t counter;

static int32_t draw(int32_t below) {
  return (int32_t)(moerun__uniform(seed, 2, counter++) * below);
}

static int32_t pick(const int32_t *from, int32_t n) {
  return from[draw(n)];
}

/* ---- Requests ------------------------------------------------------------ */

static int32_t prompts[RUN_REQUESTS][40];
static moerun__request requests[RUN_REQUESTS];

/* Prompts of 1 to 40 tokens; greedy, sampled and scored in turn. */
static void make_requests(int32_t V) {
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    const int32_t length = i == 0 ? 1 : 1 + draw(40);
    for (int32_t t = 0; t < length; t++) {
      prompts[i][t] = draw(V);
    }
    const int score = i % 4 == 3;
    requests[i] = (moerun__request){
        .index = i,
        .num_prompt = length,
        .prompt = prompts[i],
        .max_new_tokens = score ? 0 : 1 + draw(12),
        .score_only = score,
        .sampling.temperature = i % 2 ? 0.9 : 0.0,
        .sampling.top_p = i % 4 == 1 ? 0.8 : 1.0,
        .sampling.top_k = i % 8 == 5 ? 12 : 0,
        .sampling.min_p = i % 8 == 1 ? 0.05 : 0.0,
        .sampling.repetition_penalty = i % 3 == 1 ? 1.3 : 1.0,
        .sampling.presence_penalty = i % 5 == 2 ? 0.7 : 0.0,
        .sampling.frequency_penalty = i % 5 == 4 ? 0.4 : 0.0,
        .sampling.seed = (uint64_t)i * 17 + 3,
        .logprobs = {.generated = !score && i % 3 != 0,
                     .prompt = !score && i % 5 < 2,
                     .top = i % 7},
    };
  }
}

/* What balancing did in all worlds on this rank. */
static int64_t rows_moved;
static int64_t weights_sent;
static int64_t lists_in_buffers; /* of the transport of pairs */

/* ---- Worlds -------------------------------------------------------------- */

typedef struct world {
  int32_t R;
  int32_t model;
  int32_t block_placement;
  const moerun__kernels *kernels;
  moerun_session_options options;
  int32_t prefill_chunk;
  int32_t record_trace;
  moerun__plan_options plan; /* moves rows at the least excess */
  int32_t speed[8];          /* what each rank believes of itself */
  int32_t by_pairs;          /* rows go over the transport of pairs */
  int32_t count;
  int32_t order[RUN_REQUESTS];
  int32_t goes_on[RUN_REQUESTS]; /* thousandths of its tokens that a request
                                    comes with                            */
} world;

static void draw_world(world *w) {
  static const int32_t ranks[] = {1, 2, 3, 4, 8};
  static const int32_t tokens[] = {3, 7, 16, 33, 128};
  int32_t sets = 1;
  while (moerun__kernels_at(sets) != NULL) {
    sets++;
  }
  memset(w, 0, sizeof *w);
  w->R = pick(ranks, 5);
  w->block_placement = draw(4) == 0;
  w->kernels = moerun__kernels_at(1 + draw(sets - 1));
  w->options.max_tokens = pick(tokens, 5);
  w->options.max_sequences =
      1 + draw(w->options.max_tokens < 6 ? w->options.max_tokens : 6);
  w->options.kv_tokens = 96 + draw(200);
  w->options.chunks = 1 + draw(4);
  w->prefill_chunk = draw(3) == 0 ? 1 + draw(9) : 0;
  w->record_trace = draw(2);
  w->options.balance = (moerun_balance)(draw(3) == 0);
  w->options.guest_bytes = draw(3) == 0 ? -1 : 1 + draw(200000);
  w->plan = (moerun__plan_options){.threshold = 1000 + draw(3) * 100,
                                   .slack = 1000,
                                   .min_rows = 1 + draw(3),
                                   .min_rows_held = 1};
  for (int r = 0; r < 8; r++) {
    w->speed[r] = draw(2) == 0 ? 0 : draw(40);
  }
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    w->order[i] = i;
  }
  for (int32_t i = RUN_REQUESTS - 1; i > 0; i--) {
    const int32_t j = draw(i + 1);
    const int32_t moved = w->order[i];
    w->order[i] = w->order[j];
    w->order[j] = moved;
  }
  w->count = 1 + draw(RUN_REQUESTS);
  for (int32_t i = 0; i < RUN_REQUESTS; i++) {
    w->goes_on[i] = draw(2) * draw(1000);
  }
  w->by_pairs = draw(3) == 0;
}

static moerun_status create_comm(moerun_comm **out, const world *w, int is_self,
                                 MPI_Comm members) {
  if (is_self) return moerun_comm_create_self(out);
  if (w->by_pairs) return pair_comm_create(out, members);
  return moerun_comm_create_mpi(out, members, NULL);
}

/* Drawn on every rank alike, the ranks outside the world included. */
static moerun_placement *draw_placement(const world *w, int32_t layers,
                                        int32_t E) {
  moerun_placement *placement = NULL;
  int32_t offset[64 * 8 + 1];
  int32_t rank_of[64 * 8 * 8];
  int32_t n = 0;
  for (int32_t i = 0; i < layers * E; i++) {
    const int32_t first = draw(w->R);
    const int32_t replicas = draw(5) == 0 ? 1 + draw(w->R) : 1;
    offset[i] = n;
    for (int32_t r = 0; r < w->R; r++) {
      if ((r - first + w->R) % w->R < replicas) rank_of[n++] = r;
    }
  }
  offset[layers * E] = n;
  if (w->block_placement) {
    assert_int_equal(moerun_placement_create_block(&placement, layers, E, w->R),
                     MOERUN_OK);
  } else {
    assert_int_equal(moerun__placement_create(&placement, layers, E, w->R,
                                              offset, rank_of, "random"),
                     MOERUN_OK);
  }
  return placement;
}

static moerun_status run_world(const world *w, moerun_comm *comm,
                               const moerun_placement *placement,
                               const run_result *before, run_result *result) {
  moerun_status status = MOERUN_OK;
  moerun_model *model = NULL;
  moerun_session *session = NULL;
  char path[512];
  int stopped = 0;
  run_state state = {.request = requests,
                     .order = w->order,
                     .count = w->count,
                     .before = before,
                     .result = result};
  const moerun__session_extra extra = {
      .kernels = w->kernels, .record_trace = w->record_trace, .plan = &w->plan};
  for (int32_t i = 0; before != NULL && i < RUN_REQUESTS; i++) {
    state.kept[i] = before[i].num_tokens * w->goes_on[i] / 1000;
  }
  (void)snprintf(path, sizeof path, "%s/%s", MOERUN_TEST_DATA,
                 models[w->model]);
  MOERUN_TRY(moerun_model_load(&model, comm, placement, path, NULL));
  MOERUN_TRY(moerun__session_create_with(&session, model, &w->options, &extra));
  session->moe.balance.speed.applied = w->speed[comm->rank];
  MOERUN_TRY(run_requests(session, &state, w->prefill_chunk, w->record_trace,
                          &stopped));
  rows_moved += session->stats.rows_moved;
  weights_sent += session->stats.weights_out;
done:
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  return status;
}

/* ---- The property -------------------------------------------------------- */

typedef struct subject {
  moerun_model_shape shape;
  size_t trace_width;
  run_result expected[4][RUN_REQUESTS]; /* by wire + 2 compute */
} subject;

static run_result found[RUN_REQUESTS];

static int same_result(const run_result *a, const run_result *b,
                       size_t trace_width) {
  return a->seen == b->seen && a->finish == b->finish &&
         a->num_tokens == b->num_tokens &&
         memcmp(a->token, b->token, (size_t)a->num_tokens * sizeof *a->token) ==
             0 &&
         memcmp(&a->log_probability, &b->log_probability,
                sizeof a->log_probability) == 0 &&
         a->num_logprobs == b->num_logprobs &&
         memcmp(a->logprob, b->logprob,
                (size_t)a->num_logprobs * sizeof *a->logprob) == 0 &&
         (a->num_traced == 0 || b->num_traced == 0 ||
          (a->num_traced == b->num_traced &&
           memcmp(a->trace, b->trace,
                  (size_t)a->num_traced * trace_width * sizeof *a->trace) ==
               0));
}

static void expect(subject *s, int32_t model) {
  char path[512];
  (void)snprintf(path, sizeof path, "%s/%s", MOERUN_TEST_DATA, models[model]);
  s->shape.struct_size = sizeof s->shape;
  assert_int_equal(moerun_model_shape_load(&s->shape, path), MOERUN_OK);
  const int32_t E = s->shape.num_experts;
  const int32_t K = s->shape.experts_per_token;
  s->trace_width = (size_t)s->shape.num_moe_layers * (size_t)(K < E ? K : E);
  make_requests(s->shape.vocab_size);
  memset(s->expected, 0, sizeof s->expected);
  if (test_rank() != 0) return;
  moerun_comm *self = NULL;
  moerun_placement *placement = NULL;
  assert_int_equal(moerun_comm_create_self(&self), MOERUN_OK);
  assert_int_equal(moerun_placement_create_block(&placement,
                                                 s->shape.num_moe_layers,
                                                 s->shape.num_experts, 1),
                   MOERUN_OK);
  for (int variant = 0; variant < 4; variant++) {
    world w = {.R = 1, .model = model, .record_trace = 1, .count = 1};
    w.options =
        (moerun_session_options){.max_tokens = 64,
                                 .max_sequences = 1,
                                 .kv_tokens = 96,
                                 .wire = (moerun_wire)(variant % 2),
                                 .compute = (moerun_compute)(variant / 2)};
    assert_int_equal(moerun__kernels_find(&w.kernels, "portable"), MOERUN_OK);
    for (int32_t i = 0; i < RUN_REQUESTS; i++) {
      w.order[0] = i;
      assert_int_equal(
          run_world(&w, self, placement, NULL, s->expected[variant]),
          MOERUN_OK);
    }
  }
  moerun_placement_destroy(placement);
  moerun_comm_destroy(self);
}

/* Rows and results lie in memory of the transport alone. */
static int pairs_gave_all_memory(const moerun_comm *comm) {
  const pair_comm *c = (const pair_comm *)comm;
  lists_in_buffers += c->lists_in_buffers;
  if (c->lists_elsewhere == 0) return 1;
  print_error("%lld lists of rows or results are elsewhere\n",
              (long long)c->lists_elsewhere);
  return 0;
}

static int check_case(const subject *s, int32_t model, int32_t number) {
  world w;
  int ok = 1;
  draw_world(&w);
  w.model = model;
  const int variant = draw(2) == 0 ? draw(4) : 0;
  w.options.wire = (moerun_wire)(variant % 2);
  w.options.compute = (moerun_compute)(variant / 2);
  const int self = w.R == 1 && draw(2);
  moerun_placement *placement =
      draw_placement(&w, s->shape.num_moe_layers, s->shape.num_experts);
  MPI_Comm members = MPI_COMM_NULL;
  const int member = test_rank() < w.R;
  MPI_Comm_split(MPI_COMM_WORLD, member ? 0 : MPI_UNDEFINED, 0, &members);
  if (member) {
    moerun_comm *comm = NULL;
    memset(found, 0, sizeof found);
    moerun_status status = create_comm(&comm, &w, self, members);
    if (status == MOERUN_OK) {
      status = run_world(&w, comm, placement, s->expected[variant], found);
    }
    ok = status == MOERUN_OK;
    if (!ok) print_error("%s\n", moerun_last_error());
    for (int32_t i = 0; ok && test_rank() == 0 && i < w.count; i++) {
      const int32_t r = w.order[i];
      ok = same_result(&s->expected[variant][r], &found[r], s->trace_width);
      if (!ok) print_error("request %d differs\n", r);
    }
    if (ok && w.by_pairs && !self) ok = pairs_gave_all_memory(comm);
    moerun_comm_destroy(comm);
    MPI_Comm_free(&members);
  }
  moerun_placement_destroy(placement);
  if (!ok) {
    print_error("case %d of seed %llu: model %s, R %d, kernels %s, wire and "
                "compute %d, "
                "chunks %d, max_tokens %d, max_sequences %d, prefill_chunk %d, "
                "%d requests, by pairs: %d\n",
                number, (unsigned long long)seed, models[model], w.R,
                w.kernels->name, variant, w.options.chunks,
                w.options.max_tokens, w.options.max_sequences, w.prefill_chunk,
                w.count, w.by_pairs);
  }
  return ok;
}

static void same_bits_in_any_world(void **state) {
  (void)state;
  static subject s;
  const char *cases_text = getenv("MOERUN_TEST_CASES");
  const char *seed_text = getenv("MOERUN_TEST_SEED");
  const int32_t cases =
      cases_text ? (int32_t)strtol(cases_text, NULL, 10) : 200;
  if (seed_text) seed = strtoull(seed_text, NULL, 10);
  if (test_rank() == 0) {
    print_message("seed %llu, %d cases\n", (unsigned long long)seed, cases);
  }
  for (int32_t model = 0; model < NUM_MODELS; model++) {
    expect(&s, model);
    for (int32_t i = model; i < cases; i += NUM_MODELS) {
      counter = (uint64_t)i << 20; /* a case is the same whatever came before */
      assert_all_ranks(check_case(&s, model, i));
    }
  }
  int64_t sums[3] = {rows_moved, weights_sent, lists_in_buffers};
  MPI_Allreduce(MPI_IN_PLACE, sums, 3, MPI_INT64_T, MPI_SUM, MPI_COMM_WORLD);
  if (test_rank() == 0) {
    print_message("%lld rows and %lld experts were moved\n", (long long)sums[0],
                  (long long)sums[1]);
  }
  assert_true(cases < 50 || (sums[0] > 1000 && sums[1] > 50 && sums[2] > 1000));
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(same_bits_in_any_world),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)MPI_Finalize();
  return failed;
}
