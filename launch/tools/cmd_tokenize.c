/* `moerun tokenize` and `moerun detokenize`: texts to ids and back, a line of
 * the input at a time, so that files may be of any size. The ids are those that
 * run feeds a model for the text or the conversation; of a batch file, too, as
 * far as its lines have one prompt that is a text. */
#include "launch/command.h"
#include "launch/options/bos.h"
#include "launch/options/effect.h"
#include "launch/options/input_options.h"

#include "launch/lines.h"
#include "launch/requests/spool.h"
#include "runtime/base/file.h"
#include "runtime/base/foreign.h"
#include "runtime/base/json.h"
#include "runtime/base/log.h"
#include "runtime/model/model.h"
#include "runtime/text/tokenizer.h"

#include <string.h>
#include <unistd.h>

typedef struct job {
  moerun__tokenizer *tokenizer;
  int is_back;                    /* detokenize */
  int is_plain;                   /* lines are texts as they stand */
  int is_special;                 /* detokenize: with special tokens */
  int is_shown;                   /* tokenize: the text beside its ids */
  moerun__prompt_options options; /* tokenize: what is put around a text */
  int64_t index;                  /* of the line among those that count */
  int64_t unknown;                /* detokenize: ids without a token */
  moerun__text origin;
  moerun__prompt prompt; /* its tokens are the ids of a line */
  moerun__text text;     /* decoded */
  moerun__text out;      /* lines to be written */
  int file;              /* where to */
  const char *name;      /* and its name, borrowed */
} job;

enum { WRITTEN_BYTES = 1 << 16, PART_IDS = 1 << 13 }; /* at once */

/* ---- One line ------------------------------------------------------------ */

/* Writes what there is, if it is much or `all` of it. */
static moerun_status flush(job *j, int all) {
  moerun_status status = MOERUN_OK;
  if (!all && j->out.count < WRITTEN_BYTES) goto done;
  MOERUN_TRY(moerun__file_put(j->file, j->out.bytes, j->out.count, j->name));
  j->out.count = 0;
done:
  return status;
}

/* {"id": …, the id of the line, its index if it has none. */
static moerun_status print_id(job *j, const json_t *value) {
  moerun_status status = MOERUN_OK;
  const json_t *id = json_object_get(value, "id");
  if (id == NULL) id = json_object_get(value, "custom_id");
  MOERUN_REQUIRE(id == NULL || json_is_null(id) || json_is_string(id) ||
                     json_is_integer(id),
                 MOERUN_ERR_FORMAT,
                 "%s: key \"id\": expected a string or an integer, found %s",
                 j->origin.bytes, moerun__json_kind(id));
  if (json_is_string(id)) {
    MOERUN_TRY(moerun__text_print(&j->out, "{\"id\":"));
    MOERUN_TRY(moerun__text_json(&j->out, json_string_value(id),
                                 json_string_length(id)));
  } else {
    const long long number =
        json_is_integer(id) ? json_integer_value(id) : (long long)j->index;
    MOERUN_TRY(moerun__text_print(&j->out, "{\"id\":%lld", number));
  }
done:
  return status;
}

/* A line with one text may be of many MB: its ids are written in parts. */
static moerun_status print_ids(job *j) {
  moerun_status status = MOERUN_OK;
  const moerun__token_list *ids = &j->prompt.tokens;
  MOERUN_TRY(moerun__text_print(&j->out, ",\"tokens\":["));
  for (size_t i = 0; i < ids->count; i += PART_IDS) {
    const size_t left = ids->count - i;
    if (i > 0) MOERUN_TRY(moerun__text_append(&j->out, ",", 1));
    MOERUN_TRY(moerun__text_integers(&j->out, ids->id + i,
                                     left < PART_IDS ? left : PART_IDS));
    MOERUN_TRY(flush(j, 0));
  }
  MOERUN_TRY(moerun__text_print(&j->out, "]}\n"));
done:
  return status;
}

/* Its template has put around a conversation what belongs there. */
static moerun_status encode(job *j, const char *text, size_t bytes,
                            int is_whole) {
  moerun_status status = MOERUN_OK;
  j->prompt.tokens.count = 0;
  MOERUN_TRY(moerun__tokenizer_encode(j->tokenizer, &j->prompt.tokens, text,
                                      bytes, j->origin.bytes));
  if (!is_whole) {
    MOERUN_TRY(moerun__prompt_put_around(&j->prompt, &j->options));
  }
  if (j->is_shown) {
    MOERUN_TRY(moerun__text_print(&j->out, ",\"text\":"));
    MOERUN_TRY(moerun__text_json(&j->out, text, bytes));
  }
  MOERUN_TRY(print_ids(j));
done:
  return status;
}

static moerun_status encode_messages(job *j, const json_t *object) {
  moerun_status status = MOERUN_OK;
  j->text.count = 0;
  MOERUN_TRY(moerun__messages_render(&j->text, object, &j->options.chat,
                                     j->origin.bytes));
  MOERUN_TRY(encode(j, j->text.bytes, j->text.count, 1));
done:
  return status;
}

static moerun_status decode(job *j, const json_t *array) {
  moerun_status status = MOERUN_OK;
  const json_t *id = NULL;
  size_t i = 0;
  j->prompt.tokens.count = 0;
  j->text.count = 0;
  MOERUN_REQUIRE(json_is_array(array), MOERUN_ERR_FORMAT,
                 "%s: expected an array of token ids, or an object with one as "
                 "\"tokens\", found %s",
                 j->origin.bytes, moerun__json_kind(array));
  json_array_foreach(array, i, id) {
    const json_int_t number = json_integer_value(id);
    MOERUN_REQUIRE(json_is_integer(id) && number >= 0 && number <= INT32_MAX,
                   MOERUN_ERR_FORMAT,
                   "%s: element %zu: expected a token id, found %s",
                   j->origin.bytes, i,
                   json_is_integer(id) ? "an integer out of range"
                                       : moerun__json_kind(id));
    MOERUN_TRY(moerun__token_list_append(&j->prompt.tokens, (int32_t)number));
    size_t bytes = 0;
    j->unknown +=
        moerun__tokenizer_text(j->tokenizer, (int32_t)number, &bytes) == NULL;
  }
  MOERUN_TRY(moerun__tokenizer_decode(j->tokenizer, &j->text,
                                      j->prompt.tokens.id,
                                      j->prompt.tokens.count, j->is_special));
  MOERUN_TRY(moerun__text_print(&j->out, ",\"text\":"));
  MOERUN_TRY(moerun__text_json(&j->out, j->text.bytes, j->text.count));
  MOERUN_TRY(moerun__text_print(&j->out, "}\n"));
done:
  return status;
}

/* Whether the line can be meant as JSON; web pages and the like are left to the
 * parser, which names them. */
static moerun_status check_form(const job *j, const char *line, size_t bytes) {
  moerun_status status = MOERUN_OK;
  char foreign[MOERUN_FOREIGN_TEXT];
  const char *first = line + strspn(line, " \t");
  MOERUN_REQUIRE(
      strchr("{[", *first) != NULL ||
          moerun__foreign_name(foreign, line, bytes),
      MOERUN_ERR_FORMAT, "%s: expected a line such as %s, found \"%.20s\"%s",
      j->origin.bytes,
      j->is_back ? "[1, 2, 3] or {\"tokens\": [1, 2, 3]}"
                 : "{\"prompt\": \"a text\"}",
      first,
      j->is_back ? "" : "; with --lines each line is a text as it stands");
done:
  return status;
}

static moerun_status convert_json(job *j, const char *line, size_t bytes) {
  moerun_status status = MOERUN_OK;
  json_t *root = NULL;
  MOERUN_TRY(check_form(j, line, bytes));
  MOERUN_TRY(moerun__json_parse(&root, line, bytes, j->origin.bytes));
  const json_t *body = json_object_get(root, "body");
  const json_t *asked = !j->is_back && json_is_object(body) ? body : root;
  const json_t *value = asked;
  if (json_is_object(asked)) {
    value = json_object_get(asked, j->is_back ? "tokens" : "prompt");
  }
  MOERUN_TRY(print_id(j, root));
  if (j->is_back) {
    MOERUN_TRY(decode(j, value));
  } else if (json_object_get(asked, "messages") != NULL) {
    MOERUN_TRY(encode_messages(j, asked));
  } else {
    MOERUN_REQUIRE(json_is_string(value), MOERUN_ERR_FORMAT,
                   "%s: key \"prompt\": expected a string, found %s; with "
                   "--lines each line is a text as it stands",
                   j->origin.bytes, moerun__json_kind(value));
    MOERUN_TRY(
        encode(j, json_string_value(value), json_string_length(value), 0));
  }
done:
  json_decref(root);
  return status;
}

/* ---- All lines ----------------------------------------------------------- */

static int is_blank(const char *line, size_t bytes) {
  return bytes == 0 || strspn(line, " \t\r") == bytes;
}

static moerun_status check_input(const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  const int has_text = moerun__config_text(config, "prompt")[0] != '\0';
  const int has_file = moerun__config_text(config, "prompts")[0] != '\0';
  MOERUN_REQUIRE(has_text != has_file, MOERUN_ERR_INVALID,
                 "expected one of --prompt and --prompts, found %s",
                 has_file ? "both" : "none");
done:
  return status;
}

static moerun_status open_input(moerun__spool *spool, const job *j,
                                const moerun__config *config) {
  const char *prompt = j->is_back ? "" : moerun__config_text(config, "prompt");
  const char *key = j->is_back ? "tokens" : "prompts";
  return prompt[0] != '\0'
             ? moerun__input_open_prompt(spool, prompt)
             : moerun__spool_open(spool, moerun__config_text(config, key));
}

static moerun_status convert(job *j, const moerun__config *config) {
  moerun_status status = MOERUN_OK;
  moerun__spool spool = {.file = -1};
  moerun__lines lines = {0};
  int file = -1;
  int has = 0;
  MOERUN_TRY(open_input(&spool, j, config));
  MOERUN_TRY(moerun__file_open(&file, NULL, spool.path.bytes, 0));
  MOERUN_TRY(moerun__lines_begin(&lines, file, spool.name.bytes));
  for (;;) {
    MOERUN_TRY(moerun__lines_next(&lines, &has));
    if (!has) break;
    const char *line = lines.line.bytes;
    size_t bytes = lines.line.count;
    const size_t mark =
        lines.number == 1 ? moerun__byte_order_mark(line, bytes) : 0;
    line += mark;
    bytes -= mark;
    if (j->is_plain && bytes > 0 && line[bytes - 1] == '\r') bytes--;
    if (is_blank(line, bytes)) continue;
    j->origin.count = 0;
    MOERUN_TRY(moerun__text_print(&j->origin, "%s:%lld", spool.name.bytes,
                                  (long long)lines.number));
    if (j->is_plain) {
      MOERUN_TRY(print_id(j, NULL));
      MOERUN_TRY(encode(j, line, bytes, 0));
    } else {
      MOERUN_TRY(convert_json(j, line, bytes));
    }
    j->index++;
    MOERUN_TRY(flush(j, 0));
  }
  MOERUN_TRY(flush(j, 1));
  if (j->unknown > 0) {
    LOG_ROOT(MOERUN_LOG_WARN, "%s: %lld id%s no token and no text",
             spool.name.bytes, (long long)j->unknown,
             j->unknown == 1 ? " has" : "s have");
  }
done:
  moerun__lines_clear(&lines);
  if (file >= 0) (void)close(file);
  moerun__spool_clear(&spool);
  return status;
}

/* The folder may have no config.json that is understood: a tokenizer is enough
 * here, unless the token of --add-bos yes stands there alone. */
static moerun_status choose_bos(job *j, const moerun__config *config,
                                const char *model) {
  moerun_status status = MOERUN_OK;
  moerun__model_config c = {0};
  int32_t bos = -1;
  j->options.tokenizer = j->tokenizer;
  if (strcmp(moerun__config_text(config, "add_bos"), "yes") == 0) {
    status = moerun__model_config_load(&c, model);
    if (status == MOERUN_OK) bos = c.bos_token;
    if (status == MOERUN_ERR_NOMEM) goto done;
  }
  MOERUN_TRY(moerun__bos_choose(&j->options, config, model, bos, 1));
done:
  moerun__model_config_clear(&c);
  return status;
}

moerun_status moerun__cmd_tokenize(moerun__invocation *invocation) {
  moerun_status status = MOERUN_OK;
  const moerun__config *config = invocation->config;
  const int is_back = strcmp(invocation->subcommand, "detokenize") == 0;
  const char *model = moerun__config_text(config, "model");
  const char *path = moerun__config_text(config, "output");
  moerun__chat_template *chat = NULL;
  moerun__text no_chat = {0};
  job j = {.is_back = is_back,
           .file = STDOUT_FILENO,
           .name = path[0] != '\0' ? path : "stdout"};
  const moerun__effect_facts effects = {.subcommand = invocation->subcommand,
                                        .config = config};
  MOERUN_TRY(moerun__effect_check(&effects, MOERUN_EFFECT_OPTIONS));
  if (!is_back) MOERUN_TRY(check_input(config));
  invocation->phase = MOERUN_PHASE_FILES;
  j.is_plain = !is_back && moerun__config_bool(config, "lines");
  j.is_special = is_back && moerun__config_bool(config, "keep_special");
  j.is_shown = !is_back && moerun__config_bool(config, "text");
  MOERUN_TRY(moerun__tokenizer_load(&j.tokenizer, model));
  if (!is_back) {
    MOERUN_TRY(choose_bos(&j, config, model));
  }
  if (!is_back && !j.is_plain) {
    MOERUN_TRY(moerun__input_chat(&j.options.chat, &chat, &no_chat, model));
  }
  invocation->results_on_stdout = path[0] == '\0';
  if (path[0] != '\0') {
    MOERUN_TRY(moerun__outputs_begin(&invocation->outputs, &j.file, path));
  }
  MOERUN_TRY(convert(&j, config));
done:
  moerun__tokenizer_destroy(j.tokenizer);
  moerun__chat_template_destroy(chat);
  moerun__text_clear(&no_chat);
  moerun__text_clear(&j.origin);
  moerun__prompt_clear(&j.prompt);
  moerun__text_clear(&j.text);
  moerun__text_clear(&j.out);
  return status;
}
