/* Step 3: the whole decoder: greedy continuation of token ids.
 *
 *   mpirun -n 2 step3 MODEL_DIR NEW_TOKENS ID [ID ...]
 *
 * Rank 0 has the sequence; the others have no rows of their own (T = 0) but
 * take part in every step, because experts live there. */
#include <moerun/moerun_mpi.h>

#include <stdio.h>
#include <stdlib.h>

enum { MAX_T = 256 };

static int check(moerun_status status) {
  if (status == MOERUN_OK) return 1;
  if (status != MOERUN_ERR_PEER) {
    (void)fprintf(stderr, "step3: %s\n", moerun_last_error());
  }
  return 0;
}

/* Continues token[T] by `count` tokens, printing them on rank 0. */
static int generate(moerun_session *session, int32_t rank, int32_t V,
                    int32_t *token, int32_t T, int32_t count) {
  int32_t position[MAX_T];
  int32_t sequence[MAX_T] = {0};
  float *logits = calloc((size_t)V, sizeof *logits);
  int ok = logits != NULL;
  for (int32_t i = 0, fed = 0; ok && i < count; i++) {
    const int32_t last = T - 1;
    for (int32_t t = 0; t < T; t++) {
      position[t] = fed + t;
    }
    moerun_batch batch = {T, token, sequence, position, 1, &last};
    if (rank != 0) batch.num_tokens = batch.num_logits = 0;
    ok = check(moerun_forward(session, &batch, logits));
    if (!ok) break;
    int32_t best = 0;
    for (int32_t v = 1; v < V; v++) {
      if (logits[v] > logits[best]) best = v;
    }
    if (rank == 0) (void)printf("%d%c", best, i + 1 < count ? ' ' : '\n');
    fed += T;
    T = 1;
    token[0] = best;
  }
  free(logits);
  return ok;
}

static int run(moerun_comm *comm, int argc, char **argv) {
  int32_t token[MAX_T];
  moerun_model_shape shape = {.struct_size = sizeof shape};
  moerun_placement *placement = NULL;
  moerun_model *model = NULL;
  moerun_session *session = NULL;
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = MAX_T,
                                          .max_sequences = 1,
                                          .kv_tokens = 1024};
  int32_t T = 0;
  for (int i = 3; i < argc; i++) {
    token[T++] = (int32_t)strtol(argv[i], NULL, 10);
  }
  const int ok =
      check(moerun_model_shape_load(&shape, argv[1])) &&
      check(moerun_placement_create_block(&placement, shape.num_moe_layers,
                                          shape.num_experts,
                                          moerun_comm_size(comm))) &&
      check(moerun_model_load(&model, comm, placement, argv[1], NULL)) &&
      check(moerun_session_create(&session, model, &options)) &&
      generate(session, moerun_comm_rank(comm), shape.vocab_size, token, T,
               (int32_t)strtol(argv[2], NULL, 10));
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  moerun_placement_destroy(placement);
  return ok;
}

/* Whether the arguments behind the model are 2 to MAX_T + 1 numbers, the first
 * above 0. */
static int are_numbers(int argc, char **argv) {
  if (argc < 4 || argc > MAX_T + 3 || argv[1][0] == '-') return 0;
  for (int i = 2; i < argc; i++) {
    char *end = NULL;
    const long number = strtol(argv[i], &end, 10);
    const int is_number = end != argv[i] && *end == '\0';
    if (!is_number || number < (i == 2) || number > INT32_MAX) return 0;
  }
  return 1;
}

/* Printed once, and all ranks end together. */
static int usage(void) {
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  if (rank == 0) {
    (void)fprintf(stderr,
                  "usage: step3 MODEL_DIR NEW_TOKENS ID [ID ...] (at most %d "
                  "ids)\n",
                  MAX_T);
  }
  (void)MPI_Finalize();
  return 2;
}

int main(int argc, char **argv) {
  moerun_comm *comm = NULL;
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return 1;
  if (!are_numbers(argc, argv)) return usage();
  const int ok = check(moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL)) &&
                 run(comm, argc, argv);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return ok ? 0 : 1;
}
