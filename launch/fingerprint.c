/* Reading all weights again would cost as much as loading them. A sample of
 * each file finds another training step of the same model: its header is
 * likely the same, its weights at the start, in the middle and at the end are
 * not. */
#include "launch/fingerprint.h"

#include "launch/digest.h"
#include "launch/lines.h"
#include "runtime/base/file.h"
#include "runtime/base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SAMPLE_BYTES = 1 << 16, SAMPLES = 4 };

typedef struct fingerprint {
  uint64_t digest;
  moerun__text path;
  char *buffer; /* [SAMPLE_BYTES] */
} fingerprint;

/* Adds the file at f->path: whole, or if `sampled` at SAMPLES places from its
 * first byte to its last. */
static moerun_status add_content(fingerprint *f, int sampled) {
  moerun_status status = MOERUN_OK;
  int file = -1;
  struct stat facts;
  const char *path = f->path.bytes;
  MOERUN_TRY(moerun__open_regular(&file, path, 0));
  MOERUN_REQUIRE(fstat(file, &facts) == 0, MOERUN_ERR_IO,
                 "%s: cannot be read: %s", path, moerun__file_reason());
  const int64_t size = (int64_t)facts.st_size;
  const int64_t last = size - SAMPLE_BYTES;
  const int is_large = sampled && last > (int64_t)SAMPLES * SAMPLE_BYTES;
  const int64_t step = is_large ? last / (SAMPLES - 1) : SAMPLE_BYTES;
  f->digest = moerun__digest_int(f->digest, size);
  for (int64_t at = 0; at < size; at += step) {
    size_t got = 0;
    MOERUN_TRY(moerun__file_get(&got, f->buffer, SAMPLE_BYTES, file, at, path));
    f->digest = moerun__digest_bytes(f->digest, f->buffer, got);
  }
done:
  if (file >= 0) (void)close(file);
  return status;
}

/* A file that may be missing. */
static moerun_status add_file(fingerprint *f, const char *folder,
                              const char *name, int sampled) {
  moerun_status status = MOERUN_OK;
  f->path.count = 0;
  MOERUN_TRY(moerun__text_print(&f->path, "%s/%s", folder, name));
  f->digest = moerun__digest_text(f->digest, name, strlen(name));
  if (access(f->path.bytes, F_OK) != 0 && errno == ENOENT) goto done;
  MOERUN_TRY(add_content(f, sampled));
done:
  return status;
}

static int is_weights(const struct dirent *entry) {
  static const char ending[] = ".safetensors";
  const size_t bytes = strlen(entry->d_name);
  return bytes >= sizeof ending &&
         strcmp(entry->d_name + bytes - (sizeof ending - 1), ending) == 0;
}

static int compare_names(const struct dirent **a, const struct dirent **b) {
  return strcmp((*a)->d_name, (*b)->d_name);
}

moerun_status moerun__fingerprint(uint64_t *out, const char *model_dir) {
  moerun_status status = MOERUN_OK;
  static const char *const whole[] = {"config.json", "generation_config.json",
                                      "tokenizer.json"};
  fingerprint f = {.digest = MOERUN_DIGEST_START};
  struct dirent **entries = NULL;
  const int count = scandir(model_dir, &entries, is_weights, compare_names);
  MOERUN_REQUIRE(count >= 0, MOERUN_ERR_IO, "%s: cannot be opened: %s",
                 model_dir, moerun__file_reason());
  MOERUN_TRY(moerun__alloc(&f.buffer, SAMPLE_BYTES, 1));
  for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
    MOERUN_TRY(add_file(&f, model_dir, whole[i], 0));
  }
  for (int i = 0; i < count; i++) {
    MOERUN_TRY(add_file(&f, model_dir, entries[i]->d_name, 1));
  }
  *out = f.digest;
done:
  for (int i = 0; i < count; i++) {
    free(entries[i]);
  }
  free(entries);
  moerun__text_clear(&f.path);
  moerun__free(f.buffer);
  return status;
}
