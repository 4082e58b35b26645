/* A folder that is in the way is replaced only if it could be one of synth's
 * own: there is no telling what else a wrong --output would take with it. It is
 * moved aside, the new one gets its name, and then the old files are removed
 * one by one by their names. */
#include "runtime/model/synth_folder.h"

#include "runtime/base/file.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <stdio.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* A file of the folder, which goes where the folder goes. */
typedef struct moerun__synth_file {
  struct moerun__synth_file *next;
  moerun__temporary temporary;
} synth_file;

static int is_own(const char *name) {
  static const char *const names[] = {"config.json",
                                      "generation_config.json",
                                      "tokenizer.json",
                                      "model.safetensors",
                                      "model.safetensors.index.json",
                                      "model-*.safetensors",
                                      ".",
                                      ".."};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (fnmatch(names[i], name, 0) == 0) return 1;
  }
  return 0;
}

static moerun_status check_old(const moerun__synth_folder *f, int overwrite) {
  moerun_status status = MOERUN_OK;
  DIR *list = NULL;
  const struct dirent *entry = NULL;
  if (!f->target.exists) goto done;
  MOERUN_REQUIRE(f->target.is_folder, MOERUN_ERR_INVALID,
                 "%s: cannot be replaced: expected a folder, found a file",
                 f->name);
  list = opendir(f->target.path);
  MOERUN_REQUIRE(list != NULL, MOERUN_ERR_OUTPUT, "%s: cannot be replaced: %s",
                 f->name, moerun__file_reason());
  /* The stream is this function's own. NOLINTNEXTLINE(concurrency-mt-unsafe) */
  while ((entry = readdir(list)) != NULL) {
    MOERUN_REQUIRE(is_own(entry->d_name), MOERUN_ERR_INVALID,
                   "%s: cannot be replaced: expected a folder with nothing but "
                   "files of `moerun synth`, found %.100s in it",
                   f->name, entry->d_name);
  }
  MOERUN_REQUIRE(overwrite, MOERUN_ERR_INVALID,
                 "%s: exists already: --overwrite replaces it", f->name);
done:
  if (list != NULL) (void)closedir(list);
  return status;
}

/* Removes the files that check_old has seen. */
static void remove_old(const char *path) {
  DIR *list = opendir(path);
  const struct dirent *entry = NULL;
  /* The stream is this function's own. NOLINTNEXTLINE(concurrency-mt-unsafe) */
  while (list != NULL && (entry = readdir(list)) != NULL) {
    moerun__text name = {0};
    if (is_own(entry->d_name) &&
        moerun__text_print(&name, "%s/%s", path, entry->d_name) == MOERUN_OK) {
      (void)unlink(name.bytes);
    }
    moerun__text_clear(&name);
  }
  if (list != NULL) (void)closedir(list);
}

/* A disk that is full after an hour of writing could have said so before. File
 * systems that do not say what is left are trusted. */
static moerun_status check_room(const moerun__synth_folder *f, int64_t bytes) {
  moerun_status status = MOERUN_OK;
  struct statvfs room;
  if (statvfs(f->folder.path, &room) != 0 || room.f_blocks == 0) goto done;
  const double left = (double)room.f_bavail * (double)room.f_frsize;
  MOERUN_REQUIRE((double)bytes <= left, MOERUN_ERR_OUTPUT,
                 "%s: cannot be written: expected room for %.2f GB, found %.2f "
                 "on its file system",
                 f->name, (double)bytes / 1e9, left / 1e9);
done:
  return status;
}

moerun_status moerun__synth_folder_begin(moerun__synth_folder *out,
                                         const char *path, int overwrite,
                                         int64_t bytes) {
  moerun_status status = MOERUN_OK;
  char *bare = NULL;
  out->name = path;
  MOERUN_TRY(moerun__copy_text(&bare, path));
  for (size_t n = strlen(bare); n > 1 && bare[n - 1] == '/'; n--) {
    bare[n - 1] = '\0';
  }
  MOERUN_TRY(moerun__target_find(&out->target, bare));
  MOERUN_TRY(check_old(out, overwrite));
  MOERUN_TRY(moerun__temporary_folder(&out->folder, out->target.path));
  MOERUN_TRY(check_room(out, bytes));
done:
  moerun__free(bare);
  return status;
}

moerun_status moerun__synth_folder_create(int *file,
                                          moerun__synth_folder *folder,
                                          const char *name) {
  moerun_status status = MOERUN_OK;
  moerun__text path = {0};
  synth_file *made = NULL;
  MOERUN_TRY(moerun__text_print(&path, "%s/%s", folder->folder.path, name));
  folder->label.count = 0;
  MOERUN_TRY(moerun__text_print(&folder->label, "%s/%s", folder->name, name));
  MOERUN_TRY(moerun__alloc(&made, 1, sizeof *made));
  made->next = folder->first;
  folder->first = made;
  MOERUN_TRY(moerun__temporary_adopt(&made->temporary, path.bytes));
  *file = open(path.bytes, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  MOERUN_REQUIRE(*file >= 0, MOERUN_ERR_OUTPUT, "%s: cannot be created: %s",
                 folder->label.bytes, moerun__file_reason());
done:
  moerun__text_clear(&path);
  return status;
}

static void forget(moerun__synth_folder *folder) {
  for (synth_file *f = folder->first; f != NULL; f = f->next) {
    moerun__temporary_forget(&f->temporary);
  }
  moerun__temporary_forget(&folder->folder);
}

/* What another program has put into the replaced folder since it was looked at
 * is not this one's to remove: it stays, and a line says where. So does all of
 * it where the name is another folder's by now. */
static void let_go(moerun__temporary *old, const char *name) {
  if (rmdir(old->path) != 0 && errno != ENOENT) {
    LOG_ROOT(MOERUN_LOG_WARN, "%s: what was there before is in %s", name,
             old->path);
  }
  moerun__temporary_forget(old);
}

/* old takes the place of an empty folder, which is there for its name. */
moerun_status moerun__synth_folder_end(moerun__synth_folder *folder) {
  moerun_status status = MOERUN_OK;
  moerun__temporary old = {0};
  sigset_t before;
  const char *path = folder->target.path;
  moerun__temporaries_hold(&before);
  if (folder->target.exists) {
    MOERUN_TRY(moerun__temporary_folder(&old, path));
    MOERUN_REQUIRE(rename(path, old.path) == 0, MOERUN_ERR_OUTPUT,
                   "%s: cannot be replaced: %s", folder->name,
                   moerun__file_reason());
  }
  const int failed = rename(folder->folder.path, path) != 0;
  /* Made by another process since this one has looked. */
  MOERUN_REQUIRE(
      !failed || (errno != ENOTEMPTY && errno != EEXIST), MOERUN_ERR_INVALID,
      "%s: exists already: another process has just created it", folder->name);
  MOERUN_REQUIRE(!failed, MOERUN_ERR_OUTPUT, "%s: cannot be created: %s",
                 folder->name, moerun__file_reason());
  forget(folder);
  if (old.path != NULL) remove_old(old.path);
done:
  if (status != MOERUN_OK && old.path != NULL) (void)rename(old.path, path);
  if (old.path != NULL) let_go(&old, folder->name);
  moerun__temporaries_release(&before);
  return status;
}

void moerun__synth_folder_clear(moerun__synth_folder *folder) {
  while (folder->first != NULL) {
    synth_file *f = folder->first;
    folder->first = f->next;
    moerun__temporary_remove(&f->temporary);
    moerun__free(f);
  }
  moerun__temporary_remove(&folder->folder);
  moerun__target_clear(&folder->target);
  moerun__text_clear(&folder->label);
}
