/* What guests and spare slots get of a node whose ranks are all of the job's,
 * and what the predictions say then. */
#include "launch/options/options.h"
#include "launch/run/node_memory.h"
#include "support/mpi_test.h"

#include <string.h>

#include <moerun/moerun_mpi.h>

enum { EXPERTS = 32, LAYERS = 2, MOST_RANKS = 8 };

static const size_t mib = (size_t)1 << 20;
static moerun_comm *comm;
static moerun__prediction ranks[MOST_RANKS];

static int set_up(void **state) {
  (void)state;
  return moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL) == MOERUN_OK ? 0
                                                                          : -1;
}

static int tear_down(void **state) {
  (void)state;
  moerun_comm_destroy(comm);
  return 0;
}

/* Of a run with as many MiB of node_memory and two other options. */
static moerun__config *make_config(int64_t node_memory, const char *option,
                                   const char *other) {
  char flag[64];
  static const char *const environment[] = {NULL};
  const char *const arguments[] = {"--model", "m", flag, option, other};
  moerun__config *config = NULL;
  (void)snprintf(flag, sizeof flag, "--node-memory=%lld",
                 (long long)node_memory);
  assert_all_ok(moerun__config_load(&config, &moerun__options, "run", 5,
                                    arguments, environment));
  return config;
}

/* Each rank takes 4 MiB, and wants as many of guests and of spare slots. */
static moerun__prediction *predict(size_t guests, size_t spare) {
  for (int r = 0; r < comm->size; r++) {
    ranks[r] = (moerun__prediction){.expert_bytes = 4 * mib,
                                    .guest_bytes = guests * mib,
                                    .spare_bytes = spare * mib};
  }
  return comm->rank == 0 ? ranks : NULL;
}

static moerun__settled settle(const moerun__config *config,
                              moerun__prediction *all) {
  moerun__settled settled = {0};
  moerun_placement *placement = NULL;
  const moerun__cache_need need = {0};
  assert_all_ok(
      moerun_placement_create_block(&placement, LAYERS, EXPERTS, comm->size));
  assert_all_ok(
      moerun__memory_settle(&settled, &all, config, placement, &need, 0, comm));
  moerun_placement_destroy(placement);
  return settled;
}

/* All ranks learn `bytes`, and rank 0's predictions have them. */
static void expect_guests(int64_t node_memory, const char *option,
                          int64_t bytes, size_t predicted) {
  moerun__config *config =
      make_config(node_memory, option, "--replace-every=0");
  moerun__prediction *all = predict(8, 0);
  assert_all_ranks(settle(config, all).guest_bytes == bytes);
  for (int r = 0; r < comm->size; r++) {
    assert_all_ranks(all == NULL || all[r].guest_bytes == predicted);
  }
  moerun__config_destroy(config);
}

static void guests_get_half_of_what_is_left(void **state) {
  (void)state;
  const int64_t R = comm->size;
  const int64_t one = (int64_t)mib;
  expect_guests(100 * R, "--max-tokens=64", 8 * one, 8 * mib);
  expect_guests(10 * R, "--max-tokens=64", 3 * one, 3 * mib);
  expect_guests(4 * R, "--max-tokens=64", -1, 0);
  expect_guests(3 * R, "--max-tokens=64", -1, 0);
  /* Who says how much gets it; the comparison comes later. */
  expect_guests(3 * R, "--guest-memory=5", 5 * one, 8 * mib);
}

static void expect_spare(int64_t node_memory, const char *option, int32_t slots,
                         size_t predicted) {
  moerun__config *config = make_config(node_memory, option, "--chunks=1");
  moerun__prediction *all = predict(0, 8);
  assert_all_ranks(settle(config, all).spare_slots == slots);
  for (int r = 0; r < comm->size; r++) {
    assert_all_ranks(all == NULL || all[r].spare_bytes == predicted);
  }
  moerun__config_destroy(config);
}

static void spare_slots_are_as_many_as_fit(void **state) {
  (void)state;
  const int32_t R = comm->size;
  const int32_t wanted = moerun__replacer_spare(EXPERTS, R);
  const size_t each = 8 * mib / (size_t)wanted;
  expect_spare(100 * R, "--max-tokens=64", wanted, each * (size_t)wanted);
  expect_spare(12 * R, "--max-tokens=64", wanted / 2,
               each * (size_t)(wanted / 2));
  expect_spare(4 * R, "--spare-slots=3", 3, 8 * mib);
  expect_spare(4 * R, "--balance=off", wanted, 8 * mib);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(guests_get_half_of_what_is_left),
      cmocka_unit_test(spare_slots_are_as_many_as_fit),
  };
  MPI_Init(&argc, &argv);
  const int failures = cmocka_run_group_tests(tests, set_up, tear_down);
  MPI_Finalize();
  return failures;
}
