/* Capacity-Aware Inference (He et al. 2025, arXiv 2503.05066): token drop and
 * expanded drop, with what the paper leaves open. One path serves every scope:
 * candidates are counted by expert or device (a group), those of groups with
 * more than C become records, and a heap takes the best C records of a group.
 * For the scope global the records are of all ranks; for the scope request the
 * same runs once for each window of each request, so that no other request's
 * candidate is ever looked at.
 *
 * Where we depart from the paper: C is rounded up and exact in integers; ties
 * are decided by an order, not by comparing with the C-th value, which keeps
 * more than C; a device takes C times its experts with C rounded before, so
 * that the level device never drops more than the level expert; and an expanded
 * candidate may be kept from displacing the gate's choices. */
#include "runtime/balance/capacity.h"

#include "runtime/base/rng.h"

#include <string.h>

enum {
  MAX_GAMMA = 1000000,
  NOT_PINNED =
      1 << 16,         /* bits of moerun__capacity_record.standing; the low 8 */
  ADDED_LAST = 1 << 8, /* are the priority class                              */
};

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
                   "capacity of a device depends on the placement: with the "
                   "scope request it is expected by expert");
  }
done:
  return status;
}

void moerun__capacity_lay_out(moerun__capacity *capacity,
                              moerun__arena *arena) {
  const size_t T = (size_t)capacity->max_tokens;
  const size_t pairs = T * (size_t)capacity->width;
  capacity->num_groups = capacity->options.level == MOERUN_LEVEL_DEVICE
                             ? capacity->num_devices
                             : capacity->num_experts;
  const size_t groups = (size_t)capacity->num_groups;
  if (capacity->max_records < (int64_t)pairs) {
    capacity->max_records = (int64_t)pairs;
  }
  capacity->demand = moerun__arena_take(arena, groups + 1, sizeof(int64_t));
  capacity->limit = moerun__arena_take(arena, groups, sizeof(int64_t));
  capacity->rows_after =
      moerun__arena_take(arena, (size_t)capacity->num_experts, sizeof(int64_t));
  capacity->kept = moerun__arena_take(arena, pairs, 1);
  capacity->members = moerun__arena_take(arena, T, sizeof(int32_t));
  capacity->records =
      moerun__arena_take(arena, pairs, sizeof(moerun__capacity_record));
  capacity->queue =
      moerun__arena_take(arena, (size_t)capacity->max_records, sizeof(int32_t));
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

/* ---- Total order ------------------------------------------------------------- */

/* Ascending with the score; -0 is 0, and NaN comes before all numbers. */
static uint32_t score_bits(float score) {
  uint32_t bits;
  const float x = score + 0.0F;
  memcpy(&bits, &x, sizeof bits);
  if (x != x) return 0;
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

static void set_metric(moerun__capacity_record *record,
                       const moerun__capacity_options *options, int32_t layer,
                       float score) {
  const uint32_t request = (uint32_t)record->request;
  const uint32_t position = (uint32_t)record->position;
  record->metric[0] = 0;
  record->metric[1] = 0;
  switch (options->metric) {
  case MOERUN_METRIC_SCORE: record->metric[0] = ~score_bits(score); break;
  case MOERUN_METRIC_FIRST:
    record->metric[0] = request;
    record->metric[1] = position;
    break;
  case MOERUN_METRIC_LAST:
    record->metric[0] = ~request;
    record->metric[1] = ~position;
    break;
  case MOERUN_METRIC_HASH: {
    /* The number of a request says how many came before: in its own scope
     * nothing may follow from that. */
    const int named = options->scope != MOERUN_SCOPE_REQUEST;
    uint32_t drawn[4];
    moerun__philox(drawn, options->seed,
                   (uint64_t)(uint32_t)layer << 32 | (uint32_t)record->expert,
                   (uint64_t)(named ? request : 0) << 32 | position);
    record->metric[0] = drawn[0];
    record->metric[1] = drawn[1];
    break;
  }
  }
}

/* Whether item a comes before item b of what `context` points to. */
typedef int before_fn(const void *context, int32_t a, int32_t b);

static int record_before(const void *context, int32_t i, int32_t j) {
  const moerun__capacity_record *a = (const moerun__capacity_record *)context;
  const moerun__capacity_record *b = a + j;
  a += i;
  if (a->standing != b->standing) return a->standing < b->standing;
  if (a->metric[0] != b->metric[0]) return a->metric[0] < b->metric[0];
  if (a->metric[1] != b->metric[1]) return a->metric[1] < b->metric[1];
  if (a->position != b->position) return a->position < b->position;
  if (a->request != b->request) return a->request < b->request;
  return a->expert < b->expert;
}

static int row_before(const void *context, int32_t a, int32_t b) {
  const moerun__capacity_rows *rows = (const moerun__capacity_rows *)context;
  if (rows->request[a] != rows->request[b]) {
    return rows->request[a] < rows->request[b];
  }
  return rows->position[a] < rows->position[b];
}

static void sift_down(int32_t *heap, int32_t n, int32_t at, before_fn *before,
                      const void *context) {
  for (;;) {
    int32_t first = at;
    const int32_t left = 2 * at + 1;
    const int32_t right = left + 1;
    if (left < n && before(context, heap[left], heap[first])) first = left;
    if (right < n && before(context, heap[right], heap[first])) first = right;
    if (first == at) return;
    const int32_t moved = heap[at];
    heap[at] = heap[first];
    heap[first] = moved;
    at = first;
  }
}

static void make_heap(int32_t *heap, int32_t n, before_fn *before,
                      const void *context) {
  for (int32_t i = n / 2 - 1; i >= 0; i--) {
    sift_down(heap, n, i, before, context);
  }
}

/* Takes the first of n items off; it then stands at heap[n - 1]. */
static int32_t take_first(int32_t *heap, int32_t n, before_fn *before,
                          const void *context) {
  const int32_t first = heap[0];
  heap[0] = heap[n - 1];
  heap[n - 1] = first;
  sift_down(heap, n - 1, 0, before, context);
  return first;
}

/* ---- Candidates ---------------------------------------------------------------- */

static int32_t group_of(const moerun__capacity *capacity,
                        const moerun__capacity_rows *rows, int32_t expert) {
  return capacity->options.level == MOERUN_LEVEL_DEVICE
             ? rows->device_of_expert[expert]
             : expert;
}

static int has(const int32_t *ids, int32_t n, int32_t expert) {
  for (int32_t j = 0; j < n; j++) {
    if (ids[j] == expert) return 1;
  }
  return 0;
}

/* Behind the gate's choices of token t: nothing, or its expanded candidates
 * with the weights that they would have. */
static void fill_row(moerun__capacity *capacity,
                     const moerun__capacity_rows *rows, int32_t t, int expand) {
  const int32_t width = capacity->width;
  const int32_t K = capacity->experts_per_token;
  int32_t *ids = rows->ids + (size_t)t * (size_t)width;
  float *weight = rows->weight + (size_t)t * (size_t)width;
  const float *scores =
      rows->scores + (size_t)t * (size_t)capacity->num_experts;
  int32_t n = K;
  if (expand) {
    const double scale = moerun__weight_scale(ids, weight, scores, K);
    for (int32_t i = 0; i < rows->num_extra && n < width; i++) {
      const int32_t expert = rows->extra[i];
      if (has(ids, K, expert)) continue;
      ids[n] = expert;
      weight[n++] = (float)((double)scores[expert] * scale);
    }
  }
  for (; n < width; n++) {
    ids[n] = -1;
    weight[n] = 0;
  }
}

static void choose_members(moerun__capacity *capacity,
                           const moerun__capacity_rows *rows) {
  const int expand = capacity->options.expansion != MOERUN_EXPANSION_OFF;
  capacity->num_members = 0;
  capacity->num_over = 0;
  for (int32_t t = 0; t < rows->T; t++) {
    const int member = capacity->options.decode || rows->decoded == NULL ||
                       rows->decoded[t] == 0;
    if (member) capacity->members[capacity->num_members++] = t;
    fill_row(capacity, rows, t, member && expand);
  }
}

/* The next three work on n tokens, `member`: all, or those of one window. */
static void count_demand(moerun__capacity *capacity,
                         const moerun__capacity_rows *rows,
                         const int32_t *member, int32_t n) {
  const size_t width = (size_t)capacity->width;
  memset(capacity->demand, 0,
         ((size_t)capacity->num_groups + 1) * sizeof(int64_t));
  for (int32_t i = 0; i < n; i++) {
    const int32_t *ids = rows->ids + (size_t)member[i] * width;
    for (size_t j = 0; j < width; j++) {
      if (ids[j] < 0) continue;
      capacity->demand[group_of(capacity, rows, ids[j])]++;
    }
  }
  capacity->demand[capacity->num_groups] = n;
}

static void set_limits(moerun__capacity *capacity,
                       const moerun__capacity_rows *rows, int64_t tokens) {
  const int64_t C =
      moerun__capacity_of(capacity->options.gamma, tokens,
                          capacity->experts_per_token, capacity->num_experts);
  memset(capacity->limit, 0, (size_t)capacity->num_groups * sizeof(int64_t));
  for (int32_t e = 0; e < capacity->num_experts; e++) {
    capacity->limit[group_of(capacity, rows, e)] += C;
  }
}

/* The candidates of one token: kept, or a record if its group is over. */
static void collect_row(moerun__capacity *capacity,
                        const moerun__capacity_rows *rows, int32_t t,
                        const int64_t *total) {
  const int32_t width = capacity->width;
  const int32_t K = capacity->experts_per_token;
  const int fill = capacity->options.expansion == MOERUN_EXPANSION_FILL;
  const float *scores =
      rows->scores + (size_t)t * (size_t)capacity->num_experts;
  int pin = capacity->options.keep_top1;
  for (int32_t j = 0; j < width; j++) {
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
    record->standing = (pinned ? 0 : NOT_PINNED) |
                       (fill && j >= K ? ADDED_LAST : 0) |
                       (rows->priority != NULL ? rows->priority[t] : 0U);
    record->position = rows->position[t];
    record->request = rows->request[t];
    record->expert = expert;
    record->at = at;
    set_metric(record, &capacity->options, rows->layer, scores[expert]);
  }
}

static void collect(moerun__capacity *capacity,
                    const moerun__capacity_rows *rows, const int32_t *member,
                    int32_t n, const int64_t *total) {
  const int32_t groups = capacity->num_groups;
  set_limits(capacity, rows, total[groups]);
  for (int32_t g = 0; g < groups; g++) {
    capacity->num_over += total[g] > capacity->limit[g];
  }
  capacity->num_records = 0;
  for (int32_t i = 0; i < n; i++) {
    collect_row(capacity, rows, member[i], total);
  }
}

/* ---- Selection ------------------------------------------------------------------- */

/* Record numbers by group; queue_offset[g] is then the end of group g. */
static void queue_by_group(moerun__capacity *capacity,
                           const moerun__capacity_record *records, int32_t n) {
  const int32_t groups = capacity->num_groups;
  int32_t *offset = capacity->queue_offset;
  memset(offset, 0, ((size_t)groups + 1) * sizeof *offset);
  for (int32_t i = 0; i < n; i++) {
    offset[records[i].group + 1]++;
  }
  for (int32_t g = 0; g < groups; g++) {
    offset[g + 1] += offset[g];
  }
  for (int32_t i = 0; i < n; i++) {
    capacity->queue[offset[records[i].group]++] = i;
  }
}

/* Marks the own ones, first_own and on, of the best records of every group. */
static void select_best(moerun__capacity *capacity,
                        const moerun__capacity_record *records, int32_t n,
                        int32_t first_own) {
  queue_by_group(capacity, records, n);
  int32_t begin = 0;
  for (int32_t g = 0; g < capacity->num_groups; g++) {
    int32_t *heap = capacity->queue + begin;
    int32_t left = capacity->queue_offset[g] - begin;
    make_heap(heap, left, record_before, records);
    for (int64_t taken = 0; left > 0; taken++) {
      const int pinned = (records[heap[0]].standing & NOT_PINNED) == 0;
      if (taken >= capacity->limit[g] && !pinned) break;
      const int32_t best = take_first(heap, left--, record_before, records);
      const int32_t own = best - first_own;
      if (own >= 0 && own < capacity->num_records) {
        capacity->kept[records[best].at] = 1;
      }
    }
    begin = capacity->queue_offset[g];
  }
}

/* ---- What is left ------------------------------------------------------------------ */

static double number_or_0(float x) {
  return x == x ? (double)x : 0;
}

/* What comes of the candidates of one token: survivors to the front. */
static void finish_row(const moerun__capacity *capacity,
                       const moerun__capacity_rows *rows, int32_t t,
                       moerun__capacity_counts *counts) {
  const int32_t width = capacity->width;
  const int32_t K = capacity->experts_per_token;
  int32_t *ids = rows->ids + (size_t)t * (size_t)width;
  float *weight = rows->weight + (size_t)t * (size_t)width;
  const float *scores =
      rows->scores + (size_t)t * (size_t)capacity->num_experts;
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

static void finish(moerun__capacity *capacity,
                   const moerun__capacity_rows *rows,
                   moerun__capacity_counts *counts) {
  counts->over += capacity->num_over;
  for (int32_t i = 0; i < capacity->num_members; i++) {
    finish_row(capacity, rows, capacity->members[i], counts);
  }
  memset(capacity->rows_after, 0,
         (size_t)capacity->num_experts * sizeof(int64_t));
  const size_t pairs = (size_t)rows->T * (size_t)capacity->width;
  for (size_t i = 0; i < pairs; i++) {
    if (rows->ids[i] >= 0) capacity->rows_after[rows->ids[i]]++;
  }
}

/* ---- Scopes --------------------------------------------------------------------------- */

/* C of a window holds for its tokens alone. */
static void apply_to(moerun__capacity *capacity,
                     const moerun__capacity_rows *rows, const int32_t *member,
                     int32_t n) {
  count_demand(capacity, rows, member, n);
  collect(capacity, rows, member, n, capacity->demand);
  select_best(capacity, capacity->records, capacity->num_records, 0);
}

/* Members by request and position, which makes each window a run of them. */
static void sort_members(moerun__capacity *capacity,
                         const moerun__capacity_rows *rows) {
  make_heap(capacity->members, capacity->num_members, row_before, rows);
  for (int32_t n = capacity->num_members; n > 1; n--) {
    (void)take_first(capacity->members, n, row_before, rows);
  }
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
    sort_members(capacity, rows);
    int32_t begin = 0;
    for (int32_t i = 1; i <= n; i++) {
      if (i < n && rows->request[member[i]] == rows->request[member[begin]] &&
          rows->position[member[i]] / window ==
              rows->position[member[begin]] / window) {
        continue;
      }
      apply_to(capacity, rows, member + begin, i - begin);
      begin = i;
    }
  }
  finish(capacity, rows, counts);
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
}

moerun_status moerun__capacity_cut(moerun__capacity *capacity,
                                   const moerun__capacity_rows *rows,
                                   const moerun__capacity_record *records,
                                   int64_t num_records, int64_t first_own,
                                   moerun__capacity_counts *counts) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(num_records <= capacity->max_records &&
                     num_records <= INT32_MAX && first_own >= 0 &&
                     first_own + capacity->num_records <= num_records,
                 MOERUN_ERR_COMM,
                 "capacity records: found %lld, own ones from %lld: expected "
                 "at most %lld and %d own ones",
                 (long long)num_records, (long long)first_own,
                 (long long)capacity->max_records, capacity->num_records);
  for (int64_t i = 0; i < num_records; i++) {
    MOERUN_REQUIRE(records[i].group >= 0 &&
                       records[i].group < capacity->num_groups,
                   MOERUN_ERR_COMM,
                   "capacity record %lld is of group %d: expected below %d",
                   (long long)i, records[i].group, capacity->num_groups);
  }
  select_best(capacity, records, (int32_t)num_records, (int32_t)first_own);
  finish(capacity, rows, counts);
done:
  return status;
}
