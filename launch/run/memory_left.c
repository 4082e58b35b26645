/* A control group's use counts file pages that the kernel would give back; they
 * are subtracted, as MemAvailable does for the whole system. Inside a container
 * the paths of /proc/self/cgroup may not exist below /sys/fs/cgroup: the groups
 * that do count, up to the root, which is the container's own then. */
#include "launch/run/memory_left.h"

#include "runtime/base/text.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

static const double gib = 1073741824.0;
enum { FILE_BYTES = 1 << 16 };

/* ---- Small files of numbers ---------------------------------------------- */

/* A file of /proc or /sys as a string; "" if it cannot be read. These say that
 * they have no bytes, so they are read until they end. */
static moerun_status read_text(moerun__text *out, const char *path) {
  moerun_status status = MOERUN_OK;
  char block[4096];
  FILE *file = fopen(path, "r");
  out->count = 0;
  for (size_t got = 1; file != NULL && got > 0 && out->count < FILE_BYTES;) {
    got = fread(block, 1, sizeof block, file);
    MOERUN_TRY(moerun__text_append(out, block, got));
  }
  MOERUN_TRY(moerun__text_append(out, "", 1));
done:
  if (file != NULL) (void)fclose(file);
  return status;
}

/* The number at the start of text; -1: there is none ("max"). */
static int64_t number_at(const char *text) {
  char *end = NULL;
  while (*text == ' ' || *text == '\t') {
    text++;
  }
  if (*text < '0' || *text > '9') return -1;
  errno = 0;
  const unsigned long long value = strtoull(text, &end, 10);
  return errno == 0 && value < INT64_MAX ? (int64_t)value : INT64_MAX;
}

/* The number behind `key` at the start of a line; -1: none. */
static int64_t number_of(const char *text, const char *key) {
  const size_t length = strlen(key);
  for (const char *line = text; line != NULL; line = strchr(line, '\n')) {
    if (*line == '\n') line++;
    if (strncmp(line, key, length) == 0) return number_at(line + length);
  }
  return -1;
}

/* ---- What is left -------------------------------------------------------- */

static void take_less(moerun__memory_left *out, int64_t bytes,
                      const char *source) {
  if (bytes >= out->bytes) return;
  out->bytes = bytes;
  (void)snprintf(out->source, sizeof out->source, "%s", source);
}

typedef struct group_files {
  const char *limit;
  const char *used;
  const char *file_pages[2]; /* in memory.stat */
} group_files;

static const group_files versions[] = {
    {"memory.limit_in_bytes",
     "memory.usage_in_bytes",
     {"total_inactive_file ", "total_active_file "}},
    {"memory.max", "memory.current", {"inactive_file ", "active_file "}},
};

/* One group: the folder folder[0 .. length - 1]. */
static moerun_status look_at_group(moerun__memory_left *out, const char *folder,
                                   int length, const group_files *files) {
  moerun_status status = MOERUN_OK;
  moerun__text path = {0};
  moerun__text text = {0};
  char source[MOERUN_SOURCE_BYTES];
  MOERUN_TRY(
      moerun__text_print(&path, "%.*s/%s", length, folder, files->limit));
  MOERUN_TRY(read_text(&text, path.bytes));
  const int64_t limit = number_at(text.bytes);
  if (limit < 0 || limit >= INT64_MAX / 2) goto done;
  (void)snprintf(source, sizeof source, "%.200s is %.1f GiB", path.bytes,
                 (double)limit / gib);
  path.count = 0;
  MOERUN_TRY(moerun__text_print(&path, "%.*s/%s", length, folder, files->used));
  MOERUN_TRY(read_text(&text, path.bytes));
  int64_t used = number_at(text.bytes);
  if (used < 0) used = 0;
  path.count = 0;
  MOERUN_TRY(moerun__text_print(&path, "%.*s/memory.stat", length, folder));
  MOERUN_TRY(read_text(&text, path.bytes));
  for (int i = 0; i < 2; i++) {
    const int64_t pages = number_of(text.bytes, files->file_pages[i]);
    if (pages > 0) used -= pages < used ? pages : used;
  }
  take_less(out, used < limit ? limit - used : 0, source);
done:
  moerun__text_clear(&path);
  moerun__text_clear(&text);
  return status;
}

/* The group `name` and all above it, below the folder `mount`. */
static moerun_status look_at_groups(moerun__memory_left *out, const char *mount,
                                    const char *name, int name_length,
                                    const group_files *files) {
  moerun_status status = MOERUN_OK;
  moerun__text folder = {0};
  const size_t mount_length = strlen(mount);
  MOERUN_TRY(moerun__text_print(&folder, "%s%.*s", mount, name_length, name));
  size_t length = strlen(folder.bytes);
  for (;;) {
    while (length > mount_length && folder.bytes[length - 1] == '/') {
      length--;
    }
    MOERUN_TRY(look_at_group(out, folder.bytes, (int)length, files));
    if (length <= mount_length) break;
    while (length > mount_length && folder.bytes[length - 1] != '/') {
      length--;
    }
  }
done:
  moerun__text_clear(&folder);
  return status;
}

/* Whether `name` is one of the names with commas between, list[0 .. length). */
static int is_listed(const char *list, size_t length, const char *name) {
  const size_t bytes = strlen(name);
  for (size_t at = 0; at + bytes <= length; at++) {
    const int starts = at == 0 || list[at - 1] == ',';
    const int ends = at + bytes == length || list[at + bytes] == ',';
    if (starts && ends && strncmp(list + at, name, bytes) == 0) return 1;
  }
  return 0;
}

/* Lines "4:memory:/name" (version 1) and "0::/name" (version 2). */
static moerun_status look_at_all_groups(moerun__memory_left *out,
                                        const char *root, const char *text) {
  moerun_status status = MOERUN_OK;
  moerun__text mount = {0};
  for (const char *line = text; *line != '\0';) {
    const char *end = line + strcspn(line, "\n");
    const char *kinds = memchr(line, ':', (size_t)(end - line));
    const char *name = kinds != NULL
                           ? memchr(kinds + 1, ':', (size_t)(end - kinds - 1))
                           : NULL;
    if (name != NULL) {
      const size_t length = (size_t)(name - kinds - 1);
      const int is_old = is_listed(kinds + 1, length, "memory");
      mount.count = 0;
      MOERUN_TRY(moerun__text_print(&mount, "%s/sys/fs/cgroup%s", root,
                                    is_old ? "/memory" : ""));
      if (is_old || length == 0) {
        MOERUN_TRY(look_at_groups(out, mount.bytes, name + 1,
                                  (int)(end - name - 1),
                                  &versions[is_old ? 0 : 1]));
      }
    }
    line = *end == '\n' ? end + 1 : end;
  }
done:
  moerun__text_clear(&mount);
  return status;
}

moerun_status moerun__memory_left_read(moerun__memory_left *out,
                                       const char *root) {
  moerun_status status = MOERUN_OK;
  moerun__text path = {0};
  moerun__text text = {0};
  *out = (moerun__memory_left){.bytes = INT64_MAX};
  MOERUN_TRY(moerun__text_print(&path, "%s/proc/meminfo", root));
  MOERUN_TRY(read_text(&text, path.bytes));
  const int64_t available = number_of(text.bytes, "MemAvailable:");
  if (available >= 0 && available < INT64_MAX / 1024) {
    take_less(out, available * 1024, "MemAvailable of /proc/meminfo");
  }
  path.count = 0;
  MOERUN_TRY(moerun__text_print(&path, "%s/proc/self/cgroup", root));
  MOERUN_TRY(read_text(&text, path.bytes));
  MOERUN_TRY(look_at_all_groups(out, root, text.bytes));
done:
  moerun__text_clear(&path);
  moerun__text_clear(&text);
  return status;
}

int64_t moerun__memory_peak(void) {
  struct rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  return (int64_t)usage.ru_maxrss * 1024;
}
