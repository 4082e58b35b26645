/* config.json of architectures with shared experts and with gates of
 * DeepSeek-V3's kind. */
#include "support/config_text.h"

/* Only what has no default. */
static const char qwen2[] =
    "{\"model_type\": \"qwen2_moe\", \"hidden_size\": 64, "
    "\"num_hidden_layers\": 4, \"num_attention_heads\": 16, "
    "\"vocab_size\": 300, \"num_experts\": 8, \"num_experts_per_tok\": 2, "
    "\"moe_intermediate_size\": 24, \"intermediate_size\": 48, "
    "\"shared_expert_intermediate_size\": 50}";
static const char dots1[] =
    "{\"model_type\": \"dots1\", \"hidden_size\": 64, "
    "\"num_hidden_layers\": 4, \"num_attention_heads\": 32, "
    "\"vocab_size\": 300, \"n_routed_experts\": 12, "
    "\"num_experts_per_tok\": 3, \"n_shared_experts\": 2, "
    "\"moe_intermediate_size\": 24, \"intermediate_size\": 48}";

static void families_with_shared_experts_have_their_defaults(void **state) {
  (void)state;
  moerun__model_config c;
  assert_int_equal(read_changed(&c, qwen2, "{}"), MOERUN_OK);
  assert_int_equal(c.num_kv_heads, 16);
  assert_int_equal(c.max_positions, 32768);
  assert_true(c.norm_eps == 1e-6 && c.rope[0].theta == 1e4);
  assert_int_equal(c.qk_norm, MOERUN_QK_NORM_NONE);
  assert_int_equal(c.has_qkv_bias, 1);
  assert_int_equal(c.gate_rule.score, MOERUN_SCORE_SOFTMAX);
  assert_int_equal(c.gate_rule.renormalise, 0);
  assert_true(c.gate_rule.scale == 1 && !c.has_choice_bias);
  assert_true(c.shared_width == 50 && c.shared_is_weighted);
  assert_int_equal(c.num_moe_layers, 4);
  moerun__model_config_clear(&c);

  assert_int_equal(read_changed(&c, dots1, "{}"), MOERUN_OK);
  assert_int_equal(c.num_experts, 12);
  assert_int_equal(c.num_kv_heads, 32);
  assert_int_equal(c.max_positions, 2048);
  assert_true(c.norm_eps == 1e-6 && c.rope[0].theta == 1e4);
  assert_int_equal(c.qk_norm, MOERUN_QK_NORM_HEAD);
  assert_int_equal(c.has_qkv_bias, 0);
  assert_int_equal(c.gate_rule.score, MOERUN_SCORE_SIGMOID);
  assert_int_equal(c.gate_rule.renormalise, 0);
  assert_true(c.gate_rule.scale == 1 && c.has_choice_bias);
  assert_int_equal(c.gate_rule.num_groups, 0);
  assert_true(c.shared_width == 48 && !c.shared_is_weighted);
  assert_int_equal(c.num_moe_layers, 4);
  moerun__model_config_clear(&c);
}

static void keys_of_shared_experts_and_gates_are_read(void **state) {
  (void)state;
  moerun__model_config c;
  assert_int_equal(read_changed(&c, qwen2,
                                "{\"qkv_bias\": false, \"norm_topk_prob\": "
                                "true, \"mlp_only_layers\": [0], "
                                "\"sliding_window\": 0, \"head_dim\": 12}"),
                   MOERUN_OK);
  assert_true(!c.has_qkv_bias && c.gate_rule.renormalise && c.head_dim == 12);
  assert_true(c.moe_layer[0] == -1 && c.moe_layer[1] == 0);
  moerun__model_config_clear(&c);

  assert_int_equal(
      read_changed(&c, dots1,
                   "{\"first_k_dense_replace\": 3, \"norm_topk_prob\": true, "
                   "\"routed_scaling_factor\": 2.5, \"n_shared_experts\": 3, "
                   "\"-n_routed_experts\": 0, \"num_local_experts\": 16, "
                   "\"n_group\": 8, \"topk_group\": 2}"),
      MOERUN_OK);
  assert_int_equal(c.num_moe_layers, 1);
  assert_true(c.moe_layer[2] == -1 && c.moe_layer[3] == 0);
  assert_int_equal(c.dense_width, 48);
  assert_int_equal(c.shared_width, 72);
  assert_int_equal(c.num_experts, 16);
  assert_true(c.gate_rule.renormalise && c.gate_rule.scale == 2.5F);
  assert_true(c.gate_rule.num_groups == 8 && c.gate_rule.best_groups == 2);
  moerun__model_config_clear(&c);

  /* As many as there are: no limit. A window that begins behind the last layer
   * is not in force, nor one that layer_types overrules. */
  assert_int_equal(
      read_changed(&c, dots1,
                   "{\"n_group\": 5, \"topk_group\": 5, "
                   "\"max_position_embeddings\": 9999, "
                   "\"sliding_window\": 64, \"max_window_layers\": 4}"),
      MOERUN_OK);
  assert_int_equal(c.gate_rule.num_groups, 0);
  moerun__model_config_clear(&c);
  assert_int_equal(read_changed(&c, dots1,
                                "{\"sliding_window\": 64, "
                                "\"max_window_layers\": 0, \"layer_types\": "
                                "[\"full_attention\", \"full_attention\", "
                                "\"full_attention\", \"full_attention\"]}"),
                   MOERUN_OK);
  moerun__model_config_clear(&c);
  assert_int_equal(read_changed(&c, qwen2,
                                "{\"sliding_window\": 32, "
                                "\"use_sliding_window\": true, "
                                "\"attention_bias\": true, "
                                "\"num_hidden_layers\": 1, "
                                "\"layer_types\": [\"full_attention\"]}"),
                   MOERUN_OK);
  moerun__model_config_clear(&c);
  assert_int_equal(read_changed(&c, dots1, "{\"n_shared_experts\": 0}"),
                   MOERUN_OK);
  assert_int_equal(c.shared_width, 0);
  moerun__model_config_clear(&c);
}

static const refusal refusals[] = {
    {dots1, "{\"layer_types\": [\"sliding_attention\"]}",
     "c: key \"layer_types\": expected 4 elements, one a layer, found 1"},
    {dots1,
     "{\"num_hidden_layers\": 2, \"layer_types\": [\"full_attention\", "
     "\"chunked_attention\"]}",
     "c: key \"layer_types\": element 1: expected \"full_attention\" or "
     "\"sliding_attention\", found \"chunked_attention\""},
    {dots1,
     "{\"num_hidden_layers\": 2, \"sliding_window\": null, \"layer_types\": "
     "[\"full_attention\", \"sliding_attention\"]}",
     "c: key \"layer_types\": element 1: expected \"full_attention\", as no "
     "sliding_window is in force, found \"sliding_attention\""},
    {dots1, "{\"max_window_layers\": -1}",
     "c: key \"max_window_layers\": expected 0 to 2147483647, found -1"},
    {qwen2, "{\"-shared_expert_intermediate_size\": 0}",
     "c: key \"shared_expert_intermediate_size\": expected an integer, found "
     "nothing"},
    {qwen2, "{\"shared_expert_intermediate_size\": 0}",
     "c: key \"shared_expert_intermediate_size\": expected 1 to 131072, found "
     "0"},
    {qwen2, "{\"qkv_bias\": 1}",
     "c: key \"qkv_bias\": expected true or false, found an integer"},
    {dots1, "{\"-n_shared_experts\": 0}",
     "c: key \"n_shared_experts\": expected an integer, found nothing"},
    {dots1, "{\"n_shared_experts\": 5462}",
     "c: key \"n_shared_experts\": expected 0 to 5461, found 5462"},
    {dots1, "{\"attention_bias\": true}",
     "c: key \"attention_bias\": expected false (a bias of the output "
     "projection "
     "is not implemented), found true"},
    {dots1, "{\"first_k_dense_replace\": 4}",
     "c: first_k_dense_replace layers leave none of the 4 layers with "
     "experts, and models without any are not run"},
    {dots1, "{\"first_k_dense_replace\": 1, \"-intermediate_size\": 0}",
     "c: key \"intermediate_size\": expected an integer, found nothing"},
    {dots1, "{\"routed_scaling_factor\": 0}",
     "c: key \"routed_scaling_factor\": expected 1e-06 to 1e+06, found 0"},
    {dots1, "{\"n_group\": 0}",
     "c: key \"n_group\": expected 1 to 2147483647, found 0"},
    {dots1, "{\"n_group\": 5}",
     "c: key \"n_group\": expected equal groups of at least 2 of the 12 "
     "experts, found 5 groups"},
    {dots1, "{\"n_group\": 12, \"topk_group\": 4}",
     "c: key \"n_group\": expected equal groups of at least 2 of the 12 "
     "experts, found 12 groups"},
    {dots1, "{\"n_routed_experts\": 130, \"n_group\": 65}",
     "c: key \"n_group\": expected at most 64 groups, found 65"},
    {dots1, "{\"n_group\": 4, \"num_zero_experts\": 4}",
     "c: key \"n_group\": expected 1 beside null, zero, copy and constant "
     "experts, found 4"},
    {dots1, "{\"n_group\": 4, \"topk_group\": 5}",
     "c: key \"topk_group\": expected 1 to 4, found 5"},
    {dots1, "{\"n_group\": 6, \"topk_group\": 1}",
     "c: key \"topk_group\": expected groups with the 3 experts of a token or "
     "more, found 1 of 2 experts each"},
};

static void refusals_name_key_expected_and_found(void **state) {
  (void)state;
  check_refusals(refusals, sizeof refusals / sizeof *refusals);
}

static void names_and_shapes_follow_the_family(void **state) {
  (void)state;
  moerun__model_config c;
  assert_int_equal(read_changed(&c, qwen2, "{\"num_key_value_heads\": 2}"),
                   MOERUN_OK);
  const struct {
    moerun__role role;
    const char *name;
    int64_t shape[2];
  } of_qwen2[] = {
      {MOERUN_ROLE_Q_BIAS, "self_attn.q_proj.bias", {64, 0}},
      {MOERUN_ROLE_V_BIAS, "self_attn.v_proj.bias", {8, 0}},
      {MOERUN_ROLE_SHARED_UP, "mlp.shared_expert.up_proj.weight", {50, 64}},
      {MOERUN_ROLE_SHARED_DOWN, "mlp.shared_expert.down_proj.weight", {64, 50}},
      {MOERUN_ROLE_SHARED_WEIGHT, "mlp.shared_expert_gate.weight", {1, 64}},
  };
  char name[MOERUN_TENSOR_NAME];
  char wanted[MOERUN_TENSOR_NAME];
  int64_t shape[MOERUN_MAX_DIMS];
  for (size_t i = 0; i < sizeof of_qwen2 / sizeof *of_qwen2; i++) {
    assert_int_equal(
        moerun__arch_tensor_name(name, c.arch, of_qwen2[i].role, 2, 0, 0), 1);
    (void)snprintf(wanted, sizeof wanted, "model.layers.2.%s",
                   of_qwen2[i].name);
    assert_string_equal(name, wanted);
    assert_int_equal(moerun__config_tensor_shape(shape, &c, of_qwen2[i].role),
                     of_qwen2[i].shape[1] == 0 ? 1 : 2);
    assert_true(shape[0] == of_qwen2[i].shape[0]);
    assert_true(shape[1] == of_qwen2[i].shape[1]);
  }
  moerun__model_config_clear(&c);

  assert_int_equal(read_changed(&c, dots1, "{}"), MOERUN_OK);
  assert_int_equal(
      moerun__arch_tensor_name(name, c.arch, MOERUN_ROLE_SHARED_GATE, 1, 0, 0),
      1);
  assert_string_equal(name,
                      "model.layers.1.mlp.shared_experts.gate_proj.weight");
  assert_int_equal(
      moerun__arch_tensor_name(name, c.arch, MOERUN_ROLE_CHOICE_BIAS, 1, 0, 0),
      1);
  assert_string_equal(name, "model.layers.1.mlp.gate.e_score_correction_bias");
  assert_int_equal(
      moerun__config_tensor_shape(shape, &c, MOERUN_ROLE_CHOICE_BIAS), 1);
  assert_true(shape[0] == 12);
  moerun__model_config_clear(&c);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(families_with_shared_experts_have_their_defaults),
      cmocka_unit_test(keys_of_shared_experts_and_gates_are_read),
      cmocka_unit_test(refusals_name_key_expected_and_found),
      cmocka_unit_test(names_and_shapes_follow_the_family),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
