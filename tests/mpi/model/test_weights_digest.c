/* The digest of a model's weights: the same on any number of ranks and with any
 * placement, another if one byte of any tensor is another, and told at once
 * where one rank reads what rank 0 does not. */
#include "runtime/model/shard.h"
#include "runtime/model/weights_digest.h"
#include "support/model_world.h"

#include <fcntl.h>

enum { LINE = 1024, MOST_RANKS = 8 };

/* Changes the lowest bit of the byte at `at` of the tensor, from the end if it
 * is negative, in this rank's copy: no element becomes infinite by that. */
static int flip(const char *path, const char *name, int64_t at) {
  moerun__shards *shards = NULL;
  unsigned char byte = 0;
  int ok = 0;
  if (moerun__shards_load(&shards, path) != MOERUN_OK) return 0;
  const moerun__tensor *tensor = moerun__shards_find(shards, name);
  if (tensor != NULL) {
    const int file = open(moerun__shards_file(shards, tensor), O_RDWR);
    const int64_t place = tensor->offset + at + (at < 0 ? tensor->bytes : 0);
    ok = file >= 0 && pread(file, &byte, 1, (off_t)place) == 1;
    byte ^= 1U;
    ok = ok && pwrite(file, &byte, 1, (off_t)place) == 1;
    if (file >= 0) (void)close(file);
  }
  moerun__shards_destroy(shards);
  return ok;
}

/* Of the weights at w->path, as all ranks together read them. */
static uint64_t digest_of(const world *w, const moerun_placement *placement) {
  moerun_model *model = NULL;
  assert_all_ok(moerun_model_load(&model, w->comm, placement, w->path, NULL));
  const uint64_t digest = model->digest;
  moerun_model_destroy(model);
  return digest;
}

/* The same, read by this rank alone. */
static uint64_t digest_alone(const world *w, int32_t num_layers) {
  moerun_comm *comm = NULL;
  moerun_placement *placement = NULL;
  moerun_model *model = NULL;
  assert_all_ok(moerun_comm_create_self(&comm));
  assert_all_ok(
      moerun_placement_create_block(&placement, num_layers, EXPERTS, 1));
  assert_all_ok(moerun_model_load(&model, comm, placement, w->path, NULL));
  const uint64_t digest = model->digest;
  moerun_model_destroy(model);
  moerun_placement_destroy(placement);
  moerun_comm_destroy(comm);
  return digest;
}

/* All that a family may have: dense layers, shared and constant experts. */
static moerun__synth_options rich(int fused) {
  moerun__synth_options options = small;
  options.arch = fused ? "mixtral" : "qwen2_moe";
  options.dtype = fused ? MOERUN_DTYPE_F32 : MOERUN_DTYPE_BF16;
  options.fused = fused;
  options.num_dense = !fused;
  options.shared_experts = fused ? 0 : 2;
  options.num_home[MOERUN_HOME_CONSTANT] = 2;
  return options;
}

/* Blocks, all on one rank, round robin, everywhere, and on two ranks each. */
static moerun_placement *placement_of(int way, int32_t num_layers) {
  const int32_t R = test_size();
  int32_t offset[LAYERS * EXPERTS + 1] = {0};
  int32_t rank_of[LAYERS * EXPERTS * MOST_RANKS];
  moerun_placement *placement = NULL;
  int32_t n = 0;
  for (int32_t i = 0; i < num_layers * EXPERTS; i++) {
    const int32_t first = way == 1 ? R - 1 : i % R;
    for (int32_t r = 0; r < R; r++) {
      const int is_here =
          way == 3 || r == first || (way == 4 && r == (first + 1 + i / R) % R);
      if (is_here) rank_of[n++] = r;
    }
    offset[i + 1] = n;
  }
  if (way == 0) {
    assert_all_ok(
        moerun_placement_create_block(&placement, num_layers, EXPERTS, R));
  } else {
    assert_all_ok(moerun__placement_create(&placement, num_layers, EXPERTS, R,
                                           offset, rank_of, "test"));
  }
  return placement;
}

static void ranks_and_placement_do_not_matter(void **state) {
  (void)state;
  for (int fused = 0; fused < 2; fused++) {
    world w;
    const moerun__synth_options options = rich(fused);
    const int32_t num_layers = LAYERS - options.num_dense;
    open_world(&w, options);
    const uint64_t alone = digest_alone(&w, num_layers);
    for (int way = 0; way < 5; way++) {
      moerun_placement *placement = placement_of(way, num_layers);
      assert_all_ranks(digest_of(&w, placement) == alone);
      moerun_placement_destroy(placement);
    }
    close_world(&w);
  }
}

/* The first, a middle and the last byte of every tensor, on all ranks alike. */
static void every_byte_counts(void **state) {
  (void)state;
  for (int fused = 0; fused < 2; fused++) {
    world w;
    moerun__shards *shards = NULL;
    const moerun__tensor *tensor = NULL;
    const moerun__synth_options options = rich(fused);
    const int32_t num_layers = LAYERS - options.num_dense;
    open_world(&w, options);
    moerun_placement *placement = placement_of(4, num_layers);
    const uint64_t before = digest_of(&w, placement);
    assert_all_ok(moerun__shards_load(&shards, w.path));
    size_t i = 0;
    for (; (tensor = moerun__shards_at(shards, i)) != NULL; i++) {
      /* Bytes in the middle that are the lower ones of their elements. */
      const int64_t places[] = {0, tensor->bytes / 8 * 4, -2};
      const int64_t at = places[i % 3];
      assert_all_ranks(flip(w.path, tensor->name, at));
      assert_all_ranks(digest_of(&w, placement) != before);
      assert_all_ranks(flip(w.path, tensor->name, at));
    }
    assert_all_ranks(i > 20);
    assert_all_ranks(digest_of(&w, placement) == before);
    moerun__shards_destroy(shards);
    moerun_placement_destroy(placement);
    close_world(&w);
  }
}

/* Two elements that change places, within a tensor and between two of one
 * shape: their sum is the same. */
static void order_counts(void **state) {
  (void)state;
  static const unsigned char ab[] = "ab";
  static const unsigned char ba[] = "ba";
  uint64_t sums[5] = {0};
  moerun__digest_piece(&sums[0], "x", 0, ab, 2);
  moerun__digest_piece(&sums[0], "y", 0, ba, 2);
  moerun__digest_piece(&sums[1], "x", 0, ba, 2);
  moerun__digest_piece(&sums[1], "y", 0, ab, 2);
  moerun__digest_piece(&sums[2], "y", 0, ba, 2);
  moerun__digest_piece(&sums[2], "x", 0, ab, 2);
  moerun__digest_piece(&sums[3], "x", 0, ab, 1);
  moerun__digest_piece(&sums[3], "x", 1, ab + 1, 1);
  moerun__digest_piece(&sums[4], "x", 0, ba + 1, 1);
  moerun__digest_piece(&sums[4], "x", 1, ba, 1);
  assert_all_ranks(sums[0] != sums[1] && sums[0] == sums[2]);
  moerun__digest_piece(&sums[3], "x", 2, ab, 1);
  moerun__digest_piece(&sums[4], "x", 3, ab, 1);
  assert_all_ranks(sums[3] != sums[4]);
}

/* The copy of the last rank is another one: it says so, experts that are on
 * other ranks included, and no rank has a model. */
static void stale_copies_are_named(void **state) {
  (void)state;
  static const char *const names[] = {
      "model.norm.weight",
      "model.layers.1.mlp.gate.weight",
      "model.layers.2.mlp.shared_expert.up_proj.weight",
      "model.layers.1.mlp.experts.0.gate_proj.weight",
      "model.layers.2.mlp.experts.0.down_proj.weight",
      "model.layers.2.mlp.experts.6.up_proj.weight"};
  const int last = test_size() - 1;
  if (last == 0) return; /* rank 0 is the measure of the others */
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    world w;
    char line[LINE];
    moerun_model *model = NULL;
    open_world(&w, rich(0));
    const int mine = test_rank() == last;
    assert_all_ranks(!mine || flip(w.path, names[i], 2));
    const moerun_status status =
        moerun_model_load(&model, w.comm, w.placement, w.path, NULL);
    (void)snprintf(line, sizeof line,
                   "%s: expected the weights that rank 0 has, found others",
                   w.path);
    assert_all_ranks(status == (mine ? MOERUN_ERR_FORMAT : MOERUN_ERR_PEER));
    assert_all_ranks(!mine || strcmp(moerun_last_error(), line) == 0);
    assert_all_ranks(model == NULL);
    close_world(&w);
  }
}

/* Every expert on all ranks, and the last byte but one of one of them is
 * another one in one copy, behind what all ranks compare of all experts: all
 * ranks say so. */
static void stale_replicas_are_named(void **state) {
  (void)state;
  const int last = test_size() - 1;
  if (last == 0) return;
  for (int fused = 0; fused < 2; fused++) {
    world w;
    char line[LINE];
    moerun_model *model = NULL;
    moerun__synth_options options = rich(fused);
    options.hidden_width = 80;
    options.expert_width = 48;
    open_world(&w, options);
    moerun_placement *placement = placement_of(3, LAYERS - options.num_dense);
    const char *name = fused
                           ? "model.layers.1.block_sparse_moe.experts.down_proj"
                           : "model.layers.1.mlp.experts.6.down_proj.weight";
    assert_all_ranks(test_rank() != last || flip(w.path, name, -2));
    const moerun_status status =
        moerun_model_load(&model, w.comm, placement, w.path, NULL);
    (void)snprintf(line, sizeof line,
                   "%s: expert 6 of layer 1: expected the weights that rank 0 "
                   "has, found others on another rank",
                   w.path);
    assert_all_ranks(status == MOERUN_ERR_FORMAT);
    assert_all_ranks(strcmp(moerun_last_error(), line) == 0);
    assert_all_ranks(model == NULL);
    moerun_placement_destroy(placement);
    close_world(&w);
  }
}

/* Of tensors that the model does not use only names, types and shapes are
 * known; they count all the same. */
static void names_count(void **state) {
  (void)state;
  const moerun__weights_digest none = {0};
  moerun_comm *comm = NULL;
  uint64_t digest[3] = {0};
  assert_all_ok(moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL));
  for (uint64_t names = 0; names < 3; names++) {
    assert_all_ok(moerun__weights_digest_agree(&digest[names], comm, &none,
                                               names << 40, "m"));
  }
  assert_all_ranks(digest[0] != digest[1] && digest[1] != digest[2]);
  moerun_comm_destroy(comm);
}

int main(int argc, char **argv) {
  (void)MPI_Init(&argc, &argv);
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(ranks_and_placement_do_not_matter),
      cmocka_unit_test(every_byte_counts),
      cmocka_unit_test(order_counts),
      cmocka_unit_test(stale_copies_are_named),
      cmocka_unit_test(stale_replicas_are_named),
      cmocka_unit_test(names_count),
  };
  const int failed = cmocka_run_group_tests(tests, NULL, NULL);
  (void)MPI_Finalize();
  return failed;
}
