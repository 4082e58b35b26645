/* The options of place and synth. option_rows.h says how to add one. */
#include "launch/options/option_rows.h"
#include "launch/options/shapes.h"
#include "runtime/base/dtype.h"
#include "runtime/model/arch.h"

static const moerun__config_row cluster[] = {
    TEXT_ROW("topology", "line", PLACE, 0,
             "The cluster, such as \"2 nodes x 4 ranks\"; placement/README.md "
             "has the grammar."),
    INT_ROW("ranks", "0", "ranks", 0, 1048576, PLACE,
            "Number of ranks, all on one node, in place of --topology. With "
            "--describe, the number of blocks that are looked at; 0 looks at "
            "2, 4, 8 and so on."),
    TEXT_ROW("speeds", "list", PLACE, 0,
             "Speeds of the ranks, which their loads follow: a list such as "
             "\"1,1,0.25,1\", or the metrics file of a run that balanced."),
};
const moerun__config_group moerun__options_cluster = GROUP("Cluster", cluster);

static const moerun__config_row method[] = {
    NAME_ROW("method", "cd", "name", PLACE,
             "How to place; `--method list` shows the methods there are. With "
             "--loads, eplb takes the place of the default."),
    CHOICE_ROW("objective", "fanout", "fanout|cut|weighted|tail", PLACE,
               "The traffic to keep small: the ranks that a token visits in "
               "a layer (fanout), pairs of its experts in neighbouring "
               "layers on different ranks (cut), those pairs by distance "
               "(weighted), or the rows on the busiest links (tail)."),
    DOUBLE_ROW("slack", "0.05", "", 1e-6, 100, PLACE,
               "How far the load of a rank may exceed its share: 0.05 is "
               "5 %."),
    INT_ROW("spare_slots", "0", "experts", 0, 32767, PLACE,
            "Experts that a rank has room for in each layer beyond an even "
            "share: replicas, and where speeds differ, experts of slow "
            "ranks."),
    INT_ROW("slots", "0", "slots", 0, 4194304, PLACE,
            "Slots of all ranks together in each layer for the method eplb, "
            "in place of --spare-slots. Every rank has the same number; "
            "replicas fill those that are more than experts. 0 leaves the "
            "number to --spare-slots."),
    CHOICE_ROW("train", "even", "even|all", PLACE,
               "Sequences of the trace to solve for: every second one, so "
               "that the others can judge the placement, or all."),
    DOUBLE_ROW("time_limit", "0", "s", 0, 1e6, PLACE,
               "Longest time that the method takes; the best placement that "
               "it has by then is used. 0 sets no limit. Where blocks cost "
               "less but break the load caps, the method runs once more, for "
               "as long, with caps that allow them."),
    INT_ROW("polish", "0", "rounds", 0, 1048576, PLACE,
            "Rounds of annealing beyond the method's own."),
    INT_ROW("expert_groups", "1", "groups", 1, 32767, PLACE,
            "Groups of neighbouring experts for the method eplb, each on one "
            "node if the nodes divide them."),
    INT_ROW("seed", "0", "", 0, INT_MAX_53, PLACE,
            "Seed of the random numbers that the method draws."),
};
const moerun__config_group moerun__options_method = GROUP("Method", method);

static const moerun__config_row certificate[] = {
    CHOICE_ROW("bound", "auto", "auto|none|sdp", PLACE,
               "What no placement can cost less than, by semidefinite "
               "relaxation. auto spends 2 s on it where that is worth "
               "anything."),
    DOUBLE_ROW("bound_time", "30", "s", 0, 1e6, PLACE,
               "Time for --bound sdp; 0 goes on until the bound hardly "
               "grows."),
};
const moerun__config_group moerun__options_certificate =
    GROUP("Certificate", certificate);

static const moerun__config_row model[] = {
    TABLE_CHOICE_ROW("like", "none", moerun__shape_name_at, SYNTH,
                     "Published model whose shape is the default of the "
                     "options below; any of them may be given beside it."),
    TABLE_CHOICE_ROW("arch", "qwen3_moe", moerun__arch_name_at, SYNTH,
                     "Architecture of the checkpoint."),
    INT_ROW("layers", "4", "", 1, MOERUN_MAX_LAYERS, SYNTH,
            "Number of decoder layers."),
    INT_ROW("hidden", "512", "", 1, MOERUN_MAX_WIDTH, SYNTH,
            "Width of a token's row."),
    INT_ROW("heads", "8", "", 1, MOERUN_MAX_WIDTH, SYNTH,
            "Attention heads of a layer."),
    INT_ROW("kv_heads", "0", "", 0, MOERUN_MAX_WIDTH, SYNTH,
            "Key and value heads; 0 means as many as attention heads."),
    INT_ROW("head_dim", "0", "", 0, MOERUN_MAX_HEAD_DIM, SYNTH,
            "Width of a head; 0 means hidden / heads."),
    INT_ROW("experts", "16", "", 1, MOERUN_MAX_EXPERTS, SYNTH,
            "Experts of a layer."),
    INT_ROW("experts_per_token", "4", "", 1, MOERUN_MAX_TERMS, SYNTH,
            "Experts that a token meets in a layer."),
    INT_ROW("expert_width", "256", "", 1, MOERUN_MAX_WIDTH, SYNTH,
            "Width of an expert's FFN."),
    INT_ROW_OF("shared_experts", "1", "", 1, MOERUN_MAX_WIDTH, SYNTH,
               "Width of the shared experts, in widths of an expert (%s).",
               moerun__arch_with_shared_at),
    INT_ROW_OF("dense_layers", "0", "", 0, MOERUN_MAX_LAYERS, SYNTH,
               "How many of the first layers have no experts (%s).",
               moerun__arch_with_dense_at),
    INT_ROW("dense_width", "0", "", 0, MOERUN_MAX_WIDTH, SYNTH,
            "FFN width of the layers without experts; 0 means "
            "experts_per_token * expert_width."),
    INT_ROW("null_experts", "0", "experts", 0, MOERUN_MAX_EXPERTS, SYNTH,
            "Experts beside the others that a gate may choose and that do "
            "nothing; they are left out of the sum of the weights."),
    INT_ROW("zero_experts", "0", "experts", 0, MOERUN_MAX_EXPERTS, SYNTH,
            "Experts beside the others whose result is zero."),
    INT_ROW("copy_experts", "0", "experts", 0, MOERUN_MAX_EXPERTS, SYNTH,
            "Experts beside the others whose result is the row itself."),
    INT_ROW("constant_experts", "0", "experts", 0, MOERUN_MAX_CONSTANTS, SYNTH,
            "Experts beside the others whose result is a mixture of the row "
            "and a constant."),
    INT_ROW("vocab", "4096", "tokens", 2, MOERUN_MAX_VOCAB, SYNTH,
            "Size of the vocabulary; from 258 on the model has a byte-level "
            "tokenizer."),
    INT_ROW("positions", "4096", "tokens", 1, MOERUN_MAX_POSITIONS, SYNTH,
            "Longest context."),
    TABLE_CHOICE_ROW("dtype", "bf16", moerun__dtype_written_at, SYNTH,
                     "Type of the weights."),
    BOOL_ROW("tied", SYNTH, "Let the head be the embedding."),
    BOOL_ROW("fused", SYNTH, "Store all experts of a layer in one tensor."),
    DOUBLE_ROW("skew", "0", "", 0, 100, SYNTH,
               "Bias of the gates: how much more popular some experts are; 0 "
               "makes all equally popular."),
    DOUBLE_ROW("shard_gb", "5", "GB", 1e-6, 1e6, SYNTH,
               "Most weights in one file."),
    INT_ROW("seed", "0", "", 0, INT_MAX_53, SYNTH,
            "Seed of the random weights."),
};
const moerun__config_group moerun__options_model = GROUP("Model", model);
