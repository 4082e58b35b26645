/* config.json by its text, changed key by key. */
#ifndef MOERUN_TESTS_CONFIG_TEXT_H
#define MOERUN_TESTS_CONFIG_TEXT_H

#include "runtime/base/json.h"
#include "runtime/base/memory.h"
#include "runtime/model/arch.h"
#include "support/cmocka.h"

static inline json_t *parse(const char *text) {
  json_t *root = NULL;
  assert_int_equal(moerun__json_parse(&root, text, strlen(text), "text"),
                   MOERUN_OK);
  return root;
}

/* base with the members of `change` set, and those named "-key" removed. */
static inline moerun_status read_changed(moerun__model_config *config,
                                         const char *base, const char *change) {
  json_t *root = parse(base);
  json_t *members = parse(change);
  const char *key = NULL;
  json_t *value = NULL;
  json_object_foreach(members, key, value) {
    if (key[0] == '-') {
      assert_int_equal(json_object_del(root, key + 1), 0);
    } else {
      assert_int_equal(json_object_set(root, key, value), 0);
    }
  }
  const moerun_status status = moerun__model_config_parse(config, root, "c");
  json_decref(members);
  json_decref(root);
  return status;
}

/* A config.json that must not pass, and the line that says why. */
typedef struct refusal {
  const char *base;
  const char *change;
  const char *message;
} refusal;

static inline void check_refusals(const refusal *refusals, size_t count) {
  const size_t live = moerun__alloc_live();
  for (size_t i = 0; i < count; i++) {
    moerun__model_config config;
    const moerun_status status =
        read_changed(&config, refusals[i].base, refusals[i].change);
    assert_true(status == MOERUN_ERR_FORMAT ||
                status == MOERUN_ERR_UNSUPPORTED);
    assert_string_equal(moerun_last_error(), refusals[i].message);
    assert_null(config.moe_layer);
    assert_int_equal(moerun__alloc_live(), live);
  }
}

#endif
