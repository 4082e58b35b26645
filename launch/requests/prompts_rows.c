/* Requests from an array of ids: what an outside tokenizer wrote with NumPy. */
#include "launch/requests/prompts_input.h"

#include "runtime/base/number.h"

#include <stdio.h>

enum { PART = 512 }; /* ids read at a time */

/* Appends one id of a row; *padding tells whether the row has ended. */
static moerun_status take_id(moerun__prompt *out, int *padding, int64_t id,
                             int64_t at, const char *origin) {
  moerun_status status = MOERUN_OK;
  if (id < 0) {
    *padding = 1;
    goto done;
  }
  MOERUN_REQUIRE(!*padding, MOERUN_ERR_FORMAT,
                 "%s: element %lld: expected padding (negative) behind "
                 "padding, found id %lld",
                 origin, (long long)at, (long long)id);
  MOERUN_REQUIRE(id <= INT32_MAX, MOERUN_ERR_FORMAT,
                 "%s: element %lld: expected a token id, found %lld", origin,
                 (long long)at, (long long)id);
  MOERUN_TRY(moerun__token_list_append(&out->tokens, moerun__to_int(id)));
done:
  return status;
}

static moerun_status read_row(const moerun__prompts *prompts,
                              moerun__prompt *out, int64_t index,
                              const char *origin) {
  moerun_status status = MOERUN_OK;
  int64_t part[PART];
  int padding = 0;
  const int64_t length = prompts->row_length;
  for (int64_t at = 0; at < length; at += PART) {
    const int64_t count = length - at < PART ? length - at : PART;
    MOERUN_TRY(moerun__npy_read_integers(prompts->array, part,
                                         index * length + at, count));
    for (int64_t i = 0; i < count; i++) {
      MOERUN_TRY(take_id(out, &padding, part[i], at + i, origin));
    }
  }
  /* A row of padding alone is a mistake, not a prompt of one token. */
  if (out->tokens.count > 0) {
    MOERUN_TRY(moerun__prompt_put_bos(out, prompts->options.tokens_bos));
  }
  MOERUN_TRY(moerun__text_print(&out->id, "%lld", (long long)index));
done:
  return status;
}

const moerun__prompts_input moerun__prompts_rows = {.read = read_row};

static moerun_status add_row(moerun__prompts *prompts, moerun__prompt *prompt,
                             int64_t row, const char *origin) {
  moerun_status status = MOERUN_OK;
  moerun__prompt_begin(prompt, &prompts->options);
  MOERUN_TRY(read_row(prompts, prompt, row, origin));
  MOERUN_TRY(moerun__prompts_add(prompts, prompt, 0, origin));
done:
  return status;
}

moerun_status moerun__prompts_scan_rows(moerun__prompts *prompts) {
  moerun_status status = MOERUN_OK;
  moerun__prompt prompt = {0};
  moerun__npy_shape shape;
  MOERUN_TRY(moerun__npy_open(&prompts->array, &shape, prompts->path,
                              MOERUN_NPY_INTEGERS));
  MOERUN_REQUIRE(shape.num_dims == 1 || shape.num_dims == 2, MOERUN_ERR_FORMAT,
                 "%s: expected an array of 1 or 2 dimensions, found %d",
                 prompts->name, shape.num_dims);
  const int64_t rows = shape.num_dims == 2 ? shape.dim[0] : 1;
  prompts->row_length = shape.dim[shape.num_dims - 1];
  MOERUN_REQUIRE(moerun__npy_count(&shape) > 0, MOERUN_ERR_FORMAT,
                 "%s: expected at least one request, found none",
                 prompts->name);
  for (int64_t i = 0; i < rows; i++) {
    char origin[512];
    (void)snprintf(origin, sizeof origin, "%s: row %lld", prompts->name,
                   (long long)i);
    MOERUN_TRY(moerun__prompts_settle(prompts, &prompt, 0,
                                      add_row(prompts, &prompt, i, origin)));
  }
done:
  moerun__prompt_clear(&prompt);
  return status;
}
