/* Blocks double up to 1 MiB, so that a short template takes a few KiB and a
 * long conversation few calls. */
#include "runtime/text/template/pool.h"

#include "runtime/base/memory.h"

#include <string.h>

enum { FIRST_BLOCK = 4 << 10, LARGEST_BLOCK = 1 << 20, PIECE_ALIGNMENT = 16 };

typedef struct moerun__pool_block {
  struct moerun__pool_block *before;
  size_t room; /* bytes behind this header */
  size_t used;
  size_t unused; /* the header is a multiple of PIECE_ALIGNMENT */
} moerun__pool_block;

static moerun_status add_block(moerun__pool *pool, size_t bytes) {
  moerun_status status = MOERUN_OK;
  moerun__pool_block *block = NULL;
  size_t room = pool->last != NULL ? pool->last->room * 2 : FIRST_BLOCK;
  if (room > LARGEST_BLOCK) room = LARGEST_BLOCK;
  if (room < bytes) room = bytes;
  MOERUN_REQUIRE(room <= pool->limit && pool->taken <= pool->limit - room,
                 MOERUN_ERR_UNSUPPORTED,
                 "a chat template asks for more than %zu bytes of memory",
                 pool->limit);
  MOERUN_TRY(moerun__alloc(&block, sizeof *block + room, 1));
  block->before = pool->last;
  block->room = room;
  pool->last = block;
  pool->taken += room;
done:
  return status;
}

moerun_status moerun__pool_take(moerun__pool *pool, void *out_pointer,
                                size_t bytes) {
  moerun_status status = MOERUN_OK;
  void *piece = NULL;
  MOERUN_REQUIRE(bytes < SIZE_MAX / 4, MOERUN_ERR_UNSUPPORTED,
                 "a chat template asks for more than %zu bytes of memory",
                 pool->limit);
  const size_t needed =
      (bytes + PIECE_ALIGNMENT - 1) & ~(size_t)(PIECE_ALIGNMENT - 1);
  if (pool->last == NULL || pool->last->room - pool->last->used < needed) {
    MOERUN_TRY(add_block(pool, needed));
  }
  piece = (char *)(pool->last + 1) + pool->last->used;
  pool->last->used += needed;
done:
  memcpy(out_pointer, &piece, sizeof piece);
  return status;
}

void moerun__pool_clear(moerun__pool *pool) {
  while (pool->last != NULL) {
    moerun__pool_block *before = pool->last->before;
    moerun__free(pool->last);
    pool->last = before;
  }
  pool->taken = 0;
}

moerun_status moerun__buffer_append(moerun__buffer *buffer, moerun__pool *pool,
                                    const char *bytes, size_t count) {
  moerun_status status = MOERUN_OK;
  if (count > buffer->room - buffer->count) {
    char *larger = NULL;
    const size_t room = (buffer->count + count) * 2 + 64;
    MOERUN_TRY(moerun__pool_take(pool, &larger, room));
    if (buffer->count > 0) memcpy(larger, buffer->bytes, buffer->count);
    buffer->bytes = larger;
    buffer->room = room;
  }
  if (count > 0) memcpy(buffer->bytes + buffer->count, bytes, count);
  buffer->count += count;
done:
  return status;
}
