/* What run, profile and chat have in common: a model and a session on all
 * ranks, as the options say. */
#ifndef MOERUN_RUN_RUN_H
#define MOERUN_RUN_RUN_H

#include "launch/command.h"
#include "launch/run/run_files.h"
#include "launch/run/work_left.h"
#include "launch/tools/prediction.h"
#include "runtime/decoder/session.h"
#include "runtime/report/report.h"
#include "runtime/serve/replace.h"

typedef struct moerun__run {
  moerun__invocation *invocation;
  const moerun__config *config;
  moerun_comm *comm;
  const char *model_path;
  int is_profile;
  unsigned how; /* MOERUN_RUN_* */
  moerun__model_config model_config;
  const moerun__kernels *kernels;
  moerun__faults faults;
  moerun_placement *placement;
  moerun__work_left left;       /* the work: rank 0 only; what it needs: all */
  moerun__tokenizer *tokenizer; /* other ranks: to look for stops; or NULL */
  moerun__kv_cache *cache;
  moerun__reserve reserve; /* what the session will take */
  moerun_model *model;
  moerun_session *session;
  moerun__replacer *replacer; /* NULL: experts stay where they are */
  moerun__progress progress;
  moerun__report *report;
  double load_seconds;
  double run_seconds;
  /* Rank 0 only. */
  moerun__run_files files;
  moerun__prediction *predicted; /* [R] */
  moerun__progress_bar bar;
} moerun__run;

/* Nothing is open or loaded. */
void moerun__run_init(moerun__run *run, moerun__invocation *invocation);
/* [collective] Memory, weights and a session: by the model's shape, the kernels
 * and the placement, which all ranks have; by what the requests need, which
 * all ranks know; and by the prediction, which rank 0 has. */
moerun_status moerun__run_load(moerun__run *run);
void moerun__run_clear(moerun__run *run);

/* Whether the log is loud enough for tables. */
int moerun__run_is_talkative(const moerun__run *run);

#endif
