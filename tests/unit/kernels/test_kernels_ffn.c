/* The whole operations of a layer: experts over groups of rows, and rows as
 * they are sent, against the small operations that they are made of. */
#include "runtime/base/memory.h"
#include "support/activate.h"
#include "support/draw.h"
#include "support/kernel_sets.h"
#include "support/made_types.h"
#include "support/queues.h"

#include <stdio.h>

enum { SEED = 777, H = 45, F = 37, EXPERTS = 4, ROWS = 41 };

static void *zeroed(size_t bytes) {
  void *p = NULL;
  assert_int_equal(moerun__alloc(&p, bytes + 1, 1), MOERUN_OK);
  return p;
}

/* Random elements, and factors where the type has some. */
static moerun__weight draw_weight(draw *from, moerun__dtype dtype, int32_t N,
                                  int32_t D) {
  const size_t count = (size_t)N * (size_t)D;
  const size_t factors = (size_t)N * moerun__dtype_scales(dtype, (size_t)D);
  void *rows = zeroed(count * sizeof(float));
  float *scales = zeroed(factors * sizeof(float));
  void *panels = zeroed(moerun__weight_bytes(dtype, N, D));
  draw_elements(from, rows, count, dtype);
  draw_floats(from, scales, factors, -0.05, 0.05);
  moerun__weight_pack(panels, dtype, D, 0, N, rows);
  moerun__weight_pack_scales(panels, dtype, D, 0, N, scales);
  moerun__free(rows);
  moerun__free(scales);
  return moerun__weight_at(panels, dtype, N, D);
}

/* The same numbers in F32. */
static moerun__weight widened(const moerun__weight *weight) {
  const int32_t N = weight->num_outputs;
  const int32_t D = weight->num_inputs;
  float *row = zeroed((size_t)D * sizeof *row);
  void *panels = zeroed(moerun__weight_bytes(MOERUN_DTYPE_F32, N, D));
  for (int32_t n = 0; n < N; n++) {
    moerun__weight_row(row, weight, n);
    moerun__weight_pack(panels, MOERUN_DTYPE_F32, D, n, 1, row);
  }
  moerun__free(row);
  return moerun__weight_at(panels, MOERUN_DTYPE_F32, N, D);
}

static void free_expert(const moerun__expert *expert) {
  moerun__free((void *)expert->gate_up.panels);
  moerun__free((void *)expert->down.panels);
}

typedef struct ffn_case {
  moerun__expert expert[EXPERTS];
  moerun__expert wide[EXPERTS]; /* the same in F32 */
  float bias[2][2 * F + H];     /* of gate_up and of down */
  int32_t offset[EXPERTS + 1];
  float x[ROWS * H];
  float y[ROWS * H];
  float expected[ROWS * H];
  float gate_up[ROWS * 2 * F];
  float h[ROWS * F];
  float *scratch;
} ffn_case;

static void create(ffn_case *c, draw *from, moerun__dtype dtype) {
  static const int32_t offset[EXPERTS + 1] = {0, 7, 7, 29, ROWS};
  memcpy(c->offset, offset, sizeof offset);
  draw_floats(from, c->bias[0], sizeof c->bias / sizeof(float), -1, 1);
  draw_floats(from, c->x, (size_t)ROWS * H, -1, 1);
  c->scratch = zeroed(moerun__linear_scratch(H > F ? H : F) * sizeof(float));
  for (int e = 0; e < EXPERTS; e++) {
    moerun__expert *expert = &c->expert[e];
    *expert = (moerun__expert){MOERUN_EXPERT_SWIGLU, F,
                               draw_weight(from, dtype, 2 * F, H),
                               draw_weight(from, dtype, H, F)};
    c->wide[e] =
        (moerun__expert){MOERUN_EXPERT_SWIGLU, F, widened(&expert->gate_up),
                         widened(&expert->down)};
    if (e % 2 == 0) continue;
    expert->gate_up.bias = c->wide[e].gate_up.bias = c->bias[0];
    expert->down.bias = c->wide[e].down.bias = c->bias[1];
  }
}

static void destroy(ffn_case *c) {
  for (int e = 0; e < EXPERTS; e++) {
    free_expert(&c->expert[e]);
    free_expert(&c->wide[e]);
  }
  moerun__free(c->scratch);
}

/* Group by group, from the products and the activation alone. */
static void compute_expected(ffn_case *c, const moerun__kernels *set,
                             moerun__queue *queue) {
  for (int e = 0; e < EXPERTS; e++) {
    const size_t first = (size_t)c->offset[e];
    const int32_t M = c->offset[e + 1] - c->offset[e];
    set->linear(queue, c->gate_up, (size_t)2 * F, c->x + first * H, H, M,
                &c->wide[e].gate_up, c->scratch);
    activate(set, c->h, c->gate_up, M, F);
    set->linear(queue, c->expected + first * H, H, c->h, F, M, &c->wide[e].down,
                c->scratch);
  }
}

static void check(ffn_case *c, const moerun__kernels *set, moerun__queue *queue,
                  int32_t tile) {
  const size_t count = (size_t)ROWS * H;
  moerun__ffn ffn = {.y = c->y,
                     .y_stride = H,
                     .x = c->x,
                     .x_stride = H,
                     .num_experts = EXPERTS,
                     .expert = c->expert,
                     .offset = c->offset,
                     .room = {tile, c->gate_up, c->h, c->scratch}};
  memset(c->y, 0, sizeof c->y);
  set->ffn(queue, &ffn);
  assert_same_bits(c->y, c->expected, count, set->name, "ffn");
  /* In place, as dense blocks are. */
  memcpy(c->y, c->x, sizeof c->x);
  ffn.x = c->y;
  set->ffn(queue, &ffn);
  assert_same_bits(c->y, c->expected, count, set->name, "ffn in place");
}

static void experts_are_two_products(void **state) {
  (void)state;
  const moerun__dtype dtypes[] = {MOERUN_DTYPE_F32, MOERUN_DTYPE_BF16,
                                  made_type(&made_m8)};
  draw from = {SEED, 0};
  for (size_t d = 0; d < sizeof dtypes / sizeof *dtypes; d++) {
    static ffn_case c;
    create(&c, &from, dtypes[d]);
    for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
      for (int rounds = 0; rounds < 2; rounds++) {
        moerun__queue *queue = rounds ? rounding_queue() : plain_queue();
        compute_expected(&c, moerun__kernels_at(i), queue);
        check(&c, moerun__kernels_at(i), queue, ROWS);
        check(&c, moerun__kernels_at(i), queue, 5);
      }
    }
    destroy(&c);
  }
}

/* h alone, of all rows by their numbers, for those who compute columns of
 * it. */
static void half_an_expert_is_h(void **state) {
  (void)state;
  static ffn_case c;
  draw from = {SEED + 1, 0};
  create(&c, &from, MOERUN_DTYPE_BF16);
  for (int i = 0; moerun__kernels_at(i) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i);
    float h[ROWS * F];
    const moerun__ffn ffn = {.x = c.x,
                             .x_stride = H,
                             .num_experts = EXPERTS,
                             .expert = c.expert,
                             .offset = c.offset,
                             .room = {ROWS, c.gate_up, h, c.scratch}};
    set->ffn(plain_queue(), &ffn);
    for (int e = 0; e < EXPERTS; e++) {
      const size_t first = (size_t)c.offset[e];
      const int32_t M = c.offset[e + 1] - c.offset[e];
      set->linear(plain_queue(), c.gate_up, (size_t)2 * F, c.x + first * H, H,
                  M, &c.wide[e].gate_up, c.scratch);
      activate(set, c.h + first * F, c.gate_up, M, F);
    }
    assert_same_bits(h, c.h, (size_t)ROWS * F, set->name, "half an expert");
  }
  destroy(&c);
}

/* ---- Rows as they are sent ----------------------------------------------- */

enum { SENT = 5, IDS = 3, STRIDE = H * 4 + 16 };

static void check_sent(const unsigned char *found, const moerun__kernels *set,
                       moerun__dtype dtype, const moerun__dispatch *what) {
  unsigned char expected[SENT][STRIDE];
  const moerun__wire_rows rows = {expected, STRIDE, dtype};
  memset(expected, 0x5a, sizeof expected);
  for (int32_t i = 0; i < SENT; i++) {
    if (what->to_offset != NULL && what->to_offset[i + 1] == what->to_offset[i])
      continue;
    set->scatter(plain_queue(), &rows, &i, what->x + (size_t)i * H, 1, H);
    for (size_t j = 0; what->ids != NULL && j < IDS; j++) {
      const int16_t id = (int16_t)what->ids[(size_t)i * IDS + j];
      memcpy(expected[i] + moerun__dtype_bytes(dtype, H) + j * sizeof id, &id,
             sizeof id);
    }
  }
  assert_memory_equal(found, expected, sizeof expected);
}

static void chunks_are_written_at_once(void **state) {
  (void)state;
  static const int32_t to_offset[SENT + 1] = {0, 2, 2, 3, 3, 4};
  static const int32_t ids[SENT * IDS] = {1, -1, 3,  4,  5,  6,  7, 8,
                                          9, -1, -1, 12, 13, 14, 15};
  draw from = {SEED + 2, 0};
  float x[SENT * H];
  draw_floats(&from, x, (size_t)SENT * H, -9, 9);
  for (int i = 0; moerun__kernels_at(i / 8) != NULL; i++) {
    const moerun__kernels *set = moerun__kernels_at(i / 8);
    unsigned char found[SENT][STRIDE];
    const moerun__dtype dtype = i & 1 ? MOERUN_DTYPE_BF16 : MOERUN_DTYPE_F32;
    const moerun__wire_rows rows = {found, STRIDE, dtype};
    const moerun__dispatch what = {.x = x,
                                   .num_rows = SENT,
                                   .row_width = H,
                                   .to_offset = i & 2 ? to_offset : NULL,
                                   .ids = i & 4 ? ids : NULL,
                                   .K = IDS};
    memset(found, 0x5a, sizeof found);
    set->dispatch(plain_queue(), &rows, &what);
    check_sent(found[0], set, dtype, &what);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(experts_are_two_products),
      cmocka_unit_test(half_an_expert_is_h),
      cmocka_unit_test(chunks_are_written_at_once),
  };
  printf("seed %d\n", SEED);
  return cmocka_run_group_tests(tests, NULL, NULL);
}
