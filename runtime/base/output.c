/* A link is followed by hand, a step at a time: what is renamed has to stand
 * beside the last one's target, which need not exist yet, and on the way the
 * names of this process's own streams are recognised. Those are written by
 * their numbers: the kernel refuses to open /dev/stdout where it is a socket
 * or another user's terminal, and would write a file from its start. */
#include "runtime/base/output.h"

#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/stop.h"
#include "runtime/base/temporary.h"
#include "runtime/base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
  MOST_LINKS = 40,
  PATH_BYTES = 4096,
  STICKY = 01000, /* S_ISVTX, which only X/Open's part of POSIX names */
};

/* ---- Targets ------------------------------------------------------------- */

/* The stream that a name stands for, or -1. */
static int stream_of(const char *path) {
  static const char *const folders[] = {"/dev/fd/", "/proc/self/fd/"};
  if (strcmp(path, "/dev/stdout") == 0) return STDOUT_FILENO;
  if (strcmp(path, "/dev/stderr") == 0) return STDERR_FILENO;
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++) {
    const size_t length = strlen(folders[i]);
    const char *number = path + length;
    if (strncmp(path, folders[i], length) != 0) continue;
    const size_t digits = strspn(number, "0123456789");
    if (digits >= 1 && digits <= 6 && number[digits] == '\0') {
      return (int)strtol(number, NULL, 10);
    }
  }
  return -1;
}

/* Replaces *path, which is a link, by what it says. */
static moerun_status follow(char **path, const char *name) {
  moerun_status status = MOERUN_OK;
  moerun__text next = {0};
  char said[PATH_BYTES];
  const ssize_t length = readlink(*path, said, sizeof said);
  MOERUN_REQUIRE(length >= 0 && length < PATH_BYTES, MOERUN_ERR_OUTPUT,
                 "%s: the symbolic link cannot be followed: %s", name,
                 length < 0 ? moerun__file_reason() : "it is too long");
  const char *slash = strrchr(*path, '/');
  if (said[0] != '/' && slash != NULL) {
    MOERUN_TRY(moerun__text_append(&next, *path, (size_t)(slash - *path) + 1));
  }
  MOERUN_TRY(moerun__text_append(&next, said, (size_t)length));
  moerun__free(*path);
  *path = next.bytes;
  next.bytes = NULL;
done:
  moerun__text_clear(&next);
  return status;
}

static moerun_status follow_all(moerun__target *target, const char *name) {
  moerun_status status = MOERUN_OK;
  struct stat facts;
  for (int i = 0; i <= MOST_LINKS; i++) {
    target->stream = stream_of(target->path);
    if (target->stream >= 0 || lstat(target->path, &facts) != 0 ||
        !S_ISLNK(facts.st_mode)) {
      goto done;
    }
    MOERUN_TRY(follow(&target->path, name));
  }
  MOERUN_REQUIRE(0, MOERUN_ERR_OUTPUT,
                 "%s: expected at most %d symbolic links in a row", name,
                 MOST_LINKS);
done:
  return status;
}

moerun_status moerun__target_find(moerun__target *out, const char *path) {
  moerun_status status = MOERUN_OK;
  struct stat facts;
  *out = (moerun__target){.stream = -1};
  MOERUN_TRY(moerun__copy_text(&out->path, path));
  MOERUN_TRY(follow_all(out, path));
  if (out->stream >= 0) {
    out->exists = 1;
    out->is_direct = 1;
  } else if (stat(out->path, &facts) == 0) {
    out->exists = 1;
    out->is_folder = S_ISDIR(facts.st_mode);
    out->is_direct = !S_ISREG(facts.st_mode) && !out->is_folder;
    out->permissions = (int)(facts.st_mode & 0777U);
  }
done:
  if (status != MOERUN_OK) moerun__target_clear(out);
  return status;
}

void moerun__target_clear(moerun__target *target) {
  moerun__free(target->path);
  target->path = NULL;
}

/* Opens a named pipe as soon as it has a reader. The kernel would wait for one
 * without looking at signals. */
static moerun_status open_pipe(int *file, const char *path) {
  moerun_status status = MOERUN_OK;
  for (;;) {
    *file = open(path, O_WRONLY | O_CLOEXEC | O_NONBLOCK);
    if (*file >= 0 || errno != ENXIO) break;
    (void)poll(NULL, 0, MOERUN_LOOK_MS);
    MOERUN_TRY(moerun__stop_check(path, "its reader was waited for"));
  }
  if (*file >= 0) (void)fcntl(*file, F_SETFL, O_WRONLY);
done:
  return status;
}

static int is_pipe(const char *path) {
  struct stat facts;
  return stat(path, &facts) == 0 && S_ISFIFO(facts.st_mode);
}

moerun_status moerun__target_open(int *file, const moerun__target *target) {
  moerun_status status = MOERUN_OK;
  if (target->stream == STDOUT_FILENO) (void)fflush(stdout);
  if (target->stream >= 0) {
    *file = fcntl(target->stream, F_DUPFD_CLOEXEC, 0);
  } else if (is_pipe(target->path)) {
    MOERUN_TRY(open_pipe(file, target->path));
  } else {
    *file = open(target->path, O_WRONLY | O_CLOEXEC | O_NOCTTY);
  }
  MOERUN_REQUIRE(*file >= 0, MOERUN_ERR_OUTPUT, "%s: cannot be opened: %s",
                 target->path, moerun__file_reason());
done:
  return status;
}

/* In a folder such as /tmp others' files cannot be renamed over. */
static int is_kept_by_folder(const char *folder, const char *path) {
  struct stat around;
  struct stat facts;
  return geteuid() != 0 && stat(folder, &around) == 0 &&
         (around.st_mode & STICKY) != 0 && around.st_uid != geteuid() &&
         stat(path, &facts) == 0 && facts.st_uid != geteuid();
}

static moerun_status check_folder(const moerun__target *target,
                                  const char *name) {
  moerun_status status = MOERUN_OK;
  moerun__text folder = {0};
  const char *slash = strrchr(target->path, '/');
  const size_t length = slash != NULL ? (size_t)(slash - target->path) + 1 : 0;
  MOERUN_TRY(moerun__text_append(&folder, target->path, length));
  if (length == 0) MOERUN_TRY(moerun__text_append(&folder, ".", 1));
  MOERUN_REQUIRE(access(folder.bytes, W_OK | X_OK) == 0, MOERUN_ERR_OUTPUT,
                 "%s: cannot be %s: %s%s", name,
                 target->exists ? "replaced in its folder" : "created",
                 moerun__file_reason(),
                 errno == ENOENT ? " (its folder is missing)" : "");
  MOERUN_REQUIRE(!target->exists ||
                     !is_kept_by_folder(folder.bytes, target->path),
                 MOERUN_ERR_OUTPUT,
                 "%s: cannot be replaced: it belongs to another user", name);
done:
  moerun__text_clear(&folder);
  return status;
}

moerun_status moerun__output_check(const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__target target = {0};
  MOERUN_TRY(moerun__target_find(&target, path));
  MOERUN_REQUIRE(!target.is_folder, MOERUN_ERR_OUTPUT,
                 "%s: cannot be created: it is a directory", path);
  if (!target.is_direct) {
    MOERUN_TRY(check_folder(&target, path));
  } else if (target.stream >= 0) {
    MOERUN_REQUIRE(fcntl(target.stream, F_GETFD) >= 0, MOERUN_ERR_OUTPUT,
                   "%s: cannot be written: it is closed", path);
  } else {
    MOERUN_REQUIRE(access(target.path, W_OK) == 0, MOERUN_ERR_OUTPUT,
                   "%s: cannot be written: %s", path, moerun__file_reason());
  }
done:
  moerun__target_clear(&target);
  return status;
}

/* ---- Outputs ------------------------------------------------------------- */

struct moerun__output {
  struct moerun__output *next;
  char *name; /* as it was given, for messages */
  moerun__target target;
  moerun__temporary temporary; /* none if it is written to as it is */
  int file;                    /* -1: not open */
  int old;                     /* the open file that it replaces, or -1 */
};
typedef struct moerun__output output;

static void destroy(output *o) {
  if (o == NULL) return;
  if (o->file >= 0) (void)close(o->file);
  if (o->old >= 0) (void)close(o->old);
  moerun__temporary_remove(&o->temporary);
  moerun__target_clear(&o->target);
  moerun__free(o->name);
  moerun__free(o);
}

void moerun__outputs_clear(moerun__outputs *outputs) {
  while (outputs->first != NULL) {
    output *o = outputs->first;
    outputs->first = o->next;
    destroy(o);
  }
}

static moerun_status begin(moerun__outputs *outputs, int *file,
                           const char *path, int old) {
  moerun_status status = MOERUN_OK;
  output *o = NULL;
  *file = -1;
  MOERUN_TRY(moerun__alloc(&o, 1, sizeof *o));
  o->file = -1;
  o->old = old >= 0 ? fcntl(old, F_DUPFD_CLOEXEC, 0) : -1;
  MOERUN_REQUIRE(old < 0 || o->old >= 0, MOERUN_ERR_OUTPUT,
                 "%s: cannot be replaced: %s", path, moerun__file_reason());
  MOERUN_TRY(moerun__copy_text(&o->name, path));
  MOERUN_TRY(moerun__target_find(&o->target, path));
  if (o->target.is_direct) {
    MOERUN_TRY(moerun__target_open(&o->file, &o->target));
  } else {
    MOERUN_REQUIRE(!o->target.is_folder, MOERUN_ERR_OUTPUT,
                   "%s: cannot be created: it is a directory", path);
    MOERUN_TRY(moerun__temporary_file(&o->temporary, &o->file, o->target.path));
  }
  *file = o->file;
  output **end = &outputs->first;
  while (*end != NULL) {
    end = &(*end)->next;
  }
  *end = o; /* they get their names in the order in which they were begun */
  o = NULL;
done:
  destroy(o);
  return status;
}

moerun_status moerun__outputs_begin(moerun__outputs *outputs, int *file,
                                    const char *path) {
  return begin(outputs, file, path, -1);
}

moerun_status moerun__outputs_begin_over(moerun__outputs *outputs, int *file,
                                         const char *path, int old) {
  return begin(outputs, file, path, old);
}

moerun_status moerun__outputs_put(moerun__outputs *outputs, const char *path,
                                  const void *content, size_t bytes) {
  moerun_status status = MOERUN_OK;
  int file = -1;
  MOERUN_TRY(moerun__outputs_begin(outputs, &file, path));
  MOERUN_TRY(moerun__file_put(file, content, bytes, path));
done:
  return status;
}

/* Where its folder was renamed, or removed, nothing can appear in it. */
static moerun_status check_folder_stayed(const output *o) {
  moerun_status status = MOERUN_OK;
  char name[PATH_BYTES];
  if (moerun__file_is_at(o->file, o->temporary.path)) goto done;
  const int is_there = moerun__file_name(name, sizeof name, o->file);
  MOERUN_REQUIRE(!is_there, MOERUN_ERR_OUTPUT,
                 "%s: its folder was moved while the program was writing it; "
                 "what was written is in %s",
                 o->name, name);
  MOERUN_REQUIRE(0, MOERUN_ERR_OUTPUT,
                 "%s: cannot be created: it was removed while the program was "
                 "writing it",
                 o->name);
done:
  return status;
}

/* On disk; a file that is replaced keeps its permissions. */
static moerun_status complete(output *o) {
  moerun_status status = MOERUN_OK;
  const int is_file = o->temporary.path != NULL;
  if (is_file) MOERUN_TRY(check_folder_stayed(o));
  if (is_file && o->target.exists) {
    (void)fchmod(o->file, (mode_t)o->target.permissions);
  }
  int failed = is_file && fsync(o->file) != 0;
  if (!failed) {
    failed = close(o->file) != 0; /* late errors of network file systems */
    o->file = -1;
  }
  MOERUN_REQUIRE(!failed, MOERUN_ERR_OUTPUT, "%s: cannot be written: %s",
                 o->name, moerun__file_reason());
done:
  return status;
}

/* ---- Names that others have taken ---------------------------------------- */

/* What keeps `o` from its name, for a message; NULL: nothing does. */
static const char *obstacle(const moerun__outputs *outputs, const output *o) {
  struct stat facts;
  if (o->temporary.path == NULL) return NULL;
  const int is_there = lstat(o->target.path, &facts) == 0;
  if (o->old >= 0 && !is_there) {
    return "was removed while the program was writing it";
  }
  if (o->old >= 0 ? !moerun__file_is_at(o->old, o->target.path)
                  : is_there && outputs->only_new) {
    return "is another file since the program began, which was left alone";
  }
  return NULL;
}

/* Leaves what has not appeared where it is. The error says where. */
static moerun_status keep_aside(const moerun__outputs *outputs,
                                const output *hindered, const char *reason) {
  moerun_status status = MOERUN_OK;
  moerun__text names = {0};
  int count = 0;
  for (output *o = outputs->first; o != NULL; o = o->next) {
    if (o->temporary.path == NULL) continue;
    (void)moerun__text_print(&names, "%s%s", count++ > 0 ? ", " : "",
                             o->temporary.path);
    moerun__temporary_forget(&o->temporary);
  }
  MOERUN_REQUIRE(0, MOERUN_ERR_OUTPUT, "%s: %s; what was written is in %s",
                 hindered->name, reason,
                 names.count > 0 ? names.bytes : "*.tmp beside it");
done:
  moerun__text_clear(&names);
  return status;
}

static moerun_status check_names(const moerun__outputs *outputs) {
  moerun_status status = MOERUN_OK;
  for (const output *o = outputs->first; o != NULL; o = o->next) {
    const char *reason = obstacle(outputs, o);
    if (reason != NULL) MOERUN_TRY(keep_aside(outputs, o, reason));
  }
done:
  return status;
}

/* Gives it a name that nothing has; 0: done. Some file systems have no
 * links. */
static int take_name(const output *o) {
  if (link(o->temporary.path, o->target.path) == 0) {
    (void)unlink(o->temporary.path);
    return 0;
  }
  return errno == EEXIST ? -1 : rename(o->temporary.path, o->target.path);
}

/* All files before `end` have their names: those that are new are taken away
 * again, the others are named, because what they replaced is gone. */
static moerun_status take_back(moerun__text *replaced, const output *first,
                               const output *end) {
  moerun_status status = MOERUN_OK;
  for (const output *o = first; o != end; o = o->next) {
    if (o->target.is_direct) continue;
    if (!o->target.exists && unlink(o->target.path) == 0) continue;
    MOERUN_TRY(moerun__text_print(replaced, "%s%s",
                                  replaced->count > 0 ? ", " : "", o->name));
  }
done:
  return status;
}

static moerun_status appear(const moerun__outputs *outputs, output *o) {
  moerun_status status = MOERUN_OK;
  moerun__text replaced = {0};
  if (o->temporary.path == NULL) goto done;
  const int is_new = outputs->only_new && o->old < 0;
  const int failed =
      (is_new ? take_name(o) : rename(o->temporary.path, o->target.path)) != 0;
  const char *reason = failed ? moerun__file_reason() : "";
  if (failed) MOERUN_TRY(take_back(&replaced, outputs->first, o));
  MOERUN_REQUIRE(!failed || replaced.count > 0, MOERUN_ERR_OUTPUT,
                 "%s: cannot be replaced: %s", o->name, reason);
  MOERUN_REQUIRE(!failed, MOERUN_ERR_OUTPUT,
                 "%s: cannot be replaced: %s; replaced already: %s", o->name,
                 reason, replaced.bytes);
  moerun__temporary_forget(&o->temporary);
done:
  moerun__text_clear(&replaced);
  return status;
}

/* A signal that ends the program ends it before the first or after the last. */
static moerun_status appear_all(const moerun__outputs *outputs) {
  moerun_status status = MOERUN_OK;
  sigset_t before;
  moerun__temporaries_hold(&before);
  for (output *o = outputs->first; o != NULL; o = o->next) {
    MOERUN_TRY(appear(outputs, o));
  }
done:
  moerun__temporaries_release(&before);
  return status;
}

moerun_status moerun__outputs_commit(moerun__outputs *outputs) {
  moerun_status status = MOERUN_OK;
  for (output *o = outputs->first; o != NULL; o = o->next) {
    MOERUN_TRY(complete(o));
  }
  MOERUN_TRY(check_names(outputs));
  MOERUN_TRY(appear_all(outputs));
done:
  moerun__outputs_clear(outputs);
  return status;
}
