/* Log-probabilities in answers of batch files, where tokens are bytes of
 * characters and blanks are dropped at a text's start: offsets are those of the
 * text that is written, and each byte is told from all others. */
#include "launch/results/result_batch_logprobs.h"
#include "runtime/base/memory.h"
#include "support/cmocka.h"

#include <string.h>

static const char file[] =
    "{\"added_tokens\":[{\"id\":6,\"content\":\"</s>\",\"special\":true,"
    "\"normalized\":false,\"lstrip\":false,\"rstrip\":false,"
    "\"single_word\":false}],\"normalizer\":null,\"pre_tokenizer\":null,"
    "\"post_processor\":null,\"decoder\":{\"type\":\"Sequence\",\"decoders\":["
    "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\xE2\x96\x81\"},"
    "\"content\":\" \"},{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},"
    "{\"type\":\"Strip\",\"content\":\" \",\"start\":1,\"stop\":0}]},"
    "\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,\"vocab\":{"
    "\"\xE2\x96\x81Hi\":0,\"\xE2\x96\x81you\":1,\"<0xE5>\":2,\"<0xA5>\":3,"
    "\"<0xBD>\":4,\"!\":5,\"</s>\":6},\"merges\":[]}}";

enum { HI, YOU, E5, A5, BD, BANG, EOS, WIDTH = 3, MOST = 8 };

static moerun__tokenizer *tokenizer;

static int set_up(void **state) {
  (void)state;
  return moerun__tokenizer_parse(&tokenizer, file, strlen(file), "made") ==
                 MOERUN_OK
             ? 0
             : -1;
}

static int tear_down(void **state) {
  (void)state;
  moerun__tokenizer_destroy(tokenizer);
  return 0;
}

/* Each token with the log-probability 0, and two others. */
static void expect(moerun__result_line *line, const int32_t *token,
                   int32_t count, const char *words) {
  moerun__logprob logprob[MOST * WIDTH];
  for (int32_t i = 0; i < MOST * WIDTH; i++) {
    static const int32_t others[] = {0, E5, A5};
    const int32_t own = token[i / WIDTH % count];
    logprob[i].token = i % WIDTH == 0 ? own : others[i % WIDTH];
    logprob[i].value = (float)-(i % WIDTH);
  }
  const int32_t echoed = line->prompt.batch.echoes ? 2 : 0;
  const moerun__completion c = {.num_prompt = echoed,
                                .num_tokens = count,
                                .token = token,
                                .logprobs_width = WIDTH,
                                .num_prompt_logprobs = echoed > 0 ? 1 : 0,
                                .num_logprobs = count,
                                .logprob = logprob};
  line->tokenizer = tokenizer;
  line->prompt.request.logprobs.generated = 1;
  line->prompt.request.logprobs.prompt = echoed > 0;
  line->text.count = 0;
  assert_int_equal(moerun__batch_logprobs_print(line, &c), MOERUN_OK);
  if (strstr(line->text.bytes, words) == NULL) {
    fail_msg("%s in %s", words, line->text.bytes);
  }
  moerun__text_clear(&line->text);
  moerun__text_clear(&line->part);
}

static void offsets_are_those_of_the_text(void **state) {
  (void)state;
  static const int32_t answer[] = {HI, YOU, E5, A5, BD, BANG, EOS};
  static const int32_t broken[] = {E5, BANG, A5, HI};
  static const int32_t prompt[] = {HI, YOU};
  moerun__result_line line = {0};
  /* "Hi you好!" */
  expect(&line, answer, 7, "\"text_offset\":[0,2,6,7,7,7,8]}");
  /* "\uFFFD!\uFFFD Hi" */
  expect(&line, broken, 4, "\"text_offset\":[0,1,2,3]}");
  /* The answer begins anew behind the prompt, which is "Hi you" or, as it was
   * written, more. */
  line.prompt.batch.echoes = 1;
  line.prompt.request.prompt = prompt;
  expect(&line, answer, 2, "\"text_offset\":[0,2,6,8]}");
  char written[] = " Hi  you\xC3\xA9";
  line.prompt.batch.text.bytes = written;
  line.prompt.batch.text.count = strlen(written);
  expect(&line, answer, 2, "\"text_offset\":[0,2,9,11]}");
}

static void bytes_of_characters_are_told_apart(void **state) {
  (void)state;
  static const int32_t answer[] = {E5, A5};
  moerun__result_line line = {0};
  expect(&line, answer, 2,
         "{\"tokens\":[\"bytes:\\\\xe5\",\"bytes:\\\\xa5\"],"
         "\"token_logprobs\":[0,0],\"top_logprobs\":["
         "{\"bytes:\\\\xe5\":-1,\"bytes:\\\\xa5\":-2},"
         "{\"bytes:\\\\xe5\":-1,\"bytes:\\\\xa5\":-2}]");
  line.prompt.batch.is_chat = 1;
  expect(&line, answer, 2,
         "{\"content\":[{\"token\":\"bytes:\\\\xe5\",\"logprob\":0,"
         "\"bytes\":[229],\"top_logprobs\":[{\"token\":\"bytes:\\\\xe5\"");
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(offsets_are_those_of_the_text),
      cmocka_unit_test(bytes_of_characters_are_told_apart),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
