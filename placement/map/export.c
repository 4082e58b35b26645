/* Writers of other systems' placement files. Each refuses what its format
 * cannot say. */
#include "placement/map/export.h"

#include "runtime/base/memory.h"
#include "runtime/base/text.h"

#include <string.h>

/* ---- EPLB, SGLang -------------------------------------------------------- */

static moerun_status check_slots(const moerun_placement *placement) {
  moerun_status status = MOERUN_OK;
  const int32_t R = placement->num_ranks;
  const int32_t expected = placement->slot_count[0];
  for (int32_t i = 0; i < placement->num_layers * R; i++) {
    MOERUN_REQUIRE(placement->slot_count[i] == expected, MOERUN_ERR_INVALID,
                   "--export: expected as many experts on every rank in every "
                   "layer, found %d in layer 0 on rank 0 and %d in layer %d on "
                   "rank %d; --method eplb --slots N makes it so",
                   expected, placement->slot_count[i], i / R, i % R);
  }
done:
  return status;
}

/* One row of num_slots slots. */
static moerun_status print_row(moerun__text *out,
                               const moerun_placement *placement, int32_t layer,
                               int32_t *experts) {
  moerun_status status = MOERUN_OK;
  const int32_t slots = placement->slot_count[0];
  for (int32_t i = 0; i < placement->num_ranks * slots; i++) {
    int32_t expert = i % placement->num_experts;
    if (layer >= 0 && i % slots == 0) {
      (void)moerun__placement_experts(placement, layer, i / slots, experts);
    }
    if (layer >= 0) expert = experts[i % slots];
    MOERUN_TRY(moerun__text_print(out, "%s%d", i > 0 ? ", " : "", expert));
  }
done:
  return status;
}

static moerun_status print_map(moerun__text *out,
                               const moerun_placement *placement,
                               const moerun__export_rows *rows) {
  moerun_status status = MOERUN_OK;
  int32_t *experts = NULL;
  int32_t layer = 0;
  const int32_t L = placement->num_layers;
  MOERUN_TRY(check_slots(placement));
  MOERUN_TRY(moerun__alloc(&experts, (size_t)placement->slot_count[0],
                           sizeof *experts));
  MOERUN_TRY(moerun__text_print(out, "{\"physical_to_logical_map\": ["));
  for (int32_t row = 0; row < (rows != NULL ? rows->num_rows : L); row++) {
    const int is_dense =
        rows != NULL && (layer == L || rows->row_of[layer] != row);
    MOERUN_TRY(moerun__text_print(out, row > 0 ? ",\n[" : "\n["));
    MOERUN_TRY(print_row(out, placement, is_dense ? -1 : layer, experts));
    MOERUN_TRY(moerun__text_print(out, "]"));
    layer += !is_dense;
  }
  MOERUN_TRY(moerun__text_print(out, "]}\n"));
done:
  moerun__free(experts);
  return status;
}

/* ---- ExFlow -------------------------------------------------------------- */

static moerun_status print_csv(moerun__text *out,
                               const moerun_placement *placement,
                               const moerun__export_rows *rows) {
  moerun_status status = MOERUN_OK;
  (void)rows; /* a line for each expert of each MoE layer */
  const int32_t entries = placement->num_layers * placement->num_experts;
  MOERUN_TRY(moerun__text_print(out, "Expert,Node\n"));
  for (int32_t n = 0; n < entries; n++) {
    const int32_t first = placement->replica_offset[n];
    const int32_t count = placement->replica_offset[n + 1] - first;
    MOERUN_REQUIRE(count == 1, MOERUN_ERR_INVALID,
                   "--export exflow: expected one replica of each expert, "
                   "found %d of expert %d in layer %d",
                   count, n % placement->num_experts,
                   n / placement->num_experts);
    MOERUN_TRY(
        moerun__text_print(out, "%d,%d\n", n, placement->rank_of[first]));
  }
done:
  return status;
}

/* ---- All ----------------------------------------------------------------- */

typedef struct format {
  const char *prefix;
  int needs_rows;
  int is_even; /* as many experts on every rank of every layer */
  moerun_status (*print)(moerun__text *out, const moerun_placement *placement,
                         const moerun__export_rows *rows);
} format;

static const format formats[] = {{"eplb:", 0, 1, print_map},
                                 {"sglang:", 1, 1, print_map},
                                 {"exflow:", 0, 0, print_csv}};

/* The format of `target`, and its path; NULL: none of that name. */
static const format *find_format(const char *target, const char **path) {
  for (size_t i = 0; i < sizeof formats / sizeof *formats; i++) {
    const size_t length = strlen(formats[i].prefix);
    if (strncmp(target, formats[i].prefix, length) != 0) continue;
    *path = target + length;
    return **path != '\0' ? &formats[i] : NULL;
  }
  return NULL;
}

const char *moerun__export_path(const char *target) {
  const char *path = NULL;
  return find_format(target, &path) != NULL ? path : NULL;
}

moerun_status moerun__export_check(const char *target) {
  moerun_status status = MOERUN_OK;
  MOERUN_REQUIRE(moerun__export_path(target) != NULL, MOERUN_ERR_INVALID,
                 "--export: expected eplb:PATH, sglang:PATH or exflow:PATH, "
                 "found \"%.100s\"",
                 target);
done:
  return status;
}

int moerun__export_needs_rows(const char *target) {
  const char *path = NULL;
  const format *found = find_format(target, &path);
  return found != NULL && found->needs_rows;
}

int moerun__export_is_even(const char *target) {
  const char *path = NULL;
  const format *found = find_format(target, &path);
  return found != NULL && found->is_even;
}

moerun_status moerun__placement_export(const moerun_placement *placement,
                                       moerun__outputs *outputs,
                                       const char *target,
                                       const moerun__export_rows *rows) {
  moerun_status status = MOERUN_OK;
  moerun__text text = {0};
  const char *path = NULL;
  MOERUN_TRY(moerun__export_check(target));
  const format *format_of = find_format(target, &path);
  MOERUN_REQUIRE(rows != NULL || !format_of->needs_rows, MOERUN_ERR_INVALID,
                 "--export %s expected the rows of a model, found none",
                 format_of->prefix);
  MOERUN_TRY(format_of->print(&text, placement, rows));
  MOERUN_TRY(moerun__outputs_put(outputs, path, text.bytes, text.count));
done:
  moerun__text_clear(&text);
  return status;
}
