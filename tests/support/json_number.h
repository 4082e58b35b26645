/* Numbers in JSON, by where they stand. */
#ifndef MOERUN_TESTS_JSON_NUMBER_H
#define MOERUN_TESTS_JSON_NUMBER_H

#include "support/cmocka.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

/* The number at "a.b.c", where a step into an array is a number. */
static inline double number_at(const json_t *root, const char *where) {
  char key[64];
  const char *at = where;
  while (*at != '\0') {
    const size_t n = strcspn(at, ".");
    assert_true(n < sizeof key);
    memcpy(key, at, n);
    key[n] = '\0';
    root = json_is_array(root)
               ? json_array_get(root, (size_t)strtoul(key, NULL, 10))
               : json_object_get(root, key);
    at += n + (at[n] == '.');
  }
  if (!json_is_number(root)) fail_msg("no number %s", where);
  return json_number_value(root);
}

#endif
