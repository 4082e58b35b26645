/* Experts take turns. In each turn the next rank that wants the expert, those
 * with the longest work first, is sent it by the rank that can begin first: one
 * that hosts it, that holds it since an earlier plan or that has been sent it
 * by this one. With one expert and one replica that grows a binomial tree, the
 * fastest there is where a rank sends one message at a time; with many, ranks
 * whose links are busy with one expert leave the others to those that have
 * them. */
#include "runtime/plan/tree.h"

#include <string.h>

void moerun__tree_lay_out(moerun__plan *plan, moerun__arena *arena,
                          int32_t num_ranks, int32_t max_moves) {
  const size_t moves = (size_t)max_moves;
  plan->sends = moerun__arena_take(arena, moves, sizeof *plan->sends);
  plan->link =
      moerun__arena_take(arena, 2 * (size_t)num_ranks, sizeof *plan->link);
  plan->places = moerun__arena_take(arena, moves, sizeof *plan->places);
  plan->turn = moerun__arena_take(arena, moves, sizeof *plan->turn);
  plan->trees = moerun__arena_take(arena, moves, sizeof *plan->trees);
}

/* ---- Trees before they grow ---------------------------------------------- */

static int takes_longer(const moerun__plan *plan, int32_t a, int32_t b) {
  const moerun__move *x = &plan->moves[a];
  const moerun__move *y = &plan->moves[b];
  return (int64_t)x->rows * plan->speed[y->rank] >
         (int64_t)y->rows * plan->speed[x->rank];
}

/* Whether an earlier place of the tree is on the same rank: another replica
 * has moved rows there. */
static int is_placed(const moerun__plan *plan, const moerun__tree *tree,
                     int32_t rank) {
  for (int32_t i = tree->first; i < tree->last; i++) {
    if (plan->moves[plan->places[i]].rank == rank) return 1;
  }
  return 0;
}

static void add_place(moerun__plan *plan, moerun__tree *tree, int32_t move) {
  int32_t at = tree->last++;
  for (; at > tree->next && takes_longer(plan, move, plan->places[at - 1]);
       at--) {
    plan->places[at] = plan->places[at - 1];
  }
  plan->places[at] = move;
  plan->turn[move] = 0;
}

/* The guests among moves first..last-1, all of one expert: ranks that are sent
 * the weights, and before them those that have them. */
static void place_guests(moerun__plan *plan, moerun__tree *tree, int32_t first,
                         int32_t last) {
  for (int32_t m = first; m < last; m++) {
    if (plan->moves[m].sends) add_place(plan, tree, m);
  }
  const int32_t wanting = tree->last - tree->first;
  for (int32_t m = first; m < last && wanting > 0; m++) {
    const moerun__move *move = &plan->moves[m];
    if (move->slot != MOERUN_NO_GUEST || is_placed(plan, tree, move->rank)) {
      continue;
    }
    memmove(plan->places + tree->next + 1, plan->places + tree->next,
            (size_t)(tree->last - tree->next) * sizeof *plan->places);
    plan->places[tree->next++] = m;
    plan->turn[m] = 0;
    tree->last++;
  }
}

/* One tree for each expert that is sent anywhere; returns their number. */
static int32_t plant(moerun__plan *plan, const moerun__demand *demand) {
  int32_t count = 0;
  int32_t place = 0;
  int32_t m = 0;
  for (int32_t e = 0; e < demand->num_experts && m < plan->num_moves; e++) {
    const int32_t last_replica =
        demand->replica_of_expert[e + 1] - demand->first_replica;
    const int32_t first = m;
    while (m < plan->num_moves && plan->moves[m].replica < last_replica) {
      m++;
    }
    moerun__tree *tree = &plan->trees[count];
    *tree = (moerun__tree){demand->replica_of_expert[e] - demand->first_replica,
                           last_replica, place, place, place};
    place_guests(plan, tree, first, m);
    place = tree->last;
    count += tree->last > tree->next;
  }
  return count;
}

/* ---- Growth -------------------------------------------------------------- */

/* Who sends the tree's expert next, and when; ties to the rank that came by it
 * last, so that those at the root are left to other experts. */
static moerun__send next_send(const moerun__plan *plan,
                              const moerun__demand *demand,
                              const moerun__tree *tree) {
  moerun__send best = {.turn = INT32_MAX};
  for (int32_t i = tree->next - 1; i >= tree->first; i--) {
    const int32_t m = plan->places[i];
    const int32_t rank = plan->moves[m].rank;
    const int32_t free = plan->link[rank];
    const int32_t start = free > plan->turn[m] ? free : plan->turn[m];
    if (start >= best.turn) continue;
    best = (moerun__send){.from = rank,
                          .from_slot = MOERUN_NO_GUEST,
                          .from_move = m,
                          .turn = start};
  }
  for (int32_t h = tree->first_replica; h < tree->last_replica; h++) {
    const int32_t rank = demand->rank_of[h];
    if (plan->link[rank] >= best.turn) continue;
    best = (moerun__send){.from = rank,
                          .from_slot = demand->slot_of[h],
                          .from_move = -1,
                          .turn = plan->link[rank]};
  }
  best.move = plan->places[tree->next];
  return best;
}

static void grow(moerun__plan *plan, const moerun__demand *demand,
                 moerun__tree *tree) {
  moerun__send send = next_send(plan, demand, tree);
  int32_t *in = &plan->link[plan->num_ranks + plan->moves[send.move].rank];
  if (*in > send.turn) send.turn = *in;
  send.turn++;
  *in = send.turn;
  plan->link[send.from] = send.turn;
  plan->turn[send.move] = send.turn;
  plan->sends[plan->num_sends++] = send;
  tree->next++;
}

void moerun__tree_grow(moerun__plan *plan, const moerun__demand *demand) {
  plan->num_sends = 0;
  memset(plan->link, 0, 2 * (size_t)plan->num_ranks * sizeof *plan->link);
  const int32_t count = plant(plan, demand);
  int grew = count > 0;
  while (grew) {
    grew = 0;
    for (int32_t t = 0; t < count; t++) {
      moerun__tree *tree = &plan->trees[t];
      if (tree->next == tree->last) continue;
      grow(plan, demand, tree);
      grew = 1;
    }
  }
}
