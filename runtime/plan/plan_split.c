/* Where the rows of one rank go, by a plan that is made: rows of a host are
 * numbered by (source rank, token), but for those that stay on their own ranks.
 * So a rank finds its own part from three sums: its own rows, those of the
 * ranks below it, and how many stay on each of the few ranks that the host's
 * rows go to. Nobody needs to know what each rank wants of each host. */
#include "runtime/plan/plan.h"

#include <string.h>

/* The destinations of one host: its own rank and its moves, by rank. */
typedef struct destination {
  int32_t rank;
  int32_t slot;
  int32_t guest;
  int64_t rows;
} destination;

/* A host whose rows are moved. */
typedef struct moved_host {
  int32_t host;
  int32_t count;             /* of moves */
  const moerun__move *moves; /* [count] */
  int64_t kept;              /* rows that it keeps */
  int32_t *staying;          /* [count + 1] of each destination */
} moved_host;

/* The next host with moves from plan->moves[*move] on, and its place among the
 * staying; 0: there is none. */
static int next_moved(moved_host *of, const moerun__plan *plan, int32_t *move,
                      int32_t *place) {
  const int32_t first = *move;
  if (first == plan->num_moves) return 0;
  *of = (moved_host){.host = plan->moves[first].host,
                     .moves = plan->moves + first,
                     .kept = plan->host_rows[plan->moves[first].host],
                     .staying = plan->staying + *place};
  while (*move < plan->num_moves && plan->moves[*move].host == of->host) {
    of->kept -= plan->moves[*move].rows;
    (*move)++;
  }
  of->count = *move - first;
  *place += of->count + 1;
  return 1;
}

/* Number i of them. The host's own rank stands where its number belongs. */
static destination destination_at(const moerun__demand *demand,
                                  const moved_host *of, int32_t i) {
  const int32_t own = demand->rank_of[of->host];
  int32_t before = 0;
  while (before < of->count && of->moves[before].rank < own) {
    before++;
  }
  if (i == before) {
    return (destination){own, demand->slot_of[of->host], MOERUN_NO_GUEST,
                         of->kept};
  }
  const moerun__move *move = &of->moves[i < before ? i : i - 1];
  return (destination){move->rank, move->slot, move->guest, move->rows};
}

int32_t moerun__plan_stay(moerun__plan *plan, const moerun__demand *demand,
                          int32_t rank) {
  moved_host of;
  int32_t move = 0;
  int32_t place = 0;
  while (next_moved(&of, plan, &move, &place)) {
    const int64_t own = demand->own[of.host];
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
  plan->parts[(*next)++] =
      (moerun__part){to->rank, to->slot, to->guest, (int32_t)rows};
}

/* First the rows that stay on their own ranks; then sources and what is left of
 * destinations are matched in the order of ranks. */
static void split_host(moerun__plan *plan, const moerun__demand *demand,
                       int32_t rank, const moved_host *of, int32_t *next) {
  int64_t before = demand->before[of->host]; /* that do not stay */
  int64_t left = demand->own[of->host];
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
  moved_host of;
  int32_t move = 0;
  int32_t place = 0;
  int32_t part = 0;
  int32_t host = 0;
  while (next_moved(&of, plan, &move, &place)) {
    for (; host <= of.host; host++) {
      plan->part_of[host] = part;
    }
    split_host(plan, demand, rank, &of, &part);
  }
  for (; host <= demand->num_hosts; host++) {
    plan->part_of[host] = part;
  }
  memcpy(plan->next_part, plan->part_of,
         (size_t)demand->num_hosts * sizeof *plan->next_part);
}

const moerun__part *moerun__plan_next(moerun__plan *plan, int32_t host) {
  if (plan->part_of[host] == plan->part_of[host + 1]) return NULL;
  moerun__part *part = &plan->parts[plan->next_part[host]];
  part->rows--;
  plan->next_part[host] += part->rows == 0;
  return part;
}
