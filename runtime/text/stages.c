#include "runtime/text/stages.h"

#include <string.h>

enum { MAX_NESTED = 8 };

typedef struct walk {
  void *self;
  const moerun__stage_kinds *kinds;
  const char *where;
  size_t taken;
} walk;

static const void *find_kind(const moerun__stage_kinds *kinds,
                             const char *wanted) {
  for (size_t i = 0; i < kinds->count; i++) {
    const void *kind = (const char *)kinds->kind + i * kinds->size;
    const char *type = NULL;
    memcpy(&type, kind, sizeof type);
    if (strcmp(type, wanted) == 0) return kind;
  }
  return NULL;
}

static moerun_status read_stage(walk *w, const json_t *stage, int depth) {
  moerun_status status = MOERUN_OK;
  const moerun__stage_kinds *kinds = w->kinds;
  const char *type = NULL;
  json_t *list = NULL;
  MOERUN_TRY(moerun__json_text(&type, stage, "type", 1, w->where));
  if (strcmp(type, "Sequence") == 0 && depth < MAX_NESTED) {
    MOERUN_TRY(moerun__json_array(&list, stage, kinds->list, w->where));
    for (size_t i = 0; i < json_array_size(list); i++) {
      MOERUN_TRY(read_stage(w, json_array_get(list, i), depth + 1));
    }
    goto done;
  }
  const void *kind = find_kind(kinds, type);
  MOERUN_REQUIRE(kind != NULL && w->taken < kinds->most, MOERUN_ERR_UNSUPPORTED,
                 "%s of type \"%s\" is not supported%s", w->where, type,
                 kinds->instead);
  w->taken++;
  MOERUN_TRY(kinds->take(w->self, kind, stage, w->where));
done:
  return status;
}

moerun_status moerun__stages_read(void *self, const moerun__stage_kinds *kinds,
                                  const json_t *value, const char *where) {
  walk w = {.self = self, .kinds = kinds, .where = where};
  return value == NULL || json_is_null(value) ? MOERUN_OK
                                              : read_stage(&w, value, 0);
}
