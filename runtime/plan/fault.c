#include "runtime/plan/fault.h"

#include <stdlib.h>
#include <string.h>

/* A key of a fault: a whole number with a unit behind it. */
typedef struct key {
  const char *name;
  const char *unit;
  int64_t least;
  int64_t most;
} key;

enum { RANK, COMPUTE, SLEEP, STALL, FROM, TO, FLAP, NUM_KEYS };

static const key keys[NUM_KEYS] = {
    {"rank=", "", 0, 1 << 20},       {"compute=", "x", 1, 1000},
    {"sleep=", "us", 0, 60000000},   {"stall=", "ms", 0, 600000},
    {"from=", "", 0, INT64_MAX / 4}, {"to=", "", 0, INT64_MAX / 4},
    {"flap=", "", 0, INT64_MAX / 4},
};

/* Up to the next comma, semicolon or end. */
static int length_of(const char *at) {
  const size_t length = strcspn(at, ",;");
  return length < 40 ? (int)length : 40;
}

static moerun_status refuse(const char *at) {
  return moerun__fail(MOERUN_ERR_INVALID, __FILE__, __LINE__,
                      "--fault: expected rank=N and any of compute=Nx, "
                      "sleep=Nus, stall=Nms, from=STEP, to=STEP, flap=STEPS, "
                      "clock=counted, with commas between, found \"%.*s\"",
                      length_of(at), at);
}

/* The number of the key that stands at *at, and its value. */
static moerun_status take_key(int *out, int64_t *value, const char **at) {
  moerun_status status = MOERUN_OK;
  int k = 0;
  while (k < NUM_KEYS &&
         strncmp(*at, keys[k].name, strlen(keys[k].name)) != 0) {
    k++;
  }
  if (k == NUM_KEYS) return refuse(*at);
  const key *found = &keys[k];
  const char *digits = *at + strlen(found->name);
  const size_t count = strspn(digits, "0123456789");
  const char *unit = digits + count;
  const size_t unit_length = strlen(found->unit);
  if (count == 0 || strncmp(unit, found->unit, unit_length) != 0) {
    return refuse(*at);
  }
  *value = strtoll(digits, NULL, 10); /* the largest, if it is larger */
  MOERUN_REQUIRE(*value >= found->least && *value <= found->most,
                 MOERUN_ERR_INVALID,
                 "--fault: expected %s%lld%s to %lld%s, found \"%.*s\"",
                 found->name, (long long)found->least, found->unit,
                 (long long)found->most, found->unit, length_of(*at), *at);
  *at = unit + unit_length;
  *out = k;
done:
  return status;
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

static moerun_status check_one(const moerun__fault *fault, const char *text) {
  moerun_status status = MOERUN_OK;
  const int length = (int)strcspn(text, ";");
  MOERUN_REQUIRE(fault->rank >= 0, MOERUN_ERR_INVALID,
                 "--fault: expected rank=N in \"%.*s\", found none",
                 length < 200 ? length : 200, text);
  MOERUN_REQUIRE(fault->from < fault->to, MOERUN_ERR_INVALID,
                 "--fault: expected from=STEP to be less than to=STEP, found "
                 "%lld and %lld",
                 (long long)fault->from, (long long)fault->to);
done:
  return status;
}

/* One fault, up to ';' or the end. */
static moerun_status parse_one(moerun__faults *out, int *does_any,
                               const char **at) {
  moerun_status status = MOERUN_OK;
  static const char clock[] = "clock=counted";
  moerun__fault fault = {.rank = -1, .compute = 1, .to = INT64_MAX};
  const char *start = *at;
  for (;;) {
    int64_t value = 0;
    int which = 0;
    const char *here = *at;
    if (strncmp(here, clock, sizeof clock - 1) == 0) {
      *at += sizeof clock - 1;
      out->counted = 1;
      *does_any = 1;
    } else {
      MOERUN_TRY(take_key(&which, &value, at));
      set_key(&fault, which, value);
      *does_any |= which == COMPUTE || which == SLEEP || which == STALL;
    }
    if (**at != ',' && **at != ';' && **at != '\0') return refuse(here);
    if (**at != ',') break;
    (*at)++;
  }
  MOERUN_TRY(check_one(&fault, start));
  out->fault[out->count++] = fault;
done:
  return status;
}

moerun_status moerun__faults_parse(moerun__faults *out, const char *text) {
  moerun_status status = MOERUN_OK;
  const char *at = text;
  int does_any = 0;
  memset(out, 0, sizeof *out);
  for (;;) {
    MOERUN_REQUIRE(out->count < MOERUN_MOST_FAULTS, MOERUN_ERR_INVALID,
                   "--fault: expected at most %d faults, found more",
                   MOERUN_MOST_FAULTS);
    MOERUN_TRY(parse_one(out, &does_any, &at));
    if (*at == '\0') break;
    at++;
  }
  MOERUN_REQUIRE(does_any, MOERUN_ERR_INVALID,
                 "--fault: expected what slows a rank in \"%.200s\", such as "
                 "compute=4x, sleep=200us or stall=500ms, found none",
                 text);
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
