/* A signal that ends the program ends it as it would have without a handler, so
 * that shells and batch systems see what they expect. Crashes are left to who
 * reports them (MPI's stack trace, a sanitizer): those, SIGKILL and the end of
 * the machine are what can leave a temporary file.
 *
 * In a run the handlers stay until the process ends: schedulers and people send a signal
 * again while a stopped run is still writing what it has, and the default
 * action would then take the exit code 75 and the summary away. SIGINT alone
 * ends the program from the second on: whoever presses Ctrl-C twice means it. */
#include "launch/signals.h"

#include "runtime/base/stop.h"
#include "runtime/base/temporary.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

static volatile sig_atomic_t stop_signal;
static volatile sig_atomic_t answers;

static void remove_and_end(int number) {
  /* It only walks a list, unlinks and removes folders.
   * NOLINTNEXTLINE(bugprone-signal-handler,cert-sig30-c) */
  moerun__temporaries_remove();
  (void)signal(number, SIG_DFL);
  (void)raise(number); /* takes effect when this handler returns */
}

/* A handler and not SIG_IGN, which whatever the program starts would inherit. */
static void let_write_fail(int number) {
  (void)number;
}

/* A reader that is gone is an error of its output, with a line and a code. */
static void bear_broken_pipes(void) {
  struct sigaction action = {.sa_handler = let_write_fail,
                             .sa_flags = SA_RESTART};
  (void)sigemptyset(&action.sa_mask);
  (void)sigaction(SIGPIPE, &action, NULL);
}

void moerun__signals_clean_up(void) {
  static const int numbers[] = {SIGHUP,  SIGINT,  SIGQUIT, SIGALRM,
                                SIGTERM, SIGUSR1, SIGUSR2, SIGXCPU};
  struct sigaction action = {.sa_handler = remove_and_end};
  (void)sigfillset(&action.sa_mask);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    struct sigaction before;
    if (sigaction(numbers[i], NULL, &before) == 0 &&
        before.sa_handler == SIG_DFL) {
      (void)sigaction(numbers[i], &action, NULL);
    }
  }
  bear_broken_pipes();
}

void moerun__signals_bear_limits(void) {
  (void)signal(SIGXFSZ, SIG_IGN);
}

static void note_signal(int number) {
  stop_signal = 1;
  if (number == SIGINT) (void)signal(SIGINT, remove_and_end);
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
  moerun__stop_set_callback(moerun__signals_ask_to_stop);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    struct sigaction action = {.sa_handler = note_signal,
                               .sa_flags = SA_RESTART};
    struct sigaction before;
    (void)sigemptyset(&action.sa_mask);
    if (sigaction(numbers[i], NULL, &before) != 0) continue;
    if (before.sa_handler == SIG_IGN) continue;
    (void)sigaction(numbers[i], &action, NULL);
  }
}

int moerun__signals_ask_to_stop(void) {
  return stop_signal != 0;
}
