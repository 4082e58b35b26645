/* The bits themselves: checksums of every operation on seeded input, for every
 * set. Sets that agree with each other could still move together with a
 * compiler, a flag or a C library; then this test fails. When an operation's
 * order is changed on purpose, its new checksum is printed here, and files
 * written by older versions are no longer reproduced. */
#include "kernels/kernels.h"
#include "runtime/base/digest.h"
#include "runtime/base/memory.h"
#include "support/activate.h"
#include "support/cmocka.h"
#include "support/draw.h"
#include "support/queues.h"

#include <math.h>
#include <stdio.h>

enum { SEED = 99, FIRST_SET = 1, M = 14, N = 77, D = 1100, FLOATS = 1 << 16 };

typedef struct golden {
  draw from;
  const moerun__kernels *set;
  float *in; /* [FLOATS] */
  float *out;
  float *scratch;
} golden;

static uint64_t hash_floats(const float *p, size_t count) {
  return moerun__digest_bytes(MOERUN_DIGEST_START, p, count * sizeof *p);
}

static uint64_t linear(golden *g, moerun__dtype dtype) {
  char *rows = NULL;
  char *panels = NULL;
  assert_int_equal(moerun__alloc(&rows, (size_t)N * D, 4), MOERUN_OK);
  assert_int_equal(moerun__alloc(&panels, moerun__weight_bytes(dtype, N, D), 1),
                   MOERUN_OK);
  draw_elements(&g->from, rows, (size_t)N * D, dtype);
  draw_floats(&g->from, g->in, (size_t)M * D, -1, 1);
  moerun__weight_pack(panels, dtype, D, 0, N, rows);
  const moerun__weight weight = moerun__weight_at(panels, dtype, N, D);
  g->set->linear(plain_queue(), g->out, N, g->in, D, M, &weight, g->scratch);
  moerun__free(rows);
  moerun__free(panels);
  return hash_floats(g->out, (size_t)M * N);
}

static uint64_t linear_f32(golden *g) {
  return linear(g, MOERUN_DTYPE_F32);
}

static uint64_t linear_bf16(golden *g) {
  return linear(g, MOERUN_DTYPE_BF16);
}

static uint64_t linear_f16(golden *g) {
  return linear(g, MOERUN_DTYPE_F16);
}

static uint64_t swiglu(golden *g) {
  draw_floats(&g->from, g->in, (size_t)2 * M * D, -20, 20);
  activate(g->set, g->out, g->in, M, D);
  return hash_floats(g->out, (size_t)M * D);
}

static uint64_t rmsnorm(golden *g) {
  draw_floats(&g->from, g->in, (size_t)(M + 1) * D, -3, 3);
  g->set->rmsnorm(plain_queue(), g->out, D, g->in, D, M,
                  &(moerun__norm){g->in + (size_t)M * D, D, 1e-5F});
  return hash_floats(g->out, (size_t)M * D);
}

static uint64_t add(golden *g) {
  draw_floats(&g->from, g->in, FLOATS, -3, 3);
  draw_floats(&g->from, g->out, D, -3, 3);
  g->set->add(plain_queue(), g->out, g->in, D);
  return hash_floats(g->out, D);
}

static uint64_t rope(golden *g) {
  enum { HEADS = 3, WIDTH = 90 };
  draw_floats(&g->from, g->in, FLOATS, -1, 1);
  draw_floats(&g->from, g->out, (size_t)M * HEADS * WIDTH, -3, 3);
  g->set->rope(plain_queue(), g->out, (size_t)HEADS * WIDTH, g->in,
               g->in + FLOATS / 2, M, HEADS, WIDTH);
  return hash_floats(g->out, (size_t)M * HEADS * WIDTH);
}

static uint64_t softmax(golden *g) {
  draw_floats(&g->from, g->in, D, -9, 9);
  g->set->softmax(g->out, g->in, D, 1.25F);
  return hash_floats(g->out, D);
}

static uint64_t gate(golden *g) {
  enum { E = 60, K = 6 };
  int32_t ids[M * K];
  draw_floats(&g->from, g->in, (size_t)M * E, -5, 5);
  const moerun__gate_rule rule = {.renormalise = 1, .scale = 1.0F};
  g->set->gate(plain_queue(), &(moerun__choice){ids, g->out, K}, g->in, M, E,
               &rule, NULL);
  return moerun__digest_bytes(hash_floats(g->out, (size_t)M * K), ids,
                              sizeof ids);
}

static uint64_t gate_biased(golden *g) {
  enum { E = 60, K = 6 };
  int32_t ids[M * K];
  float bias[E];
  draw_floats(&g->from, g->in, (size_t)M * E, -5, 5);
  draw_floats(&g->from, bias, E, -1, 1);
  const moerun__gate_rule rule = {.score = MOERUN_SCORE_SIGMOID,
                                  .renormalise = 1,
                                  .scale = 2.5F,
                                  .num_groups = 5,
                                  .best_groups = 2};
  g->set->gate(plain_queue(), &(moerun__choice){ids, g->out, K}, g->in, M, E,
               &rule, bias);
  return moerun__digest_bytes(hash_floats(g->out, (size_t)M * K), ids,
                              sizeof ids);
}

static uint64_t sigmoid(golden *g) {
  draw_floats(&g->from, g->in, D, -9, 9);
  g->set->sigmoid(plain_queue(), g->out, g->in, D);
  return hash_floats(g->out, D);
}

static uint64_t add_rows(golden *g) {
  enum { WIDTH = 90 };
  draw_floats(&g->from, g->in, (size_t)M * WIDTH + M, -3, 3);
  draw_floats(&g->from, g->out, (size_t)M * WIDTH, -3, 3);
  g->set->add_rows(plain_queue(), g->out, g->in, g->in + (size_t)M * WIDTH, M,
                   WIDTH);
  return hash_floats(g->out, (size_t)M * WIDTH);
}

static uint64_t attention(golden *g) {
  enum { POSITIONS = 70, HEADS = 6, KV_HEADS = 2, WIDTH = 40, PAGES = 5 };
  const moerun__attention_shape shape = {HEADS, KV_HEADS, WIDTH, 0.15F};
  const size_t stride = (size_t)KV_HEADS * WIDTH * MOERUN_PAGE_POSITIONS;
  const int32_t page[PAGES] = {3, 0, 4, 1, 2};
  float *cache = NULL;
  assert_int_equal(moerun__alloc(&cache, 2 * PAGES * stride, sizeof *cache),
                   MOERUN_OK);
  const moerun__kv_view view = {cache, cache + PAGES * stride, stride, page};
  for (int32_t t = 0; t < POSITIONS; t++) {
    draw_floats(&g->from, g->in, (size_t)2 * KV_HEADS * WIDTH, -1, 1);
    moerun__kv_store(&view, &shape, t, g->in, g->in + KV_HEADS * WIDTH);
  }
  const size_t width = (size_t)HEADS * WIDTH;
  draw_floats(&g->from, g->in, POSITIONS * width, -2, 2);
  const moerun__attention_rows rows = {
      .out = g->out, .q = g->in, .q_stride = width, .num_rows = POSITIONS};
  g->set->attention(plain_queue(), &rows, &view, &shape, g->scratch);
  moerun__free(cache);
  return hash_floats(g->out, POSITIONS * width);
}

/* scatter rounds to bf16, combine sums in gate order, gather widens. */
static uint64_t wire(golden *g) {
  enum { ROWS = 5, T = 2, K = 3, H = 333 };
  uint16_t bytes[ROWS * H];
  const moerun__wire_rows rows = {bytes, H * sizeof *bytes, MOERUN_DTYPE_BF16};
  const int32_t index[ROWS] = {4, 2, 0, 1, 3};
  const int32_t terms[T * K] = {1, 4, -1, 0, 2, 3};
  float weight[T * K];
  draw_floats(&g->from, g->in, (size_t)ROWS * H, -50, 50);
  draw_floats(&g->from, weight, (size_t)T * K, 0, 1);
  g->set->scatter(plain_queue(), &rows, index, g->in, ROWS, H);
  g->set->combine(plain_queue(), g->out, &rows, terms, weight, T, K, H);
  g->set->gather(plain_queue(), g->out + (size_t)T * H, &rows, index, ROWS, H);
  return hash_floats(g->out, (size_t)(T + ROWS) * H);
}

static const struct {
  const char *name;
  uint64_t (*run)(golden *g);
  uint64_t hash;
} operations[] = {
    {"linear F32", linear_f32, 0x75b6ee78db6cd59cU},
    {"linear BF16", linear_bf16, 0x52ae48f4315fae63U},
    {"linear F16", linear_f16, 0x5843996f2da503ebU},
    {"swiglu", swiglu, 0xb01cd3e7e3ffd193U},
    {"rmsnorm", rmsnorm, 0xeb8501c51b9265f5U},
    {"add", add, 0xdc7dfd00ceccb31cU},
    {"rope", rope, 0xda146ea2e5ee9f69U},
    {"softmax", softmax, 0xd9c19f0d80200933U},
    {"gate", gate, 0x5c8cea99e55336e3U},
    {"attention", attention, 0x106ebc61821173a9U},
    {"wire", wire, 0xff5501fd913de8aaU},
    {"sigmoid", sigmoid, 0xd1bd4dbedadd14fcU},
    {"add_rows", add_rows, 0x47e5f158a80f4e77U},
    {"gate biased", gate_biased, 0x60b8634f0772e9b5U},
};

static void bits_are_the_golden_ones(void **state) {
  (void)state;
  int moved = 0;
  golden g = {.from = {SEED, 0}};
  assert_int_equal(moerun__alloc(&g.in, FLOATS, sizeof(float)), MOERUN_OK);
  assert_int_equal(moerun__alloc(&g.out, FLOATS, sizeof(float)), MOERUN_OK);
  assert_int_equal(
      moerun__alloc(&g.scratch, moerun__linear_scratch(D), sizeof(float)),
      MOERUN_OK);
  for (int s = FIRST_SET; moerun__kernels_at(s) != NULL; s++) {
    g.set = moerun__kernels_at(s);
    for (size_t i = 0; i < sizeof operations / sizeof operations[0]; i++) {
      g.from = (draw){SEED + i, 0};
      const uint64_t hash = operations[i].run(&g);
      if (hash == operations[i].hash) continue;
      printf("set %s, %s: found 0x%016llxU, expected 0x%016llxU\n", g.set->name,
             operations[i].name, (unsigned long long)hash,
             (unsigned long long)operations[i].hash);
      moved = 1;
    }
  }
  moerun__free(g.in);
  moerun__free(g.out);
  moerun__free(g.scratch);
  assert_false(moved);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(bits_are_the_golden_ones),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
