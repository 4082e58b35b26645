/* config.json of families that differ from others in their rows of the table:
 * what a missing key means, what each key does, spellings of tensors, and what
 * is refused. The facts are of transformers 5.24. */
#include "runtime/model/rope_kinds.h"
#include "support/config_text.h"
#include "support/warnings.h"

#include <math.h>
#include <stdio.h>

#define SIZES                                                                  \
  "\"hidden_size\": 64, \"num_hidden_layers\": 4, "                            \
  "\"num_attention_heads\": 16, \"vocab_size\": 300, "                         \
  "\"num_experts_per_tok\": 3, "

/* Only what has no default. */
static const char solar_open[] =
    "{\"model_type\": \"solar_open\", " SIZES
    "\"n_routed_experts\": 12, \"n_shared_experts\": 2, "
    "\"moe_intermediate_size\": 24}";
static const char hy_v3[] =
    "{\"model_type\": \"hy_v3\", " SIZES
    "\"num_experts\": 12, \"num_shared_experts\": 2, "
    "\"moe_intermediate_size\": 24, \"intermediate_size\": 48}";
static const char glm4_moe[] =
    "{\"model_type\": \"glm4_moe\", " SIZES
    "\"n_routed_experts\": 12, \"n_shared_experts\": 2, "
    "\"moe_intermediate_size\": 24, \"intermediate_size\": 48}";
static const char minimax_m2[] =
    "{\"model_type\": \"minimax_m2\", " SIZES
    "\"num_local_experts\": 12, \"intermediate_size\": 24}";

static const char granitemoeshared[] =
    "{\"model_type\": \"granitemoeshared\", " SIZES
    "\"num_local_experts\": 12, \"intermediate_size\": 24, "
    "\"shared_intermediate_size\": 20}";
static const char sarvam_moe[] =
    "{\"model_type\": \"sarvam_moe\", " SIZES
    "\"num_experts\": 12, \"num_shared_experts\": 2, "
    "\"moe_intermediate_size\": 24, \"intermediate_size\": 48}";
static const char aria_text[] =
    "{\"model_type\": \"aria_text\", " SIZES
    "\"moe_num_experts\": 12, \"moe_topk\": 4, "
    "\"moe_num_shared_experts\": 2, \"intermediate_size\": 24}";
static const char flex_olmo[] =
    "{\"model_type\": \"flex_olmo\", " SIZES
    "\"num_experts\": 12, \"intermediate_size\": 24}";

static const char ernie4_5_moe[] =
    "{\"model_type\": \"ernie4_5_moe\", \"hidden_size\": 64, "
    "\"num_hidden_layers\": 4, \"num_attention_heads\": 16, "
    "\"vocab_size\": 300, \"moe_num_experts\": 12, \"moe_k\": 3, "
    "\"moe_num_shared_experts\": 2, \"moe_intermediate_size\": 24, "
    "\"intermediate_size\": 48}";

/* What a configuration comes to. */
typedef struct facts {
  const char *base;
  const char *change;
  int32_t kv_heads;
  int32_t head_dim;
  int32_t rotary_dim;
  int32_t positions;
  double theta;
  double eps;
  moerun__qk_norm qk_norm;
  int has_qkv_bias;
  moerun__gate_rule rule; /* without groups */
  int has_choice_bias;
  int32_t shared_width;
  const char *layers; /* d: dense, s: with experts */
} facts;

static void check_layers(const moerun__model_config *c, const char *layers) {
  for (int32_t l = 0; l < c->num_layers; l++) {
    assert_int_equal(c->moe_layer[l] >= 0, layers[l] == 's');
  }
}

static void check_facts(const facts *f) {
  moerun__model_config c;
  if (read_changed(&c, f->base, f->change) != MOERUN_OK) {
    fail_msg("%s: %s", f->change, moerun_last_error());
  }
  assert_int_equal(c.num_kv_heads, f->kv_heads);
  assert_int_equal(c.head_dim, f->head_dim);
  assert_int_equal(c.rope[0].width, f->rotary_dim);
  assert_int_equal(c.max_positions, f->positions);
  assert_true(c.rope[0].theta == f->theta);
  assert_true(c.norm_eps == f->eps);
  assert_int_equal(c.qk_norm, f->qk_norm);
  assert_int_equal(c.has_qkv_bias, f->has_qkv_bias);
  assert_int_equal(c.gate_rule.score, f->rule.score);
  assert_int_equal(c.gate_rule.renormalise, f->rule.renormalise);
  assert_true(c.gate_rule.scale == f->rule.scale);
  assert_int_equal(c.has_choice_bias, f->has_choice_bias);
  assert_int_equal(c.shared_width, f->shared_width);
  check_layers(&c, f->layers);
  moerun__model_config_clear(&c);
}

#define SOFTMAX(is_renormalised)                                               \
  { .renormalise = (is_renormalised), .scale = 1 }
#define SIGMOID(is_renormalised, by)                                           \
  {                                                                            \
    .score = MOERUN_SCORE_SIGMOID, .renormalise = (is_renormalised),           \
    .scale = (by)                                                              \
  }

static void keys_have_their_meaning(void **state) {
  (void)state;
  static const facts cases[] = {
      {solar_open, "{}", 8, 128, 128, 131072, 1e6, 1e-5, MOERUN_QK_NORM_NONE, 0,
       SIGMOID(1, 1), 1, 48, "ssss"},
      {solar_open,
       "{\"attention_bias\": true, \"norm_topk_prob\": false, "
       "\"routed_scaling_factor\": 2.5, \"head_dim\": 10, "
       "\"partial_rotary_factor\": 0.5, \"first_k_dense_replace\": 1}",
       8, 10, 10, 131072, 1e6, 1e-5, MOERUN_QK_NORM_NONE, 1, SIGMOID(0, 2.5F),
       1, 48, "ssss"},
      {hy_v3, "{}", 8, 128, 128, 131072, 11158840.0, 1e-5, MOERUN_QK_NORM_HEAD,
       0, SIGMOID(1, 2.826F), 1, 48, "dsss"},
      {hy_v3,
       "{\"norm_topk_prob\": false, \"routed_scaling_factor\": 9, "
       "\"router_scaling_factor\": 1, \"num_shared_experts\": 0, "
       "\"mlp_layer_types\": [\"sparse\", \"dense\", \"dense\", \"sparse\", "
       "\"sparse\"]}",
       8, 128, 128, 131072, 11158840.0, 1e-5, MOERUN_QK_NORM_HEAD, 0,
       SIGMOID(1, 1), 1, 0, "sdds"},
      {glm4_moe, "{\"num_attention_heads\": 8}", 8, 8, 4, 131072, 1e4, 1e-5,
       MOERUN_QK_NORM_NONE, 0, SIGMOID(1, 1), 1, 48, "dsss"},
      {glm4_moe,
       "{\"num_attention_heads\": 8, \"partial_rotary_factor\": null}", 8, 8, 8,
       131072, 1e4, 1e-5, MOERUN_QK_NORM_NONE, 0, SIGMOID(1, 1), 1, 48, "dsss"},
      {glm4_moe,
       "{\"head_dim\": 24, \"partial_rotary_factor\": 0.25, "
       "\"attention_bias\": true, \"use_qk_norm\": true, "
       "\"first_k_dense_replace\": 0}",
       8, 24, 6, 131072, 1e4, 1e-5, MOERUN_QK_NORM_HEAD, 1, SIGMOID(1, 1), 1,
       48, "ssss"},
      {glm4_moe, /* what stands inside wins; an odd product is cut */
       "{\"head_dim\": 10, \"partial_rotary_factor\": 1, "
       "\"rope_parameters\": {\"rope_theta\": 777, "
       "\"partial_rotary_factor\": 0.29}}",
       8, 10, 2, 131072, 777, 1e-5, MOERUN_QK_NORM_NONE, 0, SIGMOID(1, 1), 1,
       48, "dsss"},
      {minimax_m2, "{}", 8, 128, 128, 196608, 5e6, 1e-6, MOERUN_QK_NORM_WHOLE,
       0, SIGMOID(1, 1), 1, 0, "ssss"},
      {minimax_m2,
       "{\"rotary_dim\": 64, \"use_qk_norm\": false, "
       "\"attention_bias\": true, \"norm_topk_prob\": false}",
       8, 128, 64, 196608, 5e6, 1e-6, MOERUN_QK_NORM_WHOLE, 0, SIGMOID(1, 1), 1,
       0, "ssss"},
      {minimax_m2, "{\"rotary_dim\": 64, \"partial_rotary_factor\": 0.25}", 8,
       128, 32, 196608, 5e6, 1e-6, MOERUN_QK_NORM_WHOLE, 0, SIGMOID(1, 1), 1, 0,
       "ssss"},
      {granitemoeshared, "{}", 16, 4, 4, 2048, 1e4, 1e-6, MOERUN_QK_NORM_NONE,
       0, SOFTMAX(1), 0, 20, "ssss"},
      {granitemoeshared,
       "{\"shared_intermediate_size\": 0, \"num_key_value_heads\": 2, "
       "\"norm_topk_prob\": false}",
       2, 4, 4, 2048, 1e4, 1e-6, MOERUN_QK_NORM_NONE, 0, SOFTMAX(1), 0, 0,
       "ssss"},
      {sarvam_moe, "{}", 4, 64, 64, 131072, 8e6, 1e-6, MOERUN_QK_NORM_HEAD, 0,
       SIGMOID(1, 2.5F), 1, 48, "dsss"},
      {sarvam_moe,
       "{\"use_qk_norm\": false, \"use_qkv_bias\": true, "
       "\"-num_experts\": 0, \"n_routed_experts\": 12, "
       "\"n_shared_experts\": 2, \"partial_rotary_factor\": 0.5}",
       4, 64, 32, 131072, 8e6, 1e-6, MOERUN_QK_NORM_NONE, 1, SIGMOID(1, 2.5F),
       1, 48, "dsss"},
      {aria_text, "{}", 16, 4, 4, 2048, 1e4, 1e-6, MOERUN_QK_NORM_NONE, 0,
       SOFTMAX(1), 0, 48, "ssss"},
      {ernie4_5_moe, "{\"num_experts\": 12, \"num_experts_per_tok\": 3}", 4, 4,
       4, 131072, 5e5, 1e-5, MOERUN_QK_NORM_NONE, 0, SOFTMAX(1), 1, 48, "dsss"},
      {ernie4_5_moe,
       "{\"moe_layer_start_index\": 0, \"moe_layer_end_index\": 2, "
       "\"moe_layer_interval\": 2, \"moe_norm_min\": 1e-12, "
       "\"attention_bias\": true}",
       4, 4, 4, 131072, 5e5, 1e-5, MOERUN_QK_NORM_NONE, 0, SOFTMAX(1), 1, 48,
       "dsdd"},
      {ernie4_5_moe, "{\"moe_layer_end_index\": 2}", 4, 4, 4, 131072, 5e5, 1e-5,
       MOERUN_QK_NORM_NONE, 0, SOFTMAX(1), 1, 48, "dssd"},
      {flex_olmo, "{}", 16, 4, 4, 4096, 5e5, 1e-6, MOERUN_QK_NORM_WHOLE, 0,
       SOFTMAX(0), 0, 0, "ssss"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    check_facts(&cases[i]);
  }
}

/* Frequencies against the formulas, and the contexts that follow. */
static void scaled_positions_are_read(void **state) {
  (void)state;
  moerun__model_config c;
  assert_int_equal(
      read_changed(&c, solar_open,
                   "{\"head_dim\": 8, \"rope_theta\": 16, "
                   "\"max_position_embeddings\": 40960, \"rope_scaling\": "
                   "{\"rope_type\": \"yarn\", \"factor\": 4, "
                   "\"original_max_position_embeddings\": 32768}}"),
      MOERUN_OK);
  assert_int_equal(c.max_positions, 131072);
  assert_true(fabs(c.rope[0].amplitude - (0.1 * log(4.0) + 1)) < 1e-14);
  /* From 7.33 to 12.3 of eight: cut to 7. */
  assert_true(fabs(moerun__rope_frequency(&c.rope[0], 3) - 0.125) < 1e-14);
  moerun__model_config_clear(&c);
  assert_int_equal(read_changed(&c, solar_open,
                                "{\"head_dim\": 8, \"rope_theta\": 1e8, "
                                "\"rope_scaling\": {\"rope_type\": \"llama3\", "
                                "\"factor\": 8, \"low_freq_factor\": 1, "
                                "\"high_freq_factor\": 4, "
                                "\"original_max_position_embeddings\": 1000}}"),
                   MOERUN_OK);
  assert_true(moerun__rope_frequency(&c.rope[0], 0) == 1.0);
  const double turns = 1000 * 0.01 / 6.283185307179586;
  const double smooth = (turns - 1) / 3;
  assert_true(fabs(moerun__rope_frequency(&c.rope[0], 1) -
                   0.01 * ((1 - smooth) / 8 + smooth)) < 1e-16);
  assert_true(fabs(moerun__rope_frequency(&c.rope[0], 2) - 1e-4 / 8) < 1e-18);
  assert_int_equal(c.max_positions, 131072);
  moerun__model_config_clear(&c);
  warnings_begin();
  assert_int_equal(
      read_changed(&c, solar_open,
                   "{\"head_dim\": 4, \"rope_theta\": 100, "
                   "\"rope_scaling\": {\"rope_type\": \"longrope\", "
                   "\"short_factor\": [2, 4], "
                   "\"original_max_position_embeddings\": 4096}}"),
      MOERUN_OK);
  assert_int_equal(c.max_positions, 4096);
  assert_true(fabs(moerun__rope_frequency(&c.rope[0], 1) - 0.025) < 1e-15);
  assert_string_equal(warnings_text,
                      "c: longrope: contexts end at the 4096 tokens of the "
                      "short factors\n");
  warnings_end();
  moerun__model_config_clear(&c);
}

/* Only where the family has them. */
static void multipliers_are_read(void **state) {
  (void)state;
  static const char keys[] =
      "{\"embedding_multiplier\": 12, \"residual_multiplier\": 0.22, "
      "\"attention_multiplier\": 0.0078125, \"logits_scaling\": 6}";
  moerun__model_config c;
  assert_int_equal(read_changed(&c, granitemoeshared, keys), MOERUN_OK);
  assert_true(c.embedding_scale == 12 && c.residual_scale == 0.22);
  assert_true(c.attention_scale == 0.0078125 && c.logit_divisor == 6);
  moerun__model_config_clear(&c);
  assert_int_equal(read_changed(&c, granitemoeshared, "{}"), MOERUN_OK);
  assert_true(c.embedding_scale == 1 && c.residual_scale == 1);
  assert_true(c.attention_scale == 1 && c.logit_divisor == 1);
  moerun__model_config_clear(&c);
  assert_int_equal(read_changed(&c, flex_olmo, keys), MOERUN_OK);
  assert_true(c.embedding_scale == 1 && c.residual_scale == 1);
  assert_true(c.attention_scale == 0 && c.logit_divisor == 1);
  assert_int_equal(c.norms_after, 1);
  moerun__model_config_clear(&c);
  assert_int_equal(read_changed(&c, aria_text, "{}"), MOERUN_OK);
  assert_int_equal(c.experts_per_token, 4);
  moerun__model_config_clear(&c);
}

static const refusal refusals[] = {
    {hy_v3, "{\"attention_bias\": true}",
     "c: key \"attention_bias\": expected false (a bias of the output "
     "projection is not implemented), found true"},
    {hy_v3, "{\"mlp_bias\": true}",
     "c: key \"mlp_bias\": expected false (biases of feed-forward blocks are "
     "not implemented), found true"},
    {hy_v3, "{\"mlp_layer_types\": [\"dense\", \"sparse\", \"sparse\"]}",
     "c: key \"mlp_layer_types\": expected the types of 4 layers, found 3"},
    {hy_v3, "{\"mlp_layer_types\": \"dense\"}",
     "c: key \"mlp_layer_types\": expected an array, found a string"},
    {hy_v3,
     "{\"mlp_layer_types\": [\"dense\", \"sparse\", \"moe\", \"dense\"]}",
     "c: key \"mlp_layer_types\": element 2: expected \"dense\" or \"sparse\", "
     "found \"moe\""},
    {hy_v3, "{\"mlp_layer_types\": [\"dense\", 1, \"dense\", \"dense\"]}",
     "c: key \"mlp_layer_types\": element 1: expected \"dense\" or \"sparse\", "
     "found \"no string\""},
    {hy_v3, "{\"num_hidden_layers\": 1}",
     "c: mlp_layer_types leave none of the 1 layers with experts, and models "
     "without any are not run"},
    {glm4_moe, "{\"num_attention_heads\": 8, \"partial_rotary_factor\": 0.4}",
     "c: key \"partial_rotary_factor\": expected an even part of the head "
     "width 8, found 3"},
    {glm4_moe, "{\"head_dim\": 10, \"partial_rotary_factor\": 0}",
     "c: key \"partial_rotary_factor\": expected an even part of the head "
     "width 10, found 0"},
    {glm4_moe, "{\"head_dim\": 10, \"partial_rotary_factor\": 1.5}",
     "c: key \"partial_rotary_factor\": expected 0 to 1, found 1.5"},
    {glm4_moe, "{\"use_qk_norm\": 1}",
     "c: key \"use_qk_norm\": expected true or false, found an integer"},
    {minimax_m2, "{\"rotary_dim\": 130}",
     "c: key \"rotary_dim\": expected 1 to 128, found 130"},
    {sarvam_moe, "{\"n_shared_experts\": 1}",
     "c: key \"num_shared_experts\": expected the value of "
     "\"n_shared_experts\", which it is another name of, found another"},
    {sarvam_moe, "{\"architectures\": [\"Glm4MoeModel\"]}",
     "c: key \"architectures\": expected \"SarvamMoEForCausalLM\" for "
     "model_type \"sarvam_moe\", found \"Glm4MoeModel\""},
    {granitemoeshared, "{\"logits_scaling\": 0}",
     "c: key \"logits_scaling\": expected 1e-06 to 1e+06, found 0"},
    {granitemoeshared, "{\"attention_bias\": true}",
     "c: key \"attention_bias\": expected false (a bias of the output "
     "projection is not implemented), found true"},
    {aria_text, "{\"moe_topk\": 13}",
     "c: key \"moe_topk\": expected 1 to 12, found 13"},
    {ernie4_5_moe, "{\"use_bias\": true}",
     "c: key \"use_bias\": expected false (biases of feed-forward blocks are "
     "not implemented), found true"},
    {ernie4_5_moe, "{\"moe_norm_min\": 0.5}",
     "c: key \"moe_norm_min\": expected 0 to 1e-12, found 0.5"},
    {ernie4_5_moe, "{\"num_experts_per_tok\": 2}",
     "c: key \"num_experts_per_tok\": expected the value of \"moe_k\", which "
     "it is another name of, found another"},
    {ernie4_5_moe, "{\"moe_layer_start_index\": 4}",
     "c: moe_layer_start_index, moe_layer_end_index and moe_layer_interval "
     "leave none of the 4 layers with experts, and models without any are not "
     "run"},
    {aria_text, "{\"mlp_bias\": true}",
     "c: key \"mlp_bias\": expected false (biases of feed-forward blocks are "
     "not implemented), found true"},
    {solar_open, "{\"rope_scaling\": {\"factor\": 4}}",
     "c: key \"rope_scaling\": expected a rope_type, found a factor without "
     "one"},
    {solar_open, "{\"rope_scaling\": {\"rope_type\": \"su\"}}",
     "c: rope_type: expected one of default, linear, dynamic, llama3, yarn, "
     "longrope, found \"su\""},
    {solar_open, "{\"rope_scaling\": {\"type\": \"linear\"}}",
     "c: key \"factor\" of the rotary positions: expected a number, found "
     "nothing"},
    {solar_open, "{\"rope_scaling\": {\"type\": \"dynamic\", \"factor\": 0.5}}",
     "c: key \"factor\": expected 1 to 1e+06, found 0.5"},
    {solar_open,
     "{\"rope_scaling\": {\"type\": \"llama3\", \"factor\": 8, "
     "\"low_freq_factor\": 4, \"high_freq_factor\": 4}}",
     "c: key \"high_freq_factor\": expected more than low_freq_factor"},
    {solar_open,
     "{\"rope_theta\": 1, \"rope_scaling\": {\"type\": \"yarn\", "
     "\"factor\": 8}}",
     "c: key \"rope_theta\": expected more than 1 with yarn"},
    {solar_open,
     "{\"head_dim\": 8, \"rope_scaling\": {\"type\": \"longrope\", "
     "\"short_factor\": [1, 2, 3]}}",
     "c: key \"short_factor\" of the rotary positions: expected an array of 4 "
     "numbers"},
    {solar_open,
     "{\"head_dim\": 8, \"rope_scaling\": {\"type\": \"longrope\", "
     "\"short_factor\": [1, 2, 0, 3]}}",
     "c: key \"short_factor\" of the rotary positions: element 2: expected a "
     "number of at least 0.1"},
    {solar_open, "{\"sliding_window\": 64}",
     "c: key \"sliding_window\": expected null (layers of solar_open have no "
     "windows), found 64"},
};

static void refusals_name_key_expected_and_found(void **state) {
  (void)state;
  check_refusals(refusals, sizeof refusals / sizeof *refusals);
}

/* The hub's spellings, then those of transformers in memory. */
static void tensors_have_their_names(void **state) {
  (void)state;
  static const struct {
    const char *base;
    moerun__role role;
    const char *names[2]; /* behind "model.layers.2." */
  } cases[] = {
      {solar_open,
       MOERUN_ROLE_CHOICE_BIAS,
       {"mlp.gate.e_score_correction_bias", NULL}},
      {hy_v3, MOERUN_ROLE_GATE, {"mlp.router.gate.weight", "mlp.gate.weight"}},
      {hy_v3,
       MOERUN_ROLE_CHOICE_BIAS,
       {"mlp.expert_bias", "mlp.e_score_correction_bias"}},
      {hy_v3,
       MOERUN_ROLE_SHARED_UP,
       {"mlp.shared_mlp.up_proj.weight", "mlp.shared_experts.up_proj.weight"}},
      {granitemoeshared,
       MOERUN_ROLE_FUSED_DOWN,
       {"block_sparse_moe.output_linear.weight",
        "block_sparse_moe.experts.down_proj"}},
      {granitemoeshared,
       MOERUN_ROLE_SHARED_GATE_UP,
       {"shared_mlp.input_linear.weight", "shared_mlp.input_linear.weight"}},
      {granitemoeshared, MOERUN_ROLE_QKV, {NULL, NULL}},
      {sarvam_moe, MOERUN_ROLE_QKV, {"attention.query_key_value.weight", NULL}},
      {sarvam_moe, MOERUN_ROLE_Q, {"self_attn.q_proj.weight", NULL}},
      {sarvam_moe,
       MOERUN_ROLE_O,
       {"attention.dense.weight", "self_attn.o_proj.weight"}},
      {aria_text,
       MOERUN_ROLE_FUSED_GATE_UP,
       {"mlp.experts.fc1.weight", "mlp.experts.gate_up_proj"}},
      {ernie4_5_moe,
       MOERUN_ROLE_CHOICE_BIAS,
       {"mlp.moe_statics.e_score_correction_bias",
        "mlp.gate.moe_statics.e_score_correction_bias"}},
      {flex_olmo,
       MOERUN_ROLE_FFN_AFTER,
       {"post_feedforward_layernorm.weight", NULL}},
      {flex_olmo,
       MOERUN_ROLE_ATTENTION_AFTER,
       {"post_attention_layernorm.weight", NULL}},
      {minimax_m2,
       MOERUN_ROLE_CHOICE_BIAS,
       {"block_sparse_moe.e_score_correction_bias",
        "mlp.e_score_correction_bias"}},
      {minimax_m2,
       MOERUN_ROLE_EXPERT_UP,
       {"block_sparse_moe.experts.5.w3.weight", "mlp.experts.5.w3.weight"}},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    moerun__model_config c;
    char name[MOERUN_TENSOR_NAME];
    char want[MOERUN_TENSOR_NAME];
    assert_int_equal(read_changed(&c, cases[i].base, "{}"), MOERUN_OK);
    for (int v = 0; v < 2; v++) {
      const int has = cases[i].names[v] != NULL;
      assert_int_equal(
          moerun__arch_tensor_name(name, c.arch, cases[i].role, 2, 5, v), has);
      (void)snprintf(want, sizeof want, "model.layers.2.%s",
                     has ? cases[i].names[v] : "");
      assert_string_equal(name, has ? want : "");
    }
    moerun__model_config_clear(&c);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(keys_have_their_meaning),
      cmocka_unit_test(scaled_positions_are_read),
      cmocka_unit_test(multipliers_are_read),
      cmocka_unit_test(refusals_name_key_expected_and_found),
      cmocka_unit_test(tensors_have_their_names),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
