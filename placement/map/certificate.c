/* The certificate of a placement, to and from JSON. A file that claims what
 * cannot be (a cost below its bound, a proof without a bound, a gap that does
 * not go with them) is refused: a certificate is worth its consistency. */
#include "placement/map/certificate.h"

#include "runtime/base/json.h"
#include "runtime/base/memory.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

/* ---- Names --------------------------------------------------------------- */

static const char *const objective_names[] = {
    [MOERUN_OBJECTIVE_FANOUT] = "fanout",
    [MOERUN_OBJECTIVE_CUT] = "cut",
    [MOERUN_OBJECTIVE_WEIGHTED] = "weighted",
    [MOERUN_OBJECTIVE_TAIL] = "tail",
};
enum { NUM_OBJECTIVES = sizeof objective_names / sizeof *objective_names };

const char *moerun__objective_name(moerun__objective objective) {
  return objective_names[objective];
}

int moerun__objective_find(const char *name) {
  for (int i = 0; i < NUM_OBJECTIVES; i++) {
    if (strcmp(objective_names[i], name) == 0) return i;
  }
  return -1;
}

#define JUDGEMENT_MAP(X)                                                       \
  X(fanout)                                                                    \
  X(remote)                                                                    \
  X(returned)                                                                  \
  X(node_fanout)                                                               \
  X(cut)                                                                       \
  X(node_cut)                                                                  \
  X(weighted)                                                                  \
  X(tail)                                                                      \
  X(load)                                                                      \
  X(worst_load)

typedef struct field {
  const char *name;
  size_t offset;
} field;

static const field fields[] = {
#define FIELD(name) {#name, offsetof(moerun__judgement, name)},
    JUDGEMENT_MAP(FIELD)
#undef FIELD
};
enum { NUM_FIELDS = sizeof fields / sizeof *fields };

int moerun__judgement_at(const moerun__judgement *judgement, int i,
                         const char **name, double *value) {
  if (i < 0 || i >= NUM_FIELDS) return 0;
  *name = fields[i].name;
  memcpy(value, (const char *)judgement + fields[i].offset, sizeof *value);
  return 1;
}

/* ---- Create -------------------------------------------------------------- */

moerun_status moerun__certificate_create(moerun__certificate **out,
                                         const char *topology,
                                         const char *objective,
                                         const char *train) {
  moerun_status status = MOERUN_OK;
  moerun__certificate *certificate = NULL;
  *out = NULL;
  MOERUN_TRY(moerun__alloc(&certificate, 1, sizeof *certificate));
  assert(certificate != NULL); /* alloc succeeded */
  certificate->bound = -1;
  certificate->gap = -1;
  MOERUN_TRY(moerun__copy_text(&certificate->topology, topology));
  MOERUN_TRY(moerun__copy_text(&certificate->objective, objective));
  MOERUN_TRY(moerun__copy_text(&certificate->train, train));
  *out = certificate;
  certificate = NULL;
done:
  moerun__certificate_destroy(certificate);
  return status;
}

void moerun__certificate_destroy(moerun__certificate *certificate) {
  if (certificate == NULL) return;
  moerun__free(certificate->topology);
  moerun__free(certificate->objective);
  moerun__free(certificate->train);
  moerun__free(certificate);
}

double moerun__gap(double cost, double bound, double worst) {
  if (bound < 0) return -1;
  return worst > bound && cost > bound ? (cost - bound) / (worst - bound) : 0;
}

/* ---- Write --------------------------------------------------------------- */

moerun_status moerun__judgement_print(moerun__text *out, const char *name,
                                      const moerun__judgement *judgement) {
  moerun_status status = MOERUN_OK;
  const char *key = NULL;
  double value = 0;
  MOERUN_TRY(moerun__text_print(out, "\"%s\": {", name));
  for (int i = 0; moerun__judgement_at(judgement, i, &key, &value); i++) {
    MOERUN_TRY(moerun__text_print(out, "%s\"%s\": %.9g", i > 0 ? ", " : "", key,
                                  value));
  }
  MOERUN_TRY(moerun__text_print(out, "}"));
done:
  return status;
}

static moerun_status print_text(moerun__text *out, const char *key,
                                const char *value, const char *gap) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(out, "\"%s\": ", key));
  MOERUN_TRY(moerun__text_json(out, value, strlen(value)));
  MOERUN_TRY(moerun__text_print(out, ",%s", gap));
done:
  return status;
}

/* A negative number is none. */
static moerun_status print_known(moerun__text *out, const char *key,
                                 double value) {
  if (value < 0) return moerun__text_print(out, "\"%s\": null, ", key);
  return moerun__text_print(out, "\"%s\": %.12g, ", key, value);
}

moerun_status moerun__certificate_print(moerun__text *out,
                                        const moerun__certificate *c,
                                        const char *indent) {
  moerun_status status = MOERUN_OK;
  static const char *const halves[] = {"train", "held_out"};
  MOERUN_TRY(moerun__text_print(out, "{\n%s  ", indent));
  MOERUN_TRY(print_text(out, "topology", c->topology, " "));
  MOERUN_TRY(moerun__text_print(out, "\"trace\": \"%016llx\", ",
                                (unsigned long long)c->trace_digest));
  MOERUN_TRY(print_text(out, "trained_on", c->train, "\n"));
  MOERUN_TRY(moerun__text_print(out, "%s  ", indent));
  MOERUN_TRY(print_text(out, "objective", c->objective, " "));
  MOERUN_TRY(moerun__text_print(
      out, "\"slack\": %.12g, \"seed\": %lld, \"seconds\": %.3f,\n%s  ",
      c->slack, (long long)c->seed, c->seconds, indent));
  MOERUN_TRY(moerun__text_print(out, "\"cost\": %.12g, ", c->cost));
  MOERUN_TRY(print_known(out, "bound", c->bound));
  MOERUN_TRY(print_known(out, "gap", c->gap));
  MOERUN_TRY(
      moerun__text_print(out, "\"proven\": %s", c->proven ? "true" : "false"));
  for (int h = 0; h < MOERUN_NUM_HALVES; h++) {
    if (h == MOERUN_HELD_OUT && !c->has_held_out) continue;
    MOERUN_TRY(moerun__text_print(out, ",\n%s  \"%s\": {", indent, halves[h]));
    MOERUN_TRY(moerun__judgement_print(out, "contiguous", &c->before[h]));
    MOERUN_TRY(moerun__text_print(out, ",\n%s    ", indent));
    MOERUN_TRY(moerun__judgement_print(out, "placed", &c->after[h]));
    MOERUN_TRY(moerun__text_print(out, "}"));
  }
  MOERUN_TRY(moerun__text_print(out, "\n%s}", indent));
done:
  return status;
}

/* ---- Read ---------------------------------------------------------------- */

static moerun_status check_keys(const json_t *object, const char *const *known,
                                size_t num_known, const char *origin) {
  moerun_status status = MOERUN_OK;
  for (void *at = json_object_iter((json_t *)object); at != NULL;
       at = json_object_iter_next((json_t *)object, at)) {
    const char *key = json_object_iter_key(at);
    size_t k = 0;
    while (k < num_known && strcmp(key, known[k]) != 0) {
      k++;
    }
    MOERUN_REQUIRE(k < num_known, MOERUN_ERR_FORMAT,
                   "%s: unknown key \"%.64s\"", origin, key);
  }
done:
  return status;
}

static moerun_status read_judgement(moerun__judgement *out, const json_t *half,
                                    const char *key, const char *origin) {
  moerun_status status = MOERUN_OK;
  const char *names[NUM_FIELDS];
  json_t *object = NULL;
  moerun__text where = {0};
  MOERUN_TRY(moerun__json_object(&object, half, key, origin));
  MOERUN_TRY(moerun__text_print(&where, "%s: %s", origin, key));
  for (int i = 0; i < NUM_FIELDS; i++) {
    double value = 0;
    names[i] = fields[i].name;
    MOERUN_TRY(moerun__json_double(&value, object, names[i], 0, HUGE_VAL, NULL,
                                   where.bytes));
    memcpy((char *)out + fields[i].offset, &value, sizeof value);
  }
  MOERUN_TRY(check_keys(object, names, NUM_FIELDS, where.bytes));
done:
  moerun__text_clear(&where);
  return status;
}

static moerun_status read_half(moerun__certificate *out, int half,
                               const json_t *object, const char *key,
                               const char *origin) {
  moerun_status status = MOERUN_OK;
  static const char *const known[] = {"contiguous", "placed"};
  json_t *inner = NULL;
  moerun__text where = {0};
  MOERUN_TRY(moerun__json_object(&inner, object, key, origin));
  MOERUN_TRY(moerun__text_print(&where, "%s: %s", origin, key));
  MOERUN_TRY(check_keys(inner, known, 2, where.bytes));
  MOERUN_TRY(read_judgement(&out->before[half], inner, known[0], where.bytes));
  MOERUN_TRY(read_judgement(&out->after[half], inner, known[1], where.bytes));
done:
  moerun__text_clear(&where);
  return status;
}

/* 16 hexadecimal digits. */
static moerun_status read_digest(uint64_t *out, const json_t *object,
                                 const char *origin) {
  moerun_status status = MOERUN_OK;
  static const char digits[] = "0123456789abcdef";
  const char *text = NULL;
  uint64_t value = 0;
  MOERUN_TRY(moerun__json_text(&text, object, "trace", 1, origin));
  MOERUN_REQUIRE(strlen(text) == 16 && strspn(text, digits) == 16,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"trace\": expected 16 hexadecimal digits, found "
                 "\"%.64s\"",
                 origin, text);
  for (; *text != '\0'; text++) {
    value = value << 4U | (uint64_t)(strchr(digits, *text) - digits);
  }
  *out = value;
done:
  return status;
}

static moerun_status read_numbers(moerun__certificate *out,
                                  const json_t *object, const char *origin) {
  moerun_status status = MOERUN_OK;
  const double none = -1;
  MOERUN_TRY(read_digest(&out->trace_digest, object, origin));
  MOERUN_TRY(moerun__json_double(&out->slack, object, "slack", 0, HUGE_VAL,
                                 NULL, origin));
  MOERUN_TRY(
      moerun__json_int(&out->seed, object, "seed", 0, INT64_MAX, NULL, origin));
  MOERUN_TRY(moerun__json_double(&out->seconds, object, "seconds", 0, HUGE_VAL,
                                 NULL, origin));
  MOERUN_TRY(moerun__json_double(&out->cost, object, "cost", 0, HUGE_VAL, NULL,
                                 origin));
  MOERUN_TRY(moerun__json_double(&out->bound, object, "bound", 0, out->cost,
                                 &none, origin));
  MOERUN_TRY(
      moerun__json_double(&out->gap, object, "gap", 0, 1, &none, origin));
  MOERUN_TRY(moerun__json_bool(&out->proven, object, "proven", NULL, origin));
  MOERUN_REQUIRE((out->bound < 0) == (out->gap < 0), MOERUN_ERR_FORMAT,
                 "%s: expected keys \"bound\" and \"gap\" both or neither, "
                 "found one",
                 origin);
  MOERUN_REQUIRE(!out->proven || out->gap == 0, MOERUN_ERR_FORMAT,
                 "%s: key \"proven\": expected false with a gap other than 0, "
                 "found true",
                 origin);
done:
  return status;
}

moerun_status moerun__certificate_read(moerun__certificate **out,
                                       const json_t *object,
                                       const char *origin) {
  moerun_status status = MOERUN_OK;
  static const char *const known[] = {
      "topology", "trace",   "trained_on", "objective", "slack",
      "seed",     "seconds", "cost",       "bound",     "gap",
      "proven",   "train",   "held_out"};
  moerun__certificate *certificate = NULL;
  const char *topology = NULL;
  const char *objective = NULL;
  const char *train = NULL;
  *out = NULL;
  MOERUN_TRY(check_keys(object, known, sizeof known / sizeof *known, origin));
  MOERUN_TRY(moerun__json_text(&topology, object, "topology", 1, origin));
  MOERUN_TRY(moerun__json_text(&objective, object, "objective", 1, origin));
  MOERUN_REQUIRE(
      moerun__objective_find(objective) >= 0, MOERUN_ERR_FORMAT,
      "%s: key \"objective\": expected fanout, cut, weighted or tail, "
      "found \"%.64s\"",
      origin, objective);
  MOERUN_TRY(moerun__json_text(&train, object, "trained_on", 1, origin));
  MOERUN_REQUIRE(strcmp(train, "even") == 0 || strcmp(train, "all") == 0,
                 MOERUN_ERR_FORMAT,
                 "%s: key \"trained_on\": expected even or all, found "
                 "\"%.64s\"",
                 origin, train);
  MOERUN_TRY(
      moerun__certificate_create(&certificate, topology, objective, train));
  MOERUN_TRY(read_numbers(certificate, object, origin));
  MOERUN_TRY(read_half(certificate, MOERUN_TRAIN, object, "train", origin));
  certificate->has_held_out = json_object_get(object, "held_out") != NULL;
  if (certificate->has_held_out) {
    MOERUN_TRY(
        read_half(certificate, MOERUN_HELD_OUT, object, "held_out", origin));
  }
  *out = certificate;
  certificate = NULL;
done:
  moerun__certificate_destroy(certificate);
  return status;
}
