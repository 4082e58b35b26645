/* The handlers stay until the process ends: schedulers and people send a signal
 * again while a stopped run is still writing what it has, and the default
 * action would then take the exit code 75 and the summary away. SIGINT alone is
 * given back after the first: whoever presses Ctrl-C twice means it. */
#include "launch/signals.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

static volatile sig_atomic_t stop_signal;
static volatile sig_atomic_t answers;

static void note_signal(int number) {
  stop_signal = 1;
  if (number != SIGINT || !answers) return;
  static const char line[] =
      "\nmoerun: Ctrl-C: the run ends after this step and keeps what is "
      "finished; Ctrl-C again ends it at once\n";
  const int before = errno;
  const ssize_t written = write(STDERR_FILENO, line, sizeof line - 1);
  (void)written; /* there is nobody to tell */
  errno = before;
}

void moerun__signals_catch(int speaks) {
  static const int numbers[] = {SIGTERM, SIGUSR1, SIGHUP, SIGINT};
  answers = speaks;
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    struct sigaction action = {.sa_handler = note_signal,
                               .sa_flags = SA_RESTART};
    struct sigaction before;
    (void)sigemptyset(&action.sa_mask);
    if (numbers[i] == SIGINT) action.sa_flags |= (int)SA_RESETHAND;
    if (sigaction(numbers[i], NULL, &before) != 0) continue;
    if (before.sa_handler == SIG_IGN) continue;
    (void)sigaction(numbers[i], &action, NULL);
  }
}

int moerun__signals_ask_to_stop(void) {
  return stop_signal != 0;
}
