/* A scratch file per test, under /tmp. */
#ifndef MOERUN_TESTS_SCRATCH_H
#define MOERUN_TESTS_SCRATCH_H

#include "runtime/base/file.h"
#include "support/cmocka.h"

#include <dirent.h>
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

/* Temporary files beside `path` that would have got its name. */
static inline int temporaries_of(const char *path) {
  char folder[4096];
  const char *slash = strrchr(path, '/');
  assert_non_null(slash);
  const size_t length = strlen(slash + 1);
  (void)snprintf(folder, sizeof folder, "%.*s", (int)(slash - path) + 1, path);
  DIR *list = opendir(folder);
  const struct dirent *entry = NULL;
  int count = 0;
  assert_non_null(list);
  while ((entry = readdir(list)) != NULL) {
    count += strncmp(entry->d_name, slash + 1, length) == 0 &&
             entry->d_name[length] == '.' &&
             strstr(entry->d_name + length, ".tmp") != NULL;
  }
  (void)closedir(list);
  return count;
}

/* The last error must contain `words`. */
static inline void expect_words(const char *words) {
  if (strstr(moerun_last_error(), words) == NULL) {
    print_error("wanted '%s' in '%s'\n", words, moerun_last_error());
    fail();
  }
}

#endif
