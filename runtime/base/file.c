#include "runtime/base/file.h"

#include "runtime/base/memory.h"
#include "runtime/base/output.h"
#include "runtime/base/stop.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* strerror_r would do, but it has two signatures. */
const char *moerun__file_reason(void) {
  static const struct {
    int number;
    const char *words;
  } reasons[] = {
      {ENOENT, "no such file or directory"},
      {EACCES, "permission denied"},
      {EPERM, "operation not permitted"},
      {EEXIST, "it exists already"},
      {ENOTEMPTY, "it exists already"},
      {EISDIR, "it is a directory"},
      {ENOTDIR, "a part of the path is not a directory"},
      {ENAMETOOLONG, "the name is too long"},
      {ELOOP, "too many symbolic links"},
      {EFBIG, "file too large (ulimit -f, or the file system's limit)"},
      {ENOSPC, "no space left on the device"},
      {EDQUOT, "disk quota exceeded"},
      {EPIPE, "broken pipe: its reader is gone"},
      {EMFILE, "too many files are open (ulimit -n)"},
      {EROFS, "the file system is read-only"}};
  for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++) {
    if (errno == reasons[i].number) return reasons[i].words;
  }
  return "input/output error";
}

moerun_status moerun__path_check(const char *path, const char *what) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(path != NULL && *path != '\0', MOERUN_ERR_INVALID,
                 "%s: expected a path, found %s", what,
                 path == NULL ? "NULL" : "an empty one");
done:
  return status;
}

int moerun__file_exists(const char *path) {
  struct stat facts;
  return stat(path, &facts) == 0 || (errno != ENOENT && errno != ENAMETOOLONG);
}

int moerun__file_is_at(int file, const char *path) {
  struct stat mine;
  struct stat there;
  return fstat(file, &mine) == 0 && stat(path, &there) == 0 &&
         mine.st_dev == there.st_dev && mine.st_ino == there.st_ino;
}

int moerun__file_name(char *out, size_t bytes, int file) {
  char link[64];
  (void)snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  const ssize_t length = readlink(link, out, bytes);
  if (length <= 0 || (size_t)length >= bytes) return 0;
  out[length] = '\0';
  return moerun__file_is_at(file, out); /* not "... (deleted)" */
}

moerun_status moerun__file_open(int *out, int64_t *bytes, const char *path,
                                int writable) {
  moerun_status status = MOERUN_OK;
  struct stat facts;
  const moerun_status failure = writable ? MOERUN_ERR_OUTPUT : MOERUN_ERR_IO;
  /* A named pipe must not block the open; it is refused below. */
  *out = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NONBLOCK);
  MOERUN_REQUIRE(*out >= 0, failure, "%s: cannot be opened: %s", path,
                 moerun__file_reason());
  MOERUN_REQUIRE(fstat(*out, &facts) == 0, failure, "%s: cannot be read: %s",
                 path, moerun__file_reason());
  MOERUN_REQUIRE(S_ISREG(facts.st_mode), failure,
                 "%s: expected a regular file%s", path,
                 S_ISDIR(facts.st_mode) ? ", found a folder" : "");
  if (bytes != NULL) *bytes = (int64_t)facts.st_size;
done:
  if (status != MOERUN_OK && *out >= 0) {
    (void)close(*out);
    *out = -1;
  }
  return status;
}

moerun_status moerun__file_read(char **out, size_t *bytes, const char *path,
                                size_t limit_bytes) {
  moerun_status status = MOERUN_OK;
  char *content = NULL;
  int64_t length = 0;
  int file = -1;
  *out = NULL;
  *bytes = 0;
  MOERUN_TRY(moerun__file_open(&file, &length, path, 0));
  MOERUN_REQUIRE((uint64_t)length <= limit_bytes, MOERUN_ERR_FORMAT,
                 "%s: expected at most %zu bytes, found %lld", path,
                 limit_bytes, (long long)length);
  const size_t size = (size_t)length;
  MOERUN_TRY(moerun__alloc_unset(&content, size + 1, 1));
  size_t filled = 0;
  while (filled < size) {
    const ssize_t got = read(file, content + filled, size - filled);
    if (got < 0 && errno == EINTR) continue;
    MOERUN_REQUIRE(got > 0, MOERUN_ERR_IO, "%s: cannot be read: %s", path,
                   got < 0 ? moerun__file_reason() : "it shrank meanwhile");
    filled += (size_t)got;
  }
  content[size] = '\0';
  *out = content;
  *bytes = size;
  content = NULL;
done:
  moerun__free(content);
  if (file >= 0) (void)close(file);
  return status;
}

moerun_status moerun__file_get(size_t *got, void *out, size_t bytes, int file,
                               int64_t offset, const char *path) {
  moerun_status status = MOERUN_OK;
  *got = 0;
  while (*got < bytes) {
    const ssize_t part = pread(file, (char *)out + *got, bytes - *got,
                               (off_t)(offset + (int64_t)*got));
    if (part < 0 && errno == EINTR) continue;
    MOERUN_REQUIRE(part >= 0, MOERUN_ERR_IO, "%s: cannot be read: %s", path,
                   moerun__file_reason());
    if (part == 0) break;
    *got += (size_t)part;
  }
done:
  return status;
}

moerun_status moerun__file_wait(int file, int writes, const char *path) {
  moerun_status status = MOERUN_OK;
  struct pollfd wanted = {.fd = file, .events = writes ? POLLOUT : POLLIN};
  /* What fails here fails again where the bytes are moved; poll would wait for
   * ever for a number that is no file's. */
  while (file >= 0) {
    const int found = poll(&wanted, 1, MOERUN_LOOK_MS);
    if (found > 0 || (found < 0 && errno != EINTR)) break;
    MOERUN_TRY(moerun__stop_check(path, "it was waited for"));
  }
done:
  return status;
}

/* A pipe takes PIPE_BUF bytes at once if it takes any: who has waited for room
 * is not held by the kernel, where no signal would be looked at. */
moerun_status moerun__file_put(int file, const void *content, size_t bytes,
                               const char *path) {
  moerun_status status = MOERUN_OK;
  struct stat facts;
  const int is_file = fstat(file, &facts) == 0 && S_ISREG(facts.st_mode);
  size_t written = 0;
  while (written < bytes) {
    size_t count = bytes - written;
    if (!is_file) {
      MOERUN_TRY(moerun__file_wait(file, 1, path));
      if (count > PIPE_BUF) count = PIPE_BUF;
    }
    const ssize_t part = write(file, (const char *)content + written, count);
    if (part < 0 && errno == EINTR) continue;
    MOERUN_REQUIRE(part > 0, MOERUN_ERR_OUTPUT, "%s: cannot be written: %s",
                   path, moerun__file_reason());
    written += (size_t)part;
  }
done:
  return status;
}

moerun_status moerun__file_write(const char *path, const void *content,
                                 size_t bytes) {
  moerun_status status = MOERUN_OK;
  moerun__outputs outputs = {0};
  MOERUN_TRY(moerun__outputs_put(&outputs, path, content, bytes));
  MOERUN_TRY(moerun__outputs_commit(&outputs));
done:
  moerun__outputs_clear(&outputs);
  return status;
}
