/* Merging with a heap (as the Hugging Face tokenizers library does it): the
 * text may be one piece of many MiB, where looking for the best pair again
 * after each merge would be quadratic. Tokens form a doubly linked list over
 * the byte positions; the heap holds candidate pairs by (rank, position).
 * Entries are not removed when a merge makes them stale; a popped entry counts
 * only if its pair still stands there and still joins to the same token.
 *
 * Byte-pair encoding for subwords: Sennrich, Haddow, Birch 2016
 * (arXiv:1508.07909). */
#include "runtime/text/bpe.h"

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

struct moerun__bpe {
  int32_t byte_token[256];
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

enum { NO_NEIGHBOUR = -1, JOINED_AWAY = -2 };

static size_t pair_hash(int32_t left, int32_t right) {
  uint64_t x = (uint64_t)(uint32_t)left << 32 | (uint32_t)right;
  x ^= x >> 31;
  x *= 0x9E3779B97F4A7C15U;
  x ^= x >> 29;
  return (size_t)x;
}

/* The pair's place, or the empty one where it belongs. */
static merge_place *find_place(const moerun__bpe *bpe, int32_t left,
                               int32_t right) {
  size_t i = pair_hash(left, right) & bpe->mask;
  while (bpe->place[i].rank >= 0 &&
         (bpe->place[i].left != left || bpe->place[i].right != right)) {
    i = (i + 1) & bpe->mask;
  }
  return &bpe->place[i];
}

moerun_status moerun__bpe_create(moerun__bpe **out,
                                 const int32_t byte_token[256],
                                 const moerun__bpe_merge *merge,
                                 size_t num_merges) {
  moerun_status status = MOERUN_OK;
  moerun__bpe *bpe = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&bpe, 1, sizeof *bpe));
  memcpy(bpe->byte_token, byte_token, sizeof bpe->byte_token);
  size_t places = 2;
  while (places < 2 * num_merges) {
    places *= 2;
  }
  bpe->num_merges = num_merges;
  bpe->mask = places - 1;
  MOERUN_TRY(moerun__alloc_unset(&bpe->place, places, sizeof *bpe->place));
  for (size_t i = 0; i < places; i++) {
    bpe->place[i].rank = -1;
  }
  for (size_t i = 0; i < num_merges; i++) {
    *find_place(bpe, merge[i].left, merge[i].right) =
        (merge_place){.left = merge[i].left,
                      .right = merge[i].right,
                      .rank = moerun__to_int((int64_t)i),
                      .joined = merge[i].joined};
  }
  *out = bpe;
  bpe = NULL;
done:
  moerun__bpe_destroy(bpe);
  return status;
}

void moerun__bpe_destroy(moerun__bpe *bpe) {
  if (bpe == NULL) return;
  moerun__free(bpe->place);
  moerun__free(bpe);
}

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
static void consider(piece *p, const moerun__bpe *bpe, int32_t position) {
  if (position < 0 || p->next[position] < 0) return;
  const merge_place *found =
      find_place(bpe, p->id[position], p->id[p->next[position]]);
  if (found->rank < 0) return;
  push(p, (candidate){.rank = found->rank,
                      .position = position,
                      .joined = found->joined});
}

static void merge_all(piece *p, const moerun__bpe *bpe) {
  for (int32_t i = 0; i < p->count; i++) {
    p->previous[i] = i - 1;
    p->next[i] = i + 1 < p->count ? i + 1 : NO_NEIGHBOUR;
  }
  for (int32_t i = 0; i < p->count; i++) {
    consider(p, bpe, i);
  }
  while (p->num_candidates > 0) {
    const candidate top = pop(p);
    const int32_t right = p->next[top.position];
    if (right < 0) continue;
    const merge_place *found =
        find_place(bpe, p->id[top.position], p->id[right]);
    if (found->rank < 0 || found->joined != top.joined) continue;
    p->id[top.position] = top.joined;
    p->next[top.position] = p->next[right];
    if (p->next[right] >= 0) p->previous[p->next[right]] = top.position;
    p->next[right] = JOINED_AWAY;
    consider(p, bpe, p->previous[top.position]);
    consider(p, bpe, top.position);
  }
}

moerun_status moerun__bpe_encode(const moerun__bpe *bpe,
                                 moerun__token_list *out, const char *text,
                                 size_t bytes, const char *origin) {
  moerun_status status = MOERUN_OK;
  piece p = {0};
  MOERUN_REQUIRE(
      bytes < INT32_MAX / 4, MOERUN_ERR_INVALID,
      "%s: a text of %zu bytes is too long to be tokenized: expected "
      "at most %d",
      origin, bytes, INT32_MAX / 4);
  MOERUN_TRY(moerun__token_list_reserve(out, bytes));
  int32_t *id = out->id + out->count;
  for (size_t i = 0; i < bytes; i++) {
    const unsigned byte = (unsigned char)text[i];
    id[i] = bpe->byte_token[byte];
    MOERUN_REQUIRE(id[i] >= 0, MOERUN_ERR_FORMAT,
                   "%s: the tokenizer has no token for byte 0x%02x of the text",
                   origin, byte);
  }
  if (bpe->num_merges == 0) {
    out->count += bytes;
    goto done;
  }
  p.count = moerun__to_int((int64_t)bytes);
  p.id = id;
  MOERUN_TRY(moerun__alloc_unset(&p.next, bytes, sizeof *p.next));
  MOERUN_TRY(moerun__alloc_unset(&p.previous, bytes, sizeof *p.previous));
  /* At most bytes - 1 pairs at first; each merge takes one and adds two. */
  MOERUN_TRY(moerun__alloc_unset(&p.heap, 2 * bytes, sizeof *p.heap));
  merge_all(&p, bpe);
  size_t kept = 0;
  for (int32_t i = 0; i < p.count; i++) {
    if (p.next[i] != JOINED_AWAY) id[kept++] = id[i];
  }
  out->count += kept;
done:
  moerun__free(p.next);
  moerun__free(p.previous);
  moerun__free(p.heap);
  return status;
}
