/* Private to prompts*.c: the object, and one reader for each kind of input. */
#ifndef MOERUN_REQUESTS_PROMPTS_INPUT_H
#define MOERUN_REQUESTS_PROMPTS_INPUT_H

#include "launch/requests/prompts.h"
#include "runtime/base/json.h"
#include "runtime/base/npy.h"

typedef struct moerun__prompts_input moerun__prompts_input;

/* What one kind of input does. */
struct moerun__prompts_input {
  /* Fills request (but for index), tokens and id of request `index`; where
   * that is in the file, for messages, is `origin`. */
  moerun_status (*read)(const moerun__prompts *prompts, moerun__prompt *out,
                        int64_t index, const char *origin);
  /* JSONL: what `line`, number out->place.line of those with requests, says of
   * the request out->place.part; sets out->place.parts. */
  moerun_status (*parse)(moerun__prompt *out, const moerun__prompts *prompts,
                         const moerun__text *line, const char *origin);
  const char *id_key; /* JSONL: what the id is called */
};

/* A request that cannot be run. */
typedef struct moerun__bad_prompt {
  char *reason;
  char *id; /* as JSON */
} moerun__bad_prompt;

/* What is counted while requests are added. */
typedef struct moerun__prompts_sums {
  int64_t overruled[MOERUN_SETTINGS];
  int32_t logprobs_width; /* of a token, of any request at most */
  int32_t stop_bytes;     /* of any request's stops at most */
  int has_stop_texts;     /* of any request */
  int64_t sampled;        /* requests with a temperature above 0 */
} moerun__prompts_sums;

struct moerun__prompts {
  const moerun__prompts_input *input;
  moerun__prompt_options options;
  char *path; /* to open */
  char *name; /* in messages */
  int64_t count;
  int64_t num_lines; /* with requests, or with what is wrong */
  int64_t num_bad;   /* of these lines */
  int reports_bad;   /* as options.on_error has it */
  moerun__prompts_sums sums;
  size_t room;                 /* of the next six */
  moerun__prompt_place *place; /* [count] */
  moerun__bad_prompt *bad;     /* [count] NULL, NULL: nothing is wrong */
  int64_t *offset;             /* JSONL: [count + 1] of lines in the file */
  uint64_t *digest;            /* [count] */
  int32_t *positions;          /* [count] of prompt and generation */
  int32_t *new_tokens;         /* [count] of them generated, at most */
  int file;                    /* JSONL; -1: none */
  int ids_only;                /* JSONL: "prompt" is not allowed */
  moerun__npy_reader *array;   /* .npy rows */
  int64_t row_length;
  moerun__token_list text; /* score: all ids */
  int32_t window;
  int64_t scored_bytes;
};

moerun_status moerun__prompts_create(moerun__prompts **out, const char *path,
                                     const moerun__prompts_input *input,
                                     const moerun__prompt_options *options);
/* Checks a request that was just read against the limits and remembers its
 * digest as that of the next index. */
moerun_status moerun__prompts_add(moerun__prompts *prompts,
                                  moerun__prompt *prompt, int64_t offset,
                                  const char *origin);
/* What became of reading the next line, whose id is known if any is: where
 * bad ones are reported, a wrong one takes its place and is MOERUN_OK, unless
 * it is the model that is wrong. */
moerun_status moerun__prompts_settle(moerun__prompts *prompts,
                                     const moerun__prompt *prompt,
                                     int64_t offset, moerun_status status);
/* The same for request `index`, which was added before. */
moerun_status moerun__prompts_settle_at(moerun__prompts *prompts, int64_t index,
                                        const char *id, moerun_status status);
/* Puts bos in front of the tokens unless they begin with it or it is -1. */
moerun_status moerun__prompt_put_bos(moerun__prompt *prompt, int32_t bos);
/* The ids of a text, with what belongs around it. */
moerun_status moerun__prompt_encode(moerun__prompt *out, const char *text,
                                    size_t bytes,
                                    const moerun__prompts *prompts,
                                    const char *origin);
/* The ids of an array, which stands under `key`. */
moerun_status moerun__prompt_put_ids(moerun__prompt *out, const json_t *tokens,
                                     int32_t bos, const char *key,
                                     const char *origin);
/* Sets how many samples "n" asks for. */
moerun_status moerun__prompt_read_samples(moerun__prompt *out,
                                          const json_t *object,
                                          const char *origin);
/* Whether a line is one of a batch file, and whether it is an object at all. */
int moerun__prompts_is_batch_line(int *is_object, const moerun__text *line);
/* The prompt of a conversation, by the keys of its line. */
moerun_status moerun__prompt_read_messages(moerun__prompt *out,
                                           const json_t *object,
                                           const moerun__prompts *prompts,
                                           const char *origin);
/* Defaults for a request, before its own settings are read. */
void moerun__prompt_begin(moerun__prompt *prompt,
                          const moerun__prompt_options *options);

extern const moerun__prompts_input moerun__prompts_jsonl;
extern const moerun__prompts_input moerun__prompts_batch;
extern const moerun__prompts_input moerun__prompts_rows;
extern const moerun__prompts_input moerun__prompts_windows;

/* Reads the file of JSONL that prompts->input names. */
moerun_status moerun__prompts_read_line(const moerun__prompts *prompts,
                                        moerun__prompt *out, int64_t index,
                                        const char *origin);
moerun_status moerun__prompts_scan_jsonl(moerun__prompts *prompts);
moerun_status moerun__prompts_scan_rows(moerun__prompts *prompts);
moerun_status moerun__prompts_scan_windows(moerun__prompts *prompts,
                                           int is_array);

#endif
