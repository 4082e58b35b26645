/* Routed experts as inference servers return them: lists, base64, refusals. */
#include "placement/trace/trace.h"
#include "runtime/base/memory.h"
#include "support/cmocka.h"
#include "support/warnings.h"

#include <stdio.h>
#include <string.h>

static moerun__trace *parse(const char *text, int32_t num_experts) {
  moerun__trace *trace = NULL;
  const moerun_status status = moerun__trace_parse_routed(
      &trace, text, strlen(text), "r.jsonl", num_experts);
  if (status != MOERUN_OK) print_error("%s\n", moerun_last_error());
  assert_int_equal(status, MOERUN_OK);
  return trace;
}

static void assert_trace(const moerun__trace *trace) {
  static const int16_t ids[] = {0, 1, 2, 3, 1, 3, 0, 2, 3, 0, 1, 2};
  static const int64_t offset[] = {0, 2, 3};
  assert_int_equal(trace->num_tokens, 3);
  assert_int_equal(trace->num_layers, 2);
  assert_int_equal(trace->num_terms, 2);
  assert_int_equal(trace->num_experts, 4);
  assert_int_equal(trace->gate_order, 0);
  assert_int_equal(trace->num_sequences, 2);
  assert_memory_equal(trace->sequence_offset, offset, sizeof offset);
  assert_memory_equal(trace->ids, ids, sizeof ids);
}

static void lists_are_read(void **state) {
  (void)state;
  moerun__trace *trace =
      parse("{\"text\": \"x\", \"prompt_routed_experts\": [[[0,1],[2,3]]],"
            " \"routed_experts\": [[[1,3],[0,2]]]}\n"
            "\n"
            "{\"prompt_routed_experts\": null,"
            " \"routed_experts\": [[[3,0],[1,2]]]}",
            0);
  assert_trace(trace);
  moerun__trace_destroy(trace);
}

/* python3 -c 'import base64, struct; print(base64.b64encode(struct.pack(
 *   "<8i", 0, 1, 2, 3, 1, 3, 0, 2)))' */
static void base64_is_read(void **state) {
  (void)state;
  moerun__trace *trace = parse(
      "{\"num_layers\": 2, \"experts_per_token\": 2, \"meta_info\": {\"id\": "
      "1, \"routed_experts\": "
      "\"AAAAAAEAAAACAAAAAwAAAAEAAAADAAAAAAAAAAIAAAA=\"}}\n"
      "{\"num_layers\": 2, \"experts_per_token\": 2, \"routed_experts\": "
      "\"AwAAAAAAAAABAAAAAgAAAA==\"}\n",
      4);
  assert_trace(trace);
  moerun__trace_destroy(trace);
}

/* The same of fewer bytes, named beside the array. */
static void words_may_be_narrower(void **state) {
  (void)state;
  moerun__trace *trace =
      parse("{\"num_layers\": 2, \"experts_per_token\": 2, \"meta_info\": "
            "{\"routed_experts_dtype\": \"uint16\", \"routed_experts\": "
            "\"AAABAAIAAwABAAMAAAACAA==\"}}\n"
            "{\"num_layers\": 2, \"experts_per_token\": 2, "
            "\"routed_experts_dtype\": \"int8\", \"routed_experts\": "
            "\"AwABAg==\"}\n",
            4);
  assert_trace(trace);
  moerun__trace_destroy(trace);
  trace = parse("{\"num_layers\": 1, \"experts_per_token\": 2, "
                "\"routed_experts_dtype\": \"int16\", "
                "\"routed_experts\": \"AQD//wIAAwA=\"}\n"
                "{\"num_layers\": 1, \"experts_per_token\": 2, "
                "\"routed_experts_dtype\": \"uint16\", "
                "\"routed_experts\": \"AQD//wIAAwA=\"}\n",
                4);
  assert_memory_equal(trace->ids, ((const int16_t[]){1, -1, 2, 3, 1, -1, 2, 3}),
                      16);
  moerun__trace_destroy(trace);
}

/* python3 -c 'import base64, io, numpy; f = io.BytesIO(); numpy.save(f,
 *   numpy.array([[[0, 1], [2, 3]], [[1, 3], [0, 2]]], "u1"));
 *   print(base64.b64encode(f.getvalue()))', and of [[[3, 0], [1, 2]],
 * [[65535, 65535], [65535, 65535]]] as u2, and of [[0, 1]] */
#define ARRAY_U1                                                               \
  "k05VTVBZAQB2AHsnZGVzY3InOiAnfHUxJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZS"         \
  "wgJ3NoYXBlJzogKDIsIDIsIDIpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAg"         \
  "ICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAQIDAQMAAg=="
#define ARRAY_U2                                                               \
  "k05VTVBZAQB2AHsnZGVzY3InOiAnPHUyJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZS"         \
  "wgJ3NoYXBlJzogKDIsIDIsIDIpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAg"         \
  "ICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoDAAAAAQACAP//////////"
#define ARRAY_2D                                                               \
  "k05VTVBZAQB2AHsnZGVzY3InOiAnfHUxJywgJ2ZvcnRyYW5fb3JkZXInOiBGYWxzZS"         \
  "wgJ3NoYXBlJzogKDEsIDIpLCB9ICAgICAgICAgICAgICAgICAgICAgICAgICAgICAg"         \
  "ICAgICAgICAgICAgICAgICAgICAgICAgICAgIAoAAQ=="

static void base64_of_arrays_is_read(void **state) {
  (void)state;
  warnings_begin();
  moerun__trace *trace =
      parse("{\"choices\": [{\"routed_experts\": \"" ARRAY_U1 "\"}]}\n"
            "{\"routed_experts\": \"" ARRAY_U2 "\"}\n",
            0);
  warnings_end();
  assert_string_equal(warnings_text,
                      "r.jsonl: 1 of 4 tokens have no routing (no expert, or "
                      "one in all terms, in every layer) and are left out\n");
  assert_trace(trace);
  moerun__trace_destroy(trace);
}

static void dense_layers_are_left_out(void **state) {
  (void)state;
  moerun__trace *trace =
      parse("{\"routed_experts\": [[[0,0],[0,1],[-1,-1],[2,3]],"
            " [[0,0],[1,3],[-1,-1],[0,2]]]}\n"
            "{\"routed_experts\": [[[0,0],[3,0],[-1,-1],[1,2]]]}\n",
            0);
  assert_trace(trace);
  moerun__trace_destroy(trace);
}

/* ---- Whole responses ----------------------------------------------------- */

static void assert_sequences(const moerun__trace *trace, int64_t count,
                             const int64_t *offset) {
  assert_int_equal(trace->num_sequences, count);
  for (int64_t s = 0; s <= count; s++) {
    assert_int_equal(trace->sequence_offset[s], offset[s]);
  }
}

static void each_choice_is_a_sequence(void **state) {
  (void)state;
  moerun__trace *trace =
      parse("{\"id\": \"cmpl-1\", \"prompt_routed_experts\": [[[0,1],[2,3]]],"
            " \"choices\": [{\"index\": 0, \"routed_experts\":"
            " [[[1,3],[0,2]]]}, {\"index\": 1, \"routed_experts\":"
            " [[[3,0],[1,2]]]}]}",
            0);
  assert_trace(trace); /* the prompt was computed once */
  moerun__trace_destroy(trace);
}

/* Of one prompt each has the same, computed once; of several, its own. */
static void choices_may_have_prompts(void **state) {
  (void)state;
  moerun__trace *trace = parse("{\"choices\": [{\"finish_reason\": \"abort\","
                               " \"prompt_routed_experts\": [[[0,1],[2,3]]]},"
                               " {\"prompt_routed_experts\": [[[0,1],[2,3]]],"
                               " \"routed_experts\": [[[1,3],[0,2]]]},"
                               " {\"prompt_routed_experts\": [[[0,1],[2,3]]],"
                               " \"routed_experts\": [[[3,0],[1,2]]]}]}",
                               0);
  assert_trace(trace);
  moerun__trace_destroy(trace);
  trace = parse("{\"choices\": [{\"prompt_routed_experts\": [[[0,1],[2,3]]],"
                " \"routed_experts\": [[[1,3],[0,2]]]},"
                " {\"prompt_routed_experts\": [[[1,2],[0,3]]],"
                " \"routed_experts\": [[[3,0],[1,2]]]}]}",
                0);
  assert_sequences(trace, 2, (const int64_t[]){0, 2, 4});
  moerun__trace_destroy(trace);
}

/* What is null is not there, and what has no routing hides none. */
static void routing_is_found_where_it_is(void **state) {
  (void)state;
  moerun__trace *trace = parse("{\"meta_info\": {\"id\": 3}, \"choices\":"
                               " [{\"routed_experts\": [[[0,1],[2,3]]]}]}\n"
                               " \t\r\n"
                               "{\"routed_experts\": null, \"choices\":"
                               " [{\"routed_experts\": [[[1,3],[0,2]]]}]}\r\n"
                               "\r\n"
                               "{\"routed_experts\": null, \"meta_info\":"
                               " {\"routed_experts\": [[[3,0],[1,2]]]}}",
                               0);
  assert_sequences(trace, 3, (const int64_t[]){0, 1, 2, 3});
  moerun__trace_destroy(trace);
}

/* Of the response, and of its choices; by either name. */
static void sglang_has_an_extension(void **state) {
  (void)state;
  warnings_begin();
  moerun__trace *trace =
      parse("{\"num_layers\": 2, \"experts_per_token\": 2, \"choices\":"
            " [{\"index\": 0, \"finish_reason\": \"stop\"}], \"sglext\":"
            " {\"cached_tokens_details\": null, \"routed_experts\":"
            " \"AAAAAAEAAAACAAAAAwAAAAEAAAADAAAAAAAAAAIAAAA=\"}}\n"
            "{\"choices\": [{\"finish_reason\": \"abort\"}],"
            " \"sgl_ext\": {\"routed_experts\": null}}\n"
            "{\"num_layers\": 2, \"experts_per_token\": 2, \"choices\":"
            " [{\"index\": 0, \"finish_reason\": \"stop\", \"sgl_ext\":"
            " {\"routed_experts\": \"AwAAAAAAAAABAAAAAgAAAA==\"}}]}\n",
            4);
  warnings_end();
  moerun__trace *older = parse("{\"choices\": [{\"index\": 0}], \"sgl_ext\":"
                               " {\"routed_experts\": [[[3,0],[1,2]]]}}\n",
                               0);
  assert_sequences(older, 1, (const int64_t[]){0, 1});
  moerun__trace_destroy(older);
  assert_string_equal(warnings_text,
                      "r.jsonl: requests that were aborted have no routing and "
                      "are passed over, as are those without choices: 1\n");
  assert_trace(trace);
  moerun__trace_destroy(trace);
}

static void aborted_requests_are_passed_over(void **state) {
  (void)state;
  warnings_begin();
  moerun__trace *trace =
      parse("{\"routed_experts\": [[[0,1],[2,3]],[[1,3],[0,2]]]}\n"
            "{\"meta_info\": {\"finish_reason\": {\"type\": \"abort\"}}}\n"
            "{\"choices\": [{\"finish_reason\": \"abort\","
            " \"routed_experts\": null}]}\n"
            "{\"choices\": []}\n"
            "{\"routed_experts\": [[[3,0],[1,2]]]}",
            0);
  warnings_end();
  assert_string_equal(warnings_text,
                      "r.jsonl: requests that were aborted have no routing and "
                      "are passed over, as are those without choices: 3\n");
  assert_trace(trace);
  moerun__trace_destroy(trace);
}

/* ---- Padding ------------------------------------------------------------- */

static void tokens_without_routing_are_left_out_and_counted(void **state) {
  (void)state;
  warnings_begin();
  moerun__trace *trace =
      parse("{\"routed_experts\": [[[0,0],[0,0]],[[0,1],[2,3]],[[7,7],[9,9]],"
            " [[1,3],[0,2]],[[-1,-1],[-1,-1]]]}\n"
            "{\"routed_experts\": [[[255,255],[255,255]]]}\n"
            "{\"routed_experts\": []}\n"
            "{\"routed_experts\": [[[3,0],[1,2]],[[0,0],[0,0]]]}\n",
            0);
  warnings_end();
  assert_string_equal(
      warnings_text,
      "r.jsonl: 5 of 8 tokens have no routing (no expert, or one in all terms, "
      "in every layer) and are left out\n"
      "r.jsonl: 2 of 4 sequences have no tokens and are left out\n");
  assert_trace(trace);
  moerun__trace_destroy(trace);
}

/* One term is a choice, even of expert 0, and so are ids that differ
 * anywhere. */
static void what_a_gate_can_choose_is_kept(void **state) {
  (void)state;
  moerun__trace *trace =
      parse("{\"routed_experts\": [[[0],[0]],[[1],[0]]]}", 0);
  static const int64_t offset[] = {0, 2};
  warnings_begin();
  assert_int_equal(trace->num_tokens, 2);
  assert_int_equal(trace->num_layers, 2);
  assert_sequences(trace, 1, offset);
  moerun__trace_destroy(trace);
  trace = parse("{\"routed_experts\": [[[255,3],[4,255]],[[5,255],[6,7]]]}", 0);
  warnings_end();
  assert_string_equal(warnings_text, "");
  assert_int_equal(trace->num_experts, 256);
  assert_int_equal(trace->ids[0], 255);
  moerun__trace_destroy(trace);
}

static void terms_of_255_are_none(void **state) {
  (void)state;
  static const struct {
    const char *text;
    int32_t num_experts;
    int count;
  } cases[] = {
      /* In a term of every row; before others; twice in a row; out of range. */
      {"{\"routed_experts\": [[[0,1,255],[2,3,255]],[[1,3,255],[0,2,255]]]}\n"
       "{\"routed_experts\": [[[3,0,255],[1,2,255]]]}",
       0, 6},
      {"{\"routed_experts\": [[[255,0,1],[255,2,3]],[[255,1,3],[255,0,2]]]}\n"
       "{\"routed_experts\": [[[255,3,0],[255,1,2]]]}",
       0, 6},
      {"{\"routed_experts\": [[[0,1,-1,255],[2,3,-1,-1]],"
       "[[255,1,3,255],[0,2,-1,-1]]]}\n"
       "{\"routed_experts\": [[[3,0,-1,-1],[1,2,-1,-1]]]}",
       0, 3},
      {"{\"routed_experts\": [[[0,1,-1],[2,3,255]],[[1,3,255],[0,2,-1]]]}\n"
       "{\"routed_experts\": [[[3,0,255],[1,2,-1]]]}",
       4, 3},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    char line[160];
    warnings_begin();
    moerun__trace *trace = parse(cases[i].text, cases[i].num_experts);
    warnings_end();
    (void)snprintf(line, sizeof line,
                   "r.jsonl: 255, which is -1 in an unsigned byte, is read as "
                   "no expert (%d times)\n",
                   cases[i].count);
    assert_string_equal(warnings_text, line);
    assert_trace(trace);
    moerun__trace_destroy(trace);
  }
}

/* 255 is none of 255 experts and one of 256, which no gate chooses twice. */
static void what_255_is_follows_from_how_many_experts_there_are(void **state) {
  (void)state;
  static const char text[] =
      "{\"routed_experts\": [[[255,255],[254,255]],[[255,255],[255,7]]]}";
  warnings_begin();
  moerun__trace *trace = parse(text, 255);
  warnings_end();
  assert_string_equal(warnings_text,
                      "r.jsonl: 255, which is -1 in an unsigned byte, is read "
                      "as no expert (2 times)\n");
  assert_int_equal(trace->num_layers, 1);
  assert_int_equal(trace->num_terms, 1);
  assert_int_equal(trace->ids[0], 254);
  assert_int_equal(trace->ids[1], 7);
  moerun__trace_destroy(trace);
  warnings_begin();
  trace = parse(text, 256);
  warnings_end();
  assert_string_equal(warnings_text, "");
  assert_int_equal(trace->num_layers, 1); /* the other one is dense */
  assert_int_equal(trace->num_terms, 2);
  assert_int_equal(trace->ids[1], 255);
  moerun__trace_destroy(trace);
  /* In a term of all rows, but ids go on behind it. */
  warnings_begin();
  trace = parse("{\"routed_experts\": [[[255,300]],[[255,301]]]}", 0);
  warnings_end();
  assert_string_equal(warnings_text, "");
  assert_int_equal(trace->num_terms, 2);
  moerun__trace_destroy(trace);
}

/* Homes stay with their sequences. */
static void sequences_without_tokens_take_their_homes_along(void **state) {
  (void)state;
  moerun__trace *trace = NULL;
  assert_int_equal(moerun__trace_create(&trace, 2, 1, 4, 2), MOERUN_OK);
  static const int16_t ids[] = {0, 1, 2, 3};
  memcpy(trace->ids, ids, sizeof ids);
  moerun__free(trace->sequence_offset);
  assert_int_equal(
      moerun__alloc(&trace->sequence_offset, 4, sizeof *trace->sequence_offset),
      MOERUN_OK);
  assert_int_equal(moerun__alloc(&trace->home, 3, sizeof *trace->home),
                   MOERUN_OK);
  trace->num_sequences = 3;
  trace->num_ranks = 3;
  trace->sequence_offset[1] = 1;
  trace->sequence_offset[2] = 1;
  trace->sequence_offset[3] = 2;
  for (int s = 0; s < 3; s++) {
    trace->home[s] = s;
  }
  warnings_begin();
  assert_int_equal(moerun__trace_leave_out_padding(trace, 4, "t"), MOERUN_OK);
  warnings_end();
  assert_string_equal(warnings_text,
                      "t: 1 of 3 sequences have no tokens and are left out\n");
  assert_int_equal(trace->num_sequences, 2);
  assert_int_equal(trace->sequence_offset[2], 2);
  assert_int_equal(trace->home[0], 0);
  assert_int_equal(trace->home[1], 2);
  moerun__trace_destroy(trace);
}

/* So many tokens, 2 layers; term 2 of all is the id `shared`. */
static moerun__trace *parse_shared(int tokens, int32_t shared,
                                   int32_t num_experts) {
  char text[4096] = "{\"routed_experts\": [";
  size_t used = strlen(text);
  for (int t = 0; t < tokens; t++) {
    used +=
        (size_t)snprintf(text + used, sizeof text - used,
                         "%s[[%d,%d,%d],[%d,%d,%d]]", t > 0 ? "," : "", t % 4,
                         (t + 1) % 4, shared, (t + 2) % 4, (t + 3) % 4, shared);
  }
  (void)snprintf(text + used, sizeof text - used, "]}");
  warnings_begin();
  moerun__trace *trace = parse(text, num_experts);
  warnings_end();
  return trace;
}

static void shared_experts_are_suspected_and_left_out(void **state) {
  (void)state;
  moerun__trace *trace = parse_shared(20, 4, 0);
  assert_string_equal(warnings_text,
                      "r.jsonl: expert 4 is taken by every token in every "
                      "layer, as shared experts are: --trace-experts 4 leaves "
                      "it out\n");
  assert_int_equal(trace->num_experts, 5);
  assert_int_equal(trace->num_terms, 3);
  moerun__trace_destroy(trace);
  /* 30 rows may have it by chance. */
  trace = parse_shared(15, 4, 0);
  assert_string_equal(warnings_text, "");
  moerun__trace_destroy(trace);
  trace = parse_shared(16, 4, 0);
  assert_string_not_equal(warnings_text, "");
  moerun__trace_destroy(trace);
  trace = parse_shared(20, 4, 4);
  assert_string_equal(warnings_text,
                      "r.jsonl: expert 4, which every token takes in every "
                      "layer, is not one of the 4 experts: it is left out as a "
                      "shared one\n");
  assert_int_equal(trace->num_experts, 4);
  assert_int_equal(trace->num_terms, 2);
  moerun__trace_destroy(trace);
  /* Where tokens take all experts there are, none is shared for that. */
  char all[1024] = "{\"routed_experts\": [[[0,1]]";
  for (int t = 1; t < 40; t++) {
    (void)strcat(all, t % 2 == 0 ? ",[[0,1]]" : ",[[1,0]]");
  }
  (void)strcat(all, "]}");
  warnings_begin();
  trace = parse(all, 0);
  warnings_end();
  assert_string_equal(warnings_text, "");
  moerun__trace_destroy(trace);
}

typedef struct bad_text {
  const char *text;
  int32_t num_experts;
  const char *message;
} bad_text;

#define ONE_A_LINE                                                             \
  "r.jsonl:1: expected one JSON object a line, found a list: give each of "    \
  "its "                                                                       \
  "objects a line of its own, without the brackets and commas around them"
#define NO_SHAPE                                                               \
  "r.jsonl:1: key \"routed_experts\": this base64 does not say its shape: "    \
  "add "                                                                       \
  "both keys \"num_layers\" and \"experts_per_token\" to the line"
#define PLACES                                                                 \
  "r.jsonl:1: expected the key \"routed_experts\" in one place, the line, "    \
  "its "                                                                       \
  "\"meta_info\", its \"sglext\" or its \"choices\", found it in "
#define SHAPE "\"num_layers\":1,\"experts_per_token\":1,"

static const bad_text bad_texts[] = {
    {"", 0, "r.jsonl: expected at least one token, found none"},
    {"{\"routed_experts\":[]}", 0,
     "r.jsonl: expected at least one token, found none"},
    {"7", 0,
     "r.jsonl:1: column 1: not valid JSON: '[' or '{' expected near "
     "'7'"},
    {"[]", 0, ONE_A_LINE},
    {" [\n{\"routed_experts\":[[[1]]]}\n]", 0, ONE_A_LINE},
    {"{}", 0,
     "r.jsonl:1: expected key \"routed_experts\" with a list of tokens or a "
     "base64 string, found nothing"},
    {"{\"routed_experts\":[3]}", 0,
     "r.jsonl:1: expected a list of layers for each token, found an integer"},
    {"{\"routed_experts\":[[]]}", 0,
     "r.jsonl:1: expected 1 to 4096 layers, found 0"},
    {"{\"routed_experts\":[[3]]}", 0,
     "r.jsonl:1: expected a list of experts for each layer, found an integer"},
    {"{\"routed_experts\":[[[]]]}", 0,
     "r.jsonl:1: expected 1 to 32767 experts per layer, found 0"},
    {"{\"routed_experts\":[[[1]]]}\n{\"routed_experts\":[[[1],[0]]]}", 0,
     "r.jsonl:2: expected 1 layers, as before, found 2"},
    {"{\"routed_experts\":[[[1,0],[0]]]}", 0,
     "r.jsonl:1: expected 2 experts per layer, as before, found 1"},
    {"{\"routed_experts\":[[[1.5]]]}", 0,
     "r.jsonl:1: expected expert ids as integers, found a real number"},
    {"{\"routed_experts\":[[[1]],[[-2]]]}", 0,
     "r.jsonl:1: token 1, layer 0, term 0: expected an expert from 0 to 32766, "
     "or -1 for none, found -2"},
    {"{\"routed_experts\":[[[1]],[[5]]]}", 5,
     "r.jsonl: token 1, layer 0, term 0: expected an expert from 0 to 4, or -1 "
     "for none, found 5"},
    {"{\"routed_experts\":[[[1,2],[1,3]],[[1,2],[2,2]]]}", 0,
     "r.jsonl: token 1, layer 1: expected distinct experts, found 2 twice"},
    {"{\"routed_experts\":[[[0,0],[-1,-1]]]}", 0,
     "r.jsonl: expected routing, found none in any token and layer: no expert, "
     "or one in all terms"},
    {"{\"choices\":[{\"routed_experts\":[[[1]]]},7]}", 0,
     "r.jsonl:1: choices[1]: expected an object, found an integer"},
    {"{\"prompt_routed_experts\":[[[1]]],\"choices\":[{"
     "\"prompt_routed_experts\":[[[1]]],\"routed_experts\":[[[1]]]}]}",
     0,
     "r.jsonl:1: expected the key \"prompt_routed_experts\" in the line or in "
     "its choices, found both"},
    {"{\"prompt_routed_experts\":[[[1]]],\"meta_info\":{\"routed_experts\":"
     "[[[1]]]}}",
     0,
     "r.jsonl:1: expected the key \"prompt_routed_experts\" beside "
     "\"routed_experts\", found it elsewhere"},
    {"{\"choices\":[{\"finish_reason\":\"stop\"}]}", 0,
     "r.jsonl:1: expected key \"routed_experts\" with a list of tokens or a "
     "base64 string, found nothing"},
    {"{\"routed_experts\":\"AAAAAA==\"}", 0, NO_SHAPE},
    {"{\"num_layers\":1,\"routed_experts\":\"AAAAAA==\"}", 0, NO_SHAPE},
    {"{" SHAPE "\"routed_experts_dtype\":\"float32\",\"routed_experts\":"
     "\"AAAAAA==\"}",
     0,
     "r.jsonl:1: key \"routed_experts_dtype\": expected int32, int16 or int8, "
     "with or without a u in front, found float32"},
    {"{" SHAPE "\"routed_experts\":\"AAA?AA==\"}", 0,
     "r.jsonl:1: key \"routed_experts\": expected base64, found character 3 of "
     "8 outside it"},
    {"{" SHAPE "\"routed_experts\":\"AAAAA\"}", 0,
     "r.jsonl:1: key \"routed_experts\": expected base64, whose length is a "
     "multiple of 4, found 5 characters"},
    {"{" SHAPE "\"routed_experts\":\"AAAAAA==\",\"meta_info\":"
     "{\"routed_experts\":\"AAAAAA==\"}}",
     0, PLACES "2 of them"},
    {"{\"routed_experts\":[[[1]]],\"choices\":[{\"routed_experts\":[[[1]]]}]}",
     0, PLACES "2 of them"},
    {"{\"meta_info\":{\"routed_experts\":[[[1]]]},\"choices\":[{"
     "\"routed_experts\":[[[1]]]}]}",
     0, PLACES "2 of them"},
    {"{\"meta_info\":{\"routed_experts\":[[[1]]]},\"sglext\":{"
     "\"routed_experts\":[[[1]]]},\"choices\":[{\"sgl_ext\":{"
     "\"routed_experts\":[[[1]]]}}]}",
     0, PLACES "3 of them"},
    {"{\"choices\":[{\"routed_experts\":[[[1]]],\"sgl_ext\":{"
     "\"routed_experts\":[[[1]]]}}]}",
     0,
     "r.jsonl:1: expected the key \"routed_experts\" in a choice or in its "
     "\"sgl_ext\", found both"},
    {"{\"prompt_routed_experts\":[[[1]]],\"sglext\":{\"routed_experts\":"
     "[[[1]]]}}",
     0,
     "r.jsonl:1: expected the key \"prompt_routed_experts\" beside "
     "\"routed_experts\", found it elsewhere"},
    {"{" SHAPE "\"routed_experts\":\"AAA=AA==\"}", 0,
     "r.jsonl:1: key \"routed_experts\": expected base64, found character 3 of "
     "8 outside it"},
    {"{" SHAPE "\"routed_experts\":\"AAAAAAA=\"}", 0,
     "r.jsonl:1: key \"routed_experts\": expected a multiple of 1 layers x 1 "
     "experts, found 1 integers and 1 bytes"},
    {"{\"num_layers\":2,\"experts_per_token\":1,\"routed_experts\":"
     "\"AAAAAA==\"}",
     0,
     "r.jsonl:1: key \"routed_experts\": expected a multiple of 2 layers x 1 "
     "experts, found 1 integers and 0 bytes"},
    {"{\"routed_experts\":\"" ARRAY_2D "\"}", 0,
     "r.jsonl:1: key \"routed_experts\": expected an array "
     "[tokens][layers][terms], found 2 dimensions"},
    {"{" SHAPE "\"routed_experts\":\"/////v==\"}", 0,
     "r.jsonl:1: token 0, layer 0, term 0: expected an expert from 0 to 32766, "
     "or -1 for none, found -16777217"},
};

static void bad_lines_get_one_clear_line(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  for (size_t i = 0; i < sizeof bad_texts / sizeof *bad_texts; i++) {
    const bad_text *bad = &bad_texts[i];
    moerun__trace *trace = NULL;
    assert_int_equal(moerun__trace_parse_routed(&trace, bad->text,
                                                strlen(bad->text), "r.jsonl",
                                                bad->num_experts),
                     MOERUN_ERR_FORMAT);
    assert_string_equal(moerun_last_error(), bad->message);
    assert_null(trace);
    assert_int_equal(moerun__alloc_live(), live);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(lists_are_read),
      cmocka_unit_test(base64_is_read),
      cmocka_unit_test(words_may_be_narrower),
      cmocka_unit_test(base64_of_arrays_is_read),
      cmocka_unit_test(dense_layers_are_left_out),
      cmocka_unit_test(each_choice_is_a_sequence),
      cmocka_unit_test(choices_may_have_prompts),
      cmocka_unit_test(routing_is_found_where_it_is),
      cmocka_unit_test(sglang_has_an_extension),
      cmocka_unit_test(aborted_requests_are_passed_over),
      cmocka_unit_test(tokens_without_routing_are_left_out_and_counted),
      cmocka_unit_test(what_a_gate_can_choose_is_kept),
      cmocka_unit_test(terms_of_255_are_none),
      cmocka_unit_test(what_255_is_follows_from_how_many_experts_there_are),
      cmocka_unit_test(sequences_without_tokens_take_their_homes_along),
      cmocka_unit_test(shared_experts_are_suspected_and_left_out),
      cmocka_unit_test(bad_lines_get_one_clear_line),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
