/* How far a command is, on stderr: a line redrawn in place on a terminal, or a
 * plain line now and then, ever more rarely, where stderr is none. One process
 * shows it (rank 0); at most one is open at a time. */
#ifndef MOERUN_RUN_PROGRESS_H
#define MOERUN_RUN_PROGRESS_H

#include "launch/run/estimate.h"
#include "launch/run/progress_line.h"
#include "runtime/base/config.h"

#include <stdio.h>

typedef enum moerun__progress_mode {
  MOERUN_PROGRESS_OFF = 0,
  MOERUN_PROGRESS_BAR,
  MOERUN_PROGRESS_LINES,
} moerun__progress_mode;

typedef struct moerun__progress_options {
  const char *choice; /* "on": redrawn; "off"; "auto": as stderr wants it */
  const char
      *terminal; /* that stderr ends at although it is a pipe; "": none */
  FILE *stream;  /* NULL: stderr */
  double (*clock)(void); /* NULL: moerun__now */
} moerun__progress_options;

/* All zero: shows nothing. */
typedef struct moerun__progress_bar {
  moerun__progress_mode mode;
  FILE *stream;
  double (*clock)(void);
  int terminal;      /* file whose width the line has; -1: none */
  int feeds_line;    /* after each redraw, for launch/mpirun.sh, which reads by
                     lines and takes it away */
  const char *phase; /* what is being done; borrowed */
  double limit_s;    /* of it; 0: none */
  double began;      /* when that began */
  double shown;      /* when anything was shown last */
  double interval;   /* lines: to the next one */
  double due;        /* and when that is */
  int64_t bytes;     /* of the phase so far, and how fast lately */
  double recent_bytes;
  double recent_seconds;
  double heard;
  int64_t total;   /* requests */
  int64_t resumed; /* of them finished before this run */
  moerun__estimate estimate;
} moerun__progress_bar;

void moerun__progress_open(moerun__progress_bar *bar,
                           const moerun__progress_options *options);
/* ERR_INVALID for a --progress-terminal that is none. One of another machine,
 * which is not there to be opened, is fine. */
moerun_status moerun__progress_check(const moerun__config *config);
/* The same as the options of a command say. */
void moerun__progress_start(moerun__progress_bar *bar,
                            const moerun__config *config);
/* Takes the line away; may come again, and for a bar that is all zero. */
void moerun__progress_close(moerun__progress_bar *bar);

/* Takes the line away for others that are written now; it comes back. */
void moerun__progress_hide(moerun__progress_bar *bar);

/* The same from a signal handler of a program that ends. */
void moerun__progress_wipe(void);

/* What is being waited for from now on, such as "reading prompts". */
void moerun__progress_phase(moerun__progress_bar *bar, const char *phase);
/* The same for one that takes limit_s at most, unless that is 0. */
void moerun__progress_limit(moerun__progress_bar *bar, const char *phase,
                            double limit_s);
/* Shows how long the phase has taken. */
void moerun__progress_wait(moerun__progress_bar *bar);
/* moerun__now, for searches that ask a clock for how long they may go on: shows
 * how long the phase of the bar that is open has taken. */
double moerun__progress_clock(void);
/* Shows the phase with so many of all its bytes, how fast they are lately, and
 * when it ends. */
void moerun__progress_bytes(moerun__progress_bar *bar, int64_t bytes,
                            int64_t all);
/* The same for a moerun__byte_watch, whose context is the bar. */
void moerun__progress_watch(void *bar, int64_t bytes, int64_t all);

/* The steps of a run begin: `resumed` of `total` requests are finished already,
 * and the others need `work`. */
void moerun__progress_run(moerun__progress_bar *bar, int64_t total,
                          int64_t resumed, const moerun__work *work);
/* A request has ended, which had to generate at most `most` tokens. */
void moerun__progress_ended(moerun__progress_bar *bar,
                            const moerun__completion *done, int32_t most);
/* After each step. */
void moerun__progress_step(moerun__progress_bar *bar,
                           const moerun__progress *progress);

/* The fields of a step. */
void moerun__progress_print(moerun__progress_line *line,
                            const moerun__progress_bar *bar,
                            const moerun__progress *progress, double now);

#endif
