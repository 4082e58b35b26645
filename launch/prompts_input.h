/* Private to prompts*.c: the object, and one reader for each kind of input. */
#ifndef MOERUN_LAUNCH_PROMPTS_INPUT_H
#define MOERUN_LAUNCH_PROMPTS_INPUT_H

#include "launch/prompts.h"
#include "runtime/base/npy.h"

typedef struct moerun__prompts_input moerun__prompts_input;

/* What one kind of input does. */
struct moerun__prompts_input {
  /* Fills request (but for index), tokens and id of request `index`; where
   * that is in the file, for messages, is `origin`. */
  moerun_status (*read)(const moerun__prompts *prompts, moerun__prompt *out,
                        int64_t index, const char *origin);
};

struct moerun__prompts {
  const moerun__prompts_input *input;
  moerun__prompt_options options;
  char *path;
  int64_t count;
  size_t room;               /* of the next two */
  int64_t *offset;           /* JSONL: [count + 1] of lines in the file */
  uint64_t *digest;          /* [count] */
  int file;                  /* JSONL; -1: none */
  int ids_only;              /* JSONL: "prompt" is not allowed */
  moerun__npy_reader *array; /* .npy rows */
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
/* Defaults for a request, before its own settings are read. */
void moerun__prompt_begin(moerun__prompt *prompt,
                          const moerun__prompt_options *options);

extern const moerun__prompts_input moerun__prompts_jsonl;
extern const moerun__prompts_input moerun__prompts_rows;
extern const moerun__prompts_input moerun__prompts_windows;

moerun_status moerun__prompts_scan_jsonl(moerun__prompts *prompts);
moerun_status moerun__prompts_scan_rows(moerun__prompts *prompts);
moerun_status moerun__prompts_scan_windows(moerun__prompts *prompts,
                                           int is_array);

#endif
