/* Traces of any bytes are either read or refused with a line; what is read
 * keeps the invariants and survives being saved. The first byte says which
 * reader the others are for. */
#include "placement/trace/trace.h"
#include "runtime/base/file.h"
#include "runtime/base/log.h"
#include "support/fuzz.h"
#include "support/trace_save.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { PATH_BYTES = 64 };

/* A file of this process's own. */
static void name_file(char path[PATH_BYTES], const char *ending) {
  (void)snprintf(path, PATH_BYTES, "/tmp/moerun_fuzz_%ld%s", (long)getpid(),
                 ending);
}

static moerun_status read_array(moerun__trace **out, const char *text,
                                size_t bytes) {
  char path[PATH_BYTES];
  name_file(path, ".npy");
  if (moerun__file_write(path, text, bytes) != MOERUN_OK) abort();
  const moerun_status status = moerun__trace_load(out, path, 0);
  if (unlink(path) != 0) abort();
  return status;
}

/* A sidecar for an array of 4 tokens, 2 layers and 2 terms. */
static moerun_status read_sidecar(moerun__trace **out, const char *text,
                                  size_t bytes, int is_json) {
  moerun__trace *trace = NULL;
  if (moerun__trace_create(&trace, 4, 2, 0, 2) != MOERUN_OK) abort();
  const moerun_status status =
      is_json ? moerun__trace_parse_json(trace, text, bytes, "fuzz")
              : moerun__trace_parse_tsv(trace, text, bytes, "fuzz");
  if (status == MOERUN_OK) {
    for (int i = 0; i < 16; i++) {
      trace->ids[i] = (int16_t)(i % 2);
    }
    if (trace->num_experts < 2) trace->num_experts = 2;
    if (moerun__trace_leave_out_padding(trace, trace->num_experts, "fuzz") !=
        MOERUN_OK) {
      abort();
    }
    *out = trace;
  } else {
    moerun__trace_destroy(trace);
  }
  return status;
}

static void save(const moerun__trace *trace) {
  char path[PATH_BYTES];
  moerun__trace *again = NULL;
  name_file(path, ".saved.npy");
  if (trace_save(trace, path) != MOERUN_OK ||
      moerun__trace_load(&again, path, 0) != MOERUN_OK ||
      moerun__trace_digest(trace) != moerun__trace_digest(again)) {
    abort();
  }
  moerun__trace_destroy(again);
  if (unlink(path) != 0) abort();
  name_file(path, ".saved.json");
  if (unlink(path) != 0) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t size) {
  moerun__trace *trace = NULL;
  moerun_status status = MOERUN_OK;
  if (size == 0) return 0;
  moerun__log_set_level(MOERUN_LOG_ERROR); /* padding is warned of */
  const char *text = (const char *)bytes + 1;
  switch (bytes[0] % 4) {
  case 0: status = read_array(&trace, text, size - 1); break;
  case 1: status = read_sidecar(&trace, text, size - 1, 1); break;
  case 2: status = read_sidecar(&trace, text, size - 1, 0); break;
  default:
    status = moerun__trace_parse_routed(&trace, text, size - 1, "fuzz", 0);
    break;
  }
  if (status != MOERUN_OK && moerun_last_error()[0] == '\0') abort();
  if (status == MOERUN_OK) {
    if (moerun__trace_check(trace, "fuzz") != MOERUN_OK) abort();
    save(trace);
  }
  moerun__trace_destroy(trace);
  return 0;
}
