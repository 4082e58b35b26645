/* Maps of other systems behind a byte order mark, as some editors write it. */
#include "placement/map/import.h"
#include "support/cmocka.h"

#include <string.h>

static void a_byte_order_mark_is_passed_over(void **state) {
  (void)state;
  static const char *const texts[] = {
      "\xEF\xBB\xBF[[0, 1, 2]]",
      "\xEF\xBB\xBF{\"physical_to_logical_map\": [[0, 1, 2]]}"};
  static const int32_t rank_of[] = {0, 1, 2};
  const moerun__import_sizes sizes = {1, 3, 3, NULL, "t.npy"};
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    moerun_placement *placement = NULL;
    const moerun_status status = moerun__placement_import_bytes(
        &placement, NULL, texts[i], strlen(texts[i]), "m", &sizes);
    if (status != MOERUN_OK) fail_msg("%s", moerun_last_error());
    assert_memory_equal(placement->rank_of, rank_of, sizeof rank_of);
    moerun_placement_destroy(placement);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(a_byte_order_mark_is_passed_over),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
