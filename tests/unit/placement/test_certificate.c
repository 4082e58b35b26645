/* The certificate in a placement's file, and placements in the formats of
 * other systems. */
#include "placement/judge/problem.h"
#include "placement/map/certificate.h"
#include "placement/map/export.h"
#include "runtime/base/file.h"
#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "support/cmocka.h"
#include "support/draw.h"
#include "support/temp_dir.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SEED = 22, TEXT_BYTES = 4096 };

static temp_dir folder;
static char path[TEMP_PATH];

static int make_folder(void **state) {
  (void)state;
  if (!temp_dir_create(&folder)) return -1;
  (void)temp_path(path, &folder, "p");
  return 0;
}

static int remove_folder(void **state) {
  (void)state;
  temp_dir_remove(&folder);
  return 0;
}

/* ---- Gap ----------------------------------------------------------------- */

/* The cost when nothing is near: what a gap is a part of. */
static void the_worst_is_by_objective(void **state) {
  (void)state;
  moerun__trace trace = {.num_terms = 4};
  moerun__problem problem = {.trace = &trace,
                             .num_ranks = 3,
                             .objective = MOERUN_OBJECTIVE_FANOUT,
                             .node_weight = 2,
                             .far_weight = 5};
  assert_true(moerun__worst_cost(&problem) == 3);
  trace.num_terms = 2;
  assert_true(moerun__worst_cost(&problem) == 2);
  problem.objective = MOERUN_OBJECTIVE_CUT;
  assert_true(moerun__worst_cost(&problem) == 1);
  problem.objective = MOERUN_OBJECTIVE_TAIL;
  assert_true(moerun__worst_cost(&problem) == 9);
  problem.objective = MOERUN_OBJECTIVE_WEIGHTED;
  assert_true(moerun__worst_cost(&problem) == 5);
  problem.node_weight = 7;
  assert_true(moerun__worst_cost(&problem) == 7);
}

static void gaps(void **state) {
  (void)state;
  assert_true(moerun__gap(0.75, 0.5, 1) == 0.5);
  assert_true(moerun__gap(0.75, 0.75, 1) == 0);
  assert_true(moerun__gap(0.75, -1, 1) == -1);
  assert_true(moerun__gap(1, 1, 1) == 0);
}

static void objectives_have_names(void **state) {
  (void)state;
  assert_int_equal(moerun__objective_find("cut"), MOERUN_OBJECTIVE_CUT);
  assert_int_equal(moerun__objective_find("cuts"), -1);
  assert_string_equal(moerun__objective_name(MOERUN_OBJECTIVE_WEIGHTED),
                      "weighted");
}

/* ---- The file ------------------------------------------------------------ */

#define JUDGEMENT                                                              \
  "{\"fanout\": 3, \"remote\": 2, \"returned\": 4, \"node_fanout\": 1.5, "     \
  "\"cut\": 0.75, \"node_cut\": 0.5, \"weighted\": 0.625, \"tail\": 2, "       \
  "\"load\": 1.25, \"worst_load\": 1.5}"

static const char good[] =
    "{\"format\":\"moerun-placement\",\"version\":1,\"model\":\"m\","
    "\"method\":\"cd\",\"num_layers\":1,\"num_experts\":2,\"num_ranks\":2,"
    "\"certificate\":{\"topology\":\"2 ranks\",\"trace\":\"00ff00000000abcd\","
    "\"trained_on\":\"even\",\"objective\":\"cut\",\"slack\":0.05,\"seed\":3,"
    "\"seconds\":1.5,\"cost\":0.75,\"bound\":0.5,\"gap\":0.5,\"proven\":false,"
    "\"train\":{\"contiguous\":" JUDGEMENT ",\"placed\":" JUDGEMENT "},"
    "\"held_out\":{\"contiguous\":" JUDGEMENT ",\"placed\":" JUDGEMENT "}},"
    "\"layers\":[[[1],[0]]]}";

static void assert_certificate(const moerun_placement *placement) {
  const moerun__certificate *c = placement->certificate;
  assert_non_null(c);
  assert_string_equal(c->topology, "2 ranks");
  assert_string_equal(c->objective, "cut");
  assert_string_equal(c->train, "even");
  assert_true(c->trace_digest == 0x00ff00000000abcdU);
  assert_int_equal(c->seed, 3);
  assert_true(c->slack == 0.05 && c->seconds == 1.5);
  assert_true(c->cost == 0.75 && c->bound == 0.5 && c->gap == 0.5);
  assert_int_equal(c->proven, 0);
  assert_int_equal(c->has_held_out, 1);
  assert_true(c->before[MOERUN_TRAIN].fanout == 3);
  assert_true(c->after[MOERUN_HELD_OUT].worst_load == 1.5);
}

static void certificates_come_back_equal(void **state) {
  (void)state;
  moerun_placement *first = NULL;
  moerun_placement *second = NULL;
  assert_int_equal(
      moerun__placement_parse(&first, good, sizeof good - 1, "p.json"),
      MOERUN_OK);
  assert_certificate(first);
  assert_int_equal(moerun_placement_save(first, path), MOERUN_OK);
  assert_int_equal(moerun_placement_load(&second, path), MOERUN_OK);
  assert_certificate(second);
  moerun_placement_destroy(second);
  /* no bound, nothing held out */
  first->certificate->bound = -1;
  first->certificate->gap = -1;
  first->certificate->has_held_out = 0;
  assert_int_equal(moerun_placement_save(first, path), MOERUN_OK);
  assert_int_equal(moerun_placement_load(&second, path), MOERUN_OK);
  assert_true(second->certificate->bound == -1);
  assert_true(second->certificate->gap == -1);
  assert_int_equal(second->certificate->has_held_out, 0);
  moerun_placement_destroy(second);
  moerun_placement_destroy(first);
}

typedef struct bad_file {
  const char *from;
  const char *to;
  const char *message;
} bad_file;

static const bad_file bad_files[] = {
    {"\"2 ranks\"", "\"3 ranks\"",
     "key \"topology\": expected 2 ranks, found 3"},
    {"\"2 ranks\"", "\"2 rings\"",
     "key \"topology\": expected one such as \"2 nodes x 4 ranks\", found \"2 "
     "rings\""},
    {"\"2 ranks\"", "2",
     "key \"topology\": expected a string, found an integer"},
    {"00ff", "00FF",
     "key \"trace\": expected 16 hexadecimal digits, found "
     "\"00FF00000000abcd\""},
    {"00ff", "00f",
     "key \"trace\": expected 16 hexadecimal digits, found "
     "\"00f00000000abcd\""},
    {"\"even\"", "\"odd\"",
     "key \"trained_on\": expected even or all, found \"odd\""},
    {"\"objective\":\"cut\"", "\"objective\":\"cost\"",
     "key \"objective\": expected fanout, cut, weighted or tail, found "
     "\"cost\""},
    {"\"cost\":0.75,", "", "key \"cost\": expected a number, found nothing"},
    {"\"cost\":0.75", "\"cost\":-1",
     "key \"cost\": expected 0 or more, found "
     "-1"},
    {"\"bound\":0.5", "\"bound\":0.8",
     "key \"bound\": expected 0 to 0.75, found 0.8"},
    {"\"gap\":0.5", "\"gap\":1.5", "key \"gap\": expected 0 to 1, found 1.5"},
    {"\"bound\":0.5", "\"bound\":null",
     "expected keys \"bound\" and \"gap\" both or neither, found one"},
    {"\"proven\":false", "\"proven\":true",
     "key \"proven\": expected false with a gap other than 0, found true"},
    {"\"proven\":false", "\"proven\":0",
     "key \"proven\": expected true or false, found an integer"},
    {"\"seed\":3", "\"seed\":-3",
     "key \"seed\": expected 0 to 9223372036854775807, found -3"},
    {"\"slack\"", "\"slacks\"", "unknown key \"slacks\""},
    {"\"fanout\": 3,", "",
     "train: contiguous: key \"fanout\": expected a number, found nothing"},
    {"\"fanout\": 3,", "\"fanout\": \"3\",",
     "train: contiguous: key \"fanout\": expected a number, found a string"},
    {"\"tail\": 2", "\"tail\": 2, \"tails\": 2",
     "train: contiguous: unknown key \"tails\""},
    {"\"placed\"", "\"place\"", "train: unknown key \"place\""},
    {"\"train\":{", "\"trains\":{", "unknown key \"trains\""},
};

static void bad_certificates_get_one_clear_line(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  for (size_t n = 0; n < sizeof bad_files / sizeof *bad_files; n++) {
    const bad_file *bad = &bad_files[n];
    moerun_placement *p = NULL;
    char text[TEXT_BYTES];
    char line[512];
    const char *at = strstr(good, bad->from);
    assert_non_null(at);
    (void)snprintf(text, sizeof text, "%.*s%s%s", (int)(at - good), good,
                   bad->to, at + strlen(bad->from));
    (void)snprintf(line, sizeof line, "p.json: certificate: %s", bad->message);
    assert_int_equal(moerun__placement_parse(&p, text, strlen(text), "p.json"),
                     MOERUN_ERR_FORMAT);
    assert_string_equal(moerun_last_error(), line);
    assert_null(p);
    assert_int_equal(moerun__alloc_live(), live);
  }
}

static void failed_allocations_leave_nothing_behind(void **state) {
  (void)state;
  const size_t live = moerun__alloc_live();
  for (long nth = 0;; nth++) {
    moerun_placement *p = NULL;
    moerun__alloc_fail_nth(nth);
    const moerun_status status =
        moerun__placement_parse(&p, good, sizeof good - 1, "p.json");
    moerun__alloc_fail_nth(-1);
    if (status == MOERUN_OK) {
      assert_true(nth >= 12);
      assert_certificate(p);
      moerun_placement_destroy(p);
      break;
    }
    assert_int_equal(status, MOERUN_ERR_NOMEM);
    assert_null(p);
    assert_int_equal(moerun__alloc_live(), live);
  }
}

/* ---- Export -------------------------------------------------------------- */

static moerun_placement *shuffled(draw *from, int32_t L, int32_t E, int32_t R) {
  moerun_placement *placement = NULL;
  int32_t *rank_of = malloc((size_t)(L * E) * sizeof *rank_of);
  assert_non_null(rank_of);
  for (int32_t n = 0; n < L * E; n++) {
    rank_of[n] = n % E * R / E;
  }
  for (int32_t n = 0; n < L * E; n++) {
    const int32_t other = n - n % E + draw_int(from, 0, E - 1);
    const int32_t rank = rank_of[n];
    rank_of[n] = rank_of[other];
    rank_of[other] = rank;
  }
  assert_int_equal(moerun_placement_create(&placement, L, E, R, rank_of),
                   MOERUN_OK);
  free(rank_of);
  return placement;
}

static int hosts(const moerun_placement *placement, int32_t entry,
                 int32_t rank) {
  for (int32_t i = placement->replica_offset[entry];
       i < placement->replica_offset[entry + 1]; i++) {
    if (placement->rank_of[i] == rank) return 1;
  }
  return 0;
}

/* Slot s of a layer is on rank s * R / slots and holds the expert named. */
static void assert_map(const moerun_placement *placement, json_t *root) {
  json_t *map = json_object_get(root, "physical_to_logical_map");
  const size_t replicas =
      (size_t)placement
          ->replica_offset[placement->num_layers * placement->num_experts];
  size_t slots = 0;
  assert_int_equal(json_array_size(map), placement->num_layers);
  for (int32_t l = 0; l < placement->num_layers; l++) {
    json_t *layer = json_array_get(map, (size_t)l);
    const int32_t per_rank =
        (int32_t)json_array_size(layer) / placement->num_ranks;
    for (size_t s = 0; s < json_array_size(layer); s++) {
      const int32_t expert =
          (int32_t)json_integer_value(json_array_get(layer, s));
      assert_true(hosts(placement, l * placement->num_experts + expert,
                        (int32_t)s / per_rank));
    }
    slots += json_array_size(layer);
  }
  assert_int_equal(slots, replicas);
}

static moerun_status export_rows(const moerun_placement *placement,
                                 const char *target,
                                 const moerun__export_rows *rows) {
  moerun__outputs outputs = {0};
  moerun_status status =
      moerun__placement_export(placement, &outputs, target, rows);
  if (status == MOERUN_OK) status = moerun__outputs_commit(&outputs);
  return status;
}

static moerun_status export_to(const moerun_placement *placement,
                               const char *target) {
  return export_rows(placement, target, NULL);
}

static void maps_of_slots(void **state) {
  (void)state;
  char target[TEMP_PATH + 16];
  draw from = {.seed = SEED};
  (void)snprintf(target, sizeof target, "eplb:%s", path);
  for (int n = 0; n < 20; n++) {
    const int32_t R = draw_int(&from, 1, 4);
    moerun_placement *placement =
        shuffled(&from, draw_int(&from, 1, 3), R * draw_int(&from, 1, 4), R);
    json_t *root = NULL;
    assert_int_equal(export_to(placement, target), MOERUN_OK);
    assert_int_equal(moerun__json_load(&root, path, TEXT_BYTES), MOERUN_OK);
    assert_map(placement, root);
    json_decref(root);
    moerun_placement_destroy(placement);
  }
}

static void maps_may_hold_replicas(void **state) {
  (void)state;
  static const int32_t offset[] = {0, 2, 3, 4};
  static const int32_t rank_of[] = {0, 1, 0, 1};
  char target[TEMP_PATH + 16];
  char *text = NULL;
  size_t bytes = 0;
  moerun_placement *placement = NULL;
  (void)snprintf(target, sizeof target, "eplb:%s", path);
  assert_int_equal(
      moerun__placement_create(&placement, 1, 3, 2, offset, rank_of, "given"),
      MOERUN_OK);
  assert_int_equal(export_to(placement, target), MOERUN_OK);
  assert_int_equal(moerun__file_read(&text, &bytes, path, TEXT_BYTES),
                   MOERUN_OK);
  assert_string_equal(text,
                      "{\"physical_to_logical_map\": [\n[0, 1, 0, 2]]}\n");
  moerun__free(text);
  (void)snprintf(target, sizeof target, "exflow:%s", path);
  assert_int_equal(export_to(placement, target), MOERUN_ERR_INVALID);
  assert_string_equal(moerun_last_error(),
                      "--export exflow: expected one replica of each expert, "
                      "found 2 of expert 0 in layer 0");
  moerun_placement_destroy(placement);
}

/* Dense layers have rows too: before, between and after those that are
 * placed. */
static void maps_may_have_rows_of_dense_layers(void **state) {
  (void)state;
  static const int32_t rank_of[] = {1, 0, 0, 1, 1, 0, 1, 0};
  static const int32_t row_of[] = {1, 3};
  const moerun__export_rows rows = {5, row_of};
  static const char *const formats[] = {"sglang", "eplb"};
  moerun_placement *placement = NULL;
  char target[TEMP_PATH + 16];
  assert_int_equal(moerun_placement_create(&placement, 2, 4, 2, rank_of),
                   MOERUN_OK);
  for (int i = 0; i < 2; i++) {
    char *text = NULL;
    size_t bytes = 0;
    (void)snprintf(target, sizeof target, "%s:%s", formats[i], path);
    assert_int_equal(moerun__export_needs_rows(target), i == 0);
    assert_int_equal(export_rows(placement, target, &rows), MOERUN_OK);
    assert_int_equal(moerun__file_read(&text, &bytes, path, TEXT_BYTES),
                     MOERUN_OK);
    assert_string_equal(text, "{\"physical_to_logical_map\": [\n[0, 1, 2, 3],\n"
                              "[1, 2, 0, 3],\n[0, 1, 2, 3],\n[1, 3, 0, 2],\n"
                              "[0, 1, 2, 3]]}\n");
    moerun__free(text);
  }
  (void)snprintf(target, sizeof target, "sglang:%s", path);
  assert_int_equal(export_to(placement, target), MOERUN_ERR_INVALID);
  moerun_placement_destroy(placement);
}

static void tables_of_experts_and_nodes(void **state) {
  (void)state;
  static const int32_t rank_of[] = {1, 0, 0, 1};
  char target[TEMP_PATH + 16];
  char *text = NULL;
  size_t bytes = 0;
  moerun_placement *placement = NULL;
  (void)snprintf(target, sizeof target, "exflow:%s", path);
  assert_int_equal(moerun_placement_create(&placement, 2, 2, 2, rank_of),
                   MOERUN_OK);
  assert_int_equal(export_to(placement, target), MOERUN_OK);
  assert_int_equal(moerun__file_read(&text, &bytes, path, TEXT_BYTES),
                   MOERUN_OK);
  assert_string_equal(text, "Expert,Node\n0,1\n1,0\n2,0\n3,1\n");
  moerun__free(text);
  moerun_placement_destroy(placement);
}

static void what_a_format_cannot_say_is_refused(void **state) {
  (void)state;
  static const int32_t rank_of[] = {0, 0, 1, 0, 1, 1};
  char target[TEMP_PATH + 16];
  moerun_placement *placement = NULL;
  (void)remove(path);
  (void)snprintf(target, sizeof target, "eplb:%s", path);
  assert_int_equal(moerun_placement_create(&placement, 2, 3, 2, rank_of),
                   MOERUN_OK);
  assert_int_equal(export_to(placement, target), MOERUN_ERR_INVALID);
  assert_string_equal(
      moerun_last_error(),
      "--export: expected as many experts on every rank in "
      "every layer, found 2 in layer 0 on rank 0 and 1 in layer "
      "0 on rank 1; --method eplb --slots N makes it so");
  assert_false(moerun__file_exists(path));
  static const int32_t later[] = {0, 0, 1, 1, 0, 1, 1, 1};
  moerun_placement *second = NULL;
  assert_int_equal(moerun_placement_create(&second, 2, 4, 2, later), MOERUN_OK);
  assert_int_equal(export_to(second, target), MOERUN_ERR_INVALID);
  assert_non_null(strstr(moerun_last_error(), "found 2 in layer 0 on rank 0 "
                                              "and 1 in layer 1 on rank 0"));
  assert_false(moerun__file_exists(path));
  moerun_placement_destroy(second);
  static const char *const targets[] = {"eplb", "eplb:", "csv:x", ":x", ""};
  for (size_t i = 0; i < sizeof targets / sizeof *targets; i++) {
    char line[128];
    (void)snprintf(line, sizeof line,
                   "--export: expected eplb:PATH, sglang:PATH or exflow:PATH, "
                   "found \"%s\"",
                   targets[i]);
    assert_int_equal(export_to(placement, targets[i]), MOERUN_ERR_INVALID);
    assert_string_equal(moerun_last_error(), line);
  }
  moerun_placement_destroy(placement);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(the_worst_is_by_objective),
      cmocka_unit_test(gaps),
      cmocka_unit_test(objectives_have_names),
      cmocka_unit_test(certificates_come_back_equal),
      cmocka_unit_test(bad_certificates_get_one_clear_line),
      cmocka_unit_test(failed_allocations_leave_nothing_behind),
      cmocka_unit_test(maps_of_slots),
      cmocka_unit_test(maps_may_hold_replicas),
      cmocka_unit_test(maps_may_have_rows_of_dense_layers),
      cmocka_unit_test(tables_of_experts_and_nodes),
      cmocka_unit_test(what_a_format_cannot_say_is_refused),
  };
  (void)printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
