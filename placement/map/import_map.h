/* What the readers of maps share (import.c): they gather hosts, the rest
 * follows from these. */
#ifndef MOERUN_MAP_IMPORT_MAP_H
#define MOERUN_MAP_IMPORT_MAP_H

#include "placement/map/import.h"
#include "runtime/base/json.h"

/* One slot that is taken. */
typedef struct moerun__host {
  int32_t row; /* layer of the file */
  int32_t expert;
  int32_t rank;
} moerun__host;

typedef struct moerun__map {
  const char *origin;
  moerun__import_sizes sizes; /* num_ranks becomes the file's where it is 0 */
  int32_t num_rows;
  size_t num_hosts;
  size_t room;
  moerun__host *hosts;
} moerun__map;

/* An array of up to three dimensions, from an .npy or from lists. */
typedef struct moerun__cube {
  int32_t num_dims; /* 2 or 3 */
  int64_t dim[3];
  int64_t *value;
} moerun__cube;

/* `name` says what it is in messages. */
moerun_status moerun__cube_of_json(moerun__cube *out, const json_t *list,
                                   const char *name, const char *origin);
moerun_status moerun__cube_of_npy(moerun__cube *out, const char *text,
                                  size_t bytes, const char *origin);
void moerun__cube_clear(moerun__cube *cube);

/* Sets the number of rows, within what the sizes allow. */
moerun_status moerun__map_begin(moerun__map *map, int64_t num_rows);
/* `where` names the slot in messages: an expert or rank beyond the sizes is an
 * error. */
moerun_status moerun__map_add(moerun__map *map, int32_t row, int64_t expert,
                              int64_t rank, const char *where);

/* The readers. */
moerun_status moerun__map_read_slots(moerun__map *map,
                                     const moerun__cube *cube);
moerun_status moerun__map_read_places(moerun__map *map,
                                      const moerun__cube *cube);
moerun_status moerun__map_read_ranks(moerun__map *map,
                                     const moerun__cube *cube);
moerun_status moerun__map_read_devices(moerun__map *map, const json_t *root);
moerun_status moerun__map_read_solution(moerun__map *map, const char *text,
                                        size_t bytes);

#endif
