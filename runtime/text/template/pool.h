/* Memory of a template or of one rendering: it is handed out piece by piece and
 * freed as a whole. Values of a template are small, many, and never changed
 * once they are made, so nothing is freed in between; the limit bounds them
 * all. */
#ifndef MOERUN_TEXT_TEMPLATE_POOL_H
#define MOERUN_TEXT_TEMPLATE_POOL_H

#include "runtime/base/status.h"

/* All zero but for the limit: empty. */
typedef struct moerun__pool {
  struct moerun__pool_block *last;
  size_t taken; /* bytes of all blocks */
  size_t limit; /* most bytes of all blocks */
} moerun__pool;

/* Stores `bytes` zeroed bytes, aligned for any type, in the pointer that
 * out_pointer points to. MOERUN_ERR_UNSUPPORTED beyond the limit. */
moerun_status moerun__pool_take(moerun__pool *pool, void *out_pointer,
                                size_t bytes);
void moerun__pool_clear(moerun__pool *pool);

/* Bytes that grow; those of a pool are never given back. All zero: empty. */
typedef struct moerun__buffer {
  char *bytes;
  size_t count;
  size_t room;
} moerun__buffer;

moerun_status moerun__buffer_append(moerun__buffer *buffer, moerun__pool *pool,
                                    const char *bytes, size_t count);

#endif
