/* Where the rows of one source go, by a plan that is made: rows of a host are
 * numbered by (source rank, token), so every source finds its own part alone.
 */
#include "runtime/plan/plan.h"

#include <string.h>

/* The destinations of one host: its own rank and its moves, by rank. */
typedef struct destination {
  int32_t rank;
  int32_t slot;
  int32_t guest;
  int64_t rows;
} destination;

/* Number i of them; `moves` are the host's, `kept` what it keeps. The host's
 * own rank stands where its number belongs. */
static destination destination_at(const moerun__demand *demand, int32_t host,
                                  const moerun__move *moves, int32_t count,
                                  int64_t kept, int32_t i) {
  const int32_t own = demand->rank_of[host];
  int32_t before = 0;
  while (before < count && moves[before].rank < own) {
    before++;
  }
  if (i == before) {
    return (destination){own, demand->slot_of[host], MOERUN_NO_GUEST, kept};
  }
  const moerun__move *move = &moves[i < before ? i : i - 1];
  return (destination){move->rank, move->slot, move->guest, move->rows};
}

static void add_part(moerun__plan *plan, int32_t *next, const destination *to,
                     int64_t rows) {
  if (rows == 0) return;
  plan->parts[(*next)++] =
      (moerun__part){to->rank, to->slot, to->guest, (int32_t)rows};
}

/* Rows of `source` for the host that stay on the source's own rank. */
static int64_t staying(const moerun__demand *demand, int32_t source,
                       int32_t host, const destination *to) {
  const int64_t rows = moerun__demand_rows(demand, source)[host];
  if (to->rank != source) return 0;
  return rows < to->rows ? rows : to->rows;
}

/* First the rows that stay on their own ranks; then sources and what is left of
 * destinations are matched in the order of ranks. */
static void split_host(moerun__plan *plan, const moerun__demand *demand,
                       int32_t source, int32_t host, const moerun__move *moves,
                       int32_t count, int32_t *next) {
  int64_t kept = plan->host_rows[host];
  int64_t before = 0; /* rows of earlier sources that do not stay */
  int64_t stays = 0;
  for (int32_t m = 0; m < count; m++) {
    kept -= moves[m].rows;
  }
  for (int32_t s = 0; s < source; s++) {
    before += moerun__demand_rows(demand, s)[host];
  }
  for (int32_t i = 0; i <= count; i++) {
    const destination to = destination_at(demand, host, moves, count, kept, i);
    if (to.rank < source) before -= staying(demand, to.rank, host, &to);
    if (to.rank != source) continue;
    stays = staying(demand, source, host, &to);
    add_part(plan, next, &to, stays);
  }
  int64_t left = moerun__demand_rows(demand, source)[host] - stays;
  for (int32_t i = 0; i <= count && left > 0; i++) {
    const destination to = destination_at(demand, host, moves, count, kept, i);
    int64_t open = to.rows - staying(demand, to.rank, host, &to);
    const int64_t taken = before < open ? before : open;
    before -= taken;
    open -= taken;
    add_part(plan, next, &to, left < open ? left : open);
    left -= left < open ? left : open;
  }
}

void moerun__plan_split(moerun__plan *plan, const moerun__demand *demand,
                        int32_t source) {
  int32_t move = 0;
  int32_t part = 0;
  for (int32_t h = 0; h < demand->num_hosts; h++) {
    plan->part_of[h] = part;
    const int32_t first = move;
    while (move < plan->num_moves && plan->moves[move].host == h) {
      move++;
    }
    if (move == first) continue;
    split_host(plan, demand, source, h, plan->moves + first, move - first,
               &part);
  }
  plan->part_of[demand->num_hosts] = part;
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
