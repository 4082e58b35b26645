/* Readers know their own format alone, and say which byte of another one is
 * wrong. What the file is shows in its first bytes: the name of its format, or
 * a key that no other file has. */
#include "launch/options/known_file.h"

#include "launch/options/paths.h"
#include "runtime/base/text.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

enum { START_BYTES = 4096 };

typedef struct known_file {
  const char *word;
  int at_start; /* the word begins the file; 0: it is somewhere near */
  moerun__file_kind kind;
  const char *advice;
} known_file;

/* The first that fits counts. */
static const known_file rows[] = {
    {"\"moerun-placement\"", 0, MOERUN_FILE_PLACEMENT,
     "it is a placement: --placement and --compare take it"},
    {"\"moerun-trace\"", 0, MOERUN_FILE_OTHER,
     "it describes the trace beside it: give the .npy of that name"},
    {"\"moerun-metrics\"", 0, MOERUN_FILE_OTHER,
     "it is the metrics of a run: --speeds takes it"},
    {"{\"index\":", 1, MOERUN_FILE_OTHER,
     "it is the results of a run: give what `moerun profile` wrote to its "
     "--trace"},
    {"routed_experts\"", 0, MOERUN_FILE_TRACE,
     "it is a trace: `moerun place` takes it by --trace, with a name that ends "
     "in .jsonl"},
    {"\"logical_count\"", 0, MOERUN_FILE_LOADS,
     "it is a table of loads: `moerun place` takes it by --loads"},
    {"[", 1, MOERUN_FILE_LOADS,
     "if it is a table of loads, `moerun place` takes it by --loads"},
};

/* The first bytes, as a text up to a NUL. */
static void read_start(char out[START_BYTES], const char *path) {
  /* A pipe is not waited for. */
  const int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  ssize_t count = 0;
  if (file >= 0) {
    count = read(file, out, START_BYTES - 1);
    (void)close(file);
  }
  out[count > 0 ? count : 0] = '\0';
}

static int fits(const known_file *row, const char *start) {
  return row->at_start ? strncmp(start + strspn(start, " \t\r\n"), row->word,
                                 strlen(row->word)) == 0
                       : strstr(start, row->word) != NULL;
}

moerun_status moerun__known_file_advise(moerun_status status, const char *path,
                                        moerun__file_kind wanted) {
  char start[START_BYTES];
  if (status != MOERUN_ERR_FORMAT && status != MOERUN_ERR_SHAPE) return status;
  read_start(start, path);
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    if (!fits(&rows[i], start)) continue;
    if (rows[i].kind == wanted) return status;
    return moerun__say_more(status, "; %s", rows[i].advice);
  }
  const int is_array = strncmp(start, "\x93NUMPY", 6) == 0;
  if (wanted == MOERUN_FILE_PLACEMENT && is_array &&
      moerun__name_ends_in(path, strlen(path), ".npy") &&
      !moerun__paths_lack_json(path)) {
    return moerun__say_more(status, "; it is a trace, by which `moerun place "
                                    "--trace` solves a placement");
  }
  return status;
}
