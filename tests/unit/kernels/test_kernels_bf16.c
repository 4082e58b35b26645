/* linear of rounded rows: every set but ref computes the chain of the header
 * link by link (checked here with fmaf and subnormals flushed by hand), on
 * numbers of ordinary size, on tiny ones whose products and sums are subnormal,
 * and for every number of rows and odd numbers of inputs; ref is within
 * tolerance. */
#include "kernels/kernels.h"
#include "support/draw.h"
#include "support/queues.h"
#include "support/tolerance.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SEED = 5521 };

static float flush(float value) {
  return fabsf(value) < 0x1p-126F ? copysignf(0.0F, value) : value;
}

static float rounded(float value) {
  return moerun__bf16_to_f32(moerun__f32_to_bf16(value));
}

typedef struct product {
  int32_t M;
  int32_t N;
  int32_t D;
  moerun__dtype dtype;
  float *x;
  void *rows; /* [N][D] of dtype */
  void *panels;
  float *scratch;
  float *want;
  float *found;
} product;

static float draw_value(draw *from, int tiny) {
  const float value = (float)draw_int(from, -1000, 1000) / 777.0F;
  return tiny ? ldexpf(value, draw_int(from, -80, -50)) : value;
}

static void create(product *p, draw *from, int tiny) {
  const size_t x_count = (size_t)p->M * (size_t)p->D;
  const size_t w_count = (size_t)p->N * (size_t)p->D;
  const size_t y_count = (size_t)p->M * (size_t)p->N;
  p->x = calloc(x_count + 1, sizeof(float));
  p->rows = calloc(w_count + 1, 4);
  p->want = calloc(y_count + 1, sizeof(float));
  p->found = calloc(y_count + 1, sizeof(float));
  p->scratch = aligned_alloc(
      64, (moerun__linear_scratch(p->D) * sizeof(float) + 63) / 64 * 64);
  const size_t bytes = moerun__weight_bytes(p->dtype, p->N, p->D);
  p->panels = aligned_alloc(64, (bytes + 63) / 64 * 64);
  memset(p->panels, 0, bytes);
  for (size_t i = 0; i < x_count; i++) {
    p->x[i] = draw_value(from, tiny);
  }
  for (size_t i = 0; i < w_count; i++) {
    const float value = draw_value(from, tiny);
    if (p->dtype == MOERUN_DTYPE_F32) {
      ((float *)p->rows)[i] = value;
    } else { /* BF16 bits are as good as any for F16 but for its infinities */
      const uint16_t bits = moerun__f32_to_bf16(value);
      ((uint16_t *)p->rows)[i] =
          p->dtype == MOERUN_DTYPE_BF16 ? bits : (uint16_t)(bits & 0xbbffU);
    }
  }
  moerun__weight_pack(p->panels, p->dtype, p->D, 0, p->N, p->rows);
}

static void destroy(product *p) {
  free(p->x);
  free(p->rows);
  free(p->want);
  free(p->found);
  free(p->scratch);
  free(p->panels);
}

static void chain(const product *p) {
  for (int32_t m = 0; m < p->M; m++) {
    for (int32_t n = 0; n < p->N; n++) {
      float sum = 0;
      for (int32_t d = 0; d < p->D; d++) {
        const float x =
            flush(rounded(p->x[(size_t)m * (size_t)p->D + (size_t)d]));
        const float w = flush(moerun__element(
            p->rows, p->dtype, (size_t)n * (size_t)p->D + (size_t)d));
        sum = flush(fmaf(x, w, sum));
      }
      if (p->D % 2) sum += 0.0F;
      p->want[(size_t)m * (size_t)p->N + (size_t)n] = sum;
    }
  }
}

static void check(const product *p) {
  const size_t count = (size_t)p->M * (size_t)p->N;
  const moerun__weight weight =
      moerun__weight_at(p->panels, p->dtype, p->N, p->D);
  chain(p);
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i);
    memset(p->found, 0x55, count * sizeof(float));
    set->linear(rounding_queue(), p->found, (size_t)p->N, p->x, (size_t)p->D,
                p->M, &weight, p->scratch);
    if (i > 0) {
      if (memcmp(p->found, p->want, count * sizeof(float)) != 0) {
        fail_msg("%s: M %d N %d D %d %s", set->name, p->M, p->N, p->D,
                 moerun__dtype_name(p->dtype));
      }
      continue;
    }
    for (size_t j = 0; j < count; j++) {
      assert_true(fabs((double)p->found[j] - (double)p->want[j]) <=
                  tolerance_table[TOLERANCE_LINEAR].fail * 2 * p->D);
    }
  }
}

static void every_set_computes_the_chain(void **state) {
  (void)state;
  draw from = {SEED, 0};
  print_message("seed %d\n", SEED);
  for (int tiny = 0; tiny < 2; tiny++) {
    for (int32_t M = 1; M <= 26; M++) {
      for (int d = 0; d < 3; d++) {
        product p = {.M = M,
                     .N = draw_int(&from, 1, 100),
                     .D = draw_int(&from, 1, 90),
                     .dtype = (moerun__dtype)d};
        create(&p, &from, tiny);
        check(&p);
        destroy(&p);
      }
    }
  }
}

/* Beyond a block of inputs and a block of rows. */
static void blocks_do_not_break_the_chain(void **state) {
  (void)state;
  draw from = {SEED, 1};
  static const int32_t shapes[][3] = {{100, 40, 1100}, {13, 64, 2049}};
  for (int i = 0; i < 2; i++) {
    product p = {.M = shapes[i][0],
                 .N = shapes[i][1],
                 .D = shapes[i][2],
                 .dtype = MOERUN_DTYPE_BF16};
    create(&p, &from, 0);
    check(&p);
    destroy(&p);
  }
}

/* The mode in which it computes does not leak out. */
static void subnormals_live_on_outside(void **state) {
  (void)state;
  draw from = {SEED, 2};
  product p = {.M = 2, .N = 3, .D = 4, .dtype = MOERUN_DTYPE_BF16};
  create(&p, &from, 0);
  check(&p);
  destroy(&p);
  volatile float small = 0x1p-130F;
  assert_true(small * 0.5F > 0);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(every_set_computes_the_chain),
      cmocka_unit_test(blocks_do_not_break_the_chain),
      cmocka_unit_test(subnormals_live_on_outside),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
