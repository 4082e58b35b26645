/* Asserts for tests that run on several ranks. cmocka's own assert leaves only
 * the rank at fault, whose peers then wait in the next collective; these reduce
 * the verdict first and fail on all ranks alike. [collective]: every rank
 * calls them in the same order. */
#ifndef MOERUN_TESTS_MPI_TEST_H
#define MOERUN_TESTS_MPI_TEST_H

#include "support/cmocka.h"

#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>

#include <moerun/moerun.h>

static inline int test_rank(void) {
  int rank = 0;
  (void)MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  return rank;
}

static inline int test_size(void) {
  int size = 1;
  (void)MPI_Comm_size(MPI_COMM_WORLD, &size);
  return size;
}

static inline int all_ranks(int ok, const char *text, const char *file,
                            int line) {
  if (!ok) {
    (void)fprintf(stderr, "%s:%d: rank %d: failed: %s (last error: %s)\n", file,
                  line, test_rank(), text, moerun_last_error());
  }
  int all = 0;
  (void)MPI_Allreduce(&ok, &all, 1, MPI_INT, MPI_MIN, MPI_COMM_WORLD);
  return all;
}

/* The size of a struct of the public interface, its first initializer. */
#define SIZED(x) .struct_size = sizeof(x)

/* Fails on all ranks if `condition` is false on any. */
#define assert_all_ranks(condition)                                            \
  assert_true(all_ranks((condition) ? 1 : 0, #condition, __FILE__, __LINE__))

/* The call returned MOERUN_OK on all ranks. */
#define assert_all_ok(call) assert_all_ranks((call) == MOERUN_OK)

#endif
