/* Weights are not read here: their digest is taken while they are loaded
 * (runtime/model/weights_digest.h). These files are small and read whole. */
#include "launch/run/fingerprint.h"

#include "launch/options/gate_options.h"
#include "runtime/base/digest.h"
#include "runtime/base/file.h"
#include "runtime/base/memory.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PIECE_BYTES = 1 << 16 };

typedef struct fingerprint {
  uint64_t digest;
  moerun__text path;
  char *buffer; /* [PIECE_BYTES] */
} fingerprint;

/* Adds the file at f->path. */
static moerun_status add_content(fingerprint *f) {
  moerun_status status = MOERUN_OK;
  int file = -1;
  struct stat facts;
  const char *path = f->path.bytes;
  MOERUN_TRY(moerun__file_open(&file, NULL, path, 0));
  MOERUN_REQUIRE(fstat(file, &facts) == 0, MOERUN_ERR_IO,
                 "%s: cannot be read: %s", path, moerun__file_reason());
  const int64_t size = (int64_t)facts.st_size;
  f->digest = moerun__digest_int(f->digest, size);
  for (int64_t at = 0; at < size; at += PIECE_BYTES) {
    size_t got = 0;
    MOERUN_TRY(moerun__file_get(&got, f->buffer, PIECE_BYTES, file, at, path));
    f->digest = moerun__digest_bytes(f->digest, f->buffer, got);
  }
done:
  if (file >= 0) (void)close(file);
  return status;
}

/* A file that may be missing. */
static moerun_status add_file(fingerprint *f, const char *folder,
                              const char *name) {
  moerun_status status = MOERUN_OK;
  f->path.count = 0;
  MOERUN_TRY(moerun__text_print(&f->path, "%s/%s", folder, name));
  f->digest = moerun__digest_span(f->digest, name, strlen(name));
  if (access(f->path.bytes, F_OK) != 0 && errno == ENOENT) goto done;
  MOERUN_TRY(add_content(f));
done:
  return status;
}

moerun_status moerun__fingerprint(uint64_t *out, const char *model_dir) {
  moerun_status status = MOERUN_OK;
  static const char *const whole[] = {"config.json", "generation_config.json",
                                      "tokenizer.json"};
  fingerprint f = {.digest = MOERUN_DIGEST_START};
  MOERUN_TRY(moerun__alloc(&f.buffer, PIECE_BYTES, 1));
  for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
    MOERUN_TRY(add_file(&f, model_dir, whole[i]));
  }
  *out = f.digest;
done:
  moerun__text_clear(&f.path);
  moerun__free(f.buffer);
  return status;
}

moerun_status moerun__run_digest(uint64_t *out, const moerun__config *config,
                                 const char *kernels, int has_tokenizer) {
  moerun_status status = MOERUN_OK;
  uint64_t digest = 0;
  const char *wire = moerun__config_text(config, "wire");
  const char *compute = moerun__config_text(config, "compute");
  MOERUN_TRY(
      moerun__fingerprint(&digest, moerun__config_text(config, "model")));
  digest = moerun__digest_span(digest, wire, strlen(wire));
  digest = moerun__digest_span(digest, compute, strlen(compute));
  digest = moerun__gate_options_digest(digest, config);
  /* All kernel sets but the oracle give the same bits. */
  digest = moerun__digest_int(digest, strcmp(kernels, "ref") == 0);
  *out = moerun__digest_int(digest, has_tokenizer);
done:
  return status;
}
