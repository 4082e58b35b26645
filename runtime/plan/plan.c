/* Budgets are the ranks' shares of a layer's rows by speed; ranks over theirs
 * give rows away (plan_give.c). Several plans are made and the one that ends
 * first is taken: with the weights where they are, with weights that are sent,
 * with less for ranks that wait for weights, and with more room on all ranks
 * where rows that are worth weights did not fit. All in 64-bit integers: a plan
 * that differed between ranks would be a deadlock.
 *
 * Weights that are sent stay. What they cost is therefore no cost of one step:
 * a layer that has ended n plans in a row unevenly is taken to do so n times
 * more, so its next plan reckons with 1 / (n + 1) of it. Until the weights are
 * sent, no more is lost by waiting than sending them would have cost twice. */
#include "runtime/plan/plan_give.h"
#include "runtime/plan/tree.h"

#include "runtime/base/digest.h"

#include <string.h>

/* ---- Memory -------------------------------------------------------------- */

/* Every move empties a replica, ends an excess or fills a rank. */
static int32_t most_moves(int32_t num_ranks, int32_t max_replicas) {
  return max_replicas + 2 * num_ranks;
}

void moerun__plan_lay_out(moerun__plan *plan, moerun__arena *arena,
                          int32_t num_ranks, int32_t max_replicas) {
  const size_t R = (size_t)num_ranks;
  const size_t P = (size_t)max_replicas;
  plan->num_ranks = num_ranks;
  plan->max_moves = most_moves(num_ranks, max_replicas);
  const size_t moves = (size_t)plan->max_moves;
  plan->moves = moerun__arena_take(arena, moves, sizeof *plan->moves);
  plan->before = moerun__arena_take(arena, R, sizeof *plan->before);
  plan->load = moerun__arena_take(arena, R, sizeof *plan->load);
  plan->budget = moerun__arena_take(arena, R, sizeof *plan->budget);
  plan->speed = moerun__arena_take(arena, R, sizeof *plan->speed);
  plan->staying = moerun__arena_take(arena, 2 * moves, sizeof *plan->staying);
  plan->portions = moerun__arena_take(arena, 2 * moves, sizeof *plan->portions);
  plan->portion_of = moerun__arena_take(arena, P + 1, sizeof *plan->portion_of);
  plan->next_portion = moerun__arena_take(arena, P, sizeof *plan->next_portion);
  plan->replica_rows = moerun__arena_take(arena, P, sizeof *plan->replica_rows);
  plan->kept = moerun__arena_take(arena, P, sizeof *plan->kept);
  plan->holders = moerun__arena_take(arena, P, sizeof *plan->holders);
  plan->order = moerun__arena_take(arena, P > R ? P : R, sizeof *plan->order);
  plan->guests = moerun__arena_take(arena, R, sizeof *plan->guests);
  plan->late = moerun__arena_take(arena, R, sizeof *plan->late);
  plan->lost = moerun__arena_take(arena, R, sizeof *plan->lost);
  plan->reserve = moerun__arena_take(arena, R, sizeof *plan->reserve);
  plan->best = moerun__arena_take(arena, R, sizeof *plan->best);
  moerun__tree_lay_out(plan, arena, plan->num_ranks, plan->max_moves);
}

/* ---- Speeds and budgets -------------------------------------------------- */

int32_t moerun__plan_speed(int32_t behind) {
  /* 2^16 times 2^(i / 16) */
  static const int32_t fraction[MOERUN_SPEED_OCTAVE] = {
      65536, 68438, 71468,  74632,  77936,  81386,  84990,  88752,
      92682, 96785, 101070, 105545, 110218, 115098, 120194, 125515};
  if (behind > MOERUN_SLOWEST) behind = MOERUN_SLOWEST;
  const int32_t octaves =
      (behind + MOERUN_SPEED_OCTAVE - 1) / MOERUN_SPEED_OCTAVE;
  return fraction[octaves * MOERUN_SPEED_OCTAVE - behind] >> octaves;
}

void moerun__plan_shares(int64_t *share, int64_t total, const int32_t *speed,
                         int32_t num_ranks) {
  int64_t sum = 0;
  int64_t given = 0;
  for (int32_t r = 0; r < num_ranks; r++) {
    sum += speed[r];
  }
  for (int32_t r = 0; r < num_ranks; r++) {
    share[r] = total * speed[r] / sum;
    given += share[r];
  }
  /* Fewer than R rows are left. Of what a rank's exact share has beyond its
   * whole rows, the one with the most gets the next row. */
  for (; given < total; given++) {
    int32_t best = 0;
    int64_t most = -1;
    for (int32_t r = 0; r < num_ranks; r++) {
      const int64_t left = total * speed[r] - share[r] * sum;
      if (left > most) {
        most = left;
        best = r;
      }
    }
    share[best]++;
  }
}

int64_t moerun__plan_even_share(int64_t total, int32_t num_ranks,
                                int32_t rank) {
  return total / num_ranks + (rank < total % num_ranks);
}

static int64_t count_loads(moerun__plan *plan, const moerun__demand *demand) {
  int64_t total = 0;
  memset(plan->load, 0, (size_t)demand->num_ranks * sizeof *plan->load);
  for (int32_t h = 0; h < demand->num_replicas; h++) {
    plan->replica_rows[h] = demand->rows[h];
    plan->load[demand->rank_of[h]] += plan->replica_rows[h];
    total += plan->replica_rows[h];
  }
  memcpy(plan->before, plan->load,
         (size_t)demand->num_ranks * sizeof *plan->load);
  return total;
}

static void read_speeds(moerun__plan *plan, const moerun__demand *demand) {
  int32_t fastest = demand->speed[0];
  for (int32_t r = 1; r < demand->num_ranks; r++) {
    if (demand->speed[r] > fastest) fastest = demand->speed[r];
  }
  for (int32_t r = 0; r < demand->num_ranks; r++) {
    plan->speed[r] =
        moerun__plan_speed(moerun__plan_behind(fastest, demand->speed[r]));
  }
}

/* A rank without work would never be measured again: a twentieth of an even
 * share is the least that a budget is. */
enum { LEAST_SHARE = 20 };

/* A rank's reserve is no budget. If that leaves it no time for others, it keeps
 * its own rows. */
static void set_budgets(moerun__plan *plan, int64_t total, int64_t slack) {
  int64_t reserves = 0;
  for (int32_t r = 0; r < plan->num_ranks; r++) {
    reserves += plan->reserve[r];
  }
  moerun__plan_shares(plan->budget, total + reserves, plan->speed,
                      plan->num_ranks);
  for (int32_t r = 0; r < plan->num_ranks; r++) {
    const int64_t earlier = plan->reserve[r] > 0 ? plan->before[r] : 0;
    int64_t least = total / (LEAST_SHARE * (int64_t)plan->num_ranks);
    int64_t share = plan->budget[r] - plan->reserve[r];
    if (least < earlier) least = earlier;
    if (share < least) share = least;
    plan->budget[r] = (share * slack + 999) / 1000;
  }
}

/* Time of `rows` rows, in rows of the fastest rank times MOERUN_SPEED_ONE. */
static int64_t time_of(const moerun__plan *plan, int32_t rank, int64_t rows) {
  return rows * MOERUN_SPEED_ONE / plan->speed[rank] * MOERUN_SPEED_ONE;
}

static int64_t longest(const moerun__plan *plan, const int64_t *load) {
  int64_t most = 0;
  for (int32_t r = 0; r < plan->num_ranks; r++) {
    const int64_t time = time_of(plan, r, load[r]);
    if (time > most) most = time;
  }
  return most;
}

/* Of ranks that all end at once: total over the sum of speeds. */
static int64_t even_time(const moerun__plan *plan, int64_t total) {
  int64_t speeds = 0;
  for (int32_t r = 0; r < plan->num_ranks; r++) {
    speeds += plan->speed[r];
  }
  return speeds > 0 ? total * MOERUN_SPEED_ONE / speeds * MOERUN_SPEED_ONE : 0;
}

/* Whether the slowest rank takes so much over the mean that planning is worth
 * it. */
static int is_uneven(const moerun__plan *plan, int64_t total,
                     int32_t threshold) {
  return longest(plan, plan->load) > even_time(plan, total) / 1000 * threshold;
}

moerun__plan_peaks moerun__plan_peaks_of(const moerun__plan *plan) {
  moerun__plan_peaks peaks = {0};
  for (int32_t r = 0; r < plan->num_ranks; r++) {
    peaks.total += plan->load[r];
    if (plan->before[r] > peaks.rows_before) {
      peaks.rows_before = plan->before[r];
    }
    if (plan->load[r] > peaks.rows_after) peaks.rows_after = plan->load[r];
  }
  const int64_t unit = even_time(plan, peaks.total) / 1000;
  if (unit == 0) return peaks;
  peaks.time_before = longest(plan, plan->before) / unit;
  peaks.time_after = longest(plan, plan->load) / unit;
  return peaks;
}

/* ---- What it is worth ---------------------------------------------------- */

/* When the last rank ends, if a guest's rows wait for weights that are sent,
 * and those of its later guests for them; lost[r]: the rows that rank r could
 * compute while it waits. */
static int64_t end_of(moerun__plan *plan, int32_t weight_rows) {
  int64_t end = 0;
  int64_t *late = plan->late; /* rows of a rank from this arrival on */
  memset(late, 0, (size_t)plan->num_ranks * sizeof *late);
  memset(plan->lost, 0, (size_t)plan->num_ranks * sizeof *plan->lost);
  for (int32_t i = plan->num_sends - 1; i >= 0; i--) {
    const moerun__move *move = &plan->moves[plan->sends[i].move];
    const int32_t r = move->rank;
    const int64_t turns = (int64_t)plan->sends[i].turn * weight_rows;
    late[r] += move->rows;
    const int64_t wait =
        turns * plan->speed[r] / MOERUN_SPEED_ONE - (plan->load[r] - late[r]);
    if (wait > plan->lost[r]) plan->lost[r] = wait;
  }
  for (int32_t r = 0; r < plan->num_ranks; r++) {
    const int64_t done = time_of(plan, r, plan->load[r] + plan->lost[r]);
    if (done > end) end = done;
  }
  return end;
}

static void drop(moerun__plan *plan) {
  plan->num_moves = 0;
  plan->num_sends = 0;
  memcpy(plan->load, plan->before,
         (size_t)plan->num_ranks * sizeof *plan->load);
}

/* ---- The whole ----------------------------------------------------------- */

enum {
  ATTEMPTS = 8, /* to find how much less ranks that wait shall have */
  WIDENINGS = 4,
  MOST_PATIENCE = 15,
};

/* The plan that ends first of those that have been made. */
typedef struct choice {
  int64_t end; /* when its last rank does */
  moerun__access last_access;
  int64_t slack; /* the reserves are in plan->best */
} choice;

/* Moves and sends for these reserves, this slack and the giver's last way. */
static int64_t make_moves(moerun__giver *s, int64_t total, int64_t slack) {
  set_budgets(s->plan, total, slack);
  moerun__plan_give(s);
  moerun__tree_grow(s->plan, s->demand);
  return end_of(s->plan, s->options.weight_rows);
}

static void consider(moerun__giver *s, int64_t total, int64_t slack,
                     choice *best) {
  moerun__plan *plan = s->plan;
  const int64_t end = make_moves(s, total, slack);
  if (end >= best->end) return;
  *best = (choice){end, s->last_access, slack};
  memcpy(plan->best, plan->reserve,
         (size_t)plan->num_ranks * sizeof *plan->best);
}

/* Whether a rank has so much more than its budget that weights may be sent for
 * it: the time of so many rows. */
static int has_excess(const moerun__plan *plan, int64_t rows) {
  for (int32_t r = 0; r < plan->num_ranks; r++) {
    if (plan->load[r] - plan->budget[r] >= moerun__plan_fewest(plan, r, rows)) {
      return 1;
    }
  }
  return 0;
}

/* Where ranks wait for weights, an even split is not what ends first: those
 * that lose more time shall get fewer rows. How much a rank loses depends on
 * the plan again, so reserves follow the losses by halves. */
static void consider_reserves(moerun__giver *s, int64_t total, choice *best) {
  moerun__plan *plan = s->plan;
  if (best->end == longest(plan, plan->load)) return; /* nobody waits */
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    for (int32_t r = 0; r < plan->num_ranks; r++) {
      plan->reserve[r] = (plan->reserve[r] + plan->lost[r] + 1) / 2;
    }
    consider(s, total, s->options.slack, best);
  }
}

/* Where what is left of a replica is worth weights but fits no rank's budget,
 * all ranks may end a little later: by a thirty-second, a sixteenth, and so
 * on. */
static void consider_widening(moerun__giver *s, int64_t total, choice *best) {
  moerun__plan *plan = s->plan;
  const int64_t goal = even_time(plan, total) / 1000 * s->options.slack;
  memcpy(plan->reserve, plan->best,
         (size_t)plan->num_ranks * sizeof *plan->best);
  for (int i = 0; i < WIDENINGS; i++) {
    const int parts = 32 >> i;
    if (goal + goal / parts >= best->end) break;
    consider(s, total, s->options.slack + s->options.slack / parts, best);
  }
}

/* Why the layer will not end evenly: what all ranks would do if weights cost
 * nothing. */
static void see_obstacle(moerun__giver *s, int64_t total, int64_t end) {
  moerun__plan *plan = s->plan;
  const moerun__plan_options options = s->options;
  const int64_t even = even_time(plan, total);
  moerun__plan_obstacle *obstacle = &plan->obstacle;
  s->options.min_rows = 1;
  s->options.min_rows_held = 1;
  s->options.weight_rows = 0;
  s->last_access = MOERUN_ACCESS_IS_SENT;
  memset(plan->reserve, 0, (size_t)plan->num_ranks * sizeof *plan->reserve);
  const int64_t free_end = make_moves(s, total, options.slack);
  s->options = options;
  obstacle->is_room = free_end > even / 1000 * options.threshold_held &&
                      free_end > end - (end - even) / 2;
  obstacle->waiting_rows = (end - even) >> MOERUN_SPEED_BITS;
  for (int32_t i = 0; i < plan->num_sends; i++) {
    const int64_t rows =
        (int64_t)plan->sends[i].turn * s->full_price.weight_rows;
    if (rows > obstacle->weight_rows) obstacle->weight_rows = rows;
  }
}

/* Leaves the choice in the plan, or no moves if none end sooner. */
static void settle(moerun__giver *s, int64_t total, const choice *best) {
  moerun__plan *plan = s->plan;
  memcpy(plan->reserve, plan->best,
         (size_t)plan->num_ranks * sizeof *plan->best);
  s->last_access = best->last_access;
  if (best->end < longest(plan, plan->before)) {
    (void)make_moves(s, total, best->slack);
  } else {
    drop(plan);
  }
}

/* What the plan reckons with: the price of weights falls with patience. */
static moerun__plan_options options_now(const moerun__plan_options *options,
                                        int32_t patience) {
  moerun__plan_options now = *options;
  now.weight_rows /= 1 + patience;
  now.min_rows /= 1 + patience;
  if (now.min_rows < now.min_rows_held) now.min_rows = now.min_rows_held;
  if (now.min_rows > options->min_rows) now.min_rows = options->min_rows;
  return now;
}

/* Moves, if the load is uneven enough for that and they end sooner. */
static void balance(moerun__plan *plan, moerun__guest_table *guests,
                    const moerun__demand *demand,
                    const moerun__plan_options *options, int64_t total) {
  int32_t *patience = &guests->patience[demand->layer];
  moerun__giver s = {.plan = plan,
                     .guests = guests,
                     .demand = demand,
                     .full_price = *options,
                     .options = options_now(options, *patience),
                     .last_access = MOERUN_ACCESS_HOLDS};
  const int32_t least = options->threshold_held < options->threshold
                            ? options->threshold_held
                            : options->threshold;
  choice best = {.end = INT64_MAX};
  const int sends = is_uneven(plan, total, options->threshold);
  if (!is_uneven(plan, total, least)) {
    *patience = 0;
    return;
  }
  moerun__plan_see_holders(&s);
  consider(&s, total, options->slack, &best);
  if (sends && has_excess(plan, s.options.min_rows)) {
    s.last_access = MOERUN_ACCESS_IS_SENT;
    consider(&s, total, options->slack, &best);
    if (plan->num_sends > 0) consider_reserves(&s, total, &best);
  }
  consider_widening(&s, total, &best);
  settle(&s, total, &best);
  if (plan->num_sends > 0 || !is_uneven(plan, total, least)) {
    *patience = 0;
    return;
  }
  *patience += *patience < MOST_PATIENCE;
  see_obstacle(&s, total, longest(plan, plan->load));
  settle(&s, total, &best);
}

/* Another way than whole experts, if one is sooner. */
static void choose_way(moerun__plan *plan, const moerun__demand *demand,
                       int64_t total) {
  const moerun__way_offer *best = NULL;
  int64_t most = 0;
  for (int32_t i = 0; i < demand->num_offers; i++) {
    const moerun__way_offer *offer = &demand->offers[i];
    const int64_t gain = offer->gain(offer->self, plan, demand);
    if (gain <= most) continue;
    most = gain;
    best = offer;
  }
  if (best == NULL) return;
  drop(plan);
  plan->obstacle = (moerun__plan_obstacle){0};
  plan->way = best->way;
  plan->is_spread = best->is_spread;
  if (!best->is_spread) return;
  moerun__plan_shares(plan->load, total, plan->speed, plan->num_ranks);
}

void moerun__plan_solve(moerun__plan *plan, moerun__guest_table *guests,
                        const moerun__demand *demand,
                        const moerun__plan_options *options) {
  plan->way = MOERUN_WAY_WHOLE;
  plan->is_spread = 0;
  plan->num_moves = 0;
  plan->num_sends = 0;
  plan->obstacle = (moerun__plan_obstacle){0};
  const int64_t total = count_loads(plan, demand);
  read_speeds(plan, demand);
  memset(plan->reserve, 0, (size_t)plan->num_ranks * sizeof *plan->reserve);
  set_budgets(plan, total, options->slack);
  if (total == 0) return;
  balance(plan, guests, demand, options, total);
  choose_way(plan, demand, total);
  if (plan->num_moves > 0) moerun__plan_seat_guests(plan, guests, demand);
}

uint32_t moerun__plan_digest(const moerun__plan *plan) {
  uint64_t digest = MOERUN_DIGEST_START;
  for (int32_t m = 0; m < plan->num_moves; m++) {
    const moerun__move *move = &plan->moves[m];
    const int32_t words[] = {move->replica, move->rank, move->rows,
                             move->guest};
    digest = moerun__digest_ints(digest, words, 4);
  }
  for (int32_t i = 0; i < plan->num_sends; i++) {
    const int32_t words[] = {plan->sends[i].move, plan->sends[i].from};
    digest = moerun__digest_ints(digest, words, 2);
  }
  return (uint32_t)(digest ^ digest >> 32U);
}
