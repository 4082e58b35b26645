/* A device that nobody has, to show that the runtime keeps to what a device
 * promises. The host may not touch its memory: pages are locked but for the
 * device's own operations, and a stray access ends the test. And it is late: what
 * works on its memory happens when the queue is waited for, or when something
 * that needs the host's memory alone comes behind it. */
#ifndef MOERUN_TESTS_MADE_DEVICE_H
#define MOERUN_TESTS_MADE_DEVICE_H

#include "kernels/kernels.h"
#include "runtime/base/memory.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
  MADE_REGIONS = 256,
  MADE_LATE = 256, /* operations that wait at a time */
};

typedef struct made_region {
  void *memory;
  size_t bytes;
} made_region;

/* An operation that is still to happen; arguments are kept as they were. */
typedef struct made_operation {
  enum { MADE_COPY, MADE_CLEAR, MADE_GATHER, MADE_SCATTER, MADE_FFN } what;
  void *to;
  const void *from;
  size_t bytes;
  moerun__wire_rows rows;
  const int32_t *index;
  int32_t M;
  int32_t H;
  moerun__ffn ffn; /* of one expert */
  moerun__expert expert;
  int32_t offset[2];
} made_operation;

static struct {
  made_region region[MADE_REGIONS];
  int num_regions;
  made_operation late[MADE_LATE];
  int num_late;
  int num_done[MADE_FFN + 1];
  const moerun__kernels *base; /* what operations are computed with */
} made;

static inline void made_lock(int protection) {
  for (int r = 0; r < made.num_regions; r++) {
    if (mprotect(made.region[r].memory, made.region[r].bytes, protection) !=
        0) {
      abort();
    }
  }
}

static inline int made_is_mine(const void *p) {
  for (int r = 0; r < made.num_regions; r++) {
    const char *begin = made.region[r].memory;
    const char *at = p;
    if (at >= begin && at < begin + made.region[r].bytes) return 1;
  }
  return 0;
}

/* Whether the host could read there; asks the system, which does not stumble. */
static inline int made_is_readable(const void *p) {
  int pipe_of[2];
  if (pipe(pipe_of) != 0) abort();
  const int readable = write(pipe_of[1], p, 1) == 1;
  (void)close(pipe_of[0]);
  (void)close(pipe_of[1]);
  return readable;
}

static inline void made_run(moerun__queue *queue, made_operation *o) {
  switch (o->what) {
  case MADE_COPY: memcpy(o->to, o->from, o->bytes); break;
  case MADE_CLEAR: memset(o->to, 0, o->bytes); break;
  case MADE_GATHER:
    made.base->gather(queue, o->to, &o->rows, o->index, o->M, o->H);
    break;
  case MADE_SCATTER:
    made.base->scatter(queue, &o->rows, o->index, o->from, o->M, o->H);
    break;
  case MADE_FFN:
    o->ffn.expert = &o->expert;
    o->ffn.offset = o->offset;
    made.base->ffn(queue, &o->ffn);
    break;
  }
  made.num_done[o->what]++;
}

static inline moerun_status made_wait(moerun__queue *queue) {
  made_lock(PROT_READ | PROT_WRITE);
  for (int i = 0; i < made.num_late; i++) {
    made_run(queue, &made.late[i]);
  }
  made.num_late = 0;
  made_lock(PROT_NONE);
  return MOERUN_OK;
}

static inline void made_give(moerun__queue *queue,
                             const made_operation *operation) {
  if (made.num_late == MADE_LATE) (void)made_wait(queue);
  made.late[made.num_late++] = *operation;
}

/* ---- The device ------------------------------------------------------------------ */

static inline moerun_status made_memory_create(void **out, size_t bytes) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t all = (bytes / page + 1) * page;
  if (made.num_regions == MADE_REGIONS) abort();
  void *memory = mmap(NULL, all, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) abort();
  made.region[made.num_regions++] = (made_region){memory, all};
  *out = memory;
  return MOERUN_OK;
}

static inline void made_memory_destroy(void *memory) {
  for (int r = 0; r < made.num_regions; r++) {
    if (made.region[r].memory != memory) continue;
    (void)munmap(memory, made.region[r].bytes);
    made.region[r] = made.region[--made.num_regions];
    return;
  }
}

static inline moerun_status made_pinned_create(void **out, size_t bytes) {
  return moerun__alloc(out, bytes, 1);
}

static const moerun__device made_device;

static inline moerun_status made_queue_create(moerun__queue *out) {
  *out = (moerun__queue){.device = &made_device};
  return MOERUN_OK;
}

static inline void made_queue_destroy(moerun__queue *queue) {
  (void)made_wait(queue);
}

static inline void made_copy(moerun__queue *queue, void *to, const void *from,
                             size_t bytes) {
  const made_operation copy = {
      .what = MADE_COPY, .to = to, .from = from, .bytes = bytes};
  made_give(queue, &copy);
}

static inline void made_clear(moerun__queue *queue, void *memory,
                              size_t bytes) {
  const made_operation clear = {
      .what = MADE_CLEAR, .to = memory, .bytes = bytes};
  made_give(queue, &clear);
}

static inline moerun_status made_event_create(moerun__event *out) {
  *out = (moerun__event){NULL};
  return MOERUN_OK;
}

static inline void made_event_destroy(moerun__event *event) {
  (void)event;
}

static inline void made_record(moerun__event *event, moerun__queue *queue) {
  event->state = queue;
}

/* All that stands in the other queue: more than was recorded, never less. */
static inline void made_await(moerun__queue *queue,
                              const moerun__event *event) {
  (void)queue;
  (void)made_wait(event->state);
}

static const moerun__device made_device = {
    .name = "made up",
    .memory_create = made_memory_create,
    .memory_destroy = made_memory_destroy,
    .pinned_create = made_pinned_create,
    .pinned_destroy = moerun__free,
    .queue_create = made_queue_create,
    .queue_destroy = made_queue_destroy,
    .copy = made_copy,
    .clear = made_clear,
    .wait = made_wait,
    .event_create = made_event_create,
    .event_destroy = made_event_destroy,
    .record = made_record,
    .await = made_await,
};

/* ---- Its kernels ------------------------------------------------------------------- */

static inline void made_gather(moerun__queue *queue, float *x,
                               const moerun__wire_rows *rows,
                               const int32_t *index, int32_t M, int32_t H) {
  const made_operation gather = {.what = MADE_GATHER,
                                 .to = x,
                                 .rows = *rows,
                                 .index = index,
                                 .M = M,
                                 .H = H};
  made_give(queue, &gather);
}

static inline void made_scatter(moerun__queue *queue,
                                const moerun__wire_rows *rows,
                                const int32_t *index, const float *x, int32_t M,
                                int32_t H) {
  const made_operation scatter = {.what = MADE_SCATTER,
                                  .from = x,
                                  .rows = *rows,
                                  .index = index,
                                  .M = M,
                                  .H = H};
  made_give(queue, &scatter);
}

/* Experts of the host (those that all ranks have) at once. */
static inline void made_ffn(moerun__queue *queue, const moerun__ffn *ffn) {
  if (!made_is_mine(ffn->x)) {
    (void)made_wait(queue);
    made.base->ffn(queue, ffn);
    return;
  }
  for (int32_t e = 0; e < ffn->num_experts; e++) {
    made_operation part = {.what = MADE_FFN,
                           .ffn = *ffn,
                           .expert = ffn->expert[e],
                           .offset = {ffn->offset[e], ffn->offset[e + 1]}};
    part.ffn.num_experts = 1;
    made_give(queue, &part);
  }
}

/* The set's other operations are those of `base`. */
static inline moerun__kernels made_kernels(const moerun__kernels *base) {
  moerun__kernels set = {.name = "made up",
                         .gather = made_gather,
                         .scatter = made_scatter,
                         .ffn = made_ffn};
  made.base = base;
  moerun__kernels_complete(&set, base);
  return set;
}

#endif
