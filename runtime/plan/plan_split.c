/* Where the rows of one rank go, by a plan that is made: rows of a replica are
 * numbered by (source rank, token), but for those that stay on their own ranks.
 * So a rank finds its own part from three sums: its own rows, those of the
 * ranks below it, and how many stay on each of the few ranks that the replica's
 * rows go to. Nobody needs to know what each rank wants of each replica. */
#include "runtime/plan/plan.h"

#include <string.h>

/* The destinations of one replica: its own rank and its moves, by rank. */
typedef struct destination {
  int32_t rank;
  int32_t slot;
  int32_t guest;
  int64_t rows;
} destination;

/* A replica whose rows are moved. */
typedef struct moved_replica {
  int32_t replica;
  int32_t count;             /* of moves */
  const moerun__move *moves; /* [count] */
  int64_t kept;              /* rows that it keeps */
  int32_t *staying;          /* [count + 1] of each destination */
} moved_replica;

/* The next replica with moves from plan->moves[*move] on, and its place among
 * the staying; 0: there is none. */
static int next_moved(moved_replica *of, const moerun__plan *plan,
                      int32_t *move, int32_t *place) {
  const int32_t first = *move;
  if (first == plan->num_moves) return 0;
  *of = (moved_replica){.replica = plan->moves[first].replica,
                        .moves = plan->moves + first,
                        .kept = plan->replica_rows[plan->moves[first].replica],
                        .staying = plan->staying + *place};
  while (*move < plan->num_moves && plan->moves[*move].replica == of->replica) {
    of->kept -= plan->moves[*move].rows;
    (*move)++;
  }
  of->count = *move - first;
  *place += of->count + 1;
  return 1;
}

/* Number i of them. The replica's own rank stands where its number belongs. */
static destination destination_at(const moerun__demand *demand,
                                  const moved_replica *of, int32_t i) {
  const int32_t own = demand->rank_of[of->replica];
  int32_t before = 0;
  while (before < of->count && of->moves[before].rank < own) {
    before++;
  }
  if (i == before) {
    return (destination){own, demand->slot_of[of->replica], MOERUN_NO_GUEST,
                         of->kept};
  }
  const moerun__move *move = &of->moves[i < before ? i : i - 1];
  return (destination){move->rank, move->slot, move->guest, move->rows};
}

int32_t moerun__plan_stay(moerun__plan *plan, const moerun__demand *demand,
                          int32_t rank) {
  moved_replica of;
  int32_t move = 0;
  int32_t place = 0;
  while (next_moved(&of, plan, &move, &place)) {
    const int64_t own = demand->own[of.replica];
    for (int32_t i = 0; i <= of.count; i++) {
      const destination to = destination_at(demand, &of, i);
      const int64_t stays = own < to.rows ? own : to.rows;
      of.staying[i] = to.rank == rank ? (int32_t)stays : 0;
    }
  }
  return place;
}

static void add_part(moerun__plan *plan, int32_t *next, const destination *to,
                     int64_t rows) {
  if (rows == 0) return;
  plan->portions[(*next)++] =
      (moerun__portion){to->rank, to->slot, to->guest, (int32_t)rows};
}

/* First the rows that stay on their own ranks; then sources and what is left of
 * destinations are matched in the order of ranks. */
static void split_replica(moerun__plan *plan, const moerun__demand *demand,
                          int32_t rank, const moved_replica *of,
                          int32_t *next) {
  int64_t before = demand->before[of->replica]; /* that do not stay */
  int64_t left = demand->own[of->replica];
  for (int32_t i = 0; i <= of->count; i++) {
    const destination to = destination_at(demand, of, i);
    if (to.rank < rank) before -= of->staying[i];
    if (to.rank != rank) continue;
    left -= of->staying[i];
    add_part(plan, next, &to, of->staying[i]);
  }
  for (int32_t i = 0; i <= of->count && left > 0; i++) {
    const destination to = destination_at(demand, of, i);
    int64_t open = to.rows - of->staying[i];
    const int64_t taken = before < open ? before : open;
    before -= taken;
    open -= taken;
    add_part(plan, next, &to, left < open ? left : open);
    left -= left < open ? left : open;
  }
}

void moerun__plan_split(moerun__plan *plan, const moerun__demand *demand,
                        int32_t rank) {
  moved_replica of;
  int32_t move = 0;
  int32_t place = 0;
  int32_t portion = 0;
  int32_t replica = 0;
  while (next_moved(&of, plan, &move, &place)) {
    for (; replica <= of.replica; replica++) {
      plan->portion_of[replica] = portion;
    }
    split_replica(plan, demand, rank, &of, &portion);
  }
  for (; replica <= demand->num_replicas; replica++) {
    plan->portion_of[replica] = portion;
  }
  memcpy(plan->next_portion, plan->portion_of,
         (size_t)demand->num_replicas * sizeof *plan->next_portion);
}

const moerun__portion *moerun__plan_next(moerun__plan *plan, int32_t replica) {
  if (plan->portion_of[replica] == plan->portion_of[replica + 1]) return NULL;
  moerun__portion *portion = &plan->portions[plan->next_portion[replica]];
  portion->rows--;
  plan->next_portion[replica] += portion->rows == 0;
  return portion;
}
