/* Runs many requests through sessions: deals them to ranks, batches prefill
 * and decode rows into steps, samples, and brings completions to rank 0.
 *
 * Rank 0 alone has the source and the sink; it hands requests to ranks with
 * free cache pages at step boundaries (continuous batching). Two small
 * messages per rank and step carry all control: rank -> 0 (status, stop flag,
 * free room, finished bytes) and 0 -> rank (go or stop, new requests). What a
 * request produces depends on the request alone.
 *
 * A request whose hidden state or logits are no longer finite numbers ends
 * there, with MOERUN_FINISH_BROKEN: weights are broken or overflow. The others
 * go on, because rows never see each other.
 *
 * A request may come with tokens that it has generated before. They are fed as
 * its prompt is, which leaves the same bits in the cache as when they were
 * generated one by one, and draws are numbered by the tokens before them: it
 * goes on to what it would have become undisturbed.
 *
 * A request that begins as another one did, on the same rank, goes on from the
 * pages of the cache that hold what they have in common (reuse.h): the bits
 * that it would compute itself.
 *
 * The engine has the requests and works on a cache that is no session's. So
 * steps may end at any boundary, the session may go, and another one of other
 * options, another placement or another communicator of the same processes goes
 * on with the same requests: to the same bits. */
#ifndef MOERUN_SERVE_ENGINE_H
#define MOERUN_SERVE_ENGINE_H

#include "runtime/decoder/kv_cache.h"
#include "runtime/decoder/sample.h"
#include "runtime/serve/stops.h"

typedef enum moerun__finish {
  MOERUN_FINISH_LENGTH = 0, /* max_new_tokens were generated        */
  MOERUN_FINISH_EOS,        /* an end-of-sequence token was sampled */
  MOERUN_FINISH_STOP,       /* one of its own stops was generated   */
  MOERUN_FINISH_SCORED,     /* score_only: no token was generated   */
  MOERUN_FINISH_BROKEN,     /* its numbers were infinite or NaN     */
  MOERUN_FINISH_NOT,        /* under way: what it has generated so far */
  MOERUN_FINISH_NEXT,       /* under way: its next token               */
} moerun__finish;

/* Which log-probabilities a request asks for: of the model's distribution,
 * before penalties, temperature and what is left out. */
typedef struct moerun__logprobs_asked {
  int32_t generated; /* 1: of each generated token                          */
  int32_t prompt;    /* 1: of each token of the prompt but the first        */
  int32_t top;       /* with any of these: and of so many of the likeliest  */
} moerun__logprobs_asked;

/* How many of a token that is. */
static inline int32_t
moerun__logprobs_width(const moerun__logprobs_asked *asked) {
  return asked->generated || asked->prompt ? 1 + asked->top : 0;
}

typedef struct moerun__request {
  int64_t index;         /* place in the input, from 0 */
  int32_t num_prompt;    /* tokens, >= 1 */
  int32_t num_kept;      /* tokens that were generated before and stand
                             behind the prompt: it goes on after them        */
  const int32_t *prompt; /* [num_prompt + num_kept], borrowed until the next
                             `next`                                          */
  int32_t
      max_new_tokens; /* 0 with score_only, else >= 1; num_kept among them */
  int32_t
      min_new_tokens; /* before so many no end-of-sequence token and no token
                             of its stops is taken, and no stop text counts */
  int32_t score_only; /* 1: only the log-probability of the prompt's tokens
                             1..num_prompt-1, each given those before it      */
  moerun__sampling sampling;
  moerun__stops stops;             /* none with score_only */
  moerun__logprobs_asked logprobs; /* zeros with score_only */
  int32_t priority; /* class, 0 first, up to 255: a capacity drops experts of
                       high classes first                                    */
} moerun__request;

typedef struct moerun__completion {
  int64_t index;
  int32_t rank; /* that ran it */
  moerun__finish finish;
  int32_t num_prompt;
  int32_t num_tokens;     /* generated, the tokens that ended it and what the
                             request came with included                      */
  const int32_t *token;   /* [num_tokens], borrowed */
  double log_probability; /* score_only: sum, natural logarithm */
  int32_t broken;         /* MOERUN_BROKEN_… (broken.h) of the first position
                             where they were; 0: nowhere                     */
  int32_t broken_position;
  int32_t logprobs_width;      /* as of the request; 0 of requests under way */
  int32_t num_prompt_logprobs; /* num_prompt - 1, or 0 if nobody asked */
  int32_t num_logprobs;        /* num_tokens, or 0 if nobody asked */
  const moerun__logprob *logprob; /* [num_prompt_logprobs + num_logprobs]
                                     [logprobs_width], the token itself first,
                                     borrowed                                */
  int32_t num_traced;             /* rows fed to the model, 0 unless tracing */
  const int16_t *trace; /* [num_traced][num_moe_layers][K] expert ids in gate
                              order, borrowed */
} moerun__completion;

/* Sets how many log-probabilities the finished completion of a request has, by
 * num_tokens. */
static inline void
moerun__completion_count_logprobs(moerun__completion *completion,
                                  const moerun__request *request) {
  const moerun__logprobs_asked *asked = &request->logprobs;
  completion->logprobs_width = moerun__logprobs_width(asked);
  completion->num_prompt_logprobs = asked->prompt ? request->num_prompt - 1 : 0;
  completion->num_logprobs = asked->generated ? completion->num_tokens : 0;
}

/* What rank 0 knows of the run at a step boundary. */
typedef struct moerun__progress {
  int64_t steps;
  int64_t prompt_tokens; /* rows fed so far, all ranks: of prompts, and of the
                            tokens that requests came with                  */
  int64_t reused_tokens; /* that would be among those, but were in the cache of
                            their rank already                              */
  int64_t generated_tokens;
  int64_t finished;       /* requests */
  int64_t active;         /* requests on ranks now */
  double prefill_seconds; /* steps in which any rank fed prompt rows   */
  double decode_seconds;  /* the other steps                           */
  int64_t decode_tokens;  /* generated in those other steps            */
  double load_routed;     /* of the last step: rows of the busiest rank over
                             the mean, as routed                        */
  double load;            /* and as computed; 0: not balanced           */
  double idle;            /* of the step before: share of the expert stage that
                             ranks wait for the last                    */
  int32_t last_rank;      /* which that was: busy for longest           */
  int64_t offered;        /* assignments under a capacity so far        */
  int64_t dropped;        /* and those that it dropped                  */
} moerun__progress;

typedef struct moerun__engine_callbacks {
  void *context;
  /* Rank 0: *has = 1 and the next request, or *has = 0 at the end. */
  moerun_status (*next)(void *context, moerun__request *request, int *has);
  /* Rank 0: keeps what it needs before it returns. */
  moerun_status (*finished)(void *context, const moerun__completion *done);
  /* Rank 0, where the engine streams: a token of a request that goes on, of the
   * last step; keeps what it needs before it returns. */
  moerun_status (*streamed)(void *context, const moerun__completion *next);
  /* Rank 0, each step; may be NULL. */
  void (*progress)(void *context, const moerun__progress *progress);
  /* Any rank: non-zero asks all to stop at the step boundary; may be NULL. */
  int (*stop_requested)(void *context);
  /* Rank 0: takes a request under way that has generated something in this
   * run; keeps what it needs before it returns. All such requests come before
   * a stop, and when they are asked for. NULL: none ever do. */
  moerun_status (*unfinished)(void *context, const moerun__completion *part);
  /* Rank 0: those of one step boundary have all come. NULL with `unfinished`
   * alone. */
  moerun_status (*unfinished_end)(void *context);
  /* Rank 0, each step at which there are requests under way: non-zero asks for
   * them, and they come; may be NULL. */
  int (*unfinished_wanted)(void *context);
} moerun__engine_callbacks;

typedef struct moerun__engine_options {
  int32_t record_trace;
  int32_t prefill_chunk;   /* most prompt rows of one sequence in a step; 0: as
                            many as the session's max_tokens allow          */
  int32_t logprobs_width;  /* of any request at most; 0: none asks for them */
  int32_t shares_prefixes; /* 1: what requests begin with in common is fed once
                              on a rank, where no row has to be fed for other
                              reasons: for a trace, a score, log-probabilities
                              of the prompt, or a capacity                   */
  int32_t streams;         /* 1: each token comes to rank 0 after its step */
  int32_t stop_bytes;      /* of any request's stops; 0: none has any */
  const moerun__tokenizer *tokenizer; /* borrowed: the same on all ranks, where
                                         stops are texts; else NULL          */
} moerun__engine_options;

typedef struct moerun__engine moerun__engine;

/* [collective] No request yet. The cache has a seat for each sequence that this
 * rank may work on; it and what `callbacks` points to are borrowed and outlive
 * the engine. config and comm say sizes, and which process is rank 0. Nobody
 * else takes pages of the cache while the engine is there. */
moerun_status moerun__engine_create(moerun__engine **out,
                                    const moerun__model_config *config,
                                    moerun__kv_cache *cache, moerun_comm *comm,
                                    const moerun__engine_options *options,
                                    const moerun__engine_callbacks *callbacks);
/* Requests under way are gone, and their pages stay taken. */
void moerun__engine_destroy(moerun__engine *engine);

/* What steps run with. */
typedef struct moerun__engine_stretch {
  moerun_session *session;           /* on the engine's cache */
  struct moerun__replacer *replacer; /* of the session, replace.h; NULL: the
                                        placement stays as it is             */
  int64_t most_steps;                /* the same on all ranks; 0: to the end */
} moerun__engine_stretch;

typedef enum moerun__engine_end {
  MOERUN_ENGINE_DONE = 0, /* the source is dry, and all is finished          */
  MOERUN_ENGINE_STOPPED,  /* a stop was asked for; unfinished requests are not
                             reported but by `unfinished`                    */
  MOERUN_ENGINE_PAUSED,   /* most_steps are over: another stretch may follow,
                             which first reports what the last step finished */
} moerun__engine_end;

/* [collective] Steps until *end. The session's communicator has the processes
 * of the engine's, and its rank 0 is the same process. Allocates once, before
 * its first step, and gives that back. A request that can never fit is refused
 * with ERR_OVERFLOW before it runs. After a failure the engine can only be
 * destroyed. */
moerun_status moerun__engine_serve(moerun__engine_end *end,
                                   moerun__engine *engine,
                                   const moerun__engine_stretch *stretch);

/* [collective] A whole run in one stretch: an engine on the session's cache is
 * created, serves, and is destroyed. *stopped: a stop was asked for; *progress:
 * as below. */
moerun_status moerun__engine_run(const moerun__engine_stretch *stretch,
                                 const moerun__engine_options *options,
                                 const moerun__engine_callbacks *callbacks,
                                 moerun__progress *progress, int *stopped);

/* What rank 0 knows of all stretches so far; zeros elsewhere. Borrowed. */
const moerun__progress *moerun__engine_progress(const moerun__engine *engine);

/* Bytes that an engine and a stretch with this session allocate. */
size_t moerun__engine_bytes(const moerun_session *session,
                            const moerun__engine_options *options);

#endif
