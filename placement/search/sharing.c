/* State of the fan-out problem of one layer with replicas. A change touches the
 * bases of up to three ranks: one or two whose slots change, and that of an
 * expert which stops or begins to be the only replica. Those bases are made
 * anew from the token sets of their experts, and the experts of several
 * replicas that have one on such a rank are counted anew; the rest stays as it
 * is. */
#include "placement/search/sharing.h"

#include "placement/search/token_set.h"
#include "runtime/base/memory.h"

#include <string.h>

enum { MOST_TOUCHED = 3 };

/* What a trial found, to be kept or thrown away. */
typedef struct moerun__sharing_trial {
  moerun__slot_change change;
  int32_t rank[MOST_TOUCHED];
  int32_t num_ranks;
  uint64_t *base; /* [MOST_TOUCHED][stride] */
  int32_t base_count[MOST_TOUCHED];
  int32_t *expert; /* [MOST_TOUCHED * room + 2] counted anew */
  int32_t num_experts;
  double *cost;       /* [MOST_TOUCHED * room + 2] */
  double *share;      /* [MOST_TOUCHED * room + 2][R] */
  double *load;       /* [R] */
  int64_t *last_seen; /* [E] trial that the expert was listed in */
  int64_t number;
  int32_t *hits;          /* [R] scratch: tokens that visit each replica */
  const uint64_t **bases; /* [R] scratch */
} trial;

/* ---- Making -------------------------------------------------------------- */

static moerun_status create_trial(trial **out, size_t E, size_t R, size_t room,
                                  size_t stride) {
  moerun_status status = MOERUN_OK;
  trial *t = NULL;
  const size_t experts = MOST_TOUCHED * room + 2;
  MOERUN_TRY(moerun__alloc(&t, 1, sizeof *t));
  *out = t;
  MOERUN_TRY(moerun__alloc(&t->base, MOST_TOUCHED * stride, sizeof *t->base));
  MOERUN_TRY(moerun__alloc(&t->expert, experts, sizeof *t->expert));
  MOERUN_TRY(moerun__alloc(&t->cost, experts, sizeof *t->cost));
  MOERUN_TRY(moerun__alloc(&t->share, experts * R, sizeof *t->share));
  MOERUN_TRY(moerun__alloc(&t->load, R, sizeof *t->load));
  MOERUN_TRY(moerun__alloc(&t->last_seen, E, sizeof *t->last_seen));
  MOERUN_TRY(moerun__alloc(&t->hits, R, sizeof *t->hits));
  MOERUN_TRY(moerun__alloc(&t->bases, R, sizeof *t->bases));
done:
  return status;
}

static void destroy_trial(trial *t) {
  if (t == NULL) return;
  moerun__free(t->base);
  moerun__free(t->expert);
  moerun__free(t->cost);
  moerun__free(t->share);
  moerun__free(t->load);
  moerun__free(t->last_seen);
  moerun__free(t->hits);
  moerun__free(t->bases);
  moerun__free(t);
}

moerun_status moerun__sharing_create(moerun__sharing **out,
                                     const moerun__problem *problem,
                                     moerun__visits *visits,
                                     int32_t spare_slots) {
  moerun_status status = MOERUN_OK;
  moerun__sharing *s = NULL;
  const size_t E = (size_t)problem->num_experts;
  const size_t R = (size_t)problem->num_ranks;
  const size_t room = (size_t)problem->even_slots + (size_t)spare_slots;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&s, 1, sizeof *s));
  s->problem = problem;
  s->visits = visits;
  s->room = problem->even_slots + spare_slots;
  MOERUN_TRY(moerun__alloc(&s->item_of, E, sizeof *s->item_of));
  MOERUN_TRY(moerun__alloc(&s->taken, E, sizeof *s->taken));
  MOERUN_TRY(moerun__alloc(&s->cap, R, sizeof *s->cap));
  MOERUN_TRY(moerun__alloc(&s->slot, R * room, sizeof *s->slot));
  MOERUN_TRY(moerun__alloc(&s->host_count, E, sizeof *s->host_count));
  MOERUN_TRY(moerun__alloc(&s->host, E * R, sizeof *s->host));
  MOERUN_TRY(moerun__alloc(&s->base, R * visits->stride, sizeof *s->base));
  MOERUN_TRY(moerun__alloc(&s->base_count, R, sizeof *s->base_count));
  MOERUN_TRY(moerun__alloc(&s->cost, E, sizeof *s->cost));
  MOERUN_TRY(moerun__alloc(&s->share, E * R, sizeof *s->share));
  MOERUN_TRY(moerun__alloc(&s->load, R, sizeof *s->load));
  MOERUN_TRY(create_trial(&s->trial, E, R, room, visits->stride));
  *out = s;
  s = NULL;
done:
  moerun__sharing_destroy(s);
  return status;
}

void moerun__sharing_destroy(moerun__sharing *sharing) {
  if (sharing == NULL) return;
  moerun__free(sharing->item_of);
  moerun__free(sharing->taken);
  moerun__free(sharing->cap);
  moerun__free(sharing->slot);
  moerun__free(sharing->host_count);
  moerun__free(sharing->host);
  moerun__free(sharing->base);
  moerun__free(sharing->base_count);
  moerun__free(sharing->cost);
  moerun__free(sharing->share);
  moerun__free(sharing->load);
  destroy_trial(sharing->trial);
  moerun__free(sharing);
}

/* ---- Counting ------------------------------------------------------------ */

static const uint64_t *takes_of(const moerun__sharing *s, int32_t expert) {
  return s->visits->takes + (size_t)s->item_of[expert] * s->visits->stride;
}

static double load_of(const moerun__sharing *s, int32_t expert) {
  const size_t row = (size_t)s->visits->layer * (size_t)s->problem->num_experts;
  return (double)s->problem->load[row + (size_t)expert];
}

/* The union of the rank's experts of one replica, and its size. */
static int32_t make_base(const moerun__sharing *s, uint64_t *base,
                         int32_t rank) {
  const size_t words = s->visits->words;
  const int32_t *slot = s->slot + (size_t)rank * (size_t)s->room;
  memset(base, 0, words * sizeof *base);
  for (int32_t x = 0; x < s->room; x++) {
    if (slot[x] < 0 || s->host_count[slot[x]] > 1) continue;
    const uint64_t *set = takes_of(s, slot[x]);
    for (size_t w = 0; w < words; w++) {
      base[w] |= set[w];
    }
  }
  return moerun__set_size(base, words);
}

/* The trial's base of the rank, or the state's. */
static const uint64_t *base_of(const moerun__sharing *s, int32_t rank) {
  const trial *t = s->trial;
  for (int32_t i = 0; i < t->num_ranks; i++) {
    if (t->rank[i] == rank) return t->base + (size_t)i * s->visits->stride;
  }
  return s->base + (size_t)rank * s->visits->stride;
}

/* Of n replicas one is at home for n homes of R. Elsewhere a token is served
 * where it goes anyway, by any of several such replicas, and by any of all if
 * there is none. So a visit is added where none of them is in the base, and at
 * home where another is but that is not. */
static double count_expert(const moerun__sharing *s, double *share,
                           int32_t expert) {
  const size_t words = s->visits->words;
  const int32_t R = s->problem->num_ranks;
  const int32_t n = s->host_count[expert];
  const int32_t *host = s->host + (size_t)expert * (size_t)R;
  const double load = load_of(s, expert);
  trial *t = s->trial;
  double hits = 0;
  memset(share, 0, (size_t)R * sizeof *share);
  if (n == 1) {
    share[host[0]] = load;
    return 0;
  }
  for (int32_t i = 0; i < n; i++) {
    t->bases[i] = base_of(s, host[i]);
    t->hits[i] = moerun__set_common(takes_of(s, expert), t->bases[i], words);
    hits += t->hits[i];
  }
  const double served =
      moerun__set_common_any(takes_of(s, expert), t->bases, n, words);
  const double all = s->taken[expert];
  for (int32_t i = 0; i < n; i++) {
    double part = 1.0 / n;
    if (all > 0) {
      const double alone = t->hits[i] - (hits - served) / n;
      part = ((alone > 0 ? alone : 0) + (all - served) / n) / all;
    }
    share[host[i]] = load * (1 + (R - n) * part) / R;
  }
  return all - served + (n * served - hits) / R;
}

/* ---- State --------------------------------------------------------------- */

static void host_on(moerun__sharing *s, int32_t expert, int32_t rank) {
  if (expert < 0) return;
  const size_t row = (size_t)expert * (size_t)s->problem->num_ranks;
  s->host[row + (size_t)s->host_count[expert]++] = rank;
}

static void unhost(moerun__sharing *s, int32_t expert, int32_t rank) {
  if (expert < 0) return;
  int32_t *host = s->host + (size_t)expert * (size_t)s->problem->num_ranks;
  const int32_t last = --s->host_count[expert];
  for (int32_t i = 0; i < last; i++) {
    if (host[i] == rank) host[i] = host[last];
  }
}

static int hosts(const moerun__sharing *s, int32_t expert, int32_t rank) {
  const int32_t *slot = s->slot + (size_t)rank * (size_t)s->room;
  for (int32_t x = 0; x < s->room; x++) {
    if (slot[x] == expert) return 1;
  }
  return 0;
}

void moerun__sharing_start(moerun__sharing *sharing,
                           const moerun__replicas *replicas) {
  const moerun__problem *problem = sharing->problem;
  const moerun__visits *visits = sharing->visits;
  const int32_t R = problem->num_ranks;
  const int64_t *cap = problem->cap + (size_t)visits->layer * (size_t)R;
  for (int32_t r = 0; r < R; r++) {
    sharing->cap[r] = (double)cap[r];
    sharing->base_count[r] = 0; /* slots taken, until bases are derived */
  }
  for (int32_t x = 0; x < R * sharing->room; x++) {
    sharing->slot[x] = -1;
  }
  for (int32_t e = 0; e < problem->num_experts; e++) {
    int32_t count = 0;
    const int32_t *ranks = moerun__replicas_of(replicas, e, &count);
    sharing->host_count[e] = 0;
    for (int32_t i = 0; i < count; i++) {
      const int32_t r = ranks[i];
      sharing->slot[r * sharing->room + sharing->base_count[r]++] = e;
      host_on(sharing, e, r);
    }
  }
  for (int32_t i = 0; i < visits->num_items; i++) {
    if (visits->expert_of[i] >= 0) sharing->item_of[visits->expert_of[i]] = i;
  }
  moerun__sharing_derive(sharing);
}

void moerun__sharing_derive(moerun__sharing *sharing) {
  const int32_t R = sharing->problem->num_ranks;
  const int32_t E = sharing->problem->num_experts;
  const size_t words = sharing->visits->words;
  sharing->trial->num_ranks = 0;
  for (int32_t r = 0; r < R; r++) {
    sharing->base_count[r] = make_base(
        sharing, sharing->base + (size_t)r * sharing->visits->stride, r);
    sharing->load[r] = 0;
  }
  for (int32_t e = 0; e < E; e++) {
    double *share = sharing->share + (size_t)e * (size_t)R;
    sharing->taken[e] = moerun__set_size(takes_of(sharing, e), words);
    sharing->cost[e] = count_expert(sharing, share, e);
    for (int32_t r = 0; r < R; r++) {
      sharing->load[r] += share[r];
    }
  }
}

/* Tokens beyond the caps, as visits of the tokens looked at. */
static double penalty_of(const moerun__sharing *s, const double *load) {
  double excess = 0;
  for (int32_t r = 0; r < s->problem->num_ranks; r++) {
    if (load[r] > s->cap[r]) excess += load[r] - s->cap[r];
  }
  return MOERUN_SHARING_PENALTY * excess * MOERUN_WORD_BITS *
         (double)s->visits->words / (double)s->problem->trace->num_tokens;
}

/* ---- Changes ------------------------------------------------------------- */

static int32_t *slot_a(const moerun__sharing *s, const moerun__slot_change *c) {
  return s->slot + (size_t)c->a * (size_t)s->room + (size_t)c->slot_a;
}

static int32_t *slot_b(const moerun__sharing *s, const moerun__slot_change *c) {
  return s->slot + (size_t)c->b * (size_t)s->room + (size_t)c->slot_b;
}

int moerun__sharing_allowed(const moerun__sharing *sharing,
                            const moerun__slot_change *change) {
  const int32_t from = *slot_a(sharing, change);
  if (change->b < 0) {
    if (from == change->expert) return 0;
    if (from >= 0 && sharing->host_count[from] < 2) return 0;
    return change->expert < 0 || !hosts(sharing, change->expert, change->a);
  }
  const int32_t to = *slot_b(sharing, change);
  if (change->a == change->b || from == to) return 0;
  return (from < 0 || !hosts(sharing, from, change->b)) &&
         (to < 0 || !hosts(sharing, to, change->a));
}

/* Rank `change->a` gets `expert` for what it holds; the other rank, if any, the
 * reverse. Its own inverse for two ranks. */
static void write_slots(moerun__sharing *s, const moerun__slot_change *c,
                        int32_t expert) {
  int32_t *a = slot_a(s, c);
  unhost(s, *a, c->a);
  if (c->b >= 0) {
    int32_t *b = slot_b(s, c);
    expert = *b;
    unhost(s, *b, c->b);
    *b = *a;
    host_on(s, *b, c->b);
  }
  *a = expert;
  host_on(s, expert, c->a);
}

static void touch_rank(trial *t, int32_t rank) {
  for (int32_t i = 0; i < t->num_ranks; i++) {
    if (t->rank[i] == rank) return;
  }
  t->rank[t->num_ranks++] = rank;
}

static void list_expert(trial *t, int32_t expert) {
  if (expert < 0 || t->last_seen[expert] == t->number) return;
  t->last_seen[expert] = t->number;
  t->expert[t->num_experts++] = expert;
}

/* An expert whose replicas became one, or were: its rank's base changes. */
static void touch_single(const moerun__sharing *s, int32_t expert) {
  if (expert < 0) return;
  const int32_t *host =
      s->host + (size_t)expert * (size_t)s->problem->num_ranks;
  if (s->host_count[expert] <= 2) touch_rank(s->trial, host[0]);
}

static void find_touched(moerun__sharing *s, int32_t from, int32_t to) {
  trial *t = s->trial;
  const moerun__slot_change *c = &t->change;
  t->num_ranks = 0;
  t->num_experts = 0;
  t->number++;
  touch_rank(t, c->a);
  if (c->b >= 0) {
    touch_rank(t, c->b);
  } else {
    touch_single(s, from);
    touch_single(s, to);
  }
  list_expert(t, from);
  list_expert(t, to);
  for (int32_t i = 0; i < t->num_ranks; i++) {
    const int32_t *slot = s->slot + (size_t)t->rank[i] * (size_t)s->room;
    for (int32_t x = 0; x < s->room; x++) {
      if (slot[x] >= 0 && s->host_count[slot[x]] > 1) list_expert(t, slot[x]);
    }
  }
}

double moerun__sharing_try(moerun__sharing *sharing,
                           const moerun__slot_change *change) {
  trial *t = sharing->trial;
  const size_t R = (size_t)sharing->problem->num_ranks;
  const int32_t from = *slot_a(sharing, change);
  double added = -penalty_of(sharing, sharing->load);
  t->change = *change;
  if (change->b >= 0) t->change.expert = *slot_b(sharing, change);
  write_slots(sharing, &t->change, t->change.expert);
  find_touched(sharing, from, t->change.expert);
  for (int32_t i = 0; i < t->num_ranks; i++) {
    t->base_count[i] = make_base(
        sharing, t->base + (size_t)i * sharing->visits->stride, t->rank[i]);
    added += t->base_count[i] - sharing->base_count[t->rank[i]];
  }
  memcpy(t->load, sharing->load, R * sizeof *t->load);
  for (int32_t i = 0; i < t->num_experts; i++) {
    double *share = t->share + (size_t)i * R;
    const double *before = sharing->share + (size_t)t->expert[i] * R;
    t->cost[i] = count_expert(sharing, share, t->expert[i]);
    added += t->cost[i] - sharing->cost[t->expert[i]];
    for (size_t r = 0; r < R; r++) {
      t->load[r] += share[r] - before[r];
    }
  }
  t->change.expert = from;
  return added + penalty_of(sharing, t->load);
}

void moerun__sharing_revert(moerun__sharing *sharing) {
  trial *t = sharing->trial;
  write_slots(sharing, &t->change, t->change.expert);
  t->num_ranks = 0;
}

void moerun__sharing_keep(moerun__sharing *sharing) {
  trial *t = sharing->trial;
  const size_t R = (size_t)sharing->problem->num_ranks;
  const size_t stride = sharing->visits->stride;
  for (int32_t i = 0; i < t->num_ranks; i++) {
    memcpy(sharing->base + (size_t)t->rank[i] * stride,
           t->base + (size_t)i * stride,
           sharing->visits->words * sizeof *t->base);
    sharing->base_count[t->rank[i]] = t->base_count[i];
  }
  for (int32_t i = 0; i < t->num_experts; i++) {
    sharing->cost[t->expert[i]] = t->cost[i];
    memcpy(sharing->share + (size_t)t->expert[i] * R, t->share + (size_t)i * R,
           R * sizeof *t->share);
  }
  memcpy(sharing->load, t->load, R * sizeof *t->load);
  t->num_ranks = 0;
}
