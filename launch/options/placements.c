#include "launch/options/placements.h"

#include "launch/options/known_file.h"
#include "placement/map/import.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/model/arch.h"

#include <string.h>

moerun_status moerun__rows_of_model(moerun__export_rows *rows, int32_t **row_of,
                                    const moerun__model_config *model) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(
      moerun__alloc(row_of, (size_t)model->num_moe_layers, sizeof **row_of));
  for (int32_t l = 0; l < model->num_layers; l++) {
    if (model->moe_layer[l] >= 0) (*row_of)[model->moe_layer[l]] = l;
  }
  *rows = (moerun__export_rows){model->num_layers, *row_of};
done:
  return status;
}

/* A placement may be used for another model of the same sizes. */
static moerun_status compare_names(const moerun_placement *placement,
                                   const char *path, const char *model) {
  moerun_status status = MOERUN_OK;
  moerun__text name = {0};
  MOERUN_TRY(moerun__model_name(&name, model));
  if (placement->model[0] != '\0' &&
      strcmp(placement->model, name.bytes) != 0) {
    LOG_ROOT(
        MOERUN_LOG_WARN,
        "%s: made for the model %.255s, used for %.255s: it fits, but other "
        "routing may cost more than blocks do",
        path, placement->model, name.bytes);
  }
done:
  moerun__text_clear(&name);
  return status;
}

/* A map says nothing of ranks: its slots are shared out among as many as there
 * are, and a wrong number of them is seen by nobody unless it is said. */
static void say_how_read(const moerun_placement *placement, const char *path) {
  if (strcmp(placement->method, "map") != 0) return;
  LOG_ROOT(
      MOERUN_LOG_INFO,
      "%s: read as a map of slots to experts: %d slots in the first layer, "
      "%d of them on rank 0 of %d",
      path, placement->replica_offset[placement->num_experts],
      placement->slot_count[0], placement->num_ranks);
}

moerun_status moerun__placement_for(moerun_placement **out,
                                    const moerun__config *config,
                                    int32_t num_ranks) {
  moerun_status status = MOERUN_OK;
  moerun_placement *placement = NULL;
  moerun__model_config model = {0};
  moerun__export_rows rows = {0};
  int32_t *row_of = NULL;
  const char *path = moerun__config_text(config, "placement");
  const char *folder = moerun__config_text(config, "model");
  *out = NULL;
  MOERUN_TRY(moerun__model_config_load(&model, folder));
  if (path[0] == '\0') {
    MOERUN_TRY(moerun_placement_create_block(&placement, model.num_moe_layers,
                                             model.num_experts,
                                             num_ranks > 0 ? num_ranks : 1));
  } else {
    MOERUN_TRY(moerun__rows_of_model(&rows, &row_of, &model));
    const moerun__import_sizes sizes = {model.num_moe_layers, model.num_experts,
                                        num_ranks, &rows, folder};
    MOERUN_TRY(moerun__known_file_advise(
        moerun__placement_import(&placement, NULL, path, &sizes), path,
        MOERUN_FILE_PLACEMENT));
    MOERUN_TRY(compare_names(placement, path, folder));
    say_how_read(placement, path);
  }
  *out = placement;
  placement = NULL;
done:
  moerun_placement_destroy(placement);
  moerun__model_config_clear(&model);
  moerun__free(row_of);
  return status;
}
