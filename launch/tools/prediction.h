/* Memory of a rank from the headers of the model files, the placement and the
 * options alone: what `info` prints, and `run` before it allocates. */
#ifndef MOERUN_TOOLS_PREDICTION_H
#define MOERUN_TOOLS_PREDICTION_H

#include "launch/run/cache_need.h"
#include "placement/map/placement.h"
#include "runtime/base/config.h"
#include "runtime/serve/replace.h"

/* Parts of the host's memory, and all of the device's; where the device is the
 * processor, what only kernels use is the host's too. */
typedef struct moerun__prediction {
  size_t weight_bytes; /* all but experts */
  size_t expert_bytes;
  size_t cache_bytes;   /* keys and values */
  size_t buffer_bytes;  /* of steps, taken before the weights like the cache */
  size_t later_bytes;   /* of messages, requests and experts that move */
  size_t loading_bytes; /* while reading weights, before the one above */
  size_t guest_bytes;   /* experts of other ranks that balancing brings; taken
                           before the weights, not touched before it does */
  size_t spare_bytes;   /* experts that have moved to spare slots, later */
  size_t device_bytes;  /* of the device's own memory; 0: it has none */
} moerun__prediction;

/* Largest sum that is alive at once, of the host's memory. */
size_t moerun__prediction_total(const moerun__prediction *prediction);

/* What a run is beside its options; a set of these. */
enum {
  MOERUN_RUN_RECORDS = 1U, /* it records the routing of requests */
  MOERUN_RUN_STAYS = 2U,   /* experts do not move, whatever the options say */
};

/* [num_ranks]; reads config.json and the headers in the folder `model`, sizes
 * as `config` says and `need` needs. `how`: MOERUN_RUN_*. *out: freed with
 * moerun__free. */
moerun_status moerun__predict(moerun__prediction **out,
                              const moerun__config *config,
                              const moerun_placement *placement,
                              const moerun__cache_need *need, unsigned how);

/* Most requests that one rank works on at once: --max-sequences; where nobody
 * gave it, no more than a step has rows. */
int32_t moerun__max_sequences(const moerun__config *config);

/* The session options that `config` gives, with a cache for `need` unless it
 * says how large, and what goes with them; the kernels stay open. */
moerun_session_options
moerun__session_options_of(const moerun__config *config,
                           const moerun__cache_need *need);
moerun__session_extra
moerun__session_extra_of(const moerun__config *config,
                         const moerun_placement *placement,
                         const moerun__cache_need *need, unsigned how);
/* Whether experts may move between so many ranks. */
int moerun__replaces(const moerun__config *config, int32_t num_ranks);
/* Then, as many spare slots as are wanted where the options do not say. */
moerun__replace_options
moerun__replace_options_of(const moerun__config *config,
                           const moerun_placement *placement);

/* A table: one line a part, min, mean and max over ranks in MiB; the last is of
 * the device's memory, if any rank's has one. */
void moerun__prediction_print(FILE *stream, const moerun__prediction *ranks,
                              int32_t num_ranks);

#endif
