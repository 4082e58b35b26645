/* Shapes as the config.json of each published model has them. Weights of synth
 * are random all the same, and what it cannot choose (bases of rotary
 * positions, epsilons, scales of weights) is the architecture's own. */
#include "launch/options/shapes.h"

const moerun__config_preset moerun__shapes[] = {
    {"mixtral-8x7b",
     "arch=mixtral layers=32 hidden=4096 heads=32 kv_heads=8 "
     "head_dim=128 experts=8 experts_per_token=2 expert_width=14336 "
     "vocab=32000 positions=32768"},
    {"mixtral-8x22b",
     "arch=mixtral layers=56 hidden=6144 heads=48 kv_heads=8 "
     "head_dim=128 experts=8 experts_per_token=2 expert_width=16384 "
     "vocab=32768 positions=65536"},
    {"olmoe-1b-7b",
     "arch=olmoe layers=16 hidden=2048 heads=16 kv_heads=16 head_dim=128 "
     "experts=64 experts_per_token=8 expert_width=1024 vocab=50304 "
     "positions=4096"},
    {"qwen1.5-moe-a2.7b",
     "arch=qwen2_moe layers=24 hidden=2048 heads=16 kv_heads=16 "
     "head_dim=128 experts=60 experts_per_token=4 expert_width=1408 "
     "shared_experts=4 vocab=151936 positions=8192"},
    {"qwen2-57b-a14b",
     "arch=qwen2_moe layers=28 hidden=3584 heads=28 kv_heads=4 "
     "head_dim=128 experts=64 experts_per_token=8 expert_width=2560 "
     "shared_experts=8 vocab=151936 positions=131072"},
    {"qwen3-30b-a3b",
     "arch=qwen3_moe layers=48 hidden=2048 heads=32 kv_heads=4 "
     "head_dim=128 experts=128 experts_per_token=8 expert_width=768 "
     "vocab=151936 positions=40960"},
    {"qwen3-235b-a22b",
     "arch=qwen3_moe layers=94 hidden=4096 heads=64 kv_heads=4 "
     "head_dim=128 experts=128 experts_per_token=8 expert_width=1536 "
     "vocab=151936 positions=40960"},
    {"qwen3-coder-480b-a35b",
     "arch=qwen3_moe layers=62 hidden=6144 heads=96 kv_heads=8 "
     "head_dim=128 experts=160 experts_per_token=8 expert_width=2560 "
     "vocab=151936 positions=262144"},
    {"dots.llm1",
     "arch=dots1 layers=62 hidden=4096 heads=32 kv_heads=32 head_dim=128 "
     "experts=128 experts_per_token=6 expert_width=1408 shared_experts=2 "
     "dense_layers=1 dense_width=10944 vocab=152064 positions=32768"},
    {"glm-4.5",
     "arch=glm4_moe layers=92 hidden=5120 heads=96 kv_heads=8 "
     "head_dim=128 experts=160 experts_per_token=8 expert_width=1536 "
     "dense_layers=3 dense_width=12288 vocab=151552 positions=131072"},
    {"glm-4.5-air",
     "arch=glm4_moe layers=46 hidden=4096 heads=96 kv_heads=8 "
     "head_dim=128 experts=128 experts_per_token=8 expert_width=1408 "
     "dense_layers=1 dense_width=10944 vocab=151552 positions=131072"},
    {"minimax-m2",
     "arch=minimax_m2 layers=62 hidden=3072 heads=48 kv_heads=8 "
     "head_dim=128 experts=256 experts_per_token=8 expert_width=1536 "
     "vocab=200064 positions=196608"},
    {"granite-3.1-1b-a400m",
     "arch=granitemoe layers=24 hidden=1024 heads=16 kv_heads=8 "
     "head_dim=64 experts=32 experts_per_token=8 expert_width=512 "
     "tied=true vocab=49155 positions=131072"},
    {"granite-3.1-3b-a800m",
     "arch=granitemoe layers=32 hidden=1536 heads=24 kv_heads=8 "
     "head_dim=64 experts=40 experts_per_token=8 expert_width=512 "
     "tied=true vocab=49155 positions=131072"},
    {"ernie-4.5-21b-a3b",
     "arch=ernie4_5_moe layers=28 hidden=2560 heads=20 kv_heads=4 "
     "head_dim=128 experts=64 experts_per_token=6 expert_width=1536 "
     "shared_experts=2 dense_layers=1 dense_width=12288 tied=true "
     "vocab=103424 positions=131072"},
    {"solar-open-100b",
     "arch=solar_open layers=48 hidden=4096 heads=64 kv_heads=8 "
     "head_dim=128 experts=128 experts_per_token=8 expert_width=1280 "
     "vocab=196608 positions=131072"},
    {"flexolmo-7x7b",
     "arch=flex_olmo layers=32 hidden=4096 heads=32 kv_heads=32 "
     "head_dim=128 experts=7 experts_per_token=5 expert_width=11008 "
     "vocab=100352 positions=4096"},
    {NULL, NULL},
};

const char *moerun__shape_name_at(int i) {
  return i == 0 ? "none" : moerun__shapes[i - 1].name;
}
