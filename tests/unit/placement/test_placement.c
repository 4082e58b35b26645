/* Placements: invariants over random sizes, the file there and back, every
 * kind of bad file with its exact message, and failed allocations. */
#include "placement/map/placement.h"
#include "runtime/base/memory.h"
#include "runtime/base/rng.h"
#include "support/cmocka.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEED = 20, CASES = 200 };

/* ---- Random placements --------------------------------------------------- */

static uint64_t draws; /* counter of the generator */

static int32_t draw_below(int32_t bound) {
  uint32_t r[4];
  moerun__philox(r, SEED, 0, draws++);
  return (int32_t)(r[0] % (uint32_t)bound);
}

/* Every rank takes part in each expert with a chance of 1/4; an expert that got
 * none has one at random. */
static moerun_placement *random_placement(int32_t layers, int32_t E,
                                          int32_t R) {
  const int32_t entries = layers * E;
  int32_t *offset = calloc((size_t)entries + 1, sizeof *offset);
  int32_t *rank_of = calloc((size_t)entries * (size_t)R, sizeof *rank_of);
  moerun_placement *placement = NULL;
  if (offset == NULL || rank_of == NULL) abort();
  for (int32_t n = 0; n < entries; n++) {
    int32_t next = offset[n];
    for (int32_t r = 0; r < R; r++) {
      if (draw_below(4) == 0) rank_of[next++] = r;
    }
    if (next == offset[n]) rank_of[next++] = draw_below(R);
    offset[n + 1] = next;
  }
  assert_int_equal(moerun__placement_create(&placement, layers, E, R, offset,
                                            rank_of, "random"),
                   MOERUN_OK);
  free(offset);
  free(rank_of);
  return placement;
}

/* Expert `expert` of the layer has exactly one replica at (rank, slot). */
static int is_at(const moerun_placement *p, int32_t layer, int32_t expert,
                 int32_t rank, int32_t slot) {
  const int32_t n = layer * p->num_experts + expert;
  int found = 0;
  for (int32_t i = p->replica_offset[n]; i < p->replica_offset[n + 1]; i++) {
    found += p->rank_of[i] == rank && p->slot_of[i] == slot;
  }
  return found == 1;
}

/* The contract of placement.h, written a second time. */
static void assert_placement(const moerun_placement *p) {
  if (p == NULL) abort();
  assert_int_equal(moerun__placement_check(p), MOERUN_OK);
  int32_t *experts = calloc((size_t)p->num_experts, sizeof *experts);
  if (experts == NULL) abort();
  int64_t hosted = 0;
  int32_t most_of_all = 0;
  for (int32_t r = 0; r < p->num_ranks; r++) {
    int32_t most = 0;
    for (int32_t l = 0; l < p->num_layers; l++) {
      const int32_t L = moerun__placement_experts(p, l, r, experts);
      assert_int_equal(L, moerun__placement_experts(p, l, r, NULL));
      most = L > most ? L : most;
      hosted += L;
      for (int32_t s = 0; s < L; s++) {
        assert_true(s == 0 || experts[s] > experts[s - 1]);
        assert_true(is_at(p, l, experts[s], r, s));
      }
    }
    assert_int_equal(most, moerun__placement_max_slots(p, r));
    most_of_all = most > most_of_all ? most : most_of_all;
  }
  assert_int_equal(most_of_all, p->most_slots);
  const int32_t entries = p->num_layers * p->num_experts;
  assert_int_equal(hosted, p->replica_offset[entries]);
  free(experts);
}

static void assert_equal(const moerun_placement *a, const moerun_placement *b) {
  assert_int_equal(a->num_layers, b->num_layers);
  assert_int_equal(a->num_experts, b->num_experts);
  assert_int_equal(a->num_ranks, b->num_ranks);
  assert_string_equal(a->model, b->model);
  assert_string_equal(a->method, b->method);
  const size_t entries = (size_t)a->num_layers * (size_t)a->num_experts;
  assert_memory_equal(a->replica_offset, b->replica_offset,
                      (entries + 1) * sizeof(int32_t));
  const size_t replicas = (size_t)a->replica_offset[entries];
  assert_memory_equal(a->rank_of, b->rank_of, replicas * sizeof(int32_t));
  assert_memory_equal(a->slot_of, b->slot_of, replicas * sizeof(int32_t));
}

static void random_placements_keep_the_invariants(void **state) {
  (void)state;
  for (int n = 0; n < CASES; n++) {
    moerun_placement *p = random_placement(
        1 + draw_below(4), 1 + draw_below(40), 1 + draw_below(24));
    assert_placement(p);
    moerun_placement_destroy(p);
  }
  moerun_placement_destroy(NULL);
}

static void blocks_are_contiguous_and_even(void **state) {
  (void)state;
  for (int n = 0; n < CASES; n++) {
    const int32_t E = 1 + draw_below(70);
    const int32_t R = 1 + draw_below(100); /* may exceed E */
    moerun_placement *p = NULL;
    assert_int_equal(moerun_placement_create_block(&p, 2, E, R), MOERUN_OK);
    assert_placement(p);
    assert_string_equal(p->method, "block");
    for (int32_t e = 0; e < 2 * E; e++) {
      assert_int_equal(p->replica_offset[e], e);
      assert_int_equal(p->rank_of[e], e % E * R / E);
    }
    for (int32_t r = 0; r < R; r++) {
      const int32_t L = moerun__placement_max_slots(p, r);
      assert_true(L == E / R || L == (E + R - 1) / R);
    }
    moerun_placement_destroy(p);
  }
}

static void given_ranks_are_kept(void **state) {
  (void)state;
  static const int32_t ranks[2 * 4] = {2, 0, 2, 2, 1, 1, 0, 1};
  static const int32_t slots[2 * 4] = {0, 0, 1, 2, 0, 1, 0, 2};
  moerun_placement *p = NULL;
  assert_int_equal(moerun_placement_create(&p, 2, 4, 3, ranks), MOERUN_OK);
  assert_placement(p);
  assert_memory_equal(p->rank_of, ranks, sizeof ranks);
  assert_memory_equal(p->slot_of, slots, sizeof slots);
  assert_int_equal(moerun__placement_max_slots(p, 2), 3);
  assert_int_equal(moerun__placement_max_slots(p, 0), 1);
  moerun_placement_destroy(p);
}

static void large_sizes_do_not_overflow(void **state) {
  (void)state;
  moerun_placement *p = NULL;
  assert_int_equal(moerun_placement_create_block(&p, 4, 65536, 1 << 20),
                   MOERUN_OK);
  assert_int_equal(p->rank_of[65535], 65535 * 16);
  assert_int_equal(moerun__placement_check(p), MOERUN_OK);
  moerun_placement_destroy(p);
}

static void refused(moerun_status status, const moerun_placement *out,
                    const char *line) {
  assert_int_equal(status, MOERUN_ERR_INVALID);
  assert_null(out);
  assert_string_equal(moerun_last_error(), line);
}

static void bad_arguments_are_refused(void **state) {
  (void)state;
  moerun_placement *p = NULL;
  refused(moerun_placement_create_block(&p, 0, 4, 2), p,
          "placement: layers: expected 1 to 4096, found 0");
  refused(moerun_placement_create_block(&p, 1, 65537, 2), p,
          "placement: experts: expected 1 to 65536, found 65537");
  refused(moerun_placement_create_block(&p, 1, 4, -1), p,
          "placement: ranks: expected 1 to 1048576, found -1");
  refused(moerun_placement_create_block(&p, 4096, 65536, 2), p,
          "placement: expected layers x experts and layers x ranks of at most "
          "4194304, found 268435456 and 8192");
  static const int32_t ranks[] = {0, 1, 2, 0};
  refused(moerun_placement_create(&p, 2, 2, 2, ranks), p,
          "placement: layer 1, expert 0: expected a rank from 0 to 1, found 2");
  refused(moerun_placement_create(&p, 2, 2, 2, NULL), p,
          "moerun_placement_create: rank_of_expert is NULL");
  refused(moerun_placement_load(&p, NULL), p,
          "moerun_placement_load: expected a path, found NULL");
  refused(moerun_placement_load(&p, ""), p,
          "moerun_placement_load: expected a path, found an empty one");
  refused(moerun_placement_save(p, NULL), p,
          "moerun_placement_save: expected a path, found NULL");
  refused(moerun_placement_save(p, ""), p,
          "moerun_placement_save: expected a path, found an empty one");
  static const int32_t none[] = {0, 1, 1};
  refused(moerun__placement_create(&p, 1, 2, 2, none, ranks, "x"), p,
          "placement: layer 0, expert 1: expected at least one replica, "
          "found 0");
  static const int32_t late[] = {1, 2, 3};
  refused(moerun__placement_create(&p, 1, 2, 3, late, ranks, "x"), p,
          "placement: the first replica offset: expected 0, found 1");
  static const int32_t twice[] = {0, 2, 4};
  static const int32_t falling[] = {0, 1, 1, 0};
  refused(moerun__placement_create(&p, 1, 2, 2, twice, falling, "x"), p,
          "placement: layer 0, expert 1: expected ascending ranks, found 0 "
          "after 1");
  static const int32_t many[] = {0, (1 << 24) + 1, (1 << 24) + 2};
  refused(moerun__placement_create(&p, 1, 2, 2, many, falling, "x"), p,
          "placement: layer 0, expert 0: expected at most 16777216 replicas in "
          "all, found 16777217");
}

static void check_finds_what_is_broken(void **state) {
  (void)state;
  moerun_placement *p = NULL;
  assert_int_equal(moerun_placement_create_block(&p, 1, 4, 2), MOERUN_OK);
  p->slot_of[1] = 0;
  refused(moerun__placement_check(p), NULL,
          "placement: layer 0, rank 0: expected slot 1 next in expert order, "
          "found 0");
  p->slot_of[1] = 1;
  p->slot_count[1] = 3;
  refused(moerun__placement_check(p), NULL,
          "placement: layer 0, rank 1: expected 2 slots, found 3");
  refused(moerun_placement_save(p, "nowhere/p.json"), NULL,
          "placement: layer 0, rank 1: expected 2 slots, found 3");
  moerun_placement_destroy(p);
}

/* ---- Files --------------------------------------------------------------- */

static char path[64];

static int make_path(void **state) {
  (void)state;
  (void)snprintf(path, sizeof path, "/tmp/moerun_test_placement.%ld.json",
                 (long)getpid());
  return 0;
}

static int remove_path(void **state) {
  (void)state;
  (void)unlink(path);
  return 0;
}

static void files_come_back_equal(void **state) {
  (void)state;
  for (int n = 0; n < 15; n++) {
    moerun_placement *p = random_placement(
        1 + draw_below(4), 1 + draw_below(40), 1 + draw_below(24));
    moerun_placement *back = NULL;
    moerun__free(p->model);
    assert_int_equal(
        moerun__copy_text(&p->model, "caf\xc3\xa9 \"a\\b\"\n\x01 80 %s"),
        MOERUN_OK);
    assert_int_equal(moerun_placement_save(p, path), MOERUN_OK);
    assert_int_equal(moerun_placement_load(&back, path), MOERUN_OK);
    assert_placement(back);
    assert_equal(p, back);
    moerun_placement_destroy(p);
    moerun_placement_destroy(back);
  }
}

static void the_largest_ranks_fit_in_the_text(void **state) {
  (void)state;
  enum { R = 1 << 20, REPLICAS = 60000 };
  static const int32_t offset[] = {0, REPLICAS};
  int32_t *rank_of = calloc(REPLICAS, sizeof *rank_of);
  moerun_placement *p = NULL;
  moerun_placement *back = NULL;
  assert_non_null(rank_of);
  for (int32_t i = 0; i < REPLICAS; i++) {
    rank_of[i] = R - REPLICAS + i;
  }
  assert_int_equal(
      moerun__placement_create(&p, 1, 1, R, offset, rank_of, "wide"),
      MOERUN_OK);
  assert_int_equal(moerun_placement_save(p, path), MOERUN_OK);
  assert_int_equal(moerun_placement_load(&back, path), MOERUN_OK);
  assert_equal(p, back);
  moerun_placement_destroy(p);
  moerun_placement_destroy(back);
  free(rank_of);
}

static void the_file_is_one_line_per_layer(void **state) {
  (void)state;
  static const int32_t offset[] = {0, 1, 3, 4, 5};
  static const int32_t rank_of[] = {0, 0, 1, 1, 0};
  static const char expected[] = "{\n"
                                 "  \"format\": \"moerun-placement\",\n"
                                 "  \"version\": 1,\n"
                                 "  \"model\": \"\",\n"
                                 "  \"method\": \"by hand\",\n"
                                 "  \"num_layers\": 2,\n"
                                 "  \"num_experts\": 2,\n"
                                 "  \"num_ranks\": 2,\n"
                                 "  \"layers\": [\n"
                                 "    [[0], [0, 1]],\n"
                                 "    [[1], [0]]\n"
                                 "  ]\n"
                                 "}\n";
  moerun_placement *p = NULL;
  char text[sizeof expected + 1] = "";
  assert_int_equal(
      moerun__placement_create(&p, 2, 2, 2, offset, rank_of, "by hand"),
      MOERUN_OK);
  assert_int_equal(moerun_placement_save(p, path), MOERUN_OK);
  FILE *file = fopen(path, "rb");
  assert_non_null(file);
  assert_int_equal(fread(text, 1, sizeof text, file), sizeof expected - 1);
  (void)fclose(file);
  assert_string_equal(text, expected);
  moerun_placement_destroy(p);
}

static void missing_files_are_named(void **state) {
  (void)state;
  moerun_placement *p = NULL;
  assert_int_equal(moerun_placement_load(&p, "nowhere/p.json"), MOERUN_ERR_IO);
  assert_null(p);
  assert_string_equal(
      moerun_last_error(),
      "nowhere/p.json: cannot be opened: no such file or directory");
}

/* A good file with `from` replaced by `to`, and what is said about it. */
typedef struct bad_file {
  const char *from;
  const char *to;
  const char *message; /* after "p.json: " */
} bad_file;

static const char good[] =
    "{\"format\":\"moerun-placement\",\"version\":1,\"model\":\"m\","
    "\"method\":\"block\",\"num_layers\":2,\"num_experts\":3,\"num_ranks\":4,"
    "\"layers\":[[[0],[1],[2]],[[3],[0,2],[1]]]}";

static const bad_file bad_files[] = {
    {good, "",
     "line 1, column 0: not valid JSON: '[' or '{' expected near end "
     "of file"},
    {good, "[1]", "expected a JSON object, found an array"},
    {good, "{}", "key \"format\": expected a string, found nothing"},
    {"[1]]]}", "[1]]]",
     "line 1, column 155: not valid JSON: '}' expected near end of file"},
    {"[1]]]}", "[1]]]} x",
     "line 1, column 158: not valid JSON: end of file expected near 'x'"},
    {"\"num_ranks\":4", "\"num_ranks\":4,\"num_ranks\":4",
     "line 1, column 126: not valid JSON: duplicate object key near "
     "'\"num_ranks\"'"},
    {"\"m\"", "\"\xff\"",
     "line 1, column 50: not valid JSON: unable to decode byte 0xff near "
     "'\"'"},
    {"moerun-placement", "moerun-trace",
     "key \"format\": expected \"moerun-placement\", found \"moerun-trace\""},
    {"\"moerun-placement\"", "1",
     "key \"format\": expected a string, found an integer"},
    {"\"version\":1", "\"version\":2", "key \"version\": expected 1, found 2"},
    {"\"version\":1", "\"version\":1.0",
     "key \"version\": expected an integer, found a real number"},
    {"\"version\":1,", "",
     "key \"version\": expected an integer, found nothing"},
    {"\"method\"", "\"cost\":1.5,\"method\"", "unknown key \"cost\""},
    {"\"model\":\"m\",", "", "key \"model\": expected a string, found nothing"},
    {"\"block\"", "null", "key \"method\": expected a string, found nothing"},
    {"\"num_layers\":2", "\"num_layers\":0",
     "key \"num_layers\": expected 1 to 4096, found 0"},
    {"\"num_layers\":2", "\"num_layers\":4097",
     "key \"num_layers\": expected 1 to 4096, found 4097"},
    {"\"num_experts\":3", "\"num_experts\":-3",
     "key \"num_experts\": expected 1 to 65536, found -3"},
    {"\"num_experts\":3", "\"num_experts\":9223372036854775807",
     "key \"num_experts\": expected 1 to 65536, found 9223372036854775807"},
    {"\"num_experts\":3", "\"num_experts\":9223372036854775808",
     "key \"num_experts\": expected 1 to 65536, found 9.22337e+18"},
    {"\"num_ranks\":4", "\"num_ranks\":1048577",
     "key \"num_ranks\": expected 1 to 1048576, found 1048577"},
    {"\"num_ranks\":4", "\"num_ranks\":\"4\"",
     "key \"num_ranks\": expected an integer, found a string"},
    {"\"num_layers\":2,\"num_experts\":3",
     "\"num_layers\":4096,\"num_experts\":65536",
     "expected num_layers x num_experts and num_layers x num_ranks of at most "
     "4194304, found 268435456"},
    {"\"layers\":[[[0],[1],[2]],[[3],[0,2],[1]]]", "\"layers\":{}",
     "key \"layers\": expected an array, found an object"},
    {",[[3],[0,2],[1]]", "", "key \"layers\": expected 2 entries, found 1"},
    {"[[3],[0,2],[1]]", "7", "layers[1]: expected an array, found an integer"},
    {"[0],[1],[2]", "[0],[1]", "layers[0]: expected 3 entries, found 2"},
    {"[3],[0,2],[1]", "[3],[0,2],[1],[1]",
     "layers[1]: expected 3 entries, found 4"},
    {"[3],", "3,", "layers[1][0]: expected an array, found an integer"},
    {"[3],", "[],",
     "layers[1][0]: expected at least one rank, found an empty array"},
    {"[0,2]", "[0,true]",
     "layers[1][1][1]: expected an integer, found a boolean"},
    {"[0,2]", "[0,4]", "layers[1][1][1]: expected a rank from 0 to 3, found 4"},
    {"[0,2]", "[-1,2]",
     "layers[1][1][0]: expected a rank from 0 to 3, found -1"},
    {"[0,2]", "[4294967296]",
     "layers[1][1][0]: expected a rank from 0 to 3, found 4294967296"},
    {"[0,2]", "[2,2]", "layers[1][1]: rank 2 is there twice"},
    {"[0,2]", "[2,0]",
     "layers[1][1]: expected ascending ranks, found 0 after 2"},
};

static void bad_files_get_one_clear_line(void **state) {
  (void)state;
  moerun_placement *p = NULL;
  assert_int_equal(moerun__placement_parse(&p, good, sizeof good - 1, "p.json"),
                   MOERUN_OK);
  assert_placement(p);
  moerun_placement_destroy(p);
  const size_t live = moerun__alloc_live();
  for (size_t n = 0; n < sizeof bad_files / sizeof *bad_files; n++) {
    const bad_file *bad = &bad_files[n];
    char text[512];
    char line[512];
    const char *at = strstr(good, bad->from);
    assert_non_null(at);
    (void)snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good,
                   bad->to, at + strlen(bad->from));
    (void)snprintf(line, sizeof line, "p.json: %s", bad->message);
    assert_int_equal(moerun__placement_parse(&p, text, strlen(text), "p.json"),
                     MOERUN_ERR_FORMAT);
    assert_string_equal(moerun_last_error(), line);
    assert_null(p);
    assert_int_equal(moerun__alloc_live(), live);
  }
}

/* Every prefix of a good file is refused, none is read past its end: the copy
 * has no byte more. */
static void torn_files_are_refused(void **state) {
  (void)state;
  for (size_t bytes = 0; bytes < sizeof good - 1; bytes++) {
    moerun_placement *p = NULL;
    char *text = malloc(bytes + (bytes == 0));
    assert_non_null(text);
    memcpy(text, good, bytes);
    assert_int_equal(moerun__placement_parse(&p, text, bytes, "p.json"),
                     MOERUN_ERR_FORMAT);
    assert_null(p);
    free(text);
  }
}

/* ---- Failed allocations -------------------------------------------------- */

static long json_countdown = -1;
static long json_live;

static void *json_alloc(size_t bytes) {
  if (json_countdown >= 0 && json_countdown-- == 0) return NULL;
  void *memory = malloc(bytes);
  json_live += memory != NULL;
  return memory;
}

static void json_release(void *memory) {
  json_live -= memory != NULL;
  free(memory);
}

typedef moerun_status (*maker)(moerun_placement **out);

static moerun_status make_block(moerun_placement **out) {
  return moerun_placement_create_block(out, 2, 5, 3);
}

static moerun_status make_parsed(moerun_placement **out) {
  return moerun__placement_parse(out, good, sizeof good - 1, "p.json");
}

static moerun_status make_saved_and_loaded(moerun_placement **out) {
  moerun_placement *first = NULL;
  moerun_status status = make_block(&first);
  if (status == MOERUN_OK) status = moerun_placement_save(first, path);
  if (status == MOERUN_OK) status = moerun_placement_load(out, path);
  moerun_placement_destroy(first);
  return status;
}

static void failed_allocations_leave_nothing_behind(void **state) {
  (void)state;
  static const maker makers[] = {make_block, make_parsed,
                                 make_saved_and_loaded};
  for (size_t m = 0; m < sizeof makers / sizeof *makers; m++) {
    const size_t live = moerun__alloc_live();
    for (long nth = 0;; nth++) {
      moerun_placement *p = NULL;
      moerun__alloc_fail_nth(nth);
      const moerun_status status = makers[m](&p);
      moerun__alloc_fail_nth(-1);
      if (status == MOERUN_OK) {
        assert_true(nth >= 7);
        assert_placement(p);
        moerun_placement_destroy(p);
        break;
      }
      assert_int_equal(status, MOERUN_ERR_NOMEM);
      assert_null(p);
      assert_int_equal(moerun__alloc_live(), live);
    }
  }
}

/* Jansson reports a failed allocation by several codes; what counts is that no
 * placement comes out, nothing leaks and the next call works. */
static void failed_allocations_of_jansson_are_errors(void **state) {
  (void)state;
  static const maker makers[] = {make_parsed, make_saved_and_loaded};
  json_set_alloc_funcs(json_alloc, json_release);
  for (size_t m = 0; m < sizeof makers / sizeof *makers; m++) {
    const size_t live = moerun__alloc_live();
    for (long nth = 0;; nth++) {
      moerun_placement *p = NULL;
      json_countdown = nth;
      const moerun_status status = makers[m](&p);
      const int failed = json_countdown < 0;
      json_countdown = -1;
      assert_int_equal(json_live, 0);
      if (!failed) {
        assert_true(nth >= 20);
        assert_int_equal(status, MOERUN_OK);
        assert_placement(p);
        moerun_placement_destroy(p);
        break;
      }
      assert_int_not_equal(status, MOERUN_OK);
      assert_null(p);
      assert_int_equal(moerun__alloc_live(), live);
    }
  }
  json_set_alloc_funcs(malloc, free);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(random_placements_keep_the_invariants),
      cmocka_unit_test(blocks_are_contiguous_and_even),
      cmocka_unit_test(given_ranks_are_kept),
      cmocka_unit_test(large_sizes_do_not_overflow),
      cmocka_unit_test(bad_arguments_are_refused),
      cmocka_unit_test(check_finds_what_is_broken),
      cmocka_unit_test(files_come_back_equal),
      cmocka_unit_test(the_largest_ranks_fit_in_the_text),
      cmocka_unit_test(the_file_is_one_line_per_layer),
      cmocka_unit_test(missing_files_are_named),
      cmocka_unit_test(bad_files_get_one_clear_line),
      cmocka_unit_test(torn_files_are_refused),
      cmocka_unit_test(failed_allocations_leave_nothing_behind),
      cmocka_unit_test(failed_allocations_of_jansson_are_errors),
  };
  (void)printf("seed %d\n", SEED);
  const int failed = cmocka_run_group_tests(tests, make_path, remove_path);
  return failed + (moerun__alloc_live() != 0);
}
