/* A map of another system: what is accepted keeps all invariants and has the
 * sizes that were wanted. The first byte says how many ranks, and whether the
 * model has a dense layer. */
#include "placement/map/import.h"
#include "runtime/base/memory.h"
#include "support/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  moerun_placement *placement = NULL;
  int32_t *copies = NULL;
  static const int32_t row_of[] = {1, 2};
  const moerun__export_rows rows = {3, row_of};
  if (size == 0) return 0;
  const moerun__import_sizes sizes = {2, 4, bytes[0] % 4,
                                      bytes[0] % 8 < 4 ? NULL : &rows, "model"};
  const moerun_status status = moerun__placement_import_bytes(
      &placement, &copies, (const char *)bytes + 1, size - 1, "fuzz", &sizes);
  fuzz_verdict(status);
  fuzz_require((placement != NULL) == (status == MOERUN_OK));
  if (placement != NULL) {
    fuzz_require(moerun__placement_check(placement) == MOERUN_OK);
    fuzz_require(placement->num_layers == 2 && placement->num_experts == 4);
    fuzz_require(sizes.num_ranks == 0 ||
                 placement->num_ranks == sizes.num_ranks);
    for (int32_t i = 0; copies != NULL && i < placement->replica_offset[2 * 4];
         i++) {
      fuzz_require(copies[i] >= 1);
    }
  }
  moerun_placement_destroy(placement);
  moerun__free(copies);
  return 0;
}
