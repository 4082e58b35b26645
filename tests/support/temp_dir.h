/* A folder of its own for a test's files, removed with what is in it. */
#ifndef MOERUN_TESTS_TEMP_DIR_H
#define MOERUN_TESTS_TEMP_DIR_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { TEMP_PATH = 512 };

typedef struct temp_dir {
  char path[TEMP_PATH];
} temp_dir;

/* 1 if it was created. */
static inline int temp_dir_create(temp_dir *dir) {
  (void)snprintf(dir->path, sizeof dir->path, "/tmp/moerun_test_XXXXXX");
  return mkdtemp(dir->path) != NULL;
}

/* path = dir/name; returns path. */
static inline const char *temp_path(char path[TEMP_PATH], const temp_dir *dir,
                                    const char *name) {
  (void)snprintf(path, TEMP_PATH, "%.400s/%.100s", dir->path, name);
  return path;
}

/* Files, and folders one level down. */
static inline void temp_remove(const char *path, int depth) {
  DIR *list = opendir(path);
  const struct dirent *item = NULL;
  while (list != NULL && (item = readdir(list)) != NULL) {
    char inner[TEMP_PATH];
    if (strcmp(item->d_name, ".") == 0 || strcmp(item->d_name, "..") == 0) {
      continue;
    }
    (void)snprintf(inner, sizeof inner, "%.250s/%.250s", path, item->d_name);
    if (unlink(inner) != 0 && depth > 0) temp_remove(inner, depth - 1);
  }
  if (list != NULL) (void)closedir(list);
  (void)rmdir(path);
}

static inline void temp_dir_remove(const temp_dir *dir) {
  temp_remove(dir->path, 1);
}

/* Number of entries, -1 if there is no such folder. */
static inline int temp_dir_count(const char *path) {
  DIR *list = opendir(path);
  int count = -2; /* "." and ".." */
  if (list == NULL) return -1;
  while (readdir(list) != NULL) {
    count++;
  }
  (void)closedir(list);
  return count;
}

#endif
