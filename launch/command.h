/* Between the program (main.c) and its subcommands (cmd_*.c). main.c reads the
 * configuration, creates the comm, prints the error line and turns a status
 * into the exit code; a subcommand only returns its status. */
#ifndef MOERUN_LAUNCH_COMMAND_H
#define MOERUN_LAUNCH_COMMAND_H

#include "runtime/base/config.h"
#include "runtime/base/output.h"
#include "runtime/base/status.h"

/* What a failure means for the exit code; a subcommand moves it forward.
 * Whether a file could not be read or not be written is told by the status. */
typedef enum moerun__phase {
  MOERUN_PHASE_USAGE = 0, /* ERR_INVALID: 2 (the start)                      */
  MOERUN_PHASE_FILES,     /* ERR_INVALID: 65, of what is in files or in their
                             places                                          */
  MOERUN_PHASE_SOLVE,     /* place: what a method cannot do is the fault of the
                             options, not of a file: 2                       */
} moerun__phase;

typedef struct moerun__invocation {
  const char *subcommand;       /* as typed: "run", "profile", … */
  const moerun__config *config; /* the same values on all ranks */
  moerun_comm *comm;            /* borrowed; NULL for subcommands without MPI */
  moerun__phase phase;
  moerun__outputs outputs; /* files that appear when the subcommand is done */
  int stopped;  /* set when a signal ended the work early: exit code 75 */
  int launched; /* processes that a launcher says it has started as one job,
                   where MPI was not asked; 0: none says so */
  int results_on_stdout; /* set where it carries what was asked for */
  int is_mute;           /* set where another process prints what is wrong */
} moerun__invocation;

/* [collective] run and profile: the same but for the recorded trace. A failure
 * is a verdict of all ranks (moerun__comm_agree, or ERR_COMM / ERR_TIMEOUT,
 * after which main.c aborts the job). */
moerun_status moerun__cmd_run(moerun__invocation *invocation);

/* [collective] */
moerun_status moerun__cmd_chat(moerun__invocation *invocation);

moerun_status moerun__cmd_info(moerun__invocation *invocation);
moerun_status moerun__cmd_synth(moerun__invocation *invocation);
moerun_status moerun__cmd_place(moerun__invocation *invocation);
/* tokenize and detokenize. */
moerun_status moerun__cmd_tokenize(moerun__invocation *invocation);

/* Version, MPI library, compiler, kernel sets of this machine; a line each. */
void moerun__print_build(FILE *stream);

#endif
