/* Which environments tell of several processes that are each alone. */
#include "support/cmocka.h"

#include "launch/launcher.h"

#include <stddef.h>
#include <string.h>

static const char *const *variables; /* name, value, …, NULL */

static const char *get(const char *name) {
  for (size_t i = 0; variables[i] != NULL; i += 2) {
    if (strcmp(variables[i], name) == 0) return variables[i + 1];
  }
  return NULL;
}

static moerun__launcher find(const char *const *environment) {
  variables = environment;
  return moerun__launcher_find(get);
}

static void assert_alone(const char *const *environment) {
  const moerun__launcher found = find(environment);
  assert_null(found.variable);
  assert_true(found.is_first);
}

static void assert_told(const char *const *environment, const char *variable,
                        long value, int speaks) {
  const moerun__launcher found = find(environment);
  assert_non_null(found.variable);
  assert_string_equal(found.variable, variable);
  assert_int_equal(found.value, value);
  assert_int_equal(found.speaks, speaks);
}

#define WITH(...) ((const char *const[]){__VA_ARGS__, NULL})

static void one_process_is_fine(void **state) {
  (void)state;
  assert_alone(WITH("HOME", "/"));
  assert_alone(WITH("OMPI_COMM_WORLD_SIZE", "1", "OMPI_COMM_WORLD_RANK", "0",
                    "PMIX_RANK", "0"));
  assert_alone(WITH("PMI_SIZE", "x", "PMI_RANK", ""));
  assert_alone(WITH("PMI_SIZE", "2x", "PMI_RANK", "1x"));
  assert_alone(WITH("PMI_SIZE", "-2", "PMI_RANK", "99999999999999999999"));
}

/* sbatch --ntasks=4 runs the script once; salloc gives a shell. */
static void a_batch_script_is_fine(void **state) {
  (void)state;
  assert_alone(WITH("SLURM_NTASKS", "4", "SLURM_NPROCS", "4", "SLURM_PROCID",
                    "0", "SLURM_JOB_ID", "7"));
  assert_alone(WITH("SLURM_NTASKS", "4", "SLURM_STEP_ID", "4294967290",
                    "SLURM_STEP_NUM_TASKS", "1", "SLURM_PROCID", "0"));
}

static void launchers_are_known(void **state) {
  (void)state;
  assert_told(WITH("OMPI_COMM_WORLD_SIZE", "4", "OMPI_COMM_WORLD_RANK", "0"),
              "OMPI_COMM_WORLD_SIZE", 4, 1);
  assert_told(WITH("OMPI_COMM_WORLD_SIZE", "4", "OMPI_COMM_WORLD_RANK", "3"),
              "OMPI_COMM_WORLD_SIZE", 4, 0);
  assert_told(WITH("PMI_RANK", "1", "PMI_SIZE", "2"), "PMI_SIZE", 2, 0);
  assert_told(WITH("MPI_LOCALNRANKS", "3"), "MPI_LOCALNRANKS", 3, 1);
  assert_told(WITH("SLURM_NTASKS", "8", "SLURM_STEP_NUM_TASKS", "8",
                   "SLURM_PROCID", "5"),
              "SLURM_STEP_NUM_TASKS", 8, 0);
  /* Nobody else is sure to speak where only ranks are told. */
  assert_told(WITH("PMIX_RANK", "2"), "PMIX_RANK", 2, 1);
}

static void the_first_is_one(void **state) {
  (void)state;
  assert_true(find(WITH("PMI_RANK", "0", "PMI_SIZE", "2")).is_first);
  assert_false(find(WITH("PMI_RANK", "1", "PMI_SIZE", "2")).is_first);
  assert_true(find(WITH("PMIX_RANK", "0")).is_first);
  assert_false(find(WITH("PMIX_RANK", "1")).is_first);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(one_process_is_fine),
      cmocka_unit_test(a_batch_script_is_fine),
      cmocka_unit_test(launchers_are_known),
      cmocka_unit_test(the_first_is_one),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
