/* Loads of experts without the routing behind them, as EPLB takes them: enough
 * to balance by, not to say anything of traffic. */
#ifndef MOERUN_TRACE_LOAD_TABLE_H
#define MOERUN_TRACE_LOAD_TABLE_H

#include "runtime/base/status.h"

/* A row without any load is a dense layer: it is no layer here. */
typedef struct moerun__load_table {
  int32_t num_rows;   /* of the file, dense layers included */
  int32_t num_layers; /* of those, with loads */
  int32_t *row_of;    /* [num_layers] ascending */
  int32_t num_experts;
  int64_t num_steps; /* that were summed; 1: the file has no steps */
  int64_t *load;     /* [num_layers][E], every layer has some */
} moerun__load_table;

/* .npy of numbers [layers][experts] or [steps][layers][experts], or JSON: lists
 * of such a shape, or an object with them as "logical_count" (SGLang) or
 * "weight" (EPLB). Steps are summed. Whole numbers up to 2^40 are taken as they
 * are; with others, each layer's are scaled by a power of two and rounded. */
moerun_status moerun__load_table_load(moerun__load_table **out,
                                      const char *path);
moerun_status moerun__load_table_parse(moerun__load_table **out,
                                       const char *text, size_t bytes,
                                       const char *origin);
void moerun__load_table_destroy(moerun__load_table *table);

#endif
