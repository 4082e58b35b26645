/* A line depends on its request alone: no ranks, no times. So the file that is
 * put in input order at the end has the same bytes however often the run was
 * interrupted and however many ranks it had.
 *
 * Each line ends up in the file by one write, so that a killed process leaves
 * at most one torn line, the last. Syncing costs a disk's latency and is done
 * at most twice a second: it matters only if the whole machine dies.
 *
 * A line's digest says which request made it (prompt tokens, sampling, what the
 * model's small files say) and with which weights; results of other requests or
 * of other weights are refused, not mixed in. What is there is read before the
 * weights are, so that most mistakes cost no loading, and its weights are
 * compared when those of this run are known, before anything is written. */
#include "launch/results/results.h"

#include "launch/lines.h"
#include "launch/results/result_group.h"
#include "runtime/base/file.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/temporary.h"
#include "runtime/base/timer.h"
#include "runtime/decoder/broken.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { COPY_BYTES = 1 << 16, PATH_BYTES = 4096 };
static const double sync_interval_s = 0.5;

typedef struct place {
  int64_t offset; /* of the line in the file; -1: not finished yet */
  int64_t length; /* its newline included */
} place;

struct moerun__results {
  const moerun__prompts *prompts; /* borrowed */
  char *path;                     /* NULL: no file */
  moerun__target target;          /* what it stands for */
  FILE *stream;                   /* borrowed, or NULL */
  int file;                       /* -1: not open */
  moerun__temporary empty;        /* the file, if it was made here and
                                     nothing stands in it yet          */
  int is_passing;                 /* as in moerun__results_options */
  int64_t end;                    /* of the whole lines in the file */
  int64_t torn;                   /* bytes behind them that are cut off */
  int resumes;                    /* with what is there */
  int64_t num_requests;
  int64_t count;                 /* finished */
  place *place;                  /* [num_requests] */
  moerun__score *score;          /* [num_requests] */
  moerun__result_groups *groups; /* of those that wait for others of their
                                    line */
  int64_t num_broken;
  moerun__completion broken; /* the first of them in the input */
  double last_sync;
  moerun__result_line line; /* printed or read last */
};

/* Notes where the line of requests from `index` on stands: the others than the
 * first are nothing behind it. */
static void set_places(moerun__results *results, int64_t index, place at) {
  const int32_t parts = moerun__result_line_parts(&results->line, index);
  results->place[index] = at;
  for (int32_t i = 1; i < parts; i++) {
    results->place[index + i] = (place){.offset = at.offset + at.length};
  }
  results->count += parts;
}

/* ---- What is there ------------------------------------------------------- */

static moerun_status take_line(moerun__results *results,
                               const moerun__lines *lines) {
  moerun_status status = MOERUN_OK;
  moerun__result_found found;
  MOERUN_TRY(moerun__result_line_read(&found, &results->line, lines));
  if (found.is_error) goto done; /* judged anew */
  MOERUN_REQUIRE(results->place[found.index].offset < 0, MOERUN_ERR_FORMAT,
                 "%s:%lld: cannot resume: request %lld has a result already",
                 lines->path, (long long)lines->number, (long long)found.index);
  results->score[found.index] = (moerun__score){
      .tokens = found.scored_tokens, .log_probability = found.log_probability};
  set_places(
      results, found.index,
      (place){.offset = lines->offset, .length = lines->end - lines->offset});
done:
  return status;
}

/* What is behind the last whole line is cut off before anything is written. */
static moerun_status take_torn(moerun__results *results,
                               const moerun__lines *lines) {
  moerun_status status = MOERUN_OK;
  int64_t index = -1;
  MOERUN_TRY(moerun__result_line_check_torn(&index, &results->line, lines));
  MOERUN_REQUIRE(index < 0 || results->place[index].offset < 0,
                 MOERUN_ERR_FORMAT,
                 "%s:%lld: cannot resume: request %lld has a result already",
                 lines->path, (long long)lines->number, (long long)index);
  results->torn = lines->end - lines->offset;
done:
  return status;
}

static moerun_status read_existing(moerun__results *results) {
  moerun_status status = MOERUN_OK;
  moerun__lines lines = {0};
  int has = 0;
  MOERUN_TRY(moerun__lines_begin(&lines, results->file, results->path));
  MOERUN_TRY(moerun__lines_next(&lines, &has));
  while (has && !lines.is_torn) {
    MOERUN_TRY(take_line(results, &lines));
    results->end = lines.end;
    MOERUN_TRY(moerun__lines_next(&lines, &has));
  }
  if (has) MOERUN_TRY(take_torn(results, &lines));
done:
  moerun__lines_clear(&lines);
  return status;
}

/* Two runs that append to one file would spoil it; file systems without locks
 * are trusted. */
static moerun_status lock(const moerun__results *results) {
  moerun_status status = MOERUN_OK;
  struct flock whole = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
  const int taken = fcntl(results->file, F_SETLK, &whole) != 0 &&
                    (errno == EACCES || errno == EAGAIN);
  MOERUN_REQUIRE(!taken, MOERUN_ERR_OUTPUT,
                 "%s: another process is writing this file: wait until it has "
                 "ended, or give another --output",
                 results->path);
done:
  return status;
}

static moerun_status open_file(moerun__results *results,
                               const moerun__results_options *options) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__copy_text(&results->path, options->path));
  MOERUN_TRY(moerun__target_find(&results->target, options->path));
  MOERUN_REQUIRE(!options->resume || !results->target.is_direct,
                 MOERUN_ERR_OUTPUT, "%s: expected a regular file for --resume",
                 results->path);
  if (results->target.is_direct || !results->target.exists) goto done;
  MOERUN_REQUIRE(options->resume || options->overwrite, MOERUN_ERR_INVALID,
                 "%s: exists already: --resume goes on with it, --overwrite "
                 "replaces it",
                 results->path);
  MOERUN_TRY(moerun__file_open(&results->file, NULL, results->path, 1));
  MOERUN_TRY(lock(results));
  results->resumes = options->resume;
  if (options->resume) MOERUN_TRY(read_existing(results));
done:
  return status;
}

int moerun__results_resume(const moerun__config *config) {
  return moerun__config_has(config, "resume") &&
         moerun__config_bool(config, "resume");
}

moerun_status moerun__results_open(moerun__results **out,
                                   const moerun__prompts *prompts,
                                   const moerun__tokenizer *tokenizer,
                                   const moerun__results_options *options) {
  moerun_status status = MOERUN_OK;
  moerun__results *results = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&results, 1, sizeof *results));
  results->file = -1;
  results->prompts = prompts;
  results->line.prompts = prompts;
  results->line.tokenizer = tokenizer;
  results->line.model = options->model;
  results->stream = options->stream;
  results->is_passing = options->is_passing;
  results->num_requests = moerun__prompts_count(prompts);
  const size_t count = (size_t)results->num_requests;
  MOERUN_TRY(moerun__alloc(&results->place, count, sizeof *results->place));
  MOERUN_TRY(moerun__alloc(&results->score, count, sizeof *results->score));
  for (size_t i = 0; i < count; i++) {
    results->place[i].offset = -1;
  }
  MOERUN_TRY(moerun__result_groups_create(&results->groups, prompts));
  if (options->path != NULL) MOERUN_TRY(open_file(results, options));
  *out = results;
  results = NULL;
done:
  moerun__results_destroy(results);
  return status;
}

void moerun__results_destroy(moerun__results *results) {
  if (results == NULL) return;
  /* Somebody else's may have its name by now. */
  if (results->file >= 0 &&
      !moerun__file_is_at(results->file, results->target.path)) {
    moerun__temporary_forget(&results->empty);
  }
  if (results->file >= 0) (void)close(results->file);
  moerun__temporary_remove(&results->empty);
  moerun__result_line_clear(&results->line);
  moerun__target_clear(&results->target);
  moerun__free(results->path);
  moerun__free(results->place);
  moerun__free(results->score);
  moerun__result_groups_destroy(results->groups);
  moerun__free(results);
}

/* Nobody else writes this file: not what was cut off or put behind is spoilt
 * further. */
static moerun_status check_size(const moerun__results *results,
                                int64_t expected) {
  moerun_status status = MOERUN_OK;
  const int64_t found = lseek(results->file, 0, SEEK_END);
  MOERUN_REQUIRE(found == expected, MOERUN_ERR_OUTPUT,
                 "%s: expected %lld bytes, as this run left it, found %lld: "
                 "another program has written to it; %s",
                 results->path, (long long)expected, (long long)found,
                 found > expected ? "the results are in front of what it added"
                                  : "results that it cut off are lost");
done:
  return status;
}

/* ---- Appending ----------------------------------------------------------- */

moerun_status moerun__results_begin(moerun__results *results,
                                    const uint64_t *weights) {
  moerun_status status = MOERUN_OK;
  if (weights != NULL) {
    MOERUN_TRY(moerun__result_weights_check(
        &results->line.weights, *weights, "these results were", results->path));
  }
  if (results->path == NULL) goto done;
  if (results->target.is_direct) {
    MOERUN_TRY(moerun__target_open(&results->file, &results->target));
    goto done;
  }
  if (results->file < 0) {
    results->file =
        open(results->target.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    MOERUN_REQUIRE(results->file >= 0, MOERUN_ERR_OUTPUT,
                   "%s: cannot be created: %s", results->path,
                   moerun__file_reason());
    MOERUN_TRY(moerun__temporary_adopt(&results->empty, results->target.path));
    MOERUN_TRY(lock(results));
  }
  MOERUN_REQUIRE(moerun__file_is_at(results->file, results->target.path),
                 MOERUN_ERR_OUTPUT,
                 "%s: was moved or removed after the run began; nothing was "
                 "written",
                 results->path);
  if (results->resumes) {
    MOERUN_TRY(check_size(results, results->end + results->torn));
  }
  MOERUN_REQUIRE(ftruncate(results->file, (off_t)results->end) == 0 &&
                     lseek(results->file, 0, SEEK_END) == results->end,
                 MOERUN_ERR_OUTPUT, "%s: cannot be written: %s", results->path,
                 moerun__file_reason());
  if (results->torn > 0) {
    LOG_ROOT(MOERUN_LOG_INFO,
             "%s: its last line was torn after %lld bytes: its request runs "
             "again",
             results->path, (long long)results->torn);
  }
  results->last_sync = moerun__now();
done:
  return status;
}

static moerun_status sync_file(moerun__results *results) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(fdatasync(results->file) == 0, MOERUN_ERR_OUTPUT,
                 "%s: cannot be written: %s", results->path,
                 moerun__file_reason());
  results->last_sync = moerun__now();
done:
  return status;
}

static moerun_status write_line(moerun__results *results) {
  moerun_status status = MOERUN_OK;
  const moerun__text *line = &results->line.text;
  if (results->path != NULL) {
    if (!results->target.is_direct) {
      MOERUN_TRY(check_size(results, results->end));
    }
    MOERUN_TRY(moerun__file_put(results->file, line->bytes, line->count,
                                results->path));
    if (!results->target.is_direct &&
        moerun__now() - results->last_sync > sync_interval_s) {
      MOERUN_TRY(sync_file(results));
    }
  } else if (results->stream != NULL) {
    MOERUN_TRY(moerun__file_put(fileno(results->stream), line->bytes,
                                line->count, "stdout"));
  }
done:
  return status;
}

static void note_broken(moerun__results *results,
                        const moerun__completion *completion) {
  const int is_first =
      results->num_broken++ == 0 || completion->index < results->broken.index;
  if (is_first) results->broken = *completion;
}

/* Writes the line as that of the requests from `index` on. */
static moerun_status add_line(moerun__results *results, int64_t index) {
  moerun_status status = MOERUN_OK;
  const int64_t length = (int64_t)results->line.text.count;
  MOERUN_TRY(write_line(results));
  moerun__temporary_forget(&results->empty);
  set_places(results, index, (place){.offset = results->end, .length = length});
  results->end += length;
done:
  return status;
}

moerun_status moerun__results_append(moerun__results *results,
                                     const moerun__completion *completion) {
  moerun_status status = MOERUN_OK;
  const int64_t index = completion->index;
  const moerun__completion *all = completion;
  MOERUN_REQUIRE(index >= 0 && index < results->num_requests &&
                     !moerun__results_has(results, index) &&
                     !moerun__results_waits(results, index),
                 MOERUN_ERR_INVALID,
                 "a result of request %lld was not expected", (long long)index);
  if (completion->finish == MOERUN_FINISH_BROKEN) {
    note_broken(results, completion);
    goto done;
  }
  MOERUN_TRY(moerun__result_groups_put(&all, results->groups, completion));
  if (all == NULL) goto done; /* the line waits for others */
  MOERUN_TRY(moerun__result_line_print(&results->line, all));
  MOERUN_TRY(add_line(results, all->index));
  moerun__result_groups_drop(results->groups, all->index);
  if (moerun__prompts_are_scored(results->prompts)) {
    results->score[index] =
        (moerun__score){.tokens = results->line.prompt.request.num_prompt - 1,
                        .log_probability = completion->log_probability};
  }
done:
  return status;
}

moerun_status moerun__results_append_error(moerun__results *results,
                                           int64_t index, const char *id,
                                           const char *reason) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(
      moerun__result_line_print_error(&results->line, index, id, reason));
  MOERUN_TRY(add_line(results, index));
done:
  return status;
}

/* ---- The end ------------------------------------------------------------- */

static int is_ordered(const moerun__results *results) {
  int64_t end = 0;
  for (int64_t i = 0; i < results->num_requests; i++) {
    if (results->place[i].offset != end) return 0;
    end += results->place[i].length;
  }
  return 1;
}

/* Copies one line behind the others of `file`. */
static moerun_status copy_line(int file, const moerun__results *results,
                               const place *from, const char *path) {
  moerun_status status = MOERUN_OK;
  char block[COPY_BYTES];
  for (int64_t at = 0; at < from->length; at += COPY_BYTES) {
    const int64_t left = from->length - at;
    const size_t part = left < COPY_BYTES ? (size_t)left : COPY_BYTES;
    size_t got = 0;
    MOERUN_TRY(moerun__file_get(&got, block, part, results->file,
                                from->offset + at, results->path));
    MOERUN_REQUIRE(got == part, MOERUN_ERR_OUTPUT,
                   "%s: cannot be read: it shrank meanwhile", results->path);
    MOERUN_TRY(moerun__file_put(file, block, part, path));
  }
done:
  return status;
}

/* All lines that there are, in input order. Where the file has lost its name,
 * the outputs keep them beside it. */
static moerun_status rewrite(const moerun__results *results,
                             moerun__outputs *outputs) {
  moerun_status status = MOERUN_OK;
  int file = -1;
  MOERUN_TRY(
      moerun__outputs_begin_over(outputs, &file, results->path, results->file));
  for (int64_t i = 0; i < results->num_requests; i++) {
    if (!moerun__results_has(results, i)) continue;
    MOERUN_TRY(copy_line(file, results, &results->place[i], results->path));
  }
done:
  return status;
}

/* Where it cannot be written under the old name either, because the folder has
 * gone as well: what was appended is all there is. */
static moerun_status tell_where(const moerun__results *results) {
  moerun_status status = MOERUN_OK;
  char name[PATH_BYTES];
  const int is_there = moerun__file_name(name, sizeof name, results->file);
  MOERUN_REQUIRE(!is_there, MOERUN_ERR_OUTPUT,
                 "%s: was moved while the run was writing it, and cannot be "
                 "created again; %lld results are in %s, with which --resume "
                 "goes on",
                 results->path, (long long)results->count, name);
  MOERUN_REQUIRE(0, MOERUN_ERR_OUTPUT,
                 "%s: was removed while the run was writing it, and cannot be "
                 "created again; %lld results are lost",
                 results->path, (long long)results->count);
done:
  return status;
}

moerun_status moerun__results_end(moerun__results *results,
                                  moerun__outputs *outputs) {
  moerun_status status = MOERUN_OK;
  if (results->path == NULL || results->target.is_direct) goto done;
  MOERUN_TRY(check_size(results, results->end));
  MOERUN_TRY(sync_file(results));
  if (results->end > 0 || !results->is_passing) {
    moerun__temporary_forget(&results->empty);
  }
  const int is_complete = results->count == results->num_requests;
  const int is_lost = !moerun__file_is_at(results->file, results->target.path);
  if (is_lost || (is_complete && !is_ordered(results))) {
    status = rewrite(results, outputs);
    if (is_lost && status == MOERUN_ERR_OUTPUT) MOERUN_TRY(tell_where(results));
  }
done:
  return status;
}

moerun_status moerun__results_check(moerun__results *results) {
  moerun_status status = MOERUN_OK;
  char where[32] = "the embedding";
  const moerun__completion *c = &results->broken;
  if (results->num_broken == 0) goto done;
  if (c->broken == MOERUN_BROKEN_HEAD) {
    (void)snprintf(where, sizeof where, "the head");
  } else if (c->broken >= MOERUN_BROKEN_LAYER) {
    (void)snprintf(where, sizeof where, "decoder layer %d",
                   c->broken - MOERUN_BROKEN_LAYER);
  }
  MOERUN_TRY(
      moerun__prompts_read(results->prompts, &results->line.prompt, c->index));
  MOERUN_REQUIRE(0, MOERUN_ERR_FORMAT,
                 "request %lld (id %.100s): at position %d (its prompt has %d) "
                 "the output of %s is not "
                 "a finite number, or beyond 3.6e16: the model's weights are "
                 "broken or overflow; %lld of %lld requests have "
                 "no result for that",
                 (long long)results->line.prompt.place.line,
                 results->line.prompt.id.bytes, c->broken_position,
                 c->num_prompt, where, (long long)results->num_broken,
                 (long long)results->num_requests);
done:
  return status;
}

int moerun__results_has(const moerun__results *results, int64_t index) {
  return results->place[index].offset >= 0;
}

int moerun__results_waits(const moerun__results *results, int64_t index) {
  return moerun__result_groups_has(results->groups, index);
}

int64_t moerun__results_count(const moerun__results *results) {
  return results->count;
}

moerun__score moerun__results_score(const moerun__results *results) {
  moerun__score sum = {0};
  for (int64_t i = 0; i < results->num_requests; i++) {
    sum.tokens += results->score[i].tokens;
    sum.log_probability += results->score[i].log_probability;
  }
  return sum;
}
