/* Options that can have no effect in a run, although somebody typed them: who
 * turns a knob should see something happen. One table says of every option of
 * every subcommand when it matters (effect_rows.c). An option that belongs to
 * something that was not asked for, such as --window without --score, is
 * refused; one that is merely of no use here, such as --seed where nothing is
 * drawn, is said in a warning. A variable or a configuration file may have been
 * set for other runs: what would be refused is said, the rest is not. A value
 * that is the default, or asks for nothing, has no effect to miss. */
#ifndef MOERUN_OPTIONS_EFFECT_H
#define MOERUN_OPTIONS_EFFECT_H

#include "runtime/base/config.h"
#include "runtime/model/arch.h"

/* What has to be known to judge a row of the table. */
typedef enum moerun__effect_part {
  MOERUN_EFFECT_OPTIONS = 1,
  MOERUN_EFFECT_MODEL = 2,
  MOERUN_EFFECT_REQUESTS = 4,
} moerun__effect_part;

typedef struct moerun__effect_facts {
  const char *subcommand;
  const moerun__config *config;
  int32_t num_ranks;                 /* 0: not known */
  const moerun__model_config *model; /* for MOERUN_EFFECT_MODEL */
  int64_t sampled; /* for _REQUESTS: how many have a temperature above 0 */
} moerun__effect_facts;

typedef enum moerun__effect_verdict {
  MOERUN_EFFECT_ALWAYS = 0, /* the option matters in every run */
  MOERUN_EFFECT_SAY,
  MOERUN_EFFECT_REFUSE,
} moerun__effect_verdict;

typedef struct moerun__effect_row {
  const char *subcommands; /* words */
  const char *keys;        /* words */
  moerun__effect_verdict verdict;
  moerun__effect_part part;
  int (*matters)(const moerun__effect_facts *facts);
  const char *none;   /* a value that asks for nothing; NULL: none does */
  const char *reason; /* why the option does not matter, and what to do */
} moerun__effect_row;

/* Row number i; NULL behind the last. Of the rows of an option the first that
 * finds it without effect counts. */
const moerun__effect_row *moerun__effect_row_at(int i);
int moerun__effect_row_is_of(const moerun__effect_row *row,
                             const char *subcommand, const char *key);

/* Judges the rows of `parts`, a set of moerun__effect_part. ERR_INVALID for the
 * first option that is refused; a line for each other one. */
moerun_status moerun__effect_check(const moerun__effect_facts *facts,
                                   unsigned parts);

#endif
