/* A program of somebody else: only the installed headers and library. On every
 * rank: a comm of its own and one over MPI, and a placement. */
#include <moerun/moerun.h>
#include <moerun/moerun_mpi.h>

#include "support/sized_structs.h"

#include <stdio.h>

static int failed(moerun_status status) {
  if (status == MOERUN_OK) return 0;
  (void)fprintf(stderr, "%s: %s\n", moerun_status_string(status),
                moerun_last_error());
  return 1;
}

int main(int argc, char **argv) {
  moerun_comm *alone = NULL;
  moerun_comm *all = NULL;
  moerun_placement *placement = NULL;
  const moerun_mpi_options options = {.struct_size = sizeof options,
                                      .timeout_s = 20};
  int size = 0;
  MPI_Init(&argc, &argv);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  int bad = failed(moerun_comm_create_self(&alone)) ||
            failed(moerun_comm_create_mpi(&all, MPI_COMM_WORLD, &options)) ||
            failed(moerun_placement_create_block(&placement, 2, 8, size));
  bad = bad || moerun_comm_size(alone) != 1 || moerun_comm_size(all) != size;
  /* A model that is not there: one line, and a status. */
  moerun_model_shape shape = {.struct_size = sizeof shape};
  bad = bad || moerun_model_shape_load(&shape, "nowhere") != MOERUN_ERR_IO ||
        moerun_last_error()[0] == '\0';
  if (!bad && moerun_comm_rank(all) == 0) {
    (void)printf("moerun %d.%d.%d on %d ranks\n", MOERUN_VERSION_MAJOR,
                 MOERUN_VERSION_MINOR, MOERUN_VERSION_PATCH, size);
  }
  moerun_placement_destroy(placement);
  moerun_comm_destroy(all);
  moerun_comm_destroy(alone);
  MPI_Finalize();
  return bad;
}
