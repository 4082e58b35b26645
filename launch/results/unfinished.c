/* A line a request: its index, the tokens, the digest that lines of results
 * have, and a checksum of all that. Tokens are a function of what the digest
 * covers, so any part of them is a right start, whichever run it is from and
 * however old it is; a line that is lost costs time and nothing else.
 *
 * The file is written whole under a name of its own and renamed. A fault of a
 * disk or an editor can damage it all the same: the checksum tells, and
 * requests whose lines are damaged begin anew. The first line says whose file
 * it is, so that nobody else's is ever replaced for having the name.
 *
 * Only results matter in the end: where this file cannot be written, the run
 * goes on without. */
#include "launch/results/unfinished.h"

#include "launch/lines.h"
#include "launch/results/result_digest.h"
#include "runtime/base/digest.h"
#include "runtime/base/file.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/timer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { ORIGIN_BYTES = 512, CHECK_BYTES = 32 };
static const char header[] = "{\"format\":\"moerun-unfinished\",\"version\":1}";
static const double most_of_time = 50; /* savings cost at most its inverse */

typedef struct part {
  int32_t count;
  int32_t token[]; /* [count] */
} part;

struct moerun__unfinished {
  const moerun__prompts *prompts; /* borrowed */
  const moerun__results *results; /* borrowed */
  moerun__unfinished_options options;
  moerun__text path;
  moerun__weights_digits weights;
  int64_t num_requests;
  part **part;         /* [num_requests] NULL: nothing is kept */
  int file;            /* the open file that has this name; -1: none */
  int is_changed;      /* since it was written */
  int64_t num_damaged; /* lines */
  double asked;        /* clock when the last saving was due */
  double saved;        /* and when it had ended */
  moerun__unfinished_counts counts;
  moerun__prompt prompt;
};

/* ---- Lines --------------------------------------------------------------- */

static void print_check(char out[CHECK_BYTES], const char *line, size_t bytes) {
  const uint64_t digest =
      moerun__digest_bytes(MOERUN_DIGEST_START, line, bytes);
  (void)snprintf(out, CHECK_BYTES, ",\"check\":\"%016llx\"}",
                 (unsigned long long)digest);
}

/* Whether a line ends in the checksum of what is before it. */
static int is_whole(const moerun__lines *lines) {
  char check[CHECK_BYTES];
  print_check(check, "", 0);
  const size_t length = strlen(check);
  if (lines->is_torn || lines->line.count < length) return 0;
  const size_t before = lines->line.count - length;
  print_check(check, lines->line.bytes, before);
  return memcmp(lines->line.bytes + before, check, length) == 0;
}

static moerun_status print_line(moerun__text *out, const moerun__unfinished *u,
                                int64_t index) {
  moerun_status status = MOERUN_OK;
  char check[CHECK_BYTES];
  const part *p = u->part[index];
  const size_t begin = out->count;
  MOERUN_TRY(moerun__text_print(out, "{\"index\":%lld,\"tokens\":[",
                                (long long)index));
  MOERUN_TRY(moerun__text_integers(out, p->token, (size_t)p->count));
  MOERUN_TRY(moerun__text_print(
      out, "],\"digest\":\"%016llx%s\"",
      (unsigned long long)moerun__prompts_digest(u->prompts, index),
      u->weights.text));
  print_check(check, out->bytes + begin, out->count - begin);
  MOERUN_TRY(moerun__text_print(out, "%s\n", check));
done:
  return status;
}

/* ---- What is there ------------------------------------------------------- */

static moerun_status set_part(moerun__unfinished *u, int64_t index,
                              const int32_t *token, int32_t count) {
  moerun_status status = MOERUN_OK;
  part *p = NULL;
  MOERUN_TRY(moerun__alloc(&p, sizeof *p + (size_t)count * sizeof *token, 1));
  p->count = count;
  memcpy(p->token, token, (size_t)count * sizeof *token);
  moerun__free(u->part[index]);
  u->part[index] = p;
done:
  return status;
}

static moerun_status take_line(moerun__unfinished *u,
                               const moerun__lines *lines) {
  moerun_status status = MOERUN_OK;
  char origin[ORIGIN_BYTES];
  json_t *object = NULL;
  const char *id = NULL;
  int64_t index = 0;
  moerun__token_list tokens = {0};
  (void)snprintf(origin, sizeof origin, "%s:%lld", lines->path,
                 (long long)lines->number);
  MOERUN_TRY(moerun__json_parse(&object, lines->line.bytes, lines->line.count,
                                origin));
  MOERUN_REQUIRE(json_is_object(object), MOERUN_ERR_FORMAT,
                 "%s: expected a JSON object, found %s", origin,
                 moerun__json_kind(object));
  MOERUN_TRY(moerun__json_int(&index, object, "index", 0, u->num_requests - 1,
                              NULL, origin));
  if (moerun__prompts_error(u->prompts, index, &id) != NULL) goto done;
  MOERUN_TRY(moerun__result_digest_check(&u->weights, object, u->prompts, index,
                                         "what this line keeps was", origin));
  if (moerun__results_has(u->results, index)) goto done;
  MOERUN_TRY(moerun__prompts_read(u->prompts, &u->prompt, index));
  MOERUN_TRY(moerun__result_tokens_read(&tokens, object,
                                        u->prompt.request.max_new_tokens - 1,
                                        u->options.vocab_size, origin));
  MOERUN_TRY(set_part(u, index, tokens.id, (int32_t)tokens.count));
done:
  moerun__token_list_clear(&tokens);
  json_decref(object);
  return status;
}

/* Somebody else's file is left alone; of this program's any part may be gone,
 * or, after a crash of its node, be bytes of 0. */
static moerun_status check_header(moerun__unfinished *u,
                                  const moerun__lines *lines) {
  moerun_status status = MOERUN_OK;
  size_t count = lines->line.count;
  while (lines->is_torn && count > 0 && lines->line.bytes[count - 1] == '\0') {
    count--;
  }
  const int is_begun = count <= sizeof header - 1 &&
                       memcmp(lines->line.bytes, header, count) == 0;
  MOERUN_REQUIRE(is_begun && (lines->is_torn || count == sizeof header - 1),
                 MOERUN_ERR_FORMAT,
                 "%s: cannot resume: expected unfinished requests of %s, whose "
                 "first line is %s: move this file away, or --overwrite "
                 "replaces it and starts afresh",
                 u->path.bytes, u->options.path, header);
  u->num_damaged += lines->is_torn;
done:
  return status;
}

static moerun_status read_lines(moerun__unfinished *u) {
  moerun_status status = MOERUN_OK;
  moerun__lines lines = {0};
  int has = 0;
  MOERUN_TRY(moerun__lines_begin(&lines, u->file, u->path.bytes));
  MOERUN_TRY(moerun__lines_next(&lines, &has));
  if (has) MOERUN_TRY(check_header(u, &lines));
  if (has) MOERUN_TRY(moerun__lines_next(&lines, &has));
  while (has) {
    if (is_whole(&lines)) {
      MOERUN_TRY(take_line(u, &lines));
    } else {
      u->num_damaged++;
    }
    MOERUN_TRY(moerun__lines_next(&lines, &has));
  }
done:
  moerun__lines_clear(&lines);
  return status;
}

static moerun_status read_existing(moerun__unfinished *u) {
  moerun_status status = MOERUN_OK;
  const char *path = u->path.bytes;
  moerun__unfinished_counts *counts = &u->counts;
  MOERUN_TRY(moerun__file_open(&u->file, NULL, path, 0));
  MOERUN_TRY(read_lines(u));
  for (int64_t i = 0; i < u->num_requests; i++) {
    if (u->part[i] == NULL) continue;
    counts->requests++;
    counts->tokens += u->part[i]->count;
  }
  counts->requests_before = counts->requests;
  counts->tokens_before = counts->tokens;
  if (u->num_damaged > 0) {
    LOG_ROOT(MOERUN_LOG_WARN,
             "%s: %lld of its lines are damaged: the requests that they were "
             "of begin anew",
             path, (long long)u->num_damaged);
  }
  if (counts->requests > 0) {
    LOG_ROOT(MOERUN_LOG_INFO,
             "%s: %lld requests go on after %lld tokens that they have", path,
             (long long)counts->requests, (long long)counts->tokens);
  }
done:
  return status;
}

/* ---- A run --------------------------------------------------------------- */

moerun_status moerun__unfinished_open(
    moerun__unfinished **out, const moerun__prompts *prompts,
    const moerun__results *results, const moerun__unfinished_options *options) {
  moerun_status status = MOERUN_OK;
  moerun__unfinished *u = NULL;
  moerun__target target = {0};
  *out = NULL;
  MOERUN_TRY(moerun__target_find(&target, options->path));
  if (target.is_direct) goto done;
  MOERUN_TRY(moerun__alloc(&u, 1, sizeof *u));
  u->file = -1;
  u->prompts = prompts;
  u->results = results;
  u->options = *options;
  u->num_requests = moerun__prompts_count(prompts);
  MOERUN_TRY(moerun__alloc(&u->part, (size_t)u->num_requests, sizeof(part *)));
  MOERUN_TRY(moerun__text_print(&u->path, "%s%s", target.path,
                                MOERUN_UNFINISHED_ENDING));
  const int exists = moerun__file_exists(u->path.bytes);
  MOERUN_REQUIRE(!exists || options->resume || options->overwrite,
                 MOERUN_ERR_INVALID,
                 "%s: exists already: --resume goes on with it, --overwrite "
                 "replaces it",
                 u->path.bytes);
  if (exists && options->resume) MOERUN_TRY(read_existing(u));
  if (exists && options->overwrite) {
    MOERUN_TRY(moerun__output_check(u->path.bytes));
  }
  u->saved = moerun__now();
  *out = u;
  u = NULL;
done:
  moerun__target_clear(&target);
  moerun__unfinished_destroy(u);
  return status;
}

void moerun__unfinished_destroy(moerun__unfinished *unfinished) {
  if (unfinished == NULL) return;
  for (int64_t i = 0; unfinished->part != NULL && i < unfinished->num_requests;
       i++) {
    moerun__free(unfinished->part[i]);
  }
  moerun__free(unfinished->part);
  if (unfinished->file >= 0) (void)close(unfinished->file);
  moerun__text_clear(&unfinished->path);
  moerun__prompt_clear(&unfinished->prompt);
  moerun__free(unfinished);
}

/* `file`, which may be -1, is what has the name from here on. */
static void set_file(moerun__unfinished *u, int file) {
  if (u->file >= 0) (void)close(u->file);
  u->file = file;
}

static int is_mine(const moerun__unfinished *u) {
  return u->file >= 0 && moerun__file_is_at(u->file, u->path.bytes);
}

/* Of what is to be replaced, and of what this run has read or written. */
static moerun_status remove_file(moerun__unfinished *u, int is_to_be_removed) {
  moerun_status status = MOERUN_OK;
  if (is_to_be_removed) {
    MOERUN_REQUIRE(unlink(u->path.bytes) == 0 ||
                       !moerun__file_exists(u->path.bytes),
                   MOERUN_ERR_OUTPUT, "%s: cannot be removed: %s",
                   u->path.bytes, moerun__file_reason());
  }
  set_file(u, -1);
done:
  return status;
}

moerun_status moerun__unfinished_begin(moerun__unfinished *unfinished,
                                       const uint64_t *weights) {
  moerun_status status = MOERUN_OK;
  if (unfinished == NULL) goto done;
  if (weights != NULL) {
    MOERUN_TRY(moerun__result_weights_check(&unfinished->weights, *weights,
                                            "what this file keeps was",
                                            unfinished->path.bytes));
  }
  if (unfinished->options.overwrite) MOERUN_TRY(remove_file(unfinished, 1));
  unfinished->saved = moerun__now();
done:
  return status;
}

moerun_status moerun__unfinished_continue(const moerun__unfinished *unfinished,
                                          moerun__prompt *prompt) {
  moerun_status status = MOERUN_OK;
  moerun__request *request = &prompt->request;
  if (unfinished == NULL || unfinished->part[request->index] == NULL) goto done;
  const part *p = unfinished->part[request->index];
  MOERUN_TRY(moerun__token_list_reserve(&prompt->tokens, (size_t)p->count));
  for (int32_t i = 0; i < p->count; i++) {
    MOERUN_TRY(moerun__token_list_append(&prompt->tokens, p->token[i]));
  }
  request->prompt = prompt->tokens.id;
  request->num_kept = p->count;
done:
  return status;
}

moerun_status moerun__unfinished_put(moerun__unfinished *unfinished,
                                     const moerun__completion *so_far) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(
      set_part(unfinished, so_far->index, so_far->token, so_far->num_tokens));
  unfinished->is_changed = 1;
done:
  return status;
}

void moerun__unfinished_drop(moerun__unfinished *unfinished, int64_t index) {
  if (unfinished == NULL || unfinished->part[index] == NULL) return;
  moerun__free(unfinished->part[index]);
  unfinished->part[index] = NULL;
  unfinished->is_changed = 1;
}

/* ---- Saving -------------------------------------------------------------- */

int moerun__unfinished_ask(moerun__unfinished *unfinished) {
  const double now = moerun__now();
  const double last_took = unfinished->saved - unfinished->asked;
  const double wait = unfinished->asked > 0 ? most_of_time * last_took : 0;
  const double interval = unfinished->options.interval_s;
  if (!(interval > 0) || now - unfinished->saved < interval ||
      now - unfinished->saved < wait) {
    return 0;
  }
  unfinished->asked = now;
  return 1;
}

/* In place of the file that has the name, or of none: another's is left alone,
 * and a file of this run that was removed is written again. */
static moerun_status replace_file(moerun__unfinished *u,
                                  const moerun__text *content) {
  moerun_status status = MOERUN_OK;
  const char *path = u->path.bytes;
  moerun__outputs outputs = {.only_new = 1};
  int file = -1;
  int kept = -1;
  const int is_replaced = is_mine(u);
  MOERUN_REQUIRE(is_replaced || !moerun__file_exists(path), MOERUN_ERR_OUTPUT,
                 "%s: is another file since the run began, which is left alone",
                 path);
  MOERUN_TRY(is_replaced
                 ? moerun__outputs_begin_over(&outputs, &file, path, u->file)
                 : moerun__outputs_begin(&outputs, &file, path));
  MOERUN_TRY(moerun__file_put(file, content->bytes, content->count, path));
  kept = fcntl(file, F_DUPFD_CLOEXEC, 0);
  MOERUN_REQUIRE(kept >= 0, MOERUN_ERR_OUTPUT, "%s: cannot be written: %s",
                 path, moerun__file_reason());
  MOERUN_TRY(moerun__outputs_commit(&outputs));
  set_file(u, kept);
  kept = -1;
done:
  if (kept >= 0) (void)close(kept);
  moerun__outputs_clear(&outputs);
  return status;
}

static moerun_status write_file(moerun__unfinished *u,
                                moerun__unfinished_counts *counts) {
  moerun_status status = MOERUN_OK;
  moerun__text out = {0};
  counts->requests = 0;
  counts->tokens = 0;
  MOERUN_TRY(moerun__text_print(&out, "%s\n", header));
  for (int64_t i = 0; i < u->num_requests; i++) {
    if (u->part[i] == NULL) continue;
    MOERUN_TRY(print_line(&out, u, i));
    counts->requests++;
    counts->tokens += u->part[i]->count;
  }
  MOERUN_TRY(counts->requests > 0 ? replace_file(u, &out)
                                  : remove_file(u, is_mine(u)));
done:
  moerun__text_clear(&out);
  return status;
}

void moerun__unfinished_save(moerun__unfinished *unfinished) {
  moerun__unfinished_counts counts = unfinished->counts;
  if (write_file(unfinished, &counts) == MOERUN_OK) {
    unfinished->counts = counts;
    unfinished->is_changed = 0;
  } else {
    LOG_ROOT(MOERUN_LOG_WARN,
             "%s; what unfinished requests have generated is not kept",
             moerun_last_error());
  }
  unfinished->saved = moerun__now();
}

void moerun__unfinished_end(moerun__unfinished *unfinished, int stopped) {
  if (unfinished == NULL) return;
  if (stopped) {
    if (unfinished->is_changed) moerun__unfinished_save(unfinished);
  } else if (remove_file(unfinished, is_mine(unfinished)) == MOERUN_OK) {
    unfinished->counts.requests = 0;
    unfinished->counts.tokens = 0;
  } else {
    LOG_ROOT(MOERUN_LOG_WARN, "%s", moerun_last_error());
  }
}

moerun__unfinished_counts
moerun__unfinished_count(const moerun__unfinished *unfinished) {
  return unfinished != NULL ? unfinished->counts
                            : (moerun__unfinished_counts){0};
}
