/* Few rows cost what reading the weights costs, many what computing takes: so
 * times are measured for powers of two and not taken as a line. */
#include "runtime/plan/slice_costs.h"

#include <string.h>

/* Slices are taken if better by a twentieth and one exchange, the least of
 * which the time is certain. */
enum { MARGIN = 21, OF = 20 };

int64_t moerun__slice_cost(const int64_t points[MOERUN_COST_POINTS],
                           int64_t rows) {
  const int last = MOERUN_COST_POINTS - 1;
  if (rows <= 0) return 0;
  if (rows >= INT64_C(1) << last) return points[last] * rows >> last;
  int i = 0;
  while (rows >> (i + 1) > 0) {
    i++;
  }
  const int64_t beyond = rows - (INT64_C(1) << i);
  return points[i] + ((points[i + 1] - points[i]) * beyond >> i);
}

static int64_t kib(int64_t bytes) {
  return (bytes + 1023) / 1024;
}

static int64_t terms_of(const moerun__plan *plan,
                        const moerun__demand *demand) {
  int64_t terms = 0;
  for (int32_t h = 0; h < demand->num_replicas; h++) {
    terms += plan->replica_rows[h];
  }
  return terms;
}

int64_t moerun__whole_time(const moerun__slice_offer *offer, moerun__plan *plan,
                           const moerun__demand *demand) {
  const moerun__slice_costs *costs = offer->costs;
  int32_t *moved = plan->order;
  int64_t most = 0;
  memset(offer->time, 0, (size_t)plan->num_ranks * sizeof *offer->time);
  memset(moved, 0, (size_t)demand->num_replicas * sizeof *moved);
  for (int32_t m = 0; m < plan->num_moves; m++) {
    const moerun__move *move = &plan->moves[m];
    moved[move->replica] += move->rows;
    offer->time[move->rank] += moerun__slice_cost(costs->whole, move->rows) +
                               (move->sends ? costs->weights : 0);
  }
  for (int32_t h = 0; h < demand->num_replicas; h++) {
    offer->time[demand->rank_of[h]] +=
        moerun__slice_cost(costs->whole, plan->replica_rows[h] - moved[h]);
  }
  for (int32_t r = 0; r < plan->num_ranks; r++) {
    const int64_t time = offer->time[r] * MOERUN_SPEED_ONE / plan->speed[r];
    if (time > most) most = time;
  }
  /* Rows go out and results come home. */
  const int64_t bytes = terms_of(plan, demand) *
                        (offer->row_bytes + offer->result_bytes) /
                        plan->num_ranks;
  return most + 2 * costs->spread + kib(bytes) * costs->spread_kib;
}

int64_t moerun__sliced_time(const moerun__slice_offer *offer,
                            const moerun__plan *plan,
                            const moerun__demand *demand) {
  const moerun__slice_costs *costs = offer->costs;
  int64_t time = 0;
  int64_t slowest = MOERUN_SPEED_ONE; /* over what its slices are made for */
  for (int32_t e = 0; e < demand->num_experts; e++) {
    const int32_t first = demand->replica_of_expert[e] - demand->first_replica;
    const int32_t last =
        demand->replica_of_expert[e + 1] - demand->first_replica;
    int64_t rows = 0;
    for (int32_t h = first; h < last; h++) {
      rows += plan->replica_rows[h];
    }
    time += moerun__slice_cost(costs->slice, rows);
  }
  for (int32_t r = 0; r < plan->num_ranks; r++) {
    const int64_t slow =
        (int64_t)offer->speed[r] * MOERUN_SPEED_ONE / plan->speed[r];
    if (slow > slowest) slowest = slow;
  }
  const int64_t terms = terms_of(plan, demand);
  const int64_t bytes = offer->rows * offer->row_bytes +
                        terms * offer->h_bytes +
                        terms * offer->result_bytes / plan->num_ranks;
  return time * slowest / MOERUN_SPEED_ONE + 3 * offer->rounds * costs->spread +
         kib(bytes) * costs->spread_kib;
}

int64_t moerun__slices_gain(const void *offer, moerun__plan *plan,
                            const moerun__demand *demand) {
  const moerun__slice_offer *slices = offer;
  if (slices->always) return INT64_MAX;
  const int64_t sliced = moerun__sliced_time(slices, plan, demand);
  const int64_t gain = moerun__whole_time(slices, plan, demand) * OF -
                       (sliced + slices->costs->spread) * MARGIN;
  return gain > 0 ? (gain + OF - 1) / OF : 0;
}
