/* `moerun chat`: a conversation, turn by turn.
 *
 * Rank 0 reads what is said and keeps the history, which the model's own
 * template writes as a prompt each time; what the last turn left in the cache
 * is found there again. A turn is a run of the engine with one request, whose
 * text is streamed. Ctrl-C ends the answer, whose beginning stays in the
 * history; at the prompt it ends the conversation, as the end of stdin does. A
 * launcher, which Ctrl-C would end, can send SIGUSR2 in its place. */
#include "launch/command.h"

#include "launch/options/effect.h"
#include "launch/options/gate_options.h"
#include "launch/options/input_options.h"
#include "launch/options/placements.h"
#include "launch/options/sampling_options.h"
#include "launch/results/result_line.h"
#include "launch/run/node_memory.h"
#include "launch/run/run.h"
#include "launch/run/signals.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/stop.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { BLOCK = 4096, ASSUMED_POSITIONS = 4096 };

typedef struct chat {
  moerun__run run;
  /* Rank 0 only. */
  json_t *messages;
  moerun__prompt_options options;
  moerun__prompts *prompts; /* of one turn: one request, and so are these */
  moerun__stream *stream;
  moerun__prompt prompt;
  int is_handed_out;
  int is_answered; /* or begun to be */
  moerun__result_line line;
  json_t *kwargs;       /* what the template is told beside; NULL: nothing */
  moerun__text said;    /* by the user */
  moerun__text pending; /* what was read behind it */
  int is_at_end;        /* of stdin */
  int64_t num_said;
  int64_t num_refused; /* of those, what was not answered */
} chat;

/* ---- Before the weights -------------------------------------------------- */

/* Of a conversation, in whole pages of the cache. */
static int32_t positions_of(const moerun__run *r) {
  const int64_t asked = moerun__config_int(r->config, "kv_tokens");
  const int64_t most = moerun__round_up(asked > 0 ? asked : ASSUMED_POSITIONS,
                                        MOERUN_PAGE_POSITIONS);
  return most < r->model_config.max_positions ? moerun__to_int(most)
                                              : r->model_config.max_positions;
}

static moerun_status say(chat *c, const char *role, const moerun__text *text) {
  moerun_status status = MOERUN_OK;
  moerun__text content = {0};
  json_t *value = NULL;
  /* As JSON first: it mends what is no UTF-8. */
  MOERUN_TRY(moerun__text_json(&content, text->bytes, text->count));
  value = json_loadb(content.bytes, content.count, JSON_DECODE_ANY, NULL);
  MOERUN_REQUIRE(value != NULL &&
                     json_array_append_new(c->messages,
                                           json_pack("{s:s, s:O}", "role", role,
                                                     "content", value)) == 0,
                 MOERUN_ERR_NOMEM, "no memory for a message");
done:
  json_decref(value);
  moerun__text_clear(&content);
  return status;
}

/* The history begins with what the system is told, if it is. */
static moerun_status reset(chat *c) {
  moerun_status status = MOERUN_OK;
  moerun__text text = {0};
  const char *system = moerun__config_text(c->run.config, "system");
  json_decref(c->messages);
  c->messages = json_array();
  MOERUN_REQUIRE(c->messages != NULL, MOERUN_ERR_NOMEM, "no memory to talk");
  if (system[0] == '\0') goto done;
  MOERUN_TRY(moerun__text_append(&text, system, strlen(system)));
  MOERUN_TRY(say(c, "system", &text));
done:
  moerun__text_clear(&text);
  return status;
}

static moerun_status check_effects(chat *c, unsigned parts) {
  const moerun__run *r = &c->run;
  const moerun__effect_facts effects = {
      .subcommand = r->invocation->subcommand,
      .config = r->config,
      .num_ranks = moerun_comm_size(r->comm),
      .model = &r->model_config,
      .sampled = c->options.sampling.temperature > 0};
  r->invocation->phase = MOERUN_PHASE_USAGE;
  const moerun_status status = moerun__effect_check(&effects, parts);
  if (status == MOERUN_OK) r->invocation->phase = MOERUN_PHASE_FILES;
  return status;
}

/* --chat-template-kwargs, as "chat_template_kwargs" of a line of --prompts. */
static moerun_status read_kwargs(chat *c) {
  moerun_status status = MOERUN_OK;
  json_error_t error;
  const char *text = moerun__config_text(c->run.config, "chat_template_kwargs");
  if (text[0] == '\0') goto done;
  c->kwargs = json_loads(text, JSON_REJECT_DUPLICATES, &error);
  MOERUN_REQUIRE(json_is_object(c->kwargs), MOERUN_ERR_INVALID,
                 "--chat-template-kwargs: expected a JSON object such as "
                 "{\"enable_thinking\": false}, found %.100s",
                 text);
done:
  return status;
}

static moerun_status open_options(chat *c) {
  moerun_status status = MOERUN_OK;
  moerun__run *r = &c->run;
  const moerun__config *config = r->config;
  const char *stop = moerun__config_text(config, "stop");
  MOERUN_TRY(moerun__tokenizer_load(&r->files.tokenizer, r->model_path));
  moerun__input_say_vocabulary(r->files.tokenizer, r->model_config.vocab_size,
                               r->model_path);
  MOERUN_TRY(moerun__chat_template_load(&r->files.chat, r->model_path));
  MOERUN_REQUIRE(r->files.chat != NULL, MOERUN_ERR_UNSUPPORTED,
                 "%s: the model has no chat template (chat_template.jinja, or "
                 "in tokenizer_config.json): `moerun run --prompt` completes "
                 "texts",
                 r->model_path);
  c->options = (moerun__prompt_options){
      .tokenizer = r->files.tokenizer,
      .chat = {.by = r->files.chat},
      .text_bos = -1,
      .tokens_bos = -1,
      .vocab_size = r->model_config.vocab_size,
      .max_positions = r->model_config.max_positions,
      .kv_tokens = positions_of(r),
      .max_new_tokens =
          moerun__to_int(moerun__config_int(config, "max_new_tokens")),
      .min_new_tokens =
          moerun__to_int(moerun__config_int(config, "min_new_tokens")),
      .stop = stop[0] != '\0' ? stop : NULL,
      .sampling = moerun__sampling_of(config)};
  MOERUN_TRY(moerun__generation_config_apply(&c->options.sampling, config));
  r->left.need = (moerun__cache_need){
      .kv_tokens = moerun__to_int(
          moerun__round_up(positions_of(r), MOERUN_PAGE_POSITIONS)),
      .max_positions = positions_of(r),
      .stop_bytes =
          stop[0] != '\0' ? moerun__to_int((int64_t)strlen(stop) + 1) : 0,
      .has_stop_texts = stop[0] != '\0'};
  MOERUN_TRY(reset(c));
  MOERUN_TRY(
      check_effects(c, (unsigned)MOERUN_EFFECT_MODEL | MOERUN_EFFECT_REQUESTS));
  MOERUN_TRY(moerun__predict(&r->predicted, config, r->placement, &r->left.need,
                             r->how));
done:
  return status;
}

/* Local to a rank. */
static moerun_status plan(chat *c) {
  moerun_status status = MOERUN_OK;
  moerun__run *r = &c->run;
  MOERUN_TRY(moerun__input_check_stop(r->config));
  MOERUN_TRY(moerun__progress_check(r->config));
  MOERUN_TRY(moerun__gate_options_check(r->config));
  MOERUN_TRY(read_kwargs(c));
  moerun__input_say_length(r->config);
  MOERUN_TRY(check_effects(c, MOERUN_EFFECT_OPTIONS));
  MOERUN_TRY(moerun__model_config_load(&r->model_config, r->model_path));
  MOERUN_TRY(moerun__kernels_find(&r->kernels,
                                  moerun__config_text(r->config, "kernels")));
  MOERUN_TRY(moerun__placement_for(&r->placement, r->config,
                                   moerun_comm_size(r->comm)));
  if (moerun_comm_rank(r->comm) == 0) MOERUN_TRY(open_options(c));
done:
  return status;
}

/* ---- What is said -------------------------------------------------------- */

/* Waits for stdin; *is_over: Ctrl-C. */
static moerun_status wait_for_input(int *is_over) {
  moerun_status status = MOERUN_OK;
  struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
  int ready = 0;
  *is_over = 0;
  while (ready <= 0 && !*is_over) {
    ready = poll(&in, 1, MOERUN_LOOK_MS);
    *is_over = moerun__signals_take_interrupt();
    if (!*is_over) {
      MOERUN_TRY(moerun__stop_check("chat", "it waited for stdin"));
    }
  }
done:
  return status;
}

/* Appends the next line, without its end, to what is said; *has = 0: there is
 * none. */
static moerun_status read_line(chat *c, int *has) {
  moerun_status status = MOERUN_OK;
  moerun__text *pending = &c->pending;
  const char *end = NULL;
  int is_over = 0;
  while (end == NULL && !c->is_at_end) {
    char block[BLOCK];
    end = pending->count > 0 ? memchr(pending->bytes, '\n', pending->count)
                             : NULL;
    if (end != NULL) break;
    MOERUN_TRY(wait_for_input(&is_over));
    const ssize_t got = is_over ? 0 : read(STDIN_FILENO, block, sizeof block);
    if (got < 0 && errno == EINTR) continue;
    MOERUN_REQUIRE(got >= 0, MOERUN_ERR_IO, "stdin: cannot be read");
    c->is_at_end = got == 0;
    if (got > 0) MOERUN_TRY(moerun__text_append(pending, block, (size_t)got));
  }
  *has = !is_over && (end != NULL || pending->count > 0);
  if (!*has) goto done;
  const size_t count =
      end != NULL ? (size_t)(end - pending->bytes) : pending->count;
  const size_t taken = count + (end != NULL);
  const int is_dos = count > 0 && pending->bytes[count - 1] == '\r';
  MOERUN_TRY(
      moerun__text_append(&c->said, pending->bytes, count - (size_t)is_dos));
  pending->count -= taken;
  memmove(pending->bytes, pending->bytes + taken, pending->count);
done:
  return status;
}

/* What is said next: a line, and the one behind it where it ends with a
 * backslash. *has = 0: nothing. */
static moerun_status read_said(chat *c, int *has) {
  moerun_status status = MOERUN_OK;
  moerun__text *said = &c->said;
  int goes_on = 1;
  said->count = 0;
  while (goes_on) {
    if (isatty(STDIN_FILENO)) {
      (void)fputs(said->count == 0 ? "> " : ". ", stderr);
    }
    MOERUN_TRY(read_line(c, has));
    goes_on = *has && said->count > 0 && said->bytes[said->count - 1] == '\\';
    if (goes_on) said->bytes[said->count - 1] = '\n';
  }
  /* The end of stdin ends a line, too. */
  *has = *has || (c->is_at_end && said->count > 0);
  MOERUN_TRY(moerun__text_append(said, "", 0));
done:
  return status;
}

/* ---- What becomes of it -------------------------------------------------- */

/* Says why there is no answer, as the last error does, and what to do. */
static void refuse(chat *c, const char *advice) {
  c->num_said++;
  c->num_refused++;
  (void)fprintf(stderr, "moerun: %s%s\n", moerun_last_error(), advice);
}

static int is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* A slash and a word of letters; a path goes on with another slash. */
static int is_command(const char *said) {
  const char *at = said + 1;
  if (said[0] != '/') return 0;
  while (is_letter(*at)) {
    at++;
  }
  return at > said + 1 && (*at == '\0' || *at == ' ' || *at == '\t');
}

/* *is_over: it was /exit. */
static moerun_status obey(chat *c, int *is_over) {
  moerun_status status = MOERUN_OK;
  moerun__text *said = &c->said;
  while (strchr(" \t", said->bytes[said->count - 1]) != NULL) {
    said->count--;
  }
  said->bytes[said->count] = '\0';
  *is_over = strcmp(said->bytes, "/exit") == 0;
  if (strcmp(said->bytes, "/reset") == 0) {
    MOERUN_TRY(reset(c));
  } else if (strcmp(said->bytes, "/help") == 0) {
    (void)fputs("/reset forgets what was said, /exit ends the conversation; a "
                "line that ends\nwith a backslash goes on in the next; Ctrl-C "
                "ends an answer.\n",
                stderr);
  } else if (!*is_over) {
    (void)moerun__fail(MOERUN_ERR_FORMAT, __FILE__, __LINE__,
                       "chat: unknown command \"%.100s\": expected /help, "
                       "/reset or /exit alone",
                       said->bytes);
    refuse(c, "; with a blank in front of it, it is said to the model");
  }
done:
  return status;
}

/* Such as the arrow keys of a terminal. */
static moerun_status check_text(const moerun__text *said) {
  moerun_status status = MOERUN_OK;
  for (size_t i = 0; i < said->count; i++) {
    const unsigned char byte = (unsigned char)said->bytes[i];
    MOERUN_REQUIRE(
        (byte >= ' ' && byte != 0x7F) || byte == '\t' || byte == '\n',
        MOERUN_ERR_FORMAT, "chat: expected text, found the control byte 0x%02X",
        (unsigned)byte);
  }
done:
  return status;
}

static void end_turn(chat *c) {
  moerun__stream_destroy(c->stream);
  moerun__result_line_clear(&c->line);
  moerun__prompt_clear(&c->prompt);
  moerun__prompts_destroy(c->prompts);
  moerun__spool_clear(&c->run.files.input);
  memset(&c->run.files.input, 0, sizeof c->run.files.input);
  c->stream = NULL;
  c->prompts = NULL;
}

/* The history as a file of one request. */
static moerun_status begin_turn(chat *c) {
  moerun_status status = MOERUN_OK;
  moerun__spool *input = &c->run.files.input;
  moerun__text line = {0};
  char *messages = NULL;
  char *kwargs = NULL;
  const time_t now = time(NULL);
  (void)localtime_r(&now, &c->options.chat.clock);
  MOERUN_TRY(say(c, "user", &c->said));
  messages = json_dumps(c->messages, JSON_COMPACT);
  if (c->kwargs != NULL) kwargs = json_dumps(c->kwargs, JSON_COMPACT);
  MOERUN_REQUIRE(messages != NULL && (c->kwargs == NULL || kwargs != NULL),
                 MOERUN_ERR_NOMEM, "no memory for a turn");
  MOERUN_TRY(moerun__text_print(&line, "{\"messages\":%s", messages));
  if (kwargs != NULL) {
    MOERUN_TRY(
        moerun__text_print(&line, ",\"chat_template_kwargs\":%s", kwargs));
  }
  MOERUN_TRY(moerun__text_append(&line, "}\n", 2));
  MOERUN_TRY(moerun__spool_text(input, line.bytes, line.count, "chat"));
  c->options.name = input->name.bytes;
  MOERUN_TRY(moerun__prompts_open(&c->prompts, input->path.bytes, &c->options));
  MOERUN_TRY(moerun__stream_create(&c->stream, c->prompts, c->options.tokenizer,
                                   NULL));
  c->line.prompts = c->prompts;
  c->line.tokenizer = c->options.tokenizer;
  c->is_handed_out = 0;
  c->is_answered = 0;
done:
  free(messages);
  free(kwargs);
  moerun__text_clear(&line);
  return status;
}

/* *is_begun = 0: it cannot be answered, and so was not said. */
static moerun_status try_turn(chat *c, int *is_begun) {
  moerun_status status = MOERUN_OK;
  const size_t before = json_array_size(c->messages);
  status = check_text(&c->said);
  *is_begun = 0;
  if (status != MOERUN_OK) {
    refuse(c, ": nothing was said (`rlwrap moerun chat` has arrow keys)");
    status = MOERUN_OK;
    goto done;
  }
  status = begin_turn(c);
  *is_begun = status == MOERUN_OK;
  c->num_said += *is_begun;
  if (*is_begun) goto done;
  if (status != MOERUN_ERR_FORMAT && status != MOERUN_ERR_UNSUPPORTED) {
    goto done;
  }
  refuse(c, "; /reset forgets what was said");
  while (json_array_size(c->messages) > before) {
    (void)json_array_remove(c->messages, json_array_size(c->messages) - 1);
  }
  end_turn(c);
  status = MOERUN_OK;
done:
  return status;
}

/* Who talks through a pipe learns from the exit code that answers are
 * missing. */
static moerun_status check_answered(const chat *c) {
  moerun_status status = MOERUN_OK;
  const int is_watched =
      isatty(STDIN_FILENO) ||
      moerun__config_text(c->run.config, "progress_terminal")[0] != '\0';
  MOERUN_REQUIRE(c->num_refused == 0 || is_watched, MOERUN_ERR_FORMAT,
                 "chat: %lld of %lld lines were refused",
                 (long long)c->num_refused, (long long)c->num_said);
done:
  return status;
}

/* Rank 0: until something is said that can be answered; *has = 0: the
 * conversation is over. */
static moerun_status listen(chat *c, int *has) {
  moerun_status status = MOERUN_OK;
  int is_begun = 0;
  int is_over = 0;
  while (!is_begun && !is_over) {
    MOERUN_TRY(read_said(c, has));
    is_over = !*has;
    if (is_over || c->said.count == 0) continue;
    if (is_command(c->said.bytes)) {
      MOERUN_TRY(obey(c, &is_over));
    } else {
      MOERUN_TRY(try_turn(c, &is_begun));
    }
  }
  *has = is_begun;
  if (is_over) MOERUN_TRY(check_answered(c));
done:
  return status;
}

/* ---- The answer ---------------------------------------------------------- */

static moerun_status next_request(void *context, moerun__request *request,
                                  int *has) {
  moerun_status status = MOERUN_OK;
  chat *c = context;
  *has = !c->is_handed_out;
  if (!*has) goto done;
  c->is_handed_out = 1;
  MOERUN_TRY(moerun__prompts_read(c->prompts, &c->prompt, 0));
  *request = c->prompt.request;
done:
  return status;
}

static moerun_status take_token(void *context, const moerun__completion *next) {
  const chat *c = context;
  return moerun__stream_token(c->stream, next);
}

static moerun_status take_answer(void *context, const moerun__completion *got) {
  moerun_status status = MOERUN_OK;
  chat *c = context;
  MOERUN_REQUIRE(got->finish != MOERUN_FINISH_BROKEN, MOERUN_ERR_FORMAT,
                 "%s: the model's weights are broken or overflow",
                 c->run.model_path);
  MOERUN_TRY(moerun__prompts_read(c->prompts, &c->line.prompt, 0));
  c->line.part.count = 0;
  MOERUN_TRY(moerun__result_text(&c->line, got));
  MOERUN_TRY(say(c, "assistant", &c->line.part));
  c->is_answered = 1;
  MOERUN_TRY(moerun__stream_end(c->stream, got));
  if (got->finish == MOERUN_FINISH_LENGTH) {
    LOG_ROOT(MOERUN_LOG_INFO,
             "the answer was cut at --max-new-tokens %d, and may have more to "
             "say",
             c->options.max_new_tokens);
  }
done:
  return status;
}

/* What there is of an answer that ends here. */
static moerun_status end_answers(void *context) {
  (void)context;
  return MOERUN_OK;
}

static int is_stop_requested(void *context) {
  (void)context;
  return moerun__signals_ask_to_stop();
}

/* [collective] */
static moerun_status answer(chat *c) {
  moerun_status status = MOERUN_OK;
  moerun__run *r = &c->run;
  int stopped = 0;
  const moerun__engine_stretch stretch = {r->session, r->replacer, 0};
  const moerun__engine_options options = {
      .prefill_chunk =
          moerun__to_int(moerun__config_int(r->config, "prefill_chunk")),
      .shares_prefixes = 1,
      .streams = 1,
      .stop_bytes = r->left.need.stop_bytes,
      .tokenizer =
          moerun_comm_rank(r->comm) == 0 ? r->files.tokenizer : r->tokenizer};
  const moerun__engine_callbacks callbacks = {.context = c,
                                              .next = next_request,
                                              .finished = take_answer,
                                              .streamed = take_token,
                                              .stop_requested =
                                                  is_stop_requested,
                                              .unfinished = take_answer,
                                              .unfinished_end = end_answers};
  moerun__signals_promise(MOERUN_PROMISE_ANSWER);
  MOERUN_TRY(moerun__memory_advise(
      moerun__engine_run(&stretch, &options, &callbacks, &r->progress,
                         &stopped),
      "smaller --max-sequences and --max-tokens need less"));
  /* What was stopped before its answer began was not said. */
  if (moerun_comm_rank(r->comm) == 0 && !c->is_answered) {
    (void)json_array_remove(c->messages, json_array_size(c->messages) - 1);
  }
  /* Any other signal than Ctrl-C ends the conversation. */
  (void)moerun__signals_take_interrupt();
  MOERUN_TRY(
      moerun__comm_agree(r->comm, moerun__stop_check("chat", "it answered")));
done:
  return status;
}

/* [collective] */
static moerun_status talk(chat *c) {
  moerun_status status = MOERUN_OK;
  moerun_comm *comm = c->run.comm;
  int32_t has = 1;
  while (has) {
    int more = 0;
    moerun__signals_promise(MOERUN_PROMISE_TALK);
    if (moerun_comm_rank(comm) == 0) status = listen(c, &more);
    MOERUN_TRY(moerun__comm_agree_after_root(comm, status));
    has = more;
    MOERUN_TRY(comm->ops->broadcast(comm, &has, sizeof has));
    if (has) MOERUN_TRY(answer(c));
    end_turn(c);
  }
done:
  return status;
}

moerun_status moerun__cmd_chat(moerun__invocation *invocation) {
  moerun_status status = MOERUN_OK;
  chat c = {0};
  moerun__run *r = &c.run;
  moerun__run_init(r, invocation);
  invocation->results_on_stdout = 1;
  moerun__signals_hear_interrupts(moerun_comm_rank(r->comm) == 0);
  if (moerun_comm_rank(r->comm) == 0) {
    moerun__progress_start(&r->bar, r->config);
  }
  MOERUN_TRY(moerun__comm_agree_after_root(r->comm, plan(&c)));
  MOERUN_TRY(
      r->comm->ops->broadcast(r->comm, &r->left.need, sizeof r->left.need));
  MOERUN_TRY(moerun__run_load(r));
  moerun__progress_close(&r->bar);
  MOERUN_TRY(talk(&c));
done:
  end_turn(&c);
  json_decref(c.messages);
  json_decref(c.kwargs);
  moerun__text_clear(&c.said);
  moerun__text_clear(&c.pending);
  moerun__run_clear(r);
  return status;
}
