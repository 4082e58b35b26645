/* Ranks read the checkpoint each for itself. Where one of them sees other
 * files, loading would fail much later or, worse, not at all; so each compares
 * what it has read of headers and configuration with what rank 0 has, before
 * the first weight is read. Weights themselves:
 * runtime/model/weights_digest.h. */
#include "runtime/model/same_model.h"

#include "runtime/base/digest.h"
#include "runtime/model/rope_kinds.h"

#include <string.h>

enum { NUM_FACTS = 5 };

static const char *const fact_names[NUM_FACTS] = {
    "config.json", "the token ids of generation_config.json and config.json",
    "the tensors' names, types and shapes", "the placement", "moe_only"};

static uint64_t digest_reals(uint64_t digest, const double *real,
                             size_t count) {
  for (size_t i = 0; i < count; i++) {
    int64_t bits = 0;
    memcpy(&bits, &real[i], sizeof bits);
    digest = moerun__digest_int(digest, bits);
  }
  return digest;
}

static uint64_t attention_digest(const moerun__model_config *c) {
  uint64_t digest = moerun__digest_int(MOERUN_DIGEST_START, c->num_ropes);
  for (int32_t i = 0; i < c->num_ropes; i++) {
    const moerun__rope *rope = &c->rope[i];
    if (rope->kind != NULL) {
      digest = moerun__digest_text(digest, moerun__rope_kind_name(rope->kind));
    }
    digest = moerun__digest_int(digest, rope->width);
    digest = digest_reals(digest, &rope->theta, 1);
  }
  for (int32_t l = 0; l < c->num_layers; l++) {
    const moerun__attention_layer of = moerun__config_attention_layer(c, l);
    digest = moerun__digest_int(digest, of.window);
    digest = moerun__digest_int(digest, of.rope);
  }
  return digest;
}

static uint64_t config_digest(const moerun__model_identity *identity) {
  const moerun__model_config *c = identity->config;
  const int64_t whole[] = {c->num_layers,
                           c->hidden_width,
                           c->num_heads,
                           c->num_kv_heads,
                           c->head_dim,
                           c->num_experts,
                           c->expert_width,
                           c->dense_width,
                           c->vocab_size,
                           c->experts_per_token,
                           c->tied_head,
                           c->max_positions,
                           c->qk_norm,
                           c->gate_rule.renormalise,
                           c->gate_rule.num_groups,
                           c->gate_rule.best_groups,
                           c->shared_width,
                           c->has_qkv_bias};
  const double real[] = {c->norm_eps,
                         c->clip_qkv,
                         c->embedding_scale,
                         c->residual_scale,
                         c->attention_scale,
                         c->logit_divisor,
                         (double)c->gate_rule.scale};
  uint64_t digest = MOERUN_DIGEST_START;
  if (c->arch != NULL) {
    digest = moerun__digest_text(digest, moerun__arch_name(c->arch));
  }
  for (size_t i = 0; i < sizeof whole / sizeof *whole; i++) {
    digest = moerun__digest_int(digest, whole[i]);
  }
  digest = digest_reals(digest, real, sizeof real / sizeof *real);
  digest = moerun__digest_int(digest, (int64_t)attention_digest(c));
  digest = moerun__digest_ints(digest, c->num_home, MOERUN_HOME_KINDS);
  digest = moerun__digest_ints(digest, c->own, MOERUN_OWN_SIZES);
  return moerun__digest_ints(digest, c->moe_layer, (size_t)c->num_layers);
}

/* generation_config.json may have other ids than config.json. */
static uint64_t tokens_digest(const moerun__model_config *c) {
  const uint64_t digest = moerun__digest_int(MOERUN_DIGEST_START, c->bos_token);
  return moerun__digest_ints(digest, c->eos_token, (size_t)c->num_eos);
}

static uint64_t placement_digest(const moerun_placement *p) {
  const size_t rows = (size_t)p->num_layers * (size_t)p->num_experts;
  const size_t replicas = (size_t)p->replica_offset[rows];
  uint64_t digest = MOERUN_DIGEST_START;
  digest = moerun__digest_ints(digest, p->replica_offset, rows + 1);
  digest = moerun__digest_ints(digest, p->rank_of, replicas);
  return moerun__digest_ints(digest, p->slot_of, replicas);
}

moerun_status moerun__same_model(moerun_comm *comm,
                                 const moerun__model_identity *identity) {
  moerun_status status = MOERUN_OK;
  const uint64_t mine[NUM_FACTS] = {
      config_digest(identity), tokens_digest(identity->config),
      identity->shards != NULL ? moerun__shards_digest(identity->shards) : 0,
      placement_digest(identity->placement), (uint64_t)identity->moe_only};
  uint64_t first[NUM_FACTS];
  memcpy(first, mine, sizeof first);
  MOERUN_TRY(comm->ops->broadcast(comm, first, sizeof first));
  for (int i = 0; i < NUM_FACTS; i++) {
    MOERUN_REQUIRE(mine[i] == first[i], MOERUN_ERR_SHAPE,
                   "%s: expected %s as on rank 0, found another",
                   identity->path, fact_names[i]);
  }
done:
  return status;
}
