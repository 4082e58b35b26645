/* Every launcher tells its processes how many they are and which one each is,
 * under names of its own. SLURM_NTASKS is not among them, because a batch
 * script has it as well: a step alone has SLURM_STEP_NUM_TASKS. Where only a
 * rank is told (PMIx), rank 0 cannot know; the others can. */
#include "launch/launcher.h"

#include "runtime/base/config.h"

#include <errno.h>
#include <stdlib.h>

typedef struct names {
  const char *size; /* NULL: this launcher tells only ranks */
  const char *rank;
} names;

static const names launchers[] = {
    {"OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_RANK"}, /* Open MPI */
    {"PMI_SIZE", "PMI_RANK"},                         /* MPICH, Intel, Cray */
    {"MV2_COMM_WORLD_SIZE", "MV2_COMM_WORLD_RANK"},   /* MVAPICH */
    {"MPI_LOCALNRANKS", "MPI_LOCALRANKID"},           /* Hydra */
    {"SLURM_STEP_NUM_TASKS", "SLURM_PROCID"},         /* srun */
    {"FLUX_JOB_SIZE", "FLUX_TASK_RANK"},
    {NULL, "PMIX_RANK"},
};

/* A variable as a number that is not negative; -1: it is not there, or none. */
static long number_of(const char *(*get)(const char *name), const char *name) {
  const char *text = name != NULL ? get(name) : NULL;
  char *end = NULL;
  if (text == NULL || text[0] < '0' || text[0] > '9') return -1;
  errno = 0;
  const long value = strtol(text, &end, 10);
  return errno == 0 && *end == '\0' ? value : -1;
}

moerun__launcher moerun__launcher_find(const char *(*get)(const char *name)) {
  if (get == NULL) get = moerun__config_environment;
  for (size_t i = 0; i < sizeof launchers / sizeof *launchers; i++) {
    const long size = number_of(get, launchers[i].size);
    const long rank = number_of(get, launchers[i].rank);
    if (size > 1) {
      return (moerun__launcher){launchers[i].size, size, rank <= 0, rank <= 0};
    }
    if (size < 0 && rank > 0) {
      return (moerun__launcher){launchers[i].rank, rank, 1, 0};
    }
  }
  return (moerun__launcher){NULL, 0, 1, 1};
}
