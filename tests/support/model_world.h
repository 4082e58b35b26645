/* A small synthetic checkpoint for tests of its loading. Each rank writes its
 * own copy, in a folder of its own, so that ranks can be given different
 * files. */
#ifndef MOERUN_TESTS_MODEL_WORLD_H
#define MOERUN_TESTS_MODEL_WORLD_H

#include "runtime/model/model.h"
#include "runtime/model/synth.h"
#include "support/mpi_test.h"
#include "support/temp_dir.h"

#include <moerun/moerun_mpi.h>

enum { LAYERS = 3, EXPERTS = 7, H = 40, F = 24, VOCAB = 259 };

static const moerun__synth_options small = {
    .seed = 3,
    .num_layers = LAYERS,
    .hidden_width = H,
    .heads = {.num_heads = 5, .num_kv_heads = 5},
    .num_experts = EXPERTS,
    .experts_per_token = 2,
    .expert_width = F,
    .vocab_size = VOCAB,
};

typedef struct world {
  temp_dir dir;
  char path[TEMP_PATH];
  moerun_comm *comm;
  moerun_placement *placement;
} world;

static inline void open_world(world *w, moerun__synth_options options) {
  options.path = w->path;
  assert_all_ranks(temp_dir_create(&w->dir));
  (void)temp_path(w->path, &w->dir, "model");
  assert_all_ok(moerun__synth_write(&options));
  assert_all_ok(moerun_comm_create_mpi(&w->comm, MPI_COMM_WORLD, NULL));
  assert_all_ok(moerun_placement_create_block(
      &w->placement, LAYERS - options.num_dense, EXPERTS, test_size()));
}

static inline void close_world(world *w) {
  moerun_placement_destroy(w->placement);
  moerun_comm_destroy(w->comm);
  temp_dir_remove(&w->dir);
}

#endif
