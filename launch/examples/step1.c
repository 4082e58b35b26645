/* Step 1: one mixture-of-experts layer on one rank, no MPI.
 *
 *   step1 MODEL_DIR
 *
 * Loads the gates and experts of a Hugging Face checkpoint and runs layer 0 on
 * three rows. */
#include <moerun/moerun.h>

#include <stdio.h>
#include <stdlib.h>

enum { T = 3 };

static int check(moerun_status status) {
  if (status == MOERUN_OK) return 1;
  (void)fprintf(stderr, "step1: %s\n", moerun_last_error());
  return 0;
}

int main(int argc, char **argv) {
  moerun_model_shape shape = {.struct_size = sizeof shape};
  moerun_comm *comm = NULL;
  moerun_placement *placement = NULL;
  moerun_model *model = NULL;
  moerun_session *session = NULL;
  float *x = NULL;
  float *y = NULL;
  const moerun_model_options layers_only = {.struct_size = sizeof layers_only,
                                            .moe_only = 1};
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = T};
  if (argc != 2 || argv[1][0] == '-') {
    (void)fprintf(stderr, "usage: step1 MODEL_DIR\n");
    return 2;
  }
  int ok = check(moerun_model_shape_load(&shape, argv[1])) &&
           check(moerun_comm_create_self(&comm)) &&
           check(moerun_placement_create_block(&placement, shape.num_moe_layers,
                                               shape.num_experts, 1)) &&
           check(moerun_model_load(&model, comm, placement, argv[1],
                                   &layers_only)) &&
           check(moerun_session_create(&session, model, &options));
  if (ok) {
    const size_t H = (size_t)shape.hidden_width;
    x = calloc(T * H, sizeof *x);
    y = calloc(T * H, sizeof *y);
    ok = x != NULL && y != NULL;
    for (size_t i = 0; ok && i < T * H; i++) {
      x[i] = (float)(i % 7) / 7.0F - 0.5F;
    }
    ok = ok && check(moerun_moe_forward(session, 0, T, x, y));
    for (size_t t = 0; ok && t < T; t++) {
      (void)printf("row %zu: %.6f %.6f %.6f ...\n", t, (double)y[t * H],
                   (double)y[t * H + 1], (double)y[t * H + 2]);
    }
  }
  free(x);
  free(y);
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  moerun_placement_destroy(placement);
  moerun_comm_destroy(comm);
  return ok ? 0 : 1;
}
