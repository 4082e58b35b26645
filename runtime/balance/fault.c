#include "runtime/balance/fault.h"

#include <stdlib.h>
#include <string.h>

/* A key of a fault: a whole number from 0 on with a unit behind it. */
typedef struct key {
  const char *name;
  const char *unit;
  int64_t most;
} key;

enum { RANK, COMPUTE, SLEEP, STALL, FROM, TO, FLAP, NUM_KEYS };

static const key keys[NUM_KEYS] = {
    {"rank=", "", 1 << 20},       {"compute=", "x", 1000},
    {"sleep=", "us", 60000000},   {"stall=", "ms", 600000},
    {"from=", "", INT64_MAX / 4}, {"to=", "", INT64_MAX / 4},
    {"flap=", "", INT64_MAX / 4},
};

static moerun_status refuse(const char *text, const char *at) {
  return moerun__fail(
      MOERUN_ERR_INVALID, __FILE__, __LINE__,
      "MOERUN_FAULT \"%.200s\": expected rank=N and any of compute=Nx, "
      "sleep=Nus, stall=Nms, from=STEP, to=STEP, flap=STEPS, clock=counted, "
      "with commas between, found \"%.40s\"",
      text, at);
}

/* The number of the key that stands at *at, and its value; NUM_KEYS: none. */
static int take_key(const char **at, int64_t *value) {
  for (int k = 0; k < NUM_KEYS; k++) {
    const size_t length = strlen(keys[k].name);
    if (strncmp(*at, keys[k].name, length) != 0) continue;
    const char *digits = *at + length;
    const size_t count = strspn(digits, "0123456789");
    if (count == 0) return NUM_KEYS;
    *value = strtoll(digits, NULL, 10); /* the largest, if it is larger */
    const char *end = digits + count;
    if (strncmp(end, keys[k].unit, strlen(keys[k].unit)) != 0) return NUM_KEYS;
    *at = end + strlen(keys[k].unit);
    return *value <= keys[k].most ? k : NUM_KEYS;
  }
  return NUM_KEYS;
}

static void set_key(moerun__fault *fault, int which, int64_t value) {
  switch (which) {
  case RANK: fault->rank = (int32_t)value; break;
  case COMPUTE: fault->compute = (int32_t)value; break;
  case SLEEP: fault->sleep_us = (int32_t)value; break;
  case STALL: fault->stall_ms = (int32_t)value; break;
  case FROM: fault->from = value; break;
  case TO: fault->to = value; break;
  default: fault->flap = value; break;
  }
}

/* One fault, up to ';' or the end. */
static moerun_status parse_one(moerun__faults *out, const char *text,
                               const char **at) {
  static const char clock[] = "clock=counted";
  moerun__fault fault = {.rank = -1, .compute = 1, .to = INT64_MAX};
  for (;;) {
    int64_t value = 0;
    const char *start = *at;
    if (strncmp(*at, clock, sizeof clock - 1) == 0) {
      *at += sizeof clock - 1;
      out->counted = 1;
    } else {
      const int which = take_key(at, &value);
      if (which == NUM_KEYS) return refuse(text, start);
      set_key(&fault, which, value);
    }
    if (**at != ',') break;
    (*at)++;
  }
  if (fault.rank < 0 || fault.compute < 1 || fault.from >= fault.to ||
      (**at != '\0' && **at != ';')) {
    return refuse(text, *at);
  }
  out->fault[out->count++] = fault;
  return MOERUN_OK;
}

moerun_status moerun__faults_parse(moerun__faults *out, const char *text) {
  moerun_status status = MOERUN_OK;
  const char *at = text;
  memset(out, 0, sizeof *out);
  for (;;) {
    MOERUN_REQUIRE(out->count < MOERUN_MOST_FAULTS, MOERUN_ERR_INVALID,
                   "MOERUN_FAULT: expected at most %d faults, found more",
                   MOERUN_MOST_FAULTS);
    MOERUN_TRY(parse_one(out, text, &at));
    if (*at == '\0') break;
    at++;
  }
done:
  return status;
}

moerun_status moerun__faults_check(const moerun__faults *faults,
                                   int32_t num_ranks) {
  moerun_status status = MOERUN_OK;
  for (int32_t i = 0; i < faults->count; i++) {
    MOERUN_REQUIRE(faults->fault[i].rank < num_ranks, MOERUN_ERR_INVALID,
                   "--fault: expected a rank from 0 to %d, found %d",
                   num_ranks - 1, faults->fault[i].rank);
  }
done:
  return status;
}

moerun__slowness moerun__faults_at(const moerun__faults *faults, int32_t rank,
                                   int64_t step) {
  moerun__slowness slowness = {.compute = 1};
  for (int32_t i = 0; i < faults->count; i++) {
    const moerun__fault *fault = &faults->fault[i];
    if (fault->rank != rank || step < fault->from || step >= fault->to) {
      continue;
    }
    if (fault->flap > 0 && (step - fault->from) / fault->flap % 2 != 0) {
      continue;
    }
    slowness.compute *=
        slowness.compute <= keys[COMPUTE].most ? fault->compute : 1;
    slowness.sleep_us += fault->sleep_us;
    if (step == fault->from) slowness.stall_ms += fault->stall_ms;
  }
  return slowness;
}
