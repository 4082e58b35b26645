/* Which layers see a window, and which rotary positions they have: one
 * character a layer, '.' for one that sees everything, 'w' with a window; then
 * the number of its rotary positions, '-' for none. */
#include "support/config_text.h"

#include <math.h>

static const char mixtral[] =
    "{\"model_type\": \"mixtral\", \"hidden_size\": 64, "
    "\"num_hidden_layers\": 3, \"num_attention_heads\": 8, "
    "\"vocab_size\": 300, \"num_local_experts\": 8, "
    "\"num_experts_per_tok\": 2, \"intermediate_size\": 24}";
static const char qwen3[] =
    "{\"model_type\": \"qwen3_moe\", \"hidden_size\": 64, "
    "\"num_hidden_layers\": 2, \"num_attention_heads\": 8, "
    "\"vocab_size\": 300, \"num_experts\": 8, \"num_experts_per_tok\": 2, "
    "\"moe_intermediate_size\": 24, \"intermediate_size\": 48}";
static const char qwen2[] =
    "{\"model_type\": \"qwen2_moe\", \"hidden_size\": 64, "
    "\"num_hidden_layers\": 6, \"num_attention_heads\": 16, "
    "\"vocab_size\": 300, \"num_experts\": 8, \"num_experts_per_tok\": 2, "
    "\"moe_intermediate_size\": 24, \"intermediate_size\": 48, "
    "\"shared_expert_intermediate_size\": 50}";
static const char dots1[] =
    "{\"model_type\": \"dots1\", \"hidden_size\": 64, "
    "\"num_hidden_layers\": 4, \"num_attention_heads\": 32, "
    "\"vocab_size\": 300, \"n_routed_experts\": 12, "
    "\"num_experts_per_tok\": 3, \"n_shared_experts\": 2, "
    "\"moe_intermediate_size\": 24, \"intermediate_size\": 48}";

static const struct {
  const char *config;
  const char *change;
  const char *layers;
  int32_t window; /* of those with one */
} cases[] = {
    {mixtral, "{}", ".0.0.0", 0},
    {mixtral, "{\"sliding_window\": 4096}", "w0w0w0", 4096},
    {mixtral, "{\"sliding_window\": 131072}", ".0.0.0", 0}, /* none is longer */
    {qwen3, "{\"sliding_window\": 16}", ".0.0", 0},
    /* It does not look at types. */
    {qwen3,
     "{\"sliding_window\": 16, \"use_sliding_window\": true, "
     "\"layer_types\": [\"full_attention\"]}",
     "w0w0", 16},
    {qwen3, "{\"use_sliding_window\": true}", "w0w0", 4096},
    {qwen3, "{\"use_sliding_window\": true, \"sliding_window\": null}", ".0.0",
     0},
    {qwen2, "{\"use_sliding_window\": true}", "w0.0w0.0w0.0", 4096},
    {qwen2,
     "{\"use_sliding_window\": true, \"sliding_window\": 3, "
     "\"max_window_layers\": 3}",
     "w0.0w0.0.0.0", 3},
    {qwen2,
     "{\"use_sliding_window\": true, \"num_hidden_layers\": 3, "
     "\"layer_types\": [\"full_attention\", \"sliding_attention\", "
     "\"full_attention\"]}",
     ".0w0.0", 4096},
    {dots1, "{\"sliding_window\": 7}", ".0.0.0.0", 0},
    {dots1, "{\"sliding_window\": 7, \"max_window_layers\": 3}", ".0.0.0w0", 7},
    {dots1,
     "{\"sliding_window\": 7, \"num_hidden_layers\": 2, \"layer_types\": "
     "[\"sliding_attention\", \"full_attention\"]}",
     "w0.0", 7},
};

static void layers_see_what_their_family_says(void **state) {
  (void)state;
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    moerun__model_config c;
    char found[2 * 64 + 1] = "";
    assert_int_equal(read_changed(&c, cases[i].config, cases[i].change),
                     MOERUN_OK);
    for (int32_t l = 0; l < c.num_layers; l++) {
      const moerun__attention_layer layer =
          moerun__config_attention_layer(&c, l);
      assert_true(layer.rope < c.num_ropes);
      assert_true(layer.window == 0 || layer.window == cases[i].window);
      found[2 * l] = layer.window == 0 ? '.' : 'w';
      found[2 * l + 1] = (char)(layer.rope < 0 ? '-' : '0' + layer.rope);
    }
    assert_string_equal(found, cases[i].layers);
    moerun__model_config_clear(&c);
  }
}

int main(void) {
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(layers_see_what_their_family_says),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
