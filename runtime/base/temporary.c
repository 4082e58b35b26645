/* Names are made here and not by mkstemp, which gives files the permissions
 * 0600 whatever the umask says and cannot create folders. What makes a name
 * unique is not the number in it but O_EXCL: where a name is taken, another
 * process's on another node included, the next one is tried.
 *
 * All temporaries of the process are in one list, behind a lock. Who holds it
 * holds back the signals of its own thread, so that a handler that waits for
 * the lock, on whichever thread the kernel runs it, never waits for itself; it
 * finds either no file or one that is in the list, and keeps the lock, because
 * the process ends. Folders come off last, because they are there before their
 * files and new ones are put in front. */
#include "runtime/base/temporary.h"

#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { TRIES = 1000, LONGEST_STEM = 200 };

static atomic_flag lock = ATOMIC_FLAG_INIT; /* held for a few system calls */
static _Thread_local int holds;             /* how many within each other */
static moerun__temporary *volatile first;

static void wait_for_lock(void) {
  while (atomic_flag_test_and_set(&lock)) {
  }
}

void moerun__temporaries_hold(sigset_t *before) {
  sigset_t all;
  (void)sigfillset(&all);
  (void)pthread_sigmask(SIG_SETMASK, &all, before);
  if (holds++ == 0) wait_for_lock();
}

void moerun__temporaries_release(const sigset_t *before) {
  if (--holds == 0) atomic_flag_clear(&lock);
  (void)pthread_sigmask(SIG_SETMASK, before, NULL);
}

static void put_in_front(moerun__temporary *t) {
  t->previous = NULL;
  t->next = first;
  if (first != NULL) first->previous = t;
  first = t;
}

static void take_out(moerun__temporary *t) {
  if (t->next != NULL) t->next->previous = t->previous;
  if (t->previous != NULL) {
    t->previous->next = t->next;
  } else {
    first = t->next;
  }
}

/* ---- Names --------------------------------------------------------------- */

/* Differs between processes, times and calls; the caller holds the lock. */
static unsigned draw(void) {
  static uint64_t calls;
  struct timespec now = {0};
  (void)clock_gettime(CLOCK_REALTIME, &now);
  uint64_t x = (uint64_t)now.tv_nsec ^ (uint64_t)now.tv_sec << 30 ^
               (uint64_t)getpid() << 44 ^ ++calls << 52;
  x = (x ^ x >> 31) * 0x7fb5d329728ea185U;
  x = (x ^ x >> 27) * 0x81dadef4bc2dd44dU;
  return (unsigned)(x >> 32);
}

/* out = folder/NAME.xxxxxxxx.tmp; a NAME near the system's limit is cut. */
static moerun_status print_name(moerun__text *out, const char *path,
                                unsigned number) {
  moerun_status status = MOERUN_OK;
  const char *slash = strrchr(path, '/');
  const size_t folder = slash != NULL ? (size_t)(slash - path) + 1 : 0;
  size_t stem = strlen(path + folder);
  if (stem > LONGEST_STEM) stem = LONGEST_STEM;
  moerun__text_clear(out);
  MOERUN_TRY(moerun__text_append(out, path, folder + stem));
  MOERUN_TRY(moerun__text_print(out, ".%08x.tmp", number));
done:
  return status;
}

/* 0 or a file: it was created; -1: see errno. */
static int create(const char *path, int is_folder) {
  return is_folder ? mkdir(path, 0777)
                   : open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
}

static moerun_status begin(moerun__temporary *out, int *file, const char *path,
                           int is_folder) {
  moerun_status status = MOERUN_OK;
  moerun__text name = {0};
  sigset_t before;
  int made = -1;
  moerun__temporaries_hold(&before);
  for (int i = 0; i < TRIES && made < 0; i++) {
    MOERUN_TRY(print_name(&name, path, draw()));
    made = create(name.bytes, is_folder);
    if (made < 0 && errno != EEXIST) break;
  }
  MOERUN_REQUIRE(made >= 0, MOERUN_ERR_OUTPUT, "%s: cannot be created: %s%s",
                 path, moerun__file_reason(),
                 errno == ENOENT ? " (its folder is missing)" : "");
  *file = made;
  out->path = name.bytes;
  name.bytes = NULL;
  put_in_front(out);
done:
  moerun__temporaries_release(&before);
  moerun__text_clear(&name);
  return status;
}

/* ---- One temporary ------------------------------------------------------- */

moerun_status moerun__temporary_file(moerun__temporary *out, int *file,
                                     const char *path) {
  return begin(out, file, path, 0);
}

moerun_status moerun__temporary_folder(moerun__temporary *out,
                                       const char *path) {
  int ignored = 0;
  return begin(out, &ignored, path, 1);
}

moerun_status moerun__temporary_adopt(moerun__temporary *out,
                                      const char *path) {
  moerun_status status = MOERUN_OK;
  sigset_t before;
  MOERUN_TRY(moerun__copy_text(&out->path, path));
  moerun__temporaries_hold(&before);
  put_in_front(out);
  moerun__temporaries_release(&before);
done:
  return status;
}

static void end(moerun__temporary *t, int is_kept) {
  sigset_t before;
  if (t->path == NULL) return;
  moerun__temporaries_hold(&before);
  if (!is_kept && unlink(t->path) != 0) (void)rmdir(t->path);
  take_out(t);
  moerun__free(t->path);
  t->path = NULL;
  moerun__temporaries_release(&before);
}

void moerun__temporary_remove(moerun__temporary *temporary) {
  end(temporary, 0);
}

void moerun__temporary_forget(moerun__temporary *temporary) {
  end(temporary, 1);
}

void moerun__temporaries_remove(void) {
  wait_for_lock();
  for (const moerun__temporary *t = first; t != NULL; t = t->next) {
    if (unlink(t->path) != 0) (void)rmdir(t->path);
  }
}
