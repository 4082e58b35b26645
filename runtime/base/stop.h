/* Whether the program was asked to end early, for what may take long without a
 * step in between: waiting at a pipe, and reading weights or requests. One
 * callback for the process, which the program sets and the library does not;
 * without it nothing is ever asked for. */
#ifndef MOERUN_BASE_STOP_H
#define MOERUN_BASE_STOP_H

#include "runtime/base/status.h"

/* Milliseconds between two looks while waiting. */
enum { MOERUN_LOOK_MS = 50 };

/* NULL: nothing is asked for. */
void moerun__stop_set_callback(int (*is_asked)(void));

/* ERR_STOPPED once it is asked for, with the line "NAME: stopped by a signal
 * while WHAT". */
moerun_status moerun__stop_check(const char *name, const char *what);

#endif
