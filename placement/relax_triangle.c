/* Which triangle conditions are worth a copy: there are millions of them, and a
 * few per cent of those that the estimate breaks the most do the work of all. */
#include "placement/relax.h"

#include "runtime/base/memory.h"

#include <stdlib.h>

#define NEAR 0.05 /* a triangle this close to its limit is kept in mind */

typedef struct candidate {
  uint64_t key;
  uint32_t at[3];
  double excess;
} candidate;

typedef struct search {
  moerun__relax *relax;
  candidate *found;
  size_t count;
  size_t room;
  size_t most;
  double least;
} search;

/* ---- Order ------------------------------------------------------------------ */

static int by_key(const void *x, const void *y) {
  const moerun__triangle *a = x;
  const moerun__triangle *b = y;
  return a->key < b->key ? -1 : a->key > b->key;
}

static int by_excess(const void *x, const void *y) {
  const candidate *a = x;
  const candidate *b = y;
  if (a->excess > b->excess) return -1;
  if (a->excess < b->excess) return 1;
  return a->key < b->key ? -1 : a->key > b->key;
}

/* ---- Find ------------------------------------------------------------------- */

/* Where the pair of rows p and q of window b is. */
static uint32_t pair_at(const moerun__relax *relax, int32_t b, size_t p,
                        size_t q) {
  const size_t n = (size_t)relax->num_items;
  const size_t low = p < q ? p : q;
  const size_t high = p < q ? q : p;
  const size_t distance = high / n - low / n;
  const size_t layer = (size_t)b + low / n;
  return (uint32_t)(relax->offset[distance] + (layer * n + low % n) * n +
                    high % n);
}

static int is_known(const moerun__relax *relax, uint64_t key) {
  const moerun__triangle wanted = {.key = key};
  return relax->num_triangles > 0 &&
         bsearch(&wanted, relax->triangle, relax->num_triangles, sizeof wanted,
                 by_key) != NULL;
}

static void keep_best(search *s) {
  if (s->count == 0) return;
  qsort(s->found, s->count, sizeof *s->found, by_excess);
  if (s->count > s->most) s->count = s->most;
}

static void take(search *s, int32_t b, size_t i, size_t j, size_t k,
                 double excess) {
  const size_t n = (size_t)s->relax->num_items;
  const uint64_t items = (uint64_t)s->relax->num_layers * n;
  const size_t first = (size_t)b * n;
  const candidate c = {
      .key = ((first + i) * items + first + j) * items + first + k,
      .at = {pair_at(s->relax, b, i, j), pair_at(s->relax, b, j, k),
             pair_at(s->relax, b, i, k)},
      .excess = excess};
  if (is_known(s->relax, c.key)) return;
  if (s->count == s->room) keep_best(s);
  s->found[s->count++] = c;
}

/* Those of window b that no later window has: with an item of its first layer,
 * or all of the last one. */
static void search_window(search *s, int32_t b) {
  const moerun__relax *relax = s->relax;
  const size_t n = (size_t)relax->num_items;
  const size_t D = (size_t)relax->side;
  const int is_last = b + 1 == relax->num_blocks;
  double *window = relax->window;
  moerun__relax_assemble(window, relax, relax->pair, b);
  for (size_t j = 0; j < D; j++) {
    const double *from_j = window + j * D;
    for (size_t i = 0; i < (is_last || j < n ? D : n); i++) {
      const double *from_i = window + i * D;
      const double limit = 1 + s->least - from_j[i];
      for (size_t k = i + 1; k < D; k++) {
        if (from_j[k] - from_i[k] <= limit) continue;
        take(s, b, i, j, k, from_j[i] + from_j[k] - from_i[k] - 1);
      }
    }
  }
}

/* ---- Take up ---------------------------------------------------------------- */

static void forget_idle(moerun__relax *relax) {
  size_t kept = 0;
  for (size_t t = 0; t < relax->num_triangles; t++) {
    const moerun__triangle *triangle = relax->triangle + t;
    const double *pair = relax->pair;
    const double excess = pair[triangle->at[0]] + pair[triangle->at[1]] -
                          pair[triangle->at[2]] - 1;
    if (triangle->price > 0 || excess > -NEAR) {
      relax->triangle[kept++] = *triangle;
    }
  }
  relax->num_triangles = kept;
}

static moerun_status take_up(search *s) {
  moerun_status status = MOERUN_OK;
  moerun__relax *relax = s->relax;
  const size_t wanted = relax->num_triangles + s->count;
  if (wanted > relax->triangle_room) {
    const size_t room = 2 * wanted;
    MOERUN_TRY(moerun__resize(&relax->triangle, relax->triangle_room, room,
                              sizeof *relax->triangle));
    relax->triangle_room = room;
  }
  for (size_t i = 0; i < s->count; i++) {
    const candidate *c = s->found + i;
    relax->triangle[relax->num_triangles++] =
        (moerun__triangle){.key = c->key, .at = {c->at[0], c->at[1], c->at[2]}};
  }
  if (relax->num_triangles > 0) {
    qsort(relax->triangle, relax->num_triangles, sizeof *relax->triangle,
          by_key);
  }
done:
  return status;
}

moerun_status moerun__relax_separate(size_t *added, moerun__relax *relax,
                                     size_t most, double least) {
  moerun_status status = MOERUN_OK;
  search s = {.relax = relax, .room = 4 * most, .most = most, .least = least};
  MOERUN_TRY(moerun__alloc(&s.found, s.room, sizeof *s.found));
  forget_idle(relax);
  for (int32_t b = 0; b < relax->num_blocks; b++) {
    search_window(&s, b);
  }
  keep_best(&s);
  MOERUN_TRY(take_up(&s));
  moerun__relax_weigh(relax);
  *added = s.count;
done:
  moerun__free(s.found);
  return status;
}
