/* A word of few tokens is looked through for its best pair again and again. For
 * longer ones there is a heap (as the Hugging Face tokenizers library has it):
 * a text may be one piece of many MiB, where looking would be quadratic. Tokens
 * form a doubly linked list over the byte positions; the heap holds candidate
 * pairs by (rank, position). Entries are not removed when a merge makes them
 * stale; a popped entry counts only if its pair still stands there and still
 * joins to the same token.
 *
 * Byte-pair encoding for subwords: Sennrich, Haddow, Birch 2016
 * (arXiv:1508.07909). */
#include "runtime/text/merges.h"

#include "runtime/base/memory.h"
#include "runtime/base/number.h"

#include <string.h>

/* One place of the open-addressing table; rank -1: empty. */
typedef struct merge_place {
  int32_t left;
  int32_t right;
  int32_t rank;
  int32_t joined;
} merge_place;

struct moerun__merges {
  size_t num_merges;
  size_t mask; /* places - 1, a power of two minus one */
  merge_place *place;
};

typedef struct candidate {
  int32_t rank;
  int32_t position;
  int32_t joined;
} candidate;

/* One piece of text while it is merged. */
typedef struct piece {
  int32_t count;
  int32_t *id;
  int32_t
      *next; /* position of the right neighbour, -1: none, -2: joined away */
  int32_t *previous;
  candidate *heap;
  size_t num_candidates;
} piece;

enum { NO_NEIGHBOUR = -1, JOINED_AWAY = -2, FEW = 48 };

static size_t pair_hash(int32_t left, int32_t right) {
  uint64_t x = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
  x ^= x >> 31;
  x *= 0x9E3779B97F4A7C15U;
  x ^= x >> 29;
  return (size_t)x;
}

/* The pair's place, or the empty one where it belongs. */
static merge_place *find_place(const moerun__merges *m, int32_t left,
                               int32_t right) {
  size_t i = pair_hash(left, right) & m->mask;
  while (m->place[i].rank >= 0 &&
         (m->place[i].left != left || m->place[i].right != right)) {
    i = (i + 1) & m->mask;
  }
  return &m->place[i];
}

moerun_status moerun__merges_create(moerun__merges **out,
                                    const moerun__merge *merge, size_t count) {
  moerun_status status = MOERUN_OK;
  moerun__merges *m = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&m, 1, sizeof *m));
  size_t places = 2;
  while (places < 2 * count) {
    places *= 2;
  }
  m->num_merges = count;
  m->mask = places - 1;
  MOERUN_TRY(moerun__alloc_unset(&m->place, places, sizeof *m->place));
  for (size_t i = 0; i < places; i++) {
    m->place[i].rank = -1;
  }
  for (size_t i = 0; i < count; i++) {
    *find_place(m, merge[i].left, merge[i].right) =
        (merge_place){.left = merge[i].left,
                      .right = merge[i].right,
                      .rank = moerun__to_int((int64_t)i),
                      .joined = merge[i].joined};
  }
  *out = m;
  m = NULL;
done:
  moerun__merges_destroy(m);
  return status;
}

void moerun__merges_destroy(moerun__merges *m) {
  if (m == NULL) return;
  moerun__free(m->place);
  moerun__free(m);
}

/* ---- Few tokens ---------------------------------------------------------- */

/* The pair that begins at each token but the last. */
typedef struct pair {
  int32_t rank;
  int32_t joined;
} pair;

static pair pair_of(const moerun__merges *m, int32_t left, int32_t right) {
  const merge_place *found = find_place(m, left, right);
  return (pair){.rank = found->rank < 0 ? INT32_MAX : found->rank,
                .joined = found->joined};
}

static void apply_to_few(const moerun__merges *m, int32_t *id, int32_t *count) {
  pair of[FEW] = {{0, 0}};
  int32_t n = *count;
  for (int32_t i = 0; i + 1 < n; i++) {
    of[i] = pair_of(m, id[i], id[i + 1]);
  }
  while (n > 1) {
    int32_t best = 0;
    for (int32_t i = 1; i + 1 < n; i++) {
      if (of[i].rank < of[best].rank) best = i;
    }
    if (of[best].rank == INT32_MAX) break;
    id[best] = of[best].joined;
    n--;
    for (int32_t i = best + 1; i < n; i++) {
      id[i] = id[i + 1];
      of[i - 1] = of[i];
    }
    if (best > 0) of[best - 1] = pair_of(m, id[best - 1], id[best]);
    if (best + 1 < n) of[best] = pair_of(m, id[best], id[best + 1]);
  }
  *count = n;
}

/* ---- Many tokens --------------------------------------------------------- */

static int before(const candidate *a, const candidate *b) {
  return a->rank != b->rank ? a->rank < b->rank : a->position < b->position;
}

static void push(piece *p, candidate entry) {
  size_t i = p->num_candidates++;
  while (i > 0 && before(&entry, &p->heap[(i - 1) / 2])) {
    p->heap[i] = p->heap[(i - 1) / 2];
    i = (i - 1) / 2;
  }
  p->heap[i] = entry;
}

static candidate pop(piece *p) {
  const candidate top = p->heap[0];
  const candidate last = p->heap[--p->num_candidates];
  size_t i = 0;
  for (;;) {
    size_t child = 2 * i + 1;
    if (child >= p->num_candidates) break;
    if (child + 1 < p->num_candidates &&
        before(&p->heap[child + 1], &p->heap[child])) {
      child++;
    }
    if (!before(&p->heap[child], &last)) break;
    p->heap[i] = p->heap[child];
    i = child;
  }
  p->heap[i] = last;
  return top;
}

/* Adds the pair that begins at `position` if it can be joined. */
static void consider(piece *p, const moerun__merges *m, int32_t position) {
  if (position < 0 || p->next[position] < 0) return;
  const merge_place *found =
      find_place(m, p->id[position], p->id[p->next[position]]);
  if (found->rank < 0) return;
  push(p, (candidate){.rank = found->rank,
                      .position = position,
                      .joined = found->joined});
}

static void merge_all(piece *p, const moerun__merges *m) {
  for (int32_t i = 0; i < p->count; i++) {
    p->previous[i] = i - 1;
    p->next[i] = i + 1 < p->count ? i + 1 : NO_NEIGHBOUR;
  }
  for (int32_t i = 0; i < p->count; i++) {
    consider(p, m, i);
  }
  while (p->num_candidates > 0) {
    const candidate top = pop(p);
    const int32_t right = p->next[top.position];
    if (right < 0) continue;
    const merge_place *found = find_place(m, p->id[top.position], p->id[right]);
    if (found->rank < 0 || found->joined != top.joined) continue;
    p->id[top.position] = top.joined;
    p->next[top.position] = p->next[right];
    if (p->next[right] >= 0) p->previous[p->next[right]] = top.position;
    p->next[right] = JOINED_AWAY;
    consider(p, m, p->previous[top.position]);
    consider(p, m, top.position);
  }
}

moerun_status moerun__merges_apply(const moerun__merges *m, int32_t *id,
                                   int32_t *count) {
  moerun_status status = MOERUN_OK;
  piece p = {.count = *count, .id = id};
  const size_t places = (size_t)*count;
  if (*count < 2 || m->num_merges == 0) goto done;
  if (*count <= FEW) {
    apply_to_few(m, id, count);
    goto done;
  }
  MOERUN_TRY(moerun__alloc_unset(&p.next, places, sizeof *p.next));
  MOERUN_TRY(moerun__alloc_unset(&p.previous, places, sizeof *p.previous));
  /* At most count - 1 pairs at first; each merge takes one and adds two. */
  MOERUN_TRY(moerun__alloc_unset(&p.heap, 2 * places, sizeof *p.heap));
  merge_all(&p, m);
  int32_t kept = 0;
  for (int32_t i = 0; i < p.count; i++) {
    if (p.next[i] != JOINED_AWAY) id[kept++] = id[i];
  }
  *count = kept;
done:
  moerun__free(p.next);
  moerun__free(p.previous);
  moerun__free(p.heap);
  return status;
}
