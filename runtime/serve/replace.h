/* New placements while a model is in use: every so many steps the routing of
 * late is looked at, and experts move where that repays itself. */
#ifndef MOERUN_SERVE_REPLACE_H
#define MOERUN_SERVE_REPLACE_H

#include "runtime/decoder/session.h"

typedef struct moerun__replace_options {
  int32_t every;  /* steps between two looks; 0: looks come where ranks differ
                     in speed, or have, and that has lasted
                     (moerun__lasting_watch), and move experts for that alone */
  int32_t window; /* of tokens of all ranks together, the latest before a look:
                     what is looked at, >= 1                                  */
  int32_t spare_slots; /* experts that each rank has room for in each layer
                          beyond an even share                              */
  int32_t is_beside;   /* 1: ranks decide beside their steps and one layer moves
                        after each; 0: steps with a look wait for all of it,
                        so that no clock decides when experts move          */
} moerun__replace_options;

/* What came of it, the same on all ranks. A move repays itself if the bytes of
 * rows between ranks that it is predicted to save until the next look exceed
 * the bytes of expert weights that it sends between ranks, once.
 *
 * Where the session balances and a rank's speed has differed from the others'
 * for a whole period of looks, load caps follow the speeds, and rows that the
 * slowest rank has less are worth bytes too: a layer's expert may be sent for
 * so many rows of the fastest rank's time (moerun__plan_options.min_rows) that
 * it takes off the layer until the next look. From then on they count, so that
 * when the speed comes back the same rule moves experts back. */
typedef struct moerun__replace_count {
  int64_t looks;
  int64_t moves; /* looks after which experts moved */
  int64_t experts_moved;
  int64_t bytes_moved;
  int64_t bytes_predicted; /* saved from each move to the next look      */
  int64_t bytes_counted;   /* the same, by the routing that came then: what
                              the placement before the move would have sent,
                              less what was sent                            */
  int64_t rows_predicted;  /* saved by each move to the next look: of the rank
                              that ends last in each layer, as rows of the
                              fastest; 0 while speeds are equal             */
} moerun__replace_count;

typedef struct moerun__replacer moerun__replacer;

/* [collective] The session is of `model`, records its trace, and has room for
 * moerun__replacer_slots at least (moerun__session_extra). All are borrowed;
 * the replacer owns the placements it makes, so that it is destroyed after the
 * model. */
moerun_status moerun__replacer_create(moerun__replacer **out,
                                      moerun_session *session,
                                      moerun_model *model,
                                      const moerun__replace_options *options);
void moerun__replacer_destroy(moerun__replacer *replacer);

/* [collective] After a step with T rows on this rank. Allocates nothing unless
 * there is a look or a move. */
moerun_status moerun__replacer_step(moerun__replacer *replacer, int32_t T);
/* [collective] After the last step: counts what the last move has saved. What
 * was decided and has not moved yet stays where it is. */
moerun_status moerun__replacer_end(moerun__replacer *replacer);
/* Before the session or the model are destroyed after a failure: nothing is
 * decided beside the steps any more. */
void moerun__replacer_stop(moerun__replacer *replacer);

moerun__replace_count moerun__replacer_count(const moerun__replacer *replacer);

/* Spare slots with which the ranks that are not slow can take over nearly all
 * experts of those that are, if these are an eighth of all, one at least. */
int32_t moerun__replacer_spare(int32_t num_experts, int32_t num_ranks);

/* Most experts of a layer that placements made here put on one rank, if the
 * first is `placement`: ceil(E / R) and the spare slots, and where it has
 * replicas, as many as it puts on any. */
int32_t moerun__replacer_slots(const moerun_placement *placement,
                               int32_t spare_slots);
/* Bytes that create allocates on `rank`; a look needs the solver's tables for
 * the rank's share of the layers on top. */
size_t moerun__replacer_bytes(const moerun__model_config *config,
                              const moerun_placement *placement, int32_t rank,
                              const moerun__replace_options *options);

#endif
