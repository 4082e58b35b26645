/* The files of a run, which rank 0 alone has: prompts, and what they become.
 * They are the source and the sink of the engine. */
#ifndef MOERUN_RUN_RUN_FILES_H
#define MOERUN_RUN_RUN_FILES_H

#include "launch/command.h"
#include "launch/requests/spool.h"
#include "launch/results/stream.h"
#include "launch/results/unfinished.h"
#include "launch/run/progress.h"
#include "launch/run/trace_file.h"

typedef struct moerun__run_files {
  moerun__invocation *invocation; /* borrowed, as what follows */
  const char *model_path;
  const moerun__model_config *model;
  moerun__progress_bar *bar;
  moerun__tokenizer *tokenizer;
  moerun__chat_template *chat; /* NULL: none */
  moerun__text no_chat;        /* why there is none that could be used */
  moerun__spool input;
  moerun__prompts *prompts;
  moerun__results *results;
  moerun__unfinished *unfinished; /* NULL: there is no --resume */
  moerun__stream *stream;         /* NULL: texts come with results alone */
  moerun__trace_file *trace;      /* NULL: nothing is recorded */
  moerun__prompt prompt;          /* handed out last */
  int64_t resumed;                /* requests that had a result at the start */
  int64_t next;
  int keeps; /* what unfinished requests have generated */
} moerun__run_files;

/* None is open yet. On other ranks they stay so, and all but `serve` and
 * `clear` is for rank 0. */
void moerun__run_files_init(moerun__run_files *files,
                            moerun__invocation *invocation,
                            moerun__progress_bar *bar);
/* Whether results are written somewhere; else texts alone are shown. */
int moerun__run_files_have_results(const moerun__run_files *files);
/* Reads what is asked for, for this model (borrowed). `kernels`: the name of
 * the set, which results depend on. */
moerun_status moerun__run_files_open_input(moerun__run_files *files,
                                           const moerun__model_config *model,
                                           const char *kernels);
/* Finds out whether the outputs can be written, and what --resume finds in
 * them. */
moerun_status moerun__run_files_open_output(moerun__run_files *files);
/* From here on files change. weights: the digest of the model's; NULL: no
 * request is left, and they were not read. */
moerun_status moerun__run_files_begin(moerun__run_files *files,
                                      const uint64_t *weights);
/* The engine takes requests from the prompts and brings completions to the
 * results, and, where the run `keeps` them, requests under way. */
void moerun__run_files_serve(moerun__run_files *files,
                             moerun__engine_callbacks *callbacks, int keeps);
/* All results are whole; the outputs appear with those of the invocation. */
moerun_status moerun__run_files_end(moerun__run_files *files);
void moerun__run_files_clear(moerun__run_files *files);

#endif
