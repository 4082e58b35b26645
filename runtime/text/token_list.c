/* Lists grow by half, so that a text's ids are copied a few times only. */
#include "runtime/text/token_list.h"

#include "runtime/base/memory.h"

#include <string.h>

moerun_status moerun__token_list_reserve(moerun__token_list *list,
                                         size_t more) {
  moerun_status status = MOERUN_OK;
  if (list->room - list->count >= more && list->id != NULL) goto done;
  const size_t needed = list->count + more;
  const size_t room = needed < 64 ? 64 : needed + needed / 2;
  MOERUN_TRY(
      moerun__resize_unset(&list->id, list->room, room, sizeof *list->id));
  list->room = room;
done:
  return status;
}

moerun_status moerun__token_list_append(moerun__token_list *list, int32_t id) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__token_list_reserve(list, 1));
  list->id[list->count++] = id;
done:
  return status;
}

void moerun__token_list_clear(moerun__token_list *list) {
  moerun__free(list->id);
  memset(list, 0, sizeof *list);
}
