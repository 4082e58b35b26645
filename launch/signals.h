/* Signals that ask a run to end: SIGTERM, SIGUSR1 (Slurm's warning before the
 * time limit), SIGHUP (the terminal is gone) and SIGINT (Ctrl-C). Each sets a
 * flag that all ranks tell each other at the next step boundary. */
#ifndef MOERUN_LAUNCH_SIGNALS_H
#define MOERUN_LAUNCH_SIGNALS_H

/* Catches them until the process ends. One that is ignored stays ignored, as
 * with nohup and in the background of a script. `speaks`: this process answers
 * Ctrl-C on stderr. */
void moerun__signals_catch(int speaks);

/* Whether one has come. */
int moerun__signals_ask_to_stop(void);

#endif
