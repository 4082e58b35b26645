/* The options of the program. */
#ifndef MOERUN_OPTIONS_OPTIONS_H
#define MOERUN_OPTIONS_OPTIONS_H

#include "runtime/base/config.h"

extern const moerun__config_schema moerun__options;

#endif
