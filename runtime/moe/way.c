/* The table of ways. That whole experts come first is the plan's word for them;
 * of the others the order only breaks ties. */
#include "runtime/moe/way.h"

#include "runtime/moe/moe.h"

const moerun__way_table moerun__ways_known = {
    .way = {&moerun__way_whole, &moerun__way_sliced},
    .count = 2,
};

/* ---- Memory -------------------------------------------------------------- */

static void *exchange_work(moerun__moe *moe, int32_t w,
                           moerun__arenas *arenas) {
  const moerun__way *const *way = moe->ways.table->way;
  for (int32_t v = 0; v < w; v++) {
    if (way[v]->exchange == way[w]->exchange) return moe->ways.exchange_work[v];
  }
  if (way[w]->exchange->lay_out == NULL) return NULL;
  return way[w]->exchange->lay_out(moe, arenas);
}

static void *stage_work(moerun__moe *moe, int32_t w, moerun__arenas *arenas) {
  const moerun__way *const *way = moe->ways.table->way;
  for (int32_t v = 0; v < w; v++) {
    if (way[v]->stage == way[w]->stage) return moe->ways.stage_work[v];
  }
  return way[w]->stage->lay_out(moe, arenas);
}

void moerun__ways_lay_out(moerun__moe *moe, moerun__arenas *arenas) {
  for (int32_t w = 0; w < moe->ways.table->count; w++) {
    moe->ways.exchange_work[w] = exchange_work(moe, w, arenas);
    moe->ways.stage_work[w] = stage_work(moe, w, arenas);
  }
  moerun__ways_take(moe, MOERUN_WAY_WHOLE);
}

void moerun__ways_take(moerun__moe *moe, int32_t way) {
  const moerun__way *row = moe->ways.table->way[way];
  moe->ways.now = way;
  moe->exchange.now = row->exchange;
  moe->exchange.work = moe->ways.exchange_work[way];
  moe->stage.now = row->stage;
  moe->stage.work = moe->ways.stage_work[way];
}
