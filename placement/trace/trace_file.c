/* Traces as files: an .npy array of expert ids and what stands beside it.
 *
 * The array alone says N, L and K; a sidecar adds the sequences, E and the
 * model. Two kinds are known: the .json that `moerun profile` writes, and a
 * .seqs.tsv. Other tools write the array only, and ExFlow (Yao et al., 2024,
 * arXiv 2401.08383) counts ids on from layer to layer, l * E + e: such arrays
 * are recognised by their ranges, because no array of plain ids has every
 * layer's ids within l * E .. (l + 1) * E - 1 except one of a single layer,
 * where both readings agree. */
#include "placement/trace/trace.h"

#include "runtime/base/file.h"
#include "runtime/base/limits.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/base/npy.h"
#include "runtime/base/number.h"
#include "runtime/base/text.h"

#include <stdio.h>
#include <string.h>

enum {
  CHUNK = 8192,            /* elements read at a time */
  SIDECAR_LIMIT = 1 << 28, /* bytes */
  ROUTED_LIMIT = 0x7fffffff,
};

/* ---- Sidecar ------------------------------------------------------------- */

typedef moerun_status (*sidecar_parser)(moerun__trace *trace, const char *text,
                                        size_t bytes, const char *origin);

/* Reads the first length characters of `path` with `ending` behind them, if
 * there is such a file. */
static moerun_status try_sidecar(int *found, moerun__trace *trace,
                                 const char *path, size_t length,
                                 const char *ending, sidecar_parser parse) {
  moerun_status status = MOERUN_OK;
  moerun__text name = {0};
  char *text = NULL;
  size_t bytes = 0;
  if (*found) goto done;
  MOERUN_TRY(moerun__text_append(&name, path, length));
  MOERUN_TRY(moerun__text_print(&name, "%s", ending));
  *found = moerun__file_exists(name.bytes);
  if (!*found) goto done;
  MOERUN_TRY(moerun__file_read(&text, &bytes, name.bytes, SIDECAR_LIMIT));
  MOERUN_TRY(parse(trace, text, bytes, name.bytes));
done:
  moerun__free(text);
  moerun__text_clear(&name);
  return status;
}

/* NAME.npy has NAME.json or NAME.seqs.tsv; NAME.ids.npy also NAME.seqs.tsv. Any
 * of them has the number of tokens, which was compared then. */
static moerun_status load_sidecar(moerun__trace *trace, const char *path) {
  moerun_status status = MOERUN_OK;
  int found = 0;
  size_t length = strlen(path);
  if (moerun__name_ends_in(path, length, ".npy")) length -= 4;
  MOERUN_TRY(try_sidecar(&found, trace, path, length, ".json",
                         moerun__trace_parse_json));
  MOERUN_TRY(try_sidecar(&found, trace, path, length, ".seqs.tsv",
                         moerun__trace_parse_tsv));
  if (moerun__name_ends_in(path, length, ".ids")) length -= 4;
  MOERUN_TRY(try_sidecar(&found, trace, path, length, ".seqs.tsv",
                         moerun__trace_parse_tsv));
  trace->may_be_turned = !found && trace->num_tokens < trace->num_layers;
done:
  return status;
}

/* ---- Array --------------------------------------------------------------- */

typedef struct array {
  const char *path;
  moerun__npy_reader *reader;
  moerun__npy_shape shape;
  int64_t count;  /* elements */
  int64_t *chunk; /* [CHUNK] */
} array;

/* Smallest and largest id of a layer, -1 (none) left out. */
typedef struct id_range {
  int64_t low;
  int64_t high;
} id_range;

static moerun_status check_shape(const array *in) {
  moerun_status status = MOERUN_OK;
  const moerun__npy_shape *shape = &in->shape;
  MOERUN_REQUIRE(shape->num_dims == 2 || shape->num_dims == 3,
                 MOERUN_ERR_FORMAT,
                 "%s: expected an array [tokens][layers][terms] or "
                 "[tokens][layers], found %d dimension%s",
                 in->path, shape->num_dims, shape->num_dims == 1 ? "" : "s");
  MOERUN_REQUIRE(shape->dim[0] >= 1, MOERUN_ERR_FORMAT,
                 "%s: expected at least one token, found none", in->path);
  MOERUN_REQUIRE(
      shape->dim[1] >= 1 && shape->dim[1] <= MOERUN_PLACEMENT_MAX_LAYERS,
      MOERUN_ERR_FORMAT, "%s: expected 1 to %d layers, found %lld", in->path,
      MOERUN_PLACEMENT_MAX_LAYERS, (long long)shape->dim[1]);
  MOERUN_REQUIRE(
      shape->num_dims == 2 ||
          (shape->dim[2] >= 1 && shape->dim[2] <= MOERUN_TRACE_MAX_EXPERTS),
      MOERUN_ERR_FORMAT,
      "%s: expected 1 to %d terms per token and layer, found %lld", in->path,
      MOERUN_TRACE_MAX_EXPERTS, (long long)shape->dim[2]);
done:
  return status;
}

/* Elements first .. first + *part - 1 into in->chunk. */
static moerun_status read_chunk(const array *in, int64_t first, int64_t *part) {
  moerun_status status = MOERUN_OK;
  const int64_t left = in->count - first;
  const int64_t none = moerun__trace_unsigned_none(in->shape.type);
  *part = left < CHUNK ? left : CHUNK;
  MOERUN_TRY(moerun__npy_read_integers(in->reader, in->chunk, first, *part));
  for (int64_t i = 0; i < *part; i++) {
    if (in->chunk[i] == none) in->chunk[i] = -1;
  }
done:
  return status;
}

/* range[L] */
static moerun_status measure_layers(const array *in, id_range *range) {
  moerun_status status = MOERUN_OK;
  const int64_t L = in->shape.dim[1];
  int64_t part = 0;
  for (int64_t l = 0; l < L; l++) {
    range[l] = (id_range){.low = INT64_MAX, .high = -1};
  }
  for (int64_t first = 0; first < in->count; first += part) {
    MOERUN_TRY(read_chunk(in, first, &part));
    for (int64_t i = 0; i < part; i++) {
      id_range *layer = &range[(first + i) % L];
      const int64_t id = in->chunk[i];
      if (id == -1) continue;
      if (id < layer->low) layer->low = id;
      if (id > layer->high) layer->high = id;
    }
  }
done:
  return status;
}

/* E so that layer l's ids lie within l * E .. (l + 1) * E - 1, if there is one:
 * *low .. *high, empty where *low > *high. */
static void find_stride(int64_t *low, int64_t *high, const id_range *range,
                        int64_t L) {
  *low = 1;
  *high = INT64_MAX;
  for (int64_t l = 0; l < L; l++) {
    if (range[l].high < 0) continue;
    const int64_t whole = range[l].high / (l + 1);
    const int64_t least = whole < INT64_MAX ? whole + 1 : whole;
    const int64_t most = l > 0 ? range[l].low / l : INT64_MAX;
    if (least > *low) *low = least;
    if (most < *high) *high = most;
  }
}

/* What each layer's ids are ahead of the last one's: 0, or E where they count
 * on. Sets E where it was unknown. */
static moerun_status solve_stride(int64_t *stride, moerun__trace *trace,
                                  const array *in) {
  moerun_status status = MOERUN_OK;
  id_range *range = NULL;
  const int64_t L = in->shape.dim[1];
  int64_t low = 0;
  int64_t high = 0;
  *stride = 0;
  if (in->shape.num_dims == 3 || L == 1) goto done;
  MOERUN_TRY(moerun__alloc(&range, (size_t)L, sizeof *range));
  MOERUN_TRY(measure_layers(in, range));
  find_stride(&low, &high, range, L);
  const int64_t E = trace->num_experts;
  if (E > 0) {
    if (low <= E && E <= high) *stride = E;
  } else if (low <= high && low <= MOERUN_TRACE_MAX_EXPERTS) {
    MOERUN_REQUIRE(low == high, MOERUN_ERR_FORMAT,
                   "%s: the ids count on from layer to layer with %lld to %lld "
                   "experts in each: expected their number to be given "
                   "(--trace-experts)",
                   in->path, (long long)low, (long long)high);
    *stride = low;
    trace->num_experts = moerun__to_int(low);
  }
done:
  moerun__free(range);
  return status;
}

/* The elements of in->chunk[part], which are number `first` and on. Ids beyond
 * the experts may be those of shared ones, and wait for moerun__trace_check. */
static moerun_status fill_part(moerun__trace *trace, const array *in,
                               int64_t first, int64_t part, int64_t stride) {
  moerun_status status = MOERUN_OK;
  const int64_t L = trace->num_layers;
  const int64_t K = trace->num_terms;
  const int64_t last = trace->num_experts > 0 ? trace->num_experts - 1
                                              : MOERUN_TRACE_MAX_EXPERTS - 1;
  const int64_t most = stride > 0 ? last : MOERUN_TRACE_MAX_EXPERTS - 1;
  for (int64_t i = 0; i < part; i++) {
    const int64_t at = first + i;
    const int64_t layer = at / K % L;
    const int64_t found = in->chunk[i];
    const int64_t id = found == -1 ? -1 : found - layer * stride;
    MOERUN_REQUIRE(found == -1 || (id >= 0 && id <= most), MOERUN_ERR_FORMAT,
                   "%s: token %lld, layer %lld, term %lld: expected an expert "
                   "from 0 to %lld, or -1 for none, found %lld",
                   in->path, (long long)(at / K / L), (long long)layer,
                   (long long)(at % K), (long long)last, (long long)found);
    trace->ids[at] = (int16_t)id;
  }
done:
  return status;
}

static moerun_status fill_ids(moerun__trace *trace, const array *in,
                              int64_t stride) {
  moerun_status status = MOERUN_OK;
  int64_t part = 0;
  for (int64_t first = 0; first < in->count; first += part) {
    MOERUN_TRY(read_chunk(in, first, &part));
    MOERUN_TRY(fill_part(trace, in, first, part, stride));
  }
done:
  return status;
}

static moerun_status load_array(moerun__trace **out, const char *path,
                                int32_t num_experts) {
  moerun_status status = MOERUN_OK;
  moerun__trace *trace = NULL;
  array in = {.path = path};
  int64_t stride = 0;
  MOERUN_TRY(
      moerun__npy_open(&in.reader, &in.shape, path, MOERUN_NPY_INTEGERS));
  MOERUN_TRY(check_shape(&in));
  in.count = moerun__npy_count(&in.shape);
  MOERUN_TRY(moerun__alloc(&in.chunk, CHUNK, sizeof *in.chunk));
  const int64_t K = in.shape.num_dims == 3 ? in.shape.dim[2] : 1;
  MOERUN_TRY(moerun__trace_create(&trace, in.shape.dim[0],
                                  moerun__to_int(in.shape.dim[1]), num_experts,
                                  moerun__to_int(K)));
  MOERUN_TRY(load_sidecar(trace, path));
  MOERUN_TRY(solve_stride(&stride, trace, &in));
  MOERUN_TRY(fill_ids(trace, &in, stride));
  MOERUN_TRY(moerun__trace_leave_out_padding(trace, trace->num_experts, path));
  MOERUN_TRY(moerun__trace_check(trace, path));
  *out = trace;
  trace = NULL;
done:
  moerun__npy_close(in.reader);
  moerun__free(in.chunk);
  moerun__trace_destroy(trace);
  return status;
}

void moerun__trace_warn_if_turned(const moerun__trace *trace,
                                  const char *path) {
  if (!trace->may_be_turned) return;
  LOG_ROOT(MOERUN_LOG_WARN,
           "%s: expected an array [tokens][layers][terms], found fewer tokens "
           "than layers: it looks like one with layers first, whose first two "
           "dimensions have to be swapped",
           path);
}

moerun_status moerun__trace_load(moerun__trace **out, const char *path,
                                 int32_t num_experts) {
  moerun_status status = MOERUN_OK;
  char *text = NULL;
  size_t bytes = 0;
  *out = NULL;
  MOERUN_REQUIRE(num_experts >= 0 && num_experts <= MOERUN_TRACE_MAX_EXPERTS,
                 MOERUN_ERR_INVALID,
                 "trace: expected 1 to %d experts, found %d",
                 MOERUN_TRACE_MAX_EXPERTS, num_experts);
  if (!moerun__name_ends_in(path, strlen(path), ".jsonl")) {
    MOERUN_TRY(load_array(out, path, num_experts));
    goto done;
  }
  MOERUN_TRY(moerun__file_read(&text, &bytes, path, ROUTED_LIMIT));
  MOERUN_TRY(moerun__trace_parse_routed(out, text, bytes, path, num_experts));
done:
  moerun__free(text);
  return status;
}

/* ---- Save ---------------------------------------------------------------- */

static moerun_status save_array(const moerun__trace *trace,
                                moerun__outputs *outputs, const char *path) {
  moerun_status status = MOERUN_OK;
  int file = -1;
  const moerun__npy_shape shape = {
      MOERUN_NPY_I16,
      3,
      {trace->num_tokens, trace->num_layers, trace->num_terms}};
  MOERUN_TRY(moerun__outputs_begin(outputs, &file, path));
  MOERUN_TRY(moerun__npy_put_header(file, &shape, path));
  MOERUN_TRY(moerun__file_put(
      file, trace->ids, (size_t)moerun__npy_count(&shape) * sizeof *trace->ids,
      path));
done:
  return status;
}

static moerun_status save_description(const moerun__trace *trace,
                                      moerun__outputs *outputs,
                                      const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__text text = {0};
  MOERUN_TRY(moerun__trace_print_json(&text, trace, ""));
  MOERUN_TRY(moerun__outputs_put(outputs, path, text.bytes, text.count));
done:
  moerun__text_clear(&text);
  return status;
}

moerun_status moerun__trace_save(const moerun__trace *trace,
                                 moerun__outputs *outputs, const char *path) {
  moerun_status status = MOERUN_OK;
  moerun__text description = {0};
  const size_t length = strlen(path);
  MOERUN_REQUIRE(moerun__name_ends_in(path, length, ".npy"), MOERUN_ERR_INVALID,
                 "%s: expected a name that ends in .npy", path);
  MOERUN_TRY(moerun__trace_check(trace, path));
  MOERUN_TRY(moerun__text_append(&description, path, length - 4));
  MOERUN_TRY(moerun__text_print(&description, ".json"));
  MOERUN_TRY(save_array(trace, outputs, path));
  MOERUN_TRY(save_description(trace, outputs, description.bytes));
done:
  moerun__text_clear(&description);
  return status;
}
