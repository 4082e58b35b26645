/* One line of the file of results: how it is printed, and whether a line that
 * is there already is what this run would have printed. A form of lines is a
 * moerun__result_form: this program's own, a line for each request, and that of
 * batch files, a line for all requests of a line. Rank 0 only. */
#ifndef MOERUN_RESULTS_RESULT_LINE_H
#define MOERUN_RESULTS_RESULT_LINE_H

#include "launch/lines.h"
#include "launch/results/result_digest.h"
#include "runtime/model/arch.h"
#include "runtime/serve/engine.h"

typedef struct moerun__result_line {
  const moerun__prompts *prompts;     /* borrowed, as are the next two */
  const moerun__tokenizer *tokenizer; /* NULL: results hold no "text"  */
  const moerun__model_config *model;  /* NULL: no line is read         */
  moerun__weights_digits weights;     /* of all lines */
  moerun__text text;     /* what was printed last, its newline included */
  moerun__prompt prompt; /* and whose line it is, unless it is an error */
  moerun__text part;     /* scratch, and so are these */
  moerun__stop_watch watch;
  moerun__token_list tokens;
  moerun__logprob *logprob; /* [logprob_room] */
  size_t logprob_room;
  struct moerun__batch_digest *digest; /* of lines of a batch file, in order;
                                          NULL: not needed yet */
  size_t num_digests;
} moerun__result_line;

void moerun__result_line_clear(moerun__result_line *line);

/* How many requests from `index` on have one line, if it is the first. */
int32_t moerun__result_line_parts(const moerun__result_line *line,
                                  int64_t index);
/* Prints into line->text the result of the requests that have one line, and
 * what is wrong with request `index`, whose id is JSON. */
moerun_status moerun__result_line_print(moerun__result_line *line,
                                        const moerun__completion *all);
moerun_status moerun__result_line_print_error(moerun__result_line *line,
                                              int64_t index, const char *id,
                                              const char *reason);

/* What a line that was there holds. */
typedef struct moerun__result_found {
  int64_t index;          /* of the first request that it is of */
  int is_error;           /* what was wrong with the request, and no result */
  int64_t scored_tokens;  /* 0 unless it was scored */
  double log_probability; /* and so is this */
} moerun__result_found;

/* Reads a whole line. One that this run would not have printed, byte for byte,
 * is an error. */
moerun_status moerun__result_line_read(moerun__result_found *out,
                                       moerun__result_line *line,
                                       const moerun__lines *lines);
/* Checks that a line without its newline is the start of one that this run
 * would print, and *index of which request: -1 if it does not say. A machine
 * that lost its power may have left NUL bytes behind it. */
moerun_status moerun__result_line_check_torn(int64_t *index,
                                             moerun__result_line *line,
                                             const moerun__lines *lines);

/* What one form of lines does; the functions above do it by the input's. */
typedef struct moerun__result_form {
  moerun_status (*print)(moerun__result_line *line,
                         const moerun__completion *all);
  moerun_status (*print_error)(moerun__result_line *line, int64_t index,
                               const char *id, const char *reason);
  moerun_status (*read)(moerun__result_found *out, moerun__result_line *line,
                        const moerun__lines *lines, const char *origin);
  /* Whether bytes[count], no NUL at their end, may be the start of a line. */
  moerun_status (*may_be)(int *is_ours, int64_t *index,
                          moerun__result_line *line, const char *bytes,
                          size_t count);
} moerun__result_form;

extern const moerun__result_form moerun__result_batch;

/* Appends how lines of this program's own form begin: the place of the line in
 * the input, the id, and which sample it is, if there are several. */
moerun_status moerun__result_start(moerun__text *out,
                                   const moerun__prompts *prompts,
                                   int64_t index, const char *id);
/* Appends the text of a completion of line->prompt to line->part, in front of
 * the stop that ended it; line->tokenizer is there. */
moerun_status moerun__result_text(moerun__result_line *line,
                                  const moerun__completion *completion);

/* "length", "eos" or "stop". */
const char *moerun__finish_name(moerun__finish finish);

/* Reads the key "tokens" of an object: 1 to `most` ids of the vocabulary. */
moerun_status moerun__result_tokens_read(moerun__token_list *out,
                                         const json_t *object, int32_t most,
                                         int32_t vocab_size,
                                         const char *origin);

#endif
