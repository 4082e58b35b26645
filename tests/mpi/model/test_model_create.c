/* Models from memory: the bits of the checkpoint that has the same weights, on
 * any number of ranks, and one verdict on whatever is wrong with a source. */
#include "runtime/base/limits.h"
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "runtime/decoder/session.h"
#include "runtime/model/arch_row.h"
#include "support/dtype_names.h"
#include "support/made_types.h"
#include "support/mpi_test.h"

#include <moerun/moerun_mpi.h>
#include <stdlib.h>
#include <string.h>

enum { T = 40 };

static moerun_comm *comm;
static moerun_comm *self;

/* The caller: all weights of a checkpoint, as rows in its element type. */
typedef struct caller {
  moerun_model *whole; /* on one rank: every expert */
  moerun_placement *alone;
  moerun__dtype dtype;
  char *gate; /* [F][H], of the expert asked for last, as those that follow */
  char *up;
  char *down;
  char *gates; /* [E][H] */
  size_t down_bytes;
  int32_t calls;
  int32_t fail_at; /* this call fails; -1: none */
  moerun_status failure;
  int32_t omit_at;  /* this call leaves out an array */
  int32_t spoil_at; /* this one has an array with NaN */
  int32_t alter_at; /* this one's last byte is another, as the gates' if it is
                       -2 */
} caller;

/* rows[count][D] = the weight's outputs from first on. */
static void unpack(char *rows, const moerun__weight *weight, int32_t first,
                   int32_t count) {
  const size_t D = (size_t)weight->num_inputs;
  float *row = calloc(D, sizeof *row);
  for (int32_t i = 0; i < count; i++) {
    moerun__weight_row(row, weight, first + i);
    moerun__narrow(rows + (size_t)i * moerun__dtype_bytes(weight->dtype, D),
                   weight->dtype, 0, row, D);
  }
  free(row);
}

static moerun_status give_expert(void *context, int32_t layer, int32_t expert,
                                 moerun_expert_arrays *arrays) {
  caller *c = context;
  const moerun__expert *whole = &c->whole->layers[layer].experts[expert];
  const moerun__weight *gate_up = &whole->gate_up;
  const moerun__weight *down = &whole->down;
  const int32_t F = down->num_inputs;
  const int32_t call = c->calls++;
  if (call == c->fail_at) return c->failure;
  unpack(c->gate, gate_up, 0, F);
  unpack(c->up, gate_up, F, F);
  unpack(c->down, down, 0, down->num_outputs);
  if (call == c->spoil_at) memset(c->up + 4, 0xff, 4);
  if (call == c->alter_at) c->down[c->down_bytes - 4] ^= 1;
  *arrays = (moerun_expert_arrays){
      c->gate, c->up, call == c->omit_at ? NULL : (const void *)c->down};
  return MOERUN_OK;
}

static moerun_status give_gate(void *context, int32_t layer,
                               const void **rows) {
  caller *c = context;
  const moerun__weight *gate = &c->whole->layers[layer].gate;
  unpack(c->gates, gate, 0, gate->num_outputs);
  if (c->alter_at == -2) c->gates[0] ^= 1;
  *rows = c->gates;
  return MOERUN_OK;
}

#define DATA MOERUN_TEST_DATA "/hf/"

static void open_caller(caller *c, const char *path) {
  moerun_model_shape shape = {.struct_size = sizeof shape};
  const moerun_model_options layers_only = {.struct_size = sizeof layers_only,
                                            .moe_only = 1};
  memset(c, 0, sizeof *c);
  c->fail_at = c->omit_at = c->spoil_at = c->alter_at = -1;
  assert_all_ok(moerun_model_shape_load(&shape, path));
  assert_all_ok(moerun_placement_create_block(&c->alone, shape.num_moe_layers,
                                              shape.num_experts, 1));
  assert_all_ok(
      moerun_model_load(&c->whole, self, c->alone, path, &layers_only));
  c->dtype = c->whole->layers[0].experts[0].down.dtype;
  const size_t bytes =
      4 * (size_t)shape.hidden_width * (size_t)shape.expert_width;
  c->gate = calloc(1, bytes);
  c->up = calloc(1, bytes);
  c->down = calloc(1, bytes);
  c->down_bytes = moerun__dtype_bytes(c->dtype, (size_t)shape.expert_width) *
                  (size_t)shape.hidden_width;
  c->gates = calloc(4, (size_t)shape.hidden_width * (size_t)shape.num_experts);
}

static void close_caller(caller *c) {
  moerun_model_destroy(c->whole);
  moerun_placement_destroy(c->alone);
  free(c->gate);
  free(c->up);
  free(c->down);
  free(c->gates);
}

static moerun_model_source source_of(caller *c) {
  const moerun__model_config *config = &c->whole->config;
  return (moerun_model_source){
      .struct_size = sizeof(moerun_model_source),
      .num_moe_layers = config->num_moe_layers,
      .num_experts = config->num_experts,
      .experts_per_token = config->experts_per_token,
      .hidden_width = config->hidden_width,
      .expert_width = config->expert_width,
      .dtype = moerun__dtype_name(c->dtype),
      .load_expert = give_expert,
      .gate_dtype = moerun__dtype_name(c->whole->layers[0].gate.dtype),
      .load_gate = give_gate,
      .renormalise = config->gate_rule.renormalise,
      .context = c};
}

/* Experts dealt out in turns, the last rank's also on rank 0. */
static moerun_placement *dealt(const caller *c) {
  moerun_placement *placement = NULL;
  const moerun__model_config *config = &c->whole->config;
  const int32_t R = test_size();
  const int32_t count = config->num_moe_layers * config->num_experts;
  int32_t *offset = calloc((size_t)count + 1, sizeof *offset);
  int32_t *rank_of = calloc(2 * (size_t)count, sizeof *rank_of);
  for (int32_t i = 0; i < count; i++) {
    const int32_t rank = i % config->num_experts % R;
    offset[i + 1] = offset[i];
    if (rank == R - 1 && R > 1) rank_of[offset[i + 1]++] = 0;
    rank_of[offset[i + 1]++] = rank;
  }
  assert_all_ok(moerun__placement_create(&placement, config->num_moe_layers,
                                         config->num_experts, R, offset,
                                         rank_of, "dealt"));
  free(offset);
  free(rank_of);
  return placement;
}

static void fill(float *x, size_t count) {
  for (size_t i = 0; i < count; i++) {
    x[i] = (float)(4 * moerun__uniform(31, (uint64_t)test_rank(), i) - 2);
  }
}

/* ---- Bits and bytes ------------------------------------------------------ */

static void forward_alike(const caller *c, const moerun_model *created,
                          moerun_balance balance) {
  const moerun_session_options options = {SIZED(options), .max_tokens = T,
                                          .balance = balance};
  const size_t count = T * (size_t)created->config.hidden_width;
  moerun_session *expected = NULL;
  moerun_session *session = NULL;
  float *x = calloc(count, sizeof *x);
  float *y = calloc(count, sizeof *y);
  float *want = calloc(count, sizeof *want);
  fill(x, count);
  assert_all_ok(moerun_session_create(&expected, c->whole, &options));
  assert_all_ok(moerun_session_create(&session, created, &options));
  for (int32_t l = 0; l < created->config.num_layers; l++) {
    const int32_t rows = T - 3 * (test_rank() % 4);
    assert_all_ok(moerun_moe_forward(expected, l, rows, x, want));
    assert_all_ok(moerun_moe_forward(session, l, rows, x, y));
    assert_all_ranks(memcmp(want, y, count * sizeof *y) == 0);
  }
  free(x);
  free(y);
  free(want);
  moerun_session_destroy(session);
  moerun_session_destroy(expected);
}

static void has_the_bits_of_a_checkpoint(void **state) {
  (void)state;
  static const char *const names[] = {DATA "qwen3_moe", DATA "mixtral_bf16",
                                      DATA "olmoe_gqa_f16", DATA "olmoe",
                                      MOERUN_DEMO_MODEL};
  int renormalises[2] = {0, 0};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    caller c;
    moerun_model *created = NULL;
    open_caller(&c, names[i]);
    moerun_placement *placement = dealt(&c);
    const moerun_model_source source = source_of(&c);
    renormalises[source.renormalise]++;
    const size_t before = moerun__alloc_live_bytes();
    assert_all_ok(moerun_model_create(&created, comm, placement, &source));
    assert_all_ranks(moerun__alloc_live_bytes() - before ==
                     created->weight_bytes);
    int32_t hosted = 0;
    for (int32_t l = 0; l < source.num_moe_layers; l++) {
      hosted += moerun__placement_experts(placement, l, test_rank(), NULL);
    }
    assert_all_ranks(c.calls == hosted);
    const moerun__expert_shape shape =
        moerun__expert_whole(&created->config, c.dtype);
    size_t experts = 0; /* bytes of them */
    for (int32_t l = 0; l < source.num_moe_layers; l++) {
      const int32_t count =
          moerun__placement_experts(placement, l, test_rank(), NULL);
      experts += moerun__experts_bytes(&shape, (size_t)count);
    }
    assert_all_ranks(created->expert_bytes == experts);
    forward_alike(&c, created, MOERUN_BALANCE_OFF);
    forward_alike(&c, created, MOERUN_BALANCE_AUTO);
    if (source.expert_width % MOERUN_PANEL == 0) {
      forward_alike(&c, created, MOERUN_BALANCE_SLICED);
    }
    moerun_model_destroy(created);
    assert_all_ranks(moerun__alloc_live_bytes() == before);
    moerun_placement_destroy(placement);
    close_caller(&c);
  }
  assert_true(renormalises[0] > 0 && renormalises[1] > 0);
}

/* One number for the same weights, however many ranks hold them. */
static void the_digest_tells_weights_apart(void **state) {
  (void)state;
  caller c;
  moerun_model *here = NULL;
  moerun_model *there = NULL;
  open_caller(&c, DATA "qwen3_moe");
  moerun_placement *placement = dealt(&c);
  moerun_model_source source = source_of(&c);
  assert_all_ok(moerun_model_create(&here, comm, placement, &source));
  assert_all_ok(moerun_model_create(&there, self, c.alone, &source));
  assert_all_ranks(here->digest == there->digest);
  moerun_model_destroy(here);
  source.load_gate = NULL;
  assert_all_ok(moerun_model_create(&here, comm, placement, &source));
  assert_all_ranks(here->digest != there->digest);
  moerun_model_destroy(here);
  moerun_model_destroy(there);
  moerun_placement_destroy(placement);
  close_caller(&c);
}

static void without_gates_rows_are_routed_by_the_caller(void **state) {
  (void)state;
  caller c;
  moerun_model *created = NULL;
  moerun_session *session = NULL;
  moerun_session *expected = NULL;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = 8};
  open_caller(&c, DATA "qwen3_moe");
  moerun_placement *placement = dealt(&c);
  moerun_model_source source = source_of(&c);
  source.load_gate = NULL;
  const int32_t K = source.experts_per_token;
  const size_t count = 8 * (size_t)source.hidden_width;
  float *x = calloc(count, sizeof *x);
  float *y = calloc(count, sizeof *y);
  float *want = calloc(count, sizeof *want);
  int32_t *ids = calloc(8 * (size_t)K, sizeof *ids);
  float *weights = calloc(8 * (size_t)K, sizeof *weights);
  fill(x, count);
  for (int32_t i = 0; i < 8 * K; i++) {
    ids[i] = (i / K + i % K) % source.num_experts;
    weights[i] = 0.25F;
  }
  assert_all_ok(moerun_model_create(&created, comm, placement, &source));
  assert_all_ok(moerun_session_create(&session, created, &options));
  assert_all_ok(moerun_session_create(&expected, c.whole, &options));
  assert_all_ranks(moerun_moe_forward(session, 0, 8, x, y) ==
                   MOERUN_ERR_INVALID);
  assert_all_ranks(strstr(moerun_last_error(), "has no gate") != NULL);
  assert_all_ok(moerun_moe_forward_routed(session, 1, 8, x, ids, weights, y));
  assert_all_ok(
      moerun_moe_forward_routed(expected, 1, 8, x, ids, weights, want));
  assert_all_ranks(memcmp(want, y, count * sizeof *y) == 0);
  free(x);
  free(y);
  free(want);
  free(ids);
  free(weights);
  moerun_session_destroy(session);
  moerun_session_destroy(expected);
  moerun_model_destroy(created);
  moerun_placement_destroy(placement);
  close_caller(&c);
}

/* ---- What is wrong with a source ----------------------------------------- */

/* The rank at fault fails with `code` and a line with `text`, the others with
 * MOERUN_ERR_PEER; nothing is left behind. */
static void expect_failure(const moerun_model_source *source,
                           const moerun_placement *placement, int at_fault,
                           moerun_status code, const char *text) {
  char heard[128];
  (void)snprintf(heard, sizeof heard, "reported an error: %s",
                 moerun_status_string(code));
  moerun_model *created = NULL;
  const size_t before = moerun__alloc_live_bytes();
  const moerun_status status =
      moerun_model_create(&created, comm, placement, source);
  assert_all_ranks(status == (at_fault ? code : MOERUN_ERR_PEER));
  assert_all_ranks(strstr(moerun_last_error(), at_fault ? text : heard) !=
                   NULL);
  assert_all_ranks(created == NULL);
  assert_all_ranks(moerun__alloc_live_bytes() == before);
}

static void a_caller_that_fails_ends_all(void **state) {
  (void)state;
  caller c;
  open_caller(&c, DATA "qwen3_moe");
  moerun_placement *placement = dealt(&c);
  moerun_model_source source = source_of(&c);
  const int last = test_rank() == test_size() - 1;
  int32_t *const at[] = {&c.fail_at, &c.omit_at, &c.spoil_at};
  static const char *const texts[] = {
      ": the caller returned: ", ", down: the array is NULL",
      ", up: row 0, column 1: expected a finite number"};
  for (size_t i = 0; i < 3; i++) {
    c.calls = 0;
    c.failure = MOERUN_ERR_IO;
    if (last) *at[i] = 1;
    expect_failure(&source, placement, last,
                   i == 0 ? MOERUN_ERR_IO : MOERUN_ERR_INVALID, texts[i]);
    *at[i] = -1;
  }
  c.calls = 0;
  c.failure = MOERUN_ERR_FORMAT; /* of a file of the caller's own */
  if (last) c.fail_at = 1;
  expect_failure(&source, placement, last, MOERUN_ERR_FORMAT,
                 ": the caller returned: file contents are not valid");
  c.calls = 0;
  c.failure = (moerun_status)1; /* as many a C function says it */
  if (last) c.fail_at = 1;
  expect_failure(&source, placement, last, MOERUN_ERR_INVALID,
                 ": the caller returned 1: expected a moerun_status");
  c.calls = 0;
  c.failure = MOERUN_ERR_PEER; /* the others', and this one knows the cause */
  expect_failure(&source, placement, last, MOERUN_ERR_INVALID,
                 ": the caller returned: ");
  c.fail_at = -1;
  source = source_of(&c);
  if (last) source.struct_size = 3;
  expect_failure(&source, placement, last, MOERUN_ERR_INVALID, "struct_size");
  moerun_placement_destroy(placement);
  close_caller(&c);
}

/* Rank 0 holds replicas of all experts of the last rank. That one gives other
 * numbers of the last one in layer 1, late in its bytes: all ranks say so. */
static void replicas_that_differ_are_named(void **state) {
  (void)state;
  caller c;
  char line[128];
  open_caller(&c, DATA "qwen3_moe");
  moerun_placement *placement = dealt(&c);
  const moerun_model_source source = source_of(&c);
  const int last = test_rank() == test_size() - 1;
  const int32_t R = test_size();
  const int32_t E = source.num_experts;
  if (R > 1 && R <= E) {
    const int32_t expert = (E / R) * R - 1;
    if (last) c.alter_at = 2 * (E / R) - 1;
    (void)snprintf(line, sizeof line,
                   "expert %d of layer 1: expected the weights that rank 0 "
                   "has, found others",
                   expert);
    expect_failure(&source, placement, 1, MOERUN_ERR_INVALID, line);
    c.calls = 0;
    c.alter_at = last ? -2 : -1;
    expect_failure(&source, placement, last, MOERUN_ERR_INVALID,
                   "load_gate: layer 0: expected the weights that rank 0 has, "
                   "found others");
  }
  moerun_placement_destroy(placement);
  close_caller(&c);
}

/* Each size may be as large as its limit and no larger. */
static void sizes_have_limits(void **state) {
  (void)state;
  caller c;
  open_caller(&c, DATA "qwen3_moe");
  moerun_placement *placement = dealt(&c);
  moerun_model_source source = source_of(&c);
  const struct {
    int32_t *value;
    int32_t most;
    const char *words;
  } sizes[] = {
      {&source.num_moe_layers, MOERUN_PLACEMENT_MAX_LAYERS, "num_moe_layers"},
      {&source.num_experts, INT16_MAX, "num_experts"},
      {&source.experts_per_token, MOERUN_MAX_TERMS, "experts_per_token"},
      {&source.hidden_width, MOERUN_MAX_WIDTH, "hidden_width"},
      {&source.expert_width, MOERUN_MAX_WIDTH, "expert_width"},
  };
  for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    char words[128];
    const int32_t good = *sizes[i].value;
    *sizes[i].value = sizes[i].most + 1;
    (void)snprintf(words, sizeof words, "%s: expected 1 to %d, found %d",
                   sizes[i].words, sizes[i].most, sizes[i].most + 1);
    expect_failure(&source, placement, 1, MOERUN_ERR_INVALID, words);
    *sizes[i].value = good;
  }
  moerun_placement_destroy(placement);
  close_caller(&c);
}

static void placements_for_other_ranks_are_refused(void **state) {
  (void)state;
  caller c;
  moerun_placement *placement = NULL;
  char words[64];
  open_caller(&c, DATA "qwen3_moe");
  const moerun_model_source source = source_of(&c);
  const int32_t ranks = test_size() + 1;
  assert_all_ok(moerun_placement_create_block(&placement, source.num_moe_layers,
                                              source.num_experts, ranks));
  (void)snprintf(words, sizeof words, "placement: expected %d ranks, found %d",
                 test_size(), ranks);
  expect_failure(&source, placement, 1, MOERUN_ERR_SHAPE, words);
  moerun_placement_destroy(placement);
  close_caller(&c);
}

/* A type whose factors would need an array of their own is none for a
 * source. */
static void types_with_factors_are_refused(void **state) {
  (void)state;
  caller c;
  moerun__dtype added = 0;
  open_caller(&c, DATA "qwen3_moe");
  moerun_placement *placement = dealt(&c);
  const moerun_model_source good = source_of(&c);
  assert_all_ok(moerun__dtype_add(&added, &made_m8));
  moerun_model_source bad = good;
  bad.dtype = "M8";
  expect_failure(&bad, placement, 1, MOERUN_ERR_UNSUPPORTED, "found \"M8\"");
  bad = good;
  bad.gate_dtype = "M8";
  expect_failure(&bad, placement, 1, MOERUN_ERR_UNSUPPORTED,
                 "gate_dtype: expected ");
  moerun_placement_destroy(placement);
  close_caller(&c);
}

static void sizes_are_checked(void **state) {
  (void)state;
  caller c;
  open_caller(&c, DATA "qwen3_moe");
  moerun_placement *placement = dealt(&c);
  const moerun_model_source good = source_of(&c);
  moerun_model_source bad = good;
  bad.hidden_width = 0;
  expect_failure(&bad, placement, 1, MOERUN_ERR_INVALID,
                 "hidden_width: expected 1 to ");
  bad = good;
  bad.experts_per_token = good.num_experts + 1;
  expect_failure(&bad, placement, 1, MOERUN_ERR_INVALID, "experts_per_token: ");
  bad = good;
  bad.num_experts++;
  expect_failure(&bad, placement, 1, MOERUN_ERR_SHAPE, "placement: expected");
  bad = good;
  bad.load_expert = NULL;
  expect_failure(&bad, placement, 1, MOERUN_ERR_INVALID, "load_expert is NULL");
  bad = good;
  bad.dtype = "F8_E4M3";
  expect_failure(&bad, placement, 1, MOERUN_ERR_UNSUPPORTED,
                 "dtype: expected " DTYPE_NAMES ", found \"F8_E4M3\"");
  moerun_placement_destroy(placement);
  close_caller(&c);
}

static void members_that_differ_are_named(void **state) {
  (void)state;
  caller c;
  open_caller(&c, DATA "qwen3_moe");
  moerun_placement *placement = dealt(&c);
  const moerun_model_source good = source_of(&c);
  const int last = test_rank() == test_size() - 1;
  moerun_model_source other[7];
  for (int i = 0; i < 7; i++) {
    other[i] = good;
  }
  other[0].hidden_width++;
  other[1].expert_width++;
  other[2].experts_per_token--;
  other[3].dtype = "BF16";
  other[4].gate_dtype = "BF16";
  other[5].renormalise = !good.renormalise;
  other[6].load_gate = NULL;
  static const char *const words[] = {
      ": hidden_width: expected ",
      ": expert_width: expected ",
      ": experts_per_token: expected ",
      ": dtype: expected F32 as on rank 0, found BF16",
      ": gate_dtype: expected F32 as on rank 0, found BF16",
      ": renormalise: expected ",
      ": load_gate (1: given): expected 1 as on rank 0, found 0"};
  for (int i = 0; i < 7 && test_size() > 1; i++) {
    expect_failure(last ? &other[i] : &good, placement, last, MOERUN_ERR_SHAPE,
                   words[i]);
  }
  moerun_placement_destroy(placement);
  close_caller(&c);
}

/* Every allocation fails once, on the last rank; nothing leaks. */
static void creation_survives_failed_allocations(void **state) {
  (void)state;
  caller c;
  open_caller(&c, DATA "qwen3_moe");
  moerun_placement *placement = dealt(&c);
  const moerun_model_source source = source_of(&c);
  const size_t live = moerun__alloc_live();
  moerun_status status = MOERUN_ERR_NOMEM;
  for (long nth = 0; status != MOERUN_OK; nth++) {
    moerun_model *created = NULL;
    assert_true(nth < 200);
    if (test_rank() == test_size() - 1) moerun__alloc_fail_nth(nth);
    status = moerun_model_create(&created, comm, placement, &source);
    moerun__alloc_fail_nth(-1);
    assert_all_ranks(status == MOERUN_OK || status == MOERUN_ERR_NOMEM ||
                     status == MOERUN_ERR_PEER);
    moerun_model_destroy(created);
    assert_all_ranks(moerun__alloc_live() == live);
  }
  moerun_placement_destroy(placement);
  close_caller(&c);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(has_the_bits_of_a_checkpoint),
      cmocka_unit_test(the_digest_tells_weights_apart),
      cmocka_unit_test(without_gates_rows_are_routed_by_the_caller),
      cmocka_unit_test(a_caller_that_fails_ends_all),
      cmocka_unit_test(replicas_that_differ_are_named),
      cmocka_unit_test(sizes_are_checked),
      cmocka_unit_test(members_that_differ_are_named),
      cmocka_unit_test(sizes_have_limits),
      cmocka_unit_test(placements_for_other_ranks_are_refused),
      cmocka_unit_test(types_with_factors_are_refused),
      cmocka_unit_test(creation_survives_failed_allocations),
  };
  (void)MPI_Init(&argc, &argv);
  if (moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) != MOERUN_OK ||
      moerun_comm_create_self(&self) != MOERUN_OK) {
    return 1;
  }
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  moerun_comm_destroy(self);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return failed;
}
