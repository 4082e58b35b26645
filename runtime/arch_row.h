/* One row of the feature table. For what reads or writes the files of an
 * architecture; the decoder only knows moerun__model_config. */
#ifndef MOERUN_RUNTIME_ARCH_ROW_H
#define MOERUN_RUNTIME_ARCH_ROW_H

#include "runtime/arch.h"

struct moerun__arch {
  const char *name;       /* model_type in config.json */
  const char *class_name; /* its entry in "architectures" */

  /* Keys. */
  const char *experts_key;
  const char *width_key;       /* F                                          */
  const char *renormalise_key; /* NULL: the K weights are always renormalised;
                                  else a boolean, false when missing         */
  const char *window_switch;   /* sliding_window counts only when this key is
                                  true; NULL: whenever it is set             */
  int has_dense_layers;        /* mlp_only_layers, decoder_sparse_step, and
                                  intermediate_size as their width           */
  int has_clip_qkv;
  int has_head_dim; /* 0: head_dim is always H / heads */

  /* What a missing key means in this family. */
  int64_t default_kv_heads; /* 0: as many as heads */
  int64_t default_positions;
  double default_theta;
  double default_eps;
  int64_t default_bos; /* -1: none; also ignored when outside V */
  int64_t default_eos;
  int usually_renormalised; /* what released models set renormalise_key to */

  /* Decoder and tensor names. */
  moerun__qk_norm qk_norm;
  const char *moe_prefix[2]; /* hub spelling first; NULL: no second one */
  const char *projection[3]; /* gate, up, down of an expert */
};

/* num_home (arch_home.c), once num_experts is known. */
moerun_status moerun__arch_read_home(moerun__model_config *config,
                                     const json_t *root, const char *origin);

#endif
