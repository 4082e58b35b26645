/* The arithmetic of the decoder behind one ops table.
 *
 * Results are the same bits everywhere because of what is here. Every set but
 * "ref" returns the same bits as every other, because each fixes one order of
 * operations:
 *   - linear: one fused-multiply-add chain per output element, in ascending
 *     input order, starting from 0, over the widened weights; then its bias is
 *     added; lanes run over outputs, never over inputs; rows never see each
 *     other.
 *   - sums over a row (norms, softmax): 16 partial sums, element i into partial
 *     i mod 16 in ascending order, then the fixed tree
 *     for (w = 8; w > 0; w /= 2) for (i < w) p[i] += p[i + w].
 *   - exp and silu: one polynomial (kernels/cpu), fused multiply-adds spelt
 *     out.
 * "ref" is the oracle: obvious loops, double accumulation, libm.
 *
 * Letters beyond moerun.h: M rows, N outputs, D inputs. All functions are
 * pure, allocate nothing and accept M = 0. Pointers do not overlap unless it
 * is said. Rows are fp32 unless a dtype is named. */
#ifndef MOERUN_KERNELS_H
#define MOERUN_KERNELS_H

#include "kernels/device.h"
#include "runtime/base/dtype.h"
#include "runtime/base/status.h"

enum {
  MOERUN_PANEL = 32,          /* outputs per packed panel                    */
  MOERUN_PAGE_POSITIONS = 16, /* positions per KV page                     */
};

/* ---- Packed weights: W[N][D] as panels of 32 outputs --------------------- */

/* y = x W^T + bias. Panel p holds, for each block of inputs, the blocks of
 * `dtype` (base/dtype.h) of the outputs 32p..32p+31: for types of one element a
 * block, W[32p..32p+31][d] for d = 0..D-1. Where the type has factors beside
 * its blocks, those of the panel follow its blocks: [factors of a row][32]
 * floats. So a run of panels is a run of bytes, whatever the type. Outputs
 * beyond N are zero. Panels are 64-byte aligned for F32, BF16 and F16. */
typedef struct moerun__weight {
  const void *panels;
  moerun__dtype dtype;
  int32_t num_outputs; /* N */
  int32_t num_inputs;  /* D */
  const float *bias;   /* [N], added to each product when it is complete; or
                          NULL. Borrowed, and not among the weight's bytes */
} moerun__weight;

/* Of the panels, with the factors in them. */
size_t moerun__weight_bytes(moerun__dtype dtype, int32_t num_outputs,
                            int32_t num_inputs);
/* A weight of this shape whose panels are at `panels`, or will be: NULL. */
moerun__weight moerun__weight_at(const void *panels, moerun__dtype dtype,
                                 int32_t num_outputs, int32_t num_inputs);
/* Packs rows of D elements of `dtype` as outputs first..first+count-1 of panels
 * that were zeroed before. */
void moerun__weight_pack(void *panels, moerun__dtype dtype, int32_t num_inputs,
                         int32_t first_output, int32_t count, const void *rows);
/* Packs the factors of as many outputs, scales[count][factors of a row]. No
 * reader of files calls it yet: none of the types that files have today has
 * factors beside its elements, but kernels compute with such types, and tests
 * of every kernel pack them. */
void moerun__weight_pack_scales(void *panels, moerun__dtype dtype,
                                int32_t num_inputs, int32_t first_output,
                                int32_t count, const float *scales);
/* out[D] = W[output][.], widened: an element times its factor, rounded once. */
void moerun__weight_row(float *out, const moerun__weight *weight,
                        int32_t output);
/* out[count][32] = the same of inputs first .. first + count - 1 and all
 * outputs of a panel; `first` is a multiple of MOERUN_MAX_BLOCK. */
void moerun__weight_panel(float *out, const moerun__weight *weight,
                          size_t panel, size_t first, size_t count);

/* ---- Experts ------------------------------------------------------------- */

/* How h follows from the first product. */
typedef enum moerun__expert_kind {
  MOERUN_EXPERT_SWIGLU = 0, /* h = silu(gate) * up */
} moerun__expert_kind;

/* Zeroed: there is none. The panels belong to whoever holds the expert. */
typedef struct moerun__expert {
  moerun__expert_kind kind;
  int32_t columns;        /* of h, that gate_up gives                       */
  moerun__weight gate_up; /* SwiGLU: as many gate outputs, then up outputs  */
  moerun__weight down;
} moerun__expert;

/* ---- Attention over a paged KV cache ------------------------------------- */

typedef struct moerun__attention_shape {
  int32_t num_heads;
  int32_t num_kv_heads; /* divides num_heads; head h reads kv head
                           h / (num_heads / num_kv_heads)                   */
  int32_t head_dim;     /* a multiple of 2                                  */
  float scale;          /* scores are q.k * scale                           */
} moerun__attention_shape;

/* One layer's cache of one sequence. Position t lives on page page[t / 16] at
 * t % 16. Page p of keys starts at keys + p * page_stride and is
 * [num_kv_heads][head_dim][16] (lanes over positions); of values, likewise,
 * [num_kv_heads][16][head_dim]. */
typedef struct moerun__kv_view {
  float *keys;
  float *values;
  size_t page_stride;  /* floats: num_kv_heads * head_dim * 16 */
  const int32_t *page; /* [ceil(positions / 16)] */
} moerun__kv_view;

/* Stores key[num_kv_heads][head_dim] and value[..] at `position`. */
void moerun__kv_store(const moerun__kv_view *view,
                      const moerun__attention_shape *shape, int32_t position,
                      const float *key, const float *value);

/* Keys and values of one sequence at positions first_position ..
 * first_position + num_rows - 1. */
typedef struct moerun__kv_rows {
  const float
      *key; /* [num_rows][num_kv_heads][head_dim], rows `stride` apart */
  const float *value; /* as much */
  size_t stride;      /* floats */
  int32_t num_rows;
  int32_t first_position;
} moerun__kv_rows;

/* Query rows of one sequence at positions first_position .. first_position +
 * num_rows - 1, all of which are stored already; row i sees position
 * first_position + i and those before it, `window` of them in all. Pages that
 * no row sees are not read. */
typedef struct moerun__attention_rows {
  float *out;     /* [num_rows][num_heads * head_dim] */
  const float *q; /* [num_rows] of as much, q_stride floats from one another */
  size_t q_stride;
  int32_t num_rows;
  int32_t first_position;
  int32_t window;     /* 0: all positions up to the row's own */
  const float *sinks; /* [num_heads] one more score of each head, of which
                         nothing but its part in the sum is used; or NULL */
} moerun__attention_rows;

/* The first position that a row at `position` sees. */
static inline int32_t moerun__first_seen(int32_t position, int32_t window) {
  return window == 0 || position < window ? 0 : position - window + 1;
}

/* Floats of scratch for sequences of up to `positions` positions. */
size_t moerun__attention_scratch(const moerun__attention_shape *shape,
                                 int32_t positions);

/* ---- The table ----------------------------------------------------------- */

/* What the scores are of the logits. */
typedef enum moerun__gate_score {
  MOERUN_SCORE_SOFTMAX = 0, /* over all E     */
  MOERUN_SCORE_SIGMOID,     /* each by itself */
} moerun__gate_score;

enum { MOERUN_MAX_GROUPS = 64 };

/* How K experts and their weights follow from the logits. Weights are scores;
 * a bias takes part in the choice only. */
typedef struct moerun__gate_rule {
  moerun__gate_score score;
  int32_t renormalise; /* 1: weights are divided by (their sum + 1e-20) */
  float scale;         /* then all are multiplied by it                 */
  int32_t num_groups;  /* of E / num_groups neighbours, at least 2 each, at
                          most MAX_GROUPS; 0 or 1: no groups            */
  int32_t best_groups; /* experts are chosen from so many groups only: those
                          whose two best add up to most; together they have
                          K experts or more                             */
} moerun__gate_rule;

/* What a gate chose of each row. */
typedef struct moerun__choice {
  int32_t *ids;  /* [M][K] */
  float *weight; /* [M][K] */
  int32_t K;
} moerun__choice;

/* Of rows `width` wide. */
typedef struct moerun__norm {
  const float *scale; /* [width] */
  int32_t width;
  float eps;
} moerun__norm;

/* Rows in the layout they travel in: row i starts at base + i * stride_bytes
 * and begins with H elements of dtype, which can be written and has no factors
 * beside its blocks. F32 and BF16 are fast. */
typedef struct moerun__wire_rows {
  void *base;
  size_t stride_bytes;
  moerun__dtype dtype;
} moerun__wire_rows;

/* Where the ids of a row in that layout stand: behind its elements. */
static inline size_t moerun__ids_at(moerun__dtype dtype, int32_t row_width) {
  return moerun__dtype_bytes(dtype, (size_t)row_width);
}

/* Rows on their way: row i, i < num_rows, of wire rows is x[i], and K ids as
 * int16 stand at moerun__ids_at where there are any. */
typedef struct moerun__dispatch {
  const float *x; /* [num_rows][row_width] */
  int32_t num_rows;
  int32_t row_width;
  const int32_t *to_offset; /* [num_rows + 1] destinations of row i; one that
                               has none is left out. NULL: all are written */
  const int32_t *ids;       /* [num_rows][K], or NULL */
  int32_t K;
} moerun__dispatch;

/* What a feed-forward operation works in: tiles of at most `rows` rows. */
typedef struct moerun__ffn_room {
  int32_t rows;
  float *gate_up; /* [rows][outputs of gate_up] */
  float *h;       /* [rows][columns]            */
  float *scratch; /* of linear, for the most inputs of either product */
} moerun__ffn_room;

/* Rows offset[e] .. offset[e + 1] - 1 of x go through expert[e], e <
 * num_experts; strides in floats. y may be x. */
typedef struct moerun__ffn {
  float *y; /* NULL: h[rows][columns] is what is asked for, in room.h, by the
               number of the row; all experts have as many columns then, and
               the rows are at most room.rows */
  size_t y_stride;
  const float *x;
  size_t x_stride;
  int32_t num_experts;
  const moerun__expert *expert;
  const int32_t *offset; /* [num_experts + 1] */
  moerun__ffn_room room;
} moerun__ffn;

/* A product with a packed weight; see below. */
typedef void moerun__linear(moerun__queue *queue, float *y, size_t y_stride,
                            const float *x, size_t x_stride, int32_t M,
                            const moerun__weight *weight, float *scratch);

typedef struct moerun__kernels moerun__kernels;

/* Operations are given to a queue, on memory of its device, pinned and locked,
 * and may be late. The structures that describe one, with the experts and
 * offsets that they name, are read when it is given; other arrays of the host
 * (rows that are wanted, weights of terms, pages) when it happens, and stay
 * until then. Only softmax is the host's alone, and happens at once: it is for
 * what the host decides by, such as tokens. */
struct moerun__kernels {
  const char *name; /* "ref", "portable", "avx2", "avx512", … */

  /* y[M][N] = x[M][D] W^T; strides in floats; scratch of
   * moerun__linear_scratch(D) floats, 64-byte aligned.
   *
   * Where the queue rounds, x is rounded to BF16 first, as 16-bit inference
   * does: processors that multiply BF16 pairs do it at twice the rate. Each
   * output is the chain over the rounded row, with subnormal inputs, weights
   * and partial sums taken as zero and, if D is odd, a last term 0 * 0: what
   * those instructions compute, and the same bits in every set. */
  moerun__linear *linear;

  /* Experts: product, activation by the expert's kind, product. SWIGLU: h[M][F]
   * = silu(g) * u where gate_up[M][2F] holds g then u per row. */
  void (*ffn)(moerun__queue *queue, const moerun__ffn *ffn);

  /* y[M][width] = x * 1/sqrt(mean(x^2) + eps) * scale[width]; x may be y. */
  void (*rmsnorm)(moerun__queue *queue, float *y, size_t y_stride,
                  const float *x, size_t x_stride, int32_t M,
                  const moerun__norm *norm);

  /* y[i] += x[i], i < count. */
  void (*add)(moerun__queue *queue, float *y, const float *x, size_t count);

  /* y[m][H] += factor[m] * x[m][H], one fused multiply-add each; factor NULL:
   * all 1. */
  void (*add_rows)(moerun__queue *queue, float *y, const float *x,
                   const float *factor, int32_t M, int32_t H);

  /* Rotate-half in place (architectures: y_i = x_i c - x_{i+d/2} s,
   * y_{i+d/2} = x_{i+d/2} c + x_i s): x[M] rows of num_heads * head_dim,
   * cosine and sine [M][head_dim / 2]. */
  void (*rope)(moerun__queue *queue, float *x, size_t x_stride,
               const float *cosine, const float *sine, int32_t M,
               int32_t num_heads, int32_t head_dim);

  /* The result of a row depends neither on the number of rows nor on how the
   * prompt was cut. */
  void (*attention)(moerun__queue *queue, const moerun__attention_rows *rows,
                    const moerun__kv_view *view,
                    const moerun__attention_shape *shape, float *scratch);

  /* ids[M][K] of the largest score + bias[E], or, with neither a bias (NULL)
   * nor groups, of the largest logits: largest first, ties to the lower id, NaN
   * last; and weight[M][K]. logits[M][E] is overwritten. K <= E. */
  void (*gate)(moerun__queue *queue, const moerun__choice *out, float *logits,
               int32_t M, int32_t E, const moerun__gate_rule *rule,
               const float *bias);

  /* p[n] = softmax(logits[n] * inverse_temperature); p may be logits. */
  void (*softmax)(float *p, const float *logits, int32_t n,
                  float inverse_temperature);

  /* p[i] = 1 / (1 + exp(-x[i])), i < count; p may be x. */
  void (*sigmoid)(moerun__queue *queue, float *p, const float *x, size_t count);

  /* x[M][H] = the H elements of rows index[0..M-1], widened. */
  void (*gather)(moerun__queue *queue, float *x, const moerun__wire_rows *rows,
                 const int32_t *index, int32_t M, int32_t H);
  /* The H elements of row index[i] = x[i][H], rounded to the rows' dtype. */
  void (*scatter)(moerun__queue *queue, const moerun__wire_rows *rows,
                  const int32_t *index, const float *x, int32_t M, int32_t H);
  /* Writes a whole chunk of rows as they are sent. A device that is late brings
   * an operation of its own: that of kernels/parts.h is done by the host. */
  void (*dispatch)(moerun__queue *queue, const moerun__wire_rows *rows,
                   const moerun__dispatch *what);
  /* y[t][H] = sum over j < K, in this order, of weight[t][j] times row
   * index[t * K + j], one fused multiply-add chain from 0; index -1: none. */
  void (*combine)(moerun__queue *queue, float *y, const moerun__wire_rows *rows,
                  const int32_t *index, const float *weight, int32_t T,
                  int32_t K, int32_t H);

  /* x[M][D] = outputs output[0..M-1] of the weight, widened. */
  void (*embed)(moerun__queue *queue, float *x, size_t x_stride,
                const moerun__weight *weight, const int32_t *output, int32_t M);
  /* Puts rows into the cache, as moerun__kv_store does. */
  void (*kv_store)(moerun__queue *queue, const moerun__kv_rows *rows,
                   const moerun__kv_view *view,
                   const moerun__attention_shape *shape);
  /* x[i] = the nearest to it from -limit to limit, i < count; NaN stays. */
  void (*clip)(moerun__queue *queue, float *x, size_t count, float limit);
  /* note[m] = mark where it is 0 and a number of x[m][width] is not sound, as
   * base/finite.h has it. */
  void (*note_unsound)(moerun__queue *queue, int32_t *note, int32_t mark,
                       const float *x, size_t x_stride, int32_t M,
                       int32_t width);
};

size_t moerun__linear_scratch(int32_t max_inputs);

/* The set with this name, or the fastest this machine runs for "auto";
 * ERR_UNSUPPORTED with the list of names if it is unknown or cannot run. */
moerun_status moerun__kernels_find(const moerun__kernels **out,
                                   const char *name);
/* Set number i (0: ref) or NULL beyond the last that this machine can run. */
const moerun__kernels *moerun__kernels_at(int i);

#endif
