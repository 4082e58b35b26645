/* A heap takes the best records of a group, so that a group with n candidates
 * for C places costs n + C log n. For the scope global each rank does so first
 * among its own: what is not among the best C of a rank is not among the best C
 * of all, and need not travel. */
#include "runtime/plan/capacity_select.h"

#include "runtime/base/rng.h"

#include <string.h>

/* ---- Total order --------------------------------------------------------- */

uint32_t moerun__score_order(float score) {
  uint32_t bits;
  const float x = score + 0.0F;
  memcpy(&bits, &x, sizeof bits);
  if (x != x) return 0;
  return (bits & 0x80000000U) != 0 ? ~bits : bits | 0x80000000U;
}

void moerun__capacity_rate(moerun__capacity_record *record,
                           const moerun__capacity_options *options,
                           int32_t layer, float value) {
  const uint32_t request = (uint32_t)record->request;
  const uint32_t position = (uint32_t)record->position;
  record->metric[0] = 0;
  record->metric[1] = 0;
  switch (options->metric) {
  case MOERUN_METRIC_SCORE:
  case MOERUN_METRIC_WEIGHT:
    record->metric[0] = ~moerun__score_order(value);
    break;
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

static void sift_down(int32_t *heap, int32_t n, int32_t at,
                      moerun__before *before, const void *context) {
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

static void make_heap(int32_t *heap, int32_t n, moerun__before *before,
                      const void *context) {
  for (int32_t i = n / 2 - 1; i >= 0; i--) {
    sift_down(heap, n, i, before, context);
  }
}

/* Takes the first of n items off; it then stands at heap[n - 1]. */
static int32_t take_first(int32_t *heap, int32_t n, moerun__before *before,
                          const void *context) {
  const int32_t first = heap[0];
  heap[0] = heap[n - 1];
  heap[n - 1] = first;
  sift_down(heap, n - 1, 0, before, context);
  return first;
}

void moerun__capacity_sort(int32_t *items, int32_t n, moerun__before *before,
                           const void *context) {
  make_heap(items, n, before, context);
  for (; n > 1; n--) {
    (void)take_first(items, n, before, context);
  }
}

/* ---- Selection ----------------------------------------------------------- */

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

void moerun__capacity_select(moerun__capacity *capacity,
                             const moerun__capacity_record *records, int32_t n,
                             int32_t first_own) {
  queue_by_group(capacity, records, n);
  int32_t begin = 0;
  for (int32_t g = 0; g < capacity->num_groups; g++) {
    int32_t *heap = capacity->queue + begin;
    int32_t left = capacity->queue_offset[g] - begin;
    make_heap(heap, left, record_before, records);
    for (int64_t taken = 0; left > 0; taken++) {
      const int pinned = (records[heap[0]].standing & MOERUN_NOT_PINNED) == 0;
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

void moerun__capacity_prune(moerun__capacity *capacity) {
  int32_t n = 0;
  moerun__capacity_select(capacity, capacity->records, capacity->num_records,
                          0);
  for (int32_t i = 0; i < capacity->num_records; i++) {
    const moerun__capacity_record record = capacity->records[i];
    if (!capacity->kept[record.at]) continue;
    capacity->kept[record.at] = 0;
    capacity->records[n++] = record;
  }
  capacity->num_records = n;
}
