/* Choices of options that the program acts on: each name stands beside what it
 * becomes, once, and the table of options takes the names from here. */
#ifndef MOERUN_OPTIONS_CHOICES_H
#define MOERUN_OPTIONS_CHOICES_H

#include "runtime/base/config.h"

#include <moerun/moerun.h>

/* The i-th name of --balance, --wire and --compute, in the order in which they
 * are listed; NULL after the last. */
const char *moerun__balance_name_at(int i);
const char *moerun__wire_name_at(int i);
const char *moerun__compute_name_at(int i);

/* What the configuration says. */
moerun_balance moerun__balance_of(const moerun__config *config);
moerun_wire moerun__wire_of(const moerun__config *config);
moerun_compute moerun__compute_of(const moerun__config *config);

#endif
