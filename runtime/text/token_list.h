/* Growable lists of token ids. */
#ifndef MOERUN_TEXT_TOKEN_LIST_H
#define MOERUN_TEXT_TOKEN_LIST_H

#include "runtime/base/status.h"

#include <stddef.h>
#include <stdint.h>

/* All zero: empty. */
typedef struct moerun__token_list {
  int32_t *id;
  size_t count;
  size_t room;
} moerun__token_list;

/* Room for `more` ids behind the present ones. */
moerun_status moerun__token_list_reserve(moerun__token_list *list, size_t more);
moerun_status moerun__token_list_append(moerun__token_list *list, int32_t id);
/* Frees the ids; the list is empty afterwards. */
void moerun__token_list_clear(moerun__token_list *list);

#endif
