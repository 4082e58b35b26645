/* Who wants to know how far long reading or writing is. */
#ifndef MOERUN_BASE_BYTE_WATCH_H
#define MOERUN_BASE_BYTE_WATCH_H

#include <stddef.h>
#include <stdint.h>

typedef struct moerun__byte_watch {
  void *context;
  /* After each piece: bytes that are done, of all. */
  void (*told)(void *context, int64_t done, int64_t all);
} moerun__byte_watch;

/* watch may be NULL: nobody does. */
static inline void moerun__byte_watch_tell(const moerun__byte_watch *watch,
                                           int64_t done, int64_t all) {
  if (watch != NULL) watch->told(watch->context, done, all);
}

#endif
