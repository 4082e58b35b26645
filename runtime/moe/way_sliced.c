/* The way in slices: rounds of rows to all ranks, and on each a part of every
 * expert. Plans are offered it for layers of which all ranks hold slices. */
#include "runtime/moe/calibrate.h"
#include "runtime/moe/exchange_sliced.h"
#include "runtime/moe/sliced.h"

/* Terms of ranks that hold slices of results: nobody sends itself columns of
 * its own. */
static int32_t word(const moerun__moe *moe, int32_t terms) {
  const int holds = moerun__store_sliced_layers(&moe->store) > 0 &&
                    moerun__slice_holds_y(moerun__store_shares(&moe->store),
                                          moe->model->comm->rank);
  return holds ? terms : 0;
}

static int offer(void *work, moerun__way_offer *out, moerun__moe *moe,
                 int32_t moe_layer, int64_t rows) {
  moerun__slice_offer *slices = moerun__sliced_offer_room(work);
  if (moe_layer >= moerun__store_sliced_layers(&moe->store)) return 0;
  *slices = (moerun__slice_offer){
      .costs = &moe->balance.slice_costs,
      .always = moe->balance.always_slices,
      .speed = moerun__store_shares(&moe->store)->speed,
      .rows = rows,
      .rounds = (rows + MOERUN_SLICED_ROWS - 1) / MOERUN_SLICED_ROWS,
      .row_bytes = (int64_t)moe->shape.row_bytes,
      .h_bytes = moerun__sliced_h_bytes(moe),
      .result_bytes = (int64_t)moe->shape.result_bytes,
      .time = slices->time};
  *out = (moerun__way_offer){
      .is_spread = 1, .gain = moerun__slices_gain, .self = slices};
  return 1;
}

/* Rows, inner activations and results. */
static int64_t bytes(const moerun__moe *moe, int64_t terms,
                     int64_t terms_of_holders) {
  const moerun__slice_shares *shares = moerun__store_shares(&moe->store);
  const int32_t R = moe->model->comm->size;
  int64_t holders = 0; /* of columns of results */
  for (int32_t r = 0; r < R; r++) {
    holders += moerun__slice_holds_y(shares, r);
  }
  return (R - 1) * (moe->balance.news.tokens * (int64_t)moe->shape.row_bytes +
                    terms * moerun__sliced_h_bytes(moe)) +
         (holders * terms - terms_of_holders) *
             (int64_t)moerun__sliced_columns_bytes(moe);
}

const moerun__way moerun__way_sliced = {
    .name = "sliced",
    .exchange = &moerun__exchange_sliced,
    .stage = &moerun__stage_sliced,
    .did = "all ranks computed a part of each expert",
    .bytes_key = "slice_bytes",
    .measure = moerun__calibrate_slices,
    .word = word,
    .offer = offer,
    .bytes = bytes,
};
