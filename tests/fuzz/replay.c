/* Runs a fuzz target without libFuzzer, with any compiler: each file of the
 * corpus as it is, then a number of mutations of them, the same ones for the
 * same seed. After every input all memory must have been given back. When the
 * target dies, the number of the mutation is the last line on stderr; with it
 * as the fourth argument only that one runs.
 *
 *   fuzz_NAME_replay CORPUS_FOLDER MUTATIONS SEED [NUMBER] */
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "support/fuzz.h"

#include <dirent.h>
#include <signal.h>
#include <sys/stat.h>

enum { MAX_FILES = 256, MAX_BYTES = 1 << 16, MAX_EDITS = 4 };

typedef struct sample {
  uint8_t *bytes;
  size_t count;
} sample;

/* One input's random numbers: a pure function of seed and number. */
typedef struct fuzz_dice {
  uint64_t seed;
  uint64_t number;
  uint64_t thrown;
} fuzz_dice;

static size_t throw(fuzz_dice * dice, size_t sides) {
  const double u = moerun__uniform(dice->seed, dice->number, dice->thrown++);
  return (size_t)(u * (double)sides);
}

static volatile long current = -1; /* mutation; -1: a file of the corpus */

/* Only what a signal handler may call. */
static void report(int number) {
  char text[] = "replay: died at mutation          \n";
  long rest = current;
  for (size_t i = sizeof text - 3; rest > 0; i--) {
    text[i] = (char)('0' + rest % 10);
    rest /= 10;
  }
  (void)!write(STDERR_FILENO, text, sizeof text - 1);
  (void)signal(number, SIG_DFL);
  (void)raise(number);
}

static void run(const sample *input) {
  const size_t live = moerun__alloc_live();
  /* A copy of exactly this size, so that sanitizers see a read beyond it. */
  uint8_t *copy = malloc(input->count > 0 ? input->count : 1);
  fuzz_require(copy != NULL);
  memcpy(copy, input->bytes, input->count);
  (void)LLVMFuzzerTestOneInput(copy, input->count);
  free(copy);
  fuzz_require(moerun__alloc_live() == live);
}

/* ---- Mutations ----------------------------------------------------------- */

/* What readers of numbers and of JSON trip over. */
static const char *const words[] = {"0",
                                    "-1",
                                    "1",
                                    "2147483647",
                                    "2147483648",
                                    "-2147483649",
                                    "4294967296",
                                    "9223372036854775807",
                                    "9223372036854775808",
                                    "1e999",
                                    "0.5",
                                    "null",
                                    "true",
                                    "{}",
                                    "[]",
                                    "[",
                                    "]",
                                    "{",
                                    "}",
                                    "\"",
                                    ",",
                                    ":",
                                    "\"a\"",
                                    "\\u0000",
                                    "\\ud800",
                                    "\xff",
                                    "\xc0\x80",
                                    "../x",
                                    "\n",
                                    "F32",
                                    "[0,0]",
                                    "[[0]]"};
enum { NUM_WORDS = sizeof words / sizeof *words };

/* Replaces `cut` bytes at `at` by insert[count]; what would not fit is lost. */
static void splice(sample *s, size_t at, size_t cut, const void *insert,
                   size_t count) {
  if (at > s->count) at = s->count;
  if (cut > s->count - at) cut = s->count - at;
  if (s->count - cut + count > MAX_BYTES) return;
  memmove(s->bytes + at + count, s->bytes + at + cut, s->count - at - cut);
  memcpy(s->bytes + at, insert, count);
  s->count = s->count - cut + count;
}

/* Anywhere, anything. */
static void edit(sample *s, const sample *files, size_t num_files,
                 fuzz_dice *dice) {
  const size_t at = throw(dice, s->count + 1);
  const size_t length = 1 + throw(dice, throw(dice, 64) + 1);
  const sample *other = &files[throw(dice, num_files)];
  const size_t from = throw(dice, other->count + 1);
  const size_t left = other->count - from;
  const char *word = words[throw(dice, NUM_WORDS)];
  uint8_t byte = (uint8_t) throw(dice, 256);
  switch (throw(dice, 7)) {
  case 0: splice(s, at, 1, &byte, 1); break;
  case 1:
    byte = at < s->count ? s->bytes[at] : 0;
    byte = (uint8_t)(byte ^ 1U << throw(dice, 8));
    splice(s, at, 1, &byte, 1);
    break;
  case 2: splice(s, at, length, &byte, 0); break;
  case 3: splice(s, at, 0, word, strlen(word)); break;
  case 4: splice(s, at, length, word, strlen(word)); break;
  case 5:
    splice(s, at, throw(dice, 2) * length, other->bytes + from,
           left < length ? left : length);
    break;
  default: s->count = at; break;
  }
}

static int is_word(uint8_t c) {
  return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') ||
         (c >= 'A' && c <= 'Z') || c == '_' || c == '.' || c == '-';
}

/* The word (or number) at or after a random place: *at and its length, which
 * is 0 at the end of the bytes. */
static size_t find_word(size_t *at, const sample *s, fuzz_dice *dice) {
  *at = throw(dice, s->count + 1);
  while (*at < s->count && !is_word(s->bytes[*at])) {
    (*at)++;
  }
  while (*at > 0 && is_word(s->bytes[*at - 1])) {
    (*at)--;
  }
  size_t length = 0;
  while (*at + length < s->count && is_word(s->bytes[*at + length])) {
    length++;
  }
  return length;
}

/* Another word in place of a word, which leaves most syntax whole. */
static void edit_word(sample *s, const sample *files, size_t num_files,
                      fuzz_dice *dice) {
  char number[24];
  size_t at = 0;
  size_t from = 0;
  const size_t length = find_word(&at, s, dice);
  const sample *other = &files[throw(dice, num_files)];
  const size_t taken = find_word(&from, other, dice);
  const char *word = words[throw(dice, NUM_WORDS)];
  switch (throw(dice, 3)) {
  case 0: splice(s, at, length, word, strlen(word)); break;
  case 1: splice(s, at, length, other->bytes + from, taken); break;
  default:
    (void)snprintf(number, sizeof number, "%zu",
                   throw(dice, (size_t)1 << throw(dice, 20)));
    splice(s, at, length, number, strlen(number));
    break;
  }
}

static void mutate(sample *out, const sample *files, size_t num_files,
                   uint64_t seed, uint64_t number) {
  fuzz_dice dice = {seed, number, 0};
  const sample *start = &files[throw(&dice, num_files)];
  memcpy(out->bytes, start->bytes, start->count);
  out->count = start->count;
  const size_t edits = 1 + throw(&dice, MAX_EDITS);
  const int by_words = throw(&dice, 4) > 0;
  for (size_t i = 0; i < edits; i++) {
    (by_words ? edit_word : edit)(out, files, num_files, &dice);
  }
}

/* ---- The corpus ---------------------------------------------------------- */

static int load(sample *out, const char *path) {
  FILE *file = fopen(path, "rb");
  if (file == NULL) return 0;
  out->bytes = malloc(MAX_BYTES);
  fuzz_require(out->bytes != NULL);
  out->count = fread(out->bytes, 1, MAX_BYTES, file);
  return fclose(file) == 0 && out->count < MAX_BYTES;
}

/* In the order of names, so that a number means the same everywhere. */
static size_t load_folder(sample *files, const char *folder) {
  struct dirent **names = NULL;
  const int found = scandir(folder, &names, NULL, alphasort);
  size_t count = 0;
  for (int i = 0; i < found; i++) {
    char path[2 * TEMP_PATH];
    (void)snprintf(path, sizeof path, "%s/%s", folder, names[i]->d_name);
    if (names[i]->d_name[0] != '.') {
      fuzz_require(count < MAX_FILES);
      fuzz_require(load(&files[count++], path));
    }
    free(names[i]);
  }
  free(names);
  return count;
}

int main(int argc, char **argv) {
  static sample files[MAX_FILES];
  static uint8_t bytes[MAX_BYTES];
  sample input = {bytes, 0};
  if (argc < 4) {
    (void)fprintf(stderr, "usage: %s FOLDER MUTATIONS SEED [NUMBER]\n", *argv);
    return 2;
  }
  const size_t num_files = load_folder(files, argv[1]);
  const uint64_t mutations = strtoull(argv[2], NULL, 10);
  const uint64_t seed = strtoull(argv[3], NULL, 10);
  if (num_files == 0) {
    (void)fprintf(stderr, "%s: no files\n", argv[1]);
    return 2;
  }
  (void)signal(SIGABRT, report);
  (void)signal(SIGSEGV, report);
  (void)signal(SIGFPE, report);
  uint64_t first = 0;
  uint64_t last = mutations;
  if (argc > 4) {
    first = strtoull(argv[4], NULL, 10);
    last = first + 1;
  }
  for (size_t i = 0; i < num_files && argc == 4; i++) {
    run(&files[i]);
  }
  for (uint64_t n = first; n < last; n++) {
    current = (long)n;
    mutate(&input, files, num_files, seed, n);
    run(&input);
  }
  (void)printf("%zu files, %llu mutations, seed %llu\n", num_files,
               (unsigned long long)(last - first), (unsigned long long)seed);
  for (size_t i = 0; i < num_files; i++) {
    free(files[i].bytes);
  }
  return 0;
}
