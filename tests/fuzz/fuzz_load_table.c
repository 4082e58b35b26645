/* A load table: what is accepted has loads in every layer, none below 0, and
 * rows that ascend. */
#include "placement/trace/load_table.h"
#include "support/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  moerun__load_table *table = NULL;
  const moerun_status status =
      moerun__load_table_parse(&table, (const char *)bytes, size, "fuzz");
  fuzz_verdict(status);
  fuzz_require((table != NULL) == (status == MOERUN_OK));
  fuzz_require(table == NULL || table->num_steps >= 1);
  for (int32_t l = 0; table != NULL && l < table->num_layers; l++) {
    int64_t sum = 0;
    const int32_t before = l > 0 ? table->row_of[l - 1] : -1;
    fuzz_require(table->row_of[l] > before &&
                 table->row_of[l] < table->num_rows);
    for (int32_t e = 0; e < table->num_experts; e++) {
      const int64_t load = table->load[l * table->num_experts + e];
      fuzz_require(load >= 0);
      sum += load;
    }
    fuzz_require(sum > 0);
  }
  moerun__load_table_destroy(table);
  return 0;
}
