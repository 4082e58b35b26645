/* What placement/trace/describe.h found out, for people and as JSON. */
#ifndef MOERUN_PLACE_DESCRIBE_TABLE_H
#define MOERUN_PLACE_DESCRIBE_TABLE_H

#include "placement/trace/describe.h"
#include "runtime/base/text.h"

#include <stdio.h>

/* name: of the trace. */
void moerun__describe_print(FILE *stream, const char *name,
                            const moerun__trace *trace,
                            const moerun__description *description);
moerun_status moerun__describe_json(moerun__text *out, const char *name,
                                    const moerun__trace *trace,
                                    const moerun__description *description);

#endif
