/* The rule is about files, not about names: two names are one file if the
 * system says so (device and inode), whatever links and spellings lie between;
 * where a file is still to be made, if its folder is the same and its last
 * name. One table says what is read and written, so that a new option needs a
 * row here and no check of its own (a unit test compares the table with that
 * of all options).
 *
 * A checkpoint is read by the names of its files. What else lies in its folder
 * is nobody's input, so results may be kept there. */
#include "launch/options/paths.h"

#include "launch/place/place_speeds.h"
#include "launch/results/unfinished.h"
#include "launch/run/metrics.h"
#include "placement/map/export.h"
#include "runtime/base/file.h"
#include "runtime/base/memory.h"
#include "runtime/base/text.h"

#include <dirent.h>
#include <fnmatch.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- The table ----------------------------------------------------------- */

typedef enum use { READS, WRITES } use;

/* What the text of an option stands for. */
typedef enum form {
  PLAIN,   /* one file */
  RESULTS, /* one that results.c goes on with or begins anew, and asks about */
  RESUMED, /* the same, and what unfinished.c keeps beside it */
  METRICS, /* one that --resume replaces: the run before wrote it */
  TRACE,   /* NAME.npy and what stands beside it */
  MODEL,   /* the files of a checkpoint in a folder */
  FOLDER,  /* a folder to be created */
  EXPORT,  /* FORMAT:PATH */
  SPEEDS,  /* a list of numbers, or a file */
} form;

typedef struct path_row {
  const char *subcommands;
  const char *key;
  use use;
  form form;
} path_row;

static const path_row rows[] = {
    {"run profile chat info synth place tokenize detokenize", "config", READS,
     PLAIN},
    {"run profile chat info place tokenize detokenize", "model", READS, MODEL},
    {"run profile chat info place", "placement", READS, PLAIN},
    {"run profile tokenize", "prompts", READS, PLAIN},
    {"run profile detokenize", "tokens", READS, PLAIN},
    {"run profile", "score", READS, PLAIN},
    {"run", "output", WRITES, RESUMED},
    {"profile", "output", WRITES, RESULTS},
    {"run profile", "metrics", WRITES, METRICS},
    {"profile", "trace", WRITES, TRACE},
    {"place", "trace", READS, TRACE},
    {"place", "describe", READS, TRACE},
    {"place", "loads", READS, PLAIN},
    {"place", "compare", READS, PLAIN},
    {"place", "speeds", READS, SPEEDS},
    {"place", "convert", WRITES, TRACE},
    {"place", "export", WRITES, EXPORT},
    {"place tokenize detokenize", "output", WRITES, PLAIN},
    {"place", "json", WRITES, PLAIN},
    {"synth", "output", WRITES, FOLDER},
};

/* Files of a checkpoint, those that other programs read included. */
static const char *const model_files[] = {
    "*.safetensors", "*.bin",   "*.pt",         "*.pth", "*.gguf",
    "*.index.json",  "*.model", "*config.json", "*.py",  "*token*.json",
    "vocab.json",    "*.jinja", "merges.txt"};

int moerun__paths_know(const char *subcommand, const char *key) {
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    if (moerun__words_have(rows[i].subcommands, subcommand) &&
        strcmp(rows[i].key, key) == 0) {
      return 1;
    }
  }
  return 0;
}

static int is_model_file(const char *name) {
  for (size_t i = 0; i < sizeof model_files / sizeof *model_files; i++) {
    if (fnmatch(model_files[i], name, 0) == 0) return 1;
  }
  return 0;
}

/* ---- Which file a name is ------------------------------------------------ */

typedef enum kind {
  ANYONES, /* a terminal, /dev/null: any number of names may stand for it */
  THERE,   /* device and inode are its own */
  TO_BE,   /* they are its folder's; `last` is its name in that */
  NOWHERE, /* not even its folder is there */
} kind;

typedef struct file {
  struct file *next;
  const path_row *row;
  const char *beside; /* "", or what stands beside the file of the option */
  char *path;         /* as it was given */
  moerun__target target;
  kind kind;
  dev_t device;
  ino_t inode;
  const char *last;
} file;

typedef struct files {
  const char *subcommand;
  const moerun__config *config;
  file *first;
} files;

static void clear(files *all) {
  while (all->first != NULL) {
    file *f = all->first;
    all->first = f->next;
    moerun__target_clear(&f->target);
    moerun__free(f->path);
    moerun__free(f);
  }
}

static moerun_status identify(file *f) {
  moerun_status status = MOERUN_OK;
  moerun__text folder = {0};
  struct stat facts;
  const char *path = f->target.path;
  const char *slash = strrchr(path, '/');
  const size_t length = slash != NULL ? (size_t)(slash - path) + 1 : 0;
  const int stream = f->target.stream;
  f->last = path + length;
  f->kind = NOWHERE;
  if ((stream >= 0 ? fstat(stream, &facts) : stat(path, &facts)) == 0) {
    f->kind = S_ISCHR(facts.st_mode) ? ANYONES : THERE;
  } else {
    MOERUN_TRY(moerun__text_append(&folder, path, length));
    if (length == 0) MOERUN_TRY(moerun__text_append(&folder, ".", 1));
    if (stat(folder.bytes, &facts) == 0) f->kind = TO_BE;
  }
  f->device = f->kind != NOWHERE ? facts.st_dev : 0;
  f->inode = f->kind != NOWHERE ? facts.st_ino : 0;
done:
  moerun__text_clear(&folder);
  return status;
}

/* path[length]; "-" of an input is stdin. */
static moerun_status add(files *all, const path_row *row, const char *beside,
                         const char *path, size_t length) {
  moerun_status status = MOERUN_OK;
  moerun__text name = {0};
  file *f = NULL;
  MOERUN_TRY(moerun__alloc(&f, 1, sizeof *f));
  MOERUN_TRY(moerun__text_append(&name, path, length));
  f->path = name.bytes;
  name.bytes = NULL;
  f->row = row;
  f->beside = beside;
  status = moerun__target_find(&f->target, f->path);
  if (status == MOERUN_ERR_OUTPUT && row->use == READS) {
    /* Links in a circle are an error of who reads the input. */
    status = moerun__copy_text(&f->target.path, f->path);
  }
  MOERUN_TRY(status);
  if (row->use == READS && strcmp(f->path, "-") == 0) {
    f->target.stream = STDIN_FILENO;
  }
  MOERUN_TRY(identify(f));
  file **end = &all->first;
  while (*end != NULL) {
    end = &(*end)->next;
  }
  *end = f;
  f = NULL;
done:
  moerun__text_clear(&name);
  if (f != NULL) {
    moerun__target_clear(&f->target);
    moerun__free(f->path);
    moerun__free(f);
  }
  return status;
}

/* ---- What an option stands for ------------------------------------------- */

static moerun_status add_beside(files *all, const path_row *row,
                                const char *path, size_t stem,
                                const char *ending) {
  moerun_status status = MOERUN_OK;
  moerun__text name = {0};
  MOERUN_TRY(moerun__text_append(&name, path, stem));
  MOERUN_TRY(moerun__text_print(&name, "%s", ending));
  MOERUN_TRY(add(all, row, ending, name.bytes, name.count));
done:
  moerun__text_clear(&name);
  return status;
}

/* The names that trace_file.c of placement/ looks for, and writes. */
static moerun_status add_trace(files *all, const path_row *row,
                               const char *path) {
  moerun_status status = MOERUN_OK;
  size_t stem = strlen(path);
  MOERUN_TRY(add(all, row, "", path, stem));
  if (moerun__name_ends_in(path, stem, ".jsonl")) goto done;
  if (moerun__name_ends_in(path, stem, ".npy")) stem -= 4;
  MOERUN_TRY(add_beside(all, row, path, stem, ".json"));
  if (row->use == WRITES) goto done;
  MOERUN_TRY(add_beside(all, row, path, stem, ".seqs.tsv"));
  if (moerun__name_ends_in(path, stem, ".ids")) {
    MOERUN_TRY(add_beside(all, row, path, stem - 4, ".seqs.tsv"));
  }
done:
  return status;
}

/* Beside what links lead to, as unfinished.c has it; nothing beside a pipe. */
static moerun_status add_resumed(files *all, const path_row *row,
                                 const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__target target = {0};
  MOERUN_TRY(add(all, row, "", path, strlen(path)));
  MOERUN_TRY(moerun__target_find(&target, path));
  if (target.is_direct) goto done;
  MOERUN_TRY(add_beside(all, row, target.path, strlen(target.path),
                        MOERUN_UNFINISHED_ENDING));
done:
  moerun__target_clear(&target);
  return status;
}

/* A folder that cannot be read is an error of who reads the model. */
static moerun_status add_model(files *all, const path_row *row,
                               const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__text name = {0};
  const struct dirent *entry = NULL;
  DIR *folder = opendir(path);
  /* The stream is this function's own. NOLINTNEXTLINE(concurrency-mt-unsafe) */
  while (folder != NULL && (entry = readdir(folder)) != NULL) {
    if (!is_model_file(entry->d_name)) continue;
    name.count = 0;
    MOERUN_TRY(moerun__text_print(&name, "%s/%s", path, entry->d_name));
    MOERUN_TRY(add(all, row, "", name.bytes, name.count));
  }
done:
  if (folder != NULL) (void)closedir(folder);
  moerun__text_clear(&name);
  return status;
}

static moerun_status add_row(files *all, const path_row *row) {
  moerun_status status = MOERUN_OK;
  const char *path = moerun__config_text(all->config, row->key);
  if (row->form == EXPORT) path = moerun__export_path(path);
  if (path == NULL || path[0] == '\0') goto done;
  if (row->form == SPEEDS && moerun__place_speeds_are_list(path)) goto done;
  if (row->form == TRACE) {
    MOERUN_TRY(add_trace(all, row, path));
  } else if (row->form == RESUMED) {
    MOERUN_TRY(add_resumed(all, row, path));
  } else if (row->form == MODEL) {
    MOERUN_TRY(add_model(all, row, path));
  } else {
    size_t length = strlen(path);
    while (row->form == FOLDER && length > 1 && path[length - 1] == '/') {
      length--;
    }
    MOERUN_TRY(add(all, row, "", path, length));
  }
done:
  return status;
}

/* Where a shell has sent it to a file. */
static moerun_status add_stdout(files *all) {
  static const path_row stdout_row = {"", "stdout", WRITES, PLAIN};
  struct stat facts;
  if (fstat(STDOUT_FILENO, &facts) != 0 || !S_ISREG(facts.st_mode)) {
    return MOERUN_OK;
  }
  return add(all, &stdout_row, "", "/dev/stdout", strlen("/dev/stdout"));
}

/* ---- The rules ----------------------------------------------------------- */

static int is_same(const file *a, const file *b) {
  if (a->kind != b->kind || a->kind == ANYONES) return 0;
  if (a->target.stream >= 0 && a->target.stream == b->target.stream &&
      (a->row->subcommands[0] == '\0' || b->row->subcommands[0] == '\0')) {
    return 0; /* stdout by its name is stdout itself */
  }
  if (a->kind == NOWHERE) return strcmp(a->target.path, b->target.path) == 0;
  return a->device == b->device && a->inode == b->inode &&
         (a->kind == THERE || strcmp(a->last, b->last) == 0);
}

static moerun_status print_file(moerun__text *out, const file *f) {
  const char *option = f->row->key;
  if (f->row->subcommands[0] == '\0') return moerun__text_print(out, "stdout");
  if (f->row->form == MODEL) {
    return moerun__text_print(out, "a file of --%s (%s)", option, f->path);
  }
  return moerun__text_print(
      out, "%s%s%s--%s (%s)", f->beside[0] != '\0' ? "the " : "", f->beside,
      f->beside[0] != '\0' ? " beside " : "", option, f->path);
}

static moerun_status refuse(const file *a, const file *b) {
  moerun_status status = MOERUN_OK;
  moerun__text words = {0};
  MOERUN_TRY(print_file(&words, a));
  MOERUN_TRY(moerun__text_print(&words, " and "));
  MOERUN_TRY(print_file(&words, b));
  MOERUN_REQUIRE(0, MOERUN_ERR_INVALID,
                 "%s are the same file: expected a file of its own for what is "
                 "written",
                 words.bytes);
done:
  moerun__text_clear(&words);
  return status;
}

static moerun_status check_pairs(const files *all) {
  moerun_status status = MOERUN_OK;
  for (const file *a = all->first; a != NULL; a = a->next) {
    for (const file *b = a->next; b != NULL; b = b->next) {
      if (a->row->use == READS && b->row->use == READS) continue;
      if (is_same(a, b)) MOERUN_TRY(refuse(b, a));
    }
  }
done:
  return status;
}

/* A new file that would count as one of the checkpoint. */
static moerun_status check_model(const files *all) {
  moerun_status status = MOERUN_OK;
  struct stat facts;
  const char *path = moerun__config_text(all->config, "model");
  if (!moerun__paths_know(all->subcommand, "model") || path[0] == '\0' ||
      stat(path, &facts) != 0) {
    goto done;
  }
  for (const file *f = all->first; f != NULL; f = f->next) {
    MOERUN_REQUIRE(f->row->use == READS || f->kind != TO_BE ||
                       f->device != facts.st_dev || f->inode != facts.st_ino ||
                       !is_model_file(f->last),
                   MOERUN_ERR_INVALID,
                   "--%s: %s would be a file of --model (%s): expected another "
                   "name or folder",
                   f->row->key, f->path, path);
  }
done:
  return status;
}

static int has_metrics(const file *f) {
  const int opened = moerun__metrics_open(f->path);
  if (opened >= 0) (void)close(opened);
  return opened >= 0;
}

static int is_replaced(const file *f, const moerun__config *config) {
  if (moerun__config_bool(config, "overwrite")) return 1;
  return f->row->form == METRICS && !f->target.is_direct &&
         moerun__results_resume(config) && has_metrics(f);
}

/* What --resume reads is an input before it is an output: unfinished.c says
 * what is wrong with it. */
static int is_continued(const file *f, const moerun__config *config) {
  return f->target.exists && f->row->form == RESUMED &&
         moerun__results_resume(config) &&
         moerun__name_ends_in(f->path, strlen(f->path),
                              MOERUN_UNFINISHED_ENDING);
}

static moerun_status check_output(const file *f, const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  const int overwrite = is_replaced(f, config);
  const moerun__target *target = &f->target;
  if (is_continued(f, config)) goto done;
  if (f->row->form == FOLDER) goto done; /* synth_folder.c knows more */
  MOERUN_TRY(moerun__output_check(f->path));
  MOERUN_REQUIRE(overwrite || !target->exists || target->is_direct ||
                     f->row->form == RESULTS || f->row->form == RESUMED,
                 MOERUN_ERR_INVALID,
                 "%s: exists already: --overwrite replaces it", f->path);
done:
  return status;
}

moerun_status moerun__paths_check(moerun__invocation *invocation) {
  moerun_status status = MOERUN_OK;
  const moerun__config *config = invocation->config;
  files all = {.subcommand = invocation->subcommand, .config = config};
  MOERUN_TRY(add_stdout(&all));
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    if (!moerun__words_have(rows[i].subcommands, all.subcommand)) continue;
    MOERUN_TRY(add_row(&all, &rows[i]));
  }
  MOERUN_TRY(check_pairs(&all));
  MOERUN_TRY(check_model(&all));
  if (!moerun__paths_know(all.subcommand, "output")) goto done; /* info */
  invocation->phase = MOERUN_PHASE_FILES;
  for (const file *f = all.first; f != NULL; f = f->next) {
    if (f->row->use == READS) continue;
    MOERUN_TRY(check_output(f, config));
  }
  invocation->phase = MOERUN_PHASE_USAGE;
done:
  clear(&all);
  return status;
}

int moerun__paths_lack_json(const char *path) {
  char name[4096];
  const int stem = (int)strlen(path) - 4;
  if (stem < 1 || strcmp(path + stem, ".npy") != 0) return 0;
  const int length = snprintf(name, sizeof name, "%.*s.json", stem, path);
  return length < (int)sizeof name && access(name, F_OK) != 0;
}
