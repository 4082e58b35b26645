/* Reading goes through one staging buffer of a few MiB, filled with whole rows
 * and packed from there, so that loading a tensor of any size takes no more
 * memory than that. Rows that hold NaN or infinity are refused on the way:
 * they mean a damaged file, and would only show much later as empty output. */
#include "runtime/model/weight_reader.h"

#include "runtime/base/memory.h"
#include "runtime/base/number.h"
#include "runtime/base/stop.h"
#include "runtime/model/expert.h"

#include <stdio.h>
#include <string.h>

moerun_status moerun__reader_array(void *out_pointer,
                                   moerun__weight_reader *reader, size_t count,
                                   size_t size) {
  moerun_status status = MOERUN_OK;
  reader->bytes += moerun__alloc_bytes(count, size);
  if (!reader->counting) MOERUN_TRY(moerun__alloc(out_pointer, count, size));
done:
  return status;
}

/* ---- Finding tensors ----------------------------------------------------- */

const moerun__tensor *moerun__reader_find(const moerun__weight_reader *reader,
                                          moerun__role role, int32_t layer,
                                          int32_t expert) {
  char name[MOERUN_TENSOR_NAME];
  const moerun__tensor *tensor = NULL;
  for (int variant = 0;
       tensor == NULL && moerun__arch_tensor_name(name, reader->config->arch,
                                                  role, layer, expert, variant);
       variant++) {
    tensor = moerun__shards_find(reader->shards, name);
  }
  return tensor;
}

/* Whether there is a tensor of this name with another ending. */
static int has_ending(const moerun__weight_reader *reader, const char *name,
                      size_t kept, const char *ending) {
  char other[MOERUN_TENSOR_NAME + 32];
  (void)snprintf(other, sizeof other, "%.*s%s", (int)kept, name, ending);
  return moerun__shards_find(reader->shards, other) != NULL;
}

/* Quantised weights have names of their own or scales beside them; without
 * quantization_config only those tell. *found is the first that is there. */
static void find_quantised(const char **found, const char **method,
                           const moerun__weight_reader *reader,
                           const char *name) {
  static const struct {
    const char *ending;
    const char *method;
  } table[] = {
      {".qweight", "GPTQ or AWQ"},        {".qzeros", "GPTQ or AWQ"},
      {".scales", "GPTQ or AWQ"},         {".weight_scale_inv", "FP8 blocks"},
      {".weight_scale", "FP8 or INT8"},   {".weight_packed", "packed integers"},
      {".weight.absmax", "bitsandbytes"},
  };
  static const char plain[] = ".weight";
  const size_t bytes = strlen(name);
  const size_t kept = bytes - (sizeof plain - 1);
  *found = NULL;
  if (bytes < sizeof plain || strcmp(name + kept, plain) != 0) return;
  for (size_t i = 0; i < sizeof table / sizeof *table && *found == NULL; i++) {
    if (!has_ending(reader, name, kept, table[i].ending)) continue;
    *found = table[i].ending;
    *method = table[i].method;
  }
}

static moerun_status refuse_quantised(const moerun__weight_reader *reader,
                                      const char *name) {
  moerun_status status = MOERUN_OK;
  const char *found = NULL;
  const char *method = NULL;
  find_quantised(&found, &method, reader, name);
  char names[MOERUN_DTYPE_NAMES] = "";
  if (found != NULL) moerun__dtype_names(names);
  MOERUN_REQUIRE(found == NULL, MOERUN_ERR_UNSUPPORTED,
                 "%s: tensor \"%s\": expected weights in %s, found \"%s\" of "
                 "quantised ones (%s), which are not read: take a checkpoint "
                 "that is not quantised",
                 reader->path, name, names, found, method);
done:
  return status;
}

static moerun_status require(const moerun__tensor **out,
                             const moerun__weight_reader *reader,
                             moerun__role role, int32_t layer, int32_t expert) {
  moerun_status status = MOERUN_OK;
  char name[MOERUN_TENSOR_NAME];
  *out = moerun__reader_find(reader, role, layer, expert);
  (void)moerun__arch_tensor_name(name, reader->config->arch, role, layer,
                                 expert, 0);
  MOERUN_TRY(refuse_quantised(reader, *out != NULL ? (*out)->name : name));
  MOERUN_REQUIRE(*out != NULL, MOERUN_ERR_FORMAT,
                 "%s: tensor \"%s\": expected in the checkpoint, found nothing",
                 reader->path, name);
done:
  return status;
}

/* Appends `expert` of the tensor, which has the shape of `role`: all of it, or
 * one of those that are fused. */
static moerun_status append(moerun__tensor_parts *parts,
                            const moerun__weight_reader *reader,
                            moerun__role role, const moerun__tensor *tensor,
                            int32_t expert) {
  moerun_status status = MOERUN_OK;
  int64_t shape[MOERUN_MAX_DIMS];
  moerun__dtype dtype = MOERUN_DTYPE_F32;
  const int num_dims = moerun__config_tensor_shape(shape, reader->config, role);
  MOERUN_TRY(
      moerun__tensor_check(&dtype, reader->shards, tensor, shape, num_dims));
  const moerun__tensor *first = parts->part[0].tensor;
  MOERUN_REQUIRE(first == NULL || dtype == parts->dtype, MOERUN_ERR_UNSUPPORTED,
                 "%s: tensor \"%s\": expected %s as in \"%s\" (they are joined "
                 "in memory), found %s",
                 moerun__shards_file(reader->shards, tensor), tensor->name,
                 first->dtype, first->name, tensor->dtype);
  const int is_fused = num_dims == 3;
  const int is_transposed =
      is_fused && moerun__arch_is_transposed(reader->config->arch);
  const int64_t *one = is_fused ? shape + 1 : shape; /* of an expert */
  MOERUN_REQUIRE(!is_transposed || moerun__dtype_at(dtype)->block == 1,
                 MOERUN_ERR_UNSUPPORTED,
                 "%s: tensor \"%s\": expected a type of single elements in "
                 "transposed experts, found %s",
                 moerun__shards_file(reader->shards, tensor), tensor->name,
                 tensor->dtype);
  const int32_t num_outputs = moerun__to_int(one[is_transposed ? 1 : 0]);
  const int has_pairs = (role == MOERUN_ROLE_Q || role == MOERUN_ROLE_K) &&
                        moerun__arch_rotates_pairs(reader->config->arch);
  parts->part[parts->num_parts] =
      (moerun__tensor_part){tensor, is_fused ? expert * one[0] : 0, num_outputs,
                            is_transposed, has_pairs};
  parts->num_parts++;
  parts->dtype = dtype;
  parts->num_outputs += num_outputs;
  parts->num_inputs = moerun__to_int(one[is_transposed ? 0 : 1]);
done:
  return status;
}

moerun_status moerun__reader_add(moerun__tensor_parts *parts,
                                 const moerun__weight_reader *reader,
                                 moerun__role role, int32_t layer,
                                 int32_t expert) {
  moerun_status status = MOERUN_OK;
  const moerun__tensor *tensor = NULL;
  MOERUN_TRY(require(&tensor, reader, role, layer, expert));
  MOERUN_TRY(append(parts, reader, role, tensor, expert));
done:
  return status;
}

moerun_status moerun__reader_expert(moerun__tensor_parts *gate_up,
                                    moerun__tensor_parts *down,
                                    const moerun__weight_reader *reader,
                                    int32_t layer, int32_t expert) {
  moerun_status status = MOERUN_OK;
  const int is_fused =
      moerun__arch_is_fused(reader->config->arch) ||
      moerun__reader_find(reader, MOERUN_ROLE_FUSED_GATE_UP, layer, 0) != NULL;
  memset(gate_up, 0, sizeof *gate_up);
  memset(down, 0, sizeof *down);
  if (is_fused) {
    MOERUN_TRY(moerun__reader_add(gate_up, reader, MOERUN_ROLE_FUSED_GATE_UP,
                                  layer, expert));
    MOERUN_TRY(moerun__reader_add(down, reader, MOERUN_ROLE_FUSED_DOWN, layer,
                                  expert));
  } else {
    MOERUN_TRY(moerun__reader_add(gate_up, reader, MOERUN_ROLE_EXPERT_GATE,
                                  layer, expert));
    MOERUN_TRY(moerun__reader_add(gate_up, reader, MOERUN_ROLE_EXPERT_UP, layer,
                                  expert));
    MOERUN_TRY(moerun__reader_add(down, reader, MOERUN_ROLE_EXPERT_DOWN, layer,
                                  expert));
  }
done:
  return status;
}

/* ---- Reading rows -------------------------------------------------------- */

/* Bytes `first` .. first + bytes - 1 of the tensor, whose rows take row_bytes,
 * to `staging`; block by block they are digested and looked at while the
 * processor's cache has them. */
static moerun_status read_bytes(char *staging,
                                const moerun__weight_reader *reader,
                                const moerun__tensor *tensor,
                                moerun__dtype dtype, int64_t row_bytes,
                                int64_t first, int64_t bytes) {
  moerun_status status = MOERUN_OK;
  const moerun__dtype_row *type = moerun__dtype_at(dtype);
  const int64_t width_stored = row_bytes / type->block_bytes * type->block;
  /* Whole blocks. */
  const int64_t most =
      MOERUN_BLOCK_BYTES - MOERUN_BLOCK_BYTES % type->block_bytes;
  MOERUN_TRY(
      moerun__shards_read(staging, reader->shards, tensor, first, bytes));
  for (int64_t at = 0; at < bytes; at += most) {
    const int64_t left = bytes - at;
    const size_t block = (size_t)(left < most ? left : most);
    if (reader->digest != NULL) {
      moerun__digest_piece(reader->digest, tensor->name, first + at,
                           staging + at, block);
    }
    const size_t blocks = block / (size_t)type->block_bytes;
    const size_t sound = blocks * (size_t)type->block;
    const size_t bad = type->first_unsound != NULL
                           ? type->first_unsound(staging + at, blocks)
                           : sound;
    const int64_t element =
        (first + at) / type->block_bytes * type->block + (int64_t)bad;
    MOERUN_REQUIRE(bad == sound, MOERUN_ERR_FORMAT,
                   "%s: tensor \"%s\": row %lld, column %lld: expected a "
                   "finite number, found NaN or infinity",
                   moerun__shards_file(reader->shards, tensor), tensor->name,
                   (long long)(element / width_stored),
                   (long long)(element % width_stored));
  }
  reader->reading->done += bytes;
  moerun__byte_watch_tell(reader->reading->watch, reader->reading->done,
                          reader->reading->all);
done:
  return status;
}

/* Rows first_row .. first_row + count - 1 of the tensor into the staging
 * buffer. */
static moerun_status read_rows(const moerun__weight_reader *reader,
                               const moerun__tensor *tensor,
                               moerun__dtype dtype, int32_t width,
                               int64_t first_row, int32_t count) {
  moerun_status status = MOERUN_OK;
  const int64_t row_bytes = (int64_t)moerun__dtype_bytes(dtype, (size_t)width);
  MOERUN_TRY(moerun__stop_check(reader->path, "its weights were read"));
  MOERUN_TRY(read_bytes(reader->staging, reader, tensor, dtype, row_bytes,
                        first_row * row_bytes, count * row_bytes));
done:
  return status;
}

static int64_t row_bytes_of(const moerun__tensor_parts *parts) {
  return (int64_t)moerun__dtype_bytes(parts->dtype, (size_t)parts->num_inputs);
}

moerun_status moerun__reader_sample(uint64_t *sum,
                                    const moerun__weight_reader *reader,
                                    const moerun__tensor_parts *parts) {
  moerun_status status = MOERUN_OK;
  const int64_t row_bytes = row_bytes_of(parts);
  for (int32_t i = 0; i < parts->num_parts && !reader->counting; i++) {
    const moerun__tensor_part *part = &parts->part[i];
    const int64_t all = part->num_rows * row_bytes;
    const int64_t at = part->is_transposed
                           ? part->first_row / parts->num_inputs * all
                           : part->first_row * row_bytes;
    const int64_t count = all < MOERUN_SAMPLE_BYTES ? all : MOERUN_SAMPLE_BYTES;
    MOERUN_TRY(moerun__stop_check(reader->path, "its weights were compared"));
    MOERUN_TRY(moerun__shards_read(reader->staging, reader->shards,
                                   part->tensor, at, count));
    moerun__digest_piece(sum, part->tensor->name, at, reader->staging,
                         (size_t)count);
  }
done:
  return status;
}

moerun_status moerun__reader_panels(void **out, moerun__weight_reader *reader,
                                    const moerun__tensor_parts *parts) {
  moerun_status status = MOERUN_OK;
  const size_t bytes =
      moerun__weight_bytes(parts->dtype, parts->num_outputs, parts->num_inputs);
  *out = NULL;
  reader->bytes += moerun__alloc_bytes(1, bytes);
  if (!reader->counting) {
    MOERUN_TRY(moerun__alloc_streamed(out, 1, bytes));
  }
done:
  return status;
}

/* Rows `row` .. of heads from the staging buffer: of each head's rotated part
 * the even ones come first, then the odd ones. */
static void pack_pairs(char *panels, int32_t first_output,
                       const moerun__weight_reader *reader,
                       const moerun__tensor_parts *parts, int32_t row,
                       int32_t count) {
  const int32_t width = reader->config->head_dim;
  const int32_t rotated = reader->config->rope[0].width;
  const char *from = reader->staging;
  for (int32_t i = 0; i < count; i++) {
    const int32_t at = (row + i) % width;
    const int32_t to = at < rotated ? at / 2 + (at % 2) * (rotated / 2) : at;
    moerun__weight_pack(panels, parts->dtype, parts->num_inputs,
                        first_output + row + i - at + to, 1,
                        from + i * row_bytes_of(parts));
  }
}

static moerun_status pack_part(char *panels, int32_t first_output,
                               const moerun__weight_reader *reader,
                               const moerun__tensor_parts *parts,
                               const moerun__tensor_part *part) {
  moerun_status status = MOERUN_OK;
  const int64_t row_bytes = row_bytes_of(parts);
  const int32_t most = moerun__to_int(MOERUN_STAGING_BYTES / row_bytes);
  for (int32_t row = 0; row < part->num_rows; row += most) {
    const int32_t left = part->num_rows - row;
    const int32_t count = left < most ? left : most;
    MOERUN_TRY(read_rows(reader, part->tensor, parts->dtype, parts->num_inputs,
                         part->first_row + row, count));
    if (part->has_pairs) {
      pack_pairs(panels, first_output, reader, parts, row, count);
    } else {
      moerun__weight_pack(panels, parts->dtype, parts->num_inputs,
                          first_output + row, count, reader->staging);
    }
  }
done:
  return status;
}

/* to[columns][rows] = from[rows][columns], elements of so many bytes. */
static void transpose(char *to, const char *from, int32_t rows, int32_t columns,
                      size_t bytes) {
  for (int32_t c = 0; c < columns; c++) {
    for (int32_t r = 0; r < rows; r++) {
      memcpy(to + ((size_t)c * (size_t)rows + (size_t)r) * bytes,
             from + ((size_t)r * (size_t)columns + (size_t)c) * bytes, bytes);
    }
  }
}

/* A strip of outputs at a time: read, input by input, to one half of the
 * staging buffer, and turned round into the other. */
static moerun_status pack_transposed(char *panels, int32_t first_output,
                                     const moerun__weight_reader *reader,
                                     const moerun__tensor_parts *parts,
                                     const moerun__tensor_part *part) {
  moerun_status status = MOERUN_OK;
  const int32_t D = parts->num_inputs;
  const int64_t element = (int64_t)moerun__dtype_bytes(parts->dtype, 1);
  const int64_t stored = part->num_rows * element; /* of an input */
  char *strip = reader->staging;
  char *rows = strip + MOERUN_STAGING_BYTES / 2;
  const int32_t most =
      moerun__to_int(MOERUN_STAGING_BYTES / 2 / row_bytes_of(parts));
  for (int32_t at = 0; at < part->num_rows; at += most) {
    const int32_t left = part->num_rows - at;
    const int32_t count = left < most ? left : most;
    MOERUN_TRY(moerun__stop_check(reader->path, "its weights were read"));
    for (int32_t d = 0; d < D; d++) {
      MOERUN_TRY(read_bytes(strip + (int64_t)d * count * element, reader,
                            part->tensor, parts->dtype, stored,
                            (part->first_row + d) * stored + at * element,
                            count * element));
    }
    transpose(rows, strip, D, count, (size_t)element);
    moerun__weight_pack(panels, parts->dtype, D, first_output + at, count,
                        rows);
  }
done:
  return status;
}

void moerun__clear_last_panel(const moerun__weight *weight) {
  const int32_t N = weight->num_outputs;
  const int32_t D = weight->num_inputs;
  const size_t whole =
      moerun__weight_bytes(weight->dtype, N / MOERUN_PANEL * MOERUN_PANEL, D);
  memset((char *)weight->panels + whole, 0,
         moerun__weight_bytes(weight->dtype, N, D) - whole);
}

moerun_status moerun__reader_pack(moerun__weight *out,
                                  const moerun__weight_reader *reader,
                                  void *panels,
                                  const moerun__tensor_parts *parts) {
  moerun_status status = MOERUN_OK;
  const int32_t N = parts->num_outputs;
  const int32_t D = parts->num_inputs;
  *out = moerun__weight_at(NULL, parts->dtype, N, D);
  if (reader->counting) {
    reader->reading->all += N * row_bytes_of(parts);
    goto done;
  }
  *out = moerun__weight_at(panels, parts->dtype, N, D);
  moerun__clear_last_panel(out);
  int32_t output = 0;
  for (int32_t i = 0; i < parts->num_parts; i++) {
    const moerun__tensor_part *part = &parts->part[i];
    MOERUN_TRY((part->is_transposed ? pack_transposed : pack_part)(
        panels, output, reader, parts, part));
    output += parts->part[i].num_rows;
  }
done:
  return status;
}

static size_t vector_width(const moerun__weight_reader *reader,
                           moerun__role role) {
  int64_t shape[MOERUN_MAX_DIMS];
  const int num_dims = moerun__config_tensor_shape(shape, reader->config, role);
  return (size_t)(num_dims > 1 ? shape[0] * shape[1] : shape[0]);
}

/* A tensor of one row, widened; out is not read when counting. */
static moerun_status read_vector(float *out,
                                 const moerun__weight_reader *reader,
                                 moerun__role role, int32_t layer,
                                 int32_t expert) {
  moerun_status status = MOERUN_OK;
  int64_t shape[MOERUN_MAX_DIMS];
  const moerun__tensor *tensor = NULL;
  moerun__dtype dtype = MOERUN_DTYPE_F32;
  const int num_dims = moerun__config_tensor_shape(shape, reader->config, role);
  const size_t width = vector_width(reader, role);
  MOERUN_TRY(require(&tensor, reader, role, layer, expert));
  MOERUN_TRY(
      moerun__tensor_check(&dtype, reader->shards, tensor, shape, num_dims));
  if (reader->counting) {
    reader->reading->all += (int64_t)moerun__dtype_bytes(dtype, width);
    goto done;
  }
  MOERUN_TRY(read_rows(reader, tensor, dtype, (int32_t)width, 0, 1));
  moerun__widen(out, dtype, reader->staging, 0, width);
done:
  return status;
}

moerun_status moerun__reader_vectors(float **out, moerun__weight_reader *reader,
                                     moerun__role role, int32_t layer,
                                     int32_t count) {
  moerun_status status = MOERUN_OK;
  const size_t width = vector_width(reader, role);
  MOERUN_TRY(
      moerun__reader_array(out, reader, (size_t)count * width, sizeof **out));
  for (int32_t e = 0; e < count; e++) {
    float *at = reader->counting ? NULL : *out + (size_t)e * width;
    MOERUN_TRY(read_vector(at, reader, role, layer, e));
  }
done:
  return status;
}

moerun_status moerun__reader_join(float **out, moerun__weight_reader *reader,
                                  int32_t layer, int num_roles,
                                  const moerun__role *roles) {
  moerun_status status = MOERUN_OK;
  size_t width = 0;
  for (int r = 0; r < num_roles; r++) {
    width += vector_width(reader, roles[r]);
  }
  MOERUN_TRY(moerun__reader_array(out, reader, width, sizeof **out));
  width = 0;
  for (int r = 0; r < num_roles; r++) {
    float *at = reader->counting ? NULL : *out + width;
    MOERUN_TRY(read_vector(at, reader, roles[r], layer, 0));
    width += vector_width(reader, roles[r]);
  }
done:
  return status;
}

moerun_status moerun__reader_norm(float **out, moerun__weight_reader *reader,
                                  moerun__role role, int32_t layer) {
  return moerun__reader_join(out, reader, layer, 1, &role);
}
