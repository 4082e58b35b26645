/* Capacity-Aware Inference (He et al. 2025, arXiv 2503.05066): token drop and
 * expanded drop, with what the paper leaves open. One path serves every scope:
 * candidates are counted by expert or rank (a group), those of groups with
 * more than C become records, and the best C records of a group stay. For the
 * scope global the records are of all ranks; for the scope request the same
 * runs once for each window of each request, so that no other request's
 * candidate is ever looked at.
 *
 * Where we depart from the paper: C is rounded up and exact in integers; ties
 * are decided by an order, not by comparing with the C-th value, which keeps
 * more than C; a rank takes C times its experts with C rounded before, so
 * that the level rank never drops more than the level expert; and there is
 * MOERUN_EXPANSION_FILL, a second round: the gate's choices have had theirs,
 * and a token that lost experts asks for as many others of those with room
 * left. No more rows are computed than without a capacity, and where the gate
 * chooses by score weights sum to no more than it gave; the paper fills every
 * expert up to C. */
#include "runtime/plan/capacity.h"

#include "runtime/plan/capacity_select.h"

#include <string.h>

enum { MAX_GAMMA = 1000000 };

static int adds_what_was_lost(const moerun__capacity_options *options) {
  return options->expansion == MOERUN_EXPANSION_FILL &&
         options->most_added == 0;
}

moerun_status moerun__capacity_check(const moerun__capacity_options *options) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(options->gamma >= 1 && options->gamma <= MAX_GAMMA,
                 MOERUN_ERR_INVALID,
                 "capacity factor is %d thousandths: expected 1 to %d",
                 options->gamma, MAX_GAMMA);
  if (options->scope == MOERUN_SCOPE_REQUEST) {
    MOERUN_REQUIRE(options->window >= 1, MOERUN_ERR_INVALID,
                   "capacity window is %d positions: expected at least 1",
                   options->window);
    MOERUN_REQUIRE(options->level == MOERUN_LEVEL_EXPERT, MOERUN_ERR_INVALID,
                   "capacity of a rank depends on the placement: with the "
                   "scope request it is expected by expert");
  }
  MOERUN_REQUIRE(options->most_added >= 0, MOERUN_ERR_INVALID,
                 "capacity: most experts added is %d: expected 0 or more",
                 options->most_added);
done:
  return status;
}

int32_t moerun__capacity_width(const moerun__capacity_options *options,
                               int32_t K, int32_t max_extra) {
  int32_t most = max_extra;
  if (options->expansion == MOERUN_EXPANSION_OFF) return K;
  if (options->most_added > 0 && options->most_added < most) {
    most = options->most_added;
  }
  if (adds_what_was_lost(options) && K < most) most = K;
  return K + most;
}

void moerun__capacity_lay_out(moerun__capacity *capacity, moerun__arena *arena,
                              const moerun__capacity_options *options,
                              const moerun__capacity_sizes *sizes) {
  *capacity = (moerun__capacity){.options = *options, .sizes = *sizes};
  const size_t T = (size_t)capacity->sizes.max_tokens;
  const size_t pairs = T * (size_t)capacity->sizes.width;
  capacity->num_groups = capacity->options.level == MOERUN_LEVEL_RANK
                             ? capacity->sizes.num_ranks
                             : capacity->sizes.num_experts;
  const size_t groups = (size_t)capacity->num_groups;
  if (capacity->sizes.max_records < (int64_t)pairs) {
    capacity->sizes.max_records = (int64_t)pairs;
  }
  capacity->demand = moerun__arena_take(arena, groups + 1, sizeof(int64_t));
  capacity->limit = moerun__arena_take(arena, groups, sizeof(int64_t));
  capacity->room = moerun__arena_take(arena, groups, sizeof(int64_t));
  capacity->rows_after = moerun__arena_take(
      arena, (size_t)capacity->sizes.num_experts, sizeof(int64_t));
  capacity->kept = moerun__arena_take(arena, pairs, 1);
  capacity->members = moerun__arena_take(arena, T, sizeof(int32_t));
  capacity->records =
      moerun__arena_take(arena, pairs, sizeof(moerun__capacity_record));
  capacity->queue = moerun__arena_take(
      arena, (size_t)capacity->sizes.max_records, sizeof(int32_t));
  capacity->queue_offset =
      moerun__arena_take(arena, groups + 1, sizeof(int32_t));
}

int64_t moerun__capacity_of(int32_t gamma, int64_t tokens, int32_t K,
                            int32_t E) {
  const uint64_t share = (uint64_t)gamma * (uint64_t)tokens * (uint64_t)K;
  const uint64_t parts = 1000 * (uint64_t)E;
  const uint64_t C = share / parts + (share % parts != 0);
  return C > 1 ? (int64_t)C : 1;
}

void moerun__capacity_spread(int32_t *ids, float *weight, int32_t T, int32_t K,
                             int32_t width) {
  for (size_t t = (size_t)T; t-- > 0;) { /* from behind: rows move backwards */
    int32_t *id = ids + t * (size_t)width;
    float *w = weight + t * (size_t)width;
    memmove(id, ids + t * (size_t)K, (size_t)K * sizeof *id);
    memmove(w, weight + t * (size_t)K, (size_t)K * sizeof *w);
    for (int32_t j = K; j < width; j++) {
      id[j] = -1;
      w[j] = 0;
    }
  }
}

/* ---- Candidates ---------------------------------------------------------- */

static int32_t group_of(const moerun__capacity *capacity,
                        const moerun__capacity_rows *rows, int32_t expert) {
  return capacity->options.level == MOERUN_LEVEL_RANK
             ? rows->rank_of_expert[expert]
             : expert;
}

static int has(const int32_t *ids, int32_t n, int32_t expert) {
  for (int32_t j = 0; j < n; j++) {
    if (ids[j] == expert) return 1;
  }
  return 0;
}

static int is_better(const float *scores, int32_t a, int32_t b) {
  const uint32_t x = moerun__score_order(scores[a]);
  const uint32_t y = moerun__score_order(scores[b]);
  return x != y ? x > y : a < b;
}

/* Behind the gate's choices of token t its best expanded candidates, at most
 * `most`, best first, with the weights that they would have; in the second
 * round only those of groups with room. */
static void offer_row(moerun__capacity *capacity,
                      const moerun__capacity_rows *rows, int32_t t,
                      int32_t most) {
  const int32_t K = capacity->sizes.experts_per_token;
  const size_t first = (size_t)t * (size_t)capacity->sizes.width;
  int32_t *ids = rows->ids + first;
  int32_t *added = ids + K;
  float *weight = rows->weight + first;
  const float *scores =
      rows->scores + (size_t)t * (size_t)capacity->sizes.num_choices;
  int32_t n = 0;
  for (int32_t i = 0; i < rows->num_extra && most > 0; i++) {
    const int32_t expert = rows->extra[i];
    if (has(ids, K, expert)) continue;
    if (capacity->round > 0 &&
        capacity->room[group_of(capacity, rows, expert)] == 0) {
      continue;
    }
    if (n == most && !is_better(scores, expert, added[n - 1])) continue;
    int32_t j = n < most ? n++ : n - 1;
    for (; j > 0 && is_better(scores, expert, added[j - 1]); j--) {
      added[j] = added[j - 1];
    }
    added[j] = expert;
  }
  if (n == 0) return;
  const double scale = moerun__weight_scale(ids, weight, scores, K);
  for (int32_t j = 0; j < n; j++) {
    weight[K + j] = (float)((double)scores[added[j]] * scale);
  }
}

static void choose_members(moerun__capacity *capacity,
                           const moerun__capacity_rows *rows) {
  const int32_t K = capacity->sizes.experts_per_token;
  const int32_t most = capacity->sizes.width - K;
  const int expand = capacity->options.expansion == MOERUN_EXPANSION_PAPER;
  capacity->round = 0;
  capacity->num_members = 0;
  capacity->sum_over = 0;
  for (int32_t t = 0; t < rows->T; t++) {
    const size_t behind = (size_t)t * (size_t)capacity->sizes.width + (size_t)K;
    for (size_t j = behind; j < behind + (size_t)most; j++) {
      rows->ids[j] = -1;
      rows->weight[j] = 0;
    }
    if (!capacity->options.decode && rows->decoded != NULL &&
        rows->decoded[t] != 0) {
      continue;
    }
    capacity->members[capacity->num_members++] = t;
    if (expand) offer_row(capacity, rows, t, most);
  }
}

/* The second round, if there is one: on all ranks or on none. */
static int goes_on(moerun__capacity *capacity,
                   const moerun__capacity_rows *rows, const int32_t *member,
                   int32_t n) {
  const int by_loss = adds_what_was_lost(&capacity->options);
  if (capacity->options.expansion != MOERUN_EXPANSION_FILL ||
      capacity->round > 0 || (by_loss && capacity->num_over == 0)) {
    return 0;
  }
  capacity->round = 1;
  for (int32_t i = 0; i < n; i++) {
    const int32_t first = member[i] * capacity->sizes.width;
    int32_t most = capacity->sizes.width - capacity->sizes.experts_per_token;
    if (by_loss) {
      int32_t lost = 0;
      for (int32_t j = 0; j < capacity->sizes.experts_per_token; j++) {
        lost += rows->ids[first + j] >= 0 && !capacity->kept[first + j];
      }
      if (lost < most) most = lost;
    }
    offer_row(capacity, rows, member[i], most);
  }
  return 1;
}

/* Where the candidates of this round begin in a row. */
static int32_t first_column(const moerun__capacity *capacity) {
  return capacity->round > 0 ? capacity->sizes.experts_per_token : 0;
}

/* The next three work on n tokens, `member`: all, or those of one window. */
static void count_demand(moerun__capacity *capacity,
                         const moerun__capacity_rows *rows,
                         const int32_t *member, int32_t n) {
  const size_t width = (size_t)capacity->sizes.width;
  const size_t first = (size_t)first_column(capacity);
  memset(capacity->demand, 0,
         ((size_t)capacity->num_groups + 1) * sizeof(int64_t));
  for (int32_t i = 0; i < n; i++) {
    const int32_t *ids = rows->ids + (size_t)member[i] * width;
    for (size_t j = first; j < width; j++) {
      if (ids[j] < 0) continue;
      capacity->demand[group_of(capacity, rows, ids[j])]++;
    }
  }
  capacity->demand[capacity->num_groups] = n;
}

/* The second round has what the first left. */
static void set_limits(moerun__capacity *capacity,
                       const moerun__capacity_rows *rows,
                       const int64_t *total) {
  const int32_t groups = capacity->num_groups;
  int64_t *limit = capacity->limit;
  if (capacity->round > 0) {
    memcpy(limit, capacity->room, (size_t)groups * sizeof *limit);
    return;
  }
  const int64_t C = moerun__capacity_of(capacity->options.gamma, total[groups],
                                        capacity->sizes.experts_per_token,
                                        capacity->sizes.num_choices);
  memset(limit, 0, (size_t)groups * sizeof *limit);
  for (int32_t e = 0; e < capacity->sizes.num_experts; e++) {
    limit[group_of(capacity, rows, e)] += C;
  }
  for (int32_t g = 0; g < groups; g++) {
    capacity->room[g] = limit[g] > total[g] ? limit[g] - total[g] : 0;
  }
}

/* The candidates of one token: kept, or a record if its group is over. */
static void collect_row(moerun__capacity *capacity,
                        const moerun__capacity_rows *rows, int32_t t,
                        const int64_t *total) {
  const int32_t width = capacity->sizes.width;
  const int32_t K = capacity->sizes.experts_per_token;
  const float *scores =
      rows->scores + (size_t)t * (size_t)capacity->sizes.num_choices;
  const int by_weight = capacity->options.metric == MOERUN_METRIC_WEIGHT;
  int pin = capacity->options.keep_top1;
  for (int32_t j = first_column(capacity); j < width; j++) {
    const int32_t at = t * width + j;
    const int32_t expert = rows->ids[at];
    if (expert < 0) continue;
    const int pinned = pin && j < K;
    pin = 0;
    const int32_t group = group_of(capacity, rows, expert);
    capacity->kept[at] = total[group] <= capacity->limit[group];
    if (capacity->kept[at]) continue;
    moerun__capacity_record *record =
        &capacity->records[capacity->num_records++];
    record->group = group;
    record->standing = (pinned ? 0 : MOERUN_NOT_PINNED) |
                       (rows->priority != NULL ? rows->priority[t] : 0U);
    record->position = rows->position[t];
    record->request = rows->request[t];
    record->expert = expert;
    record->at = at;
    moerun__capacity_rate(record, &capacity->options, rows->layer,
                          by_weight ? rows->weight[at] : scores[expert]);
  }
}

static void collect(moerun__capacity *capacity,
                    const moerun__capacity_rows *rows, const int32_t *member,
                    int32_t n, const int64_t *total) {
  const int32_t groups = capacity->num_groups;
  set_limits(capacity, rows, total);
  capacity->num_over = 0;
  for (int32_t g = 0; g < groups; g++) {
    capacity->num_over += total[g] > capacity->limit[g];
  }
  if (capacity->round == 0) capacity->sum_over += capacity->num_over;
  capacity->num_records = 0;
  for (int32_t i = 0; i < n; i++) {
    collect_row(capacity, rows, member[i], total);
  }
}

/* ---- What is left -------------------------------------------------------- */

static double number_or_0(float x) {
  return x == x ? (double)x : 0;
}

/* What comes of the candidates of one token: survivors to the front. */
static void finish_row(const moerun__capacity *capacity,
                       const moerun__capacity_rows *rows, int32_t t,
                       moerun__capacity_counts *counts) {
  const int32_t width = capacity->sizes.width;
  const int32_t K = capacity->sizes.experts_per_token;
  int32_t *ids = rows->ids + (size_t)t * (size_t)width;
  float *weight = rows->weight + (size_t)t * (size_t)width;
  const float *scores =
      rows->scores + (size_t)t * (size_t)capacity->sizes.num_choices;
  const uint8_t *kept = capacity->kept + (size_t)t * (size_t)width;
  const double sum = moerun__weight_sum(ids, weight, K);
  int32_t n = 0;
  int32_t lost = 0;
  counts->tokens++;
  for (int32_t j = 0; j < width; j++) {
    if (ids[j] < 0) continue;
    const double mass = number_or_0(weight[j]);
    const int chosen = j < K;
    counts->candidates += chosen;
    counts->offered += !chosen;
    counts->not_numbers += scores[ids[j]] != scores[ids[j]];
    counts->mass += chosen ? mass : 0;
    if (!kept[j]) {
      lost += chosen;
      counts->dropped += chosen;
      counts->mass_dropped += chosen ? mass : 0;
      continue;
    }
    counts->added += !chosen;
    counts->mass_added += chosen ? 0 : mass;
    ids[n] = ids[j];
    weight[n++] = weight[j];
  }
  counts->lost_all += n == 0 && lost > 0;
  for (int32_t j = n; j < width; j++) {
    ids[j] = -1;
    weight[j] = 0;
  }
  moerun__weight_apply(weight, ids, n, scores, capacity->options.rule, sum);
}

void moerun__capacity_finish(moerun__capacity *capacity,
                             const moerun__capacity_rows *rows,
                             moerun__capacity_counts *counts) {
  counts->over += capacity->sum_over;
  for (int32_t i = 0; i < capacity->num_members; i++) {
    finish_row(capacity, rows, capacity->members[i], counts);
  }
  memset(capacity->rows_after, 0,
         (size_t)capacity->sizes.num_experts * sizeof(int64_t));
  const size_t pairs = (size_t)rows->T * (size_t)capacity->sizes.width;
  for (size_t i = 0; i < pairs; i++) {
    if (rows->ids[i] >= 0) capacity->rows_after[rows->ids[i]]++;
  }
}

/* ---- Scopes -------------------------------------------------------------- */

/* C of a window holds for its tokens alone. */
static void apply_to(moerun__capacity *capacity,
                     const moerun__capacity_rows *rows, const int32_t *member,
                     int32_t n) {
  capacity->round = 0;
  do {
    count_demand(capacity, rows, member, n);
    collect(capacity, rows, member, n, capacity->demand);
    moerun__capacity_select(capacity, capacity->records, capacity->num_records,
                            0);
  } while (goes_on(capacity, rows, member, n));
}

static int is_decoded(const moerun__capacity_rows *rows, int32_t t) {
  return rows->decoded != NULL && rows->decoded[t] != 0;
}

static int row_before(const void *context, int32_t a, int32_t b) {
  const moerun__capacity_rows *rows = (const moerun__capacity_rows *)context;
  if (rows->request[a] != rows->request[b]) {
    return rows->request[a] < rows->request[b];
  }
  if (is_decoded(rows, a) != is_decoded(rows, b)) return is_decoded(rows, b);
  return rows->position[a] < rows->position[b];
}

/* Whether two rows are decided together that are neighbours in that order.
 * A token that was decoded was alone in its step: it stays so where it is fed
 * again with others, in a request that goes on after its run was stopped. */
static int is_one_window(const moerun__capacity_rows *rows, int32_t window,
                         int32_t a, int32_t b) {
  return !is_decoded(rows, a) && !is_decoded(rows, b) &&
         rows->request[a] == rows->request[b] &&
         rows->position[a] / window == rows->position[b] / window;
}

void moerun__capacity_apply(moerun__capacity *capacity,
                            const moerun__capacity_rows *rows,
                            moerun__capacity_counts *counts) {
  const int32_t window = capacity->options.window;
  choose_members(capacity, rows);
  const int32_t *member = capacity->members;
  const int32_t n = capacity->num_members;
  if (capacity->options.scope != MOERUN_SCOPE_REQUEST) {
    apply_to(capacity, rows, member, n);
  } else {
    /* Each window is a run of them. */
    moerun__capacity_sort(capacity->members, n, row_before, rows);
    int32_t begin = 0;
    for (int32_t i = 1; i <= n; i++) {
      if (i < n && is_one_window(rows, window, member[begin], member[i])) {
        continue;
      }
      apply_to(capacity, rows, member + begin, i - begin);
      begin = i;
    }
  }
  moerun__capacity_finish(capacity, rows, counts);
}

void moerun__capacity_offer(moerun__capacity *capacity,
                            const moerun__capacity_rows *rows) {
  choose_members(capacity, rows);
  count_demand(capacity, rows, capacity->members, capacity->num_members);
}

void moerun__capacity_collect(moerun__capacity *capacity,
                              const moerun__capacity_rows *rows,
                              const int64_t *total) {
  collect(capacity, rows, capacity->members, capacity->num_members, total);
  moerun__capacity_prune(capacity);
}

int moerun__capacity_goes_on(moerun__capacity *capacity,
                             const moerun__capacity_rows *rows) {
  if (!goes_on(capacity, rows, capacity->members, capacity->num_members)) {
    return 0;
  }
  count_demand(capacity, rows, capacity->members, capacity->num_members);
  return 1;
}

moerun_status moerun__capacity_cut(moerun__capacity *capacity,
                                   const moerun__capacity_record *records,
                                   int64_t num_records, int64_t first_own) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(num_records <= capacity->sizes.max_records &&
                     num_records <= INT32_MAX && first_own >= 0 &&
                     first_own + capacity->num_records <= num_records,
                 MOERUN_ERR_COMM,
                 "capacity records: found %lld, own ones from %lld: expected "
                 "at most %lld and %d own ones",
                 (long long)num_records, (long long)first_own,
                 (long long)capacity->sizes.max_records, capacity->num_records);
  for (int64_t i = 0; i < num_records; i++) {
    MOERUN_REQUIRE(records[i].group >= 0 &&
                       records[i].group < capacity->num_groups,
                   MOERUN_ERR_COMM,
                   "capacity record %lld is of group %d: expected below %d",
                   (long long)i, records[i].group, capacity->num_groups);
  }
  moerun__capacity_select(capacity, records, (int32_t)num_records,
                          (int32_t)first_own);
done:
  return status;
}
