/* A signal that ends the program ends it as it would have without a handler, so
 * that shells and batch systems see what they expect. Crashes are left to who
 * reports them (MPI's stack trace, a sanitizer): those, SIGKILL and the end of
 * the machine are what can leave a temporary file.
 *
 * In a run the handlers stay until the process ends: schedulers and people send
 * a signal again while a stopped run is still writing what it has, and the
 * default action would then take the exit code 75 and the summary away. SIGINT
 * alone ends the program from the second on: whoever presses Ctrl-C twice means
 * it. */
#include "launch/run/signals.h"

#include "launch/run/progress.h"
#include "runtime/base/stop.h"
#include "runtime/base/temporary.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <unistd.h>

static volatile sig_atomic_t stop_signal;
static volatile sig_atomic_t is_looked_at; /* by the program, at stop_signal */
static volatile sig_atomic_t answers;
static volatile sig_atomic_t is_one_of_many;
static volatile sig_atomic_t promised = MOERUN_PROMISE_NOTHING;
static const char *volatile last_words;
static struct sigaction ending; /* of signals that end the program */

static void say(const char *text) {
  const ssize_t written = write(STDERR_FILENO, text, strlen(text));
  (void)written; /* there is nobody to tell */
}

static void remove_and_end(int number) {
  const char *words = last_words;
  moerun__progress_wipe();
  if (words != NULL) {
    say(number == SIGINT ? "moerun: Ctrl-C: " : "moerun: ended by a signal: ");
    say(words);
    say("\n");
  }
  /* They only write, walk a list, unlinks and removes folders.
   * NOLINTNEXTLINE(bugprone-signal-handler,cert-sig30-c) */
  moerun__temporaries_remove();
  (void)signal(number, SIG_DFL);
  (void)raise(number); /* takes effect when this handler returns */
}

/* A handler and not SIG_IGN, which whatever the program starts would
 * inherit. */
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
  ending.sa_handler = remove_and_end;
  (void)sigfillset(&ending.sa_mask);
  for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
    struct sigaction before;
    if (sigaction(numbers[i], NULL, &before) == 0 &&
        before.sa_handler == SIG_DFL) {
      (void)sigaction(numbers[i], &ending, NULL);
    }
  }
  bear_broken_pipes();
}

void moerun__signals_bear_limits(void) {
  (void)signal(SIGXFSZ, SIG_IGN);
}

#define SHOWN      "the run ends after this step, and nothing is kept"
#define FINISHED   "the run ends after this step and keeps what is finished"
#define UNFINISHED ", and what unfinished requests have generated"
#define AGAIN      "; Ctrl-C again ends it at once"
#define PLACED                                                                 \
  "the placement that was found is written, with the bound as far as it is"

/* What the program answers at once: a step may take long. */
static void answer(int is_ctrl_c) {
  static const char *const lines[][2] = {
      [MOERUN_PROMISE_NOTHING] =
          {"moerun: asked to stop: the run ends before its first step\n",
           "moerun: Ctrl-C: the run ends before its first step" AGAIN "\n"},
      [MOERUN_PROMISE_SHOWN] = {"moerun: asked to stop: " SHOWN "\n",
                                "moerun: Ctrl-C: " SHOWN AGAIN "\n"},
      [MOERUN_PROMISE_FINISHED] = {"moerun: asked to stop: " FINISHED "\n",
                                   "moerun: Ctrl-C: " FINISHED AGAIN "\n"},
      [MOERUN_PROMISE_ALL] = {"moerun: asked to stop: " FINISHED UNFINISHED
                              "\n",
                              "moerun: Ctrl-C: " FINISHED UNFINISHED AGAIN
                              "\n"},
      [MOERUN_PROMISE_PLACEMENT] = {"moerun: asked to stop: " PLACED "\n",
                                    "moerun: Ctrl-C: " PLACED AGAIN "\n"},
      [MOERUN_PROMISE_ANSWER] =
          {"moerun: asked to stop: the answer ends here, and the conversation "
           "with it\n",
           ""},
      [MOERUN_PROMISE_TALK] =
          {"moerun: asked to stop: the conversation ends here\n", ""},
      [MOERUN_PROMISE_OVER] = {
          "moerun: asked to stop: the work is done, and what it gave is "
          "written\n",
          "moerun: Ctrl-C: the work is done, and what it gave is written" AGAIN
          "\n"}};
  const char *line = lines[promised][is_ctrl_c];
  if (isatty(STDERR_FILENO)) say("\n");
  say(line);
}

static void note_signal(int number) {
  const int before = errno;
  const int is_first = !stop_signal;
  if (!is_first && !is_looked_at) {
    remove_and_end(number);
    return;
  }
  stop_signal = number;
  if (number == SIGINT) (void)sigaction(SIGINT, &ending, NULL);
  /* The launcher sends SIGTERM also where another rank has failed, which that
   * one has said. */
  if (number == SIGTERM && is_one_of_many) return;
  if (is_first && answers) answer(number == SIGINT);
  errno = before;
}

/* Ctrl-C as a launcher can hand it on: SIGINT ends the launcher itself. */
static void note_interrupt(int number) {
  (void)number;
  if (stop_signal == SIGINT) {
    remove_and_end(SIGINT);
  } else {
    note_signal(SIGINT);
  }
}

void moerun__signals_hear_interrupts(int hears) {
  struct sigaction action = {.sa_handler = hears ? note_interrupt : SIG_IGN,
                             .sa_flags = SA_RESTART};
  struct sigaction before;
  (void)sigemptyset(&action.sa_mask);
  if (sigaction(SIGUSR2, NULL, &before) != 0) return;
  if (before.sa_handler == SIG_IGN) return;
  (void)sigaction(SIGUSR2, &action, NULL);
}

void moerun__signals_last_words(const char *words) {
  last_words = words;
}

void moerun__signals_promise(moerun__promise promise) {
  promised = (sig_atomic_t)promise;
}

void moerun__signals_catch(void) {
  static const int numbers[] = {SIGTERM, SIGUSR1, SIGHUP, SIGINT};
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

void moerun__signals_answer(int speaks, int num_ranks) {
  is_one_of_many = num_ranks > 1;
  answers = speaks;
  is_looked_at = 1;
  const int early = stop_signal;
  if (early && speaks && !(early == SIGTERM && is_one_of_many)) {
    answer(early == SIGINT);
  }
}

int moerun__signals_ask_to_stop(void) {
  return stop_signal != 0;
}

int moerun__signals_take_interrupt(void) {
  struct sigaction action = {.sa_handler = note_signal, .sa_flags = SA_RESTART};
  if (stop_signal != SIGINT) return 0;
  (void)sigemptyset(&action.sa_mask);
  stop_signal = 0;
  (void)sigaction(SIGINT, &action, NULL);
  return 1;
}
