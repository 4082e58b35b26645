/* Two forms, as the API has them: chats have a list of objects, completions
 * four lists side by side, with those of the prompt in front where it echoes.
 * Tokens are told by their texts there. What is no UTF-8 by itself, a part of a
 * character, is spelt "bytes:\xe2\x80", so that two parts differ. */
#include "launch/results/result_batch_logprobs.h"

#include "runtime/base/memory.h"
#include "runtime/text/detokenizer.h"

#include <string.h>

/* ---- A token ------------------------------------------------------------- */

/* The bytes of a token within a text: a decoder may take a blank off the
 * first. */
static moerun_status token_bytes(moerun__text *out,
                                 const moerun__tokenizer *tokenizer,
                                 int32_t token) {
  moerun_status status = MOERUN_OK;
  const int32_t twice[] = {token, token};
  moerun__text one = {0};
  const int byte = moerun__tokenizer_byte(tokenizer, token);
  out->count = 0;
  if (byte >= 0) {
    const char c = (char)byte;
    MOERUN_TRY(moerun__text_append(out, &c, 1));
    goto done;
  }
  MOERUN_TRY(moerun__tokenizer_decode(tokenizer, &one, twice, 1, 1));
  MOERUN_TRY(moerun__tokenizer_decode(tokenizer, out, twice, 2, 1));
  if (out->count >= one.count && one.count > 0) {
    out->count -= one.count;
    memmove(out->bytes, out->bytes + one.count, out->count);
  }
done:
  moerun__text_clear(&one);
  return status;
}

static int is_utf8(const moerun__text *text) {
  size_t at = 0;
  while (at < text->count) {
    const int length = moerun__utf8_length(text->bytes + at, text->count - at);
    if (length < 0) return 0;
    at += (size_t)length;
  }
  return 1;
}

/* The text of a token, as a JSON string. */
static moerun_status print_token(moerun__text *out, const moerun__text *bytes) {
  moerun_status status = MOERUN_OK;
  if (is_utf8(bytes)) {
    MOERUN_TRY(moerun__text_json(out, bytes->bytes, bytes->count));
    goto done;
  }
  MOERUN_TRY(moerun__text_print(out, "\"bytes:"));
  for (size_t i = 0; i < bytes->count; i++) {
    MOERUN_TRY(
        moerun__text_print(out, "\\\\x%02x", (unsigned char)bytes->bytes[i]));
  }
  MOERUN_TRY(moerun__text_print(out, "\""));
done:
  return status;
}

/* ---- Chats --------------------------------------------------------------- */

/* "token":…,"logprob":…,"bytes":[…] */
static moerun_status print_chat_token(moerun__result_line *line,
                                      const moerun__logprob *l) {
  moerun_status status = MOERUN_OK;
  moerun__text *out = &line->text;
  moerun__text *bytes = &line->part;
  MOERUN_TRY(token_bytes(bytes, line->tokenizer, l->token));
  MOERUN_TRY(moerun__text_print(out, "\"token\":"));
  MOERUN_TRY(print_token(out, bytes));
  MOERUN_TRY(moerun__text_print(out, ",\"logprob\":%.9g,\"bytes\":[",
                                (double)l->value));
  for (size_t i = 0; i < bytes->count; i++) {
    MOERUN_TRY(moerun__text_print(out, i == 0 ? "%d" : ",%d",
                                  (unsigned char)bytes->bytes[i]));
  }
  MOERUN_TRY(moerun__text_print(out, "]"));
done:
  return status;
}

static moerun_status print_chat(moerun__result_line *line,
                                const moerun__completion *c) {
  moerun_status status = MOERUN_OK;
  moerun__text *out = &line->text;
  const size_t width = (size_t)c->logprobs_width;
  const moerun__logprob *own =
      c->logprob + (size_t)c->num_prompt_logprobs * width;
  MOERUN_TRY(moerun__text_print(out, "{\"content\":["));
  for (int32_t i = 0; i < c->num_logprobs; i++, own += width) {
    MOERUN_TRY(moerun__text_print(out, i == 0 ? "{" : ",{"));
    MOERUN_TRY(print_chat_token(line, own));
    MOERUN_TRY(moerun__text_print(out, ",\"top_logprobs\":["));
    for (size_t k = 1; k < width; k++) {
      MOERUN_TRY(moerun__text_print(out, k == 1 ? "{" : ",{"));
      MOERUN_TRY(print_chat_token(line, own + k));
      MOERUN_TRY(moerun__text_print(out, "}"));
    }
    MOERUN_TRY(moerun__text_print(out, "]}"));
  }
  MOERUN_TRY(moerun__text_print(out, "],\"refusal\":null}"));
done:
  return status;
}

/* ---- Completions --------------------------------------------------------- */

/* The tokens that stand there, prompt first if it does. */
typedef struct told {
  const int32_t *prompt;
  int32_t num_prompt; /* 0: it does not echo */
  const moerun__completion *c;
  int32_t count;
} told;

static int32_t token_at(const told *t, int32_t i) {
  return i < t->num_prompt ? t->prompt[i] : t->c->token[i - t->num_prompt];
}

/* [logprobs_width], or NULL for the first token of a prompt. */
static const moerun__logprob *logprob_at(const told *t, int32_t i) {
  const int32_t skipped = t->num_prompt > 0 ? 1 : 0;
  return i < skipped ? NULL
                     : t->c->logprob +
                           (size_t)(i - skipped) * (size_t)t->c->logprobs_width;
}

/* Whether a likelier one of [width] has the same text, which is a key. */
static moerun_status is_told(int *out, moerun__result_line *line,
                             const moerun__logprob *top, size_t at) {
  moerun_status status = MOERUN_OK;
  moerun__text other = {0};
  *out = 0;
  for (size_t i = 0; i < at && !*out; i++) {
    MOERUN_TRY(token_bytes(&other, line->tokenizer, top[i].token));
    *out = other.count == line->part.count &&
           (other.count == 0 ||
            memcmp(other.bytes, line->part.bytes, other.count) == 0);
  }
done:
  moerun__text_clear(&other);
  return status;
}

/* {"a":-0.1,"b":-2}, the likeliest first. */
static moerun_status print_top(moerun__result_line *line,
                               const moerun__logprob *top, size_t count) {
  moerun_status status = MOERUN_OK;
  moerun__text *out = &line->text;
  const char *comma = "";
  int has = 0;
  MOERUN_TRY(moerun__text_print(out, "{"));
  for (size_t i = 0; i < count; i++) {
    MOERUN_TRY(token_bytes(&line->part, line->tokenizer, top[i].token));
    MOERUN_TRY(is_told(&has, line, top, i));
    if (has) continue;
    MOERUN_TRY(moerun__text_print(out, "%s", comma));
    MOERUN_TRY(print_token(out, &line->part));
    MOERUN_TRY(moerun__text_print(out, ":%.9g", (double)top[i].value));
    comma = ",";
  }
  MOERUN_TRY(moerun__text_print(out, "}"));
done:
  return status;
}

static moerun_status print_tokens(moerun__result_line *line, const told *t) {
  moerun_status status = MOERUN_OK;
  moerun__text *out = &line->text;
  MOERUN_TRY(moerun__text_print(out, "{\"tokens\":["));
  for (int32_t i = 0; i < t->count; i++) {
    MOERUN_TRY(token_bytes(&line->part, line->tokenizer, token_at(t, i)));
    if (i > 0) MOERUN_TRY(moerun__text_append(out, ",", 1));
    MOERUN_TRY(print_token(out, &line->part));
  }
  MOERUN_TRY(moerun__text_print(out, "],\"token_logprobs\":["));
  for (int32_t i = 0; i < t->count; i++) {
    const moerun__logprob *own = logprob_at(t, i);
    if (i > 0) MOERUN_TRY(moerun__text_append(out, ",", 1));
    MOERUN_TRY(own == NULL
                   ? moerun__text_print(out, "null")
                   : moerun__text_print(out, "%.9g", (double)own->value));
  }
  MOERUN_TRY(moerun__text_print(out, "],"));
done:
  return status;
}

/* Characters of a text once it is mended: each part of one that is not UTF-8
 * becomes one. */
static int64_t characters_of(const moerun__text *text) {
  int64_t count = 0;
  size_t at = 0;
  while (at < text->count) {
    const int length = moerun__utf8_length(text->bytes + at, text->count - at);
    at += (size_t)(length > 0 ? length : -length);
    count++;
  }
  return count;
}

/* before[i], of count + 1: characters of the text in front of token i that stay
 * whatever follows. A token may be worth nothing before the next one comes (the
 * start of a character), and the text that ends there more than it is in the
 * end: so the least of what there is from here on counts. */
static moerun_status count_before(int64_t *before,
                                  const moerun__tokenizer *tokenizer,
                                  const int32_t *token, int32_t count) {
  moerun_status status = MOERUN_OK;
  moerun__detokenizer all = {0};
  moerun__detokenizer ended = {0};
  moerun__text text = {0};
  int64_t certain = 0;
  before[0] = 0;
  MOERUN_TRY(moerun__detokenizer_begin(&all, tokenizer));
  for (int32_t i = 0; i < count; i++) {
    text.count = 0;
    MOERUN_TRY(moerun__detokenizer_put(&all, &text, token[i]));
    certain += characters_of(&text);
    text.count = 0;
    MOERUN_TRY(moerun__detokenizer_copy(&ended, &all));
    MOERUN_TRY(moerun__detokenizer_end(&ended, &text));
    before[i + 1] = certain + characters_of(&text);
  }
  for (int32_t i = count; i > 0; i--) {
    if (before[i - 1] > before[i]) before[i - 1] = before[i];
  }
done:
  moerun__text_clear(&text);
  moerun__detokenizer_clear(&ended);
  moerun__detokenizer_clear(&all);
  return status;
}

/* The answer is decoded by itself, behind a prompt that is there as it was
 * written (result_batch.c). */
static moerun_status print_offsets(moerun__result_line *line, const told *t) {
  moerun_status status = MOERUN_OK;
  moerun__text *out = &line->text;
  const moerun__text *prompt = &line->prompt.batch.text;
  const size_t room = (size_t)t->count + 2;
  int64_t *before = NULL;
  MOERUN_TRY(moerun__alloc(&before, room, sizeof *before));
  int64_t *behind = before + t->num_prompt;
  MOERUN_TRY(count_before(before, line->tokenizer, t->prompt, t->num_prompt));
  const int64_t start = t->num_prompt > 0 && prompt->count > 0
                            ? characters_of(prompt)
                            : behind[0];
  MOERUN_TRY(count_before(behind, line->tokenizer, t->c->token,
                          t->count - t->num_prompt));
  MOERUN_TRY(moerun__text_print(out, "\"text_offset\":["));
  for (int32_t i = 0; i < t->count; i++) {
    const int64_t offset = before[i] + (i < t->num_prompt ? 0 : start);
    MOERUN_TRY(
        moerun__text_print(out, i == 0 ? "%lld" : ",%lld", (long long)offset));
  }
  MOERUN_TRY(moerun__text_print(out, "]}"));
done:
  moerun__free(before);
  return status;
}

static moerun_status print_text(moerun__result_line *line, const told *t) {
  moerun_status status = MOERUN_OK;
  moerun__text *out = &line->text;
  const size_t width = (size_t)t->c->logprobs_width;
  MOERUN_TRY(print_tokens(line, t));
  MOERUN_TRY(moerun__text_print(out, width > 1 ? "\"top_logprobs\":["
                                               : "\"top_logprobs\":null,"));
  for (int32_t i = 0; width > 1 && i < t->count; i++) {
    const moerun__logprob *own = logprob_at(t, i);
    if (i > 0) MOERUN_TRY(moerun__text_append(out, ",", 1));
    MOERUN_TRY(own == NULL ? moerun__text_print(out, "null")
                           : print_top(line, own + 1, width - 1));
  }
  if (width > 1) MOERUN_TRY(moerun__text_print(out, "],"));
  MOERUN_TRY(print_offsets(line, t));
done:
  return status;
}

moerun_status
moerun__batch_logprobs_print(moerun__result_line *line,
                             const moerun__completion *completion) {
  moerun_status status = MOERUN_OK;
  const moerun__prompt *prompt = &line->prompt;
  const moerun__prompt_batch *b = &prompt->batch;
  const moerun__logprobs_asked *asked = &prompt->request.logprobs;
  const int is_asked = asked->generated || (b->is_echo && asked->prompt);
  if (!is_asked) {
    MOERUN_TRY(moerun__text_print(&line->text, "null"));
  } else if (b->is_chat) {
    MOERUN_TRY(print_chat(line, completion));
  } else {
    const int32_t front =
        b->echoes && asked->prompt ? completion->num_prompt : 0;
    const told t = {prompt->request.prompt, front, completion,
                    front + (b->is_echo ? 0 : completion->num_tokens)};
    MOERUN_TRY(print_text(line, &t));
  }
done:
  return status;
}
