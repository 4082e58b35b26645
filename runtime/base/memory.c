/* A block is preceded by one aligned unit that remembers its size, so that the
 * bytes alive can be counted exactly; that is what the memory promise ("known
 * before it starts") is checked against. Counters are atomic because a host
 * program may create objects from several threads. */
#include "runtime/base/memory.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

static atomic_size_t calls, live, live_bytes;
static atomic_long fail_countdown = -1;

size_t moerun__alloc_bytes(size_t count, size_t size) {
  size_t bytes = count * size;
  bytes = (bytes + MOERUN_ALIGNMENT - 1) & ~(size_t)(MOERUN_ALIGNMENT - 1);
  return bytes + MOERUN_ALIGNMENT;
}

typedef enum block_use { CLEARED, UNSET, STREAMED } block_use;

/* Large blocks that are read from end to end start on a huge page and ask for
 * more: with small pages address translation costs a part of the bandwidth. Not
 * so the others: of a cache only what is used shall become resident. A refusal
 * changes nothing but the speed. */
enum { HUGE_PAGE = 2 << 20 };

static void *allocate_block(size_t bytes, block_use use) {
#ifdef MADV_HUGEPAGE
  if (use == STREAMED && bytes >= (size_t)4 * HUGE_PAGE) {
    /* aligned_alloc would ask for a multiple of the alignment. */
    void *block = NULL;
    if (posix_memalign(&block, HUGE_PAGE, bytes) != 0) return NULL;
    (void)madvise(block, bytes / HUGE_PAGE * HUGE_PAGE, MADV_HUGEPAGE);
    return block;
  }
#endif
  (void)use;
  return aligned_alloc(MOERUN_ALIGNMENT, bytes);
}

static moerun_status allocate(void *out_pointer, size_t count, size_t size,
                              block_use use) {
  moerun_status status = MOERUN_OK;
  char *block = NULL;
  void *memory = NULL;
  memcpy(out_pointer, &memory, sizeof memory);
  MOERUN_REQUIRE(size == 0 || count <= (SIZE_MAX / 2) / size, MOERUN_ERR_NOMEM,
                 "out of memory: %zu elements of %zu bytes", count, size);
  const size_t bytes = moerun__alloc_bytes(count, size);
  atomic_fetch_add(&calls, 1);
  const int fails = atomic_load(&fail_countdown) >= 0 &&
                    atomic_fetch_sub(&fail_countdown, 1) == 0;
  if (!fails) block = allocate_block(bytes, use);
  MOERUN_REQUIRE(block != NULL, MOERUN_ERR_NOMEM,
                 "out of memory: %zu bytes could not be allocated", bytes);
  memcpy(block, &bytes, sizeof bytes);
  memory = block + MOERUN_ALIGNMENT;
  if (use == CLEARED) memset(memory, 0, bytes - MOERUN_ALIGNMENT);
  memcpy(out_pointer, &memory, sizeof memory);
  atomic_fetch_add(&live, 1);
  atomic_fetch_add(&live_bytes, bytes);
done:
  return status;
}

moerun_status moerun__alloc(void *out_pointer, size_t count, size_t size) {
  return allocate(out_pointer, count, size, CLEARED);
}

moerun_status moerun__alloc_unset(void *out_pointer, size_t count,
                                  size_t size) {
  return allocate(out_pointer, count, size, UNSET);
}

moerun_status moerun__alloc_streamed(void *out_pointer, size_t count,
                                     size_t size) {
  return allocate(out_pointer, count, size, STREAMED);
}

/* `after` takes the place of what *pointer points to. */
static void move_to(void *pointer, void *after, size_t bytes) {
  void *before = NULL;
  memcpy(&before, pointer, sizeof before);
  if (before != NULL) memcpy(after, before, bytes);
  moerun__free(before);
  memcpy(pointer, &after, sizeof after);
}

moerun_status moerun__resize(void *pointer, size_t old_count, size_t new_count,
                             size_t size) {
  moerun_status status = MOERUN_OK;
  void *after = NULL;
  MOERUN_TRY(moerun__alloc(&after, new_count, size));
  move_to(pointer, after,
          size * (old_count < new_count ? old_count : new_count));
done:
  return status;
}

moerun_status moerun__resize_unset(void *pointer, size_t old_count,
                                   size_t new_count, size_t size) {
  moerun_status status = MOERUN_OK;
  void *after = NULL;
  MOERUN_TRY(moerun__alloc_unset(&after, new_count, size));
  move_to(pointer, after,
          size * (old_count < new_count ? old_count : new_count));
done:
  return status;
}

void moerun__free(void *memory) {
  if (memory == NULL) return;
  char *block = (char *)memory - MOERUN_ALIGNMENT;
  size_t bytes = 0;
  memcpy(&bytes, block, sizeof bytes);
  atomic_fetch_sub(&live, 1);
  atomic_fetch_sub(&live_bytes, bytes);
  free(block);
}

moerun_status moerun__copy_text(char **out, const char *text) {
  moerun_status status = MOERUN_OK;
  const size_t bytes = strlen(text) + 1;
  MOERUN_TRY(moerun__alloc(out, bytes, 1));
  memcpy(*out, text, bytes);
done:
  return status;
}

size_t moerun__alloc_calls(void) {
  return atomic_load(&calls);
}
size_t moerun__alloc_live(void) {
  return atomic_load(&live);
}
size_t moerun__alloc_live_bytes(void) {
  return atomic_load(&live_bytes);
}
void moerun__alloc_fail_nth(long nth) {
  atomic_store(&fail_countdown, nth < 0 ? -1 : nth);
}
