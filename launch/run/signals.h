/* Signals that end the program, and those that ask it to make an end: SIGTERM,
 * SIGUSR1 (Slurm's warning before the time limit), SIGHUP (the terminal is
 * gone) and SIGINT (Ctrl-C). Each sets a flag, which the ranks of a run tell
 * each other at the next step boundary, and the search for a bound looks at. */
#ifndef MOERUN_RUN_SIGNALS_H
#define MOERUN_RUN_SIGNALS_H

/* From now on a signal that ends the program removes its temporary files first,
 * and a pipe whose reader is gone is an error like any other. main.c calls it
 * before anything else. */
void moerun__signals_clean_up(void);

/* From now on a file that grows beyond `ulimit -f` is an error like any other
 * instead of a signal. To be called after MPI_Init: a daemon that MPI starts
 * there would inherit it, and Open MPI's then tries for ever to write its own
 * files and fills the memory. */
void moerun__signals_bear_limits(void);

/* Catches those that ask for an end, until the process ends, and has
 * runtime/base/stop.h know of them. One that is ignored stays ignored, as
 * with nohup and in the background of a script. In a run to be called before
 * MPI_Init, which takes a while; until moerun__signals_answer, a second one
 * ends the process, so that nothing can hold it there. */
void moerun__signals_catch(void);

/* From now on the program looks at what has come. `speaks`: this process
 * answers the first of them on stderr, SIGTERM only where it is the only
 * rank. */
void moerun__signals_answer(int speaks, int num_ranks);

/* chat: from now on SIGUSR2 is what Ctrl-C is to the rank that `hears` it, and
 * nothing to the others: a launcher sends it to all. */
void moerun__signals_hear_interrupts(int hears);

/* What the answer says: no step of the run has begun, texts were shown and
 * nothing is kept, the end keeps finished requests, or the tokens of unfinished
 * ones too; a placement is written without what is still searched for; nothing
 * takes long any more. */
typedef enum moerun__promise {
  MOERUN_PROMISE_NOTHING,
  MOERUN_PROMISE_SHOWN,
  MOERUN_PROMISE_FINISHED,
  MOERUN_PROMISE_ALL,
  MOERUN_PROMISE_PLACEMENT,
  MOERUN_PROMISE_ANSWER, /* chat: what is generated now ends, */
  MOERUN_PROMISE_TALK,   /* or nothing is                     */
  MOERUN_PROMISE_OVER
} moerun__promise;
void moerun__signals_promise(moerun__promise promise);

/* What a signal that ends the program at once says on stderr, such as
 * "nothing was written"; NULL: nothing. The text stays the caller's. */
void moerun__signals_last_words(const char *words);

/* Whether one has come. */
int moerun__signals_ask_to_stop(void);
/* Whether that was Ctrl-C, which is forgotten then: the next is the first. */
int moerun__signals_take_interrupt(void);

#endif
