/* What balancing did in a run, and what lossy routing cost, in the metrics and
 * in the table for people. */
#ifndef MOERUN_RUN_BALANCE_TABLE_H
#define MOERUN_RUN_BALANCE_TABLE_H

#include "runtime/base/text.h"
#include "runtime/report/report.h"

#include <stdio.h>

/* The key "balance" with a comma in front; nothing without balancing. */
moerun_status moerun__balance_json(moerun__text *out,
                                   const moerun__report *report);
void moerun__balance_print(FILE *stream, const moerun__report *report);

/* The key "lossy" with a comma in front; nothing where routing was exact. */
moerun_status moerun__lossy_json(moerun__text *out,
                                 const moerun__report *report);
void moerun__lossy_print(FILE *stream, const moerun__report *report);

#endif
