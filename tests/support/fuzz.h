/* What fuzz targets share. A target is fuzz_NAME.c with
 * LLVMFuzzerTestOneInput; it aborts on what must never happen. */
#ifndef MOERUN_TESTS_FUZZ_H
#define MOERUN_TESTS_FUZZ_H

#include "runtime/base/status.h"
#include "support/temp_dir.h"

#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size);

static inline void fuzz_require(int holds) {
  if (!holds) abort();
}

/* A reader succeeded, or refused with one readable line. */
static inline void fuzz_verdict(moerun_status status) {
  if (status == MOERUN_OK) return;
  const char *line = moerun_last_error();
  fuzz_require(line[0] != '\0');
  for (; *line != '\0'; line++) {
    fuzz_require((unsigned char)*line >= 0x20);
  }
}

/* The file dir/name with these bytes; a new file, because some file systems
 * flush one that is truncated and written again. */
static inline void fuzz_write(const temp_dir *dir, const char *name,
                              const void *bytes, size_t size) {
  char path[TEMP_PATH];
  (void)unlink(temp_path(path, dir, name));
  FILE *file = fopen(path, "wb");
  fuzz_require(file != NULL);
  fuzz_require(fwrite(bytes, 1, size, file) == size);
  fuzz_require(fclose(file) == 0);
}

#endif
