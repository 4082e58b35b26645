/* The recorded routing of a run: NAME.npy, int16 [tokens][MoE layers][K] expert
 * ids in gate order with the requests in input order, and NAME.json beside it
 * (format in placement/README.md). Rank 0 only. */
#ifndef MOERUN_RUN_TRACE_FILE_H
#define MOERUN_RUN_TRACE_FILE_H

#include "launch/requests/prompts.h"
#include "runtime/base/output.h"
#include "runtime/model/arch.h"

typedef struct moerun__trace_file moerun__trace_file;

/* ERR_INVALID for a name that --trace cannot have. */
moerun_status moerun__trace_file_check(const char *path, const char *flag);
/* Changes nothing on the disk; a name that does not end in .npy is an error.
 * prompts and model are borrowed; the last part of model_path goes into the
 * .json. */
moerun_status moerun__trace_file_open(moerun__trace_file **out,
                                      const char *path,
                                      const moerun__prompts *prompts,
                                      const moerun__model_config *model,
                                      const char *model_path,
                                      int32_t num_ranks);
/* Creates a file without a name where rows are kept in the order they come. */
moerun_status moerun__trace_file_begin(moerun__trace_file *trace);
/* ERR_COMM where the rank that ran the request recorded other than its tokens
 * but the last. */
moerun_status moerun__trace_file_append(moerun__trace_file *trace,
                                        const moerun__completion *completion);
/* Writes both files, with the requests that were appended, into outputs. Where
 * none was, it writes nothing and says so. */
moerun_status moerun__trace_file_end(moerun__trace_file *trace,
                                     moerun__outputs *outputs);
/* Requests that were appended. */
int64_t moerun__trace_file_count(const moerun__trace_file *trace);
void moerun__trace_file_destroy(moerun__trace_file *trace);

#endif
