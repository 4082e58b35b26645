/* Where requests come from: a JSONL file of prompts, plain text by lines, token
 * ids as .npy or JSONL, or a text to be scored in windows. The whole input is
 * checked when it is opened; of each request only its place in the file and its
 * digest stay in memory, the rest is read again when it is handed out. */
#ifndef MOERUN_REQUESTS_PROMPTS_H
#define MOERUN_REQUESTS_PROMPTS_H

#include "runtime/base/json.h"
#include "runtime/serve/engine.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"

typedef struct moerun__prompts moerun__prompts;

/* Settings that a request may have of its own: rows of prompt_settings.c. */
typedef enum moerun__prompt_setting {
  MOERUN_SETTING_MAX_NEW_TOKENS = 0,
  MOERUN_SETTING_TEMPERATURE,
  MOERUN_SETTING_TOP_P,
  MOERUN_SETTING_SEED,
  MOERUN_SETTING_TOP_K,
  MOERUN_SETTING_MIN_P,
  MOERUN_SETTING_REPETITION_PENALTY,
  MOERUN_SETTING_PRESENCE_PENALTY,
  MOERUN_SETTING_FREQUENCY_PENALTY,
  MOERUN_SETTING_MIN_NEW_TOKENS,
  MOERUN_SETTING_LOGPROBS,
  MOERUN_SETTING_PROMPT_LOGPROBS,
  MOERUN_SETTING_TOP_LOGPROBS,
  MOERUN_SETTINGS,
} moerun__prompt_setting;

/* What conversations are written by. */
typedef struct moerun__prompt_chat {
  const moerun__chat_template *by; /* borrowed; NULL: there is none, or */
  const char *refused;             /* borrowed: why it cannot be used   */
  struct tm clock;                 /* the local time that templates are told */
} moerun__prompt_chat;

/* What becomes of the others where a request is wrong. */
typedef enum moerun__on_error {
  MOERUN_ON_ERROR_AUTO = 0, /* as LINE in a batch file, else as STOP          */
  MOERUN_ON_ERROR_STOP,     /* it ends the reading                            */
  MOERUN_ON_ERROR_LINE,     /* it takes its place with the reason             */
} moerun__on_error;

/* Appends the text of a conversation: of "messages" and what templates take
 * beside it, keys of the object. */
moerun_status moerun__messages_render(moerun__text *out, const json_t *object,
                                      const moerun__prompt_chat *chat,
                                      const char *origin);

typedef struct moerun__prompt_options {
  const moerun__tokenizer *tokenizer; /* borrowed; NULL: ids only        */
  moerun__prompt_chat chat; /* for conversations                            */
  int32_t text_bos;         /* token in front of texts, -1: none; never a
                             second one                                      */
  const moerun__token_list *text_front;  /* borrowed: it and those between it
                                            and the text; NULL: none between */
  const moerun__token_list *text_behind; /* borrowed: those behind texts; NULL:
                                            none                             */
  int32_t tokens_bos;     /* the same as text_bos, for given ids             */
  int32_t vocab_size;     /* V: ids are 0 .. V-1                             */
  int32_t max_positions;  /* limit of prompt and generated tokens together */
  int32_t kv_tokens;      /* the same limit from the cache of a rank      */
  int32_t max_new_tokens; /* this and the next three hold for requests that
                             do not say otherwise                        */
  int32_t min_new_tokens;
  moerun__logprobs_asked logprobs;
  const char *stop;          /* borrowed: a text that ends all; NULL: none */
  moerun__sampling sampling; /* each request has a stream of its own of its
                                seed                                         */
  uint64_t run_digest; /* of all else that a request's output depends on */
  int drops;           /* 1: by capacity, so that priorities count         */
  moerun__on_error on_error;
  unsigned fixed;   /* moerun__prompt_setting bits: what holds for requests
                          that say otherwise, too                       */
  unsigned open;    /* such bits: what nobody gives, so that the requests of
                          a batch file have the API's own defaults      */
  int plain;        /* a line is a text, not an object               */
  const char *name; /* of the input in messages; NULL: its path      */
} moerun__prompt_options;

/* What a line of a batch file says of its answer. */
typedef struct moerun__prompt_batch {
  int is_chat;        /* /v1/chat/completions, not /v1/completions */
  int echoes;         /* the prompt stands in front of what is generated */
  int is_echo;        /* and nothing that is generated does */
  moerun__text model; /* as JSON; empty: it names none */
  moerun__text text;  /* of the prompt, if it was given as a text */
} moerun__prompt_batch;

/* Where a request stands in its line: a line may ask for several samples, and
 * in a batch file have several prompts; each is a request. */
typedef struct moerun__prompt_place {
  int64_t line;  /* among the lines with requests, from 0 */
  int32_t part;  /* among the requests of the line, from 0 */
  int32_t parts; /* how many those are; 1 of a line that is wrong */
} moerun__prompt_place;

/* One request with its buffers; all zero at first, used again and again. */
typedef struct moerun__prompt {
  moerun__request request; /* its tokens lie in `tokens` */
  moerun__prompt_place place;
  int32_t samples; /* of each prompt of the line: this is part % samples */
  moerun__prompt_batch batch; /* of a batch file alone */
  moerun__text id;            /* as JSON: a string or an integer */
  int has_id;                 /* of its own, not its number       */
  int has_seed;               /* its own, not that of the options */
  uint64_t digest;
  unsigned overruled; /* bits of settings that `fixed` took from it */
  moerun__token_list tokens;
  moerun__token_list stop_tokens; /* as the stops of the request have them */
  moerun__text stop_text;
  moerun__text line;
  json_t *parsed;      /* line parsed_line, if it has several prompts; it stays
                          for the next one; NULL: none                       */
  int64_t parsed_line; /* among the lines with requests */
  int blames_model;    /* what is wrong with it is the model, for all lines */
} moerun__prompt;

void moerun__prompt_clear(moerun__prompt *prompt);
/* Puts the options' tokens around those of a text, which are all that it has;
 * what begins with the first of them gets none in front. */
moerun_status moerun__prompt_put_around(moerun__prompt *prompt,
                                        const moerun__prompt_options *options);

/* One JSON object a line; blank lines do not count. Keys: "prompt" (a text),
 * "messages" (a conversation, with what templates take beside it) or "tokens"
 * (ids); optional "id" (string or integer, unique; default: the place
 * among the lines, from 0), "n" (samples), and settings (prompt_settings.c). A
 * file whose first object has "custom_id", or "url" and "body", is a batch file
 * (prompts_batch.c). Without a seed
 * of its own a request draws from the stream of the run's seed that its id
 * names, so that requests are independent and each depends on itself alone;
 * with one, from the seed's stream 0, whatever its id. Further samples have
 * streams that follow from those and their number. With `plain`, a line is
 * the text of a prompt, without its line end. */
moerun_status moerun__prompts_open(moerun__prompts **out, const char *path,
                                   const moerun__prompt_options *options);
/* Ids only: a .npy file of integers (one dimension: one request; two: one
 * request a row, negative numbers at its end are padding), or JSONL as above
 * with "tokens". */
moerun_status
moerun__prompts_open_tokens(moerun__prompts **out, const char *path,
                            const moerun__prompt_options *options);
/* A text, or a .npy file of one dimension of ids, cut into windows of `window`
 * tokens; each is a request with score_only. Without a bos token in front, a
 * window's first token is not scored. */
moerun_status moerun__prompts_open_score(moerun__prompts **out,
                                         const char *path, int32_t window,
                                         const moerun__prompt_options *options);
/* Whether the file begins like a .npy file. */
moerun_status moerun__prompts_is_array(int *out, const char *path);
void moerun__prompts_destroy(moerun__prompts *prompts);

int64_t moerun__prompts_count(const moerun__prompts *prompts);
moerun__prompt_place moerun__prompts_place(const moerun__prompts *prompts,
                                           int64_t index);
/* The request at this part of this line; -1: there is none. */
int64_t moerun__prompts_find(const moerun__prompts *prompts, int64_t line,
                             int32_t part);
/* Whether it is a batch file, whose results are of its form. */
int moerun__prompts_are_batch(const moerun__prompts *prompts);
/* Lines of the file that are not blank; one may have several requests. */
int64_t moerun__prompts_num_lines(const moerun__prompts *prompts);
/* How many lines are wrong, if that is reported. They are not read. */
int64_t moerun__prompts_num_bad(const moerun__prompts *prompts);
/* After the end: the error that says how many those were, if any were. */
moerun_status moerun__prompts_check(const moerun__prompts *prompts,
                                    int has_results);
/* What is wrong with request `index`, and *id, its id as JSON; NULL:
 * nothing. */
const char *moerun__prompts_error(const moerun__prompts *prompts, int64_t index,
                                  const char **id);
/* Requests whose own setting was another and does not hold. */
int64_t moerun__prompts_overruled(const moerun__prompts *prompts,
                                  moerun__prompt_setting setting);
/* Requests whose tokens are drawn: their temperature is above 0; none of
 * NULL. */
int64_t moerun__prompts_sampled(const moerun__prompts *prompts);
/* Of any request's stops at most, and whether any is a text. */
int32_t moerun__prompts_stop_bytes(const moerun__prompts *prompts);
int moerun__prompts_have_stop_texts(const moerun__prompts *prompts);
/* Log-probabilities of one token that any request asks for, at most. */
int32_t moerun__prompts_logprobs_width(const moerun__prompts *prompts);
/* Prompt and generated tokens of request `index` together, at most. */
int32_t moerun__prompts_positions(const moerun__prompts *prompts,
                                  int64_t index);
/* Of these, the generated ones. */
int32_t moerun__prompts_new_tokens(const moerun__prompts *prompts,
                                   int64_t index);
uint64_t moerun__prompts_digest(const moerun__prompts *prompts, int64_t index);
/* Request `index`. ERR_FORMAT if the file is not what it was when opened. */
moerun_status moerun__prompts_read(const moerun__prompts *prompts,
                                   moerun__prompt *out, int64_t index);
/* Whether the requests are windows to be scored. */
int moerun__prompts_are_scored(const moerun__prompts *prompts);
/* Bytes of text whose tokens are scored; 0 if ids were given. */
int64_t moerun__prompts_scored_bytes(const moerun__prompts *prompts);

#endif
