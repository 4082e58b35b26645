/* How far a run is, on stderr: a bar redrawn in place, or a line now and then
 * where stderr is no terminal. Rank 0 only. */
#ifndef MOERUN_LAUNCH_PROGRESS_H
#define MOERUN_LAUNCH_PROGRESS_H

#include "runtime/engine.h"

typedef enum moerun__progress_mode {
  MOERUN_PROGRESS_OFF = 0,
  MOERUN_PROGRESS_BAR,
  MOERUN_PROGRESS_LINES,
} moerun__progress_mode;

typedef struct moerun__progress_bar {
  moerun__progress_mode mode;
  int64_t total;   /* requests */
  int64_t resumed; /* of them finished before this run */
  double began;
  double drawn; /* when it was last shown */
} moerun__progress_bar;

/* choice: "auto" (a bar on a terminal, else lines), "on" (a bar) or "off". */
void moerun__progress_begin(moerun__progress_bar *bar, const char *choice,
                            int64_t total, int64_t resumed);
/* Shows the progress if the last showing is long enough ago. */
void moerun__progress_show(moerun__progress_bar *bar,
                           const moerun__progress *progress);
/* Takes the bar away. */
void moerun__progress_end(moerun__progress_bar *bar);

/* The line that is shown, at most `room` characters with its NUL. */
void moerun__progress_print(char *out, size_t room,
                            const moerun__progress_bar *bar,
                            const moerun__progress *progress, double now);

#endif
