/* One cpu set: every static function of these headers, compiled for the
 * instruction set of the file that includes this, and the table of them. The
 * file defines SET_NAME and SET_TABLE, and SET_AVX2 or SET_AVX512 (with
 * SET_BF16_PAIRS where the processor multiplies those). */
#include "kernels/cpu/attention.h"
#include "kernels/cpu/linear.h"
#include "kernels/plain.h"
#include "kernels/sets.h"

const moerun__kernels SET_TABLE = {
    .name = SET_NAME,
    .linear = set_linear,
    .ffn = set_ffn,
    .rmsnorm = set_rmsnorm,
    .add = set_add,
    .add_rows = set_add_rows,
    .rope = set_rope,
    .attention = set_attention,
    .gate = set_gate,
    .softmax = set_softmax,
    .sigmoid = set_sigmoid,
    .gather = set_gather,
    .scatter = set_scatter,
    .dispatch = set_dispatch,
    .combine = set_combine,
    .embed = moerun__plain_embed,
    .kv_store = moerun__plain_kv_store,
    .clip = moerun__plain_clip,
    .note_unsound = moerun__plain_note_unsound,
};
