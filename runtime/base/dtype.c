/* The table of element types. Three stand here; others are appended. What is
 * done element by element in the hot loops of kernels is spelt out there once
 * more for these three: the table says what the bits mean, the loops say it
 * fast, and tests hold one to the other. */
#include "runtime/base/dtype.h"

#include <stdio.h>

enum { NAME_BYTES = 8 };

/* ---- F32 ----------------------------------------------------------------- */

static void widen_f32(float *out, const void *blocks, size_t num_blocks) {
  memcpy(out, blocks, num_blocks * sizeof *out);
}

static void narrow_f32(void *blocks, const float *values, size_t num_blocks) {
  memcpy(blocks, values, num_blocks * sizeof *values);
}

/* The sums here are free of branches, so that the usual case, in which all is
 * well, runs at memory speed. */
static size_t first_unsound_f32(const void *blocks, size_t num_blocks) {
  const uint32_t *bits = blocks;
  uint32_t any = 0;
  size_t i = 0;
  for (size_t b = 0; b < num_blocks; b++) {
    any |= (bits[b] & 0x7f800000U) == 0x7f800000U;
  }
  if (!any) return num_blocks;
  while ((bits[i] & 0x7f800000U) != 0x7f800000U) {
    i++;
  }
  return i;
}

/* ---- BF16 and F16 -------------------------------------------------------- */

static void widen_bf16(float *out, const void *blocks, size_t num_blocks) {
  const uint16_t *half = blocks;
  for (size_t b = 0; b < num_blocks; b++) {
    out[b] = moerun__bf16_to_f32(half[b]);
  }
}

static void narrow_bf16(void *blocks, const float *values, size_t num_blocks) {
  uint16_t *half = blocks;
  for (size_t b = 0; b < num_blocks; b++) {
    half[b] = moerun__f32_to_bf16(values[b]);
  }
}

static void widen_f16(float *out, const void *blocks, size_t num_blocks) {
  const uint16_t *half = blocks;
  for (size_t b = 0; b < num_blocks; b++) {
    out[b] = moerun__f16_to_f32(half[b]);
  }
}

static void narrow_f16(void *blocks, const float *values, size_t num_blocks) {
  uint16_t *half = blocks;
  for (size_t b = 0; b < num_blocks; b++) {
    half[b] = moerun__f32_to_f16(values[b]);
  }
}

static size_t first_full_exponent(const void *blocks, size_t num_blocks,
                                  uint16_t exponent) {
  const uint16_t *bits = blocks;
  uint16_t any = 0;
  size_t i = 0;
  for (size_t b = 0; b < num_blocks; b++) {
    any |= (bits[b] & exponent) == exponent;
  }
  if (!any) return num_blocks;
  while ((bits[i] & exponent) != exponent) {
    i++;
  }
  return i;
}

static size_t first_unsound_bf16(const void *blocks, size_t num_blocks) {
  return first_full_exponent(blocks, num_blocks, 0x7f80U);
}

static size_t first_unsound_f16(const void *blocks, size_t num_blocks) {
  return first_full_exponent(blocks, num_blocks, 0x7c00U);
}

/* ---- The table ----------------------------------------------------------- */

static const moerun__dtype_row *table[MOERUN_MAX_DTYPES] = {
    [MOERUN_DTYPE_F32] =
        &(const moerun__dtype_row){"F32", "float32", "f32", 1, 4, 0, widen_f32,
                                   narrow_f32, first_unsound_f32},
    [MOERUN_DTYPE_BF16] =
        &(const moerun__dtype_row){"BF16", "bfloat16", "bf16", 1, 2, 0,
                                   widen_bf16, narrow_bf16, first_unsound_bf16},
    [MOERUN_DTYPE_F16] =
        &(const moerun__dtype_row){"F16", "float16", "f16", 1, 2, 0, widen_f16,
                                   narrow_f16, first_unsound_f16},
};

const moerun__dtype_row *moerun__dtype_at(moerun__dtype dtype) {
  return (unsigned)dtype < MOERUN_MAX_DTYPES ? table[dtype] : NULL;
}

void moerun__dtype_names(char out[MOERUN_DTYPE_NAMES]) {
  size_t used = 0;
  out[0] = '\0';
  for (int d = 0; d < MOERUN_MAX_DTYPES && table[d] != NULL; d++) {
    const int is_last = d + 1 == MOERUN_MAX_DTYPES || table[d + 1] == NULL;
    const char *before = d == 0 ? "" : is_last ? " or " : ", ";
    const int wrote = snprintf(out + used, MOERUN_DTYPE_NAMES - used, "%s%s",
                               before, table[d]->name);
    used += wrote > 0 ? (size_t)wrote : 0;
  }
}

const char *moerun__dtype_written_at(int i) {
  for (int d = 0; d < MOERUN_MAX_DTYPES && table[d] != NULL; d++) {
    if (table[d]->option != NULL && i-- == 0) return table[d]->option;
  }
  return NULL;
}

int moerun__dtype_find(moerun__dtype *out, const char *name) {
  for (int d = 0; d < MOERUN_MAX_DTYPES && table[d] != NULL; d++) {
    if (strcmp(table[d]->name, name) != 0) continue;
    *out = (moerun__dtype)d;
    return 1;
  }
  return 0;
}

moerun_status moerun__dtype_add(moerun__dtype *out,
                                const moerun__dtype_row *row) {
  moerun_status status = MOERUN_OK;
  moerun__dtype taken;
  int at = 0;
  while (at < MOERUN_MAX_DTYPES && table[at] != NULL) {
    at++;
  }
  MOERUN_REQUIRE(strlen(row->name) > 0 && strlen(row->name) < NAME_BYTES,
                 MOERUN_ERR_INVALID,
                 "element type \"%s\": expected a name of 1 to %d characters",
                 row->name, NAME_BYTES - 1);
  MOERUN_REQUIRE(row->block > 0 && MOERUN_MAX_BLOCK % row->block == 0 &&
                     row->block_bytes > 0 &&
                     row->block_bytes <= MOERUN_MAX_BLOCK_BYTES &&
                     row->widen != NULL,
                 MOERUN_ERR_INVALID,
                 "element type %s: expected blocks of a divisor of %d elements "
                 "that can be widened, found %d in %d bytes",
                 row->name, MOERUN_MAX_BLOCK, row->block, row->block_bytes);
  MOERUN_REQUIRE(
      row->scale_block == 0 ||
          (row->scale_block > 0 && MOERUN_MAX_BLOCK % row->scale_block == 0),
      MOERUN_ERR_INVALID,
      "element type %s: expected a factor for a divisor of %d "
      "elements, found one for %d",
      row->name, MOERUN_MAX_BLOCK, row->scale_block);
  MOERUN_REQUIRE(!moerun__dtype_find(&taken, row->name), MOERUN_ERR_INVALID,
                 "element type %s: there is one of this name", row->name);
  MOERUN_REQUIRE(at < MOERUN_MAX_DTYPES, MOERUN_ERR_INVALID,
                 "element type %s: expected at most %d types", row->name,
                 MOERUN_MAX_DTYPES);
  table[at] = row;
  *out = (moerun__dtype)at;
done:
  return status;
}

const char *moerun__dtype_name(moerun__dtype dtype) {
  return table[dtype]->name;
}

size_t moerun__dtype_bytes(moerun__dtype dtype, size_t count) {
  const moerun__dtype_row *row = table[dtype];
  const size_t block = (size_t)row->block;
  return (count + block - 1) / block * (size_t)row->block_bytes;
}

size_t moerun__dtype_scales(moerun__dtype dtype, size_t count) {
  const size_t block = (size_t)table[dtype]->scale_block;
  return block == 0 ? 0 : (count + block - 1) / block;
}

void moerun__narrow(void *row, moerun__dtype dtype, size_t first,
                    const float *values, size_t count) {
  const moerun__dtype_row *type = table[dtype];
  const size_t block = (size_t)type->block;
  const size_t whole = count / block;
  char *blocks = (char *)row + first / block * (size_t)type->block_bytes;
  type->narrow(blocks, values, whole);
  if (whole * block == count) return;
  float last[MOERUN_MAX_BLOCK] = {0};
  memcpy(last, values + whole * block, (count - whole * block) * sizeof *last);
  type->narrow(blocks + whole * (size_t)type->block_bytes, last, 1);
}

void moerun__widen(float *out, moerun__dtype dtype, const void *row,
                   size_t first, size_t count) {
  const moerun__dtype_row *type = table[dtype];
  const size_t block = (size_t)type->block;
  const size_t end = first + count;
  const char *blocks =
      (const char *)row + first / block * (size_t)type->block_bytes;
  if (first % block == 0 && count % block == 0) {
    type->widen(out, blocks, count / block);
    return;
  }
  float all[MOERUN_MAX_BLOCK];
  for (size_t begin = first / block * block; begin < end; begin += block) {
    const size_t from = begin > first ? begin : first;
    const size_t to = begin + block < end ? begin + block : end;
    type->widen(all, blocks, 1);
    memcpy(out + (from - first), all + (from - begin),
           (to - from) * sizeof *out);
    blocks += type->block_bytes;
  }
}

float moerun__element(const void *row, moerun__dtype dtype, size_t i) {
  float value = 0;
  moerun__widen(&value, dtype, row, i, 1);
  return value;
}
