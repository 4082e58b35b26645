/* A kind of attention that the library does not know, added by a row of the
 * table of architectures, goes through config.json, loading, cache and decoder.
 * It has a key and two tensors of its own and no keys beside values, no softmax
 * and no rotation:
 *
 *   out_t = O (1 / (t + 1)) sum over s <= t of (q_t . m_s) m_s
 *
 * This file takes the place of arch_rows.c in the test. The reference computes
 * the whole decoder in double, with loops. */
#include "runtime/base/memory.h"
#include "runtime/decoder/attention.h"
#include "runtime/decoder/session.h"
#include "runtime/model/arch_row.h"
#include "support/model_world.h"

#include <math.h>
#include <string.h>

enum { TOKENS = 37, SEQUENCES = 2, WIDTH = 12 };

/* ---- The kind ------------------------------------------------------------ */

enum { ASKED = MOERUN_ROLE_OWN, KEPT };
enum { INPUT = 0, OUTPUT, NUM_PARTS };

static const moerun__attention_tensor tensors[] = {
    {(moerun__role)ASKED, "memory.asked.weight"},
    {(moerun__role)KEPT, "memory.kept.weight"},
    {MOERUN_ROLE_O, "memory.out.weight"},
};

static const moerun__attention_part parts[NUM_PARTS] = {
    [INPUT] = {.form = MOERUN_ATTENTION_MATRIX, .first = 0, .count = 2},
    [OUTPUT] = {.form = MOERUN_ATTENTION_MATRIX, .first = 2, .count = 1},
};

/* Its width is a key of its own; it needs none of heads and rotation. */
static moerun_status read_width(moerun__model_config *config,
                                const json_t *root, const char *origin) {
  const int64_t usual = WIDTH;
  return moerun__arch_read_size(&config->own[0], root, "memory_width", 1024,
                                &usual, origin);
}

static int has(const moerun__model_config *config, int32_t part) {
  (void)config;
  return part < NUM_PARTS;
}

static int shape(int64_t *out, const moerun__model_config *config,
                 moerun__role role) {
  const int is_out = role == MOERUN_ROLE_O;
  out[0] = is_out ? config->hidden_width : config->own[0];
  out[1] = is_out ? config->own[0] : config->hidden_width;
  out[2] = 0;
  return 2;
}

static size_t position_floats(const moerun__model_config *config) {
  return (size_t)config->own[0];
}

typedef struct memory {
  moerun__attention_setting setting;
  float *both;  /* [T][2 WIDTH] asked, kept */
  float *mixed; /* [T][WIDTH] */
  int32_t steps;
} memory;

static memory *last_work; /* of the session that was created last */

static void *lay_out(const moerun__attention_setting *setting,
                     moerun__arenas *arenas) {
  moerun__arena *arena = &arenas->host; /* it computes on the host */
  const size_t T = (size_t)setting->max_tokens;
  memory *work = moerun__arena_take(arena, 1, sizeof *work);
  float *both = moerun__arena_take(arena, T * 2 * WIDTH, sizeof(float));
  float *mixed = moerun__arena_take(arena, T * WIDTH, sizeof(float));
  if (work == NULL) return NULL;
  *work = (memory){*setting, both, mixed, 0};
  last_work = work;
  return work;
}

static size_t scratch_floats(const moerun__attention_setting *setting) {
  return moerun__linear_scratch(setting->config->hidden_width);
}

static void begin(void *context, const moerun_batch *batch) {
  (void)batch;
  ((memory *)context)->steps++;
}

static float *kept_at(const moerun__kv_place *place, int32_t position) {
  return place->floats +
         (size_t)place->page[position / MOERUN_PAGE_POSITIONS] *
             place->page_floats +
         (size_t)(position % MOERUN_PAGE_POSITIONS) * WIDTH;
}

static void recall(float *out, const float *asked,
                   const moerun__kv_place *place, int32_t position) {
  memset(out, 0, WIDTH * sizeof *out);
  for (int32_t s = 0; s <= position; s++) {
    const float *kept = kept_at(place, s);
    float product = 0;
    for (int i = 0; i < WIDTH; i++) {
      product += asked[i] * kept[i];
    }
    for (int i = 0; i < WIDTH; i++) {
      out[i] += product * kept[i] / (float)(position + 1);
    }
  }
}

static void forward(void *context, const moerun__attention_call *call) {
  const memory *work = context;
  const moerun_batch *batch = call->batch;
  const moerun__attention_setting *setting = &work->setting;
  const size_t width = (size_t)setting->config->hidden_width;
  const int32_t T = batch->num_tokens;
  setting->kernels->linear(setting->queue, work->both, 2 * WIDTH, call->rows,
                           width, T, &call->weight[INPUT].matrix,
                           call->scratch);
  moerun__broken_note_rows(&call->noted, work->both, 2 * WIDTH, T);
  for (int32_t t = 0; t < T; t++) {
    const moerun__kv_place place =
        moerun__kv_place_of(call->cache, call->layer, batch->sequence[t]);
    const float *both = work->both + (size_t)t * 2 * WIDTH;
    memcpy(kept_at(&place, batch->position[t]), both + WIDTH,
           WIDTH * sizeof *both);
    recall(work->mixed + (size_t)t * WIDTH, both, &place, batch->position[t]);
  }
  setting->kernels->linear(setting->queue, call->rows, width, work->mixed,
                           WIDTH, T, &call->weight[OUTPUT].matrix,
                           call->scratch);
}

static const moerun__attention_ops ops = {
    .lay_out = lay_out,
    .scratch_floats = scratch_floats,
    .begin = begin,
    .forward = forward,
};

static const moerun__attention_kind kind = {
    .name = "memory",
    .tensors = tensors,
    .num_parts = NUM_PARTS,
    .parts = parts,
    .read = read_width,
    .has = has,
    .shape = shape,
    .position_floats = position_floats,
    .ops = &ops,
};

/* ---- Its architecture ---------------------------------------------------- */

static const moerun__arch row = {
    .name = "made_up",
    .class_name = "MadeUpForCausalLM",
    .experts_key = "num_local_experts",
    .width_key = "intermediate_size",
    .has_head_dim = 1,
    .default_positions = 4096,
    .default_theta = 1e4,
    .default_eps = 1e-5,
    .default_bos = -1,
    .default_eos = -1,
    .attention = &kind,
    .spelling = {{.block = "moe"}},
    .projection = {"gate", "up", "down"},
};

const char *moerun__arch_name(const moerun__arch *arch) {
  return arch->name;
}

const moerun__arch *moerun__arch_at(int i) {
  return i == 0 ? &row : NULL;
}

/* ---- The reference ------------------------------------------------------- */

/* y[N] = W x */
static void multiply(double *y, const moerun__weight *weight, const double *x) {
  float values[64];
  assert_true(weight->num_inputs <= 64);
  for (int32_t n = 0; n < weight->num_outputs; n++) {
    moerun__weight_row(values, weight, n);
    y[n] = 0;
    for (int32_t d = 0; d < weight->num_inputs; d++) {
      y[n] += (double)values[d] * x[d];
    }
  }
}

static void normed(double *y, const double *x, const float *scale) {
  double sum = 0;
  for (int i = 0; i < H; i++) {
    sum += x[i] * x[i];
  }
  for (int i = 0; i < H; i++) {
    y[i] = x[i] / sqrt(sum / H + 1e-6) * (double)scale[i];
  }
}

/* y[H] += the weighted sum of the two best experts. */
static void add_experts(double *y, const moerun__layer *layer,
                        const double *x) {
  double logits[EXPERTS];
  double gate_up[2 * F];
  double out[H];
  multiply(logits, &layer->gate, x);
  int first = 0;
  for (int e = 1; e < EXPERTS; e++) {
    if (logits[e] > logits[first]) first = e;
  }
  int second = first == 0 ? 1 : 0;
  for (int e = 0; e < EXPERTS; e++) {
    if (e != first && logits[e] > logits[second]) second = e;
  }
  const double share = 1 / (1 + exp(logits[second] - logits[first]));
  for (int j = 0; j < 2; j++) {
    const int e = j == 0 ? first : second;
    multiply(gate_up, &layer->experts[e].gate_up, x);
    for (int f = 0; f < F; f++) {
      gate_up[f] = gate_up[f] / (1 + exp(-gate_up[f])) * gate_up[F + f];
    }
    multiply(out, &layer->experts[e].down, gate_up);
    for (int i = 0; i < H; i++) {
      y[i] += (j == 0 ? share : 1 - share) * out[i];
    }
  }
}

/* x[H] += attention's output at position t; both[s] of those before is
 * there. */
static void add_memory(double *x, double (*both)[2 * WIDTH],
                       const moerun__layer *layer, int t) {
  double h[H];
  double mixed[WIDTH] = {0};
  normed(h, x, layer->attention_norm);
  multiply(both[t], &layer->attention[INPUT].matrix, h);
  for (int s = 0; s <= t; s++) {
    double product = 0;
    for (int i = 0; i < WIDTH; i++) {
      product += both[t][i] * both[s][WIDTH + i];
    }
    for (int i = 0; i < WIDTH; i++) {
      mixed[i] += product * both[s][WIDTH + i] / (t + 1);
    }
  }
  multiply(h, &layer->attention[OUTPUT].matrix, mixed);
  for (int i = 0; i < H; i++) {
    x[i] += h[i];
  }
}

/* logits[TOKENS][VOCAB] of one sequence. */
static void compute(double *logits, const moerun_model *model,
                    const int32_t *token) {
  static double both[LAYERS][TOKENS][2 * WIDTH];
  for (int t = 0; t < TOKENS; t++) {
    float row_of_token[H];
    double x[H];
    double h[H];
    moerun__weight_row(row_of_token, &model->embedding, token[t]);
    for (int i = 0; i < H; i++) {
      x[i] = (double)row_of_token[i];
    }
    for (int l = 0; l < LAYERS; l++) {
      const moerun__layer *layer = &model->layers[l];
      add_memory(x, both[l], layer, t);
      normed(h, x, layer->ffn_norm);
      add_experts(x, layer, h);
    }
    normed(h, x, model->final_norm);
    multiply(logits + (ptrdiff_t)t * VOCAB, &model->head, h);
  }
}

/* ---- The tests ----------------------------------------------------------- */

static world w;
static moerun_model *model;
static moerun_session *session;

static const moerun_session_options options = {
    .struct_size = sizeof(moerun_session_options),
    .max_tokens = TOKENS,
    .max_sequences = SEQUENCES,
    .kv_tokens = 96};

static int set_up(void **state) {
  moerun__synth_options made_up = small;
  (void)state;
  made_up.arch = "made_up";
  open_world(&w, made_up);
  assert_all_ok(moerun_model_load(&model, w.comm, w.placement, w.path, NULL));
  assert_all_ok(moerun_session_create(&session, model, &options));
  return 0;
}

static int tear_down(void **state) {
  (void)state;
  moerun_session_destroy(session);
  moerun_model_destroy(model);
  close_world(&w);
  return 0;
}

/* Another prompt on each rank. */
static void fill(int32_t *token, int32_t *position) {
  for (int t = 0; t < TOKENS; t++) {
    token[t] = (t * (7 + 2 * test_rank()) + 3 * t * t + test_rank()) % VOCAB;
    position[t] = t;
  }
}

/* logits[TOKENS][VOCAB] of a sequence in steps of at most `rows` rows. */
static moerun_status feed(float *logits, int32_t sequence, int32_t rows) {
  moerun_status status = MOERUN_OK;
  int32_t token[TOKENS];
  int32_t position[TOKENS];
  int32_t place[TOKENS];
  int32_t number[TOKENS];
  fill(token, position);
  for (int t = 0; t < TOKENS; t++) {
    place[t] = sequence;
    number[t] = t;
  }
  for (int32_t at = 0; at < TOKENS && status == MOERUN_OK; at += rows) {
    const int32_t count = TOKENS - at < rows ? TOKENS - at : rows;
    const moerun_batch batch = {count,         token + at, place,
                                position + at, count,      number};
    status = moerun_forward(session, &batch, logits + (ptrdiff_t)at * VOCAB);
  }
  return status;
}

static void matches_the_reference(void **state) {
  (void)state;
  moerun_comm *alone = NULL;
  moerun_placement *here = NULL;
  moerun_model *whole = NULL;
  int32_t token[TOKENS];
  int32_t position[TOKENS];
  float *logits = calloc((size_t)TOKENS * VOCAB, sizeof *logits);
  double *want = calloc((size_t)TOKENS * VOCAB, sizeof *want);
  assert_all_ok(moerun_comm_create_self(&alone));
  assert_all_ok(moerun_placement_create_block(&here, LAYERS, EXPERTS, 1));
  assert_all_ok(moerun_model_load(&whole, alone, here, w.path, NULL));
  fill(token, position);
  compute(want, whole, token);
  assert_all_ok(feed(logits, 0, TOKENS));
  double largest = 0;
  double worst = 0;
  for (size_t i = 0; i < (size_t)TOKENS * VOCAB; i++) {
    largest = fmax(largest, fabs(want[i]));
    worst = fmax(worst, fabs(want[i] - (double)logits[i]));
  }
  if (!(worst <= 1e-5 * largest)) {
    print_error("logits differ by %g of %g\n", worst, largest);
  }
  assert_all_ranks(largest > 0.5 && worst <= 1e-5 * largest);
  moerun_model_destroy(whole);
  moerun_placement_destroy(here);
  moerun_comm_destroy(alone);
  free(logits);
  free(want);
}

/* The cache keeps what steps before have left, whatever the cut. */
static void cuts_do_not_matter(void **state) {
  (void)state;
  const size_t bytes = (size_t)TOKENS * VOCAB * sizeof(float);
  float *at_once = malloc(bytes);
  float *in_pieces = malloc(bytes);
  static const int32_t rows[] = {1, 16, 11};
  assert_all_ok(feed(at_once, 0, TOKENS));
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    const int32_t before = last_work->steps;
    assert_all_ok(feed(in_pieces, 1, rows[i]));
    assert_all_ranks(memcmp(at_once, in_pieces, bytes) == 0);
    assert_all_ranks(last_work->steps - before ==
                     (TOKENS + rows[i] - 1) / rows[i]);
  }
  free(at_once);
  free(in_pieces);
}

/* The kind's cache and buffers are in the prediction, its weights in the
 * model's. */
static void memory_is_predicted(void **state) {
  (void)state;
  moerun__model_size size;
  moerun_session *other = NULL;
  const moerun_session_options longer = {.struct_size = sizeof longer,
                                         .max_tokens = TOKENS,
                                         .max_sequences = SEQUENCES,
                                         .kv_tokens = 112};
  const size_t live = moerun__alloc_live_bytes();
  assert_all_ok(moerun_session_create(&other, model, &longer));
  const size_t taken = moerun__alloc_live_bytes() - live;
  assert_all_ranks(taken == moerun_session_bytes(model, &longer));
  /* One more page of 16 positions in each layer, and its number. */
  const size_t more = taken - moerun_session_bytes(model, &options);
  const size_t page = (size_t)LAYERS * 16 * WIDTH * sizeof(float);
  assert_all_ranks(more >= page && more <= page + 64 * 3);
  moerun_session_destroy(other);
  assert_all_ok(
      moerun__model_size_load(&size, w.path, w.placement, w.comm->rank, 0));
  assert_all_ranks(size.weight_bytes == model->weight_bytes);
  assert_int_equal(moerun__attention_elements(&model->config), 3 * WIDTH * H);
}

/* What config.json says of the kind is the kind's: ranks compare it, too. */
static void keys_are_its_own(void **state) {
  (void)state;
  moerun__model_config config;
  json_t *root = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i}",
                           "model_type", "made_up", "hidden_size", H,
                           "num_hidden_layers", LAYERS, "vocab_size", VOCAB,
                           "num_local_experts", EXPERTS, "num_experts_per_tok",
                           2, "intermediate_size", F, "memory_width", 14);
  assert_non_null(root);
  assert_all_ok(moerun__model_config_parse(&config, root, "c"));
  assert_int_equal(moerun__attention_elements(&config), 3 * 14 * H);
  assert_int_equal(config.num_heads, 0);
  moerun__model_config_clear(&config);
  assert_int_equal(json_object_set_new(root, "memory_width", json_integer(0)),
                   0);
  assert_all_ranks(moerun__model_config_parse(&config, root, "c") ==
                   MOERUN_ERR_FORMAT);
  assert_string_equal(moerun_last_error(),
                      "c: key \"memory_width\": expected 1 to 1024, found 0");
  json_decref(root);
}

int main(int argc, char **argv) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(matches_the_reference),
      cmocka_unit_test(cuts_do_not_matter),
      cmocka_unit_test(memory_is_predicted),
      cmocka_unit_test(keys_are_its_own),
  };
  if (MPI_Init(&argc, &argv) != MPI_SUCCESS) return EXIT_FAILURE;
  const int failed = cmocka_run_group_tests(tests, set_up, tear_down);
  (void)MPI_Finalize();
  return failed;
}
