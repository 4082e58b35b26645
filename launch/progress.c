#include "launch/progress.h"

#include "runtime/base/timer.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { WIDTH = 8, LINE_BYTES = 256 };
static const double bar_interval_s = 0.1;
static const double line_interval_s = 10.0;

void moerun__progress_begin(moerun__progress_bar *bar, const char *choice,
                            int64_t total, int64_t resumed) {
  *bar = (moerun__progress_bar){.total = total, .resumed = resumed};
  const int is_terminal = isatty(STDERR_FILENO);
  if (strcmp(choice, "off") == 0) {
    bar->mode = MOERUN_PROGRESS_OFF;
  } else if (strcmp(choice, "on") == 0 || is_terminal) {
    bar->mode = MOERUN_PROGRESS_BAR;
  } else {
    bar->mode = MOERUN_PROGRESS_LINES;
  }
  bar->began = moerun__now();
  bar->drawn = bar->began;
}

/* Rows per second, 0 before there are any; no digits that nobody reads. */
static void print_rate(char out[16], int64_t rows, double seconds) {
  const double rate = seconds > 0 ? (double)rows / seconds : 0;
  (void)snprintf(out, 16, rate < 99.95 ? "%.1f" : "%.0f", rate);
}

void moerun__progress_print(char *out, size_t room,
                            const moerun__progress_bar *bar,
                            const moerun__progress *progress, double now) {
  const int64_t finished = bar->resumed + progress->finished;
  const int64_t left = bar->total - finished;
  char remaining[32] = "--:--";
  char prefill[16];
  char decode[16];
  if (progress->finished > 0) {
    /* From the requests of this run, not those that were there before. */
    const double seconds =
        (now - bar->began) * (double)left / (double)progress->finished;
    const long whole = seconds < 3.6e8 ? (long)seconds : 360000000L;
    (void)snprintf(remaining, sizeof remaining, "%ld:%02ld:%02ld", whole / 3600,
                   whole / 60 % 60, whole % 60);
  }
  print_rate(prefill, progress->prompt_tokens, progress->prefill_seconds);
  print_rate(decode, progress->decode_tokens, progress->decode_seconds);
  (void)snprintf(
      out, room, "%lld/%lld, prefill %s/s, decode %s/s tokens, left %s",
      (long long)finished, (long long)bar->total, prefill, decode, remaining);
  if (!(progress->load > 0)) return;
  size_t used = strlen(out);
  (void)snprintf(out + used, room - used,
                 ", load %.2f>%.2f, idle %.0f%%, last %d",
                 progress->load_routed, progress->load, 100 * progress->idle,
                 progress->last_rank);
  if (progress->dropped == 0) return;
  used = strlen(out);
  (void)snprintf(out + used, room - used, ", drop %.1f%%",
                 100 * (double)progress->dropped / (double)progress->offered);
}

void moerun__progress_show(moerun__progress_bar *bar,
                           const moerun__progress *progress) {
  char line[LINE_BYTES];
  if (bar->mode == MOERUN_PROGRESS_OFF) return;
  const int is_bar = bar->mode == MOERUN_PROGRESS_BAR;
  const double now = moerun__now();
  if (now - bar->drawn < (is_bar ? bar_interval_s : line_interval_s)) return;
  bar->drawn = now;
  moerun__progress_print(line, sizeof line, bar, progress, now);
  if (!is_bar) {
    (void)fprintf(stderr, "moerun: %s\n", line);
    return;
  }
  char blocks[WIDTH + 1];
  const int64_t finished = bar->resumed + progress->finished;
  const int full = bar->total > 0 ? (int)(WIDTH * finished / bar->total) : 0;
  memset(blocks, '.', WIDTH);
  memset(blocks, '#', (size_t)full);
  blocks[WIDTH] = '\0';
  (void)fprintf(stderr, "\r[%s] %s\033[K", blocks, line);
  (void)fflush(stderr);
}

void moerun__progress_end(moerun__progress_bar *bar) {
  if (bar->mode == MOERUN_PROGRESS_BAR) {
    (void)fputs("\r\033[K", stderr);
    (void)fflush(stderr);
  }
  bar->mode = MOERUN_PROGRESS_OFF;
}
