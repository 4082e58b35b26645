/* Requests finish in any order, readers want the order of the input: rows go
 * to a file without a name as they come and are copied in order at the end.
 * Only three numbers per request stay in memory. The .npy gets its name before
 * the .json does, so that whoever finds the .json finds both. A trace of
 * nothing is not written: it would be refused where it is read, and stand in
 * the way of the next one. */
#include "launch/run/trace_file.h"

#include "placement/trace/trace.h"
#include "runtime/base/file.h"
#include "runtime/base/log.h"
#include "runtime/base/memory.h"
#include "runtime/base/npy.h"
#include "runtime/base/temporary.h"
#include "runtime/base/text.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { COPY_ROWS = 256 };

typedef struct part {
  int64_t offset; /* in the partial file, rows */
  int64_t num_rows;
  int32_t num_prompt; /* of the rows; -1: the request has not finished */
  int32_t rank;       /* that ran it */
} part;

struct moerun__trace_file {
  const moerun__prompts *prompts;
  const moerun__model_config *model;
  moerun__text model_name;
  int32_t num_ranks;
  moerun__text npy_path;
  moerun__text json_path;
  int file; /* the rows as they came; -1: not open */
  int64_t num_rows;
  int64_t num_recorded; /* requests that the rows are of */
  size_t row_bytes;
  int64_t num_requests;
  part *part; /* [num_requests] */
};

moerun_status moerun__trace_file_check(const char *path, const char *flag) {
  moerun_status status = MOERUN_OK;
  const size_t bytes = strlen(path);
  MOERUN_REQUIRE(moerun__name_ends_in(path, bytes, ".npy"), MOERUN_ERR_INVALID,
                 "%s: expected a name that ends in .npy, found %s", flag, path);
done:
  return status;
}

static moerun_status set_paths(moerun__trace_file *trace, const char *path) {
  moerun_status status = MOERUN_OK;
  const size_t bytes = strlen(path);
  MOERUN_TRY(moerun__trace_file_check(path, "--trace"));
  MOERUN_TRY(moerun__text_append(&trace->npy_path, path, bytes));
  MOERUN_TRY(moerun__text_append(&trace->json_path, path, bytes - 4));
  MOERUN_TRY(moerun__text_append(&trace->json_path, ".json", 5));
done:
  return status;
}

moerun_status moerun__trace_file_open(moerun__trace_file **out,
                                      const char *path,
                                      const moerun__prompts *prompts,
                                      const moerun__model_config *model,
                                      const char *model_path,
                                      int32_t num_ranks) {
  moerun_status status = MOERUN_OK;
  moerun__trace_file *trace = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&trace, 1, sizeof *trace));
  trace->file = -1;
  trace->prompts = prompts;
  trace->model = model;
  trace->num_ranks = num_ranks;
  trace->num_requests = moerun__prompts_count(prompts);
  trace->row_bytes = sizeof(int16_t) * (size_t)model->num_moe_layers *
                     (size_t)moerun__config_terms(model);
  MOERUN_TRY(moerun__model_name(&trace->model_name, model_path));
  MOERUN_TRY(set_paths(trace, path));
  MOERUN_REQUIRE(model->num_experts <= INT16_MAX, MOERUN_ERR_UNSUPPORTED,
                 "--trace: expected at most %d experts, found %d", INT16_MAX,
                 model->num_experts);
  MOERUN_TRY(moerun__alloc(&trace->part, (size_t)trace->num_requests,
                           sizeof *trace->part));
  for (int64_t i = 0; i < trace->num_requests; i++) {
    trace->part[i].num_prompt = -1;
  }
  *out = trace;
  trace = NULL;
done:
  moerun__trace_file_destroy(trace);
  return status;
}

void moerun__trace_file_destroy(moerun__trace_file *trace) {
  if (trace == NULL) return;
  if (trace->file >= 0) (void)close(trace->file);
  moerun__text_clear(&trace->npy_path);
  moerun__text_clear(&trace->json_path);
  moerun__text_clear(&trace->model_name);
  moerun__free(trace->part);
  moerun__free(trace);
}

/* The file loses its name at once: however the program ends, it is gone. */
moerun_status moerun__trace_file_begin(moerun__trace_file *trace) {
  moerun_status status = MOERUN_OK;
  moerun__target target = {0};
  moerun__temporary rows = {0};
  MOERUN_TRY(moerun__target_find(&target, trace->npy_path.bytes));
  MOERUN_TRY(moerun__temporary_file(&rows, &trace->file, target.path));
  moerun__temporary_remove(&rows);
done:
  moerun__target_clear(&target);
  return status;
}

/* The model sees every token but the last one. */
static moerun_status check_rows(const moerun__trace_file *trace,
                                const moerun__completion *c) {
  moerun_status status = MOERUN_OK;
  const int64_t fed = (int64_t)c->num_prompt + c->num_tokens - 1;
  MOERUN_REQUIRE(c->num_traced == fed, MOERUN_ERR_COMM,
                 "%s: request %lld: expected the routing of %lld tokens from "
                 "rank %d, found that of %d",
                 trace->npy_path.bytes, (long long)c->index, (long long)fed,
                 c->rank, c->num_traced);
done:
  return status;
}

moerun_status moerun__trace_file_append(moerun__trace_file *trace,
                                        const moerun__completion *c) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(check_rows(trace, c));
  MOERUN_TRY(moerun__file_put(trace->file, c->trace,
                              (size_t)c->num_traced * trace->row_bytes,
                              trace->npy_path.bytes));
  trace->part[c->index] =
      (part){.offset = trace->num_rows,
             .num_rows = c->num_traced,
             .rank = c->rank,
             .num_prompt =
                 c->num_prompt < c->num_traced ? c->num_prompt : c->num_traced};
  trace->num_rows += c->num_traced;
  trace->num_recorded++;
done:
  return status;
}

int64_t moerun__trace_file_count(const moerun__trace_file *trace) {
  return trace->num_recorded;
}

/* ---- The end ------------------------------------------------------------- */

/* Copies the rows of one request behind the others of `file`. */
static moerun_status copy_rows(int file, char *rows,
                               const moerun__trace_file *trace,
                               const part *from) {
  moerun_status status = MOERUN_OK;
  const char *path = trace->npy_path.bytes;
  for (int64_t at = 0; at < from->num_rows; at += COPY_ROWS) {
    const int64_t left = from->num_rows - at;
    const int64_t count = left < COPY_ROWS ? left : COPY_ROWS;
    const size_t bytes = (size_t)count * trace->row_bytes;
    size_t got = 0;
    MOERUN_TRY(moerun__file_get(&got, rows, bytes, trace->file,
                                (from->offset + at) * (int64_t)trace->row_bytes,
                                path));
    MOERUN_REQUIRE(got == bytes, MOERUN_ERR_OUTPUT,
                   "%s: its rows cannot be read: they shrank meanwhile", path);
    MOERUN_TRY(moerun__file_put(file, rows, bytes, path));
  }
done:
  return status;
}

static moerun_status write_array(const moerun__trace_file *trace,
                                 moerun__outputs *outputs) {
  moerun_status status = MOERUN_OK;
  char *rows = NULL;
  int file = -1;
  const char *path = trace->npy_path.bytes;
  const moerun__npy_shape shape = {MOERUN_NPY_I16,
                                   3,
                                   {trace->num_rows,
                                    trace->model->num_moe_layers,
                                    moerun__config_terms(trace->model)}};
  MOERUN_TRY(moerun__alloc(&rows, COPY_ROWS, trace->row_bytes));
  MOERUN_TRY(moerun__outputs_begin(outputs, &file, path));
  MOERUN_TRY(moerun__npy_put_header(file, &shape, path));
  for (int64_t i = 0; i < trace->num_requests; i++) {
    if (trace->part[i].num_prompt < 0) continue;
    MOERUN_TRY(copy_rows(file, rows, trace, &trace->part[i]));
  }
done:
  moerun__free(rows);
  return status;
}

/* Members of the .json for people and other tools: numbers, and ids. */
static moerun_status print_column(moerun__text *out,
                                  const moerun__trace_file *trace,
                                  const char *name,
                                  int64_t (*number)(const part *, int64_t)) {
  moerun_status status = MOERUN_OK;
  moerun__prompt prompt = {0};
  const char *gap = "";
  MOERUN_TRY(moerun__text_print(out, ",\n\"%s\": [", name));
  for (int64_t i = 0; i < trace->num_requests; i++) {
    if (trace->part[i].num_prompt < 0) continue;
    if (number != NULL) {
      MOERUN_TRY(moerun__text_print(out, "%s%lld", gap,
                                    (long long)number(&trace->part[i], i)));
    } else {
      MOERUN_TRY(moerun__prompts_read(trace->prompts, &prompt, i));
      MOERUN_TRY(moerun__text_print(out, "%s%s", gap, prompt.id.bytes));
    }
    gap = ",";
  }
  MOERUN_TRY(moerun__text_append(out, "]", 1));
done:
  moerun__prompt_clear(&prompt);
  return status;
}

static int64_t prompt_rows(const part *of, int64_t index) {
  (void)index;
  return of->num_prompt;
}

static int64_t index_of(const part *of, int64_t index) {
  (void)of;
  return index;
}

static moerun_status print_layers(moerun__text *out,
                                  const moerun__model_config *model) {
  moerun_status status = MOERUN_OK;
  const char *gap = "";
  MOERUN_TRY(moerun__text_print(out, ",\n\"layers\": ["));
  for (int32_t l = 0; l < model->num_layers; l++) {
    if (model->moe_layer[l] < 0) continue;
    MOERUN_TRY(moerun__text_print(out, "%s%d", gap, l));
    gap = ",";
  }
  MOERUN_TRY(moerun__text_append(out, "]", 1));
done:
  return status;
}

static moerun_status print_more(moerun__text *out,
                                const moerun__trace_file *trace) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(
      out, ",\n\"architecture\": \"%s\", \"phase\": \"%s\"",
      moerun__arch_name(trace->model->arch),
      moerun__prompts_are_scored(trace->prompts) ? "prefill"
                                                 : "prefill and decode"));
  MOERUN_TRY(print_layers(out, trace->model));
  MOERUN_TRY(print_column(out, trace, "prompt_rows", prompt_rows));
  MOERUN_TRY(print_column(out, trace, "index", index_of));
  MOERUN_TRY(print_column(out, trace, "id", NULL));
done:
  return status;
}

static moerun_status write_description(const moerun__trace_file *trace,
                                       moerun__outputs *outputs) {
  moerun_status status = MOERUN_OK;
  moerun__text out = {0};
  moerun__text more = {0};
  moerun__trace described = {.model = trace->model_name.bytes,
                             .num_tokens = trace->num_rows,
                             .num_layers = trace->model->num_moe_layers,
                             .num_experts = trace->model->num_experts,
                             .num_terms = moerun__config_terms(trace->model),
                             .gate_order = 1,
                             .num_ranks = trace->num_ranks};
  const size_t most = (size_t)trace->num_recorded;
  MOERUN_TRY(moerun__alloc(&described.sequence_offset, most + 1,
                           sizeof *described.sequence_offset));
  MOERUN_TRY(moerun__alloc(&described.home, most, sizeof *described.home));
  for (int64_t i = 0; i < trace->num_requests; i++) {
    const part *of = &trace->part[i];
    if (of->num_prompt < 0) continue;
    const int64_t s = described.num_sequences++;
    described.home[s] = of->rank;
    described.sequence_offset[s + 1] =
        described.sequence_offset[s] + of->num_rows;
  }
  MOERUN_TRY(print_more(&more, trace));
  MOERUN_TRY(moerun__trace_print_json(&out, &described, more.bytes));
  MOERUN_TRY(moerun__outputs_put(outputs, trace->json_path.bytes, out.bytes,
                                 out.count));
done:
  moerun__free(described.sequence_offset);
  moerun__free(described.home);
  moerun__text_clear(&more);
  moerun__text_clear(&out);
  return status;
}

moerun_status moerun__trace_file_end(moerun__trace_file *trace,
                                     moerun__outputs *outputs) {
  moerun_status status = MOERUN_OK;
  if (trace->num_recorded == 0) {
    LOG_ROOT(MOERUN_LOG_WARN,
             "nothing was recorded, because no request was finished: %s is not "
             "written, nor are other files that would say nothing",
             trace->npy_path.bytes);
    goto done;
  }
  MOERUN_TRY(write_array(trace, outputs));
  MOERUN_TRY(write_description(trace, outputs));
done:
  return status;
}
