/* The processor as a device. Its memory is the host's and nothing is under way
 * when a call returns, so that queues have nothing to keep. */
#include "kernels/device.h"

#include "runtime/base/memory.h"

#include <string.h>

static moerun_status memory_create(void **out, size_t bytes) {
  return moerun__alloc_unset(out, bytes, 1);
}

static size_t memory_bytes(size_t bytes) {
  return moerun__alloc_bytes(bytes, 1);
}

static moerun_status lock(void *memory, size_t bytes) {
  (void)memory;
  (void)bytes;
  return MOERUN_OK;
}

static void unlock(void *memory) {
  (void)memory;
}

static moerun_status queue_create(moerun__queue *out) {
  *out = (moerun__queue){.device = &moerun__host};
  return MOERUN_OK;
}

static void queue_destroy(moerun__queue *queue) {
  (void)queue;
}

static void copy(moerun__queue *queue, void *to, const void *from,
                 size_t bytes) {
  (void)queue;
  memcpy(to, from, bytes);
}

static void copy_rows(moerun__queue *queue, const moerun__copies *copies) {
  char *to = copies->to;
  const char *from = copies->from;
  (void)queue;
  for (int32_t i = 0; i < copies->count; i++) {
    memcpy(to, from, copies->bytes);
    to += copies->to_stride;
    from += copies->from_stride;
  }
}

static void clear(moerun__queue *queue, void *memory, size_t bytes) {
  (void)queue;
  memset(memory, 0, bytes);
}

static moerun_status wait_for(moerun__queue *queue) {
  (void)queue;
  return MOERUN_OK;
}

const moerun__device moerun__host = {
    .name = "host",
    .memory_create = memory_create,
    .memory_destroy = moerun__free,
    .pinned_create = memory_create,
    .pinned_destroy = moerun__free,
    .lock = lock,
    .unlock = unlock,
    .memory_bytes = memory_bytes,
    .queue_create = queue_create,
    .queue_destroy = queue_destroy,
    .copy = copy,
    .copy_rows = copy_rows,
    .clear = clear,
    .wait = wait_for,
};
