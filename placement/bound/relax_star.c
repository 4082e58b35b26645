/* Which of the millions of stars are worth a copy: a few per cent of those that
 * the estimate breaks the most do the work of all. Stars of two leaves are the
 * triangle conditions; with three they are Grötschel and Wakabayashi's (1990)
 * next larger ones, which are looked for among the neighbours of each
 * centre. */
#include "placement/bound/relax.h"

#include "runtime/base/memory.h"

#include <stdlib.h>

#define NEAR      0.05 /* a star this close to its limit is kept in mind */
#define NEIGHBOUR 0.05 /* leaves of larger stars share at least this much */

enum { NO_LEAF = 0xffff };

typedef struct candidate {
  uint64_t key;
  double excess;
  int32_t window;
  int32_t row[MOERUN_STAR_MAX_LEAVES + 1]; /* of the window: centre, leaves */
} candidate;

typedef struct search {
  moerun__relax *relax;
  candidate *found;
  int32_t *neighbour; /* [D] */
  size_t count;
  size_t room;
  size_t most;
  double least;
  int32_t num_leaves;
} search;

/* ---- Order --------------------------------------------------------------- */

static int by_key(const void *x, const void *y) {
  const moerun__star *a = x;
  const moerun__star *b = y;
  return a->key < b->key ? -1 : a->key > b->key;
}

static int by_excess(const void *x, const void *y) {
  const candidate *a = x;
  const candidate *b = y;
  if (a->excess > b->excess) return -1;
  if (a->excess < b->excess) return 1;
  return a->key < b->key ? -1 : a->key > b->key;
}

/* ---- Find ---------------------------------------------------------------- */

/* Where the pair of rows p and q of window b is. */
static uint32_t pair_at(const moerun__relax *relax, int32_t b, int32_t p,
                        int32_t q) {
  const size_t n = (size_t)relax->num_items;
  const size_t low = (size_t)(p < q ? p : q);
  const size_t high = (size_t)(p < q ? q : p);
  const size_t distance = high / n - low / n;
  const size_t layer = (size_t)b + low / n;
  return (uint32_t)(relax->offset[distance] + (layer * n + low % n) * n +
                    high % n);
}

static int is_known(const moerun__relax *relax, uint64_t key) {
  const moerun__star wanted = {.key = key};
  return relax->num_stars > 0 && bsearch(&wanted, relax->star, relax->num_stars,
                                         sizeof wanted, by_key) != NULL;
}

/* From here on only what is worse than all of these is looked at. */
static void keep_worst(search *s) {
  if (s->count == 0) return;
  qsort(s->found, s->count, sizeof *s->found, by_excess);
  if (s->count <= s->most) return;
  s->count = s->most;
  if (s->count > 0) s->least = s->found[s->count - 1].excess;
}

/* row[]: the centre and num_leaves ascending leaves, then anything. */
static void take(search *s, int32_t b, const int32_t *row, double excess) {
  const uint64_t first = (uint64_t)b * (uint64_t)s->relax->num_items;
  candidate c = {.excess = excess, .window = b};
  for (int32_t i = 0; i <= MOERUN_STAR_MAX_LEAVES; i++) {
    const int is_used = i <= s->num_leaves;
    c.row[i] = row[i];
    c.key = c.key << 16 | (is_used ? first + (uint64_t)row[i] : NO_LEAF);
  }
  if (is_known(s->relax, c.key)) return;
  if (s->count == s->room) keep_worst(s);
  s->found[s->count++] = c;
}

/* Whether this window is the last that has all of the star. */
static int is_here(const search *s, int32_t b, int32_t a, int32_t c) {
  const int32_t n = s->relax->num_items;
  return b + 1 == s->relax->num_blocks || a < n || c < n;
}

static void search_pairs(search *s, int32_t b, int32_t centre) {
  const size_t D = (size_t)s->relax->side;
  const double *from_centre = s->relax->window + (size_t)centre * D;
  for (int32_t i = 0; i < s->relax->side; i++) {
    const double *from_i = s->relax->window + (size_t)i * D;
    const double own = from_centre[i] - 1;
    if (!is_here(s, b, centre, i)) break;
    for (int32_t j = i + 1; j < s->relax->side; j++) {
      const double excess = own + from_centre[j] - from_i[j];
      if (excess > s->least) take(s, b, (int32_t[]){centre, i, j, 0}, excess);
    }
  }
}

/* Leaves i < j < k of the centre's neighbours; i is in the lowest layer. */
static void search_triples(search *s, int32_t b, int32_t centre) {
  const size_t D = (size_t)s->relax->side;
  const double *window = s->relax->window;
  const double *from_centre = window + (size_t)centre * D;
  int32_t count = 0;
  for (int32_t i = 0; i < s->relax->side; i++) {
    if (i != centre && from_centre[i] > NEIGHBOUR) s->neighbour[count++] = i;
  }
  for (int32_t x = 0; x < count; x++) {
    const int32_t i = s->neighbour[x];
    const double *from_i = window + (size_t)i * D;
    if (!is_here(s, b, centre, i)) break;
    for (int32_t y = x + 1; y < count; y++) {
      const int32_t j = s->neighbour[y];
      const double *from_j = window + (size_t)j * D;
      const double pair = from_centre[i] + from_centre[j] - from_i[j] - 1;
      if (pair + 1 <= s->least) continue; /* no third leaf adds more than 1 */
      for (int32_t z = y + 1; z < count; z++) {
        const int32_t k = s->neighbour[z];
        const double excess = pair + from_centre[k] - from_i[k] - from_j[k];
        if (excess > s->least) take(s, b, (int32_t[]){centre, i, j, k}, excess);
      }
    }
  }
}

/* ---- Take up ------------------------------------------------------------- */

double moerun__star_excess(const moerun__star *star, const double *pair) {
  double excess = -1;
  for (int32_t i = 0; i < moerun__star_size(star); i++) {
    excess += moerun__star_sign(star, i) * pair[star->at[i]];
  }
  return excess;
}

static void forget_idle(moerun__relax *relax) {
  size_t kept = 0;
  for (size_t t = 0; t < relax->num_stars; t++) {
    const moerun__star *star = relax->star + t;
    if (star->price > 0 || moerun__star_excess(star, relax->pair) > -NEAR) {
      relax->star[kept++] = *star;
    }
  }
  relax->num_stars = kept;
}

static moerun__star star_of(const search *s, const candidate *c) {
  moerun__star star = {.key = c->key, .num_leaves = s->num_leaves};
  int32_t next = s->num_leaves;
  for (int32_t i = 1; i <= s->num_leaves; i++) {
    star.at[i - 1] = pair_at(s->relax, c->window, c->row[0], c->row[i]);
    for (int32_t j = i + 1; j <= s->num_leaves; j++) {
      star.at[next++] = pair_at(s->relax, c->window, c->row[i], c->row[j]);
    }
  }
  return star;
}

static moerun_status take_up(search *s) {
  moerun_status status = MOERUN_OK;
  moerun__relax *relax = s->relax;
  const size_t wanted = relax->num_stars + s->count;
  if (wanted > relax->star_room) {
    const size_t room = 2 * wanted;
    MOERUN_TRY(moerun__resize(&relax->star, relax->star_room, room,
                              sizeof *relax->star));
    relax->star_room = room;
  }
  for (size_t i = 0; i < s->count; i++) {
    relax->star[relax->num_stars++] = star_of(s, s->found + i);
  }
  if (relax->num_stars > 0) {
    qsort(relax->star, relax->num_stars, sizeof *relax->star, by_key);
  }
done:
  return status;
}

moerun_status moerun__relax_separate(moerun__relax *relax, int32_t num_leaves,
                                     size_t most, double least) {
  moerun_status status = MOERUN_OK;
  search s = {.relax = relax,
              .room = 4 * most,
              .most = most,
              .least = least,
              .num_leaves = num_leaves};
  MOERUN_TRY(moerun__alloc(&s.found, s.room, sizeof *s.found));
  MOERUN_TRY(
      moerun__alloc(&s.neighbour, (size_t)relax->side, sizeof *s.neighbour));
  forget_idle(relax);
  for (int32_t b = 0; b < relax->num_blocks; b++) {
    moerun__relax_assemble(relax->window, relax, relax->pair, b);
    for (int32_t centre = 0; centre < relax->side; centre++) {
      if (num_leaves == 2) {
        search_pairs(&s, b, centre);
      } else {
        search_triples(&s, b, centre);
      }
    }
  }
  keep_worst(&s);
  MOERUN_TRY(take_up(&s));
  moerun__relax_weigh(relax);
done:
  moerun__free(s.found);
  moerun__free(s.neighbour);
  return status;
}
