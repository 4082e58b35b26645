/* Every rank over its budget gives rows of its hottest replica to the rank that
 * would end first, and so on until it is within its budget or what is left over
 * is not worth an expert's weights. First to where the weights are, of all
 * replicas: else the hottest replica, another one in every step, would be sent
 * anew while the guests of the steps before had nothing to do. Weights are sent
 * for what is left after that, hottest replica first, which is the most rows
 * for a byte. */
#include "runtime/plan/plan_give.h"

#include <string.h>

static int32_t expert_of(const moerun__demand *demand, int32_t replica) {
  int32_t low = 0;
  int32_t high = demand->num_experts;
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    if (demand->replica_of_expert[middle] - demand->first_replica <= replica) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

static int32_t replica_on(const moerun__demand *demand, int32_t expert,
                          int32_t rank) {
  const int32_t first =
      demand->replica_of_expert[expert] - demand->first_replica;
  const int32_t last =
      demand->replica_of_expert[expert + 1] - demand->first_replica;
  for (int32_t h = first; h < last; h++) {
    if (demand->rank_of[h] == rank) return h;
  }
  return -1;
}

static int64_t key_of(const moerun__demand *demand, int32_t expert) {
  return (int64_t)demand->layer * demand->num_experts + expert;
}

void moerun__plan_see_holders(moerun__giver *s) {
  const moerun__guest_table *guests = s->guests;
  const moerun__demand *demand = s->demand;
  const int64_t first = key_of(demand, 0);
  int32_t *holders = s->plan->holders;
  memset(holders, 0, (size_t)demand->num_replicas * sizeof *holders);
  for (int32_t r = 0; r < guests->num_ranks; r++) {
    for (int32_t g = 0; g < guests->per_layer; g++) {
      const int64_t expert =
          guests->key[moerun__guest_table_entry(guests, r, demand->layer, g)] -
          first;
      if (expert >= 0 && expert < demand->num_experts) holders[expert]++;
    }
  }
}

int64_t moerun__plan_fewest(const moerun__plan *plan, int32_t rank,
                            int64_t rows) {
  const int64_t fewest = rows * plan->speed[rank] / MOERUN_SPEED_ONE;
  return fewest > 1 ? fewest : 1;
}

/* ---- Who takes rows ------------------------------------------------------ */

/* Whether another replica has moved rows to the expert's guest on the rank. */
static int is_guest_by_now(const moerun__giver *s, int32_t rank) {
  const int32_t *offset = s->demand->replica_of_expert + s->expert;
  const int32_t first = offset[0] - s->demand->first_replica;
  const int32_t last = offset[1] - s->demand->first_replica;
  for (int32_t m = 0; last - first > 1 && m < s->plan->num_moves; m++) {
    const moerun__move *move = &s->plan->moves[m];
    if (move->rank == rank && move->replica >= first && move->replica < last) {
      return 1;
    }
  }
  return 0;
}

static moerun__access access_of(const moerun__giver *s, int32_t rank) {
  const moerun__demand *demand = s->demand;
  if (replica_on(demand, s->expert, rank) >= 0) return MOERUN_ACCESS_HOSTS;
  if (is_guest_by_now(s, rank)) return MOERUN_ACCESS_HOLDS;
  if (s->plan->guests[rank] >= s->guests->per_layer) return MOERUN_ACCESS_NONE;
  if (s->plan->holders[s->expert] > 0 &&
      moerun__guest_table_find(s->guests, rank, demand->layer,
                               key_of(demand, s->expert)) != MOERUN_NO_GUEST) {
    return MOERUN_ACCESS_HOLDS;
  }
  return MOERUN_ACCESS_IS_SENT;
}

/* Whether any rank but the replica's own may have this access to the
 * weights. */
static int may_have(const moerun__giver *s, moerun__access access) {
  const int32_t *offset = s->demand->replica_of_expert + s->expert;
  const int has_replicas = offset[1] - offset[0] > 1;
  if (access == MOERUN_ACCESS_HOSTS) return has_replicas;
  if (access == MOERUN_ACCESS_HOLDS) {
    return has_replicas || s->plan->holders[s->expert] > 0;
  }
  return 1;
}

static int has_move(const moerun__giver *s, int32_t rank) {
  for (int32_t m = s->first_move; m < s->plan->num_moves; m++) {
    if (s->plan->moves[m].rank == rank) return 1;
  }
  return 0;
}

/* The rank that would end first of those that have room for enough rows and
 * have this access to the weights; -1: none. */
static int32_t first_to_end(const moerun__giver *s, moerun__access access,
                            int64_t movable, int64_t least) {
  const moerun__plan *plan = s->plan;
  int32_t best = -1;
  for (int32_t r = 0; r < plan->num_ranks; r++) {
    const int64_t room = plan->budget[r] - plan->load[r];
    if ((room < movable ? room : movable) < least) continue;
    if (best >= 0 && plan->load[r] * plan->speed[best] >=
                         plan->load[best] * plan->speed[r]) {
      continue;
    }
    if (r == s->demand->rank_of[s->replica] || has_move(s, r)) continue;
    if (access_of(s, r) == access) best = r;
  }
  return best;
}

static void add_move(const moerun__giver *s, int32_t rank, int64_t rows,
                     moerun__access access) {
  moerun__plan *plan = s->plan;
  const int32_t replica = replica_on(s->demand, s->expert, rank);
  plan->guests[rank] +=
      access != MOERUN_ACCESS_HOSTS && !is_guest_by_now(s, rank);
  plan->moves[plan->num_moves++] = (moerun__move){
      .replica = s->replica,
      .rank = rank,
      .rows = (int32_t)rows,
      .slot = access == MOERUN_ACCESS_HOSTS ? s->demand->slot_of[replica]
                                            : MOERUN_NO_GUEST,
      .guest = MOERUN_NO_GUEST,
      .sends = access == MOERUN_ACCESS_IS_SENT};
  plan->load[rank] += rows;
  plan->load[s->demand->rank_of[s->replica]] -= rows;
  plan->kept[s->replica] -= rows;
}

/* Fewest rows of the replica that may move by this access. What counts is the
 * time that the replica's rank is relieved of: of a rank that is four times
 * slower a fourth of the rows are worth as much. */
static int64_t fewest_rows(const moerun__giver *s, moerun__access access) {
  const int64_t rows = access == MOERUN_ACCESS_IS_SENT
                           ? s->options.min_rows
                           : s->options.min_rows_held;
  return moerun__plan_fewest(s->plan, s->demand->rank_of[s->replica], rows);
}

/* Rows of one replica to others, as long as its rank has too many. A rank that
 * has had rows of the replica by an earlier access has no room for more, or the
 * replica has no more for it: the moves of this call are all that has_move must
 * see. */
static void give_away(moerun__giver *s, int32_t replica, moerun__access first,
                      moerun__access last) {
  moerun__plan *plan = s->plan;
  const int32_t rank = s->demand->rank_of[replica];
  const int64_t excess = plan->load[rank] - plan->budget[rank];
  int64_t movable = excess < plan->kept[replica] ? excess : plan->kept[replica];
  if (movable <= 0) return;
  s->replica = replica;
  s->expert = expert_of(s->demand, replica);
  s->first_move = plan->num_moves;
  for (moerun__access access = first; access <= last; access++) {
    const int64_t least = fewest_rows(s, access);
    while (movable >= least && may_have(s, access)) {
      const int32_t to = first_to_end(s, access, movable, least);
      if (to < 0) break;
      const int64_t room = plan->budget[to] - plan->load[to];
      const int64_t rows = room < movable ? room : movable;
      add_move(s, to, rows, access);
      movable -= rows;
    }
  }
}

/* Replicas of ranks over their budgets, hottest first, ties to the lower
 * number. */
static int32_t order_hosts(moerun__plan *plan, const moerun__demand *demand) {
  int32_t count = 0;
  for (int32_t h = 0; h < demand->num_replicas; h++) {
    const int32_t rank = demand->rank_of[h];
    if (plan->load[rank] <= plan->budget[rank] || plan->replica_rows[h] == 0) {
      continue;
    }
    int32_t at = count++;
    for (; at > 0 &&
           plan->replica_rows[plan->order[at - 1]] < plan->replica_rows[h];
         at--) {
      plan->order[at] = plan->order[at - 1];
    }
    plan->order[at] = h;
  }
  return count;
}

static int is_before(const moerun__move *a, const moerun__move *b) {
  return a->replica != b->replica ? a->replica < b->replica : a->rank < b->rank;
}

static void sort_moves(moerun__plan *plan) {
  for (int32_t m = 1; m < plan->num_moves; m++) {
    const moerun__move move = plan->moves[m];
    int32_t at = m;
    for (; at > 0 && is_before(&move, &plan->moves[at - 1]); at--) {
      plan->moves[at] = plan->moves[at - 1];
    }
    plan->moves[at] = move;
  }
}

void moerun__plan_give(moerun__giver *s) {
  moerun__plan *plan = s->plan;
  const size_t R = (size_t)plan->num_ranks;
  plan->num_moves = 0;
  memcpy(plan->load, plan->before, R * sizeof *plan->load);
  memcpy(plan->kept, plan->replica_rows,
         (size_t)s->demand->num_replicas * sizeof *plan->kept);
  memset(plan->guests, 0, R * sizeof *plan->guests);
  const int32_t count = order_hosts(plan, s->demand);
  for (int32_t i = 0; i < count; i++) {
    give_away(s, plan->order[i], MOERUN_ACCESS_HOSTS, MOERUN_ACCESS_HOLDS);
  }
  for (int32_t i = 0; i < count && s->last_access == MOERUN_ACCESS_IS_SENT;
       i++) {
    give_away(s, plan->order[i], MOERUN_ACCESS_HOLDS, MOERUN_ACCESS_IS_SENT);
  }
  sort_moves(plan);
}

/* ---- Guests -------------------------------------------------------------- */

void moerun__plan_seat_guests(moerun__plan *plan, moerun__guest_table *guests,
                              const moerun__demand *demand) {
  guests->plans++;
  for (int is_new = 0; is_new <= 1; is_new++) {
    for (int32_t m = 0; m < plan->num_moves; m++) {
      moerun__move *move = &plan->moves[m];
      if (move->slot != MOERUN_NO_GUEST || move->guest != MOERUN_NO_GUEST) {
        continue;
      }
      const int64_t key = key_of(demand, expert_of(demand, move->replica));
      int32_t guest =
          moerun__guest_table_find(guests, move->rank, demand->layer, key);
      if (guest == MOERUN_NO_GUEST && !is_new) continue;
      if (guest == MOERUN_NO_GUEST) {
        guest = moerun__guest_table_oldest(guests, move->rank, demand->layer);
      }
      moerun__guest_table_use(guests, move->rank, demand->layer, guest, key);
      move->guest = guest;
    }
  }
}
