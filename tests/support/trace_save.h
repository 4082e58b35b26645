/* A trace as the only output. */
#ifndef MOERUN_TESTS_TRACE_SAVE_H
#define MOERUN_TESTS_TRACE_SAVE_H

#include "placement/trace/trace.h"

static inline moerun_status trace_save(const moerun__trace *trace,
                                       const char *path) {
  moerun__outputs outputs = {0};
  moerun_status status = moerun__trace_save(trace, &outputs, path);
  if (status == MOERUN_OK) status = moerun__outputs_commit(&outputs);
  moerun__outputs_clear(&outputs);
  return status;
}

#endif
