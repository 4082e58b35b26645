/* The copy is unlinked at once, so that nothing stays behind however the run
 * ends; /dev/fd opens it again under the number of its descriptor. */
#include "launch/requests/spool.h"

#include "runtime/base/config.h"
#include "runtime/base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BLOCK = 1 << 16 };

/* A file without a name in TMPDIR. */
static moerun_status create(moerun__spool *spool) {
  moerun_status status = MOERUN_OK;
  moerun__text pattern = {0};
  const char *folder = moerun__config_environment("TMPDIR");
  if (folder == NULL || folder[0] == '\0') folder = "/tmp";
  MOERUN_TRY(moerun__text_print(&pattern, "%s/moerun_input_XXXXXX", folder));
  spool->file = mkstemp(pattern.bytes);
  MOERUN_REQUIRE(spool->file >= 0, MOERUN_ERR_OUTPUT,
                 "%s: cannot be created, to keep %s: %s", pattern.bytes,
                 spool->name.bytes, moerun__file_reason());
  (void)unlink(pattern.bytes);
  MOERUN_TRY(moerun__text_print(&spool->path, "/dev/fd/%d", spool->file));
  MOERUN_TRY(moerun__text_print(&spool->copy, "the copy of %s in %s",
                                spool->name.bytes, folder));
done:
  moerun__text_clear(&pattern);
  return status;
}

static moerun_status copy(const moerun__spool *spool, int from) {
  moerun_status status = MOERUN_OK;
  char block[BLOCK];
  for (;;) {
    MOERUN_TRY(moerun__file_wait(from, 0, spool->name.bytes));
    const ssize_t got = read(from, block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    MOERUN_REQUIRE(got >= 0, MOERUN_ERR_IO, "%s: cannot be read: %s",
                   spool->name.bytes, moerun__file_reason());
    if (got == 0) break;
    MOERUN_TRY(
        moerun__file_put(spool->file, block, (size_t)got, spool->copy.bytes));
  }
done:
  return status;
}

/* Whether the input can be read only once: a pipe, or a terminal. */
static int is_read_once(const char *path) {
  struct stat facts;
  if (stat(path, &facts) != 0) return 0;
  if (S_ISFIFO(facts.st_mode)) return 1;
  if (!S_ISCHR(facts.st_mode)) return 0;
  const int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY);
  const int is_terminal = file >= 0 && isatty(file);
  if (file >= 0) (void)close(file);
  return is_terminal;
}

/* Without waiting for a writer, which the kernel would do without looking at
 * signals; the first bytes are waited for. */
static int open_once(const char *path) {
  const int file = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
  if (file >= 0) (void)fcntl(file, F_SETFL, O_RDONLY);
  return file;
}

moerun_status moerun__spool_open(moerun__spool *spool, const char *path) {
  moerun_status status = MOERUN_OK;
  int from = -1;
  const int is_stdin = strcmp(path, "-") == 0;
  spool->file = -1;
  MOERUN_TRY(moerun__text_print(&spool->name, "%s", is_stdin ? "stdin" : path));
  if (!is_stdin && !is_read_once(path)) {
    MOERUN_TRY(moerun__text_print(&spool->path, "%s", path));
    goto done;
  }
  from = is_stdin ? STDIN_FILENO : open_once(path);
  MOERUN_REQUIRE(from >= 0, MOERUN_ERR_IO, "%s: cannot be opened: %s", path,
                 moerun__file_reason());
  MOERUN_TRY(create(spool));
  MOERUN_TRY(copy(spool, from));
done:
  if (from > STDIN_FILENO) (void)close(from);
  return status;
}

moerun_status moerun__spool_text(moerun__spool *spool, const char *text,
                                 size_t bytes, const char *name) {
  moerun_status status = MOERUN_OK;
  spool->file = -1;
  MOERUN_TRY(moerun__text_print(&spool->name, "%s", name));
  MOERUN_TRY(create(spool));
  MOERUN_TRY(moerun__file_put(spool->file, text, bytes, spool->copy.bytes));
done:
  return status;
}

void moerun__spool_clear(moerun__spool *spool) {
  if (spool->path.bytes != NULL && spool->file >= 0) (void)close(spool->file);
  moerun__text_clear(&spool->path);
  moerun__text_clear(&spool->name);
  moerun__text_clear(&spool->copy);
  spool->file = -1;
}
