/* The rank that would end last gives rows of its hottest host to the rank that
 * would end first, and so on until every rank is within its budget or what is
 * left over is not worth an expert's weights. All in 64-bit integers: a plan
 * that differed between ranks would be a deadlock. */
#include "runtime/balance/slice_costs.h"
#include "runtime/balance/tree.h"

#include <string.h>

/* ---- Memory ---------------------------------------------------------------- */

void moerun__guest_table_lay_out(moerun__guest_table *table,
                                 moerun__arena *arena, int32_t num_ranks,
                                 int32_t per_rank) {
  const size_t entries = (size_t)num_ranks * (size_t)per_rank;
  table->num_ranks = num_ranks;
  table->per_rank = per_rank;
  table->key = moerun__arena_take(arena, entries, sizeof *table->key);
  table->used = moerun__arena_take(arena, entries, sizeof *table->used);
}

void moerun__guest_table_clear(moerun__guest_table *table) {
  table->plans = 0;
  for (int32_t i = 0; i < table->num_ranks * table->per_rank; i++) {
    table->key[i] = -1;
    table->used[i] = 0;
  }
}

/* Every move empties a host, ends an excess or fills a rank. */
static int32_t most_moves(int32_t num_ranks, int32_t max_hosts) {
  return max_hosts + 2 * num_ranks;
}

void moerun__plan_lay_out(moerun__plan *plan, moerun__arena *arena,
                          int32_t num_ranks, int32_t max_hosts) {
  const size_t R = (size_t)num_ranks;
  const size_t P = (size_t)max_hosts;
  plan->num_ranks = num_ranks;
  plan->max_moves = most_moves(num_ranks, max_hosts);
  const size_t moves = (size_t)plan->max_moves;
  plan->moves = moerun__arena_take(arena, moves, sizeof *plan->moves);
  plan->before = moerun__arena_take(arena, R, sizeof *plan->before);
  plan->load = moerun__arena_take(arena, R, sizeof *plan->load);
  plan->budget = moerun__arena_take(arena, R, sizeof *plan->budget);
  plan->speed = moerun__arena_take(arena, R, sizeof *plan->speed);
  plan->parts = moerun__arena_take(arena, 2 * moves, sizeof *plan->parts);
  plan->part_of = moerun__arena_take(arena, P + 1, sizeof *plan->part_of);
  plan->next_part = moerun__arena_take(arena, P, sizeof *plan->next_part);
  plan->host_rows = moerun__arena_take(arena, P, sizeof *plan->host_rows);
  plan->order = moerun__arena_take(arena, P > R ? P : R, sizeof *plan->order);
  plan->guests = moerun__arena_take(arena, R, sizeof *plan->guests);
  plan->late = moerun__arena_take(arena, R, sizeof *plan->late);
  plan->lost = moerun__arena_take(arena, R, sizeof *plan->lost);
  plan->reserve = moerun__arena_take(arena, R, sizeof *plan->reserve);
  plan->best = moerun__arena_take(arena, R, sizeof *plan->best);
  moerun__tree_lay_out(plan, arena);
}

/* ---- Speeds and budgets ------------------------------------------------------ */

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

static int64_t count_loads(moerun__plan *plan, const moerun__demand *demand) {
  int64_t total = 0;
  memset(plan->host_rows, 0,
         (size_t)demand->num_hosts * sizeof *plan->host_rows);
  memset(plan->load, 0, (size_t)demand->num_ranks * sizeof *plan->load);
  for (int32_t s = 0; s < demand->num_ranks; s++) {
    const int32_t *rows = moerun__demand_rows(demand, s);
    for (int32_t h = 0; h < demand->num_hosts; h++) {
      plan->host_rows[h] += rows[h];
    }
  }
  for (int32_t h = 0; h < demand->num_hosts; h++) {
    plan->load[demand->rank_of[h]] += plan->host_rows[h];
    total += plan->host_rows[h];
  }
  memcpy(plan->before, plan->load,
         (size_t)demand->num_ranks * sizeof *plan->load);
  return total;
}

static void read_speeds(moerun__plan *plan, const moerun__demand *demand) {
  int32_t fastest = demand->speed[0];
  for (int32_t r = 1; r < demand->num_ranks; r++) {
    const int32_t speed = demand->speed[(size_t)r * demand->stride];
    if (speed > fastest) fastest = speed;
  }
  for (int32_t r = 0; r < demand->num_ranks; r++) {
    const int32_t behind = fastest - demand->speed[(size_t)r * demand->stride];
    plan->speed[r] =
        moerun__plan_speed(behind > MOERUN_SPEED_NOISE ? behind : 0);
  }
}

/* A rank without work would never be measured again: a twentieth of an even
 * share is the least that a budget is. */
enum { LEAST_SHARE = 20 };

/* A rank's reserve is no budget. If that leaves it no time for others, it keeps
 * its own rows. */
static void set_budgets(moerun__plan *plan, int64_t total, int32_t slack) {
  int64_t reserves = 0;
  for (int32_t r = 0; r < plan->num_ranks; r++) {
    reserves += plan->reserve[r];
  }
  moerun__plan_shares(plan->budget, total + reserves, plan->speed,
                      plan->num_ranks);
  for (int32_t r = 0; r < plan->num_ranks; r++) {
    const int64_t own = plan->reserve[r] > 0 ? plan->before[r] : 0;
    int64_t least = total / (LEAST_SHARE * (int64_t)plan->num_ranks);
    int64_t share = plan->budget[r] - plan->reserve[r];
    if (least < own) least = own;
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

/* ---- Who takes rows ------------------------------------------------------------ */

/* How a rank comes by an expert's weights. */
typedef enum source_of_weights {
  HOSTS,   /* the rank has the expert */
  HOLDS,   /* it has it as a guest */
  IS_SENT, /* it would be sent it */
  HAS_NO_ROOM,
} source_of_weights;

static int32_t expert_of(const moerun__demand *demand, int32_t host) {
  int32_t low = 0;
  int32_t high = demand->num_experts;
  while (high - low > 1) {
    const int32_t middle = low + (high - low) / 2;
    if (demand->host_of_expert[middle] - demand->first_host <= host) {
      low = middle;
    } else {
      high = middle;
    }
  }
  return low;
}

static int32_t host_on(const moerun__demand *demand, int32_t expert,
                       int32_t rank) {
  const int32_t first = demand->host_of_expert[expert] - demand->first_host;
  const int32_t last = demand->host_of_expert[expert + 1] - demand->first_host;
  for (int32_t h = first; h < last; h++) {
    if (demand->rank_of[h] == rank) return h;
  }
  return -1;
}

static int64_t key_of(const moerun__demand *demand, int32_t expert) {
  return (int64_t)demand->layer * demand->num_experts + expert;
}

static int32_t find_guest(const moerun__guest_table *guests, int32_t rank,
                          int64_t key) {
  for (int32_t g = 0; g < guests->per_rank; g++) {
    if (guests->key[(size_t)rank * (size_t)guests->per_rank + (size_t)g] ==
        key) {
      return g;
    }
  }
  return MOERUN_NO_GUEST;
}

/* What a solve looks at all the time. */
typedef struct solver {
  moerun__plan *plan;
  const moerun__guest_table *guests;
  const moerun__demand *demand;
  const moerun__plan_options *options;
  source_of_weights last_way; /* IS_SENT, or HOLDS where sending does not pay */
  int32_t host;               /* that gives rows away */
  int32_t expert;
  int32_t first_move; /* of this host */
} solver;

/* Whether another replica has moved rows to the expert's guest on the rank. */
static int is_guest_by_now(const solver *s, int32_t rank) {
  const int32_t *offset = s->demand->host_of_expert + s->expert;
  const int32_t first = offset[0] - s->demand->first_host;
  const int32_t last = offset[1] - s->demand->first_host;
  for (int32_t m = 0; last - first > 1 && m < s->plan->num_moves; m++) {
    const moerun__move *move = &s->plan->moves[m];
    if (move->rank == rank && move->host >= first && move->host < last) {
      return 1;
    }
  }
  return 0;
}

static source_of_weights weights_on(const solver *s, int32_t rank) {
  if (host_on(s->demand, s->expert, rank) >= 0) return HOSTS;
  if (is_guest_by_now(s, rank)) return HOLDS;
  if (s->plan->guests[rank] >= s->guests->per_rank ||
      s->plan->guests[rank] >= MOERUN_MOST_GUESTS) {
    return HAS_NO_ROOM;
  }
  const int64_t key = key_of(s->demand, s->expert);
  return find_guest(s->guests, rank, key) != MOERUN_NO_GUEST ? HOLDS : IS_SENT;
}

static int has_move(const solver *s, int32_t rank) {
  for (int32_t m = s->first_move; m < s->plan->num_moves; m++) {
    if (s->plan->moves[m].rank == rank) return 1;
  }
  return 0;
}

/* The rank that would end first of those that have room for enough rows and
 * come by the weights in this way; -1: none. */
static int32_t first_to_end(const solver *s, source_of_weights way,
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
    if (r == s->demand->rank_of[s->host] || has_move(s, r)) continue;
    if (weights_on(s, r) == way) best = r;
  }
  return best;
}

static void add_move(const solver *s, int32_t rank, int64_t rows,
                     source_of_weights way) {
  moerun__plan *plan = s->plan;
  const int32_t host = host_on(s->demand, s->expert, rank);
  plan->guests[rank] += way != HOSTS && !is_guest_by_now(s, rank);
  plan->moves[plan->num_moves++] = (moerun__move){
      .host = s->host,
      .rank = rank,
      .rows = (int32_t)rows,
      .slot = way == HOSTS ? s->demand->slot_of[host] : MOERUN_NO_GUEST,
      .guest = MOERUN_NO_GUEST,
      .sends = way == IS_SENT};
  plan->load[rank] += rows;
  plan->load[s->demand->rank_of[s->host]] -= rows;
}

/* Rows of one host to others, as long as its rank has too many. */
static void give_away(solver *s, int32_t host) {
  moerun__plan *plan = s->plan;
  const int32_t rank = s->demand->rank_of[host];
  const int64_t excess = plan->load[rank] - plan->budget[rank];
  int64_t movable =
      excess < plan->host_rows[host] ? excess : plan->host_rows[host];
  if (movable <= 0) return;
  s->host = host;
  s->expert = expert_of(s->demand, host);
  s->first_move = plan->num_moves;
  for (source_of_weights way = HOSTS; way <= s->last_way; way++) {
    int64_t least =
        way == IS_SENT ? s->options->min_rows : s->options->min_rows_held;
    if (least < 1) least = 1;
    while (movable >= least) {
      const int32_t to = first_to_end(s, way, movable, least);
      if (to < 0) break;
      const int64_t room = plan->budget[to] - plan->load[to];
      const int64_t rows = room < movable ? room : movable;
      add_move(s, to, rows, way);
      movable -= rows;
    }
  }
}

/* Hosts of ranks over their budgets, hottest first, ties to the lower number. */
static int32_t order_hosts(moerun__plan *plan, const moerun__demand *demand) {
  int32_t count = 0;
  for (int32_t h = 0; h < demand->num_hosts; h++) {
    const int32_t rank = demand->rank_of[h];
    if (plan->load[rank] <= plan->budget[rank] || plan->host_rows[h] == 0) {
      continue;
    }
    int32_t at = count++;
    for (; at > 0 && plan->host_rows[plan->order[at - 1]] < plan->host_rows[h];
         at--) {
      plan->order[at] = plan->order[at - 1];
    }
    plan->order[at] = h;
  }
  return count;
}

/* ---- What it is worth ---------------------------------------------------------- */

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

/* ---- Guests ---------------------------------------------------------------------- */

/* The entry that has not been used for longest; ties to the lower number. */
static int32_t oldest_guest(const moerun__guest_table *guests, int32_t rank) {
  const int64_t *used = guests->used + (size_t)rank * (size_t)guests->per_rank;
  int32_t oldest = 0;
  for (int32_t g = 1; g < guests->per_rank; g++) {
    if (used[g] < used[oldest]) oldest = g;
  }
  return oldest;
}

static void use_guest(moerun__guest_table *guests, moerun__move *move,
                      int32_t guest, int64_t key) {
  const size_t at =
      (size_t)move->rank * (size_t)guests->per_rank + (size_t)guest;
  guests->key[at] = key;
  guests->used[at] = guests->plans;
  move->guest = guest;
}

/* Those that are there first, so that none of them makes room for a new one. */
static void seat_guests(moerun__plan *plan, moerun__guest_table *guests,
                        const moerun__demand *demand) {
  guests->plans++;
  for (int is_new = 0; is_new <= 1; is_new++) {
    for (int32_t m = 0; m < plan->num_moves; m++) {
      moerun__move *move = &plan->moves[m];
      if (move->slot != MOERUN_NO_GUEST || move->guest != MOERUN_NO_GUEST) {
        continue;
      }
      const int64_t key = key_of(demand, expert_of(demand, move->host));
      int32_t guest = find_guest(guests, move->rank, key);
      if (guest == MOERUN_NO_GUEST && !is_new) continue;
      if (guest == MOERUN_NO_GUEST) guest = oldest_guest(guests, move->rank);
      use_guest(guests, move, guest, key);
    }
  }
}

/* ---- The whole --------------------------------------------------------------------- */

static int is_before(const moerun__move *a, const moerun__move *b) {
  return a->host != b->host ? a->host < b->host : a->rank < b->rank;
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

/* Moves and sends for the budgets; returns when the last rank ends. */
static int64_t make_moves(solver *s) {
  moerun__plan *plan = s->plan;
  const size_t R = (size_t)plan->num_ranks;
  plan->num_moves = 0;
  memcpy(plan->load, plan->before, R * sizeof *plan->load);
  memset(plan->guests, 0, R * sizeof *plan->guests);
  const int32_t count = order_hosts(plan, s->demand);
  for (int32_t i = 0; i < count; i++) {
    give_away(s, plan->order[i]);
  }
  sort_moves(plan);
  moerun__tree_grow(plan, s->demand);
  return end_of(plan, s->options->weight_rows);
}

enum { ATTEMPTS = 8 };

/* Where ranks wait for weights, an even split is not what ends first: those that
 * lose more time shall get fewer rows. How much a rank loses depends on the
 * plan again, so reserves follow the losses by halves; the best of all attempts
 * is made once more. */
static int64_t improve(solver *s, int64_t total, int64_t end) {
  moerun__plan *plan = s->plan;
  const size_t bytes = (size_t)plan->num_ranks * sizeof *plan->reserve;
  if (end == longest(plan, plan->load)) return end;
  memset(plan->best, 0, bytes);
  for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
    for (int32_t r = 0; r < plan->num_ranks; r++) {
      plan->reserve[r] = (plan->reserve[r] + plan->lost[r] + 1) / 2;
    }
    set_budgets(plan, total, s->options->slack);
    const int64_t now = make_moves(s);
    if (now >= end) continue;
    end = now;
    memcpy(plan->best, plan->reserve, bytes);
  }
  memcpy(plan->reserve, plan->best, bytes);
  set_budgets(plan, total, s->options->slack);
  return make_moves(s);
}

/* Moves, if the load is uneven enough for that and they end sooner. */
static void balance(moerun__plan *plan, const moerun__guest_table *guests,
                    const moerun__demand *demand,
                    const moerun__plan_options *options, int64_t total) {
  solver s = {
      .plan = plan, .guests = guests, .demand = demand, .options = options};
  const int32_t least = options->threshold_held < options->threshold
                            ? options->threshold_held
                            : options->threshold;
  if (!is_uneven(plan, total, least)) return;
  s.last_way = is_uneven(plan, total, options->threshold) ? IS_SENT : HOLDS;
  const int64_t before = longest(plan, plan->load);
  if (improve(&s, total, make_moves(&s)) >= before) drop(plan);
}

/* All ranks do a part of everything. */
static void slice(moerun__plan *plan, int64_t total) {
  drop(plan);
  plan->sliced = 1;
  moerun__plan_shares(plan->load, total, plan->speed, plan->num_ranks);
}

void moerun__plan_solve(moerun__plan *plan, moerun__guest_table *guests,
                        const moerun__demand *demand,
                        const moerun__plan_options *options) {
  plan->sliced = 0;
  plan->num_moves = 0;
  plan->num_sends = 0;
  const int64_t total = count_loads(plan, demand);
  read_speeds(plan, demand);
  memset(plan->reserve, 0, (size_t)plan->num_ranks * sizeof *plan->reserve);
  set_budgets(plan, total, options->slack);
  if (total == 0) return;
  balance(plan, guests, demand, options, total);
  if (demand->slices != NULL &&
      moerun__slices_pay(demand->slices, plan, demand)) {
    slice(plan, total);
  }
  if (plan->num_moves > 0) seat_guests(plan, guests, demand);
}

/* FNV-1a, and the high bits stirred in. */
static uint32_t add_word(uint32_t digest, int32_t word) {
  digest = (digest ^ (uint32_t)word) * 16777619U;
  return digest ^ digest >> 15U;
}

uint32_t moerun__plan_digest(const moerun__plan *plan) {
  uint32_t digest = 2166136261U;
  for (int32_t m = 0; m < plan->num_moves; m++) {
    const moerun__move *move = &plan->moves[m];
    digest = add_word(digest, move->host);
    digest = add_word(digest, move->rank);
    digest = add_word(digest, move->rows);
    digest = add_word(digest, move->guest);
  }
  for (int32_t i = 0; i < plan->num_sends; i++) {
    digest = add_word(digest, plan->sends[i].move);
    digest = add_word(digest, plan->sends[i].from);
  }
  return digest;
}
