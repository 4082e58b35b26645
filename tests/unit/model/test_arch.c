/* config.json: defaults of each family, what each key does, and one clear line
 * for everything that is refused. */
#include "runtime/base/file.h"
#include "support/config_text.h"
#include "support/dtype_names.h"
#include "support/temp_dir.h"
#include "support/warnings.h"

/* Only what has no default. */
static const char qwen3[] =
    "{\"model_type\": \"qwen3_moe\", \"hidden_size\": 64, "
    "\"num_hidden_layers\": 4, \"num_attention_heads\": 8, "
    "\"vocab_size\": 300, \"num_experts\": 8, \"num_experts_per_tok\": 2, "
    "\"moe_intermediate_size\": 24, \"intermediate_size\": 48}";
static const char mixtral[] =
    "{\"model_type\": \"mixtral\", \"hidden_size\": 64, "
    "\"num_hidden_layers\": 4, \"num_attention_heads\": 8, "
    "\"vocab_size\": 300, \"num_local_experts\": 8, "
    "\"num_experts_per_tok\": 2, \"intermediate_size\": 24}";
static const char olmoe[] =
    "{\"model_type\": \"olmoe\", \"hidden_size\": 64, "
    "\"num_hidden_layers\": 4, \"num_attention_heads\": 8, "
    "\"vocab_size\": 300, \"num_experts\": 8, \"num_experts_per_tok\": 2, "
    "\"intermediate_size\": 24}";

static void families_have_their_defaults(void **state) {
  (void)state;
  moerun__model_config c;
  assert_int_equal(read_changed(&c, qwen3, "{}"), MOERUN_OK);
  assert_string_equal(moerun__arch_name(c.arch), "qwen3_moe");
  assert_int_equal(c.num_layers, 4);
  assert_int_equal(c.num_moe_layers, 4);
  assert_int_equal(c.hidden_width, 64);
  assert_int_equal(c.num_heads, 8);
  assert_int_equal(c.num_kv_heads, 4);
  assert_int_equal(c.head_dim, 8);
  assert_int_equal(c.expert_width, 24);
  assert_int_equal(c.dense_width, 0);
  assert_int_equal(c.max_positions, 32768);
  assert_true(c.norm_eps == 1e-6 && c.rope[0].theta == 1e4 && c.clip_qkv == 0);
  assert_int_equal(c.qk_norm, MOERUN_QK_NORM_HEAD);
  assert_int_equal(c.gate_rule.renormalise, 0);
  assert_int_equal(c.tied_head, 0);
  assert_int_equal(c.bos_token, -1);
  assert_int_equal(c.num_eos, 0);
  moerun__model_config_clear(&c);

  assert_int_equal(read_changed(&c, mixtral, "{}"), MOERUN_OK);
  assert_int_equal(c.num_kv_heads, 8);
  assert_int_equal(c.max_positions, 131072);
  assert_true(c.norm_eps == 1e-5 && c.rope[0].theta == 1e6);
  assert_int_equal(c.qk_norm, MOERUN_QK_NORM_NONE);
  assert_int_equal(c.gate_rule.renormalise, 1);
  assert_int_equal(c.bos_token, 1);
  assert_int_equal(c.num_eos, 1);
  assert_int_equal(c.eos_token[0], 2);
  moerun__model_config_clear(&c);

  assert_int_equal(read_changed(&c, olmoe, "{}"), MOERUN_OK);
  assert_int_equal(c.num_kv_heads, 8);
  assert_int_equal(c.max_positions, 4096);
  assert_true(c.norm_eps == 1e-5 && c.rope[0].theta == 1e4);
  assert_int_equal(c.qk_norm, MOERUN_QK_NORM_WHOLE);
  assert_int_equal(c.gate_rule.renormalise, 0);
  assert_int_equal(c.num_eos, 0); /* 50279 is not in this vocabulary */
  assert_true(c.shared_width == 0 && !c.has_choice_bias && !c.has_qkv_bias);
  moerun__model_config_clear(&c);
}

static void keys_are_read(void **state) {
  (void)state;
  moerun__model_config c;
  assert_int_equal(
      read_changed(&c, qwen3,
                   "{\"head_dim\": 24, \"num_key_value_heads\": 2, "
                   "\"norm_topk_prob\": true, \"rope_theta\": 1000000, "
                   "\"rms_norm_eps\": 0.001, \"tie_word_embeddings\": true, "
                   "\"mlp_only_layers\": [0], \"decoder_sparse_step\": 2, "
                   "\"bos_token_id\": 5, \"eos_token_id\": [7, 8, 9], "
                   "\"sliding_window\": 4096, \"use_sliding_window\": false, "
                   "\"rope_scaling\": {\"type\": \"default\"}, "
                   "\"max_position_embeddings\": 99}"),
      MOERUN_OK);
  assert_int_equal(c.head_dim, 24);
  assert_int_equal(c.num_kv_heads, 2);
  assert_int_equal(c.gate_rule.renormalise, 1);
  assert_true(c.rope[0].theta == 1e6 && c.norm_eps == 0.001);
  assert_int_equal(c.tied_head, 1);
  assert_int_equal(c.num_moe_layers, 2); /* layers 1 and 3 */
  assert_int_equal(c.moe_layer[0], -1);
  assert_int_equal(c.moe_layer[1], 0);
  assert_int_equal(c.moe_layer[2], -1);
  assert_int_equal(c.moe_layer[3], 1);
  assert_int_equal(c.dense_width, 48);
  assert_int_equal(c.bos_token, 5);
  assert_int_equal(c.num_eos, 3);
  assert_int_equal(c.eos_token[2], 9);
  moerun__model_config_clear(&c);

  assert_int_equal(
      read_changed(&c, mixtral,
                   "{\"num_key_value_heads\": null, \"eos_token_id\": null, "
                   "\"sliding_window\": null, \"rope_theta\": 3, "
                   "\"layer_types\": [\"full_attention\"], "
                   "\"rope_parameters\": {\"rope_type\": \"default\", "
                   "\"rope_theta\": 12345.5}}"),
      MOERUN_OK);
  assert_int_equal(c.num_kv_heads, 8);
  assert_int_equal(c.num_eos, 0);
  assert_true(c.rope[0].theta == 12345.5);
  moerun__model_config_clear(&c);

  assert_int_equal(read_changed(&c, olmoe,
                                "{\"clip_qkv\": 8.5, \"-num_experts\": 0, "
                                "\"num_local_experts\": 6}"),
                   MOERUN_OK);
  assert_true(c.clip_qkv == 8.5);
  assert_int_equal(c.num_experts, 6);
  moerun__model_config_clear(&c);

  /* A window as long as the context is never in force. */
  assert_int_equal(read_changed(&c, mixtral, "{\"sliding_window\": 131072}"),
                   MOERUN_OK);
  moerun__model_config_clear(&c);
}

/* As transformers does: what these classes do not look at, and what says in
 * other words what they do anyway. */
static void what_changes_nothing_is_accepted(void **state) {
  (void)state;
  static const struct {
    const char *model;
    const char *changes;
  } cases[] = {
      {qwen3, "{\"hidden_act\": \"swish\"}"},
      {qwen3, "{\"mlp_only_layers\": [4, -1, 9223372036854775807]}"},
      {qwen3, "{\"partial_rotary_factor\": 0.5}"},
      {qwen3, "{\"rope_parameters\": {\"partial_rotary_factor\": 0.5}}"},
      {qwen3, "{\"rope_scaling\": {\"type\": \"linear\", \"factor\": 1}}"},
      {mixtral, "{\"attention_bias\": true}"},
      {mixtral, "{\"rope_parameters\": {\"rope_type\": \"linear\", "
                "\"factor\": 1.0}}"},
  };
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    moerun__model_config c;
    moerun__model_config usual;
    if (read_changed(&c, cases[i].model, cases[i].changes) != MOERUN_OK) {
      fail_msg("%s: %s", cases[i].changes, moerun_last_error());
    }
    assert_int_equal(read_changed(&usual, cases[i].model, "{}"), MOERUN_OK);
    assert_true(c.rope[0].theta == usual.rope[0].theta);
    assert_int_equal(c.num_moe_layers, usual.num_moe_layers);
    assert_int_equal(c.has_qkv_bias, 0);
    moerun__model_config_clear(&c);
    moerun__model_config_clear(&usual);
  }
}

static const refusal refusals[] = {
    {qwen3, "{\"model_type\": \"gpt_oss\"}",
     "c: key \"model_type\": expected one of qwen3_moe, mixtral, olmoe, "
     "qwen2_moe, dots1, solar_open, hy_v3, glm4_moe, minimax_m2, granitemoe, "
     "granitemoeshared, sarvam_moe, aria_text, flex_olmo, ernie4_5_moe, found "
     "\"gpt_oss\""},
    {qwen3, "{\"-model_type\": 0}",
     "c: key \"model_type\": expected a string, found nothing"},
    {qwen3, "{\"hidden_act\": \"gelu\"}",
     "c: key \"hidden_act\": expected \"silu\", found \"gelu\""},
    {qwen3, "{\"hidden_act\": 1}",
     "c: key \"hidden_act\": expected a string, found an integer"},
    {qwen3, "{\"attention_bias\": true}",
     "c: key \"attention_bias\": expected false (a bias of the output "
     "projection "
     "is not implemented), found true"},
    {qwen3, "{\"quantization_config\": {\"bits\": 8}}",
     "c: key \"quantization_config\": expected null (weights in " DTYPE_NAMES
     "), found an object"},
    {qwen3, "{\"-hidden_size\": 0}",
     "c: key \"hidden_size\": expected an integer, found nothing"},
    {qwen3, "{\"hidden_size\": \"64\"}",
     "c: key \"hidden_size\": expected an integer, found a string"},
    {qwen3, "{\"hidden_size\": 64.0}",
     "c: key \"hidden_size\": expected an integer, found a real number"},
    {qwen3, "{\"hidden_size\": 0}",
     "c: key \"hidden_size\": expected 1 to 131072, found 0"},
    {qwen3, "{\"hidden_size\": 9223372036854775807}",
     "c: key \"hidden_size\": expected 1 to 131072, found "
     "9223372036854775807"},
    {qwen3, "{\"hidden_size\": 66}",
     "c: key \"hidden_size\": expected a multiple of the 8 attention heads "
     "(there is no head_dim), found 66"},
    {qwen3, "{\"num_hidden_layers\": 1025}",
     "c: key \"num_hidden_layers\": expected 1 to 1024, found 1025"},
    {qwen3, "{\"vocab_size\": -1}",
     "c: key \"vocab_size\": expected 1 to 16777216, found -1"},
    {qwen3, "{\"moe_intermediate_size\": null}",
     "c: key \"moe_intermediate_size\": expected an integer, found nothing"},
    {mixtral, "{\"intermediate_size\": 131073}",
     "c: key \"intermediate_size\": expected 1 to 131072, found 131073"},
    {qwen3, "{\"max_position_embeddings\": 0}",
     "c: key \"max_position_embeddings\": expected 1 to 16777216, found 0"},
    {qwen3, "{\"-num_experts\": 0}",
     "c: key \"num_experts\": expected an integer, found nothing"},
    {mixtral, "{\"-num_local_experts\": 0}",
     "c: key \"num_local_experts\": expected an integer, found nothing"},
    {qwen3, "{\"num_experts\": 32768}",
     "c: key \"num_experts\": expected 1 to 32767, found 32768"},
    {mixtral, "{\"num_experts\": 9}",
     "c: key \"num_experts\": expected 8 as in \"num_local_experts\", found "
     "9"},
    {qwen3, "{\"num_experts_per_tok\": 9}",
     "c: key \"num_experts_per_tok\": expected 1 to 8, found 9"},
    {qwen3, "{\"num_experts\": 100, \"num_experts_per_tok\": 65}",
     "c: key \"num_experts_per_tok\": expected at most 64 experts of a token, "
     "found 65"},
    {qwen3,
     "{\"num_experts_per_tok\": 14, \"num_null_experts\": 1, "
     "\"num_copy_experts\": 4}",
     "c: key \"num_experts_per_tok\": expected 1 to 13, found 14"},
    {olmoe, "{\"num_null_experts\": -1}",
     "c: key \"num_null_experts\": expected 0 to 32767, found -1"},
    {mixtral, "{\"num_zero_experts\": 32768}",
     "c: key \"num_zero_experts\": expected 0 to 32767, found 32768"},
    {qwen3, "{\"num_copy_experts\": \"2\"}",
     "c: key \"num_copy_experts\": expected an integer, found a string"},
    {qwen3, "{\"num_constant_experts\": 17}",
     "c: key \"num_constant_experts\": expected 0 to 16, found 17"},
    {qwen3, "{\"num_null_experts\": 32760, \"num_zero_experts\": 1}",
     "c: placed, null, zero, copy and constant experts: expected at most 32767 "
     "together, found 32769"},
    {qwen3, "{\"num_attention_heads\": 0}",
     "c: key \"num_attention_heads\": expected 1 to 131072, found 0"},
    {qwen3, "{\"num_key_value_heads\": 3}",
     "c: key \"num_key_value_heads\": expected a divisor of the 8 attention "
     "heads, found 3"},
    {qwen3, "{\"num_key_value_heads\": 16}",
     "c: key \"num_key_value_heads\": expected 1 to 8, found 16"},
    {qwen3, "{\"head_dim\": 15}",
     "c: key \"head_dim\": expected an even head width, found 15"},
    {qwen3, "{\"hidden_size\": 72}",
     "c: hidden_size / num_attention_heads: expected an even head width, found "
     "9"},
    {qwen3, "{\"head_dim\": 4098}",
     "c: key \"head_dim\": expected 1 to 4096, found 4098"},
    {qwen3, "{\"head_dim\": 4096, \"num_attention_heads\": 64}",
     "c: num_attention_heads * head_dim: expected at most 131072, found "
     "262144"},
    {olmoe, "{\"head_dim\": 16}",
     "c: key \"head_dim\": expected hidden_size / num_attention_heads = 8 for "
     "olmoe, found 16"},
    {qwen3, "{\"rope_scaling\": 4}",
     "c: key \"rope_scaling\": expected an object or null, found an integer"},
    {qwen3,
     "{\"rope_parameters\": {\"rope_type\": \"linear\", \"factor\": 1, "
     "\"partial_rotary_factor\": 0.5}}",
     "c: partial_rotary_factor of the rotary positions: expected 1, found "
     "0.5"},
    {qwen3,
     "{\"partial_rotary_factor\": 0.25, \"rope_scaling\": {\"type\": "
     "\"linear\", \"factor\": 1.0}}",
     "c: key \"partial_rotary_factor\": expected 1, found 0.25"},
    {qwen3, "{\"rope_theta\": 0}",
     "c: key \"rope_theta\": expected 1 to 1e+15, found 0"},
    {qwen3, "{\"rms_norm_eps\": 0}",
     "c: key \"rms_norm_eps\": expected 1e-30 to 1, found 0"},
    {qwen3, "{\"rms_norm_eps\": false}",
     "c: key \"rms_norm_eps\": expected a number, found a boolean"},
    {qwen3, "{\"layer_types\": [\"full_attention\", \"sliding_attention\"]}",
     "c: key \"layer_types\": element 1: expected \"full_attention\", found "
     "\"sliding_attention\""},
    {qwen3, "{\"layer_types\": \"full_attention\"}",
     "c: key \"layer_types\": expected an array, found a string"},
    {qwen3, "{\"norm_topk_prob\": 1}",
     "c: key \"norm_topk_prob\": expected true or false, found an integer"},
    {olmoe, "{\"clip_qkv\": -1}",
     "c: key \"clip_qkv\": expected 1e-30 to 1e+30, found -1"},
    {qwen3, "{\"mlp_only_layers\": [\"1\"]}",
     "c: key \"mlp_only_layers\": element 0: expected an integer, found a "
     "string"},
    {qwen3, "{\"mlp_only_layers\": 1}",
     "c: key \"mlp_only_layers\": expected an array, found an integer"},
    {qwen3, "{\"decoder_sparse_step\": 0}",
     "c: key \"decoder_sparse_step\": expected 1 to 2147483647, found 0"},
    {qwen3, "{\"decoder_sparse_step\": 5}",
     "c: mlp_only_layers and decoder_sparse_step leave none of the 4 layers "
     "with experts, and models without any are not run"},
    {qwen3, "{\"decoder_sparse_step\": 2, \"-intermediate_size\": 0}",
     "c: key \"intermediate_size\": expected an integer, found nothing"},
    {qwen3, "{\"eos_token_id\": [1, \"2\"]}",
     "c: key \"eos_token_id\": expected a token id, found a string"},
    {qwen3, "{\"eos_token_id\": [1, 2, 3, 4, 5, 6, 7, 8, 9]}",
     "c: key \"eos_token_id\": expected at most 8 ids, found 9"},
    {qwen3, "{\"bos_token_id\": 1.0}",
     "c: key \"bos_token_id\": expected a token id, found a real number"},
    {qwen3, "{\"auto_map\": {\"AutoConfig\": \"configuration_x.XConfig\"}}",
     "c: key \"auto_map\": expected none, found code of the checkpoint's own, "
     "which is not run: remove the key if that code computes what "
     "Qwen3MoeForCausalLM of transformers does"},
    {mixtral, "{\"auto_map\": \"modeling_x.X\"}",
     "c: key \"auto_map\": expected none, found code of the checkpoint's own, "
     "which is not run: remove the key if that code computes what "
     "MixtralForCausalLM of transformers does"},
    {qwen3, "{\"architectures\": [\"Qwen3MoeForSequenceClassification\"]}",
     "c: key \"architectures\": expected \"Qwen3MoeForCausalLM\" for "
     "model_type "
     "\"qwen3_moe\", found \"Qwen3MoeForSequenceClassification\""},
    {olmoe, "{\"architectures\": [\"OlmoeForCausalLM\", \"MyModel\"]}",
     "c: key \"architectures\": expected \"OlmoeForCausalLM\" for model_type "
     "\"olmoe\", found \"MyModel\""},
    {olmoe, "{\"architectures\": [1]}",
     "c: key \"architectures\": expected \"OlmoeForCausalLM\" for model_type "
     "\"olmoe\", found \"no string\""},
    {olmoe, "{\"architectures\": \"OlmoeForCausalLM\"}",
     "c: key \"architectures\": expected an array, found a string"},
    {qwen3,
     "{\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"default\", "
     "\"rope_theta\": 777}}}",
     "c: key \"rope_parameters\": expected one set of parameters for all "
     "layers, found parameters by kind of layer (\"full_attention\")"},
    {mixtral,
     "{\"rope_scaling\": {\"rope_theta\": 5, \"sliding_attention\": {}}}",
     "c: key \"rope_scaling\": expected one set of parameters for all layers, "
     "found parameters by kind of layer (\"sliding_attention\")"},
    {qwen3, "{\"rope_scaling\": {\"rope_theta\": 0.5}}",
     "c: key \"rope_theta\": expected 1 to 1e+15, found 0.5"},
};

static void refusals_name_key_expected_and_found(void **state) {
  (void)state;
  check_refusals(refusals, sizeof refusals / sizeof *refusals);
}

/* Where the base stands, and which of several counts: transformers 5.23 in the
 * same order. */
static void rope_base_is_found(void **state) {
  (void)state;
  static const struct {
    const char *change;
    double theta;
  } bases[] = {
      {"{\"rope_theta\": 50}", 50},
      {"{\"rope_scaling\": {\"rope_type\": \"default\", \"rope_theta\": 777}}",
       777},
      {"{\"rope_scaling\": {\"rope_theta\": 777}, \"rope_theta\": 50}", 777},
      {"{\"rope_parameters\": {\"rope_theta\": 777}, \"rope_theta\": 50}", 777},
      {"{\"rope_parameters\": {\"rope_type\": \"default\"}, \"rope_theta\": "
       "50}",
       50},
      {"{\"rope_parameters\": {\"rope_theta\": 3}, \"rope_scaling\": "
       "{\"rope_theta\": 777}}",
       777},
      {"{\"rope_parameters\": {\"rope_theta\": 3}, \"rope_scaling\": "
       "{\"type\": \"default\"}}",
       1e6},
      {"{\"rope_parameters\": {\"rope_theta\": 3}, \"rope_scaling\": {}}", 3},
      {"{\"rope_parameters\": {\"rope_theta\": 3}, \"rope_scaling\": null}", 3},
      {"{\"rope_parameters\": null, \"rope_scaling\": {\"rope_theta\": null}}",
       1e6},
  };
  for (size_t i = 0; i < sizeof bases / sizeof *bases; i++) {
    moerun__model_config c;
    assert_int_equal(read_changed(&c, mixtral, bases[i].change), MOERUN_OK);
    assert_true(c.rope[0].theta == bases[i].theta);
    moerun__model_config_clear(&c);
  }
}

/* Ids that no text can have are left out with a warning, which comes once. */
static void ids_outside_the_vocabulary_are_ignored(void **state) {
  (void)state;
  moerun__model_config c;
  warnings_begin();
  assert_int_equal(
      read_changed(
          &c, mixtral,
          "{\"bos_token_id\": 300, \"pad_token_id\": 301, "
          "\"eos_token_id\": [7, 50279, -1, 299, -2, 3, 4, 5, 6, 8, 9]}"),
      MOERUN_OK);
  assert_int_equal(c.bos_token, -1);
  static const int32_t eos[] = {7, 299, 3, 4, 5, 6, 8, 9};
  assert_int_equal(c.num_eos, 8);
  assert_memory_equal(c.eos_token, eos, sizeof eos);
  moerun__model_config_clear(&c);
  assert_int_equal(read_changed(&c, mixtral, "{\"bos_token_id\": 300}"),
                   MOERUN_OK);
  moerun__model_config_clear(&c);
  assert_string_equal(
      warnings_text,
      "c: key \"bos_token_id\": token id 300 is ignored: the vocabulary has "
      "ids 0 to 299\n"
      "c: key \"eos_token_id\": token id 50279 is ignored: the vocabulary has "
      "ids 0 to 299\n"
      "c: key \"eos_token_id\": token id -2 is ignored: the vocabulary has ids "
      "0 to 299\n");
  warnings_begin();
  assert_int_equal(read_changed(&c, mixtral,
                                "{\"bos_token_id\": -1, \"eos_token_id\": -1, "
                                "\"auto_map\": {}, \"architectures\": "
                                "[\"MixtralForCausalLM\"]}"),
                   MOERUN_OK);
  assert_true(c.bos_token == -1 && c.num_eos == 0);
  moerun__model_config_clear(&c);
  assert_string_equal(warnings_text, "");
  warnings_end();
}

/* In any family; the gate has a row for each, and so many may be chosen. */
static void experts_at_home_are_read(void **state) {
  (void)state;
  static const char keys[] =
      "{\"num_null_experts\": 4, \"num_zero_experts\": null, "
      "\"num_copy_experts\": 2, \"num_constant_experts\": 16, "
      "\"num_experts_per_tok\": 30}";
  static const char *const prefixes[] = {"mlp", "block_sparse_moe", "mlp"};
  const char *const bases[] = {qwen3, mixtral, olmoe};
  for (int i = 0; i < 3; i++) {
    moerun__model_config c;
    char name[MOERUN_TENSOR_NAME];
    char want[MOERUN_TENSOR_NAME];
    int64_t shape[MOERUN_MAX_DIMS];
    assert_int_equal(read_changed(&c, bases[i], "{}"), MOERUN_OK);
    assert_int_equal(moerun__config_choices(&c), 8);
    assert_int_equal(moerun__config_terms(&c), c.experts_per_token);
    moerun__model_config_clear(&c);
    assert_int_equal(read_changed(&c, bases[i], keys), MOERUN_OK);
    const int32_t numbers[] = {4, 0, 2, 16};
    assert_memory_equal(c.num_home, numbers, sizeof numbers);
    assert_int_equal(c.num_experts, 8);
    assert_int_equal(c.experts_per_token, 30);
    assert_int_equal(moerun__config_choices(&c), 30);
    assert_int_equal(moerun__config_terms(&c), 8);
    assert_int_equal(moerun__config_tensor_shape(shape, &c, MOERUN_ROLE_GATE),
                     2);
    assert_true(shape[0] == 30 && shape[1] == 64);
    assert_int_equal(
        moerun__config_tensor_shape(shape, &c, MOERUN_ROLE_CONSTANT_MIX), 2);
    assert_true(shape[0] == 2 && shape[1] == 64);
    assert_int_equal(
        moerun__config_tensor_shape(shape, &c, MOERUN_ROLE_CONSTANT), 1);
    assert_true(shape[0] == 64);
    (void)snprintf(want, sizeof want,
                   "model.layers.2.%s.constant_experts.15.vector", prefixes[i]);
    assert_int_equal(
        moerun__arch_tensor_name(name, c.arch, MOERUN_ROLE_CONSTANT, 2, 15, 0),
        1);
    assert_string_equal(name, want);
    (void)snprintf(want, sizeof want,
                   "model.layers.2.%s.constant_experts.0.gate.weight",
                   prefixes[i]);
    assert_int_equal(moerun__arch_tensor_name(
                         name, c.arch, MOERUN_ROLE_CONSTANT_MIX, 2, 0, 0),
                     1);
    assert_string_equal(name, want);
    moerun__model_config_clear(&c);
  }
}

/* Spellings, and shapes that depend on the family. */
static void names_and_shapes_follow_the_family(void **state) {
  (void)state;
  moerun__model_config c;
  char name[MOERUN_TENSOR_NAME];
  int64_t shape[MOERUN_MAX_DIMS];
  assert_int_equal(read_changed(&c, mixtral, "{}"), MOERUN_OK);
  assert_int_equal(
      moerun__arch_tensor_name(name, c.arch, MOERUN_ROLE_EXPERT_UP, 3, 7, 0),
      1);
  assert_string_equal(name,
                      "model.layers.3.block_sparse_moe.experts.7.w3.weight");
  assert_int_equal(
      moerun__arch_tensor_name(name, c.arch, MOERUN_ROLE_EXPERT_DOWN, 3, 7, 1),
      1);
  assert_string_equal(name, "model.layers.3.mlp.experts.7.w2.weight");
  assert_int_equal(moerun__arch_tensor_name(name, c.arch,
                                            MOERUN_ROLE_FUSED_GATE_UP, 0, 0, 1),
                   1);
  assert_string_equal(name, "model.layers.0.mlp.experts.gate_up_proj");
  assert_int_equal(
      moerun__arch_tensor_name(name, c.arch, MOERUN_ROLE_GATE, 0, 0, 2), 0);
  assert_string_equal(name, "");
  assert_int_equal(
      moerun__arch_tensor_name(name, c.arch, MOERUN_ROLE_Q, 0, 0, 1), 0);
  assert_int_equal(
      moerun__config_tensor_shape(shape, &c, MOERUN_ROLE_FUSED_DOWN), 3);
  assert_true(shape[0] == 8 && shape[1] == 64 && shape[2] == 24);
  moerun__model_config_clear(&c);

  assert_int_equal(read_changed(&c, olmoe, "{\"num_key_value_heads\": 2}"),
                   MOERUN_OK);
  assert_int_equal(moerun__config_tensor_shape(shape, &c, MOERUN_ROLE_Q_NORM),
                   1);
  assert_true(shape[0] == 64);
  assert_int_equal(moerun__config_tensor_shape(shape, &c, MOERUN_ROLE_K_NORM),
                   1);
  assert_true(shape[0] == 16);
  moerun__model_config_clear(&c);
}

static void write_file(const temp_dir *dir, const char *name,
                       const char *text) {
  char path[TEMP_PATH];
  assert_int_equal(
      moerun__file_write(temp_path(path, dir, name), text, strlen(text)),
      MOERUN_OK);
}

static void generation_config_wins(void **state) {
  (void)state;
  temp_dir dir;
  moerun__model_config c;
  char line[2 * TEMP_PATH];
  assert_true(temp_dir_create(&dir));
  assert_int_equal(moerun__model_config_load(&c, dir.path), MOERUN_ERR_IO);
  (void)snprintf(line, sizeof line,
                 "%s/config.json: cannot be opened: no such file or directory: "
                 "expected the folder of a checkpoint that was downloaded "
                 "before",
                 dir.path);
  assert_string_equal(moerun_last_error(), line);

  write_file(&dir, "config.json", mixtral);
  assert_int_equal(moerun__model_config_load(&c, dir.path), MOERUN_OK);
  assert_int_equal(c.eos_token[0], 2);
  moerun__model_config_clear(&c);

  write_file(&dir, "generation_config.json",
             "{\"eos_token_id\": [11, 12], \"temperature\": 0.6}");
  assert_int_equal(moerun__model_config_load(&c, dir.path), MOERUN_OK);
  assert_int_equal(c.bos_token, 1);
  assert_int_equal(c.num_eos, 2);
  assert_int_equal(c.eos_token[0], 11);
  moerun__model_config_clear(&c);

  write_file(&dir, "generation_config.json", "{\"eos_token_id\": [2, -1]}");
  assert_int_equal(moerun__model_config_load(&c, dir.path), MOERUN_OK);
  assert_int_equal(c.num_eos, 1);
  moerun__model_config_clear(&c);

  write_file(&dir, "config.json", "{\"vocab_size\": 3, \"vocab_size\": 4}");
  assert_int_equal(moerun__model_config_load(&c, dir.path), MOERUN_ERR_FORMAT);
  assert_non_null(strstr(moerun_last_error(), "not valid JSON: duplicate"));
  write_file(&dir, "config.json", "[]");
  assert_int_equal(moerun__model_config_load(&c, dir.path), MOERUN_ERR_FORMAT);
  (void)snprintf(line, sizeof line,
                 "%s/config.json: expected a JSON object, found an array",
                 dir.path);
  assert_string_equal(moerun_last_error(), line);
  temp_dir_remove(&dir);
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(families_have_their_defaults),
      cmocka_unit_test(keys_are_read),
      cmocka_unit_test(what_changes_nothing_is_accepted),
      cmocka_unit_test(refusals_name_key_expected_and_found),
      cmocka_unit_test(rope_base_is_found),
      cmocka_unit_test(ids_outside_the_vocabulary_are_ignored),
      cmocka_unit_test(experts_at_home_are_read),
      cmocka_unit_test(names_and_shapes_follow_the_family),
      cmocka_unit_test(generation_config_wins),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
