/* config.json with the keys that Hugging Face writes for each architecture, so
 * that its libraries load the checkpoint too; and the tokenizer of the demo
 * model: byte-level, without merges, so that any text can be a prompt. */
#include "runtime/model/synth_json.h"

#include "runtime/model/arch_row.h"
#include "runtime/model/attention.h"

#include <string.h>

static const char *boolean(int value) {
  return value ? "true" : "false";
}

static moerun_status print_home(moerun__text *out,
                                const moerun__synth_options *o) {
  moerun_status status = MOERUN_OK;
  for (int kind = 0; kind < MOERUN_HOME_KINDS; kind++) {
    if (o->num_home[kind] == 0) continue;
    MOERUN_TRY(moerun__text_print(out, "  \"%s\": %d,\n",
                                  moerun__home_key((moerun__home_kind)kind),
                                  o->num_home[kind]));
  }
done:
  return status;
}

static moerun_status print_dense(moerun__text *out, const moerun__arch *arch,
                                 const moerun__synth_options *o) {
  moerun_status status = MOERUN_OK;
  const int64_t usual = (int64_t)o->experts_per_token * o->expert_width;
  MOERUN_TRY(moerun__text_print(out, "  \"intermediate_size\": %lld,\n",
                                o->dense_width != 0 ? (long long)o->dense_width
                                                    : (long long)usual));
  if (arch->dense == MOERUN_DENSE_LEADING) {
    MOERUN_TRY(moerun__text_print(out, "  \"first_k_dense_replace\": %d,\n",
                                  o->num_dense));
    goto done;
  }
  if (arch->dense == MOERUN_DENSE_RANGE) {
    MOERUN_TRY(moerun__text_print(out,
                                  "  \"moe_layer_start_index\": %d,\n"
                                  "  \"moe_layer_end_index\": -1,\n"
                                  "  \"moe_layer_interval\": 1,\n",
                                  o->num_dense));
    goto done;
  }
  if (arch->dense == MOERUN_DENSE_TYPES) {
    MOERUN_TRY(moerun__text_print(out, "  \"mlp_layer_types\": ["));
    for (int32_t l = 0; l < o->num_layers; l++) {
      MOERUN_TRY(moerun__text_print(out, "%s\"%s\"", l > 0 ? ", " : "",
                                    l < o->num_dense ? "dense" : "sparse"));
    }
    MOERUN_TRY(moerun__text_print(out, "],\n"));
    goto done;
  }
  MOERUN_TRY(moerun__text_print(
      out, "  \"decoder_sparse_step\": 1,\n  \"mlp_only_layers\": ["));
  for (int32_t l = 0; l < o->num_dense; l++) {
    MOERUN_TRY(moerun__text_print(out, "%s%d", l > 0 ? ", " : "", l));
  }
  MOERUN_TRY(moerun__text_print(out, "],\n"));
done:
  return status;
}

static moerun_status print_gate(moerun__text *out, const moerun__arch *arch) {
  moerun_status status = MOERUN_OK;
  if (arch->renormalise_key != NULL) {
    MOERUN_TRY(moerun__text_print(out, "  \"%s\": %s,\n", arch->renormalise_key,
                                  boolean(arch->usually_renormalised)));
  }
  if (arch->scale_key != NULL) {
    MOERUN_TRY(moerun__text_print(out, "  \"%s\": %.3f,\n", arch->scale_key,
                                  arch->usual_scale));
  }
  if (arch->has_groups) {
    MOERUN_TRY(
        moerun__text_print(out, "  \"n_group\": 1,\n  \"topk_group\": 1,\n"));
  }
done:
  return status;
}

static moerun_status print_shared(moerun__text *out, const moerun__arch *arch,
                                  const moerun__synth_options *o) {
  moerun_status status = MOERUN_OK;
  const int32_t count = o->shared_experts != 0 ? o->shared_experts : 1;
  if (arch->shared_count_key != NULL) {
    MOERUN_TRY(moerun__text_print(out, "  \"%s\": %d,\n",
                                  arch->shared_count_key, count));
  }
  if (arch->shared_width_key != NULL) {
    MOERUN_TRY(moerun__text_print(out, "  \"%s\": %lld,\n",
                                  arch->shared_width_key,
                                  (long long)count * o->expert_width));
  }
done:
  return status;
}

/* Whether the attention of these models has heads: other kinds read sizes of
 * their own. */
static int has_heads(const moerun__arch *arch) {
  return arch == NULL ||
         moerun__attention_find(arch->attention, MOERUN_ROLE_Q) != NULL;
}

static const char *top_k_key(const moerun__arch *arch) {
  return arch != NULL && arch->top_k_key != NULL ? arch->top_k_key
                                                 : "num_experts_per_tok";
}

/* As published models of the families with multipliers have them. */
static moerun_status print_multipliers(moerun__text *out,
                                       const moerun__arch *arch) {
  if (!arch->has_multipliers) return MOERUN_OK;
  return moerun__text_print(out, "  \"attention_multiplier\": 0.125,\n"
                                 "  \"embedding_multiplier\": 12.0,\n"
                                 "  \"logits_scaling\": 6.0,\n"
                                 "  \"residual_multiplier\": 0.22,\n");
}

/* Whether the key of the biases, which is there, is this one. */
static int has_attention_bias(const moerun__arch *arch) {
  return arch != NULL && arch->qkv_bias_key != NULL &&
         strcmp(arch->qkv_bias_key, "attention_bias") == 0;
}

static moerun_status print_window(moerun__text *out,
                                  const moerun__window_pattern *window) {
  moerun_status status = MOERUN_OK;
  if (window->on_key != NULL) {
    MOERUN_TRY(moerun__text_print(out, "  \"%s\": false,\n", window->on_key));
  }
  if (window->usual > 0) {
    MOERUN_TRY(moerun__text_print(out, "  \"sliding_window\": %lld,\n",
                                  (long long)window->usual));
  } else {
    MOERUN_TRY(moerun__text_print(out, "  \"sliding_window\": null,\n"));
  }
done:
  return status;
}

/* The keys in which the architectures differ. */
static moerun_status print_family(moerun__text *out, const moerun__arch *arch,
                                  const moerun__synth_options *o) {
  moerun_status status = MOERUN_OK;
  MOERUN_TRY(moerun__text_print(out, "  \"%s\": %d,\n  \"%s\": %d,\n",
                                arch->experts_key, o->num_experts,
                                arch->width_key, o->expert_width));
  MOERUN_TRY(print_gate(out, arch));
  MOERUN_TRY(print_multipliers(out, arch));
  MOERUN_TRY(print_shared(out, arch, o));
  if (arch->qkv_bias_key != NULL) {
    MOERUN_TRY(
        moerun__text_print(out, "  \"%s\": true,\n", arch->qkv_bias_key));
  }
  if (arch->qk_norm_key != NULL) {
    MOERUN_TRY(moerun__text_print(out, "  \"%s\": true,\n", arch->qk_norm_key));
  }
  MOERUN_TRY(print_window(out, &arch->window));
  MOERUN_TRY(print_home(out, o));
  if (moerun__arch_has_dense(arch)) {
    MOERUN_TRY(print_dense(out, arch, o));
  }
  if (arch->has_clip_qkv) {
    MOERUN_TRY(moerun__text_print(out, "  \"clip_qkv\": null,\n"));
  }
  if (has_heads(arch) && (arch->has_head_dim || o->heads.head_dim != 0)) {
    MOERUN_TRY(
        moerun__text_print(out, "  \"head_dim\": %d,\n",
                           o->heads.head_dim != 0 || o->heads.num_heads < 1
                               ? o->heads.head_dim
                               : o->hidden_width / o->heads.num_heads));
  }
done:
  return status;
}

moerun_status moerun__synth_config(moerun__text *out,
                                   const moerun__synth_options *options) {
  moerun_status status = MOERUN_OK;
  const moerun__synth_options *o = options;
  const moerun__arch *arch = moerun__arch_find(o->arch);
  MOERUN_TRY(moerun__text_print(out, "{\n"));
  if (arch != NULL) { /* else reading it back says which there are */
    MOERUN_TRY(moerun__text_print(out, "  \"architectures\": [\"%s\"],\n",
                                  arch->class_name));
    MOERUN_TRY(print_family(out, arch, o));
  }
  MOERUN_TRY(moerun__text_print(
      out,
      "%s  \"attention_dropout\": 0.0,\n"
      "  \"hidden_act\": \"silu\",\n  \"hidden_size\": %d,\n"
      "  \"initializer_range\": 0.02,\n  \"max_position_embeddings\": %d,\n"
      "  \"model_type\": ",
      has_attention_bias(arch) ? "" : "  \"attention_bias\": false,\n",
      o->hidden_width, o->max_positions != 0 ? o->max_positions : 4096));
  MOERUN_TRY(moerun__text_json(out, o->arch, strlen(o->arch)));
  if (has_heads(arch)) {
    MOERUN_TRY(moerun__text_print(out, ",\n  \"num_attention_heads\": %d",
                                  o->heads.num_heads));
  }
  MOERUN_TRY(moerun__text_print(out,
                                ",\n  \"%s\": %d,\n"
                                "  \"num_hidden_layers\": %d,\n",
                                top_k_key(arch), o->experts_per_token,
                                o->num_layers));
  if (has_heads(arch)) {
    MOERUN_TRY(moerun__text_print(out, "  \"num_key_value_heads\": %d,\n",
                                  o->heads.num_kv_heads != 0
                                      ? o->heads.num_kv_heads
                                      : o->heads.num_heads));
  }
  MOERUN_TRY(moerun__text_print(
      out,
      "  \"rms_norm_eps\": 1e-06,\n  \"rope_scaling\": null,\n"
      "  \"rope_theta\": 10000.0,\n"
      "  \"tie_word_embeddings\": %s,\n  \"torch_dtype\": \"%s\",\n"
      "  \"use_cache\": true,\n  \"vocab_size\": %d,\n",
      boolean(o->tied_head), moerun__dtype_at(o->dtype)->torch_name,
      o->vocab_size));
  if (o->vocab_size >= MOERUN_SYNTH_TOKENS) {
    MOERUN_TRY(
        moerun__text_print(out,
                           "  \"bos_token_id\": %d,\n  \"eos_token_id\": %d,\n"
                           "  \"pad_token_id\": null\n}\n",
                           MOERUN_SYNTH_BOS, MOERUN_SYNTH_EOS));
  } else {
    MOERUN_TRY(moerun__text_print(out, "  \"bos_token_id\": null,\n"
                                       "  \"eos_token_id\": null,\n"
                                       "  \"pad_token_id\": null\n}\n"));
  }
done:
  return status;
}

moerun_status moerun__synth_generation(moerun__text *out) {
  return moerun__text_print(out,
                            "{\n  \"bos_token_id\": %d,\n"
                            "  \"do_sample\": false,\n"
                            "  \"eos_token_id\": %d\n}\n",
                            MOERUN_SYNTH_BOS, MOERUN_SYNTH_EOS);
}

/* The code point that byte-level vocabularies show for a byte: itself where it
 * is printable, else the next unused one from U+0100 on (GPT-2's table). */
static int shown_as(int byte) {
  int unprintable = 0;
  for (int b = 0; b <= byte; b++) {
    const int printable = (b >= 0x21 && b <= 0x7e) ||
                          (b >= 0xa1 && b <= 0xac) || (b >= 0xae && b <= 0xff);
    if (b == byte) return printable ? b : 0x100 + unprintable;
    unprintable += !printable;
  }
  return byte;
}

static moerun_status print_byte(moerun__text *out, int byte) {
  const int point = shown_as(byte);
  const char one = (char)point;
  const char two[] = {(char)(0xc0 | point >> 6), (char)(0x80 | (point & 0x3f))};
  return point < 0x80 ? moerun__text_json(out, &one, 1)
                      : moerun__text_json(out, two, sizeof two);
}

moerun_status moerun__synth_tokenizer(moerun__text *out) {
  moerun_status status = MOERUN_OK;
  static const char *const special[] = {"<bos>", "<eos>"};
  MOERUN_TRY(moerun__text_print(out, "{\n  \"version\": \"1.0\",\n"
                                     "  \"truncation\": null,\n"
                                     "  \"padding\": null,\n"
                                     "  \"added_tokens\": [\n"));
  for (int i = 0; i < 2; i++) {
    MOERUN_TRY(moerun__text_print(
        out,
        "    {\"id\": %d, \"content\": \"%s\", \"single_word\": false, "
        "\"lstrip\": false, \"rstrip\": false, \"normalized\": false, "
        "\"special\": true}%s\n",
        MOERUN_SYNTH_BOS + i, special[i], i == 0 ? "," : ""));
  }
  MOERUN_TRY(moerun__text_print(
      out,
      "  ],\n  \"normalizer\": null,\n  \"pre_tokenizer\": {\"type\": "
      "\"ByteLevel\", \"add_prefix_space\": false, \"trim_offsets\": true, "
      "\"use_regex\": false},\n  \"post_processor\": null,\n"
      "  \"decoder\": {\"type\": \"ByteLevel\", \"add_prefix_space\": true, "
      "\"trim_offsets\": true, \"use_regex\": true},\n"
      "  \"model\": {\n    \"type\": \"BPE\",\n    \"dropout\": null,\n"
      "    \"unk_token\": null,\n    \"continuing_subword_prefix\": null,\n"
      "    \"end_of_word_suffix\": null,\n    \"fuse_unk\": false,\n"
      "    \"byte_fallback\": false,\n    \"vocab\": {\n"));
  for (int byte = 0; byte < 256; byte++) {
    MOERUN_TRY(moerun__text_print(out, "      "));
    MOERUN_TRY(print_byte(out, byte));
    MOERUN_TRY(
        moerun__text_print(out, ": %d%s\n", byte, byte < 255 ? "," : ""));
  }
  MOERUN_TRY(moerun__text_print(out, "    },\n    \"merges\": []\n  }\n}\n"));
done:
  return status;
}
