/* Step 4: a program that is no language model, with its own gate and experts.
 *
 *   mpirun -n 4 step4 [POINTS]
 *
 * A function of the plane is known by E small networks, each of them right at
 * its own centre, and a point asks the two nearest. Most points lie in one
 * corner, so after a first round the rows of each expert are added up and the
 * experts are placed anew: the same bits, and loads that are even. */
#include <moerun/moerun_mpi.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { E = 12, K = 2, H = 4, F = 1, MAX_POINTS = 100000 };

/* The work of one rank: every R-th point. */
typedef struct points {
  int32_t count;
  float *x;       /* [count][H]: both coordinates, 1, 0 */
  float *y;       /* [count][H]: the answer, then zeros */
  int32_t *ids;   /* [count][K] */
  float *weights; /* [count][K] */
} points;

/* One expert's arrays, made when moerun asks for them. */
typedef struct network {
  float gate[F][H];
  float up[F][H];
  float down[H][F];
} network;

static int check(moerun_status status) {
  if (status == MOERUN_OK) return 1;
  if (status != MOERUN_ERR_PEER) { /* the rank at fault speaks, once */
    (void)fprintf(stderr, "step4: %s\n", moerun_last_error());
  }
  return 0;
}

static float truth(float u, float v) {
  return u * u * (1 - v) + v * v;
}

static void centre(int32_t e, float *u, float *v) {
  const int32_t column = e % 4;
  const int32_t row = e / 4;
  *u = ((float)column + 0.5F) / 4;
  *v = ((float)row + 0.5F) / 3;
}

/* h = silu(8) * (slope * x), down divides by silu(8): the tangent plane. */
static moerun_status load_expert(void *context, int32_t layer, int32_t expert,
                                 moerun_expert_arrays *arrays) {
  network *n = context;
  float u = 0;
  float v = 0;
  (void)layer;
  centre(expert, &u, &v);
  const float du = 2 * u * (1 - v);
  const float dv = 2 * v - u * u;
  memset(n, 0, sizeof *n);
  n->gate[0][2] = 8;
  n->up[0][0] = du;
  n->up[0][1] = dv;
  n->up[0][2] = truth(u, v) - du * u - dv * v;
  n->down[0][0] = 1 / 7.997317F;
  *arrays = (moerun_expert_arrays){n->gate, n->up, n->down};
  return MOERUN_OK;
}

/* The two nearest centres, the nearer the heavier. */
static void choose(const float *x, int32_t *ids, float *weights) {
  float best[K] = {9, 9};
  for (int32_t e = 0; e < E; e++) {
    float u = 0;
    float v = 0;
    centre(e, &u, &v);
    const float d = (x[0] - u) * (x[0] - u) + (x[1] - v) * (x[1] - v);
    const int nearest = d < best[0];
    if (d >= best[1]) continue;
    best[1] = nearest ? best[0] : d;
    ids[1] = nearest ? ids[0] : e;
    if (nearest) best[0] = d;
    if (nearest) ids[0] = e;
  }
  weights[0] = best[1] / (best[0] + best[1]);
  weights[1] = best[0] / (best[0] + best[1]);
}

static int make_points(points *p, int32_t all, int32_t rank, int32_t R) {
  p->count = (all - rank + R - 1) / R;
  const size_t rows = (size_t)p->count + 1; /* a rank may have none */
  p->x = calloc(rows * H, sizeof *p->x);
  p->y = calloc(rows * H, sizeof *p->y);
  p->ids = calloc(rows * K, sizeof *p->ids);
  p->weights = calloc(rows * K, sizeof *p->weights);
  if (!p->x || !p->y || !p->ids || !p->weights) return 0;
  for (int32_t i = 0; i < p->count; i++) {
    const int32_t number = rank + i * R;
    const float a = (float)(number * 37 % 101) / 101;
    const float b = (float)(number * 59 % 103) / 103;
    float *x = p->x + (size_t)i * H;
    x[0] = a * a;
    x[1] = b * b;
    x[2] = 1;
    choose(x, p->ids + (size_t)i * K, p->weights + (size_t)i * K);
  }
  return 1;
}

static void free_points(const points *p) {
  free(p->x);
  free(p->y);
  free(p->ids);
  free(p->weights);
}

/* All points through the layer; counts[E] of all ranks, and what is printed. */
static int run_round(moerun_comm *comm, const moerun_placement *placement,
                     const points *p, int64_t *counts, const char *name) {
  network room;
  moerun_model *model = NULL;
  moerun_session *session = NULL;
  moerun_counters c = {.struct_size = sizeof c};
  const moerun_model_source source = {.struct_size = sizeof source,
                                      .num_moe_layers = 1,
                                      .num_experts = E,
                                      .experts_per_token = K,
                                      .hidden_width = H,
                                      .expert_width = F,
                                      .load_expert = load_expert,
                                      .context = &room};
  const moerun_session_options options = {.struct_size = sizeof options,
                                          .max_tokens = MAX_POINTS,
                                          .balance = MOERUN_BALANCE_OFF};
  const int ok = check(moerun_model_create(&model, comm, placement, &source)) &&
                 check(moerun_session_create(&session, model, &options)) &&
                 check(moerun_moe_forward_routed(session, 0, p->count, p->x,
                                                 p->ids, p->weights, p->y)) &&
                 check(moerun_session_counters(session, &c));
  if (ok) {
    float worst = 0;
    int64_t busiest = c.expert_rows;
    for (size_t i = 0; i < (size_t)p->count; i++) {
      const float error = p->y[i * H] - truth(p->x[i * H], p->x[i * H + 1]);
      if (error > worst || -error > worst) worst = error > 0 ? error : -error;
    }
    MPI_Allreduce(c.rows_of_expert, counts, E, MPI_INT64_T, MPI_SUM,
                  MPI_COMM_WORLD);
    MPI_Allreduce(MPI_IN_PLACE, &worst, 1, MPI_FLOAT, MPI_MAX, MPI_COMM_WORLD);
    MPI_Allreduce(MPI_IN_PLACE, &busiest, 1, MPI_INT64_T, MPI_MAX,
                  MPI_COMM_WORLD);
    (void)printf("%s: rank %d: %lld rows sent, %lld bytes, %lld computed\n",
                 name, moerun_comm_rank(comm), (long long)c.rows_out,
                 (long long)c.row_bytes, (long long)c.expert_rows);
    if (moerun_comm_rank(comm) == 0) {
      (void)printf("%s: largest error %.9f\n%s: busiest rank %lld\n", name,
                   (double)worst, name, (long long)busiest);
    }
  }
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  return ok;
}

/* Who computes what from now on. */
static void print_experts(const moerun_placement *placement, int32_t rank) {
  (void)printf("experts of rank %d:", rank);
  for (int32_t e = 0; e < moerun_placement_num_experts(placement); e++) {
    if (moerun_placement_slot(placement, 0, e, rank) >= 0) {
      (void)printf(" %d", e);
    }
  }
  (void)printf("\n");
}

static int run(moerun_comm *comm, int32_t all) {
  const int32_t R = moerun_comm_size(comm);
  points p = {0};
  int64_t counts[E];
  moerun_placement *blocks = NULL;
  moerun_placement *even = NULL;
  const moerun_placement_problem problem = {.struct_size = sizeof problem,
                                            .counts = counts,
                                            .num_layers = 1,
                                            .num_experts = E,
                                            .num_ranks = R};
  const int ok = make_points(&p, all, moerun_comm_rank(comm), R) &&
                 check(moerun_placement_create_block(&blocks, 1, E, R)) &&
                 run_round(comm, blocks, &p, counts, "blocks") &&
                 check(moerun_placement_solve(&even, &problem)) &&
                 run_round(comm, even, &p, counts, "placed");
  if (ok) print_experts(even, moerun_comm_rank(comm));
  moerun_placement_destroy(even);
  moerun_placement_destroy(blocks);
  free_points(&p);
  return ok;
}

int main(int argc, char **argv) {
  moerun_comm *comm = NULL;
  int rank = 0;
  char *end = "";
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return 1;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  const long all = argc == 2 ? strtol(argv[1], &end, 10) : 1000;
  if (argc > 2 || *end != '\0' || all < 1 || all > MAX_POINTS) {
    if (rank == 0) {
      (void)fprintf(stderr, "usage: step4 [POINTS] (1 to %d)\n", MAX_POINTS);
    }
    (void)MPI_Finalize();
    return 2;
  }
  const int ok = check(moerun_comm_create_mpi(&comm, MPI_COMM_WORLD, NULL)) &&
                 run(comm, (int32_t)all);
  moerun_comm_destroy(comm);
  (void)MPI_Finalize();
  return ok ? 0 : 1;
}
