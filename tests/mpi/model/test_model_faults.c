/* Loading a checkpoint that does not fit, is damaged, or differs between ranks:
 * the ranks at fault say what is wrong in one line, the others ERR_PEER, and
 * nothing stays allocated. */
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/stop.h"
#include "runtime/model/shard.h"
#include "support/model_world.h"

#include <fcntl.h>
#include <math.h>

enum { LINE = 1024 };

/* The load fails on all ranks: with `code` and `line` on those in fault, else
 * with ERR_PEER; nothing stays allocated. */
static void expect_failure(world *w, int in_fault, moerun_status code,
                           const char *line) {
  moerun_model *model = NULL;
  const size_t live = moerun__alloc_live();
  const moerun_status status =
      moerun_model_load(&model, w->comm, w->placement, w->path, NULL);
  assert_all_ranks(status == (in_fault ? code : MOERUN_ERR_PEER));
  assert_all_ranks(!in_fault || strcmp(moerun_last_error(), line) == 0);
  assert_all_ranks(model == NULL);
  assert_all_ranks(moerun__alloc_live() == live);
}

static moerun__synth_options qwen3(void) {
  moerun__synth_options options = small;
  options.arch = "qwen3_moe";
  options.dtype = MOERUN_DTYPE_BF16;
  return options;
}

/* Puts 16 bits in the file at element `at` of the tensor. */
static int poke(const char *path, const char *name, int64_t at,
                uint16_t value) {
  moerun__shards *shards = NULL;
  if (moerun__shards_load(&shards, path) != MOERUN_OK) return 0;
  const moerun__tensor *tensor = moerun__shards_find(shards, name);
  int ok = 0;
  if (tensor != NULL) {
    const int file = open(moerun__shards_file(shards, tensor), O_WRONLY);
    ok = file >= 0 &&
         pwrite(file, &value, 2, (off_t)(tensor->offset + 2 * at)) == 2;
    if (file >= 0) (void)close(file);
  }
  moerun__shards_destroy(shards);
  return ok;
}

static void nan_and_infinity_are_refused(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int64_t at;
    uint16_t bits;
    const char *place;
  } cases[] = {
      {"model.layers.1.input_layernorm.weight", 39, 0x7fc0, "row 0, column 39"},
      {"model.layers.2.self_attn.v_proj.weight", 3 * H + 2, 0xff80,
       "row 3, column 2"},
      {"model.embed_tokens.weight", 258 * H, 0x7f80, "row 258, column 0"},
      {"model.layers.0.mlp.experts.0.down_proj.weight", 5 * F + 1, 0x7f81,
       "row 5, column 1"},
  };
  const int last = test_size() - 1;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    world w;
    char line[LINE];
    open_world(&w, qwen3());
    /* Expert 0 is on rank 0 only. */
    const int in_fault = test_rank() == (i == 3 ? 0 : last);
    assert_all_ranks(!in_fault ||
                     poke(w.path, cases[i].name, cases[i].at, cases[i].bits));
    (void)snprintf(line, sizeof line,
                   "%s/model.safetensors: tensor \"%s\": %s: expected a finite "
                   "number, found NaN or infinity",
                   w.path, cases[i].name, cases[i].place);
    expect_failure(&w, in_fault, MOERUN_ERR_FORMAT, line);
    close_world(&w);
  }
}

/* The largest finite numbers are not mistaken for infinity. */
static void large_numbers_load(void **state) {
  (void)state;
  world w;
  moerun_model *model = NULL;
  open_world(&w, qwen3());
  assert_all_ranks(poke(w.path, "model.norm.weight", 0, 0x7f7f));
  assert_all_ranks(poke(w.path, "lm_head.weight", 0, 0xff7f));
  assert_all_ok(moerun_model_load(&model, w.comm, w.placement, w.path, NULL));
  assert_all_ranks(isfinite(model->final_norm[0]) &&
                   model->final_norm[0] > 3e38F);
  moerun_model_destroy(model);
  close_world(&w);
}

/* Replaces config.json's key on this rank. */
static int change_config(const char *path, const char *key, json_t *value) {
  char file[2 * TEMP_PATH];
  json_t *root = NULL;
  (void)snprintf(file, sizeof file, "%s/config.json", path);
  const int ok = moerun__json_load(&root, file, 1 << 20) == MOERUN_OK &&
                 json_object_set_new(root, key, value) == 0 &&
                 json_dump_file(root, file, 0) == 0;
  json_decref(root);
  return ok;
}

/* That this rank looks at first in layer 0: its own, or where it has none that
 * of whose shape it has to know for those which may come. */
static int32_t first_expert(const world *w) {
  int32_t experts[EXPERTS];
  const int32_t count =
      moerun__placement_experts(w->placement, 0, test_rank(), experts);
  return count > 0 ? experts[0] : 0;
}

static void files_must_agree_with_the_config(void **state) {
  (void)state;
  static const struct {
    const char *key;
    int value;
    moerun_status code;
    const char *rest; /* %d: the rank's first expert */
  } cases[] = {
      {"moe_intermediate_size", F + 2, MOERUN_ERR_SHAPE,
       "/model.safetensors: tensor \"model.layers.0.mlp.experts.%d.gate_proj."
       "weight\": expected [26, 40], found [24, 40]"},
      {"vocab_size", VOCAB + 1, MOERUN_ERR_SHAPE,
       "/model.safetensors: tensor \"model.embed_tokens.weight\": expected "
       "[260, 40], found [259, 40]"},
      {"num_hidden_layers", LAYERS + 1, MOERUN_ERR_SHAPE, NULL},
      {"head_dim", 4, MOERUN_ERR_SHAPE,
       "/model.safetensors: tensor \"model.layers.0.self_attn.q_proj.weight\": "
       "expected [20, 40], found [40, 40]"},
      {"num_zero_experts", 2, MOERUN_ERR_SHAPE,
       "/model.safetensors: tensor \"model.layers.0.mlp.gate.weight\": "
       "expected [9, 40], found [7, 40]"},
      {"hidden_act", 3, MOERUN_ERR_FORMAT,
       "/config.json: key \"hidden_act\": expected a string, found an "
       "integer"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    world w;
    char line[LINE];
    char rest[LINE / 2];
    open_world(&w, qwen3());
    assert_all_ranks(
        change_config(w.path, cases[i].key, json_integer(cases[i].value)));
    const int32_t first = first_expert(&w);
    if (cases[i].rest != NULL) {
      (void)snprintf(rest, sizeof rest, cases[i].rest, first);
    }
    if (cases[i].rest != NULL) {
      (void)snprintf(line, sizeof line, "%s%s", w.path, rest);
    } else {
      (void)snprintf(line, sizeof line,
                     "placement: expected 4 layers x 7 experts for %s, found "
                     "3 x 7",
                     w.path);
    }
    expect_failure(&w, 1, cases[i].code, line);
    close_world(&w);
  }
}

static void missing_tensors_are_named(void **state) {
  (void)state;
  world w;
  char line[LINE];
  moerun__synth_options options = qwen3();
  options.tied_head = 1;
  open_world(&w, options);
  assert_all_ranks(
      change_config(w.path, "tie_word_embeddings", json_boolean(0)));
  (void)snprintf(line, sizeof line,
                 "%s: tensor \"lm_head.weight\": expected in the checkpoint, "
                 "found nothing",
                 w.path);
  expect_failure(&w, 1, MOERUN_ERR_FORMAT, line);
  close_world(&w);

  /* The message names the hub's spelling, whatever others were looked for. */
  open_world(&w, qwen3());
  assert_all_ranks(change_config(w.path, "model_type", json_string("mixtral")));
  assert_all_ranks(change_config(w.path, "architectures", json_null()));
  assert_all_ranks(change_config(w.path, "num_local_experts", json_integer(7)));
  (void)snprintf(line, sizeof line,
                 "%s: tensor \"model.layers.0.block_sparse_moe.experts.%d.w1."
                 "weight\": expected in the checkpoint, found nothing",
                 w.path, first_expert(&w));
  assert_all_ranks(change_config(w.path, "intermediate_size", json_integer(F)));
  expect_failure(&w, 1, MOERUN_ERR_FORMAT, line);
  close_world(&w);
}

/* A second constant expert where the gate's last row is a zero expert's. */
static void missing_constants_are_named(void **state) {
  (void)state;
  world w;
  char line[LINE];
  moerun__synth_options options = qwen3();
  options.num_home[MOERUN_HOME_ZERO] = 1;
  options.num_home[MOERUN_HOME_CONSTANT] = 1;
  open_world(&w, options);
  assert_all_ranks(change_config(w.path, "num_zero_experts", json_integer(0)));
  assert_all_ranks(
      change_config(w.path, "num_constant_experts", json_integer(2)));
  (void)snprintf(line, sizeof line,
                 "%s: tensor \"model.layers.0.mlp.constant_experts.1.gate."
                 "weight\": expected in the checkpoint, found nothing",
                 w.path);
  expect_failure(&w, 1, MOERUN_ERR_FORMAT, line);
  assert_all_ranks(
      change_config(w.path, "num_constant_experts", json_integer(1)));
  assert_all_ranks(change_config(w.path, "num_zero_experts", json_integer(1)));
  assert_all_ranks(
      poke(w.path, "model.layers.2.mlp.constant_experts.0.vector", 17, 0x7f80));
  (void)snprintf(line, sizeof line,
                 "%s/model.safetensors: tensor \"model.layers.2.mlp."
                 "constant_experts.0.vector\": row 0, column 17: expected a "
                 "finite number, found NaN or infinity",
                 w.path);
  expect_failure(&w, 1, MOERUN_ERR_FORMAT, line);
  close_world(&w);
}

/* Every key of config.json that outputs may depend on, changed on the last rank
 * alone. */
static void every_key_is_compared(void **state) {
  (void)state;
  static const struct {
    const char *key;
    const char *value;
  } cases[] = {{"rope_theta", "7.0"},
               {"rms_norm_eps", "0.5"},
               {"num_experts_per_tok", "3"},
               {"norm_topk_prob", "false"},
               {"max_position_embeddings", "77"}};
  const int last = test_size() - 1;
  const int mine = test_rank() == last;
  if (last == 0) return;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char line[LINE];
    world w;
    print_message("%s\n", cases[i].key);
    open_world(&w, qwen3());
    assert_all_ranks(!mine || change_config(w.path, cases[i].key,
                                            json_loads(cases[i].value,
                                                       JSON_DECODE_ANY, NULL)));
    (void)snprintf(line, sizeof line,
                   "%s: expected config.json as on rank 0, found another",
                   w.path);
    expect_failure(&w, mine, MOERUN_ERR_SHAPE, line);
    close_world(&w);
  }
}

/* The last rank alone: another config, no file, another placement. */
static void one_rank_at_fault_fails_all(void **state) {
  (void)state;
  const int last = test_size() - 1;
  const int mine = test_rank() == last;
  char line[LINE];
  world w;
  if (last == 0) return; /* rank 0 is the measure of the others */
  open_world(&w, qwen3());
  assert_all_ranks(!mine || change_config(w.path, "rope_theta", json_real(7)));
  (void)snprintf(line, sizeof line,
                 "%s: expected config.json as on rank 0, found "
                 "another",
                 w.path);
  expect_failure(&w, mine, MOERUN_ERR_SHAPE, line);
  close_world(&w);

  open_world(&w, qwen3());
  (void)snprintf(line, sizeof line, "%s/generation_config.json", w.path);
  assert_all_ranks(!mine || moerun__file_write(line, "{\"eos_token_id\": 9}",
                                               19) == MOERUN_OK);
  (void)snprintf(line, sizeof line,
                 "%s: expected the token ids of generation_config.json and "
                 "config.json as on rank 0, found another",
                 w.path);
  expect_failure(&w, mine, MOERUN_ERR_SHAPE, line);
  close_world(&w);

  open_world(&w, qwen3());
  if (mine) temp_dir_remove(&w.dir);
  (void)snprintf(
      line, sizeof line,
      "%s/config.json: cannot be opened: no such file or directory: "
      "expected the folder of a checkpoint that was downloaded before",
      w.path);
  expect_failure(&w, mine, MOERUN_ERR_IO, line);
  close_world(&w);

  open_world(&w, qwen3());
  if (mine) {
    int32_t rank_of[LAYERS * EXPERTS] = {0};
    moerun_placement_destroy(w.placement);
    assert_int_equal(moerun_placement_create(&w.placement, LAYERS, EXPERTS,
                                             test_size(), rank_of),
                     MOERUN_OK);
  }
  (void)snprintf(line, sizeof line,
                 "%s: expected the placement as on rank 0, found "
                 "another",
                 w.path);
  expect_failure(&w, mine, MOERUN_ERR_SHAPE, line);
  close_world(&w);

  moerun__synth_options options = qwen3();
  if (mine) options.dtype = MOERUN_DTYPE_F16;
  open_world(&w, options);
  (void)snprintf(line, sizeof line,
                 "%s: expected the tensors' names, types and shapes "
                 "as on rank 0, found another",
                 w.path);
  expect_failure(&w, mine, MOERUN_ERR_SHAPE, line);
  close_world(&w);
}

static void placement_must_fit(void **state) {
  (void)state;
  world w;
  char line[LINE];
  open_world(&w, qwen3());
  moerun_placement_destroy(w.placement);
  assert_all_ok(moerun_placement_create_block(&w.placement, LAYERS, EXPERTS,
                                              test_size() + 1));
  (void)snprintf(line, sizeof line, "placement: expected %d ranks, found %d",
                 test_size(), test_size() + 1);
  expect_failure(&w, 1, MOERUN_ERR_SHAPE, line);
  moerun_placement_destroy(w.placement);
  assert_all_ok(moerun_placement_create_block(&w.placement, LAYERS, EXPERTS + 1,
                                              test_size()));
  (void)snprintf(line, sizeof line,
                 "placement: expected 3 layers x 7 experts for %s, found 3 x 8",
                 w.path);
  expect_failure(&w, 1, MOERUN_ERR_SHAPE, line);
  close_world(&w);
}

/* Every allocation of one rank fails once; all ranks see it, none leaks. */
static void nth_allocation_failure_fails_all(void **state) {
  (void)state;
  world w;
  open_world(&w, qwen3());
  const size_t live = moerun__alloc_live();
  const int last = test_size() - 1;
  moerun_status status = MOERUN_ERR_NOMEM;
  long n = 0;
  for (; status != MOERUN_OK; n++) {
    moerun_model *model = NULL;
    assert_true(n < 1000);
    if (test_rank() == last) moerun__alloc_fail_nth(n);
    status = moerun_model_load(&model, w.comm, w.placement, w.path, NULL);
    moerun__alloc_fail_nth(-1);
    assert_all_ranks(
        status == MOERUN_OK ||
        status == (test_rank() == last ? MOERUN_ERR_NOMEM : MOERUN_ERR_PEER));
    assert_all_ranks((model != NULL) == (status == MOERUN_OK));
    moerun_model_destroy(model);
    assert_all_ranks(moerun__alloc_live() == live);
  }
  assert_true(n > 40);
  close_world(&w);
}

static long looks_left;

static int is_over(void) {
  return looks_left-- == 0;
}

/* One rank is asked to stop before each piece that it reads: it does at once,
 * and the others with it. */
static void a_stop_ends_the_load_of_all(void **state) {
  (void)state;
  world w;
  open_world(&w, qwen3());
  const size_t live = moerun__alloc_live();
  const int last = test_size() - 1;
  moerun_status status = MOERUN_ERR_STOPPED;
  long n = 0;
  for (; status != MOERUN_OK; n++) {
    moerun_model *model = NULL;
    assert_true(n < 1000);
    looks_left = n;
    if (test_rank() == last) moerun__stop_set_callback(is_over);
    status = moerun_model_load(&model, w.comm, w.placement, w.path, NULL);
    moerun__stop_set_callback(NULL);
    assert_all_ranks(
        status == MOERUN_OK ||
        status == (test_rank() == last ? MOERUN_ERR_STOPPED : MOERUN_ERR_PEER));
    assert_all_ranks(status == MOERUN_OK || test_rank() != last ||
                     strstr(moerun_last_error(), ": stopped by a signal while "
                                                 "its weights were ") != NULL);
    moerun_model_destroy(model);
    assert_all_ranks(moerun__alloc_live() == live);
  }
  assert_true(n > 30); /* every tensor that is not an expert's, at least */
  close_world(&w);
}

int main(int argc, char **argv) {
  (void)MPI_Init(&argc, &argv);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(nan_and_infinity_are_refused),
      cmocka_unit_test(large_numbers_load),
      cmocka_unit_test(files_must_agree_with_the_config),
      cmocka_unit_test(missing_tensors_are_named),
      cmocka_unit_test(missing_constants_are_named),
      cmocka_unit_test(one_rank_at_fault_fails_all),
      cmocka_unit_test(every_key_is_compared),
      cmocka_unit_test(placement_must_fit),
      cmocka_unit_test(nth_allocation_failure_fails_all),
      cmocka_unit_test(a_stop_ends_the_load_of_all),
  };
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)MPI_Finalize();
  return failed;
}
