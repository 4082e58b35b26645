/* A device that nobody has, to show that the runtime keeps to what a device
 * promises. The host may not touch its memory: pages are locked but for the
 * device's own operations, and a stray access ends the test; rows of the host
 * are worked on where they are pinned or locked alone. And it is late with
 * everything: nothing happens before the queue is waited for, or is full. What
 * memory holds at first is no number. */
#ifndef MOERUN_TESTS_MADE_DEVICE_H
#define MOERUN_TESTS_MADE_DEVICE_H

#include "kernels/kernels.h"
#include "runtime/base/memory.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
  MADE_REGIONS = 512,
  MADE_LATE = 256, /* operations that wait at a time */
};

typedef struct made_region {
  void *memory;
  size_t bytes;
  size_t taken; /* as the device counts it */
} made_region;

typedef enum made_what {
  MADE_COPY,
  MADE_COPY_ROWS,
  MADE_CLEAR,
  MADE_LINEAR,
  MADE_FFN,
  MADE_RMSNORM,
  MADE_ADD,
  MADE_ADD_ROWS,
  MADE_ROPE,
  MADE_ATTENTION,
  MADE_GATE,
  MADE_SIGMOID,
  MADE_GATHER,
  MADE_SCATTER,
  MADE_DISPATCH,
  MADE_COMBINE,
  MADE_EMBED,
  MADE_KV_STORE,
  MADE_CLIP,
  MADE_NOTE_UNSOUND,
  MADE_KINDS,
} made_what;

/* An operation that is still to happen: its arguments, and copies of what must
 * be read when it is given (kernels.h). */
typedef struct made_operation {
  made_what what;
  float *to;
  const float *from;
  const float *by; /* scale, factor, cosine, weight of terms or bias */
  const float *sine;
  float *room; /* scratch, logits */
  int32_t *note;
  const int32_t *index;
  size_t to_stride;
  size_t from_stride; /* or a count */
  int32_t M;
  int32_t K;
  int32_t width;
  float number; /* eps, limit */
  moerun__copies copies;
  moerun__weight weight;
  moerun__wire_rows rows;
  moerun__dispatch dispatch;
  moerun__gate_rule rule;
  moerun__ffn ffn; /* of one expert */
  moerun__expert expert;
  int32_t offset[2];
  moerun__attention_rows asked;
  moerun__kv_rows kept;
  moerun__kv_view view;
  moerun__attention_shape shape;
} made_operation;

static struct {
  made_region region[MADE_REGIONS];
  int num_regions;
  made_region host[MADE_REGIONS]; /* pinned or locked */
  int num_host;
  made_operation late[MADE_LATE];
  int num_late;
  int num_done[MADE_KINDS];
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

static inline int made_is_among(const made_region *region, int count,
                                const void *p) {
  for (int r = 0; r < count; r++) {
    const char *begin = region[r].memory;
    const char *at = p;
    if (at >= begin && at < begin + region[r].bytes) return 1;
  }
  return 0;
}

static inline int made_is_mine(const void *p) {
  return made_is_among(made.region, made.num_regions, p);
}

/* Rows on their way, and weights, lie where operations may work. */
static inline void made_reach(const void *p, const char *what) {
  if (!made_is_mine(p) && !made_is_among(made.host, made.num_host, p)) {
    (void)fprintf(stderr, "%s are neither the device's nor locked\n", what);
    abort();
  }
}

static inline void made_reach_rows(const moerun__wire_rows *rows) {
  made_reach(rows->base, "rows");
}

static inline void made_reach_weight(const moerun__weight *weight) {
  if (weight->num_outputs > 0) made_reach(weight->panels, "weights");
}

static inline moerun_status made_host_add(void *memory, size_t bytes) {
  if (made.num_host == MADE_REGIONS) abort();
  made.host[made.num_host++] = (made_region){memory, bytes + 1, 0};
  return MOERUN_OK;
}

static inline void made_host_remove(void *memory) {
  for (int r = 0; r < made.num_host; r++) {
    if (made.host[r].memory != memory) continue;
    made.host[r] = made.host[--made.num_host];
    return;
  }
}

/* The block of the device in which p lies, if any. */
static inline void made_protect(const void *p, int protection) {
  for (int r = 0; r < made.num_regions; r++) {
    const made_region *region = &made.region[r];
    if (!made_is_among(region, 1, p)) continue;
    if (mprotect(region->memory, region->bytes, protection) != 0) abort();
  }
}

/* What a network does that knows the device's memory: it copies there, or from
 * there, past the host. */
static inline void made_carry(void *to, const void *from, size_t bytes) {
  made_protect(to, PROT_READ | PROT_WRITE);
  made_protect(from, PROT_READ | PROT_WRITE);
  memcpy(to, from, bytes);
  made_protect(to, PROT_NONE);
  made_protect(from, PROT_NONE);
}

/* Whether the host could read there; asks the system, which does not
 * stumble. */
static inline int made_is_readable(const void *p) {
  int pipe_of[2];
  if (pipe(pipe_of) != 0) abort();
  const int readable = write(pipe_of[1], p, 1) == 1;
  (void)close(pipe_of[0]);
  (void)close(pipe_of[1]);
  return readable;
}

/* What moves rows and looks at them. */
static inline void made_move(moerun__queue *queue, const made_operation *o) {
  const moerun__kernels *k = made.base;
  switch (o->what) {
  case MADE_COPY: memcpy(o->to, o->from, o->from_stride); break;
  case MADE_COPY_ROWS: moerun__host.copy_rows(queue, &o->copies); break;
  case MADE_CLEAR: memset(o->to, 0, o->from_stride); break;
  case MADE_GATHER:
    k->gather(queue, o->to, &o->rows, o->index, o->M, o->width);
    break;
  case MADE_SCATTER:
    k->scatter(queue, &o->rows, o->index, o->from, o->M, o->width);
    break;
  case MADE_DISPATCH: k->dispatch(queue, &o->rows, &o->dispatch); break;
  case MADE_COMBINE:
    k->combine(queue, o->to, &o->rows, o->index, o->by, o->M, o->K, o->width);
    break;
  case MADE_EMBED:
    k->embed(queue, o->to, o->to_stride, &o->weight, o->index, o->M);
    break;
  case MADE_KV_STORE: k->kv_store(queue, &o->kept, &o->view, &o->shape); break;
  case MADE_CLIP: k->clip(queue, o->to, o->from_stride, o->number); break;
  case MADE_NOTE_UNSOUND:
    k->note_unsound(queue, o->note, o->K, o->from, o->from_stride, o->M,
                    o->width);
    break;
  default: abort();
  }
}

static inline void made_run(moerun__queue *queue, made_operation *o) {
  const moerun__kernels *k = made.base;
  switch (o->what) {
  case MADE_LINEAR:
    k->linear(queue, o->to, o->to_stride, o->from, o->from_stride, o->M,
              &o->weight, o->room);
    break;
  case MADE_FFN:
    o->ffn.expert = &o->expert;
    o->ffn.offset = o->offset;
    k->ffn(queue, &o->ffn);
    break;
  case MADE_RMSNORM:
    k->rmsnorm(queue, o->to, o->to_stride, o->from, o->from_stride, o->M,
               &(moerun__norm){o->by, o->width, o->number});
    break;
  case MADE_ADD: k->add(queue, o->to, o->from, o->from_stride); break;
  case MADE_ADD_ROWS:
    k->add_rows(queue, o->to, o->from, o->by, o->M, o->width);
    break;
  case MADE_ROPE:
    k->rope(queue, o->to, o->to_stride, o->by, o->sine, o->M, o->K, o->width);
    break;
  case MADE_ATTENTION:
    k->attention(queue, &o->asked, &o->view, &o->shape, o->room);
    break;
  case MADE_GATE:
    k->gate(queue, &(moerun__choice){o->note, o->to, o->K}, o->room, o->M,
            o->width, &o->rule, o->by);
    break;
  case MADE_SIGMOID: k->sigmoid(queue, o->to, o->from, o->from_stride); break;
  default: made_move(queue, o); break;
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

/* ---- The device ---------------------------------------------------------- */

static inline moerun_status made_memory_create(void **out, size_t bytes) {
  const size_t page = (size_t)sysconf(_SC_PAGESIZE);
  const size_t all = (bytes / page + 1) * page;
  if (made.num_regions == MADE_REGIONS) abort();
  void *memory = mmap(NULL, all, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) abort();
  memset(memory, 0xff, all);
  if (mprotect(memory, all, PROT_NONE) != 0) abort();
  made.region[made.num_regions++] =
      (made_region){memory, all, moerun__alloc_bytes(bytes, 1)};
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
  const moerun_status status = moerun__alloc_unset(out, bytes, 1);
  if (status != MOERUN_OK) return status;
  memset(*out, 0xff, bytes);
  return made_host_add(*out, bytes);
}

static inline void made_pinned_destroy(void *memory) {
  made_host_remove(memory);
  moerun__free(memory);
}

static inline size_t made_memory_bytes(size_t bytes) {
  return moerun__alloc_bytes(bytes, 1);
}

/* What is taken of the device's memory. */
static inline size_t made_live_bytes(void) {
  size_t bytes = 0;
  for (int r = 0; r < made.num_regions; r++) {
    bytes += made.region[r].taken;
  }
  return bytes;
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
      .what = MADE_COPY, .to = to, .from = from, .from_stride = bytes};
  made_give(queue, &copy);
}

static inline void made_copy_rows(moerun__queue *queue,
                                  const moerun__copies *copies) {
  const made_operation o = {.what = MADE_COPY_ROWS, .copies = *copies};
  made_give(queue, &o);
}

static inline void made_clear(moerun__queue *queue, void *memory,
                              size_t bytes) {
  const made_operation clear = {
      .what = MADE_CLEAR, .to = memory, .from_stride = bytes};
  made_give(queue, &clear);
}

static const moerun__device made_device = {
    .name = "made up",
    .memory_create = made_memory_create,
    .memory_destroy = made_memory_destroy,
    .pinned_create = made_pinned_create,
    .pinned_destroy = made_pinned_destroy,
    .lock = made_host_add,
    .unlock = made_host_remove,
    .memory_bytes = made_memory_bytes,
    .queue_create = made_queue_create,
    .queue_destroy = made_queue_destroy,
    .copy = made_copy,
    .copy_rows = made_copy_rows,
    .clear = made_clear,
    .wait = made_wait,
};

/* ---- Its kernels --------------------------------------------------------- */

/* Expert by expert. */
static inline void made_ffn(moerun__queue *queue, const moerun__ffn *ffn) {
  for (int32_t e = 0; e < ffn->num_experts; e++) {
    made_reach_weight(&ffn->expert[e].gate_up);
    made_reach_weight(&ffn->expert[e].down);
    made_operation part = {.what = MADE_FFN,
                           .ffn = *ffn,
                           .expert = ffn->expert[e],
                           .offset = {ffn->offset[e], ffn->offset[e + 1]}};
    part.ffn.num_experts = 1;
    made_give(queue, &part);
  }
}

static inline void made_linear(moerun__queue *queue, float *y, size_t y_stride,
                               const float *x, size_t x_stride, int32_t M,
                               const moerun__weight *weight, float *scratch) {
  made_reach_weight(weight);
  const made_operation o = {.what = MADE_LINEAR,
                            .to = y,
                            .to_stride = y_stride,
                            .from = x,
                            .from_stride = x_stride,
                            .M = M,
                            .weight = *weight,
                            .room = scratch};
  made_give(queue, &o);
}

static inline void made_rmsnorm(moerun__queue *queue, float *y, size_t y_stride,
                                const float *x, size_t x_stride, int32_t M,
                                const moerun__norm *norm) {
  const made_operation o = {.what = MADE_RMSNORM,
                            .to = y,
                            .to_stride = y_stride,
                            .from = x,
                            .from_stride = x_stride,
                            .by = norm->scale,
                            .M = M,
                            .width = norm->width,
                            .number = norm->eps};
  made_give(queue, &o);
}

static inline void made_add(moerun__queue *queue, float *y, const float *x,
                            size_t count) {
  const made_operation o = {
      .what = MADE_ADD, .to = y, .from = x, .from_stride = count};
  made_give(queue, &o);
}

static inline void made_add_rows(moerun__queue *queue, float *y, const float *x,
                                 const float *factor, int32_t M, int32_t H) {
  const made_operation o = {.what = MADE_ADD_ROWS,
                            .to = y,
                            .from = x,
                            .by = factor,
                            .M = M,
                            .width = H};
  made_give(queue, &o);
}

static inline void made_rope(moerun__queue *queue, float *x, size_t x_stride,
                             const float *cosine, const float *sine, int32_t M,
                             int32_t num_heads, int32_t head_dim) {
  const made_operation o = {.what = MADE_ROPE,
                            .to = x,
                            .to_stride = x_stride,
                            .by = cosine,
                            .sine = sine,
                            .M = M,
                            .K = num_heads,
                            .width = head_dim};
  made_give(queue, &o);
}

static inline void made_attention(moerun__queue *queue,
                                  const moerun__attention_rows *rows,
                                  const moerun__kv_view *view,
                                  const moerun__attention_shape *shape,
                                  float *scratch) {
  const made_operation o = {.what = MADE_ATTENTION,
                            .asked = *rows,
                            .view = *view,
                            .shape = *shape,
                            .room = scratch};
  made_give(queue, &o);
}

static inline void made_gate(moerun__queue *queue, const moerun__choice *out,
                             float *logits, int32_t M, int32_t E,
                             const moerun__gate_rule *rule, const float *bias) {
  const made_operation o = {.what = MADE_GATE,
                            .note = out->ids,
                            .to = out->weight,
                            .room = logits,
                            .M = M,
                            .width = E,
                            .K = out->K,
                            .rule = *rule,
                            .by = bias};
  made_give(queue, &o);
}

static inline void made_sigmoid(moerun__queue *queue, float *p, const float *x,
                                size_t count) {
  const made_operation o = {
      .what = MADE_SIGMOID, .to = p, .from = x, .from_stride = count};
  made_give(queue, &o);
}

static inline void made_gather(moerun__queue *queue, float *x,
                               const moerun__wire_rows *rows,
                               const int32_t *index, int32_t M, int32_t H) {
  made_reach_rows(rows);
  const made_operation o = {.what = MADE_GATHER,
                            .to = x,
                            .rows = *rows,
                            .index = index,
                            .M = M,
                            .width = H};
  made_give(queue, &o);
}

static inline void made_scatter(moerun__queue *queue,
                                const moerun__wire_rows *rows,
                                const int32_t *index, const float *x, int32_t M,
                                int32_t H) {
  made_reach_rows(rows);
  const made_operation o = {.what = MADE_SCATTER,
                            .from = x,
                            .rows = *rows,
                            .index = index,
                            .M = M,
                            .width = H};
  made_give(queue, &o);
}

static inline void made_dispatch(moerun__queue *queue,
                                 const moerun__wire_rows *rows,
                                 const moerun__dispatch *what) {
  made_reach_rows(rows);
  const made_operation o = {
      .what = MADE_DISPATCH, .rows = *rows, .dispatch = *what};
  made_give(queue, &o);
}

static inline void made_combine(moerun__queue *queue, float *y,
                                const moerun__wire_rows *rows,
                                const int32_t *index, const float *weight,
                                int32_t T, int32_t K, int32_t H) {
  made_reach_rows(rows);
  const made_operation o = {.what = MADE_COMBINE,
                            .to = y,
                            .rows = *rows,
                            .index = index,
                            .by = weight,
                            .M = T,
                            .K = K,
                            .width = H};
  made_give(queue, &o);
}

static inline void made_embed(moerun__queue *queue, float *x, size_t x_stride,
                              const moerun__weight *weight,
                              const int32_t *output, int32_t M) {
  const made_operation o = {.what = MADE_EMBED,
                            .to = x,
                            .to_stride = x_stride,
                            .weight = *weight,
                            .index = output,
                            .M = M};
  made_give(queue, &o);
}

static inline void made_kv_store(moerun__queue *queue,
                                 const moerun__kv_rows *rows,
                                 const moerun__kv_view *view,
                                 const moerun__attention_shape *shape) {
  const made_operation o = {
      .what = MADE_KV_STORE, .kept = *rows, .view = *view, .shape = *shape};
  made_give(queue, &o);
}

static inline void made_clip(moerun__queue *queue, float *x, size_t count,
                             float limit) {
  const made_operation o = {
      .what = MADE_CLIP, .to = x, .from_stride = count, .number = limit};
  made_give(queue, &o);
}

static inline void made_note_unsound(moerun__queue *queue, int32_t *note,
                                     int32_t mark, const float *x,
                                     size_t x_stride, int32_t M,
                                     int32_t width) {
  const made_operation o = {.what = MADE_NOTE_UNSOUND,
                            .note = note,
                            .K = mark,
                            .from = x,
                            .from_stride = x_stride,
                            .M = M,
                            .width = width};
  made_give(queue, &o);
}

/* Computes what `base` does, late. */
static inline moerun__kernels made_kernels(const moerun__kernels *base) {
  made.base = base;
  return (moerun__kernels){
      .name = "made up",
      .ffn = made_ffn,
      .softmax = base->softmax,
      .linear = made_linear,
      .rmsnorm = made_rmsnorm,
      .add = made_add,
      .add_rows = made_add_rows,
      .rope = made_rope,
      .attention = made_attention,
      .gate = made_gate,
      .sigmoid = made_sigmoid,
      .gather = made_gather,
      .scatter = made_scatter,
      .dispatch = made_dispatch,
      .combine = made_combine,
      .embed = made_embed,
      .kv_store = made_kv_store,
      .clip = made_clip,
      .note_unsound = made_note_unsound,
  };
}

#endif
