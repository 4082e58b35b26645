/* All allocation of the library goes through here: 64-byte aligned, counted,
 * and able to fail on demand. An object's create allocates all it will ever
 * need; a step allocates nothing (tests compare moerun__alloc_calls()). */
#ifndef MOERUN_BASE_MEMORY_H
#define MOERUN_BASE_MEMORY_H

#include "runtime/base/status.h"

enum { MOERUN_ALIGNMENT = 64 };

/* Stores a zeroed array of count * size bytes in the pointer that out_pointer
 * points to (`moerun__alloc(&p, n, sizeof *p)`); NULL there on failure. A
 * count of 0 gives a valid pointer. Freed with moerun__free. */
moerun_status moerun__alloc(void *out_pointer, size_t count, size_t size);
/* The same without clearing, for buffers of many MiB that are filled at
 * once. */
moerun_status moerun__alloc_unset(void *out_pointer, size_t count, size_t size);
/* The same for weights, which are filled at once and read from end to end once
 * a step: large ones ask the system for huge pages. */
moerun_status moerun__alloc_streamed(void *out_pointer, size_t count,
                                     size_t size);
/* Grows or shrinks *pointer (may hold NULL); contents up to the smaller size
 * are kept. On failure *pointer is unchanged. Set-up and readers only. */
moerun_status moerun__resize(void *pointer, size_t old_count, size_t new_count,
                             size_t size);
/* The same without clearing what is new, so that room which nothing comes to
 * takes no memory. */
moerun_status moerun__resize_unset(void *pointer, size_t old_count,
                                   size_t new_count, size_t size);
void moerun__free(void *memory);

/* A copy of text as a string of its own. */
moerun_status moerun__copy_text(char **out, const char *text);

/* Bytes that moerun__alloc takes for the array, header and padding included. */
size_t moerun__alloc_bytes(size_t count, size_t size);

/* Calls so far, blocks and bytes alive now (whole process). */
size_t moerun__alloc_calls(void);
size_t moerun__alloc_live(void);
size_t moerun__alloc_live_bytes(void);

/* The call number `nth` from now (0: the next) fails, once; negative: none. */
void moerun__alloc_fail_nth(long nth);

#endif
