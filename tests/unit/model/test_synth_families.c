/* What synth writes of each family, in every layout, is a checkpoint of it: the
 * loader finds all that it looks for, in the shapes that it expects, and
 * nothing beside it. */
#include "runtime/model/arch.h"
#include "runtime/model/model.h"
#include "runtime/model/synth.h"
#include "support/cmocka.h"
#include "support/temp_dir.h"
#include "support/warnings.h"

#include <moerun/moerun.h>

static const moerun__synth_options small = {
    .seed = 7,
    .num_layers = 3,
    .dense_width = 20,
    .hidden_width = 32,
    .heads = {.num_heads = 4, .num_kv_heads = 2},
    .num_experts = 5,
    .experts_per_token = 2,
    .expert_width = 11,
    .shared_experts = 2,
    .vocab_size = 90,
};

static void check_family(const moerun__arch *arch, int variant) {
  temp_dir dir;
  char path[TEMP_PATH];
  moerun_placement *placement = NULL;
  moerun_model_shape shape = {.struct_size = sizeof shape};
  moerun__model_size size;
  moerun__synth_options options = small;
  assert_true(temp_dir_create(&dir));
  options.path = temp_path(path, &dir, "model");
  options.arch = moerun__arch_name(arch);
  options.dtype = variant == 0 ? MOERUN_DTYPE_BF16 : MOERUN_DTYPE_F32;
  options.num_dense = moerun__arch_has_dense(arch);
  options.fused = variant == 1;
  options.tied_head = variant == 2;
  warnings_begin();
  if (moerun__synth_write(&options) != MOERUN_OK ||
      moerun_model_shape_load(&shape, path) != MOERUN_OK) {
    fail_msg("%s: %s", options.arch, moerun_last_error());
  }
  assert_int_equal(shape.num_moe_layers, 3 - options.num_dense);
  assert_int_equal(moerun_placement_create_block(
                       &placement, shape.num_moe_layers, shape.num_experts, 1),
                   MOERUN_OK);
  if (moerun__model_size_load(&size, path, placement, 0, 0) != MOERUN_OK) {
    fail_msg("%s: %s", options.arch, moerun_last_error());
  }
  assert_int_equal(size.tied_head, options.tied_head);
  assert_string_equal(warnings_text, "");
  warnings_end();
  moerun_placement_destroy(placement);
  temp_dir_remove(&dir);
}

static void every_family_is_written(void **state) {
  (void)state;
  const moerun__arch *arch = NULL;
  for (int i = 0; (arch = moerun__arch_at(i)) != NULL; i++) {
    for (int variant = 0; variant < 3; variant++) {
      check_family(arch, variant);
    }
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_family_is_written),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
