/* A scratch file per test, under /tmp. */
#ifndef MOERUN_TESTS_SCRATCH_H
#define MOERUN_TESTS_SCRATCH_H

#include "runtime/base/file.h"
#include "support/cmocka.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SCRATCH_PATH = 40 };

/* An empty file of a new name. */
static inline void scratch_create(char path[SCRATCH_PATH]) {
  (void)snprintf(path, SCRATCH_PATH, "/tmp/moerun_test_XXXXXX");
  const int file = mkstemp(path);
  assert_true(file >= 0);
  (void)close(file);
}

static inline void scratch_write(const char *path, const char *text) {
  assert_int_equal(moerun__file_write(path, text, strlen(text)), MOERUN_OK);
}

/* The last error must contain `words`. */
static inline void expect_words(const char *words) {
  if (strstr(moerun_last_error(), words) == NULL) {
    print_error("wanted '%s' in '%s'\n", words, moerun_last_error());
    fail();
  }
}

#endif
