/* Step 2: the same layer over MPI ranks, with a placement of our own.
 *
 *   mpirun -n 4 step2 MODEL_DIR
 *
 * Expert e goes to rank (e + 1) mod R; each rank brings rank + 1 rows and gets
 * its own results back, in the same bits as on one rank. */
#include <moerun/moerun_mpi.h>

#include <stdio.h>
#include <stdlib.h>

enum { MAX_T = 64 };

static int check(moerun_status status, int rank) {
  if (status == MOERUN_OK) return 1;
  if (status != MOERUN_ERR_PEER) { /* the rank at fault speaks, once */
    (void)fprintf(stderr, "step2: rank %d: %s\n", rank, moerun_last_error());
  }
  return 0;
}

/* Expert e of every layer on rank (e + 1) mod R. */
static moerun_status place(moerun_placement **out,
                           const moerun_model_shape *shape, int32_t R) {
  const int32_t count = shape->num_moe_layers * shape->num_experts;
  int32_t *rank_of_expert = calloc((size_t)count, sizeof *rank_of_expert);
  if (rank_of_expert == NULL) return MOERUN_ERR_NOMEM;
  for (int32_t i = 0; i < count; i++) {
    rank_of_expert[i] = (i % shape->num_experts + 1) % R;
  }
  const moerun_status status = moerun_placement_create(
      out, shape->num_moe_layers, shape->num_experts, R, rank_of_expert);
  free(rank_of_expert);
  return status;
}

static int run(moerun_comm *comm, const char *path) {
  const int32_t rank = moerun_comm_rank(comm);
  const int32_t T = rank + 1 < MAX_T ? rank + 1 : MAX_T;
  const moerun_model_options layers_only = {.struct_size = sizeof layers_only,
                                            .moe_only = 1};
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = MAX_T};
  moerun_model_shape shape = {.struct_size = sizeof shape};
  moerun_placement *placement = NULL;
  moerun_model *model = NULL;
  moerun_session *session = NULL;
  int ok = check(moerun_model_shape_load(&shape, path), rank) &&
           check(place(&placement, &shape, moerun_comm_size(comm)), rank) &&
           check(moerun_model_load(&model, comm, placement, path, &layers_only),
                 rank) &&
           check(moerun_session_create(&session, model, &options), rank);
  const size_t H = ok ? (size_t)shape.hidden_width : 1;
  float *x = calloc((size_t)T * H, sizeof *x);
  float *y = calloc((size_t)T * H, sizeof *y);
  for (size_t i = 0; x != NULL && i < (size_t)T * H; i++) {
    x[i] = (float)(i % 7) / 7.0F - 0.5F;
  }
  ok = ok && check(moerun_moe_forward(session, 0, T, x, y), rank);
  if (ok) {
    (void)printf("rank %d: %d rows, last ends in %.6f\n", rank, T,
                 (double)y[(size_t)T * H - 1]);
  }
  free(x);
  free(y);
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  moerun_placement_destroy(placement);
  return ok;
}

/* Printed once, and all ranks end together. */
static int usage(void) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank == 0) (void)fprintf(stderr, "usage: step2 MODEL_DIR\n");
  (void)MPI_Finalize();
  return 2;
}

int main(int argc, char **argv) {
  moerun_comm *comm = NULL;
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return 1;
  if (argc != 2 || argv[1][0] == '-') return usage();
  const int ok =
      check(moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL), 0) &&
      run(comm, argv[1]);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return ok ? 0 : 1;
}
