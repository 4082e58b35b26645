/* Where kernels run: a device has memory of its own, copies and queues; the
 * processor is the device whose memory is the host's. The runtime waits for the
 * queue wherever it, or a message, reads what kernels have written, and takes
 * what only kernels use of a session from the device. Weights of routed
 * experts lie in the host's memory, which the store's tiers lock for the device
 * (moe/own.c, slices.c); guests lie in the transport's, which the session
 * locks. All other weights are put there by whoever makes the session: no
 * loader copies any.
 *
 * Pointers to a device's memory may be counted with, not followed, on the host.
 * Rows of experts lie there too if the transport carries them (comm/comm.h): it
 * names the device by the name that stands here.
 * Pinned memory is the host's, as a device and a network like it; other memory
 * of the host kernels may use only once it is locked. What a program gives to a
 * step (rows, and where results go) is memory that the kernels of its session
 * can use. */
#ifndef MOERUN_KERNELS_DEVICE_H
#define MOERUN_KERNELS_DEVICE_H

#include "runtime/base/status.h"

typedef struct moerun__device moerun__device;

/* `bytes` of each of `count` rows; strides in bytes. */
typedef struct moerun__copies {
  void *to;
  size_t to_stride;
  const void *from;
  size_t from_stride;
  size_t bytes;
  int32_t count;
} moerun__copies;

/* What is given to a queue happens in this order; the host knows that it has
 * happened after `wait`. */
typedef struct moerun__queue {
  const moerun__device *device;
  void *state;    /* the device's */
  int32_t rounds; /* 1: `linear` rounds its rows to BF16 first */
} moerun__queue;

struct moerun__device {
  const char *name; /* "host", … */

  /* Memory of the device with anything in it, 64-byte aligned; ERR_NOMEM. */
  moerun_status (*memory_create)(void **out, size_t bytes);
  void (*memory_destroy)(void *memory); /* or NULL */
  /* The same of the host, that kernels, copies and messages may use. */
  moerun_status (*pinned_create)(void **out, size_t bytes);
  void (*pinned_destroy)(void *memory); /* or NULL */
  /* Kernels and copies may use this memory of the host too, which something
   * else has made (a transport, a model), until it is unlocked, before it goes.
   * What is locked twice, for two sessions, is unlocked twice. */
  moerun_status (*lock)(void *memory, size_t bytes);
  void (*unlock)(void *memory); /* or NULL */
  /* Bytes that memory_create or pinned_create take, for memory predictions. */
  size_t (*memory_bytes)(size_t bytes);

  moerun_status (*queue_create)(moerun__queue *out);
  void (*queue_destroy)(moerun__queue *queue);
  /* Copies bytes from any memory to any; the host's must stay until the queue
   * is there. */
  void (*copy)(moerun__queue *queue, void *to, const void *from, size_t bytes);
  /* The same of a part of each of some rows; read when it is given. */
  void (*copy_rows)(moerun__queue *queue, const moerun__copies *copies);
  /* Zeros. */
  void (*clear)(moerun__queue *queue, void *memory, size_t bytes);
  /* All that was given to the queue has happened; else an error, which stays
   * with the queue. */
  moerun_status (*wait)(moerun__queue *queue);
};

/* The processor: everything has happened when a call returns. */
extern const moerun__device moerun__host;

#endif
