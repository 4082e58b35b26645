/* A model as data: what config.json says (arch.c turns each architecture's keys
 * into these fields), and this rank's weights packed for the kernels. */
#ifndef MOERUN_MODEL_MODEL_H
#define MOERUN_MODEL_MODEL_H

#include "comm/comm.h"
#include "kernels/kernels.h"
#include "placement/map/placement.h"
#include "runtime/base/byte_watch.h"
#include "runtime/model/attention.h"
#include "runtime/model/expert.h"

/* A decoder layer. */
typedef struct moerun__layer {
  float *attention_norm;  /* [H]; NULL: the block reads the rows as they are */
  float *attention_after; /* [H] norm of what attention gave; NULL: none     */
  moerun__attention_weight attention[MOERUN_ATTENTION_WEIGHTS]; /* as the kind
                                                          numbers its parts */
  float *ffn_norm;       /* [H]; as attention_norm                          */
  float *ffn_after;      /* [H]; as attention_after                         */
  int32_t moe_layer;     /* index among the MoE layers; -1: dense FFN      */
  moerun__weight gate;   /* MoE: an output for each choice                 */
  float *choice_bias;    /* MoE: [choices] or NULL                         */
  moerun__expert shared; /* MoE: the shared experts as one */
  moerun__weight shared_weight; /* MoE: 1 output, before the sigmoid */
  moerun__weight mix;      /* MoE: two outputs for each constant expert   */
  float *constant;         /* MoE: [constant experts][H]; NULL: none      */
  int32_t num_slots;       /* MoE: L of this rank                         */
  moerun__expert *experts; /* MoE: [L], or NULL                           */
  int32_t num_locks;       /* of the experts, one of each session (own.c) */
  moerun__expert dense;    /* dense: what every row goes through          */
} moerun__layer;

struct moerun_model {
  moerun_comm *comm;                 /* borrowed */
  const moerun_placement *placement; /* borrowed */
  moerun__model_config config;       /* tied_head: as the checkpoint has it */
  int32_t moe_only;
  moerun__layer *layers;    /* [num_layers] */
  moerun__weight embedding; /* V outputs, H inputs: row gather; also the head
                               when the two are tied                        */
  moerun__weight head;      /* V outputs */
  float *final_norm;        /* [H] */
  size_t weight_bytes;      /* all of the above, as allocated */
  size_t expert_bytes;      /* of which experts */
  uint64_t digest;          /* of all bytes read, on all ranks together */
};

/* [collective] moerun_model_load of a whole decoder. watch: of the weights that
 * this rank reads, or NULL. */
moerun_status moerun__model_load_watched(moerun_model **out, moerun_comm *comm,
                                         const moerun_placement *placement,
                                         const char *path,
                                         const moerun__byte_watch *watch);

/* That there is a placement, and for as many ranks as the comm has. */
moerun_status moerun__model_ranks_check(const moerun_placement *placement,
                                        const moerun_comm *comm);

/* ERR_SHAPE where the placement is not one of this model; `origin`: what the
 * model comes from, for the message. */
moerun_status moerun__model_placement_check(const moerun__model_config *config,
                                            const moerun_placement *placement,
                                            const char *origin);

/* The decoder layer that is MoE layer number moe_layer. */
const moerun__layer *moerun__model_layer(const moerun_model *model,
                                         int32_t moe_layer);
/* [collective] The shape of its experts, known where there are any. */
moerun_status moerun__model_expert_shape(moerun__expert_shape *out,
                                         const moerun_model *model,
                                         int32_t moe_layer);

/* Bytes that moerun_model_load allocates on `rank`, from the headers alone. */
typedef struct moerun__model_size {
  size_t weight_bytes;
  size_t expert_bytes;
  size_t staging_bytes;        /* while loading, given back afterwards */
  moerun__expert_shape expert; /* of all layers the largest; zeroed: no MoE */
  int tied_head; /* the head is the embedding, by what is stored */
} moerun__model_size;

moerun_status moerun__model_size_load(moerun__model_size *out, const char *path,
                                      const moerun_placement *placement,
                                      int32_t rank, int32_t moe_only);

#endif
