/* One walk over the options that were given, in the order of the table of all
 * options, so that two runs say the same lines in the same order. */
#include "launch/options/effect.h"

#include "runtime/base/log.h"
#include "runtime/base/text.h"

#include <string.h>

enum { NAME_BYTES = 300 };

int moerun__effect_row_is_of(const moerun__effect_row *row,
                             const char *subcommand, const char *key) {
  return moerun__words_have(row->subcommands, subcommand) &&
         moerun__words_have(row->keys, key);
}

/* The first row by which this option, which has another value than the default,
 * does nothing; NULL: none. */
static const moerun__effect_row *find(const moerun__effect_facts *facts,
                                      unsigned parts, const char *key,
                                      const char *value) {
  const moerun__effect_row *row = NULL;
  for (int i = 0; (row = moerun__effect_row_at(i)) != NULL; i++) {
    if (row->verdict == MOERUN_EFFECT_ALWAYS ||
        ((unsigned)row->part & parts) == 0 ||
        !moerun__effect_row_is_of(row, facts->subcommand, key) ||
        (row->none != NULL && strcmp(row->none, value) == 0)) {
      continue;
    }
    if (!row->matters(facts)) return row;
  }
  return NULL;
}

/* "--top-p 0.5", "--keep-best", or "top_p = 0.5 of a variable". */
static void print_option(char out[NAME_BYTES], const char *key,
                         const char *value, moerun__config_origin origin) {
  const int is_flag = origin == MOERUN_CONFIG_FLAG;
  const int is_switch = strcmp(value, "true") == 0;
  (void)snprintf(out, NAME_BYTES, "%s%s%s%.200s%s", is_flag ? "--" : "", key,
                 is_flag ? is_switch ? "" : " " : " = ",
                 is_flag && is_switch ? "" : value,
                 is_flag                               ? ""
                 : origin == MOERUN_CONFIG_ENVIRONMENT ? " of a variable"
                 : origin == MOERUN_CONFIG_PRESET      ? " of --like"
                                                       : " of the file");
  for (char *c = out; is_flag && *c != '\0' && *c != ' '; c++) {
    if (*c == '_') *c = '-';
  }
}

moerun_status moerun__effect_check(const moerun__effect_facts *facts,
                                   unsigned parts) {
  moerun_status status = MOERUN_OK;
  const char *key = NULL;
  const char *value = NULL;
  char option[NAME_BYTES];
  moerun__config_origin origin = MOERUN_CONFIG_DEFAULT;
  for (int i = 0; moerun__config_at(facts->config, i, &key, &value, &origin);
       i++) {
    if (!moerun__config_is_changed(facts->config, key)) continue;
    const moerun__effect_row *row = find(facts, parts, key, value);
    if (row == NULL) continue;
    const int is_flag = origin == MOERUN_CONFIG_FLAG;
    const int is_grave = row->verdict == MOERUN_EFFECT_REFUSE;
    print_option(option, key, value, origin);
    MOERUN_REQUIRE(!is_flag || !is_grave, MOERUN_ERR_INVALID,
                   "%s has no effect here: %s", option, row->reason);
    if (is_flag || is_grave) {
      LOG_ROOT(is_flag ? MOERUN_LOG_WARN : MOERUN_LOG_INFO,
               "%s has no effect here: %s", option, row->reason);
    }
  }
done:
  return status;
}
