/* `moerun place --loads`: balancing by loads of experts without a trace. */
#ifndef MOERUN_PLACE_PLACE_LOADS_H
#define MOERUN_PLACE_PLACE_LOADS_H

#include "launch/command.h"
#include "placement/methods/method.h"

/* topology_line: the topology as it is printed. */
moerun_status moerun__place_loads(moerun__invocation *invocation,
                                  const moerun__method *method,
                                  const moerun__method_options *options,
                                  const moerun__topology *topology,
                                  const char *topology_line);

/* The name of the method that `config` asks for: where nobody names one,
 * --loads are placed by eplb, which needs no more than them. */
const char *moerun__place_method(const moerun__config *config);

#endif
