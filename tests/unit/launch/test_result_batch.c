/* Batch files: what their lines ask for, and answers as they are published:
 * with the same keys, the same bytes in any order and after any interruption,
 * and nothing that somebody has changed taken for an answer. */
#include "launch/results/results.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "support/scratch.h"
#include "support/temp_dir.h"

enum { REQUESTS = 4, LINES = 4, TOKENS = 4, WIDTH = 3, SEED = 5 };
enum { BYTES = 1 << 16 };

static const char demo_model[] = MOERUN_TEST_DATA "/../../launch/demo/model";
static const char published[] = MOERUN_TEST_DATA "/batch/answers.jsonl";
static const char requests[] = MOERUN_TEST_DATA "/batch/requests.jsonl";
static const uint64_t weights = 0x0123456789abcdef;
static const moerun__model_config model = {
    .vocab_size = 272, .num_eos = 1, .eos_token = {257}};

static temp_dir dir;
static char path[TEMP_PATH];
static moerun__tokenizer *tokenizer;
static moerun__chat_template *chat;
static moerun__prompts *prompts; /* of `requests`: 0, 1 and 2, 3, and a wrong
                                    one, 4 */

static moerun__prompt_options defaults(void) {
  return (moerun__prompt_options){.tokenizer = tokenizer,
                                  .chat.by = chat,
                                  .text_bos = -1,
                                  .tokens_bos = -1,
                                  .vocab_size = 272,
                                  .max_positions = 128,
                                  .kv_tokens = 128,
                                  .max_new_tokens = 8,
                                  .sampling.top_p = 1,
                                  .sampling.repetition_penalty = 1,
                                  .sampling.seed = 3,
                                  .open = ~0U};
}

static int set_up(void **state) {
  (void)state;
  static const char written[] =
      "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}";
  moerun__prompt_options options;
  json_t *config = json_pack("{s:s}", "chat_template", written);
  const int is_made =
      temp_dir_create(&dir) &&
      moerun__tokenizer_load(&tokenizer, demo_model) == MOERUN_OK &&
      moerun__chat_template_parse(&chat, config, "chat") == MOERUN_OK;
  json_decref(config);
  if (!is_made) return -1;
  options = defaults();
  if (moerun__prompts_open(&prompts, requests, &options) != MOERUN_OK) {
    print_error("%s\n", moerun_last_error());
    return -1;
  }
  (void)temp_path(path, &dir, "out");
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  moerun__prompts_destroy(prompts);
  moerun__chat_template_destroy(chat);
  moerun__tokenizer_destroy(tokenizer);
  temp_remove(dir.path, 0);
  return 0;
}

/* ---- What lines ask for -------------------------------------------------- */

static void requests_are_what_lines_ask_for(void **state) {
  (void)state;
  moerun__prompt p = {0};
  const char *id = NULL;
  assert_true(moerun__prompts_are_batch(prompts));
  assert_int_equal(moerun__prompts_count(prompts), 5);
  assert_int_equal(moerun__prompts_num_bad(prompts), 1);
  assert_int_equal(moerun__prompts_read(prompts, &p, 0), MOERUN_OK);
  const moerun__request *r = &p.request;
  assert_string_equal(p.id.bytes, "\"request-1\"");
  assert_int_equal(r->max_new_tokens, 12);
  assert_true(r->sampling.temperature == 1); /* the API's */
  assert_int_equal(p.request.num_prompt, 8 + 18 + 6 + 12);
  uint64_t stream[2] = {0};
  for (int i = 0; i < 2; i++) {
    assert_int_equal(moerun__prompts_read(prompts, &p, 1 + i), MOERUN_OK);
    assert_string_equal(p.id.bytes, "\"request-2\"");
    assert_int_equal(r->max_new_tokens, 6);
    assert_int_equal(r->logprobs.top, 2);
    assert_int_equal(r->sampling.seed, 4);
    stream[i] = r->sampling.stream;
  }
  assert_true(stream[0] == 0); /* as a request of one sample */
  assert_true(stream[1] != 0);
  assert_int_equal(moerun__prompts_read(prompts, &p, 3), MOERUN_OK);
  assert_int_equal(p.request.num_prompt, 12);
  assert_true(r->sampling.temperature == 0);
  assert_true(r->logprobs.generated && r->logprobs.top == 2);
  const char *reason = moerun__prompts_error(prompts, 4, &id);
  assert_string_equal(id, "\"request-4\"");
  assert_non_null(strstr(reason, "line 4: key \"url\": expected "
                                 "/v1/chat/completions or /v1/completions"));
  assert_int_equal(moerun__prompts_find(prompts, 1, 1), 2);
  assert_int_equal(moerun__prompts_find(prompts, 1, 2), -1);
  assert_int_equal(moerun__prompts_find(prompts, 4, 0), -1);
  moerun__prompt_clear(&p);
}

#define TEXT "\"method\":\"POST\",\"url\":\"/v1/completions\",\"body\":"
#define CHAT "\"method\":\"POST\",\"url\":\"/v1/chat/completions\",\"body\":"
#define TALK "\"messages\":[{\"role\":\"user\",\"content\":\"x\"}]"

/* Each is wrong by itself, between two that are right. */
static void wrong_lines_are_told_of(void **state) {
  (void)state;
  static const char *const lines[][2] = {
      {TEXT "{\"prompt\":\"x\",\"stream\":true}",
       "body: key \"stream\": expected false"},
      {TEXT "{\"prompt\":\"x\",\"best_of\":2}", "key \"best_of\": expected 1"},
      {TEXT "{\"prompt\":\"x\",\"logit_bias\":{\"5\":1}}", "\"logit_bias\""},
      {TEXT "{\"prompt\":\"x\",\"top_logprobs\":2}",
       "unknown key \"top_logprobs\""},
      {TEXT "{\"prompt\":\"x\",\"max_new_tokens\":2}", "unknown key"},
      {TEXT "{\"prompt\":\"x\",\"max_token\":2}",
       "unknown key \"max_token\": did you mean \"max_tokens\"?"},
      {TEXT "{" TALK "}",
       "key \"messages\": it is a key of /v1/chat/completions"},
      {CHAT "{" TALK ",\"reasoning_effort\":\"low\"}",
       "has it from \"chat_template_kwargs\""},
      {TEXT "{\"prompt\":\"x\",\"max_tokens\":200}",
       "found 1 of the prompt and max_tokens 200"},
      {TEXT "{\"prompt\":\"x\",\"max_tokens\":0}", "\"max_tokens\""},
      {TEXT "{\"prompt\":\"x\",\"n\":129}",
       "\"n\": expected 1 to 128, found 129"},
      {TEXT "{\"prompt\":[\"x\",5]}", "expected a text, an array of token ids"},
      {TEXT "{\"prompt\":[[1],[272]]}", "expected an id of 0 to 271"},
      {TEXT "{\"prompt\":[1,\"x\"]}", "key \"prompt\", element 1: expected a"},
      {TEXT "{\"prompt\":[]}", "expected at least one token"},
      {TEXT "{}", "expected a text, an array of token ids"},
      {TEXT "[]", "key \"body\""},
      {CHAT "{" TALK ",\"tool_choice\":\"required\"}",
       "expected \"auto\" or \"none\""},
      {CHAT "{" TALK ",\"response_format\":{\"type\":\"json_object\"}}",
       "\"response_format\""},
      {CHAT "{" TALK ",\"top_logprobs\":2}", "expected \"logprobs\""},
      {CHAT "{\"prompt\":\"x\"}", "unknown key \"prompt\""},
      {CHAT "{\"model\":7," TALK "}", "\"model\": expected a string"},
      {"\"method\":\"GET\",\"url\":\"/v1/completions\",\"body\":{}",
       "expected POST, found GET"},
      {TEXT "{\"prompt\":\"x\"},\"more\":1", "unknown key \"more\""},
  };
  const moerun__prompt_options options = defaults();
  for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
    char text[1024];
    moerun__prompts *of = NULL;
    const char *id = NULL;
    (void)snprintf(text, sizeof text,
                   "\xEF\xBB\xBF{\"custom_id\":\"a\"," TEXT
                   "{\"prompt\":[\"x\",\"y\"]}}\n"
                   "{\"custom_id\":\"b\",%s}\n"
                   "{\"custom_id\":\"a\"," TEXT "{\"prompt\":[\"x\",\"y\"]}}\n"
                   "{\"custom_id\":7," TEXT "{\"prompt\":\"x\"}}\n"
                   "{\"custom_id\":\"c\"," TEXT "{\"prompt\":\"x\",\"n\":2}}\n",
                   lines[i][0]);
    scratch_write(path, text);
    assert_int_equal(moerun__prompts_open(&of, path, &options), MOERUN_OK);
    const char *reason = moerun__prompts_error(of, 2, &id);
    if (reason == NULL || strstr(reason, lines[i][1]) == NULL) {
      fail_msg("%s: %s", lines[i][0], reason != NULL ? reason : "no error");
    }
    assert_non_null(strstr(reason, "line 2: "));
    assert_string_equal(id, "\"b\"");
    assert_int_equal(moerun__prompts_count(of), 7);
    assert_int_equal(moerun__prompts_num_bad(of), 3);
    reason = moerun__prompts_error(of, 3, &id);
    assert_non_null(strstr(reason, "line 3: custom_id \"a\" stands in line 1"));
    assert_non_null(moerun__prompts_error(of, 4, &id));
    assert_string_equal(id, "null");
    assert_null(moerun__prompts_error(of, 6, &id));
    assert_int_equal(moerun__prompts_place(of, 6).line, 4);
    moerun__prompts_destroy(of);
  }
  /* With --on-error stop the first one ends the reading. */
  moerun__prompt_options stop = defaults();
  moerun__prompts *of = NULL;
  stop.on_error = MOERUN_ON_ERROR_STOP;
  assert_int_equal(moerun__prompts_open(&of, path, &stop), MOERUN_ERR_FORMAT);
}

/* In any order: each prompt is another text of one parsed line, with all that
 * its body asks for. */
static void a_line_of_prompts_is_parsed_once(void **state) {
  (void)state;
  static const int order[] = {2, 0, 1, 4, 3, 1};
  moerun__prompt p = {0};
  moerun__prompts *of = NULL;
  const json_t *parsed = NULL;
  const moerun__prompt_options options = defaults();
  scratch_write(path,
                "{\"custom_id\":\"a\"," TEXT
                "{\"prompt\":[\"0\",\"1\",\"2\"],\"max_tokens\":0,"
                "\"echo\":true,\"logprobs\":0,\"user\":null}}\n"
                "{\"custom_id\":\"b\"," TEXT "{\"prompt\":[\"3\",\"4\"]}}\n");
  assert_int_equal(moerun__prompts_open(&of, path, &options), MOERUN_OK);
  for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
    assert_int_equal(moerun__prompts_read(of, &p, order[i]), MOERUN_OK);
    assert_int_equal(p.tokens.id[0], '0' + order[i]);
    assert_int_equal(p.batch.is_echo, order[i] < 3);
    assert_int_equal(p.request.max_new_tokens, order[i] < 3 ? 1 : 16);
    assert_non_null(strstr(p.line.bytes, order[i] < 3 ? "\"a\"" : "\"b\""));
    const int is_of_another = i == 0 || i == 3 || i == 5;
    if (!is_of_another) assert_ptr_equal(p.parsed, parsed);
    parsed = p.parsed;
    assert_non_null(parsed);
  }
  moerun__prompt_clear(&p);
  moerun__prompts_destroy(of);
}

/* ---- Answers ------------------------------------------------------------- */

/* What request `index` generates: a function of the index alone. */
static moerun_status append(moerun__results *results, int64_t index) {
  static const int32_t tokens[REQUESTS][TOKENS] = {
      {'N', 0xC3, 0xA9, 257}, {'a', 0xE2, '"', 10}, {'b', 257}, {',', ' '}};
  static const int32_t count[REQUESTS] = {4, 4, 2, 2};
  moerun__logprob logprob[TOKENS * WIDTH];
  for (int32_t i = 0; i < TOKENS * WIDTH; i++) {
    logprob[i] = (moerun__logprob){
        i % WIDTH == 0 ? tokens[index][i / WIDTH] : 60 + i, -0.25F * (float)i};
  }
  const int is_told = index > 0;
  const moerun__completion c = {.index = index,
                                .finish = tokens[index][count[index] - 1] == 257
                                              ? MOERUN_FINISH_EOS
                                              : MOERUN_FINISH_LENGTH,
                                .num_prompt = 7,
                                .num_tokens = count[index],
                                .token = tokens[index],
                                .logprobs_width = is_told ? WIDTH : 0,
                                .num_logprobs = is_told ? count[index] : 0,
                                .logprob = logprob};
  return moerun__results_append(results, &c);
}

static moerun__results *open_results(int resume) {
  const moerun__results_options options = {
      .path = path, .model = &model, .resume = resume};
  moerun__results *results = NULL;
  if (!resume) (void)unlink(path);
  if (moerun__results_open(&results, prompts, tokenizer, &options) !=
      MOERUN_OK) {
    fail_msg("%s", moerun_last_error());
  }
  return results;
}

/* Finishes what is missing, in a random order. */
static void finish(moerun__results *results, uint64_t round) {
  int64_t order[REQUESTS];
  const char *id = NULL;
  moerun__outputs outputs = {0};
  for (uint32_t i = 0; i < REQUESTS; i++) {
    uint32_t r[4];
    moerun__philox(r, SEED, round, i);
    const uint32_t j = r[0] % (i + 1);
    order[i] = order[j];
    order[j] = i;
  }
  assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
  const char *reason = moerun__prompts_error(prompts, 4, &id);
  assert_int_equal(moerun__results_append_error(results, 4, id, reason),
                   MOERUN_OK);
  for (int i = 0; i < REQUESTS; i++) {
    if (moerun__results_has(results, order[i])) continue;
    assert_int_equal(append(results, order[i]), MOERUN_OK);
    const int waits = moerun__results_waits(results, order[i]);
    assert_int_equal(waits + moerun__results_has(results, order[i]), 1);
  }
  assert_int_equal(moerun__results_count(results), REQUESTS + 1);
  assert_int_equal(moerun__results_end(results, &outputs), MOERUN_OK);
  assert_int_equal(moerun__outputs_commit(&outputs), MOERUN_OK);
  moerun__results_destroy(results);
}

static char *whole; /* the file of all answers */
static size_t whole_bytes;

static void expect_whole(void) {
  char *text = NULL;
  size_t bytes = 0;
  assert_int_equal(moerun__file_read(&text, &bytes, path, BYTES), MOERUN_OK);
  assert_int_equal(bytes, whole_bytes);
  assert_memory_equal(text, whole, bytes);
  moerun__free(text);
}

static void make_whole(void) {
  if (whole != NULL) return;
  finish(open_results(0), 0);
  assert_int_equal(moerun__file_read(&whole, &whole_bytes, path, BYTES),
                   MOERUN_OK);
}

/* Every key of the one is one of the other, with a value of the same kind; but
 * keys that are texts of tokens are whatever they are. */
static void expect_alike(json_t *mine, json_t *theirs, const char *at) {
  const char *key = NULL;
  json_t *value = NULL;
  size_t i = 0;
  if (json_typeof(mine) != json_typeof(theirs) &&
      !(json_is_number(mine) && json_is_number(theirs))) {
    fail_msg("%s: expected %s, found %s", at, moerun__json_kind(theirs),
             moerun__json_kind(mine));
  }
  if (json_is_array(mine) && json_array_size(theirs) > 0) {
    json_array_foreach(mine, i, value) {
      const size_t k = i < json_array_size(theirs) ? i : 0;
      expect_alike(value, json_array_get(theirs, k), at);
    }
  }
  const int is_by_text = strcmp(at, "top_logprobs") == 0 &&
                         json_object_get(theirs, "token") == NULL;
  if (!json_is_object(mine) || is_by_text) return;
  json_object_foreach(mine, key, value) {
    if (json_object_get(theirs, key) == NULL) fail_msg("%s: more: %s", at, key);
    expect_alike(value, json_object_get(theirs, key), key);
  }
  json_object_foreach(theirs, key, value) {
    if (json_object_get(mine, key) == NULL) fail_msg("%s: no %s", at, key);
  }
}

static void answers_are_of_the_published_form(void **state) {
  (void)state;
  char *theirs = NULL;
  size_t bytes = 0;
  make_whole();
  assert_int_equal(moerun__file_read(&theirs, &bytes, published, BYTES),
                   MOERUN_OK);
  const char *a = whole;
  const char *b = theirs;
  for (int i = 0; i < LINES; i++) {
    json_t *mine = NULL;
    json_t *other = NULL;
    const size_t n = strcspn(a, "\n");
    const size_t m = strcspn(b, "\n");
    assert_int_equal(moerun__json_parse(&mine, a, n, "mine"), MOERUN_OK);
    assert_int_equal(moerun__json_parse(&other, b, m, "theirs"), MOERUN_OK);
    expect_alike(mine, other, "line");
    assert_string_equal(json_string_value(json_object_get(mine, "custom_id")),
                        json_string_value(json_object_get(other, "custom_id")));
    json_decref(mine);
    json_decref(other);
    a += n + 1;
    b += m + 1;
  }
  assert_int_equal(*a, '\0');
  moerun__free(theirs);
}

static void answers_say_what_was_generated(void **state) {
  (void)state;
  make_whole();
  static const char *const words[] = {
      "\"object\":\"chat.completion\",\"created\":0,\"model\":\"gpt-4o-mini\","
      "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\","
      "\"content\":\"N\xC3\xA9\",\"refusal\":null},\"logprobs\":null,"
      "\"finish_reason\":\"stop\"}],\"usage\":{\"prompt_tokens\":7,"
      "\"completion_tokens\":4,\"total_tokens\":11},\"system_fingerprint\":"
      "\"fp_0123456789abcdef\"}},\"error\":null}\n",
      "\"content\":\"a\xEF\xBF\xBD\\\"\\n\"",
      "{\"token\":\"bytes:\\\\xe2\",\"logprob\":-0.75,\"bytes\":[226],",
      /* Of two samples, one prompt. */
      "\"usage\":{\"prompt_tokens\":7,\"completion_tokens\":6,"
      "\"total_tokens\":13}",
      "\"object\":\"text_completion\",\"created\":0,\"model\":"
      "\"gpt-3.5-turbo-instruct\",\"choices\":[{\"index\":0,\"text\":\", \","
      "\"logprobs\":{\"tokens\":[\",\",\" \"],\"token_logprobs\":[-0,-0.75],"
      "\"top_logprobs\":[{\"=\":-0.25,\">\":-0.5},{\"@\":-1,\"A\":-1.25}],"
      "\"text_offset\":[0,1]},\"finish_reason\":\"length\"}]",
      "\"custom_id\":\"request-4\",\"response\":{\"status_code\":400,",
  };
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    if (strstr(whole, words[i]) == NULL) fail_msg("%s in %s", words[i], whole);
  }
}

/* In any order, and from any interruption on. */
static void answers_are_the_same_bytes(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  make_whole();
  const size_t with_whole = moerun__alloc_live();
  print_message("seed %d\n", SEED);
  for (uint64_t round = 1; round < 12; round++) {
    finish(open_results(0), round);
    expect_whole();
  }
  for (size_t cut = 0; cut <= whole_bytes; cut += cut % 5 == 0 ? 1 : 61) {
    assert_int_equal(moerun__file_write(path, whole, cut), MOERUN_OK);
    finish(open_results(1), cut);
    expect_whole();
  }
  assert_int_equal(moerun__alloc_live(), with_whole);
  (void)live;
}

/* A byte that was changed anywhere in an answer, and other weights. */
static void changed_answers_are_refused(void **state) {
  (void)state;
  const moerun__results_options options = {
      .path = path, .model = &model, .resume = 1};
  moerun__results *results = NULL;
  make_whole();
  char *text = NULL;
  assert_int_equal(moerun__copy_text(&text, whole), MOERUN_OK);
  const size_t first = strcspn(whole, "\n");
  for (size_t i = 0; i < first; i++) {
    text[i] = (char)(text[i] == '7' ? '8' : '7');
    assert_int_equal(moerun__file_write(path, text, whole_bytes), MOERUN_OK);
    assert_int_equal(
        moerun__results_open(&results, prompts, tokenizer, &options),
        MOERUN_ERR_FORMAT);
    assert_non_null(strstr(moerun_last_error(), ":1: cannot resume"));
    text[i] = whole[i];
  }
  moerun__free(text);
  static const uint64_t other = 1;
  assert_int_equal(moerun__file_write(path, whole, whole_bytes), MOERUN_OK);
  results = open_results(1);
  assert_int_equal(moerun__results_begin(results, &other), MOERUN_ERR_FORMAT);
  moerun__results_destroy(results);
  /* What no run of this file has written stays. */
  static const char *const torn[] = {
      "{\"id\":\"batch_req_0123456789abcdef0123456789abcdef", "{\"index\":0",
      "{\"id\":\"batch_req_0123456789abcdef0000000000000000\",\"x"};
  for (size_t i = 0; i < sizeof torn / sizeof *torn; i++) {
    scratch_write(path, torn[i]);
    assert_int_equal(
        moerun__results_open(&results, prompts, tokenizer, &options),
        MOERUN_ERR_FORMAT);
  }
}

/* ---- Samples of lines that are no batch ---------------------------------- */

static void samples_have_lines_and_draws_of_their_own(void **state) {
  (void)state;
  static const char file[] =
      "\xEF\xBB\xBF{\"id\":\"a\",\"prompt\":\"x\",\"temperature\":1}\n"
      "{\"id\":\"b\",\"prompt\":\"x\",\"temperature\":1,\"n\":3}\n"
      "{\"prompt\":\"y\",\"n\":1}\n";
  static const int32_t tokens[] = {'h', 257};
  moerun__prompt_options options = defaults();
  moerun__prompts *of = NULL;
  moerun__prompt p = {0};
  moerun__results *results = NULL;
  char *text = NULL;
  size_t bytes = 0;
  uint64_t stream[5];
  options.stop = "zz"; /* once for each */
  char in[TEMP_PATH];
  scratch_write(temp_path(in, &dir, "in"), file);
  assert_int_equal(moerun__prompts_open(&of, in, &options), MOERUN_OK);
  assert_int_equal(moerun__prompts_count(of), 5);
  for (int i = 0; i < 5; i++) {
    assert_int_equal(moerun__prompts_read(of, &p, i), MOERUN_OK);
    stream[i] = p.request.sampling.stream;
    for (int k = 0; k < i; k++) {
      assert_true(stream[i] != stream[k]);
      assert_true(moerun__prompts_digest(of, i) !=
                  moerun__prompts_digest(of, k));
    }
  }
  assert_string_equal(p.id.bytes, "2");
  /* A sample whose prompt was read just before, and had tokens put behind it,
   * is as if it were read alone. */
  assert_int_equal(moerun__prompts_read(of, &p, 1), MOERUN_OK);
  for (int i = 2; i < 4; i++) {
    assert_int_equal(moerun__token_list_append(&p.tokens, 7), MOERUN_OK);
    p.request.num_kept = 1;
    assert_int_equal(moerun__prompts_read(of, &p, i), MOERUN_OK);
    assert_int_equal(p.tokens.count, 1);
    assert_int_equal(p.request.num_kept, 0);
    assert_int_equal(p.request.index, i);
    assert_true(p.request.sampling.stream == stream[i]);
    assert_true(p.digest == moerun__prompts_digest(of, i));
  }
  const moerun__results_options fresh = {.path = path, .overwrite = 1};
  const moerun__results_options resume = {
      .path = path, .model = &model, .resume = 1};
  assert_int_equal(moerun__results_open(&results, of, tokenizer, &fresh),
                   MOERUN_OK);
  assert_int_equal(moerun__results_begin(results, &weights), MOERUN_OK);
  for (int64_t i = 4; i >= 0; i--) {
    const moerun__completion c = {.index = i,
                                  .finish = MOERUN_FINISH_EOS,
                                  .num_tokens = 2,
                                  .token = tokens};
    assert_int_equal(moerun__results_append(results, &c), MOERUN_OK);
  }
  moerun__results_destroy(results);
  assert_int_equal(moerun__file_read(&text, &bytes, path, BYTES), MOERUN_OK);
  static const char *const words[] = {
      "{\"index\":2,\"id\":2,\"prompt_tokens\":1,",
      "{\"index\":1,\"id\":\"b\",\"sample\":2,\"prompt_tokens\":1,",
      "{\"index\":1,\"id\":\"b\",\"sample\":0,\"prompt_tokens\":1,",
      "{\"index\":0,\"id\":\"a\",\"prompt_tokens\":1,"};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    if (strstr(text, words[i]) == NULL) fail_msg("%s in %s", words[i], text);
  }
  int64_t kept = 0;
  for (size_t cut = 1; cut <= bytes; cut++) {
    kept += text[cut - 1] == '\n';
    assert_int_equal(moerun__file_write(path, text, cut), MOERUN_OK);
    if (moerun__results_open(&results, of, tokenizer, &resume) != MOERUN_OK) {
      fail_msg("%s", moerun_last_error());
    }
    assert_int_equal(moerun__results_count(results), kept);
    moerun__results_destroy(results);
  }
  scratch_write(path,
                "{\"index\":1,\"id\":\"b\",\"sample\":3,\"tokens\":[]}\n");
  assert_int_equal(moerun__results_open(&results, of, tokenizer, &resume),
                   MOERUN_ERR_FORMAT);
  assert_non_null(strstr(moerun_last_error(), "has no sample 3"));
  moerun__free(text);
  moerun__prompt_clear(&p);
  moerun__prompts_destroy(of);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(requests_are_what_lines_ask_for),
      cmocka_unit_test(wrong_lines_are_told_of),
      cmocka_unit_test(a_line_of_prompts_is_parsed_once),
      cmocka_unit_test(answers_are_of_the_published_form),
      cmocka_unit_test(answers_say_what_was_generated),
      cmocka_unit_test(answers_are_the_same_bytes),
      cmocka_unit_test(changed_answers_are_refused),
      cmocka_unit_test(samples_have_lines_and_draws_of_their_own),
  };
  return cmocka_run_group_tests(tests, set_up, tear_down);
}
