/* Outputs: whole or absent, all or none, under links and beside devices, and
 * nothing left behind. */
#include "runtime/base/memory.h"
#include "runtime/base/output.h"
#include "runtime/base/temporary.h"
#include "runtime/base/timer.h"
#include "support/scratch.h"
#include "support/temp_dir.h"

#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <threads.h>

static temp_dir dir;
static char path[TEMP_PATH];
static char other[TEMP_PATH];

static int set_up(void **state) {
  (void)state;
  if (!temp_dir_create(&dir)) return -1;
  (void)temp_path(path, &dir, "file");
  (void)temp_path(other, &dir, "other");
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  temp_dir_remove(&dir);
  return 0;
}

static void expect_content(const char *name, const char *wanted) {
  char *text = NULL;
  size_t bytes = 0;
  assert_int_equal(moerun__file_read(&text, &bytes, name, 100), MOERUN_OK);
  assert_string_equal(text, wanted);
  moerun__free(text);
}

static int permissions_of(const char *name) {
  struct stat facts;
  assert_int_equal(stat(name, &facts), 0);
  return (int)(facts.st_mode & 0777U);
}

static moerun_status put(moerun__outputs *outputs, const char *name,
                         const char *text) {
  return moerun__outputs_put(outputs, name, text, strlen(text));
}

static void all_appear_or_none(void **state) {
  (void)state;
  moerun__outputs outputs = {0};
  char nowhere[TEMP_PATH];
  (void)temp_path(nowhere, &dir, "nowhere/file");
  assert_int_equal(put(&outputs, path, "new"), MOERUN_OK);
  assert_int_equal(put(&outputs, other, "new, too"), MOERUN_OK);
  assert_int_equal(access(path, F_OK), -1);
  assert_int_equal(put(&outputs, nowhere, "x"), MOERUN_ERR_OUTPUT);
  moerun__outputs_clear(&outputs);
  assert_int_equal(temp_dir_count(dir.path), 0);
  assert_int_equal(put(&outputs, path, "new"), MOERUN_OK);
  assert_int_equal(put(&outputs, other, "new, too"), MOERUN_OK);
  assert_int_equal(moerun__outputs_commit(&outputs), MOERUN_OK);
  assert_int_equal(temp_dir_count(dir.path), 2);
  expect_content(path, "new");
  expect_content(other, "new, too");
}

/* As processes do that write one file at the same time. */
static void the_last_one_wins_whole(void **state) {
  (void)state;
  enum { WRITERS = 8 };
  moerun__outputs outputs[WRITERS] = {{0}};
  char text[2] = "0";
  for (int i = 0; i < WRITERS; i++) {
    text[0] = (char)('0' + i);
    assert_int_equal(put(&outputs[i], path, text), MOERUN_OK);
  }
  assert_int_equal(temporaries_of(path), WRITERS);
  for (int i = WRITERS - 1; i >= 0; i--) {
    assert_int_equal(moerun__outputs_commit(&outputs[i]), MOERUN_OK);
    text[0] = (char)('0' + i);
    expect_content(path, text);
  }
  assert_int_equal(temp_dir_count(dir.path), 1);
}

/* The files beside `path` that outputs were written by. */
static void expect_kept(const char *name, const char *wanted) {
  char found[TEMP_PATH];
  const char *at = strstr(moerun_last_error(), "what was written is in ");
  assert_non_null(at);
  at = strstr(at, name);
  assert_non_null(at);
  (void)snprintf(found, sizeof found, "%.*s", (int)strcspn(at, ","), at);
  assert_non_null(strstr(found, ".tmp"));
  expect_content(found, wanted);
}

/* The folder goes while its files are being written. */
static void a_folder_that_moved_is_named(void **state) {
  (void)state;
  moerun__outputs outputs = {0};
  char folder[TEMP_PATH];
  char moved[TEMP_PATH];
  char inner[TEMP_PATH];
  (void)temp_path(folder, &dir, "folder");
  (void)temp_path(moved, &dir, "moved");
  (void)temp_path(inner, &dir, "folder/file");
  assert_int_equal(mkdir(folder, 0700), 0);
  assert_int_equal(put(&outputs, inner, "kept"), MOERUN_OK);
  assert_int_equal(rename(folder, moved), 0);
  assert_int_equal(moerun__outputs_commit(&outputs), MOERUN_ERR_OUTPUT);
  expect_kept(moved, "kept");
  temp_remove(moved, 0);
  assert_int_equal(mkdir(folder, 0700), 0);
  assert_int_equal(put(&outputs, inner, "lost"), MOERUN_OK);
  temp_remove(folder, 0);
  assert_int_equal(moerun__outputs_commit(&outputs), MOERUN_ERR_OUTPUT);
  assert_non_null(strstr(moerun_last_error(), "it was removed while the"));
}

/* Somebody has taken a name in the meantime: with a file, or with a link. */
static void taken_names_are_left_alone(void **state) {
  (void)state;
  for (int is_link = 0; is_link < 2; is_link++) {
    moerun__outputs outputs = {.only_new = 1};
    assert_int_equal(put(&outputs, other, "first"), MOERUN_OK);
    assert_int_equal(put(&outputs, path, "mine"), MOERUN_OK);
    if (is_link) {
      assert_int_equal(symlink("nowhere", path), 0);
    } else {
      scratch_write(path, "yours");
    }
    assert_int_equal(moerun__outputs_commit(&outputs), MOERUN_ERR_OUTPUT);
    expect_words("/file: is another file since the program began, which was "
                 "left alone; what was written is in ");
    expect_kept(path, "mine");
    expect_kept(other, "first");
    assert_int_equal(temp_dir_count(dir.path), 3 + 2 * is_link);
    assert_int_equal(access(other, F_OK), -1);
    if (!is_link) expect_content(path, "yours");
    assert_int_equal(unlink(path), 0);
  }
  moerun__outputs outputs = {.only_new = 1};
  assert_int_equal(put(&outputs, path, "mine"), MOERUN_OK);
  assert_int_equal(moerun__outputs_commit(&outputs), MOERUN_OK);
  expect_content(path, "mine");
  assert_int_equal(temp_dir_count(dir.path), 5);
}

static moerun_status replace(int old) {
  moerun__outputs outputs = {.only_new = 1};
  int file = -1;
  assert_int_equal(moerun__outputs_begin_over(&outputs, &file, path, old),
                   MOERUN_OK);
  assert_int_equal(write(file, "new", 3), 3);
  return moerun__outputs_commit(&outputs);
}

/* An open file is replaced, by whatever name, and nothing in its place. */
static void one_file_alone_is_replaced(void **state) {
  (void)state;
  scratch_write(path, "old");
  int old = open(path, O_RDONLY);
  assert_int_equal(rename(path, other), 0);
  assert_int_equal(symlink("other", path), 0);
  assert_int_equal(replace(old), MOERUN_OK);
  expect_content(other, "new");
  (void)close(old);
  old = open(path, O_RDONLY);
  assert_int_equal(unlink(other), 0);
  assert_int_equal(unlink(path), 0);
  assert_int_equal(replace(old), MOERUN_ERR_OUTPUT);
  expect_words("/file: was removed while the program was writing it; what was "
               "written is in ");
  expect_kept(path, "new");
  scratch_write(path, "yours");
  assert_int_equal(replace(old), MOERUN_ERR_OUTPUT);
  expect_words("is another file since the program began");
  expect_kept(path, "new");
  expect_content(path, "yours");
  (void)close(old);
}

static void permissions_are_those_of_the_umask_or_kept(void **state) {
  (void)state;
  const mode_t before = umask(027);
  scratch_write(path, "new");
  (void)umask(before);
  assert_int_equal(permissions_of(path), 0640);
  assert_int_equal(chmod(path, 0600), 0);
  scratch_write(path, "newer");
  assert_int_equal(permissions_of(path), 0600);
  expect_content(path, "newer");
}

static void links_are_followed(void **state) {
  (void)state;
  char first[TEMP_PATH];
  char folder[TEMP_PATH];
  char inner[TEMP_PATH];
  struct stat facts;
  (void)temp_path(first, &dir, "first");
  (void)temp_path(folder, &dir, "folder");
  (void)temp_path(inner, &dir, "folder/inner");
  assert_int_equal(mkdir(folder, 0700), 0);
  assert_int_equal(symlink("folder/inner", first), 0);
  assert_int_equal(symlink("../file", inner), 0);
  scratch_write(first, "created"); /* by two links, the last to nothing yet */
  expect_content(path, "created");
  scratch_write(first, "replaced");
  expect_content(path, "replaced");
  assert_int_equal(lstat(first, &facts), 0);
  assert_true(S_ISLNK(facts.st_mode));
  assert_int_equal(lstat(inner, &facts), 0);
  assert_true(S_ISLNK(facts.st_mode));
  assert_int_equal(temp_dir_count(dir.path), 3);
  (void)unlink(path);
  assert_int_equal(symlink("first", path), 0); /* round and round */
  assert_int_equal(moerun__file_write(first, "x", 1), MOERUN_ERR_OUTPUT);
  expect_words("expected at most 40 symbolic links in a row");
  assert_int_equal(moerun__output_check(first), MOERUN_ERR_OUTPUT);
}

/* As many as the system follows itself. */
static void links_in_a_row_are_counted(void **state) {
  (void)state;
  char link[TEMP_PATH];
  char before[TEMP_PATH] = "";
  char last[16];
  for (int i = 0; i <= 40; i++) {
    (void)snprintf(last, sizeof last, "link%d", i);
    assert_int_equal(
        symlink(i == 0 ? path : before, temp_path(link, &dir, last)), 0);
    if (i == 39) scratch_write(link, "by 40 links");
    (void)snprintf(before, sizeof before, "%s", last);
  }
  expect_content(path, "by 40 links");
  assert_int_equal(moerun__file_write(link, "x", 1), MOERUN_ERR_OUTPUT);
  expect_words("expected at most 40 symbolic links in a row");
}

static void streams_are_known_by_their_numbers(void **state) {
  (void)state;
  static const struct {
    const char *name;
    int stream;
  } cases[] = {{"/dev/stdout", 1},
               {"/dev/stderr", 2},
               {"/dev/fd/1", 1},
               {"/proc/self/fd/2", 2},
               {"/dev/fd/999999", 999999},
               {"/dev/fd/", -1},
               {"/dev/fd/1x", -1},
               {"/dev/fd/4294967297", -1},
               {"/dev/fd/1000000", -1},
               {"/dev/fd/-1", -1},
               {"/dev/fd1", -1}};
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    moerun__target target = {0};
    assert_int_equal(moerun__target_find(&target, cases[i].name), MOERUN_OK);
    assert_int_equal(target.stream, cases[i].stream);
    moerun__target_clear(&target);
  }
}

static void pipes_and_streams_are_written_as_they_are(void **state) {
  (void)state;
  struct stat facts;
  char name[64];
  char found[16] = "";
  char link[TEMP_PATH];
  int ends[2];
  assert_int_equal(mkfifo(path, 0600), 0);
  const int reader = open(path, O_RDWR | O_NONBLOCK);
  assert_int_equal(moerun__output_check(path), MOERUN_OK);
  scratch_write(path, "hello");
  assert_int_equal(read(reader, found, sizeof found), 5);
  assert_string_equal(found, "hello");
  moerun__target target = {0};
  int file = -1;
  assert_int_equal(moerun__target_find(&target, path), MOERUN_OK);
  assert_int_equal(moerun__target_open(&file, &target), MOERUN_OK);
  assert_int_equal(fcntl(file, F_GETFL) & O_NONBLOCK, 0);
  moerun__target_clear(&target);
  (void)close(file);
  assert_int_equal(stat(path, &facts), 0);
  assert_true(S_ISFIFO(facts.st_mode));
  (void)close(reader);
  assert_int_equal(pipe(ends), 0);
  (void)snprintf(name, sizeof name, "/dev/fd/%d", ends[1]);
  assert_int_equal(symlink(name, temp_path(link, &dir, "link")), 0);
  assert_int_equal(moerun__output_check(link), MOERUN_OK);
  scratch_write(link, "again");
  assert_int_equal(read(ends[0], found, sizeof found), 5);
  assert_string_equal(found, "again");
  (void)close(ends[0]);
  (void)close(ends[1]);
  assert_int_equal(moerun__output_check(link), MOERUN_ERR_OUTPUT);
  expect_words("it is closed");
  scratch_write("/dev/null", "away");
  assert_int_equal(moerun__output_check("/dev/null"), MOERUN_OK);
  assert_int_equal(moerun__output_check(dir.path), MOERUN_ERR_OUTPUT);
  expect_words("it is a directory");
}

/* A stream that is a file is written where it stands, not from its start. */
static void streams_keep_their_place(void **state) {
  (void)state;
  char name[64];
  const int file = open(path, O_WRONLY | O_CREAT, 0600);
  assert_int_equal(write(file, "before ", 7), 7);
  (void)snprintf(name, sizeof name, "/proc/self/fd/%d", file);
  scratch_write(name, "after");
  (void)close(file);
  expect_content(path, "before after");
}

/* A folder has taken the name of the third while they were written. */
static void a_name_that_is_refused_takes_new_files_back(void **state) {
  (void)state;
  static const char *const names[] = {"old", "new", "taken"};
  char full[3][TEMP_PATH];
  char words[2 * TEMP_PATH];
  moerun__outputs outputs = {0};
  scratch_write(temp_path(full[0], &dir, names[0]), "before");
  /* What has been written to a stream has no name to be taken back. */
  assert_int_equal(moerun__outputs_put(&outputs, "/dev/null", "x", 1),
                   MOERUN_OK);
  for (int i = 0; i < 3; i++) {
    (void)temp_path(full[i], &dir, names[i]);
    assert_int_equal(moerun__outputs_put(&outputs, full[i], "after", 5),
                     MOERUN_OK);
  }
  assert_int_equal(mkdir(full[2], 0700), 0);
  assert_int_equal(moerun__outputs_commit(&outputs), MOERUN_ERR_OUTPUT);
  (void)snprintf(words, sizeof words,
                 "cannot be replaced: it is a directory; replaced already: %s",
                 full[0]);
  expect_words(words);
  expect_content(full[0], "after");
  assert_int_equal(temp_dir_count(dir.path), 2);
}

static void long_names_have_temporaries(void **state) {
  (void)state;
  char name[TEMP_PATH + 256];
  (void)snprintf(name, sizeof name, "%s/%0250d", dir.path, 0);
  assert_int_equal(moerun__file_write(name, "x", 1), MOERUN_OK);
  expect_content(name, "x");
  assert_int_equal(temp_dir_count(dir.path), 1);
}

/* In a process of its own, which a limit and a signal belong to. */
static int run_child(void (*act)(void)) {
  int status = 0;
  const pid_t child = fork();
  if (child == 0) {
    act();
    _exit(0);
  }
  assert_true(child > 0);
  assert_int_equal(waitpid(child, &status, 0), child);
  return status;
}

static void exceed_limit(void) {
  const struct rlimit limit = {.rlim_cur = 512, .rlim_max = 512};
  static const char content[4096] = "";
  (void)signal(SIGXFSZ, SIG_IGN);
  if (setrlimit(RLIMIT_FSIZE, &limit) != 0) _exit(1);
  if (moerun__file_write(path, content, sizeof content) != MOERUN_ERR_OUTPUT) {
    _exit(2);
  }
  if (strstr(moerun_last_error(), "file too large") == NULL) _exit(3);
}

static void remove_and_end(int number) {
  (void)number;
  /* It is written for this: it calls nothing but unlink.
   * NOLINTNEXTLINE(bugprone-signal-handler,cert-sig30-c) */
  moerun__temporaries_remove();
  _exit(7);
}

static void end_amidst(void) {
  moerun__outputs outputs = {0};
  moerun__temporary folder = {0};
  moerun__temporary file = {0};
  char inner[2 * TEMP_PATH];
  (void)signal(SIGTERM, remove_and_end);
  if (moerun__outputs_put(&outputs, path, "x", 1) != MOERUN_OK ||
      moerun__outputs_put(&outputs, other, "x", 1) != MOERUN_OK ||
      moerun__temporary_folder(&folder, path) != MOERUN_OK) {
    _exit(1);
  }
  (void)snprintf(inner, sizeof inner, "%s/inner", folder.path);
  if (moerun__temporary_adopt(&file, inner) != MOERUN_OK ||
      creat(inner, 0600) < 0 || temporaries_of(path) != 2) {
    _exit(2);
  }
  (void)raise(SIGTERM);
}

/* ---- Signals that another thread takes ---- */

static atomic_int is_taken;

static void take_and_end(int number) {
  atomic_store(&is_taken, 1);
  remove_and_end(number);
}

static int take_signals(void *unused) {
  sigset_t none;
  (void)unused;
  (void)sigemptyset(&none);
  (void)pthread_sigmask(SIG_SETMASK, &none, NULL);
  for (;;) {
    (void)pause();
  }
  return 0;
}

/* The process ends by the signal, and not before the first thread lets go. */
static void end_from_another_thread(void) {
  moerun__temporary file = {0};
  moerun__temporary second = {0};
  thrd_t thread;
  sigset_t before;
  int opened = -1;
  const struct sigaction action = {.sa_handler = take_and_end};
  (void)sigaction(SIGTERM, &action, NULL);
  if (moerun__temporary_file(&file, &opened, path) != MOERUN_OK) _exit(1);
  moerun__temporaries_hold(&before);
  if (thrd_create(&thread, take_signals, NULL) != thrd_success) _exit(2);
  (void)kill(getpid(), SIGTERM); /* only the other thread is open to it */
  while (!atomic_load(&is_taken)) {
  }
  moerun__pause(50000);
  if (access(file.path, F_OK) != 0) _exit(3);
  if (rename(file.path, other) != 0) _exit(4);
  moerun__temporary_forget(&file); /* a pair within the pair */
  if (moerun__temporary_file(&second, &opened, path) != MOERUN_OK) _exit(5);
  moerun__temporaries_release(&before);
  for (;;) {
    (void)pause();
  }
}

static void other_threads_wait_for_the_names(void **state) {
  (void)state;
  (void)unlink(other);
  const int status = run_child(end_from_another_thread);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 7);
  assert_int_equal(access(other, F_OK), 0);
  assert_int_equal(temporaries_of(path), 0);
  (void)unlink(other);
}

/* As an ordinary user, whom a pipe's permissions bind. */
static void ask_about_a_pipe(void) {
  const uid_t nobody = 65534;
  if (geteuid() == 0 && setuid(nobody) != 0) _exit(1);
  if (moerun__output_check(path) != MOERUN_ERR_OUTPUT) _exit(2);
  if (strstr(moerun_last_error(), "cannot be written: permission denied") ==
      NULL) {
    _exit(3);
  }
}

static void what_may_not_be_written_is_found_before(void **state) {
  (void)state;
  assert_int_equal(chmod(dir.path, 0755), 0);
  assert_int_equal(mkfifo(path, 0600), 0);
  assert_int_equal(chmod(path, 0444), 0);
  const int status = run_child(ask_about_a_pipe);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
}

/* The middle one goes, then one behind it, and that is made anew. */
static void make_again(void) {
  moerun__temporary made[3] = {{0}};
  int file = -1;
  (void)signal(SIGTERM, remove_and_end);
  (void)alarm(20); /* ends the walk of a list that goes round */
  for (int i = 0; i < 3; i++) {
    if (moerun__temporary_file(&made[i], &file, path) != MOERUN_OK) _exit(1);
  }
  moerun__temporary_remove(&made[1]);
  moerun__temporary_remove(&made[0]);
  if (temporaries_of(path) != 1) _exit(2);
  if (moerun__temporary_file(&made[0], &file, path) != MOERUN_OK ||
      temporaries_of(path) != 2) {
    _exit(3);
  }
  (void)raise(SIGTERM);
}

static void temporaries_go_in_any_order(void **state) {
  (void)state;
  const int status = run_child(make_again);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 7);
  assert_int_equal(temp_dir_count(dir.path), 0);
}

static void nothing_is_left_on_the_way_out(void **state) {
  (void)state;
  scratch_write(path, "old");
  int status = run_child(exceed_limit);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 0);
  status = run_child(end_amidst);
  assert_true(WIFEXITED(status));
  assert_int_equal(WEXITSTATUS(status), 7);
  assert_int_equal(temp_dir_count(dir.path), 1);
  expect_content(path, "old");
}

static void nth_allocation_fails_cleanly(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  moerun_status status = MOERUN_ERR_NOMEM;
  assert_int_equal(symlink("file", other), 0);
  for (long nth = 0; status != MOERUN_OK; nth++) {
    assert_true(nth < 100);
    moerun__alloc_fail_nth(nth);
    status = moerun__file_write(other, "x", 1);
    moerun__alloc_fail_nth(-1);
    assert_true(status == MOERUN_OK || status == MOERUN_ERR_NOMEM);
    assert_int_equal(moerun__alloc_live(), live);
    assert_int_equal(temp_dir_count(dir.path), status == MOERUN_OK ? 2 : 1);
  }
}

int main(void) {
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
  const struct CMUnitTest tests[] = {
      TEST(all_appear_or_none),
      TEST(the_last_one_wins_whole),
      TEST(taken_names_are_left_alone),
      TEST(a_folder_that_moved_is_named),
      TEST(one_file_alone_is_replaced),
      TEST(permissions_are_those_of_the_umask_or_kept),
      TEST(links_are_followed),
      TEST(links_in_a_row_are_counted),
      TEST(streams_are_known_by_their_numbers),
      TEST(pipes_and_streams_are_written_as_they_are),
      TEST(streams_keep_their_place),
      TEST(a_name_that_is_refused_takes_new_files_back),
      TEST(long_names_have_temporaries),
      TEST(what_may_not_be_written_is_found_before),
      TEST(temporaries_go_in_any_order),
      TEST(nothing_is_left_on_the_way_out),
      TEST(other_threads_wait_for_the_names),
      TEST(nth_allocation_fails_cleanly),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
