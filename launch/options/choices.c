/* A name that is written where options are listed and again where they are
 * acted on can be changed in one of the two alone, and then chooses the default
 * without a word. So it is written here. */
#include "launch/options/choices.h"

#include <assert.h>
#include <string.h>

typedef struct choice {
  const char *name; /* NULL: none any more */
  int value;
} choice;

static const choice balances[] = {{"auto", MOERUN_BALANCE_AUTO},
                                  {"off", MOERUN_BALANCE_OFF},
                                  {"sliced", MOERUN_BALANCE_SLICED},
                                  {NULL, 0}};
static const choice wires[] = {
    {"fp32", MOERUN_WIRE_FP32}, {"bf16", MOERUN_WIRE_BF16}, {NULL, 0}};
static const choice computes[] = {
    {"fp32", MOERUN_COMPUTE_FP32}, {"bf16", MOERUN_COMPUTE_BF16}, {NULL, 0}};

const char *moerun__balance_name_at(int i) {
  return balances[i].name;
}

const char *moerun__wire_name_at(int i) {
  return wires[i].name;
}

const char *moerun__compute_name_at(int i) {
  return computes[i].name;
}

/* The configuration takes no other names. */
static int value_of(const choice *choices, const char *name) {
  while (strcmp(choices->name, name) != 0) {
    choices++;
    assert(choices->name != NULL);
  }
  return choices->value;
}

moerun_balance moerun__balance_of(const moerun__config *config) {
  return (moerun_balance)value_of(balances,
                                  moerun__config_text(config, "balance"));
}

moerun_wire moerun__wire_of(const moerun__config *config) {
  return (moerun_wire)value_of(wires, moerun__config_text(config, "wire"));
}

moerun_compute moerun__compute_of(const moerun__config *config) {
  return (moerun_compute)value_of(computes,
                                  moerun__config_text(config, "compute"));
}
