/* Where stderr is a terminal, its width is asked for at each redraw, so that
 * the line follows a window that changes its size. The last column stays free:
 * some terminals wrap when it is filled.
 *
 * mpirun makes a pipe of a rank's stderr. launch/mpirun.sh knows the terminal
 * at the other end and names it (--progress-terminal); a rank on the same
 * machine can ask that for its width. Any other pipe or file gets plain lines,
 * after 10 seconds and then after twice as long each time, so that the logs of
 * long jobs stay short.
 *
 * Log lines take the redrawn line away first; it comes back with the next
 * redraw. */
#include "launch/run/progress.h"

#include "runtime/base/log.h"
#include "runtime/base/timer.h"

#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_BYTES = 512, COLUMNS = 80, FEWEST_COLUMNS = 20 };
static const double redraw_s = 0.1;
static const double first_line_s = 10;
static const double rarest_line_s = 300;
static const double bytes_memory_s = 20;
static const double settled_s = 0.5;

/* For what has no bar at hand: the one that is open, and the same while it is
 * on the terminal. */
static moerun__progress_bar *opened;
static moerun__progress_bar *volatile drawn;

static void take_away(void) {
  moerun__progress_bar *bar = drawn;
  if (bar == NULL) return;
  drawn = NULL;
  (void)fprintf(bar->stream, "\r\033[K%s", bar->feeds_line ? "\n" : "");
  (void)fflush(bar->stream);
}

void moerun__progress_wipe(void) {
  const moerun__progress_bar *bar = drawn;
  if (bar == NULL) return;
  const ssize_t written =
      write(STDERR_FILENO, "\r\033[K\n", bar->feeds_line ? 4 + 1 : 4);
  (void)written; /* there is nobody to tell */
}

/* ---- The terminal -------------------------------------------------------- */

static int is_pipe(int file) {
  struct stat found;
  return fstat(file, &found) == 0 &&
         (S_ISFIFO(found.st_mode) || S_ISSOCK(found.st_mode));
}

static int columns_of_terminal(int file) {
  struct winsize size;
  if (file < 0 || ioctl(file, TIOCGWINSZ, &size) != 0) return 0;
  return size.ws_col;
}

/* Columns that a redrawn line may take. */
static int columns_of(const moerun__progress_bar *bar) {
  int columns = columns_of_terminal(fileno(bar->stream));
  if (columns <= 0) columns = columns_of_terminal(bar->terminal);
  if (columns <= 0) {
    const char *said = moerun__config_environment("COLUMNS");
    const long number = said != NULL ? strtol(said, NULL, 10) : 0;
    columns = number > 0 && number < 10000 ? (int)number : COLUMNS;
  }
  return (columns < FEWEST_COLUMNS ? FEWEST_COLUMNS : columns) - 1;
}

void moerun__progress_open(moerun__progress_bar *bar,
                           const moerun__progress_options *options) {
  *bar = (moerun__progress_bar){
      .stream = options->stream != NULL ? options->stream : stderr,
      .clock = options->clock != NULL ? options->clock : moerun__now,
      .terminal = -1,
      .phase = "",
      .interval = first_line_s};
  const int file = fileno(bar->stream);
  const int is_terminal = isatty(file);
  const int ends_at_one =
      !is_terminal && options->terminal[0] != '\0' && is_pipe(file);
  if (strcmp(options->choice, "off") == 0) return;
  bar->mode = MOERUN_PROGRESS_LINES;
  if (strcmp(options->choice, "on") == 0 || is_terminal || ends_at_one) {
    bar->mode = MOERUN_PROGRESS_BAR;
  }
  bar->feeds_line = ends_at_one;
  if (ends_at_one) {
    bar->terminal = open(options->terminal, O_RDONLY | O_NOCTTY | O_NONBLOCK);
  }
  bar->began = bar->clock();
  bar->shown = bar->began - redraw_s;
  bar->due = bar->began + first_line_s;
  moerun__log_set_before(take_away);
  opened = bar;
}

moerun_status moerun__progress_check(const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  const char *terminal = moerun__config_text(config, "progress_terminal");
  MOERUN_REQUIRE(terminal[0] == '\0' || strncmp(terminal, "/dev/", 5) == 0,
                 MOERUN_ERR_INVALID,
                 "--progress-terminal: expected a terminal such as /dev/pts/3, "
                 "found %.100s",
                 terminal);
done:
  return status;
}

void moerun__progress_start(moerun__progress_bar *bar,
                            const moerun__config *config) {
  const moerun__progress_options options = {
      .choice = moerun__config_text(config, "progress"),
      .terminal = moerun__config_text(config, "progress_terminal")};
  moerun__progress_open(bar, &options);
}

void moerun__progress_hide(moerun__progress_bar *bar) {
  if (bar == drawn) take_away();
}

void moerun__progress_close(moerun__progress_bar *bar) {
  if (bar->mode == MOERUN_PROGRESS_OFF) return;
  take_away();
  moerun__log_set_before(NULL);
  if (bar->terminal >= 0) (void)close(bar->terminal);
  bar->terminal = -1;
  bar->mode = MOERUN_PROGRESS_OFF;
  opened = NULL;
}

/* ---- Showing ------------------------------------------------------------- */

static int is_due(const moerun__progress_bar *bar, double now) {
  switch (bar->mode) {
  case MOERUN_PROGRESS_OFF: break;
  case MOERUN_PROGRESS_BAR: return now - bar->shown >= redraw_s;
  case MOERUN_PROGRESS_LINES: return now >= bar->due;
  }
  return 0;
}

static void show(moerun__progress_bar *bar, const moerun__progress_line *line,
                 double now) {
  char text[LINE_BYTES];
  bar->shown = now;
  if (bar->mode == MOERUN_PROGRESS_LINES) {
    (void)moerun__progress_fit(text, sizeof text, line, LINE_BYTES);
    (void)fprintf(bar->stream, "moerun: %s\n", text);
    bar->interval =
        2 * bar->interval < rarest_line_s ? 2 * bar->interval : rarest_line_s;
    bar->due = now + bar->interval;
    return;
  }
  (void)moerun__progress_fit(text, sizeof text, line, columns_of(bar));
  (void)fprintf(bar->stream, "\r%s\033[K%s", text, bar->feeds_line ? "\n" : "");
  (void)fflush(bar->stream);
  drawn = bar;
}

/* Bars are of redrawn lines. */
static void add_bar(moerun__progress_line *line, int order,
                    const moerun__progress_bar *bar, double part, double all) {
  if (bar->mode == MOERUN_PROGRESS_LINES) return;
  moerun__progress_add_bar(line, order, part, all);
}

/* ---- Phases -------------------------------------------------------------- */

static void begin_phase(moerun__progress_bar *bar, const char *phase) {
  const double now = bar->clock();
  bar->phase = phase;
  bar->limit_s = 0;
  bar->began = now;
  bar->heard = now;
  bar->bytes = 0;
  bar->recent_bytes = 0;
  bar->recent_seconds = 0;
}

void moerun__progress_phase(moerun__progress_bar *bar, const char *phase) {
  moerun__progress_limit(bar, phase, 0);
}

void moerun__progress_limit(moerun__progress_bar *bar, const char *phase,
                            double limit_s) {
  moerun__progress_line line = {0};
  if (bar->mode == MOERUN_PROGRESS_OFF) return;
  begin_phase(bar, phase);
  bar->limit_s = limit_s;
  moerun__progress_add(&line, 0, "%s", phase);
  if (limit_s > 0) moerun__progress_add(&line, 1, "at most %.0f s", limit_s);
  /* A terminal is told at once: nothing more may come until it is over. */
  if (bar->mode == MOERUN_PROGRESS_BAR || is_due(bar, bar->began)) {
    show(bar, &line, bar->began);
  }
}

void moerun__progress_wait(moerun__progress_bar *bar) {
  moerun__progress_line line = {0};
  if (bar->mode == MOERUN_PROGRESS_OFF) return;
  const double now = bar->clock();
  if (!is_due(bar, now)) return;
  moerun__progress_add(&line, 0, "%s", bar->phase);
  if (bar->limit_s > 0) {
    moerun__progress_add(&line, 1, "%.0f s of at most %.0f s", now - bar->began,
                         bar->limit_s);
  } else {
    moerun__progress_add(&line, 1, "%.0f s", now - bar->began);
  }
  show(bar, &line, now);
}

double moerun__progress_clock(void) {
  if (opened != NULL) moerun__progress_wait(opened);
  return moerun__now();
}

/* Recent bytes and seconds: older ones count less. */
static void hear(moerun__progress_bar *bar, int64_t bytes, double now) {
  const double elapsed = now - bar->heard;
  const double kept = exp(-elapsed / bytes_memory_s);
  bar->recent_bytes = bar->recent_bytes * kept + (double)(bytes - bar->bytes);
  bar->recent_seconds = bar->recent_seconds * kept + elapsed;
  bar->bytes = bytes;
  bar->heard = now;
}

void moerun__progress_bytes(moerun__progress_bar *bar, int64_t bytes,
                            int64_t all) {
  moerun__progress_line line = {0};
  if (bar->mode == MOERUN_PROGRESS_OFF) return;
  const double now = bar->clock();
  hear(bar, bytes, now);
  if (!is_due(bar, now)) return;
  add_bar(&line, 2, bar, (double)bytes, (double)all);
  moerun__progress_add_bytes(&line, 0, bar->phase, bytes, all);
  if (bar->recent_bytes > 0 && now - bar->began >= settled_s) {
    const double rate = bar->recent_bytes / bar->recent_seconds;
    moerun__progress_add(&line, 3, "%.0f MB/s", rate / 1e6);
    moerun__progress_add_left(&line, 1, (double)(all - bytes) / rate, 0);
  }
  show(bar, &line, now);
}

void moerun__progress_watch(void *bar, int64_t bytes, int64_t all) {
  moerun__progress_bytes(bar, bytes, all);
}

/* ---- Steps of a run ------------------------------------------------------ */

void moerun__progress_run(moerun__progress_bar *bar, int64_t total,
                          int64_t resumed, const moerun__work *work) {
  if (bar->mode == MOERUN_PROGRESS_OFF) return;
  begin_phase(bar, "");
  bar->total = total;
  bar->resumed = resumed;
  moerun__estimate_begin(&bar->estimate, work);
}

void moerun__progress_ended(moerun__progress_bar *bar,
                            const moerun__completion *done, int32_t most) {
  const int is_broken = done->finish == MOERUN_FINISH_BROKEN;
  moerun__estimate_ended(&bar->estimate, done->num_tokens, most, is_broken);
}

/* Rows per second; no digits that nobody reads, nothing before there are
 * any. */
static void add_rate(moerun__progress_line *line, int order, const char *name,
                     int64_t rows, double seconds) {
  const double rate = seconds > 0 ? (double)rows / seconds : 0;
  if (!(rate > 0)) return;
  moerun__progress_add(line, order, rate < 99.95 ? "%s %.1f/s" : "%s %.0f/s",
                       name, rate);
}

/* How many requests' worth is done: those that are finished, and as soon as the
 * time left is known, that much of this run's requests as has passed of its
 * time. Requests of one length all end at the end. */
static double done_of(const moerun__progress_bar *bar, int64_t finished,
                      double left, double now) {
  const double passed = now - bar->began;
  const double own = (double)(bar->total - bar->resumed);
  const double by_time =
      left >= 0 && passed > 0
          ? (double)bar->resumed + own * passed / (passed + left)
          : 0;
  return fmax((double)finished, by_time);
}

void moerun__progress_print(moerun__progress_line *line,
                            const moerun__progress_bar *bar,
                            const moerun__progress *p, double now) {
  const int64_t finished = bar->resumed + p->finished;
  const double left = moerun__estimate_left(&bar->estimate, now);
  add_bar(line, 2, bar, done_of(bar, finished, left, now), (double)bar->total);
  moerun__progress_add(line, 0, "%lld/%lld", (long long)finished,
                       (long long)bar->total);
  if (left >= 0 && finished < bar->total) {
    moerun__progress_add_left(line, 1, left,
                              moerun__estimate_is_bound(&bar->estimate));
  }
  add_rate(line, 5, "prefill", p->prompt_tokens, p->prefill_seconds);
  add_rate(line, 3, "decode", p->decode_tokens, p->decode_seconds);
  if (p->load > 0) {
    moerun__progress_add(line, 6, "load %.2f>%.2f", p->load_routed, p->load);
    moerun__progress_add(line, 7, "idle %.0f%%", 100 * p->idle);
    moerun__progress_add(line, 8, "last %d", p->last_rank);
  }
  if (p->dropped > 0) {
    moerun__progress_add(line, 4, "drop %.1f%%",
                         100 * (double)p->dropped / (double)p->offered);
  }
}

void moerun__progress_step(moerun__progress_bar *bar,
                           const moerun__progress *progress) {
  moerun__progress_line line = {0};
  if (bar->mode == MOERUN_PROGRESS_OFF) return;
  const double now = bar->clock();
  moerun__estimate_step(&bar->estimate, progress, now);
  if (!is_due(bar, now)) return;
  moerun__progress_print(&line, bar, progress, now);
  show(bar, &line, now);
}
